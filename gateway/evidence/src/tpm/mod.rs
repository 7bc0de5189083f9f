//! Structures of a TPM 2.0 that stand in the log and in attestation: what it says, and its signature.
//!
//! Everything here was made by somebody who may lie: limits before memory, no panics.
//!
//! Never here: a TPM, the keys that are trusted.

mod bytes;
mod statement;

pub use bytes::{TpmBytesFault, TpmReader};
pub use statement::{
    ALG_SHA256, ATTEST_BYTES_MAX, Attestation, Attested, PCR_COUNT, Pcrs, TpmClock, TpmSignature,
    extended, pcr_digest,
};
