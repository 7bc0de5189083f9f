//! The two places of a TPM's memory that are ours, and the names by which a TPM certifies them.
//!
//! Both are written with an empty password of their own: the owner's password lies with the space, and whoever
//! moves them forward gains nothing.

use super::object::name_of;
use super::quote::ALG_SHA256;

/// Counts the releases that this box has run; never goes back, not even when it is made anew.
pub const COUNTER_INDEX: u32 = 0x0180_0100;
/// Digest over all heads of the evidence log that were put into it (TPM_NT_EXTEND).
pub const HEADS_INDEX: u32 = 0x0180_0101;
pub const COUNTER_BYTES: u16 = 8;
pub const HEADS_BYTES: u16 = 32;

/// TPMA_NV (TPM 2.0, part 2, 13.4).
const AUTH_WRITE: u32 = 1 << 2;
const KIND_COUNTER: u32 = 1 << 4;
const OWNER_READ: u32 = 1 << 17;
const AUTH_READ: u32 = 1 << 18;
const NO_DA: u32 = 1 << 25;
const WRITTEN: u32 = 1 << 29;

/// Name of the counter once it has counted: of this kind and no other.
pub fn counter_name() -> Vec<u8> {
    let attributes = AUTH_WRITE | KIND_COUNTER | OWNER_READ | AUTH_READ | NO_DA | WRITTEN;
    let no_policy = 0_u16;
    name_of(
        &[
            &COUNTER_INDEX.to_be_bytes()[..],
            &ALG_SHA256.to_be_bytes(),
            &attributes.to_be_bytes(),
            &no_policy.to_be_bytes(),
            &COUNTER_BYTES.to_be_bytes(),
        ]
        .concat(),
    )
}
