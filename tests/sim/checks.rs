//! What must hold at the end of every run.

use crate::world::{Fault, Outcome, Shared};
use guan_evidence::verify::LogVerifier;
use guan_evidence::{Leaf, LeafBody, VerifierKey};
use guan_log::LogReader;
use guan_model::{Digest, Value};
use guan_space::store::{StoredRecord, read_all, read_leaves};
use guan_spool::disk::SimDisk;
use std::collections::BTreeSet;

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

/// What the space holds.
#[derive(Default)]
struct Stored {
    values: Vec<i64>,
    batches: Vec<Digest>,
    foreign: u64,
    rows_in_gaps: u64,
}

fn stored(shared: &Shared) -> Stored {
    let mut stored = Stored::default();
    let read = read_all(&shared.space_disk, &mut |record| {
        match record {
            StoredRecord::Batch(delivery) => {
                stored.batches.push(delivery.digest);
                let decoded = guan_codec::decode(&delivery.bytes).unwrap();
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
    Ok(Outcome { readings: stored.values.len() as u64 })
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
    match named == stored.batches {
        true => Ok(()),
        false => Err(Fault("the space's log does not name the batches that are there".to_owned())),
    }
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
    let mut named: BTreeSet<Digest> = BTreeSet::new();
    let mut denied = 0;
    for leaf in &leaves {
        verifier.handle_leaf(leaf);
        match Leaf::decode(leaf).map(|leaf| leaf.body) {
            Ok(LeafBody::Batch(batch)) => {
                named.insert(batch.batch);
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
    if let Some(batch) = stored.batches.iter().find(|batch| !named.contains(*batch)) {
        return Err(Fault(format!("batch {batch} arrived and is not in the log")));
    }
    if denied != denied_acknowledged {
        return Err(Fault(format!("the log denies {denied} readings of {denied_acknowledged}")));
    }
    Ok(())
}
