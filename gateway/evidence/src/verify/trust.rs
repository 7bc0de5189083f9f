//! Whom an auditor believes, and what is noted beside faults.

use crate::checkpoint::Checkpoint;
use crate::checkpoint::head_text;
use crate::cosignature::CosignatureKey;
use crate::note::VerifierKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{BootNumber, Digest, PublicKey};
use std::time::Duration;

/// Most attestation keys that one log may have had: one for each TPM and each joining.
pub const ATTESTATION_KEYS_MAX: usize = 16;

/// The keys that are believed. They come from outside the log, or they prove nothing.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Name of the log.
    pub origin: String,
    /// Signs its heads until a rollover says otherwise.
    pub log_key: VerifierKey,
    /// Points of P-256 of the box's TPMs; empty for a box without.
    pub attestation_keys: Vec<PublicKey>,
    pub witnesses: Vec<CosignatureKey>,
    /// How long a boot may go on without an anchor before it is noted.
    pub anchor_interval: Duration,
}

impl Trust {
    /// Of a log that only its own key vouches for.
    pub fn of_key(origin: &str, log_key: VerifierKey) -> Self {
        let (origin, attestation_keys, witnesses) = (origin.to_owned(), Vec::new(), Vec::new());
        let anchor_interval = Duration::from_secs(2 * 3600);
        Self { origin, log_key, attestation_keys, witnesses, anchor_interval }
    }

    /// The one whose digest a `TpmStart` names.
    pub(super) fn attestation_key(&self, digest: &Digest) -> Option<&PublicKey> {
        self.attestation_keys.iter().find(|key| match key {
            PublicKey::EcdsaP256(point) => Digest::of(point) == *digest,
            PublicKey::Ed25519(_) => false,
        })
    }
}

impl Checkpoint {
    /// SHA-256 of the text: what a TPM is shown of a head without extension lines.
    pub fn text_digest(&self) -> Digest {
        Digest::of(head_text(&self.origin, self.size, &self.root).as_bytes())
    }
}

/// What the old key signs when another one takes its place: the log's name, the index of the leaf that
/// says so, and the new key. Heads that hold that leaf are the new key's, all before are the old one's.
pub fn rollover_text(origin: &str, index: u64, key: &[u8; 32]) -> String {
    format!("guan log key\n{origin}\n{index}\n{}\n", STANDARD.encode(key))
}

/// What the TPM is shown of it: the log's name, the old key and the new one. Where in the log it happens is
/// for the old key alone, as the log grows while the TPM works.
pub fn handover_text(origin: &str, old: &[u8; 32], new: &[u8; 32]) -> String {
    let (old, new) = (STANDARD.encode(old), STANDARD.encode(new));
    format!("guan log key is handed over\n{origin}\n{old}\n{new}\n")
}

/// No fault, and still something that an auditor must know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    #[error(
        "leaves from {from} on are under no anchor and no cosignature: whoever holds the box can \
         still write them anew"
    )]
    OpenEnd { from: u64 },
    #[error("no TPM and no witness is believed: only the log's own key vouches for it")]
    OwnWordOnly,
    #[error("boot {boot}: the TPM counts {missing} boots of which the log says nothing")]
    MissingBoots { boot: BootNumber, missing: u32 },
    #[error("boot {boot}: no anchor for longer than {} s from leaf {from} on", limit.as_secs())]
    Unanchored { boot: BootNumber, from: u64, limit: Duration },
    #[error("leaf {index} is about a witness {witness:?} that is not among those believed")]
    UnknownWitness { index: u64, witness: String },
    #[error("leaf {index}: the TPM had chained heads of an earlier log before this one")]
    EarlierLog { index: u64 },
    #[error("leaf {index}: the TPM goes on under another attestation key")]
    KeyChanged { index: u64 },
    #[error(
        "leaf {index}: another attestation key, and nothing ties it to what was said under the one before: \
         this TPM vouches for the log from that leaf on"
    )]
    UntiedKey { index: u64 },
    #[error(
        "leaf {index}: in this boot the TPM had taken heads before, of which the log says nothing"
    )]
    TrailAtStart { index: u64 },
    #[error(
        "leaf {index}: the log goes on after {previous:?}, which ended in loss at {size} leaves"
    )]
    Epoch { index: u64, previous: String, size: u64 },
    #[error("leaf {index}: leaves before {first} were dropped; a mirror has them")]
    Pruned { index: u64, first: u64 },
    #[error(
        "{statements} quotes, chained heads and cosignatures are about heads of dropped leaves that no hash here \
         leads to: they are not counted; the mirror's copy has them"
    )]
    Untold { statements: u64 },
}

/// Between which moments of the witness's clock the leaves of a boot were written, as far as cosignatures
/// say. Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bracket {
    pub boot: BootNumber,
    /// The last cosignature that was logged before.
    pub not_before_s: Option<u64>,
    /// The first cosignature over a head that holds the boot's last leaf.
    pub not_after_s: Option<u64>,
}
