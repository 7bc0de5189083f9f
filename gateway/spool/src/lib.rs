//! Durable store-and-forward on segment files; the only code that writes data files.
#![forbid(unsafe_code)]
