//! Attacks on a log, row by row of research/log.md section 4: each is seen by the party that the table names,
//! and the untouched twin passes, so none is seen by accident.
//!
//! A TPM of software writes what a real one would; end to end the same is tried on an emulator.

pub(crate) mod rig;

use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::{Anchor, Chain, KeyRollover, Program, Statement};
use guan_model::{PublicKey, Signer as _, SpoolId, WallTime};
use proptest::prelude::*;
use rig::{Box, ORIGIN, SoftTpm, attestation_key, extended, honest, report};

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

/// One of the faults says so; the twin passes.
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
    let own = rig::report(&host.leaves, &host.heads, own);
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
    let PublicKey::Ed25519(before) = host.log.public_key() else { unreachable!() };
    let handed_over = handover_text(ORIGIN, &before, &key);
    let (quote, _) = host.tpm.quote(&Digest::of(handed_over.as_bytes()));
    let (other, _) = host.tpm.quote(&Digest::of(b"another"));
    let rolled = |by_old, quote| LeafBody::KeyRollover(KeyRollover { key, by_old, quote });
    let (before, heads) = (host.leaves.clone(), host.heads.clone());
    host.append(rolled(right, Some(quote.clone())));
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
    let mut instead = |body| {
        host.leaves = before.clone();
        host.levels = Levels::default();
        host.leaves.iter().for_each(|leaf| host.levels.append(leaf_hash(leaf)));
        host.append(body);
        report(&host.leaves, &heads, trust.clone())
    };
    check(&instead(rolled(by_old, Some(quote.clone()))), "does not hand over");
    // The old key was stolen, and the thief has no TPM.
    check(&instead(rolled(right, None)), "the TPM of this box says nothing of it");
    check(&instead(rolled(right, Some(other))), "for other data than what this leaf");
    let mut bytes = quote.attested().to_vec();
    bytes[12] ^= 1;
    let forged = Statement::new(bytes, quote.signature().to_vec()).unwrap();
    check(&instead(rolled(right, Some(forged))), "did not sign it");
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
    check(
        &forged(&|anchor| anchor.quote = quotes[1].clone()),
        "for other data than what this leaf",
    );
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

/// Root writes the whole log anew under an attestation key of before, of which nothing is asked, and shows the
/// TPM of today at its end.
#[test]
fn hide_behind_another_attestation_key() {
    let mut host = honest();
    let mut trust = host.trust();
    let old = std::mem::replace(&mut host.tpm.key, attestation_key());
    trust.attestation_keys.push(host.tpm.public());
    let index = host.levels.size() + 1;
    host.boot(4);
    let twin = report(&host.leaves, &host.heads, trust.clone());
    assert_eq!((&twin.faults[..], twin.vouched.chained, twin.vouched.anchors), (&[][..], 4, 4));
    let open = Remark::OpenEnd { from: twin.vouched.anchored_size };
    assert_eq!(twin.remarks, [Remark::KeyChanged { index }, open], "the chain ties the keys");
    let mut forged = Box::new();
    std::mem::swap(&mut forged.tpm, &mut host.tpm);
    let (new, resets) = (std::mem::replace(&mut forged.tpm.key, old), forged.tpm.resets);
    forged.tpm.trail = Digest([0; 32]);
    forged.start_as(resets - 1, None);
    forged.work(20);
    forged.tpm.key = new;
    forged.tpm.trail = Digest([6; 32]);
    let index = forged.levels.size() + 1;
    forged.boot(2);
    let found = report(&forged.leaves, &forged.heads, trust.clone());
    assert_eq!(found.faults, [], "every statement is right, and so are the leaves");
    let told =
        [Remark::UntiedKey { index }, Remark::EarlierLog { index }, Remark::TrailAtStart { index }];
    assert_eq!(found.remarks[..3], told);
    // Where the chain ties the keys, it is held against both.
    for (place, text) in [(1, None), (2, Some("the place in the TPM's memory"))] {
        let mut host = honest();
        let old = host.tpm.public();
        host.tpm.key = attestation_key();
        host.start();
        host.work(2);
        let (head, size, before) = (host.sign(), host.levels.size(), host.tpm.chain);
        host.tpm.chain = Some(extended(&before.unwrap(), &head));
        let certified = host.tpm.certify(&head, place);
        host.append(LeafBody::Chain(Chain { size, before, certified }));
        let mut trust = host.trust();
        trust.attestation_keys.push(old);
        let found = report(&host.leaves, &host.heads, trust);
        match text {
            Some(text) => check(&found, text),
            None => assert_eq!(found.faults, []),
        }
    }
}

/// The register of heads is empty after a reset: what is in it at a start was put there before.
#[test]
fn extend_heads_before_the_start() {
    let mut host = honest();
    host.tpm.trail = Digest([6; 32]);
    let index = host.levels.size() + 1;
    host.boot(2);
    let report = host.report();
    assert_eq!(report.faults, []);
    assert_eq!(report.remarks.first(), Some(&Remark::TrailAtStart { index }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bit rot, or a hand that holds the key of the log and signs all heads anew: TPM and witness each see
    /// every flipped bit of the leaves that they vouch for, and nothing panics.
    #[test]
    fn flip_a_bit(leaf: prop::sample::Index, bit: prop::sample::Index) {
        thread_local!(static HOST: (Box, [(Trust, u64); 2]) = whole());
        HOST.with(|(host, vouching)| {
            let mut leaves = host.leaves.clone();
            let leaf = leaf.index(leaves.len());
            let bit = bit.index(leaves[leaf].len() * 8);
            leaves[leaf][bit / 8] ^= 1 << (bit % 8);
            assert!(!report(&leaves, &host.heads, host.trust()).is_valid());
            let heads = host.signed_anew(&leaves);
            for (trust, vouched) in vouching {
                let is_valid = report(&leaves, &heads, trust.clone()).is_valid();
                prop_assert!(!is_valid || leaf as u64 >= *vouched, "leaf {}", leaf);
            }
            Ok(())
        })?;
    }
}

/// A sound log, and how many leaves of it the TPM alone and the witness alone vouch for.
fn whole() -> (Box, [(Trust, u64); 2]) {
    let host = honest();
    let vouching = [host.trust_in_tpm(), host.trust_in_witness()].map(|trust| {
        let whole = report(&host.leaves, &host.signed_anew(&host.leaves), trust.clone());
        let vouched = whole.vouched.anchored_size.max(whole.vouched.cosigned_size);
        assert!(whole.is_valid() && vouched > 40, "{vouched}");
        (trust, vouched)
    });
    (host, vouching)
}
