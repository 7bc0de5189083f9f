//! Checks a bundle from its files alone.

use super::{ENTRIES_MAX, FILE_BYTES_MAX, FILES_MAX, Files};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::Cosignature;
use crate::leaf::{Leaf, LeafError};
use crate::policy::{Distrust, Policy, PolicyFault};
use crate::proof::{PROOF_HASHES_MAX, ProofFault, verify_consistency};
use crate::receipt::{Receipt, ReceiptFault};
use crate::tlog_proof::{TlogProof, TlogProofFault};
use crate::tpm::{Attestation, Attested, TpmSignature};
use crate::verify::head_text;
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
    #[error("the bundle has {count} files; the limit is {FILES_MAX}")]
    TooMany { count: usize },
    #[error("{name} has {length} bytes; the limit is {FILE_BYTES_MAX}")]
    TooLong { name: String, length: usize },
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
    #[error("entry {index}: the quote of the TPM does not hold: {what}")]
    Quote { index: u64, what: &'static str },
    #[error("entry {index}: the head that the TPM saw is not of this log")]
    Consistency { index: u64, source: ProofFault },
    #[error("entry {index}: the head that the TPM saw cannot be read")]
    AnchorHead { index: u64, source: CheckpointError },
}

/// What was checked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dossier {
    pub checkpoint: Option<Checkpoint>,
    /// Who cosigned the head, by name.
    pub cosigned: Vec<(String, Cosignature)>,
    pub entries: Vec<Leaf>,
    pub receipts: u64,
    pub quotes: u64,
    pub findings: Vec<Finding>,
}

fn text<'f>(files: &'f Files, name: &'static str) -> Result<&'f str, DossierFault> {
    let bytes = files.get(name).ok_or(DossierFault::Missing { name })?;
    std::str::from_utf8(bytes).map_err(|_| DossierFault::NotText { name })
}

/// The point of a P-256 key in PEM.
pub(super) fn attestation_key(pem: &[u8]) -> Option<PublicKey> {
    let text = std::str::from_utf8(pem).ok()?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body.trim()).ok()?;
    let point = der.strip_prefix(&SPKI_P256)?;
    (point.len() == POINT_BYTES).then(|| PublicKey::EcdsaP256(point.to_vec()))
}

impl Dossier {
    /// Checks all that there is. `policy`: whom to believe instead of those that the bundle names.
    pub fn check(files: &Files, policy: Option<&Policy>) -> Result<Self, DossierFault> {
        if files.len() > FILES_MAX {
            return Err(DossierFault::TooMany { count: files.len() });
        }
        if let Some((name, bytes)) = files.iter().find(|(_, bytes)| bytes.len() > FILE_BYTES_MAX) {
            return Err(DossierFault::TooLong { name: name.clone(), length: bytes.len() });
        }
        let own = Policy::parse(text(files, "policy")?)?;
        let policy = policy.unwrap_or(&own);
        let key = match files.get("ak.pem") {
            Some(pem) => Some(attestation_key(pem).ok_or(DossierFault::AttestationKey)?),
            None => None,
        };
        let mut findings = Vec::new();
        check_manifest(files, text(files, "manifest.sha256")?, &mut findings);
        let trusted = policy.check(text(files, "checkpoint")?);
        let (checkpoint, cosigned) = match trusted {
            Ok(trusted) => (Some(trusted.checkpoint), trusted.cosigned),
            Err(fault) => {
                findings.push(fault.into());
                (None, Vec::new())
            }
        };
        let (entries, receipts, quotes) = (Vec::new(), 0, 0);
        let mut dossier = Self { checkpoint, cosigned, entries, receipts, quotes, findings };
        for name in files.keys() {
            let Some(rest) = name.strip_prefix("entries/") else { continue };
            let Some(number) = rest.strip_suffix(".cbor") else { continue };
            let index = number.parse().ok().filter(|index: &u64| index.to_string() == number);
            match index.filter(|_| dossier.entries.len() < ENTRIES_MAX) {
                Some(index) => dossier.check_entry(files, index, policy, key.as_ref()),
                None => dossier.findings.push(Finding::Name { name: name.clone() }),
            }
        }
        dossier.entries.sort_by_key(|leaf| leaf.seq);
        Ok(dossier)
    }

    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.checkpoint.is_some()
    }

    fn check_entry(&mut self, files: &Files, index: u64, policy: &Policy, key: Option<&PublicKey>) {
        let bytes = &files[&format!("entries/{index}.cbor")];
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                if leaf.seq != index {
                    self.findings.push(Finding::Seq { index, seq: leaf.seq });
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
        if files.contains_key(&format!("anchors/{index}.msg")) {
            match self.check_quote(files, index, key) {
                Ok(()) => self.quotes += 1,
                Err(finding) => self.findings.push(finding),
            }
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

    fn check_quote(
        &self,
        files: &Files,
        index: u64,
        key: Option<&PublicKey>,
    ) -> Result<(), Finding> {
        let quote = |what| Finding::Quote { index, what };
        let file = |ending: &str| files.get(&format!("anchors/{index}.{ending}"));
        let (Some(message), Some(signature), Some(head)) = (file("msg"), file("sig"), file("head"))
        else {
            return Err(quote("a file of it is missing"));
        };
        let key = key.ok_or(quote("ak.pem is missing"))?;
        let said = Attestation::parse(message).map_err(|_| quote("it is no statement of a TPM"))?;
        let signature = TpmSignature::parse(signature).map_err(|_| quote("it has no signature"))?;
        if !signature.is_by(key, message) {
            return Err(quote("the key in ak.pem did not sign it"));
        }
        if !matches!(said.attested, Attested::Quote { .. }) || said.extra != Digest::of(head).0 {
            return Err(quote("it is about something else than the head beside it"));
        }
        let text = String::from_utf8_lossy(head);
        let seen = Checkpoint::parse_unverified(&format!("{text}\n\u{2014}"))
            .map_err(|source| Finding::AnchorHead { index, source })?;
        let newest =
            self.checkpoint.as_ref().ok_or(quote("the head of the bundle is not trusted"))?;
        if head_text(&newest.origin, seen.size, &seen.root).as_bytes() != head.as_slice() {
            return Err(quote("the head beside it is of another log"));
        }
        let lines = file("consistency").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let proof = lines.as_deref().unwrap_or_default().lines().take(PROOF_HASHES_MAX + 1);
        let proof: Option<Vec<Digest>> =
            proof.map(|line| STANDARD.decode(line).ok()?.try_into().ok().map(Digest)).collect();
        let proof = proof.ok_or(quote("its consistency proof cannot be read"))?;
        verify_consistency((seen.size, &seen.root), (newest.size, &newest.root), &proof)
            .map_err(|source| Finding::Consistency { index, source })
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
