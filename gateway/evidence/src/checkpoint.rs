//! The signed head of a log: C2SP tlog-checkpoint (<https://c2sp.org/tlog-checkpoint>).
//!
//! Text of three lines (origin, size, root in base64), optionally extension lines, then signatures
//! as in [`crate::note`]. Order rule for whoever signs: leaves durable, then sign, then checkpoint
//! durable, then publish; a signature over leaves that a power cut can remove is a fork of our own.

use crate::note::{self, KeyFault, NoteFault, VerifierKey};
use crate::text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, SignFault, Signer};

/// Largest checkpoint that is read, signatures of witnesses included.
pub const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;
/// Longest origin.
pub const ORIGIN_BYTES_MAX: usize = 128;

/// Size and root of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Unique name of the log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    pub root: Digest,
    /// Lines that others may add; ours have none.
    pub extensions: Vec<String>,
}

/// Why a checkpoint cannot be made or trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint has {length} bytes; the limit is {CHECKPOINT_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the checkpoint is not signed by the log")]
    Note(#[from] NoteFault),
    #[error("the origin {origin:?} is not 1 to {ORIGIN_BYTES_MAX} bytes of one line")]
    Origin { origin: String },
    #[error("the size {found:?} is not a decimal number without leading zeros")]
    Size { found: String },
    #[error("the root {found:?} is not base64 of 32 bytes")]
    Root { found: String },
    #[error("the checkpoint has an empty extension line or fewer than three lines")]
    Lines,
    #[error("the signing key cannot sign checkpoints")]
    Key(#[from] KeyFault),
    #[error("the checkpoint could not be signed: {0}")]
    Sign(String),
}

impl From<SignFault> for CheckpointError {
    fn from(fault: SignFault) -> Self {
        Self::Sign(fault.to_string())
    }
}

fn check_origin(origin: &str) -> Result<(), CheckpointError> {
    let fits =
        (1..=ORIGIN_BYTES_MAX).contains(&origin.len()) && !origin.chars().any(char::is_control);
    fits.then_some(()).ok_or_else(|| CheckpointError::Origin { origin: origin.to_owned() })
}

/// What is signed of a head: its text without the signatures.
pub fn head_text(origin: &str, size: u64, root: &Digest) -> String {
    format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.0))
}

impl Checkpoint {
    /// The signed text. The signature line bears the signer's name, which should be the origin; of an epoch of
    /// the signer's log, the epoch's name.
    pub fn sign(
        origin: &str,
        size: u64,
        root: &Digest,
        signer: &dyn Signer,
    ) -> Result<String, CheckpointError> {
        check_origin(origin)?;
        let key = VerifierKey::of(signer)?.of_epoch(origin);
        Ok(note::sign(&head_text(origin, size, root), &key, signer)?)
    }

    /// Reads a checkpoint that must bear a valid signature by `key`; whether its log is the one that was meant is
    /// for the caller to compare. An epoch of the key's log may be signed under its own name or the first one's.
    pub fn parse_and_verify(text: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::parse_and_name(text, key).map(|(head, _)| head)
    }

    /// The same, and the key under the name that it signed with.
    pub fn parse_and_name(
        text: &str,
        key: &VerifierKey,
    ) -> Result<(Self, VerifierKey), CheckpointError> {
        if text.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLong { length: text.len() });
        }
        let note = note::Note::parse(text)?;
        let head = Self::of_note(&note);
        // A text that is no head is nobody's epoch: then the key itself is asked, which says who signed it.
        let origin = head.as_ref().map_or("", |head| head.origin.as_str());
        let signers = key.signers_of(origin);
        let signers = if signers.is_empty() { vec![key.clone()] } else { signers };
        let mut signed = None;
        for signer in signers {
            if !note.statements(&signer)?.is_empty() {
                signed.get_or_insert(signer);
            }
        }
        let signed = signed.ok_or_else(|| NoteFault::OtherKeys { key: key.to_string() })?;
        Ok((head?, signed))
    }

    /// Reads what a checkpoint claims without asking who signed it: for witnesses that compare the
    /// heads of one log with each other.
    pub fn parse_unverified(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLong { length: text.len() });
        }
        let (text, _) = text.split_once("\n\n").ok_or(CheckpointError::Lines)?;
        Self::parse_text(text)
    }

    /// What a note claims, whoever signed it.
    pub(crate) fn of_note(note: &note::Note<'_>) -> Result<Self, CheckpointError> {
        Self::parse_text(note.text())
    }

    fn parse_text(note: &str) -> Result<Self, CheckpointError> {
        let mut lines = note.split_terminator('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Lines);
        };
        check_origin(origin)?;
        let number = text::parse_number(size);
        let size = number.ok_or_else(|| CheckpointError::Size { found: size.to_owned() })?;
        let hash = text::parse_hash(root);
        let root = hash.ok_or_else(|| CheckpointError::Root { found: root.to_owned() })?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Lines);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

#[cfg(test)]
pub(crate) mod tests;
