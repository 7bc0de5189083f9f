//! The program guan: collects, decides, records, forwards.
#![forbid(unsafe_code)]
