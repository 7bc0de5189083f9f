//! What can be wrong with a bundle, and what is told without being wrong.

use super::{DOSSIER_BYTES_MAX, ENTRIES_MAX, FILE_BYTES_MAX, FILES_MAX, NAME_BYTES_MAX};
use crate::checkpoint::CheckpointError;
use crate::leaf::LeafError;
use crate::opening::OpeningFault;
use crate::policy::{Distrust, PolicyFault};
use crate::proof::ProofFault;
use crate::receipt::ReceiptFault;
use crate::timestamp::TimestampFault;
use crate::tlog_proof::TlogProofFault;
use guan_model::Digest;

/// Why a bundle cannot be judged at all; whoever made or carried it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DossierFault {
    #[error(
        "{name:?} is no name for a file of a bundle: 1 to {NAME_BYTES_MAX} bytes of ASCII, no blanks"
    )]
    Name { name: String },
    #[error("the bundle has more than {FILES_MAX} files")]
    TooMany,
    #[error("{name} has {length} bytes; the limit is {FILE_BYTES_MAX}")]
    TooLong { name: String, length: u64 },
    #[error("with {name} the bundle has more than {DOSSIER_BYTES_MAX} bytes")]
    TooLarge { name: String },
    #[error("{name} is missing; a bundle has it")]
    Missing { name: &'static str },
    #[error("{name} is no text")]
    NotText { name: &'static str },
    #[error("the policy cannot be read")]
    Policy(#[from] PolicyFault),
    #[error("ak.pem holds no public key of P-256 in PEM")]
    AttestationKey,
}

/// Something in a bundle that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("{name} is not what the manifest lists: it was changed on the way")]
    Changed { name: String },
    #[error("{name} is not listed in the manifest: it was added on the way")]
    Unlisted { name: String },
    #[error("{name} is listed in the manifest and not here: it was taken out on the way")]
    Gone { name: String },
    #[error("the manifest has a line that is none")]
    Manifest,
    #[error("the head cannot be trusted")]
    Head(#[from] Distrust),
    #[error(
        "entry {index} handed the log over to another key, and the head that holds it is signed with the one of before"
    )]
    RetiredKey { index: u64 },
    #[error(
        "entry {index} hands the log over to another key, and the TPM that is believed says nothing of it: a thief of \
         the old key could have written it"
    )]
    Unquoted { index: u64 },
    #[error("{name} is no file of a bundle: no check looks at it")]
    Unknown { name: String },
    #[error("{name} belongs to nothing in the bundle: no check looks at it")]
    Orphan { name: String },
    #[error("{name} is one entry too many; the limit is {ENTRIES_MAX}")]
    TooManyEntries { name: String },
    #[error("the bundle has no entry: it shows nothing")]
    NoEntries,
    #[error(
        "custody.json is not the record of this bundle: another log, head or number of entries"
    )]
    Custody,
    #[error("entry {index}: entries/{index}.json does not say what entries/{index}.cbor says")]
    View { index: u64 },
    #[error("entry {index} cannot be read")]
    Entry { index: u64, source: LeafError },
    #[error("entry {index} says that it is number {seq}")]
    Seq { index: u64, seq: u64 },
    #[error("entry {index} has no proof")]
    NoProof { index: u64 },
    #[error("entry {index}: the proof does not hold")]
    Proof { index: u64, source: TlogProofFault },
    #[error(
        "entry {index}: the proof is of another entry, or leads to another head than `checkpoint`"
    )]
    OtherHead { index: u64 },
    #[error("entry {index}: the receipt does not hold")]
    Receipt { index: u64, source: ReceiptFault },
    #[error(
        "entry {index}: the receipt is of another entry, log or head than `checkpoint`: {what}"
    )]
    OtherReceipt { index: u64, what: &'static str },
    #[error("entry {index}: what the TPM says does not hold: {what}")]
    Statement { index: u64, what: &'static str },
    #[error(
        "entry {index}: the start of this boot names another TPM than the one that made the statement"
    )]
    OtherTpm { index: u64 },
    #[error("entry {index}: who is said to have acted is not whom the entry commits to")]
    Disclosure { index: u64 },
    #[error("entry {index}: its disclosure cannot be read")]
    Opening { index: u64, source: OpeningFault },
    #[error("the time stamp over {size} entries does not hold: {what}")]
    Stamp { size: u64, what: &'static str },
    #[error("the time stamp over {size} entries does not hold")]
    Token { size: u64, source: TimestampFault },
    #[error("entry {index}: the note of the witness does not hold: {what}")]
    Witness { index: u64, what: &'static str },
    #[error("entry {index}: the head that the TPM saw is not of this log")]
    Consistency { index: u64, source: ProofFault },
    #[error("entry {index}: the head that the TPM saw cannot be read")]
    AnchorHead { index: u64, source: CheckpointError },
}

/// No fault of the bundle, and still something that its reader must know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    #[error(
        "there is a time stamp over {size} entries, and no authority is believed: give its certificate (guan-verify \
         --tsa FILE)"
    )]
    UncheckedStamp { size: u64 },
    #[error("README is another one than this program knows: do not run its commands")]
    OtherReadme,
    #[error(
        "no start of a TPM in the bundle names the key {point} (SHA-256 of its point) that is believed"
    )]
    KeyNotNamed { point: Digest },
    #[error(
        "entry {index} handed the log over to {key}, as the key before says{}",
        if *is_quoted { " and the TPM" } else { "; no TPM is believed" }
    )]
    HandedOver { index: u64, key: String, is_quoted: bool },
    #[error(
        "the head is of {origin}, which followed {base} when that had ended in a loss: its own entries say why"
    )]
    LaterEpoch { origin: String, base: String },
}
