//! The places of a TPM's memory that are ours, and the names by which a TPM knows them.
//!
//! All are written with an empty password of their own: the owner's password lies with the space, and whoever
//! moves them forward gains nothing.

use super::object::name_of;
use guan_evidence::tpm::ALG_SHA256;

/// Counts the releases that this box has run; never goes back, not even when it is made anew.
pub const COUNTER_INDEX: u32 = 0x0180_0100;
/// Digest over all heads of the evidence log that were put into it (TPM_NT_EXTEND).
pub const HEADS_INDEX: u32 = 0x0180_0101;
/// Counts the contract sets that this box has taken: a disk that was set back knows of fewer.
pub const SETS_INDEX: u32 = 0x0180_0103;
/// Half of what the keys of contracts lie under; overwriting it shreds every copy of them (TPM_NT_ORDINARY).
pub const ROOT_INDEX: u32 = 0x0180_0104;
/// A bit for each epoch of releases that has run here; bits are set and never cleared (TPM_NT_BITS).
pub const EPOCHS_INDEX: u32 = 0x0180_0102;
pub const COUNTER_BYTES: u16 = 8;
pub const EPOCHS_BYTES: u16 = 8;
pub const HEADS_BYTES: u16 = 32;
pub const ROOT_BYTES: u16 = 32;

/// TPMA_NV (TPM 2.0, part 2, 13.4).
const AUTH_WRITE: u32 = 1 << 2;
const KIND_COUNTER: u32 = 1 << 4;
const KIND_BITS: u32 = 2 << 4;
const OWNER_READ: u32 = 1 << 17;
const AUTH_READ: u32 = 1 << 18;
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;

/// Name of the counter once it has counted: of this kind and no other.
pub fn counter_name() -> Vec<u8> {
    written_name(COUNTER_INDEX, KIND_COUNTER, COUNTER_BYTES)
}

/// Name of the epochs once they were written.
pub fn epochs_name() -> Vec<u8> {
    written_name(EPOCHS_INDEX, KIND_BITS, EPOCHS_BYTES)
}

fn written_name(index: u32, kind: u32, size: u16) -> Vec<u8> {
    let attributes = AUTH_WRITE | kind | OWNER_READ | AUTH_READ | NO_DA | WRITTEN;
    let no_policy = 0_u16;
    name_of(
        &[
            &index.to_be_bytes()[..],
            &ALG_SHA256.to_be_bytes(),
            &attributes.to_be_bytes(),
            &no_policy.to_be_bytes(),
            &size.to_be_bytes(),
        ]
        .concat(),
    )
}
