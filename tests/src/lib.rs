//! End to end, simulation, golden files and tidy rules.
#![forbid(unsafe_code)]
