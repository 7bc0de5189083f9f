//! What must hold at the end of every run.

use crate::world::{Fault, Outcome, Shared};
use guan_evidence::verify::LogVerifier;
use guan_evidence::{Leaf, LeafBody, VerifierKey};
use guan_log::LogReader;
use guan_model::{BatchHeader, BatchSeq, BootNumber, Digest, StreamId, Value};
use guan_space::store::{Delivery, StoredRecord, read_all, read_leaves};
use guan_spool::disk::SimDisk;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Spoils the log on purpose: index, number of leaves, leaf.
pub(crate) type Edit = fn(usize, usize, Vec<u8>) -> Option<Vec<u8>>;

fn fault(text: String) -> Result<Outcome, Fault> {
    Err(Fault(text))
}

fn reader(shared: &Shared) -> LogReader<SimDisk> {
    let mut journal = Vec::new();
    let read = guan_spool::spool::verify(&shared.spool_disk, &mut |place, leaf| {
        journal.push((place, bytes::Bytes::copy_from_slice(leaf)));
    });
    read.unwrap();
    LogReader::open(shared.log_disk.clone(), None, journal).unwrap()
}

/// Leaves of the bundles, then what the spool still holds.
fn leaves(shared: &Shared) -> Vec<Vec<u8>> {
    let mut leaves = Vec::new();
    reader(shared).for_each(&mut |_, leaf| leaves.push(leaf.to_vec())).unwrap();
    leaves
}

/// A batch as the space holds it. The box committed them in this order of boot, moment and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Came {
    pub(crate) boot: BootNumber,
    pub(crate) committed: Duration,
    pub(crate) seq: BatchSeq,
    pub(crate) stream: StreamId,
    pub(crate) batch: Digest,
}

/// What the space holds.
#[derive(Default)]
struct Stored {
    values: Vec<i64>,
    batches: Vec<Came>,
    foreign: u64,
    rows_in_gaps: u64,
}

impl Came {
    fn of(delivery: &Delivery, header: &BatchHeader) -> Self {
        let (boot, committed) = (header.boot, header.monotonic);
        let (stream, seq, batch) = (delivery.stream, delivery.seq, delivery.digest);
        Self { boot, committed, seq, stream, batch }
    }
}

/// The batches that the space has, in the order in which they came.
pub(crate) fn came(shared: &Shared) -> Vec<Came> {
    stored(shared).batches
}

fn stored(shared: &Shared) -> Stored {
    let mut stored = Stored::default();
    let read = read_all(&shared.space_disk, &mut |record| {
        match record {
            StoredRecord::Batch(delivery) => {
                let decoded = guan_codec::decode(&delivery.bytes).unwrap();
                stored.batches.push(Came::of(&delivery, &decoded.batch.header));
                if delivery.dataset.as_str() != "granted" {
                    stored.foreign += 1;
                }
                for row in decoded.batch.iter_rows() {
                    let Some(Value::I64(value)) = row.value else { panic!("{row:?}") };
                    stored.values.push(value);
                }
            }
            StoredRecord::Gap(gap) => stored.rows_in_gaps += gap.rows,
            _ => {}
        }
        Ok(())
    });
    read.unwrap();
    stored
}

pub(crate) fn check(shared: &Shared, key: &VerifierKey, edit: Edit) -> Result<Outcome, Fault> {
    let ledger = shared.ledger.lock().unwrap();
    let stored = stored(shared);
    let unique: BTreeSet<i64> = stored.values.iter().copied().collect();
    let missing = ledger.acknowledged.difference(&unique).count();
    if missing > 0 {
        return fault(format!("{missing} readings were acknowledged and missing in the space"));
    }
    if unique.len() < stored.values.len() {
        return fault(format!("{} readings are stored twice", stored.values.len() - unique.len()));
    }
    let unknown = unique.difference(&ledger.sent).count();
    if unknown > 0 || stored.foreign > 0 {
        return fault(format!("{unknown} readings and {} batches nobody may send", stored.foreign));
    }
    if stored.rows_in_gaps > 0 {
        return fault(format!("{} readings were given up", stored.rows_in_gaps));
    }
    check_log(shared, key, edit, &stored, ledger.denied)?;
    check_space_log(shared, &stored)?;
    let overtaking = overtaking(&stored.batches);
    let streams: BTreeSet<StreamId> = stored.batches.iter().map(|one| one.stream).collect();
    let (readings, streams) = (stored.values.len() as u64, streams.len() as u64);
    Ok(Outcome { readings, overtaking, streams })
}

/// The space's own log is whole, and names exactly the batches that the space has.
fn check_space_log(shared: &Shared, stored: &Stored) -> Result<(), Fault> {
    let journal = read_leaves(&shared.space_disk, shared.space_disk.clone()).unwrap();
    let reader = LogReader::open(shared.space_disk.clone(), None, journal).unwrap();
    let (mut verifier, mut named) = (LogVerifier::new(), Vec::new());
    let read = reader.for_each(&mut |_, bytes| {
        verifier.handle_leaf(bytes);
        if let Ok(LeafBody::Received(one)) = Leaf::decode(bytes).map(|leaf| leaf.body) {
            named.push(one.batch);
        }
    });
    read.unwrap();
    let head = reader.checkpoint().unwrap();
    let heads: Vec<&str> = head.iter().map(String::as_str).collect();
    let key = VerifierKey::of(shared.space_log_key.as_ref()).unwrap();
    let mut report = verifier.finish(&heads, &key);
    // A run may end before its first head.
    report.faults.retain(|fault| *fault != guan_evidence::Fault::Unsigned);
    if !report.is_valid() {
        return Err(Fault(format!("the space's log is not valid: {:?}", report.faults)));
    }
    let there = stored.batches.iter().map(|came| came.batch);
    match named.iter().copied().eq(there) {
        true => Ok(()),
        false => Err(Fault("the space's log does not name the batches that are there".to_owned())),
    }
}

/// What the space has, sorted by what it knows of each batch, is what the box's log names, in the order of the log;
/// whichever came first.
fn check_order(came: &[Came], named: &[(StreamId, BatchSeq, Digest)]) -> Result<(), Fault> {
    // Within a stream nothing overtakes, whatever it knows of itself.
    let mut latest: BTreeMap<StreamId, BatchSeq> = BTreeMap::new();
    for one in came {
        if latest.insert(one.stream, one.seq).is_some_and(|before| before > one.seq) {
            return Err(Fault(format!("{one:?} arrived after a later one of its stream")));
        }
    }
    let mut sorted = came.to_vec();
    sorted.sort();
    let mut named = named.iter();
    for one in &sorted {
        let place = (one.stream, one.seq, one.batch);
        if !named.any(|name| *name == place) {
            return Err(Fault(format!(
                "{one:?} arrived and is not in the log, or not in its order"
            )));
        }
    }
    Ok(())
}

/// How many came before one that was committed earlier.
fn overtaking(came: &[Came]) -> u64 {
    let mut earliest_after = None;
    let mut count = 0;
    for one in came.iter().rev() {
        count += u64::from(earliest_after.is_some_and(|after| after < one));
        earliest_after = Some(earliest_after.map_or(one, |after| one.min(after)));
    }
    count
}

#[test]
fn another_order_than_that_of_the_log_is_seen() {
    let came = |stream, seq, millis| Came {
        boot: BootNumber(1),
        committed: Duration::from_millis(millis),
        seq: BatchSeq(seq),
        stream: StreamId(stream),
        batch: Digest([u8::try_from(millis).unwrap(); 32]),
    };
    let (first, second, third) = (came(9, 1, 10), came(9, 2, 20), came(17, 1, 30));
    let named = [first, second, third].map(|one| (one.stream, one.seq, one.batch));
    check_order(&[third, first, second], &named).unwrap();
    check_order(&[third, second, first], &named).unwrap_err();
    assert_eq!(overtaking(&[third, first, second]), 1);
    assert_eq!(overtaking(&[first, second, third]), 0);
    // The same moment in both streams of a lane: nobody can tell which was first.
    let same = Came { committed: second.committed, ..third };
    assert!(check_order(&[first, second, same], &named).is_err());
    let early = Came { committed: Duration::ZERO, ..third };
    assert!(check_order(&[first, second, early], &named).is_err());
}

/// The log is whole, signed, and names every batch that the space has.
fn check_log(
    shared: &Shared,
    key: &VerifierKey,
    edit: Edit,
    stored: &Stored,
    denied_acknowledged: u64,
) -> Result<(), Fault> {
    let leaves = leaves(shared);
    let count = leaves.len();
    let edited =
        leaves.into_iter().enumerate().filter_map(|(index, leaf)| edit(index, count, leaf));
    let leaves: Vec<Vec<u8>> = edited.collect();
    let mut verifier = LogVerifier::new();
    let mut named = Vec::new();
    let mut denied = 0;
    for leaf in &leaves {
        verifier.handle_leaf(leaf);
        match Leaf::decode(leaf).map(|leaf| leaf.body) {
            Ok(LeafBody::Batch(batch)) => {
                named.push((batch.stream, batch.seq, batch.batch));
            }
            Ok(LeafBody::Decision(decision)) => denied += decision.denied.values().sum::<u64>(),
            _ => {}
        }
    }
    let head = reader(shared).checkpoint().unwrap();
    let heads: Vec<&str> = head.iter().map(String::as_str).collect();
    let report = verifier.finish(&heads, key);
    if !report.is_valid() {
        return Err(Fault(format!("the log is not valid: {:?}", report.faults)));
    }
    check_order(&stored.batches, &named)?;
    if denied != denied_acknowledged {
        return Err(Fault(format!("the log denies {denied} readings of {denied_acknowledged}")));
    }
    Ok(())
}
