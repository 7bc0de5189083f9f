//! Typed, versioned configuration beside the sample files that it parses.
#![forbid(unsafe_code)]
