//! End to end, simulation, golden files and tidy rules.
//!
//! The library holds the bodies of the fuzz targets, which `tests/fuzz` (libFuzzer, nightly) and the test
//! `mutate` (stable, in `cargo verify`) share.
#![forbid(unsafe_code)]

pub mod targets;
