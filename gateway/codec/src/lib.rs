//! Columnar batch encoding with zstd and bounded decoding.
#![forbid(unsafe_code)]
