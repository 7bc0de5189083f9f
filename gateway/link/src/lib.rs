//! The session between box and space as a sans-IO core, and its quinn driver.
#![forbid(unsafe_code)]
