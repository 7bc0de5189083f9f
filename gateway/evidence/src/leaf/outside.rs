//! Leaves that tie the log to what is outside it: the TPM, the space's witness, other logs, earlier logs.
//!
//! A log that only its own host signs proves little against root on that host. These leaves carry the
//! words of others, as they came, so that an auditor checks them and not what we made of them.

use super::{Deed, ErasureGround, GapReason, LeafError};
use crate::tpm::PCR_COUNT;
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest, SpoolId, StreamId};
use std::collections::BTreeMap;

/// Longest statement of a TPM in a leaf; a quote has 145 bytes, a certified NV area of ours as many.
pub const STATEMENT_BYTES_MAX: usize = 256;
/// Longest TPMT_SIGNATURE in a leaf; ECDSA on P-256 has 72 bytes.
pub const STATEMENT_SIGNATURE_BYTES_MAX: usize = 128;
/// Most heads that one anchor accounts for; one more makes an anchor due.
pub const TRAIL_MAX: usize = 96;
/// Longest name of a log or a key.
pub const NAME_BYTES_MAX: usize = 128;
/// Most PCRs that an anchor shows.
pub const ANCHOR_PCRS_MAX: usize = 8;

/// The register into which every signed head is extended. It cannot be reset without a reboot, and
/// nothing of a boot that we know measures into it later; what stood in it before is in `TpmStart`.
pub const TRAIL_PCR: u8 = 13;

/// TPMS_ATTEST and TPMT_SIGNATURE, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    attested: Vec<u8>,
    signature: Vec<u8>,
}

impl Statement {
    /// `None` past [`STATEMENT_BYTES_MAX`] or [`STATEMENT_SIGNATURE_BYTES_MAX`].
    pub fn new(attested: Vec<u8>, signature: Vec<u8>) -> Option<Self> {
        let fits = attested.len() <= STATEMENT_BYTES_MAX
            && signature.len() <= STATEMENT_SIGNATURE_BYTES_MAX;
        fits.then_some(Self { attested, signature })
    }

    pub fn attested(&self) -> &[u8] {
        &self.attested
    }

    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// The TPM as this start of the program found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmStart {
    /// SHA-256 of the attestation key's point (65 bytes, uncompressed): another one is another TPM.
    pub attestation_key: Digest,
    /// How often the TPM was reset: one more for each boot of the machine.
    pub resets: u32,
    pub restarts: u32,
    pub clock_ms: u64,
    /// `false` after an unclean stop.
    pub is_safe: bool,
    /// What counts towards the TPM's lock.
    pub lockouts: u32,
    /// Value of [`TRAIL_PCR`].
    pub trail: Digest,
    /// Digest over all heads that were chained; `None` before the first.
    pub chain: Option<Digest>,
}

/// A quote over the boot's PCRs and [`TRAIL_PCR`], whose qualifying data is SHA-256 of the text of the
/// head of `size` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pub size: u64,
    /// Sizes of all heads that were extended since the last anchor of this boot, or since its first
    /// `TpmStart` (restarts of the program between go on with the list), ascending; the last is `size`.
    /// At most [`TRAIL_MAX`].
    pub trail: Vec<u64>,
    /// Values of the quoted PCRs.
    pub pcrs: BTreeMap<u8, Digest>,
    pub quote: Statement,
}

impl Anchor {
    /// What [`super::Leaf::decode`] takes.
    pub(super) fn is_sound(&self) -> bool {
        let ascends = self.trail.windows(2).all(|pair| pair[0] < pair[1]);
        ascends
            && self.trail.len() <= TRAIL_MAX
            && self.trail.last() == Some(&self.size)
            && self.pcrs.len() <= ANCHOR_PCRS_MAX
            && self.pcrs.keys().all(|pcr| *pcr < PCR_COUNT)
    }
}

/// The head of `size` leaves was put into the TPM's digest over heads, which survives reboots, and the
/// TPM certified the digest with SHA-256 of the head's text as qualifying data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub size: u64,
    /// Value before; `None`: nothing was chained yet.
    pub before: Option<Digest>,
    pub certified: Statement,
}

/// A witness cosigned the head of `size` leaves (C2SP tlog-cosignature, type 0x04).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Name of the witness's key, without blanks and plus signs.
    pub witness: String,
    pub key_id: [u8; 4],
    pub size: u64,
    /// Seconds since 1970 by the witness's clock.
    pub timestamp_s: u64,
    pub signature: [u8; 64],
}

/// From the next leaf on heads are signed with another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRollover {
    /// Ed25519.
    pub key: [u8; 32],
    /// The old key over [`crate::verify::rollover_text`].
    pub by_old: [u8; 64],
    /// A quote with SHA-256 of [`crate::verify::handover_text`] as qualifying data; `None` without TPM.
    pub quote: Option<Statement>,
}

/// First leaf of a log that goes on after another one ended in loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochStart {
    /// Name of the log before.
    pub previous: String,
    /// What was left of it.
    pub size: u64,
    pub root: Digest,
    /// Size of its last signed head.
    pub signed: u64,
    /// Size of its last head that a witness cosigned; 0 if none.
    pub cosigned: u64,
    pub reason: GapReason,
}

/// Leaves before `first` were dropped from the disk; a mirror has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prune {
    /// First leaf that was there before.
    pub before: u64,
    /// First leaf that is there now.
    pub first: u64,
    /// Root of the leaves before `first`.
    pub root: Digest,
}

/// The space has logged that it received these batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    pub stream: StreamId,
    pub from: BatchSeq,
    pub through: BatchSeq,
    /// Name of the space's log, and the leaves of it that say so.
    pub log: String,
    pub first: u64,
    pub last: u64,
    /// RFC 6962 root over the hashes of those leaves that speak of these batches.
    pub root: Digest,
}

/// The space received a batch and stored it, in the same commit as this leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub box_id: BoxId,
    pub spool: SpoolId,
    pub stream: StreamId,
    pub seq: BatchSeq,
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub rows: u64,
    /// Equals that of the box's `batch` leaf.
    pub batch: Digest,
}

/// The space deleted what a contract wanted deleted; `line` is SHA-256 of the signed line that says what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    pub contract: ContractId,
    pub line: Digest,
}

/// The witness saw a head of a box's log and cosigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub box_id: BoxId,
    pub log: String,
    pub size: u64,
    pub root: Digest,
}

/// A box signed a head that contradicts one that was cosigned; `evidence` is SHA-256 of both texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub box_id: BoxId,
    pub log: String,
    /// Size that was cosigned.
    pub known: u64,
    /// Size that was offered.
    pub offered: u64,
    pub evidence: Digest,
}

/// Openings were destroyed: nobody can say any more who acted in the leaves that commit to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    pub commitments: u64,
    /// RFC 6962 root over the commitments, in ascending order.
    pub root: Digest,
    pub ground: ErasureGround,
}

/// A bundle was asked for; the leaf's actor says by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// First and last entry in it.
    pub from: u64,
    pub through: u64,
    pub entries: u64,
    /// SHA-256 of its `manifest.sha256`, which names all its files.
    pub manifest: Digest,
}

/// Batches of a stream, and gaps among them, left on a medium; the leaf is durable before their file is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub stream: StreamId,
    pub from: BatchSeq,
    pub through: BatchSeq,
    /// Without the gaps.
    pub batches: u64,
    pub rows: u64,
    /// SHA-256 of the file before its end, which repeats it.
    pub file: Digest,
    /// SHA-256 of the public key that the file is sealed for.
    pub key: Digest,
}

/// Somebody asked for this by a command; the leaf's actor says who. Whether it succeeded, other leaves say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acted {
    pub deed: Deed,
    /// SHA-256 of what it was done with, as [`Deed`] says; `None` where there is nothing to name.
    pub about: Option<Digest>,
}

/// Refuses names that no log or key can have.
pub(super) fn check_name(name: &str) -> Result<(), LeafError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    fits.then_some(()).ok_or(LeafError::LogName)
}
