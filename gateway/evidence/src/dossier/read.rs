//! Checks a bundle from its files alone.

use super::statements::{self, Said};
use super::witnessed::{self, Witnessed};
use super::{BUNDLE_BYTES_MAX, Budget, ENTRIES_MAX, FILE_BYTES_MAX, FILES_MAX, Files};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::Cosignature;
use crate::leaf::{Leaf, LeafError};
use crate::note::VerifierKey;
use crate::policy::{Distrust, Policy, PolicyFault};
use crate::proof::ProofFault;
use crate::receipt::{Receipt, ReceiptFault};
use crate::tlog_proof::{TlogProof, TlogProofFault};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, PublicKey};

/// Head of a SubjectPublicKeyInfo of P-256 (RFC 5480), before the 65 bytes of the point.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
    0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// Why a bundle cannot be judged at all; whoever made or carried it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DossierFault {
    #[error("the bundle has more than {FILES_MAX} files")]
    TooMany,
    #[error("{name} has {length} bytes; the limit is {FILE_BYTES_MAX}")]
    TooLong { name: String, length: u64 },
    #[error("with {name} the bundle has more than {BUNDLE_BYTES_MAX} bytes")]
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
    #[error("{name} is not the name of an entry, or there are more than {ENTRIES_MAX}")]
    Name { name: String },
    #[error("entry {index} cannot be read")]
    Entry { index: u64, source: LeafError },
    #[error("entry {index} says that it is number {seq}")]
    Seq { index: u64, seq: u64 },
    #[error("entry {index} has no proof")]
    NoProof { index: u64 },
    #[error("entry {index}: the proof does not hold")]
    Proof { index: u64, source: TlogProofFault },
    #[error("entry {index}: the proof leads to another head than `checkpoint`")]
    OtherHead { index: u64 },
    #[error("entry {index}: the receipt does not hold")]
    Receipt { index: u64, source: ReceiptFault },
    #[error("entry {index}: what the TPM says does not hold: {what}")]
    Statement { index: u64, what: &'static str },
    #[error("entry {index}: the note of the witness does not hold: {what}")]
    Witness { index: u64, what: &'static str },
    #[error("entry {index}: the head that the TPM saw is not of this log")]
    Consistency { index: u64, source: ProofFault },
    #[error("entry {index}: the head that the TPM saw cannot be read")]
    AnchorHead { index: u64, source: CheckpointError },
}

/// Whom to believe instead of those that the bundle itself names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Believed<'a> {
    pub policy: Option<&'a Policy>,
    /// The key of the box's TPM, a point on P-256.
    pub attestation_key: Option<&'a PublicKey>,
}

/// What was checked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dossier {
    pub checkpoint: Option<Checkpoint>,
    /// Keys of the log that signed the head, among those that are believed.
    pub signed: Vec<VerifierKey>,
    /// Whom the bundle itself names: read by the rules that the check reads it by.
    pub own_policy: Policy,
    /// Who cosigned the head, by name.
    pub cosigned: Vec<(String, Cosignature)>,
    pub entries: Vec<Leaf>,
    pub receipts: u64,
    /// Quotes of the TPM, and certificates of its digest over all boots.
    pub quotes: u64,
    pub chained: u64,
    /// Earlier heads that believed witnesses cosigned.
    pub witnessed: Vec<Witnessed>,
    /// SHA-256 of the DER of the TPM's key that was believed.
    pub attestation_key: Option<Digest>,
    pub findings: Vec<Finding>,
}

fn text<'f>(files: &'f Files, name: &'static str) -> Result<&'f str, DossierFault> {
    let bytes = files.get(name).ok_or(DossierFault::Missing { name })?;
    std::str::from_utf8(bytes).map_err(|_| DossierFault::NotText { name })
}

/// The point of a P-256 key in PEM.
pub fn attestation_key(pem: &[u8]) -> Option<PublicKey> {
    let text = std::str::from_utf8(pem).ok()?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body.trim()).ok()?;
    let point = der.strip_prefix(&SPKI_P256)?;
    (point.len() == POINT_BYTES).then(|| PublicKey::EcdsaP256(point.to_vec()))
}

/// SHA-256 of the SubjectPublicKeyInfo in DER, as `openssl pkey -pubin -outform DER | sha256sum` says it.
fn fingerprint(key: &PublicKey) -> Digest {
    match key {
        PublicKey::EcdsaP256(point) => Digest::of_parts(&[&SPKI_P256, point]),
        PublicKey::Ed25519(point) => Digest::of(point),
    }
}

impl Dossier {
    /// Checks all that there is.
    pub fn check(files: &Files, believed: Believed<'_>) -> Result<Self, DossierFault> {
        let mut budget = Budget::default();
        files.iter().try_for_each(|(name, bytes)| budget.admit(name, bytes.len() as u64))?;
        let own = Policy::parse(text(files, "policy")?)?;
        let policy = believed.policy.unwrap_or(&own);
        let own_key = match files.get("ak.pem") {
            Some(pem) => Some(attestation_key(pem).ok_or(DossierFault::AttestationKey)?),
            None => None,
        };
        let key = believed.attestation_key.or(own_key.as_ref());
        let mut findings = Vec::new();
        check_manifest(files, text(files, "manifest.sha256")?, &mut findings);
        let trusted = policy.check(text(files, "checkpoint")?);
        let (checkpoint, signed, cosigned) = match trusted {
            Ok(trusted) => (Some(trusted.checkpoint), trusted.signed, trusted.cosigned),
            Err(fault) => {
                findings.push(fault.into());
                (None, Vec::new(), Vec::new())
            }
        };
        let attestation_key = key.map(fingerprint);
        let (entries, receipts, quotes, chained) = (Vec::new(), 0, 0, 0);
        let mut dossier = Self {
            checkpoint,
            signed,
            own_policy: own.clone(),
            cosigned,
            entries,
            receipts,
            quotes,
            chained,
            witnessed: Vec::new(),
            attestation_key,
            findings,
        };
        for name in files.keys() {
            let Some(rest) = name.strip_prefix("entries/") else { continue };
            let Some(number) = rest.strip_suffix(".cbor") else { continue };
            let index = number.parse().ok().filter(|index: &u64| index.to_string() == number);
            match index.filter(|_| dossier.entries.len() < ENTRIES_MAX) {
                Some(index) => dossier.check_entry(files, index, policy, key),
                None => dossier.findings.push(Finding::Name { name: name.clone() }),
            }
        }
        dossier.entries.sort_by_key(|leaf| leaf.seq);
        Ok(dossier)
    }

    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.checkpoint.is_some()
    }

    /// When this entry was there at the latest, by the clocks of witnesses that are believed.
    pub fn not_after_s(&self, index: u64) -> Option<u64> {
        let under = self.witnessed.iter().filter(|one| index < one.size).map(|one| one.seconds);
        under.chain(self.cosigned.iter().map(|(_, cosigned)| cosigned.seconds)).min()
    }

    fn check_entry(&mut self, files: &Files, index: u64, policy: &Policy, key: Option<&PublicKey>) {
        let bytes = &files[&format!("entries/{index}.cbor")];
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                if leaf.seq != index {
                    self.findings.push(Finding::Seq { index, seq: leaf.seq });
                }
                self.check_statement(files, index, &leaf, key);
                let newest = self.checkpoint.as_ref();
                match witnessed::check(files, (index, &leaf), newest, policy) {
                    Ok(found) => self.witnessed.extend(found),
                    Err(finding) => self.findings.push(finding),
                }
                self.entries.push(leaf);
            }
            Err(source) => self.findings.push(Finding::Entry { index, source }),
        }
        match files.get(&format!("proofs/{index}.tlog-proof")) {
            Some(proof) => self.check_proof(index, bytes, proof, policy),
            None => self.findings.push(Finding::NoProof { index }),
        }
        if let Some(receipt) = files.get(&format!("receipts/{index}.cbor")) {
            // A policy may know several logs; the last word is that of the last key.
            let by = |receipt: &Receipt| {
                let tried = policy.log_keys().map(|key| receipt.verify_inclusion(bytes, key));
                tried.reduce(|known, next| if known.is_ok() { known } else { next })
            };
            let checked = Receipt::decode(receipt).map(|receipt| by(&receipt));
            let checked = checked.and_then(|tried| {
                tried.unwrap_or_else(|| {
                    Err(ReceiptFault::OtherKey { key: "none: the policy names no log".to_owned() })
                })
            });
            match checked {
                Ok(_) => self.receipts += 1,
                Err(source) => self.findings.push(Finding::Receipt { index, source }),
            }
        }
    }

    /// What the TPM says, where the key that is believed said it or the bundle claims so.
    fn check_statement(&mut self, files: &Files, index: u64, leaf: &Leaf, key: Option<&PublicKey>) {
        let is_here = |folder: &str| files.contains_key(&format!("{folder}/{index}.msg"));
        let said = Said::of(leaf);
        let own_folder = said.as_ref().map(Said::folder);
        for folder in ["anchors", "chain"] {
            if is_here(folder) && own_folder != Some(folder) {
                let what = "the entry has no such statement";
                self.findings.push(Finding::Statement { index, what });
            }
        }
        let Some(said) = said else { return };
        if !is_here(said.folder()) && !key.is_some_and(|key| said.is_by(key)) {
            return;
        }
        match statements::check(files, index, &said, self.checkpoint.as_ref(), key) {
            Ok(()) if matches!(said, Said::Quote { .. }) => self.quotes += 1,
            Ok(()) => self.chained += 1,
            Err(finding) => self.findings.push(finding),
        }
    }

    fn check_proof(&mut self, index: u64, leaf: &[u8], proof: &[u8], policy: &Policy) {
        let text = String::from_utf8_lossy(proof);
        let checked = TlogProof::parse(&text).and_then(|proof| {
            let trusted = proof.verify(leaf, policy)?;
            Ok((proof.index, trusted.checkpoint))
        });
        match checked {
            Ok((found, head)) => {
                if found != index || Some(head) != self.checkpoint {
                    self.findings.push(Finding::OtherHead { index });
                }
            }
            Err(source) => self.findings.push(Finding::Proof { index, source }),
        }
    }
}

fn check_manifest(files: &Files, manifest: &str, findings: &mut Vec<Finding>) {
    let mut listed = std::collections::BTreeSet::from(["manifest.sha256"]);
    for line in manifest.lines() {
        let Some((digest, name)) = line.split_once("  ") else {
            findings.push(Finding::Manifest);
            continue;
        };
        listed.insert(name);
        match files.get(name) {
            None => findings.push(Finding::Gone { name: name.to_owned() }),
            Some(bytes) if Digest::of(bytes).to_string() != digest => {
                findings.push(Finding::Changed { name: name.to_owned() });
            }
            Some(_) => {}
        }
    }
    let others = files.keys().filter(|name| !listed.contains(name.as_str()));
    findings.extend(others.map(|name| Finding::Unlisted { name: name.clone() }));
}
