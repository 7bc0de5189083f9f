//! Attacks on a log, row by row of research/log.md section 4: each is seen by the party that the table names,
//! and the untouched twin passes, so none is seen by accident.
//!
//! A TPM of software writes what a real one would; end to end the same is tried on an emulator.

use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::{Anchor, Chain, KeyRollover, Program, Statement, TRAIL_PCR, TpmStart};
use crate::note::Note;
use crate::tpm::pcr_digest;
use crate::{CosignatureKey, cosign, cosigned_leaf};
use guan_model::{ClockQuality, PublicKey, Signer as _, SpoolId, WallTime};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use std::collections::BTreeMap;

const ORIGIN: &str = "guan/box-7";

fn extended(before: &Digest, data: &Digest) -> Digest {
    Digest::of_parts(&[&before.0, &data.0])
}

/// What an attacker with root may ask a TPM, and what nobody can make it forget.
struct SoftTpm {
    key: EcdsaKeyPair,
    resets: u32,
    clock_ms: u64,
    trail: Digest,
    chain: Option<Digest>,
}

impl SoftTpm {
    fn new() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { key, resets: 40, clock_ms: 1000, trail: Digest([0; 32]), chain: None }
    }

    fn public(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.key.public_key().as_ref().to_vec())
    }

    fn reboot(&mut self) {
        self.resets += 1;
        self.trail = Digest([0; 32]);
    }

    /// TPMS_ATTEST of a kind, signed.
    fn state(&mut self, kind: u16, extra: &Digest, body: &[u8]) -> Statement {
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

    fn quote(&mut self, extra: &Digest) -> (Statement, BTreeMap<u8, Digest>) {
        let pcrs = BTreeMap::from([(0, Digest([7; 32])), (TRAIL_PCR, self.trail)]);
        let mut bits = [0_u8; 3];
        pcrs.keys().for_each(|pcr| bits[usize::from(pcr / 8)] |= 1 << (pcr % 8));
        let mut body = vec![0, 0, 0, 1, 0, 0x0B, 3];
        body.extend(bits);
        body.extend([0, 32]);
        body.extend(pcr_digest(&pcrs).0);
        (self.state(0x8018, extra, &body), pcrs)
    }

    fn certify(&mut self, extra: &Digest, name: u8) -> Statement {
        let mut body = vec![0, 4, 0, 11, name, name, 0, 0, 0, 32];
        body.extend(self.chain.unwrap_or(Digest([0; 32])).0);
        self.state(0x8014, extra, &body)
    }
}

/// A box that writes its log as it should, on a TPM that an attacker may take over at any point.
struct Box {
    log: TestSigner,
    witness: TestSigner,
    tpm: SoftTpm,
    levels: Levels,
    leaves: Vec<Vec<u8>>,
    boot: u32,
    at_ms: u64,
    heads: Vec<String>,
    trail: Vec<u64>,
}

impl Box {
    fn new() -> Self {
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
    fn take_over(&mut self, leaves: &[Vec<u8>]) {
        self.boot = 1;
        for leaf in leaves {
            self.levels.append(leaf_hash(leaf));
            self.leaves.push(leaf.clone());
        }
    }

    fn append(&mut self, body: LeafBody) {
        self.at_ms += 100;
        let leaf = Leaf {
            seq: self.leaves.len() as u64,
            wall: WallTime::from_millis(1_800_000_000_000),
            boot: BootNumber(self.boot),
            monotonic: Duration::from_millis(self.at_ms),
            clock_quality: ClockQuality::Ntp,
            body,
        };
        let bytes = leaf.encode();
        self.levels.append(leaf_hash(&bytes));
        self.leaves.push(bytes);
    }

    fn start(&mut self) {
        self.start_as(self.tpm.resets, self.tpm.chain);
    }

    /// With claims about the TPM that may be lies.
    fn start_as(&mut self, resets: u32, chain: Option<Digest>) {
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

    fn work(&mut self, leaves: usize) {
        for number in 0..leaves {
            let outcome = crate::leaf::ConfigOutcome::Applied;
            let digest = Digest::of(&number.to_be_bytes());
            self.append(LeafBody::ConfigChange { digest, outcome });
        }
    }

    fn root(&self) -> Digest {
        self.levels.root_at(self.levels.size()).unwrap()
    }

    /// Signs, extends.
    fn sign(&mut self) -> Digest {
        let (size, root) = (self.levels.size(), self.root());
        self.heads.push(Checkpoint::sign(ORIGIN, size, &root, &self.log).unwrap());
        let head = Digest::of(head_text(ORIGIN, size, &root).as_bytes());
        self.tpm.trail = extended(&self.tpm.trail, &head);
        self.trail.push(size);
        head
    }

    fn anchor(&mut self, head: &Digest) {
        let size = *self.trail.last().unwrap();
        let (quote, pcrs) = self.tpm.quote(head);
        let trail = std::mem::take(&mut self.trail);
        self.append(LeafBody::Anchor(Anchor { size, trail, pcrs, quote }));
    }

    fn chain(&mut self, size: u64, head: &Digest) {
        let before = self.tpm.chain;
        self.tpm.chain = Some(extended(&before.unwrap_or(Digest([0; 32])), head));
        let certified = self.tpm.certify(head, 1);
        self.append(LeafBody::Chain(Chain { size, before, certified }));
    }

    fn cosign(&mut self, seconds: i64) {
        let head = self.heads.last().unwrap().clone();
        let size = Checkpoint::parse_unverified(&head).unwrap().size;
        let text = Note::parse(&head).unwrap().text().to_owned();
        let line = cosign(&text, WallTime::from_seconds(seconds), &self.witness).unwrap();
        let key = CosignatureKey::of(&self.witness).unwrap();
        let leaf = cosigned_leaf(&key, &format!("{text}\n{line}"), size).unwrap();
        self.append(LeafBody::Cosigned(leaf));
    }

    fn boot(&mut self, leaves: usize) {
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

    fn trust(&self) -> Trust {
        Trust {
            attestation_keys: vec![self.tpm.public()],
            witnesses: vec![CosignatureKey::of(&self.witness).unwrap()],
            ..Trust::of_key(ORIGIN, VerifierKey::of(&self.log).unwrap())
        }
    }

    fn report(&self) -> Report {
        report(&self.leaves, &self.heads, self.trust())
    }
}

fn report(leaves: &[Vec<u8>], heads: &[String], trust: Trust) -> Report {
    let key = trust.log_key.clone();
    let mut verifier = LogVerifier::with_trust(trust);
    leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    verifier.finish(&heads, &key)
}

/// Three boots, with a reboot between each.
fn honest() -> Box {
    let mut host = Box::new();
    for leaves in [5, 9, 7] {
        host.boot(leaves);
        host.tpm.reboot();
    }
    host
}

/// Parses, changes and writes leaf `index` anew; hashes are not touched.
fn edit(leaves: &mut [Vec<u8>], index: usize, change: impl FnOnce(&mut Leaf)) {
    let mut leaf = Leaf::decode(&leaves[index]).unwrap();
    change(&mut leaf);
    leaves[index] = leaf.encode();
}

fn place(leaves: &[Vec<u8>], kind: &str) -> usize {
    let is_kind = |leaf: &Vec<u8>| Leaf::decode(leaf).unwrap().body.kind_name() == kind;
    leaves.iter().position(is_kind).unwrap()
}

/// The first fault says so; the twin passes.
fn check(report: &Report, expect: &str) {
    let twin = honest().report();
    assert_eq!(twin.faults, [], "the twin is sound");
    let text = |fault: &Fault| {
        let source = std::error::Error::source(fault).map(|source| format!(": {source}"));
        format!("{fault}{}", source.unwrap_or_default())
    };
    let found: Vec<String> = report.faults.iter().map(text).collect();
    assert!(found.iter().any(|one| one.contains(expect)), "{expect:?} is not in {found:#?}");
}

#[test]
fn an_honest_log_is_vouched_for() {
    let host = honest();
    let report = host.report();
    assert_eq!((&report.faults[..], report.checkpoints_verified), (&[][..], 9));
    let Vouched { anchors, chained, cosigned, .. } = report.vouched;
    assert_eq!((anchors, chained, cosigned), (3, 3, 3));
    let cosigned_at = |boot: i64| Some(1_800_000_000 + boot.cast_unsigned() * 86_400);
    let expect = |boot: u32, before, after| Bracket {
        boot: BootNumber(boot),
        not_before_s: before,
        not_after_s: after,
    };
    // The stop of a boot comes after its own cosignature, so the next one bounds it.
    let brackets = [
        expect(1, None, cosigned_at(2)),
        expect(2, cosigned_at(1), cosigned_at(3)),
        expect(3, cosigned_at(2), None),
    ];
    assert_eq!(report.brackets, brackets);
    assert!(matches!(report.remarks[..], [Remark::OpenEnd { .. }]), "{:?}", report.remarks);
    let own = Trust::of_key(ORIGIN, VerifierKey::of(&host.log).unwrap());
    let own = super::attacks::report(&host.leaves, &host.heads, own);
    assert!(own.is_valid() && own.vouched == Vouched::default());
    assert_eq!(own.remarks.first(), Some(&Remark::OwnWordOnly));
}

#[test]
fn change_an_entry() {
    let host = honest();
    for index in 0..host.leaves.len() {
        let mut leaves = host.leaves.clone();
        edit(&mut leaves, index, |leaf| leaf.wall = WallTime::from_millis(5));
        let report = report(&leaves, &host.heads, host.trust());
        check(&report, "signs another root");
    }
}

#[test]
fn delete_insert_or_reorder() {
    let host = honest();
    let of = |leaves: Vec<Vec<u8>>| report(&leaves, &host.heads, host.trust());
    let mut leaves = host.leaves.clone();
    leaves.remove(4);
    check(&of(leaves), "leaves were moved, added or taken out");
    let mut leaves = host.leaves.clone();
    leaves.insert(4, host.leaves[4].clone());
    check(&of(leaves), "leaves were moved, added or taken out");
    let mut leaves = host.leaves.clone();
    leaves.swap(3, 4);
    check(&of(leaves), "leaves were moved, added or taken out");
}

#[test]
fn truncate_the_tail() {
    let host = honest();
    let leaves = host.leaves[..host.leaves.len() - 2].to_vec();
    check(&report(&leaves, &host.heads, host.trust()), "its end was cut off");
    // With the key of the log stolen the heads go too; then the next start tells.
    let mut host = honest();
    let chained = host.tpm.chain;
    let cut = place(&host.leaves, "tpm.start") + 6;
    let mut other = Box::new();
    std::mem::swap(&mut other.tpm, &mut host.tpm);
    other.take_over(&host.leaves[..cut]);
    assert_eq!(other.tpm.chain, chained);
    other.boot(5);
    check(&other.report(), "the disk was set back, or the chain made anew");
}

/// The journald flaw: a range that is long over, signed with the key of today.
#[test]
fn sign_an_old_range_with_todays_key() {
    let mut host = honest();
    let old = host.levels.size();
    let new = TestSigner::new(ORIGIN, 10);
    let PublicKey::Ed25519(key) = new.public_key() else { unreachable!() };
    let text = rollover_text(ORIGIN, old, &key);
    let by_old = host.log.sign(text.as_bytes()).unwrap().try_into().unwrap();
    host.start();
    let at = host.levels.size();
    let text = rollover_text(ORIGIN, at, &key);
    let right: [u8; 64] = host.log.sign(text.as_bytes()).unwrap().try_into().unwrap();
    let trust = host.trust();
    let rolled = |by_old| LeafBody::KeyRollover(KeyRollover { key, by_old, quote: None });
    let (before, heads) = (host.leaves.clone(), host.heads.clone());
    host.append(rolled(right));
    host.work(2);
    let root = |leaves: &[Vec<u8>], size: usize| {
        let mut levels = Levels::default();
        leaves.iter().for_each(|leaf| levels.append(leaf_hash(leaf)));
        levels.root_at(size as u64).unwrap()
    };
    let size = host.leaves.len();
    let by_new = Checkpoint::sign(ORIGIN, size as u64, &root(&host.leaves, size), &new).unwrap();
    let good = [&heads[..], std::slice::from_ref(&by_new)].concat();
    assert_eq!(report(&host.leaves, &good, trust.clone()).faults, [], "handed over in order");
    let forged = Checkpoint::sign(ORIGIN, 5, &root(&host.leaves, 5), &new).unwrap();
    let bad = [&good[..], std::slice::from_ref(&forged)].concat();
    check(&report(&host.leaves, &bad, trust.clone()), "cannot be trusted");
    let late = Checkpoint::sign(ORIGIN, size as u64, &root(&host.leaves, size), &host.log).unwrap();
    check(&report(&host.leaves, &[late], trust.clone()), "cannot be trusted");
    // Handed over by nobody, or for another place.
    host.leaves = before;
    host.levels = Levels::default();
    host.leaves.iter().for_each(|leaf| host.levels.append(leaf_hash(leaf)));
    host.append(rolled(by_old));
    check(&report(&host.leaves, &heads, trust), "does not hand over");
}

#[test]
fn swap_the_key_of_the_log() {
    let host = honest();
    let other = TestSigner::new(ORIGIN, 77);
    let (size, root) = (host.levels.size(), host.root());
    let head = Checkpoint::sign(ORIGIN, size, &root, &other).unwrap();
    check(&report(&host.leaves, &[head], host.trust()), "cannot be trusted");
}

/// Root takes the box in boot 4, and writes boots 2 and 3 anew, with the log's key and the TPM in hand.
#[test]
fn rewrite_earlier_boots() {
    let mut host = honest();
    let second = host.leaves.iter().position(|leaf| Leaf::decode(leaf).unwrap().boot.0 == 2);
    let prefix = &host.leaves[..second.unwrap()];
    let mut forged = Box::new();
    std::mem::swap(&mut forged.tpm, &mut host.tpm);
    forged.take_over(prefix);
    forged.boot(5);
    // The TPM's chain holds what was, and cannot go back.
    check(&forged.report(), "or the chain made anew");
    // With a start that claims what was then, the certificates of today do not fit.
    let mut liar = Box::new();
    std::mem::swap(&mut liar.tpm, &mut forged.tpm);
    liar.take_over(prefix);
    liar.start_as(41, honest_chain(prefix));
    liar.work(3);
    let head = liar.sign();
    liar.anchor(&head);
    check(&liar.report(), "times when this boot began");
    let mut forged = liar;
    // A log that is new from the first leaf on cannot hide that it is.
    let mut fresh = Box::new();
    std::mem::swap(&mut fresh.tpm, &mut forged.tpm);
    fresh.tpm.reboot();
    fresh.boot(4);
    assert_eq!(fresh.report().faults, []);
    assert_eq!(fresh.report().remarks.first(), Some(&Remark::EarlierLog { index: 1 }));
}

/// The chain is made anew from nothing by whoever may delete and define places in the TPM.
#[test]
fn delete_and_define_the_chain_anew() {
    let mut host = honest();
    host.tpm.chain = None;
    host.boot(4);
    check(&host.report(), "or the chain made anew");
    // Under another place, from the same value on.
    let mut host = honest();
    host.start();
    host.work(2);
    let head = host.sign();
    let size = host.levels.size();
    host.tpm.chain = Some(extended(&host.tpm.chain.unwrap(), &head));
    let before = host.report().faults.len();
    let certified = host.tpm.certify(&head, 2);
    let Some(value) = host.tpm.chain else { unreachable!() };
    let chained = honest_chain(&host.leaves);
    assert_ne!(chained, Some(value));
    host.append(LeafBody::Chain(Chain { size, before: chained, certified }));
    assert_eq!(before, 0);
    check(&host.report(), "the place in the TPM's memory");
}

/// The value after the last chain leaf.
fn honest_chain(leaves: &[Vec<u8>]) -> Option<Digest> {
    let chains = leaves.iter().filter_map(|leaf| match Leaf::decode(leaf).unwrap().body {
        LeafBody::Chain(chain) => Some(chain),
        _ => None,
    });
    let last = chains.fold(None, |_, chain| Some(chain))?;
    let said = crate::tpm::Attestation::parse(last.certified.attested()).unwrap();
    let crate::tpm::Attested::Nv { contents, .. } = said.attested else { unreachable!() };
    Some(Digest(contents.try_into().unwrap()))
}

/// A counter would certify both; the digest over heads takes one.
#[test]
fn certify_one_value_for_two_heads() {
    let mut host = honest();
    host.start();
    host.work(2);
    let head = host.sign();
    let size = host.levels.size();
    host.chain(size, &head);
    host.work(2);
    let other = host.sign();
    let size = host.levels.size();
    // The TPM says again what it has, this time with the other head as the data.
    let before = honest_chain(&host.leaves[..host.leaves.len() - 3]);
    let certified = host.tpm.certify(&other, 1);
    host.append(LeafBody::Chain(Chain { size, before, certified }));
    check(&host.report(), "the digest over heads is");
}

#[test]
fn forge_a_statement_of_the_tpm() {
    let host = honest();
    let at = place(&host.leaves, "anchor");
    let forged = |change: &dyn Fn(&mut Anchor)| {
        let mut leaves = host.leaves.clone();
        edit(&mut leaves, at, |leaf| {
            if let LeafBody::Anchor(anchor) = &mut leaf.body {
                change(anchor);
            }
        });
        report(&leaves, &[], host.trust())
    };
    let bit = |place: usize| {
        move |anchor: &mut Anchor| {
            let mut bytes = anchor.quote.attested().to_vec();
            bytes[place] ^= 1;
            anchor.quote = Statement::new(bytes, anchor.quote.signature().to_vec()).unwrap();
        }
    };
    check(&forged(&bit(12)), "did not sign it");
    check(&forged(&bit(0)), "is no statement of a TPM");
    check(
        &forged(&|anchor| {
            anchor.pcrs.insert(0, Digest([9; 32]));
        }),
        "other registers",
    );
    check(
        &forged(&|anchor| {
            anchor.trail.remove(0);
        }),
        "the register of heads has",
    );
    // A good quote over another head.
    let quotes: Vec<Statement> = host
        .leaves
        .iter()
        .filter_map(|leaf| match Leaf::decode(leaf).unwrap().body {
            LeafBody::Anchor(anchor) => Some(anchor.quote),
            _ => None,
        })
        .collect();
    check(&forged(&|anchor| anchor.quote = quotes[1].clone()), "for other data than this head");
}

#[test]
fn exchange_or_clear_the_tpm() {
    let mut host = honest();
    let trust = host.trust();
    host.tpm = SoftTpm::new();
    host.boot(3);
    let found = report(&host.leaves, &host.heads, trust);
    check(&found, "none of those believed");
    // The same key with fewer resets: its memory was set back by a programmer.
    let mut host = honest();
    host.tpm.resets = 3;
    host.boot(3);
    check(&host.report(), "it was exchanged or cleared");
}

#[test]
fn switch_the_log_off_or_leave_the_anchors_out() {
    let mut host = honest();
    (host.boot, host.at_ms) = (host.boot + 1, 0);
    let program = Program::parse("guan 0.1.0").unwrap();
    host.append(LeafBody::Start { program, spool: SpoolId([1; 16]) });
    host.work(4);
    check(&host.report(), "says nothing of the TPM");
    // A day without anchors is no proof of a crime, and is told.
    let mut host = honest();
    host.start();
    host.work(1);
    host.at_ms += 86_400_000;
    host.work(1);
    let report = host.report();
    assert_eq!(report.faults, []);
    assert!(report.remarks.iter().any(|one| matches!(one, Remark::Unanchored { .. })));
    // Boots that nobody wrote down.
    let mut host = honest();
    host.tpm.resets += 4;
    host.boot(2);
    let report = host.report();
    assert!(
        report.remarks.iter().any(|one| matches!(one, Remark::MissingBoots { missing: 4, .. })),
        "{:?}",
        report.remarks
    );
}

/// Whatever the clock of the box says, the witness's bounds hold.
#[test]
fn backdate_or_postdate() {
    let mut host = honest();
    host.start();
    host.append(LeafBody::ClockStep {
        from: WallTime::from_millis(0),
        to: WallTime::from_millis(9),
    });
    host.sign();
    host.cosign(1_800_000_000 + 10 * 86_400);
    let report = host.report();
    assert_eq!(report.faults, []);
    let last = report.brackets.last().unwrap();
    assert_eq!((last.not_before_s, last.not_after_s), (Some(1_800_000_000 + 3 * 86_400), None));
    let third = &report.brackets[2];
    assert_eq!(third.not_after_s, Some(1_800_000_000 + 10 * 86_400));
}

#[test]
fn a_witness_who_did_not_sign() {
    let host = honest();
    let at = place(&host.leaves, "witness.receipt");
    let forged = |change: &dyn Fn(&mut crate::leaf::Cosigned)| {
        let mut leaves = host.leaves.clone();
        edit(&mut leaves, at, |leaf| {
            if let LeafBody::Cosigned(cosigned) = &mut leaf.body {
                change(cosigned);
            }
        });
        report(&leaves, &[], host.trust())
    };
    check(&forged(&|cosigned| cosigned.timestamp_s += 1), "has not cosigned");
    check(&forged(&|cosigned| cosigned.size -= 1), "has not cosigned");
    let unknown = forged(&|cosigned| cosigned.witness = "nobody".to_owned());
    assert!(unknown.remarks.iter().any(|one| matches!(one, Remark::UnknownWitness { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bit rot, or a hand: no flipped bit of any leaf goes unseen, and nothing panics.
    #[test]
    fn flip_a_bit(leaf: prop::sample::Index, bit: prop::sample::Index) {
        thread_local!(static HOST: Box = honest());
        HOST.with(|host| {
            let mut leaves = host.leaves.clone();
            let leaf = leaf.index(leaves.len());
            let bit = bit.index(leaves[leaf].len() * 8);
            leaves[leaf][bit / 8] ^= 1 << (bit % 8);
            assert!(!report(&leaves, &host.heads, host.trust()).is_valid());
        });
    }
}
