//! Typed, versioned configuration beside the sample files that it parses.
//!
//! - `schema`: how keys are declared. One declaration gives parsing, reference and effective view.
//! - `edge`: the box. `space`: the space. `fault`: everything that is wrong, at once.
//!
//! Invariants: a configuration that exists is valid; unknown keys are faults; a secret is never a value,
//! only the path of a file. Pure: text in, types out; reading files is the programs' business.
#![forbid(unsafe_code)]

pub mod edge;
mod fault;
mod nearest;
mod schema;
mod space;

pub use edge::EdgeConfig;
pub use fault::{ConfigFault, ConfigFaults, FAULTS_SHOWN};
pub use schema::{CONFIG_BYTES_MAX, Effective, KeyReference, Value};
pub use space::{AttestationConfig, MAKERS_MAX, MakerConfig, RELEASE_KEYS_MAX, SpaceConfig, Tier};

/// The one version of both files.
pub const SCHEMA: u64 = 1;

#[cfg(test)]
mod tests;
