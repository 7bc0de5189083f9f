use super::*;
use crate::checkpoint::tests::TestSigner;
use crate::leaf::{BatchAccepted, DataGap, DecisionSummary, GapReason, Program, Refill};
use crate::tree::Tree;
use guan_model::{ClockQuality, ContractId, SpoolId, WallTime};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ORIGIN: &str = "guan/box-7";

fn signer() -> TestSigner {
    TestSigner::new(ORIGIN, 9)
}

fn key() -> VerifierKey {
    VerifierKey::of(&signer()).unwrap()
}

fn start(spool: u8) -> LeafBody {
    let program = Program::parse("guan 0.1.0").unwrap();
    LeafBody::Start { program, spool: SpoolId([spool; 16]) }
}

fn decision(permitted: u64) -> LeafBody {
    LeafBody::Decision(DecisionSummary {
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        plan: Digest([2; 32]),
        permitted,
        masked: 0,
        denied: BTreeMap::new(),
    })
}

fn batch_under(plan: u8, seq: u64, rows: u64) -> LeafBody {
    LeafBody::Batch(BatchAccepted {
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        contract: ContractId::parse("C-1").unwrap(),
        contract_digest: Digest([1; 32]),
        plan: Digest([plan; 32]),
        batch: Digest([4; 32]),
        rows,
        stream: StreamId(1),
        seq: BatchSeq(seq),
        permission: None,
    })
}

fn batch(seq: u64, rows: u64) -> LeafBody {
    batch_under(2, seq, rows)
}

fn gap(from: u64, through: u64) -> LeafBody {
    LeafBody::DataGap(DataGap {
        stream: StreamId(1),
        from: BatchSeq(from),
        through: BatchSeq(through),
        rows: 1,
        reason: GapReason::QuotaBytes,
    })
}

fn leaf(seq: u64, boot: u32, at_ms: u64, body: LeafBody) -> Vec<u8> {
    Leaf {
        seq,
        wall: WallTime::from_millis(1_800_000_000_000),
        boot: BootNumber(boot),
        monotonic: Duration::from_millis(at_ms),
        clock_quality: ClockQuality::Rtc,
        actor: None,
        body,
    }
    .encode()
}

fn log(bodies: Vec<LeafBody>) -> Vec<Vec<u8>> {
    let numbered = bodies.into_iter().zip(0_u64..);
    numbered.map(|(body, seq)| leaf(seq, 1, seq, body)).collect()
}

/// Starts, then `count` times a decision and its batch.
fn good_log(count: u64) -> Vec<Vec<u8>> {
    let batches = (1..=count).flat_map(|seq| [decision(9), batch(seq, 9)]);
    log([start(7)].into_iter().chain(batches).collect())
}

fn head(leaves: &[Vec<u8>], size: usize) -> String {
    let mut tree = Tree::new();
    for leaf in &leaves[..size] {
        tree.append(leaf_hash(leaf));
    }
    Checkpoint::sign(ORIGIN, tree.size(), &tree.root(), &signer()).unwrap()
}

fn verify(leaves: &[Vec<u8>], heads: &[String]) -> Report {
    let mut verifier = LogVerifier::new();
    leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    verifier.finish(&heads, &key())
}

fn check(leaves: &[Vec<u8>], expect: &[Fault]) {
    assert_eq!(verify(leaves, &[head(leaves, leaves.len())]).faults, expect);
}

#[test]
fn a_good_log() {
    let leaves = good_log(10);
    let heads = [head(&leaves, 21), head(&leaves, 4), head(&leaves, 18)];
    let report = verify(&leaves, &heads);
    assert!(report.is_valid(), "{:?}", report.faults);
    assert_eq!((report.entries, report.signed_entries), (21, 21));
    assert_eq!((report.batches, report.rows), (10, 90));
    assert_eq!((report.checkpoints_verified, report.origin.as_deref()), (3, Some(ORIGIN)));
    let report = verify(&leaves, &heads[1..]);
    assert!(report.is_valid() && report.signed_entries == 18);
    assert_eq!(verify(&leaves, &[]).faults, [Fault::Unsigned]);
    assert!(verify(&[], &[]).is_valid());
}

#[test]
fn every_cut_is_seen() {
    let leaves = good_log(20);
    let heads = [head(&leaves, leaves.len())];
    for entries in 1..leaves.len() {
        let report = verify(&leaves[..entries], &heads);
        let (size, entries) = (leaves.len() as u64, entries as u64);
        let expect = [Fault::Truncated { number: 0, size, entries }, Fault::Unsigned];
        assert_eq!(report.faults, expect);
    }
}

#[test]
fn every_bit_flip_is_seen_and_its_range_named() {
    let leaves = good_log(3);
    let heads = [head(&leaves, 3), head(&leaves, 7)];
    for (index, leaf) in leaves.iter().enumerate() {
        for bit in 0..leaf.len() * 8 {
            let mut changed = leaves.clone();
            changed[index][bit / 8] ^= 1 << (bit % 8);
            let report = verify(&changed, &heads);
            let (from, number) = if index < 3 { (0, 0) } else { (3, 1) };
            let altered = Fault::Altered { number, from, through: if index < 3 { 2 } else { 6 } };
            assert!(report.faults.contains(&altered), "bit {bit} of leaf {index}: {report:?}");
        }
    }
}

#[test]
fn moved_added_and_missing_leaves_are_seen() {
    let good = good_log(3);
    let heads = [head(&good, 7)];
    let mut swapped = good.clone();
    swapped.swap(3, 5);
    let mut added = good.clone();
    added.insert(4, good[3].clone());
    let mut missing = good.clone();
    missing.remove(2);
    for leaves in [swapped, added, missing] {
        let faults = verify(&leaves, &heads).faults;
        assert!(faults.iter().any(|fault| matches!(fault, Fault::Seq { .. })), "{faults:?}");
        let unsigned =
            |fault: &Fault| matches!(fault, Fault::Altered { .. } | Fault::Truncated { .. });
        assert!(faults.iter().any(unsigned), "{faults:?}");
    }
}

#[test]
fn boots_and_monotonic_time_only_rise() {
    let of = |moments: &[(u32, u64, bool)]| {
        let leaves = moments.iter().zip(0_u64..).map(|((boot, at, is_start), seq)| {
            leaf(seq, *boot, *at, if *is_start { start(7) } else { LeafBody::Stop })
        });
        leaves.collect::<Vec<_>>()
    };
    check(&of(&[(1, 5, true), (1, 5, false), (3, 0, true), (3, 9, true)]), &[]);
    let (boot, last) = (BootNumber(1), BootNumber(2));
    check(&of(&[(2, 5, true), (1, 6, true)]), &[Fault::BootBack { index: 1, boot, last }]);
    let (at, last) = (Duration::from_millis(4), Duration::from_millis(5));
    check(&of(&[(1, 5, true), (1, 4, false)]), &[Fault::MonotonicBack { index: 1, at, last }]);
    check(&of(&[(1, 5, false)]), &[Fault::NoStart { index: 0, boot }]);
    let boot = BootNumber(2);
    check(&of(&[(1, 5, true), (2, 5, false)]), &[Fault::NoStart { index: 1, boot }]);
}

#[test]
fn no_batch_without_a_decision() {
    let bodies = |rest: &[LeafBody]| log([&[start(7)], rest].concat());
    let refused = |index, rows, permitted| {
        [Fault::NotPermitted {
            index,
            dataset: DatasetId::parse("vessel-bus").unwrap(),
            rows,
            permitted,
        }]
    };
    check(&bodies(&[batch(1, 5)]), &refused(1, 5, 0));
    check(&bodies(&[decision(5), batch(1, 6)]), &refused(2, 6, 5));
    check(&bodies(&[decision(5), batch(1, 3), batch(2, 2)]), &[]);
    check(&bodies(&[decision(5), batch(1, 3), batch(2, 3)]), &refused(3, 3, 2));
    check(&bodies(&[decision(5), batch_under(3, 1, 5)]), &refused(2, 5, 0));
    // What one decision left over does not add to the next.
    check(&bodies(&[decision(5), decision(1), batch(1, 5)]), &refused(3, 5, 1));
    check(&bodies(&[decision(5), batch(1, 0)]), &[Fault::EmptyBatch { index: 2 }]);
}

#[test]
fn holes_in_a_stream_need_a_recorded_gap() {
    let hole = |index, from, through| {
        let (from, through) = (BatchSeq(from), BatchSeq(through));
        Fault::Hole { index, stream: StreamId(1), from, through }
    };
    let of = |rest: &[LeafBody]| {
        let decided = rest.iter().flat_map(|body| [decision(1), body.clone()]);
        log([start(7)].into_iter().chain(decided).collect())
    };
    check(&of(&[batch(1, 1), batch(4, 1)]), &[hole(4, 2, 3)]);
    check(&of(&[batch(2, 1)]), &[hole(2, 1, 1)]);
    check(&of(&[batch(1, 1), gap(2, 3), batch(4, 1)]), &[]);
    check(&of(&[batch(1, 1), batch(4, 1), gap(2, 3)]), &[]);
    check(&of(&[batch(1, 1), batch(5, 1), gap(3, 3)]), &[hole(4, 2, 2), hole(4, 4, 4)]);
    check(&of(&[gap(1, 2), gap(4, 9), batch(6, 1), batch(10, 1)]), &[hole(6, 3, 3)]);
    check(&of(&[batch(1, 1), batch(4, 1), gap(2, 2)]), &[hole(4, 3, 3)]);
    check(&of(&[batch(1, 1), batch(4, 1), gap(3, 3)]), &[hole(4, 2, 2)]);
    check(&of(&[gap(2, 1)]), &[Fault::GapRange { index: 2 }]);
    let expected = BatchSeq(3);
    let back = Fault::SeqBack { index: 6, stream: StreamId(1), seq: BatchSeq(2), expected };
    check(&of(&[batch(1, 1), batch(2, 1), batch(2, 1)]), &[back]);
    // A new spool counts from 1 again, the same spool goes on.
    check(&of(&[batch(1, 1), start(8), batch(1, 1)]), &[]);
    check(&of(&[batch(1, 1), start(7), batch(2, 1)]), &[]);
    check(&of(&[batch(2, 1), start(8), gap(1, 1)]), &[hole(2, 1, 1)]);
}

/// Every second batch is missing and explained afterwards; holes beyond the limit are not kept open.
#[test]
fn open_holes_are_bounded() {
    let of = |holes: usize| {
        let seqs = (1..=holes as u64).map(|hole| hole * 2);
        let batches = seqs.flat_map(|seq| [decision(1), batch(seq, 1)]);
        let end = gap(1, holes as u64 * 2);
        let leaves = log([start(7)].into_iter().chain(batches).chain([end]).collect());
        verify(&leaves, &[head(&leaves, leaves.len())]).faults.len()
    };
    assert_eq!(of(rules::RANGES_MAX), 0);
    assert_eq!(of(rules::RANGES_MAX + 1), 1);
    // One hole that gaps split again and again: those beyond the limit are told at once.
    let split = |holes: u64| {
        let gaps = (1..holes).map(|number| gap(number * 2, number * 2));
        let (last, end) = (holes * 2 + 10, gap(1, holes * 2 + 9));
        let bodies = [start(7), decision(1), batch(last, 1)].into_iter().chain(gaps).chain([end]);
        let leaves = log(bodies.collect());
        verify(&leaves, &[head(&leaves, leaves.len())]).faults.len()
    };
    assert_eq!(split(rules::RANGES_MAX as u64), 0);
    assert_eq!(split(rules::RANGES_MAX as u64 + 1), 1);
    // A gap that was passed makes room for the next one.
    let passed = (1..=rules::RANGES_MAX as u64 + 1).map(|gap| gap * 2);
    let pairs = passed.flat_map(|seq| [gap(seq - 1, seq - 1), decision(1), batch(seq, 1)]);
    check(&log([start(7)].into_iter().chain(pairs).collect()), &[]);
}

#[test]
fn lost_leaves_are_a_fault_even_when_recorded() {
    let lost = LeafBody::LogGap { from: 3, through: 5, reason: GapReason::Damage, refill: None };
    let expect = [Fault::LeavesLost { index: 1, from: 3, through: 5 }];
    check(&log(vec![start(7), lost]), &expect);
}

#[test]
fn checkpoints_of_others_are_faults() {
    let leaves = good_log(2);
    let good = head(&leaves, 5);
    let root = Digest([0; 32]);
    let other = Checkpoint::sign("guan/other", 5, &root, &signer()).unwrap();
    let stranger = TestSigner::new(ORIGIN, 8);
    let forged = Checkpoint::sign(ORIGIN, 5, &root, &stranger).unwrap();
    let report = verify(&leaves, &[good, other, forged, "?".to_owned()]);
    let expect =
        Fault::Origin { number: 1, found: "guan/other".to_owned(), expected: ORIGIN.to_owned() };
    assert_eq!(report.faults[0], expect);
    assert!(matches!(report.faults[1], Fault::Checkpoint { number: 2, .. }));
    assert!(matches!(report.faults[2], Fault::Checkpoint { number: 3, .. }));
    assert_eq!((report.faults.len(), report.checkpoints_verified), (3, 1));
}

#[test]
fn limit_is_exact() {
    let of = |faults: usize| {
        let mut verifier = LogVerifier::new();
        (0..faults).for_each(|_| verifier.handle_leaf(b"?"));
        let mut tree = Tree::new();
        for _ in 0..faults {
            tree.append(leaf_hash(b"?"));
        }
        let head = Checkpoint::sign(ORIGIN, tree.size(), &tree.root(), &signer()).unwrap();
        let report = verifier.finish(&[&head], &key());
        (report.faults.len(), report.faults_left_out)
    };
    assert_eq!(of(FAULTS_MAX), (FAULTS_MAX, 0));
    assert_eq!(of(FAULTS_MAX + 1), (FAULTS_MAX, 1));
}

proptest! {
    #[test]
    fn any_leaves_give_an_answer(
        leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
        heads in prop::collection::vec(any::<String>(), 0..3),
    ) {
        let report = verify(&leaves, &heads);
        prop_assert_eq!(report.entries, leaves.len() as u64);
        prop_assert_eq!(report.is_valid(), leaves.is_empty() && heads.is_empty());
    }

    /// Whatever of a good log is forgotten or repeated, the signed head shows it.
    #[test]
    fn only_the_signed_leaves_pass(
        order in prop::collection::vec(0_usize..9, 0..12),
    ) {
        let good = good_log(4);
        let leaves: Vec<Vec<u8>> = order.iter().map(|at| good[*at].clone()).collect();
        let report = verify(&leaves, &[head(&good, 9)]);
        prop_assert_eq!(report.is_valid(), leaves == good);
    }
}

/// A log that follows a lost one begins with what it follows, then with a start.
#[test]
fn an_epoch_begins_before_its_start() {
    let epoch = LeafBody::EpochStart(crate::leaf::EpochStart {
        previous: ORIGIN.to_owned(),
        size: 1,
        root: Digest([1; 32]),
        signed: 2,
        cosigned: 0,
        reason: GapReason::Damage,
    });
    let check = |bodies: Vec<LeafBody>, faults: &[Fault]| {
        let leaves = log(bodies);
        let mut verifier = LogVerifier::new();
        leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
        assert_eq!(verifier.finish(&[&head(&leaves, leaves.len())], &key()).faults, faults);
    };
    let boot = BootNumber(1);
    check(vec![epoch.clone(), start(7)], &[]);
    check(vec![epoch.clone(), LeafBody::Stop], &[Fault::NoStart { index: 1, boot }]);
    check(vec![epoch.clone(), epoch], &[Fault::NoStart { index: 1, boot }]);
}

/// Leaves that came back end the fault about them, if they are those that the leaf names.
#[test]
fn refilled_leaves_are_no_fault_any_more() {
    let full: Vec<LeafBody> =
        std::iter::once(start(7)).chain((1..256).map(|_| LeafBody::Stop)).collect();
    let encoded = log(full.clone());
    let mut tree = Tree::new();
    encoded.iter().for_each(|leaf| _ = tree.append(leaf_hash(leaf)));
    let gap = |refill: Option<Refill>| LeafBody::LogGap {
        from: 0,
        through: 255,
        reason: GapReason::Damage,
        refill,
    };
    let of = |more: Vec<LeafBody>| log(full.iter().cloned().chain(more).collect());
    let back = |root, epoch| gap(Some(Refill { root, epoch }));
    let lost = |index| Fault::LeavesLost { index, from: 0, through: 255 };
    check(&of(vec![gap(None)]), &[lost(256)]);
    check(&of(vec![gap(None), back(tree.root(), None)]), &[]);
    check(&of(vec![gap(None), back(tree.root(), None), gap(None)]), &[lost(258)]);
    let refilled = Fault::Refilled { index: 257, from: 0, through: 255 };
    check(&of(vec![gap(None), back(Digest([1; 32]), None)]), &[refilled, lost(256)]);
    // Those of an epoch that has ended say nothing of this log.
    check(&of(vec![gap(None), back(tree.root(), Some(1))]), &[lost(256)]);
    // A range that is no bundle is no refill of ours.
    let odd = LeafBody::LogGap {
        from: 1,
        through: 3,
        reason: GapReason::Damage,
        refill: Some(Refill { root: tree.root(), epoch: None }),
    };
    check(&of(vec![odd]), &[Fault::Refilled { index: 256, from: 1, through: 3 }]);
}
