//! An evidence bundle: what a person who has only public tools needs to check entries of a log.
//!
//! Pure: names and bytes of files. `README` says which tool checks which file. Everything in it is derived
//! from the log and its signed heads; whom to believe (`policy`, `ak.pem`) must be compared with what the
//! space and the box's maker publish, and the README says so.
//!
//! | file | holds |
//! |---|---|
//! | `policy` | keys of log and witnesses, C2SP tlog-policy |
//! | `checkpoint` | the signed head that all proofs lead to |
//! | `entries/N.cbor`, `.json` | a leaf, and the same for people |
//! | `proofs/N.tlog-proof` | C2SP tlog-proof |
//! | `receipts/N.cbor` | COSE Receipt (RFC 9942), where the log's key was at hand |
//! | `anchors/N.msg`, `.sig`, `.qualifying`, `.pcrs` | a quote of the TPM, as `tpm2_checkquote` takes it |
//! | `chain/N.msg`, `.sig`, `.qualifying`, `.der` | its digest over all boots, certified; `.der` for OpenSSL |
//! | `anchors/N.head`, `.consistency`, and in `chain/` | the head that it is about, and that `checkpoint` continues it |
//! | `witness/N.note`, `.consistency` | an earlier head that a witness cosigned, and that `checkpoint` continues it |
//! | `stamps/S.tsr`, `.head`, `.consistency` | an authority's time stamp (RFC 3161) over the head of S entries, and that `checkpoint` continues it |
//! | `disclosures/N.opening` | salt and name of who acted in a leaf; its SHA-256 is what the leaf says |
//! | `ak.pem` | the key of the TPM |
//! | `custody.json`, `manifest.sha256` | who collected it; digests of all other files |
//!
//! Every file is accounted for: it is checked, it is rebuilt and compared, or it is a finding. Two say what no
//! check can: `custody.json` is the word of the collector, and a README may be that of another release, which
//! is a remark. `entries/N.json` is rebuilt from the entries that are here, in their order: see
//! [`LeafView`] for what that asks of later releases.

mod budget;
mod custody;
mod disclosures;
mod finding;
mod hand_overs;
mod names;
mod read;
mod receipts;
mod stamps;
mod statements;
mod witnessed;

pub use budget::{
    Budget, DOSSIER_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, FILES_PER_ENTRY_MAX, NAME_BYTES_MAX,
    is_name,
};
pub use custody::Custody;
pub use disclosures::Disclosed;
pub use finding::{DossierFault, Finding, Remark};
pub use read::{Believed, Dossier, KeyDigests, attestation_key};
pub use receipts::receipt;
pub use stamps::{STAMPS_MAX, Stamp, Stamped};
pub use witnessed::Witnessed;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::CosignatureKey;
use crate::leaf::{Leaf, LeafError};
use crate::note::VerifierKey;
use crate::opening::Opening;
use crate::proof::ProofFault;
use crate::receipt::ReceiptFault;
use crate::subtrees::{Nodes, root_at};
use crate::tlog_proof::{TlogProof, TlogProofFault};
use crate::view::LeafView;
use guan_model::{Digest, Signer};
use std::collections::BTreeMap;

/// Most entries of one bundle.
pub const ENTRIES_MAX: usize = 10_000;

const README: &str = include_str!("dossier/readme.txt");
/// Of earlier releases, whose bundles are around.
const EARLIER_READMES: [&str; 2] =
    [include_str!("dossier/readme-v1.txt"), include_str!("dossier/readme-v2.txt")];

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why no bundle can be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeFault {
    #[error("{count} entries are asked for; the limit is {ENTRIES_MAX}, name fewer")]
    TooMany { count: usize },
    #[error("no entry is asked for, and a bundle without any shows nothing; name some")]
    NoEntries,
    #[error("entry {index} cannot be read")]
    Leaf { index: u64, source: LeafError },
    #[error("entry {index} is not under the head of {size} leaves; wait for the next one")]
    Unsigned { index: u64, size: u64 },
    #[error("the head cannot be read")]
    Checkpoint(#[from] CheckpointError),
    #[error("the head of {size} leaves has another root than the log; see `guan log verify`")]
    OtherRoot { size: u64 },
    #[error("a proof cannot be made")]
    Proof(#[from] ProofFault),
    #[error("a proof cannot be made")]
    TlogProof(#[from] TlogProofFault),
    #[error("a receipt cannot be issued")]
    Receipt(#[from] ReceiptFault),
    #[error("the bundle would be over a limit; name fewer entries")]
    Limit(#[from] DossierFault),
}

/// What a bundle is made from.
pub struct Material<'a> {
    /// Of the log or of the first of its epochs; the policy names it as it signed.
    pub log_key: &'a VerifierKey,
    pub witnesses: &'a [CosignatureKey],
    /// SubjectPublicKeyInfo in PEM.
    pub attestation_key: Option<&'a str>,
    /// The head, with the cosignatures that there are. It must be one of `log_key` over `nodes`.
    pub checkpoint: &'a str,
    pub nodes: &'a dyn Nodes,
    /// Issues receipts; `None`: there are none.
    pub signer: Option<&'a dyn Signer>,
    pub custody: &'a Custody,
    /// Time stamps over heads of this log.
    pub stamps: &'a [Stamp],
    /// Who acted, for those that the reader may know; those that open no leaf of the bundle are left out.
    pub openings: &'a BTreeMap<Digest, Opening>,
}

/// The files of a bundle about these leaves, which stand at these indices of the log, in any order.
pub fn make(material: &Material<'_>, leaves: &[(u64, Vec<u8>)]) -> Result<Files, MakeFault> {
    if leaves.len() > ENTRIES_MAX {
        return Err(MakeFault::TooMany { count: leaves.len() });
    }
    if leaves.is_empty() {
        return Err(MakeFault::NoEntries);
    }
    let head = signed_head(material.checkpoint, material.log_key, material.nodes)?;
    let (_, log_key) = Checkpoint::parse_and_name(material.checkpoint, material.log_key)?;
    let key = material.attestation_key.and_then(|pem| attestation_key(pem.as_bytes()));
    let mut files = Files::new();
    // A view depends on the entries before it, so their order is part of the form: that of the log.
    let ordered: BTreeMap<u64, &Vec<u8>> = leaves.iter().map(|(at, bytes)| (*at, bytes)).collect();
    let mut view = LeafView::new();
    for (index, bytes) in ordered {
        if index >= head.size {
            return Err(MakeFault::Unsigned { index, size: head.size });
        }
        let leaf = Leaf::decode(bytes).map_err(|source| MakeFault::Leaf { index, source })?;
        files.insert(format!("entries/{index}.cbor"), bytes.clone());
        files.insert(format!("entries/{index}.json"), view_file(&mut view, &leaf));
        let proof = TlogProof::make(index, material.checkpoint, material.nodes)?;
        files.insert(format!("proofs/{index}.tlog-proof"), proof.to_string().into_bytes());
        if let Some(signer) = material.signer {
            let receipt = receipt(&head, index, material.nodes, signer)?;
            files.insert(format!("receipts/{index}.cbor"), receipt);
        }
        statements::put(&mut files, (index, &leaf), &head, material.nodes, key.as_ref())?;
        let (nodes, witnesses) = (material.nodes, material.witnesses);
        witnessed::put(&mut files, (index, &leaf), &head, nodes, witnesses)?;
        disclosures::put(&mut files, index, &leaf, material.openings);
    }
    let indices: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
    stamps::put(&mut files, material.stamps, &indices, &head, material.nodes)?;
    files.insert("README".to_owned(), README.as_bytes().to_vec());
    files.insert("checkpoint".to_owned(), material.checkpoint.as_bytes().to_vec());
    files.insert("policy".to_owned(), policy(material, &log_key).into_bytes());
    if let Some(pem) = material.attestation_key {
        files.insert("ak.pem".to_owned(), pem.as_bytes().to_vec());
    }
    let custody = material.custody.record(&head, leaves.len());
    files.insert(custody::CUSTODY_FILE.to_owned(), custody);
    let manifest: String =
        files.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes))).collect();
    files.insert("manifest.sha256".to_owned(), manifest.into_bytes());
    let mut budget = Budget::default();
    files.iter().try_for_each(|(name, bytes)| budget.admit(name, bytes.len() as u64))?;
    Ok(files)
}

/// The entries of a bundle, in the order of the log.
fn entries_of(files: &Files) -> Vec<(u64, &[u8])> {
    let mut entries: Vec<(u64, &[u8])> = files
        .iter()
        .filter_map(|(name, bytes)| {
            let number = name.strip_prefix("entries/")?.strip_suffix(".cbor")?;
            Some((number.parse().ok()?, bytes.as_slice()))
        })
        .collect();
    entries.sort_by_key(|(index, _)| *index);
    entries
}

/// An entry for people, as its file holds it.
fn view_file(view: &mut LeafView, leaf: &Leaf) -> Vec<u8> {
    (view.leaf(leaf).to_string() + "\n").into_bytes()
}

/// A head that the log's key signed over these very leaves: nothing else may get receipts by that key.
pub fn signed_head(
    text: &str,
    key: &VerifierKey,
    nodes: &dyn Nodes,
) -> Result<Checkpoint, MakeFault> {
    let head = Checkpoint::parse_and_verify(text, key)?;
    match root_at(head.size, nodes)? == head.root {
        true => Ok(head),
        false => Err(MakeFault::OtherRoot { size: head.size }),
    }
}

/// Asks for one witness, if there is one that signed this very head.
fn policy(material: &Material<'_>, log_key: &VerifierKey) -> String {
    let mut text = format!("log {log_key}\n");
    let note = crate::note::Note::parse(material.checkpoint);
    let has_signed = |key: &CosignatureKey| {
        note.as_ref().is_ok_and(|note| note.statements(key).is_ok_and(|found| !found.is_empty()))
    };
    let mut quorum = "none".to_owned();
    for (number, key) in material.witnesses.iter().enumerate() {
        text += &format!("witness w{number} {key}\n");
        if has_signed(key) {
            quorum = format!("w{number}");
        }
    }
    text + &format!("quorum {quorum}\n")
}

#[cfg(test)]
mod tests;
