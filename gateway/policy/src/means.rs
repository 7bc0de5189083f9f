//! What a decision needs beside plan, situation and rows: memory, chance and keys, all lent by the caller.

use crate::usage::Usage;
use guan_model::{BootNumber, ContractId};

/// Bytes of a key for pseudonyms.
pub const PSEUDONYM_KEY_BYTES: usize = 32;

/// Lent for one decision.
pub struct Means<'m> {
    pub usage: &'m mut Usage,
    /// Random numbers that nobody can foresee; noise is worth nothing without.
    pub entropy: &'m mut dyn FnMut() -> u64,
    /// The key for pseudonyms of a contract; without one the values do not leave.
    pub pseudonym_key: &'m dyn Fn(&ContractId) -> Option<[u8; PSEUDONYM_KEY_BYTES]>,
    pub boot: BootNumber,
}

impl<'m> Means<'m> {
    /// For plans without noise and pseudonyms; what would need them loses its values.
    pub fn plain(usage: &'m mut Usage, entropy: &'m mut dyn FnMut() -> u64) -> Self {
        Self { usage, entropy, pseudonym_key: &|_| None, boot: BootNumber(0) }
    }
}
