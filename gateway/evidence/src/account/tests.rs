use super::*;
use crate::leaf::{ContractOutcome, DataGap, Forwarded, Program};
use guan_model::{BootNumber, ClockQuality, DatasetId, Digest, WallTime};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const DIGEST: Digest = Digest([7; 32]);
const STREAM: StreamId = StreamId(3);

fn contract(name: &str) -> ContractId {
    ContractId::parse(name).unwrap()
}

fn leaf(day: i64, body: LeafBody) -> Leaf {
    Leaf {
        seq: 0,
        wall: WallTime::from_millis(day * DAY_MS),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Ntp,
        actor: None,
        body,
    }
}

fn start(spool: u8) -> LeafBody {
    LeafBody::Start { program: Program::parse("guan test").unwrap(), spool: SpoolId([spool; 16]) }
}

/// Batch `seq` has as many rows as its number says.
fn batch(name: &str, seq: u64) -> LeafBody {
    LeafBody::Batch(BatchAccepted {
        dataset: DatasetId::parse("d").unwrap(),
        contract: contract(name),
        contract_digest: DIGEST,
        plan: DIGEST,
        batch: DIGEST,
        rows: seq,
        stream: STREAM,
        seq: BatchSeq(seq),
        permission: None,
    })
}

fn gap(stream: StreamId, from: u64, through: u64) -> LeafBody {
    let (from, through) = (BatchSeq(from), BatchSeq(through));
    LeafBody::DataGap(DataGap { stream, from, through, rows: 0, reason: GapReason::Shredded })
}

fn sent(from: u64, through: u64) -> LeafBody {
    LeafBody::Forwarded(Forwarded {
        stream: STREAM,
        from: BatchSeq(from),
        through: BatchSeq(through),
        log: "space".to_owned(),
        first: 0,
        last: 0,
        root: DIGEST,
    })
}

fn ended(name: &str) -> LeafBody {
    LeafBody::ContractChange {
        contract: contract(name),
        version: 1,
        digest: DIGEST,
        plan: DIGEST,
        outcome: ContractOutcome::Destroyed,
    }
}

proptest! {
    #[test]
    fn ranges_hold_what_was_put_in(
        puts in prop::collection::vec((0_u64..60, 0_u64..8), 0..30),
        asks in prop::collection::vec((0_u64..70, 0_u64..6), 20),
    ) {
        let (mut ranges, mut plain) = (Ranges::default(), BTreeSet::new());
        for (from, more) in puts {
            ranges.insert(from, from + more);
            plain.extend(from..=from + more);
        }
        for (from, more) in asks {
            let expect = plain.range(from..=from + more).next().is_some();
            prop_assert_eq!(ranges.overlaps(from, from + more), expect);
        }
        let apart = ranges.0.iter().zip(ranges.0.keys().skip(1));
        prop_assert!(apart.into_iter().all(|((_, last), next)| last + 1 < *next));
    }
}

#[test]
fn ranges_take_the_last_number_and_nothing_backwards() {
    let mut ranges = Ranges::default();
    ranges.insert(u64::MAX, u64::MAX);
    ranges.insert(5, 4);
    ranges.insert(u64::MAX - 1, u64::MAX - 1);
    assert_eq!(ranges.0, BTreeMap::from([(u64::MAX - 1, u64::MAX)]));
}

#[test]
fn the_leaves_about_a_contract_are_chosen() {
    let check = |leaves: &[LeafBody], expect: &[usize]| {
        let mut about = About::new(contract("A"));
        let chosen = leaves.iter().enumerate();
        let chosen = chosen.filter(|(_, body)| about.handle_leaf(&leaf(0, (*body).clone())));
        assert_eq!(chosen.map(|(index, _)| index).collect::<Vec<_>>(), expect);
    };
    check(&[batch("A", 1), batch("B", 2), ended("A"), ended("B")], &[0, 2]);
    check(&[batch("A", 5), gap(STREAM, 1, 4), gap(STREAM, 5, 9), gap(StreamId(4), 5, 5)], &[0, 2]);
    check(&[batch("A", 5), sent(4, 4), sent(1, 5), sent(6, 6)], &[0, 2]);
    // The oldest leaves were pruned, and the start with them.
    check(&[batch("A", 5), start(1), gap(STREAM, 5, 5), gap(STREAM, 6, 6)], &[0, 2]);
    // The numbers of another spool are of other batches.
    check(&[start(1), batch("A", 5), start(2), gap(STREAM, 5, 5), start(1), sent(5, 5)], &[1, 5]);
}

#[test]
fn each_batch_is_counted_once_with_what_became_of_it() {
    let leaves = [
        leaf(10, start(1)),
        leaf(10, batch("A", 1)),
        leaf(10, batch("B", 2)),
        leaf(11, batch("A", 3)),
        leaf(11, batch("A", 4)),
        leaf(11, batch("A", 5)),
        leaf(12, gap(STREAM, 3, 4)),
        leaf(12, sent(1, 3)),
        leaf(12, start(2)),
        leaf(12, batch("A", 4)),
    ];
    let mut fates = Fates::default();
    leaves.iter().for_each(|leaf| fates.handle_leaf(leaf));
    let mut account = Account::new(&fates);
    let counted: Vec<_> = leaves.iter().map(|leaf| account.handle_leaf(leaf, true)).collect();
    assert_eq!(counted.iter().flatten().count(), 6);
    let last = counted[9].as_ref().unwrap();
    assert_eq!((last.spool, last.fate), (Some(SpoolId([2; 16])), None));
    assert_eq!(account.left_out(), 0);
    let lines = account.lines();
    let check = |name: &str, day, kept, sent, gone| {
        let line = &lines[&(contract(name), day)];
        let sum = |(batches, rows)| Sum { batches, rows };
        assert_eq!((line.kept, line.sent, line.given_up()), (sum(kept), sum(sent), sum(gone)));
    };
    check("A", 10, (1, 1), (1, 1), (0, 0));
    check("B", 10, (1, 2), (1, 2), (0, 0));
    // What the space has, it has, whatever the box gave up.
    check("A", 11, (3, 12), (1, 3), (1, 4));
    check("A", 12, (1, 4), (0, 0), (0, 0));
    assert_eq!(lines.len(), 4);
}

#[test]
fn an_account_has_a_limit() {
    let fates = Fates::default();
    let mut account = Account::new(&fates);
    for day in 0..=i64::try_from(LINES_MAX).unwrap() {
        account.handle_leaf(&leaf(day, batch("A", 1)), false);
    }
    account.handle_leaf(&leaf(0, batch("A", 2)), true);
    assert_eq!(account.left_out(), 1);
    let lines = account.lines();
    assert_eq!(lines.len(), LINES_MAX);
    let first = &lines[&(contract("A"), 0)];
    let sum = |batches, rows| Sum { batches, rows };
    assert_eq!((first.kept, first.proven), (sum(2, 3), sum(1, 2)));
}
