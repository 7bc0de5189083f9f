//! A box with a TPM of software, and what an attacker may make of both.

use super::super::*;
use crate::checkpoint::head_text;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::{Anchor, Chain, Program, Statement, TRAIL_PCR, TpmStart};
use crate::note::Note;
use crate::tpm::pcr_digest;
use crate::{CosignatureKey, cosign, cosigned_leaf};
use guan_model::{ClockQuality, PublicKey, SpoolId, WallTime};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use std::collections::BTreeMap;

pub(crate) const ORIGIN: &str = "guan/box-7";

pub(crate) fn extended(before: &Digest, data: &Digest) -> Digest {
    Digest::of_parts(&[&before.0, &data.0])
}

/// A new attestation key.
pub(crate) fn attestation_key() -> EcdsaKeyPair {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

/// What an attacker with root may ask a TPM, and what nobody can make it forget.
pub(crate) struct SoftTpm {
    pub(crate) key: EcdsaKeyPair,
    pub(crate) resets: u32,
    pub(crate) clock_ms: u64,
    pub(crate) trail: Digest,
    pub(crate) chain: Option<Digest>,
}

impl SoftTpm {
    pub(crate) fn new() -> Self {
        let key = attestation_key();
        Self { key, resets: 40, clock_ms: 1000, trail: Digest([0; 32]), chain: None }
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.key.public_key().as_ref().to_vec())
    }

    pub(crate) fn reboot(&mut self) {
        self.resets += 1;
        self.trail = Digest([0; 32]);
    }

    /// TPMS_ATTEST of a kind, signed.
    pub(crate) fn state(&mut self, kind: u16, extra: &Digest, body: &[u8]) -> Statement {
        self.clock_ms += 10;
        let mut bytes = vec![0xFF, b'T', b'C', b'G'];
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 2, 0, 11]);
        bytes.extend([0, 32]);
        bytes.extend(extra.0);
        bytes.extend(self.clock_ms.to_be_bytes());
        bytes.extend(self.resets.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 1]);
        bytes.extend([0; 8]);
        bytes.extend(body);
        let signed = self.key.sign(&SystemRandom::new(), &bytes).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        let signature = [&[0, 0x18, 0, 0x0B, 0, 32][..], r, &[0, 32], s].concat();
        Statement::new(bytes, signature).unwrap()
    }

    pub(crate) fn quote(&mut self, extra: &Digest) -> (Statement, BTreeMap<u8, Digest>) {
        let pcrs = BTreeMap::from([(0, Digest([7; 32])), (TRAIL_PCR, self.trail)]);
        let mut bits = [0_u8; 3];
        pcrs.keys().for_each(|pcr| bits[usize::from(pcr / 8)] |= 1 << (pcr % 8));
        let mut body = vec![0, 0, 0, 1, 0, 0x0B, 3];
        body.extend(bits);
        body.extend([0, 32]);
        body.extend(pcr_digest(&pcrs).0);
        (self.state(0x8018, extra, &body), pcrs)
    }

    pub(crate) fn certify(&mut self, extra: &Digest, name: u8) -> Statement {
        let mut body = vec![0, 4, 0, 11, name, name, 0, 0, 0, 32];
        body.extend(self.chain.unwrap_or(Digest([0; 32])).0);
        self.state(0x8014, extra, &body)
    }
}

/// A box that writes its log as it should, on a TPM that an attacker may take over at any point.
pub(crate) struct Box {
    pub(crate) log: TestSigner,
    pub(crate) witness: TestSigner,
    pub(crate) tpm: SoftTpm,
    pub(crate) levels: Levels,
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) boot: u32,
    pub(crate) at_ms: u64,
    pub(crate) heads: Vec<String>,
    pub(crate) trail: Vec<u64>,
}

impl Box {
    pub(crate) fn new() -> Self {
        Self {
            log: TestSigner::new(ORIGIN, 9),
            witness: TestSigner::new("space-1/witness", 5),
            tpm: SoftTpm::new(),
            levels: Levels::default(),
            leaves: Vec::new(),
            boot: 0,
            at_ms: 0,
            heads: Vec::new(),
            trail: Vec::new(),
        }
    }

    /// Goes on after these leaves of the first boot.
    pub(crate) fn take_over(&mut self, leaves: &[Vec<u8>]) {
        self.boot = 1;
        for leaf in leaves {
            self.levels.append(leaf_hash(leaf));
            self.leaves.push(leaf.clone());
        }
    }

    pub(crate) fn append(&mut self, body: LeafBody) {
        self.at_ms += 100;
        let leaf = Leaf {
            seq: self.leaves.len() as u64,
            wall: WallTime::from_millis(1_800_000_000_000),
            boot: BootNumber(self.boot),
            monotonic: Duration::from_millis(self.at_ms),
            clock_quality: ClockQuality::Ntp,
            actor: None,
            body,
        };
        let bytes = leaf.encode();
        self.levels.append(leaf_hash(&bytes));
        self.leaves.push(bytes);
    }

    pub(crate) fn start(&mut self) {
        self.start_as(self.tpm.resets, self.tpm.chain);
    }

    /// With claims about the TPM that may be lies.
    pub(crate) fn start_as(&mut self, resets: u32, chain: Option<Digest>) {
        (self.boot, self.at_ms) = (self.boot + 1, 0);
        let program = Program::parse("guan 0.1.0").unwrap();
        self.append(LeafBody::Start { program, spool: SpoolId([1; 16]) });
        let PublicKey::EcdsaP256(point) = self.tpm.public() else { unreachable!() };
        let start = TpmStart {
            attestation_key: Digest::of(&point),
            resets,
            restarts: 0,
            clock_ms: self.tpm.clock_ms,
            is_safe: true,
            lockouts: 0,
            trail: self.tpm.trail,
            chain,
        };
        self.append(LeafBody::TpmStart(start));
    }

    pub(crate) fn work(&mut self, leaves: usize) {
        for number in 0..leaves {
            let outcome = crate::leaf::ConfigOutcome::Applied;
            let digest = Digest::of(&number.to_be_bytes());
            self.append(LeafBody::ConfigChange { digest, outcome });
        }
    }

    pub(crate) fn root(&self) -> Digest {
        self.levels.root_at(self.levels.size()).unwrap()
    }

    /// Signs, extends.
    pub(crate) fn sign(&mut self) -> Digest {
        let (size, root) = (self.levels.size(), self.root());
        self.heads.push(Checkpoint::sign(ORIGIN, size, &root, &self.log).unwrap());
        let head = Digest::of(head_text(ORIGIN, size, &root).as_bytes());
        self.tpm.trail = extended(&self.tpm.trail, &head);
        self.trail.push(size);
        head
    }

    pub(crate) fn anchor(&mut self, head: &Digest) {
        let size = *self.trail.last().unwrap();
        let (quote, pcrs) = self.tpm.quote(head);
        let trail = std::mem::take(&mut self.trail);
        self.append(LeafBody::Anchor(Anchor { size, trail, pcrs, quote }));
    }

    pub(crate) fn chain(&mut self, size: u64, head: &Digest) {
        let before = self.tpm.chain;
        self.tpm.chain = Some(extended(&before.unwrap_or(Digest([0; 32])), head));
        let certified = self.tpm.certify(head, 1);
        self.append(LeafBody::Chain(Chain { size, before, certified }));
    }

    pub(crate) fn cosign(&mut self, seconds: i64) {
        let head = self.heads.last().unwrap().clone();
        let size = Checkpoint::parse_unverified(&head).unwrap().size;
        let text = Note::parse(&head).unwrap().text().to_owned();
        let line = cosign(&text, WallTime::from_seconds(seconds), &self.witness).unwrap();
        let key = CosignatureKey::of(&self.witness).unwrap();
        let leaf = cosigned_leaf(&key, &format!("{text}\n{line}"), size).unwrap();
        self.append(LeafBody::Cosigned(leaf));
    }

    pub(crate) fn boot(&mut self, leaves: usize) {
        self.start();
        self.work(leaves);
        let head = self.sign();
        let size = self.levels.size();
        self.work(3);
        self.sign();
        let last = Digest::of(head_text(ORIGIN, self.levels.size(), &self.root()).as_bytes());
        self.anchor(&last);
        self.chain(size, &head);
        self.cosign(1_800_000_000 + i64::from(self.boot) * 86_400);
        self.append(LeafBody::Stop);
        self.sign();
        self.trail.clear();
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust {
            attestation_keys: vec![self.tpm.public()],
            witnesses: vec![CosignatureKey::of(&self.witness).unwrap()],
            ..Trust::of_key(ORIGIN, VerifierKey::of(&self.log).unwrap())
        }
    }

    pub(crate) fn trust_in_tpm(&self) -> Trust {
        Trust { witnesses: Vec::new(), ..self.trust() }
    }

    pub(crate) fn trust_in_witness(&self) -> Trust {
        Trust { attestation_keys: Vec::new(), ..self.trust() }
    }

    /// The heads over other leaves, signed with the log's key.
    pub(crate) fn signed_anew(&self, leaves: &[Vec<u8>]) -> Vec<String> {
        let mut levels = Levels::default();
        leaves.iter().for_each(|leaf| levels.append(leaf_hash(leaf)));
        let sign = |head: &String| {
            let size = Checkpoint::parse_unverified(head).unwrap().size;
            let root = levels.root_at(size).unwrap();
            Checkpoint::sign(ORIGIN, size, &root, &self.log).unwrap()
        };
        self.heads.iter().map(sign).collect()
    }

    pub(crate) fn report(&self) -> Report {
        report(&self.leaves, &self.heads, self.trust())
    }
}

pub(crate) fn report(leaves: &[Vec<u8>], heads: &[String], trust: Trust) -> Report {
    let key = trust.log_key.clone();
    let mut verifier = LogVerifier::with_trust(trust);
    leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    verifier.finish(&heads, &key)
}

/// Three boots, with a reboot between each.
pub(crate) fn honest() -> Box {
    let mut host = Box::new();
    for leaves in [5, 9, 7] {
        host.boot(leaves);
        host.tpm.reboot();
    }
    host
}
