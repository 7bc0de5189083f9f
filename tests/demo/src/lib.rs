//! The parts of the demo that end-to-end tests use too.
#![forbid(unsafe_code)]

pub mod data;
pub mod delivered;
pub mod outsiders;
pub mod publish;
pub mod relay;
pub mod stage;
pub mod swtpm;
