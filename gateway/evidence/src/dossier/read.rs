//! Checks a bundle from its files alone.

use super::custody::{self, Custody};
use super::disclosures::Disclosed;
use super::finding::{DossierFault, Finding, Remark};
use super::hand_overs;
use super::names::{About, about, is_any};
use super::receipts;
use super::stamps::Stamped;
use super::statements::{self, Said};
use super::witnessed::{self, Witnessed};
use super::{Budget, ENTRIES_MAX, Files, is_name, view_file};
use crate::checkpoint::Checkpoint;
use crate::cosignature::Cosignature;
use crate::epoch::epoch_base;
use crate::leaf::{Leaf, LeafBody};
use crate::note::VerifierKey;
use crate::policy::Policy;
use crate::timestamp::Authority;
use crate::tlog_proof::TlogProof;
use crate::view::LeafView;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{Digest, PublicKey};
use std::collections::BTreeSet;

/// Head of a SubjectPublicKeyInfo of P-256 (RFC 5480), before the 65 bytes of the point.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
    0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

/// Whom to believe instead of those that the bundle itself names.
#[derive(Debug, Clone, Copy, Default)]
pub struct Believed<'a> {
    pub policy: Option<&'a Policy>,
    /// The key of the box's TPM, a point on P-256.
    pub attestation_key: Option<&'a PublicKey>,
    /// The certificate of a time stamp authority; none comes with a bundle.
    pub authority: Option<&'a Authority>,
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
    /// Earlier heads that the believed authority stamped.
    pub stamped: Vec<Stamped>,
    /// Who acted, where the bundle discloses it.
    pub disclosed: Vec<Disclosed>,
    /// The TPM's key that was believed.
    pub attestation_key: Option<KeyDigests>,
    /// What the collector says; nobody vouches for it.
    pub custody: Option<Custody>,
    pub findings: Vec<Finding>,
    pub remarks: Vec<Remark>,
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

/// A key by the two digests that are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDigests {
    /// SHA-256 of the point: what entries of the kind `tpm.start` name.
    pub point: Digest,
    /// SHA-256 of the SubjectPublicKeyInfo in DER, as `openssl pkey -pubin -outform DER | sha256sum` says it.
    pub spki: Digest,
}

impl KeyDigests {
    fn of(key: &PublicKey) -> Self {
        match key {
            PublicKey::EcdsaP256(point) => {
                Self { point: Digest::of(point), spki: Digest::of_parts(&[&SPKI_P256, point]) }
            }
            PublicKey::Ed25519(point) => Self { point: Digest::of(point), spki: Digest::of(point) },
        }
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
        // The bundle's own key vouches for nothing here: who forges a hand-over brings one along.
        let vouching = believed.attestation_key;
        let followed = hand_overs::follow(policy, files, text(files, "checkpoint")?, vouching);
        let policy = &followed.policy;
        findings.extend(followed.findings);
        let (checkpoint, signed, cosigned) = match followed.trusted {
            Ok(trusted) => (Some(trusted.checkpoint), trusted.signed, trusted.cosigned),
            Err(fault) => {
                findings.push(fault.into());
                (None, Vec::new(), Vec::new())
            }
        };
        let mut dossier = Self {
            checkpoint,
            signed,
            own_policy: own.clone(),
            cosigned,
            entries: Vec::new(),
            receipts: 0,
            quotes: 0,
            chained: 0,
            witnessed: Vec::new(),
            stamped: Vec::new(),
            disclosed: Vec::new(),
            attestation_key: key.map(KeyDigests::of),
            custody: None,
            findings,
            remarks: followed.remarks,
        };
        let entries = dossier.account_for(files);
        let mut view = LeafView::new();
        for index in &entries {
            dossier.check_entry(files, *index, policy, key, &mut view);
        }
        dossier.check_stamps(files, believed.authority);
        dossier.check_beside(files, entries.len());
        Ok(dossier)
    }

    /// Tells of every file that no check will look at. Gives the entries in the order of the log.
    fn account_for(&mut self, files: &Files) -> BTreeSet<u64> {
        let mut entries = BTreeSet::new();
        for name in files.keys() {
            let name = name.clone();
            match about(&name) {
                None => self.findings.push(Finding::Unknown { name }),
                Some(About::Bundle | About::Stamp(_)) => {}
                Some(About::Entry(index)) if !files.contains_key(&entry_file(index)) => {
                    self.findings.push(Finding::Orphan { name });
                }
                Some(About::Entry(index)) if name == entry_file(index) => {
                    match entries.len() < ENTRIES_MAX {
                        true => _ = entries.insert(index),
                        false => self.findings.push(Finding::TooManyEntries { name }),
                    }
                }
                Some(About::Entry(_)) => {}
            }
        }
        entries
    }

    /// The files that are about no single entry, and whether there are any entries.
    fn check_beside(&mut self, files: &Files, entries: usize) {
        if entries == 0 {
            self.findings.push(Finding::NoEntries);
        }
        let is_ours = |readme: &[u8]| {
            let mut known = super::EARLIER_READMES.iter().chain([&super::README]);
            known.any(|known| known.as_bytes() == readme)
        };
        if files.get("README").is_some_and(|readme| !is_ours(readme)) {
            self.remarks.push(Remark::OtherReadme);
        }
        if let Some(origin) = self.checkpoint.as_ref().map(|head| head.origin.clone())
            && let Some(base) = epoch_base(&origin).map(str::to_owned)
        {
            self.remarks.push(Remark::LaterEpoch { origin, base });
        }
        self.check_starts();
        match custody::check(files, self.checkpoint.as_ref(), entries) {
            Ok(custody) => self.custody = custody,
            Err(finding) => self.findings.push(finding),
        }
    }

    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.checkpoint.is_some()
    }

    /// When this entry was there at the latest, by the clocks of witnesses and authorities that are believed.
    pub fn not_after_s(&self, index: u64) -> Option<u64> {
        let under = self.witnessed.iter().filter(|one| index < one.size).map(|one| one.seconds);
        let stamped = self.stamped.iter().filter(|one| index < one.size);
        let stamped = stamped.filter_map(|one| u64::try_from(one.seconds).ok());
        let cosigned = self.cosigned.iter().map(|(_, cosigned)| cosigned.seconds);
        under.chain(stamped).chain(cosigned).min()
    }

    fn check_entry(
        &mut self,
        files: &Files,
        index: u64,
        policy: &Policy,
        key: Option<&PublicKey>,
        view: &mut LeafView,
    ) {
        let bytes = &files[&entry_file(index)];
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                if leaf.seq != index {
                    self.findings.push(Finding::Seq { index, seq: leaf.seq });
                }
                let shown = files.get(&format!("entries/{index}.json"));
                let rebuilt = view_file(view, &leaf);
                if shown.is_some_and(|shown| *shown != rebuilt) {
                    self.findings.push(Finding::View { index });
                }
                self.check_statement(files, index, &leaf, key);
                self.check_disclosure(files, index, &leaf);
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
            Some(proof) => self.check_proof(files, index, proof, policy),
            None => self.findings.push(Finding::NoProof { index }),
        }
        // Without a trusted head there is nothing to hold a receipt against, and that is told already.
        let receipt = files.get(&format!("receipts/{index}.cbor"));
        if let Some((receipt, head)) = receipt.zip(self.checkpoint.as_ref()) {
            match receipts::check(receipt, (index, bytes), head, policy) {
                Ok(()) => self.receipts += 1,
                Err(finding) => self.findings.push(finding),
            }
        }
    }

    /// What the TPM says, where the key that is believed said it or the bundle claims so.
    fn check_statement(&mut self, files: &Files, index: u64, leaf: &Leaf, key: Option<&PublicKey>) {
        let is_here = |folder: &str| is_any(files, folder, index);
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
            Ok(()) => {
                match said {
                    Said::Quote { .. } => self.quotes += 1,
                    Said::Chained { .. } => self.chained += 1,
                }
                self.check_start_of(index, leaf);
            }
            Err(finding) => self.findings.push(finding),
        }
    }

    /// A statement of the believed TPM, in a boot whose start names another one.
    pub(super) fn check_start_of(&mut self, index: u64, leaf: &Leaf) {
        let starts = self.entries.iter().rev().filter(|start| start.boot == leaf.boot);
        let named = starts.filter_map(|start| match &start.body {
            LeafBody::TpmStart(start) => Some(start.attestation_key),
            _ => None,
        });
        let named = named.take(1).next();
        let believed = self.attestation_key.map(|key| key.point);
        if named.is_some() && named != believed {
            self.findings.push(Finding::OtherTpm { index });
        }
    }

    /// Starts of the TPM are here, and none is of the key that is believed. It may be a later key of the box: no
    /// fault of the bundle, and nothing in it ties the key to the log.
    fn check_starts(&mut self) {
        let Some(key) = self.attestation_key else { return };
        let mut named = self.entries.iter().filter_map(|leaf| match &leaf.body {
            LeafBody::TpmStart(start) => Some(start.attestation_key),
            _ => None,
        });
        let first = named.next();
        if first.is_some() && first != Some(key.point) && !named.any(|one| one == key.point) {
            self.remarks.push(Remark::KeyNotNamed { point: key.point });
        }
    }

    /// The proof must be the one that leads to `checkpoint`, and hold nothing else.
    fn check_proof(&mut self, files: &Files, index: u64, proof: &[u8], policy: &Policy) {
        let leaf = &files[&entry_file(index)];
        let text = String::from_utf8_lossy(proof);
        let checked = TlogProof::parse(&text).and_then(|proof| {
            proof.verify(leaf, policy)?;
            Ok(proof)
        });
        match checked {
            Ok(proof) => {
                let is_here =
                    files.get("checkpoint").map(Vec::as_slice) == Some(proof.checkpoint.as_bytes());
                if proof.index != index || proof.extra.is_some() || !is_here {
                    self.findings.push(Finding::OtherHead { index });
                }
            }
            Err(source) => self.findings.push(Finding::Proof { index, source }),
        }
    }
}

fn entry_file(index: u64) -> String {
    format!("entries/{index}.cbor")
}

fn check_manifest(files: &Files, manifest: &str, findings: &mut Vec<Finding>) {
    let mut listed = BTreeSet::from(["manifest.sha256"]);
    for line in manifest.lines() {
        let split = line.split_once("  ").filter(|(_, name)| is_name(name));
        let Some((digest, name)) = split else {
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
