//! Reads a whole log as an auditor does and says everything that is wrong with it.
//!
//! Trusts nothing but the key: hashes come from the bytes of the leaves, roots from the hashes. Beyond
//! the tree it checks the product's own rules (`rules`): no batch without a decision, no hole in a
//! stream that is not recorded. Memory grows by 64 bytes a leaf, lists of faults are bounded.

mod attested;
mod outside;
mod pruned;
mod rules;
mod trust;

pub use attested::StatementFault;
pub use outside::{LOG_KEYS_MAX, Vouched};
pub use pruned::PrunedVerifier;
pub use trust::{ATTESTATION_KEYS_MAX, Bracket, Remark, Trust, handover_text, rollover_text};

use crate::bundle::BUNDLE_LEAVES_MAX;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::leaf::{Leaf, LeafBody, LeafError};
use crate::note::VerifierKey;
use crate::subtrees::Nodes;
use crate::tree::{Levels, leaf_hash};
use guan_model::{BatchSeq, BootNumber, DatasetId, Digest, StreamId};
use outside::Outside;
use rules::ProductRules;
use std::time::Duration;

/// Most faults that a report lists; the rest is counted.
pub const FAULTS_MAX: usize = 1000;

/// Level of the hash of a whole bundle.
const BUNDLE_LEVEL: u32 = BUNDLE_LEAVES_MAX.ilog2();

/// Something that is wrong with a log. `index` is that of the leaf at which it shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("leaf {index} cannot be read")]
    Leaf { index: u64, source: LeafError },
    #[error("leaf {index} says that it is number {seq}; leaves were moved, added or taken out")]
    Seq { index: u64, seq: u64 },
    #[error("leaf {index} is of boot {boot}, after one of boot {last}")]
    BootBack { index: u64, boot: BootNumber, last: BootNumber },
    #[error("boot {boot} does not begin with a start at leaf {index}")]
    NoStart { index: u64, boot: BootNumber },
    #[error("leaf {index} is of {at:?} after the boot, the leaf before it of {last:?}")]
    MonotonicBack { index: u64, at: Duration, last: Duration },
    #[error("leaf {index} accepts a batch without rows")]
    EmptyBatch { index: u64 },
    #[error(
        "leaf {index} accepts {rows} rows of {dataset}; the decision before it permits {permitted} \
         more under this plan"
    )]
    NotPermitted { index: u64, dataset: DatasetId, rows: u64, permitted: u64 },
    #[error("leaf {index} accepts batch {seq} of stream {stream} again, {expected} is next")]
    SeqBack { index: u64, stream: StreamId, seq: BatchSeq, expected: BatchSeq },
    #[error(
        "stream {stream} jumps at leaf {index}: no leaf accounts for batches {from} to {through}"
    )]
    Hole { index: u64, stream: StreamId, from: BatchSeq, through: BatchSeq },
    #[error("leaf {index} records a gap that ends before it begins")]
    GapRange { index: u64 },
    #[error("leaf {index} says that leaves {from} to {through} of this log were lost")]
    LeavesLost { index: u64, from: u64, through: u64 },
    #[error("checkpoint {number} cannot be trusted")]
    Checkpoint { number: usize, source: CheckpointError },
    #[error("checkpoint {number} is of log {found:?}, an earlier one of {expected:?}")]
    Origin { number: usize, found: String, expected: String },
    #[error("checkpoint {number} signs {size} leaves, the log has {entries}: its end was cut off")]
    Truncated { number: usize, size: u64, entries: u64 },
    #[error(
        "checkpoint {number} signs another root: a leaf from {from} to {through} was altered, added \
         or taken out"
    )]
    Altered { number: usize, from: u64, through: u64 },
    #[error("what the TPM says in leaf {index} does not hold")]
    Statement { index: u64, source: StatementFault },
    #[error("leaf {index} names a TPM with the key {found}, which is none of those believed")]
    OtherTpm { index: u64, found: Digest },
    #[error(
        "leaf {index}: the TPM was reset {found} times, and {last} times before: it was exchanged or cleared"
    )]
    ResetsBack { index: u64, found: u32, last: u32 },
    #[error(
        "leaf {index}: the TPM's digest over heads is {found:?} at this start, this log leads to \
         {expected:?}: the disk was set back, or the chain made anew"
    )]
    ChainAtStart { index: u64, found: Option<Digest>, expected: Option<Digest> },
    #[error("boot {boot} says nothing of the TPM that this box has (before leaf {index})")]
    NoTpm { index: u64, boot: BootNumber },
    #[error("leaf {index}: {witness:?} has not cosigned these {size} leaves")]
    Cosigned { index: u64, witness: String, size: u64 },
    #[error("leaf {index}: the key that signed until then does not hand over to this one")]
    Rollover { index: u64 },
    #[error("leaf {index}: the leaves before {first} are not those that were dropped")]
    Pruned { index: u64, first: u64 },
    #[error(
        "the leaves before {first} are not here, and no leaf that is left says that they were dropped: somebody \
         took them away"
    )]
    TakenAway { first: u64 },
    #[error(
        "leaves {from} to {through} cannot be read: their bundle is damaged or gone; the space's mirror may have \
         them"
    )]
    Unreadable { from: u64, through: u64 },
    #[error("leaves {from} to {through} are not those that were sealed")]
    Sealed { from: u64, through: u64 },
    #[error("leaf {index} says that the TPM remembers heads that this log does not have")]
    RolledBack { index: u64 },
    #[error(
        "leaf {index} says that leaves {from} to {through} came back from the mirror, and those that are here have \
         another root"
    )]
    Refilled { index: u64, from: u64, through: u64 },
    #[error("no checkpoint signs any leaf of this log; ask for the log's signed head")]
    Unsigned,
}

/// What was read and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Name of the log, from the checkpoints.
    pub origin: Option<String>,
    pub entries: u64,
    /// Root of all entries.
    pub root: Digest,
    /// Checkpoints with a good signature whose root is that of the log.
    pub checkpoints_verified: usize,
    /// Leaves that the largest of them covers. Those after it could still be changed unseen.
    pub signed_entries: u64,
    /// Batch leaves and their rows.
    pub batches: u64,
    pub rows: u64,
    /// At most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// Faults beyond those listed.
    pub faults_left_out: u64,
    /// What others vouch for, as far as they are believed.
    pub vouched: Vouched,
    /// At most [`FAULTS_MAX`].
    pub remarks: Vec<Remark>,
    pub brackets: Vec<Bracket>,
}

impl Report {
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

#[derive(Debug, Default)]
struct Faults {
    listed: Vec<Fault>,
    left_out: u64,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        if self.listed.len() < FAULTS_MAX {
            self.listed.push(fault);
        } else {
            self.left_out += 1;
        }
    }
}

/// The leaves of this log that a leaf says came back, and whether they have the root that it names.
fn refilled(nodes: &dyn Nodes, body: &LeafBody) -> Option<(u64, u64, bool)> {
    let LeafBody::LogGap { from, through, refill: Some(refill), .. } = body else { return None };
    let (from, through) = (*from, *through);
    let width = BUNDLE_LEAVES_MAX as u64;
    let is_bundle = from % width == 0 && from.checked_add(width - 1) == Some(through);
    let root = is_bundle.then(|| nodes.node(BUNDLE_LEVEL, from / width)).flatten();
    refill.epoch.is_none().then_some((from, through, root == Some(refill.root)))
}

/// Takes the leaves of a log from the first to the last, then its checkpoints.
#[derive(Debug, Default)]
pub struct LogVerifier {
    levels: Levels,
    last: Option<(BootNumber, Duration)>,
    rules: ProductRules,
    batches: u64,
    rows: u64,
    faults: Faults,
    outside: Option<Outside>,
}

impl LogVerifier {
    /// Asks nobody but the log's own key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks those that are believed, too.
    pub fn with_trust(trust: Trust) -> Self {
        Self { outside: Some(Outside::new(trust)), ..Self::default() }
    }

    /// The next leaf, exactly as stored.
    pub fn handle_leaf(&mut self, bytes: &[u8]) {
        let index = self.levels.size();
        self.levels.append(leaf_hash(bytes));
        let leaf = match Leaf::decode(bytes) {
            Ok(leaf) => leaf,
            Err(source) => return self.faults.add(Fault::Leaf { index, source }),
        };
        if leaf.seq != index {
            self.faults.add(Fault::Seq { index, seq: leaf.seq });
        }
        self.check_moment(index, &leaf);
        if let LeafBody::Batch(batch) = &leaf.body {
            self.batches += 1;
            self.rows = self.rows.saturating_add(batch.rows);
        }
        self.rules.handle(index, &leaf.body, &mut self.faults);
        match refilled(&self.levels, &leaf.body) {
            Some((from, through, true)) => self.rules.handle_refill(from, through),
            Some((from, through, false)) => {
                self.faults.add(Fault::Refilled { index, from, through });
            }
            None => {}
        }
        if let Some(outside) = &mut self.outside {
            let levels = &self.levels;
            outside.handle(index, &leaf, &|size| levels.root_at(size), &mut self.faults);
        }
    }

    fn check_moment(&mut self, index: u64, leaf: &Leaf) {
        let (boot, at) = (leaf.boot, leaf.monotonic);
        match self.last {
            Some((last, _)) if boot < last => {
                // The highest boot stays the measure, so one altered leaf is one fault.
                return self.faults.add(Fault::BootBack { index, boot, last });
            }
            Some((last_boot, last)) if boot == last_boot && at < last => {
                return self.faults.add(Fault::MonotonicBack { index, at, last });
            }
            Some((last_boot, _)) if boot == last_boot => {}
            // What begins a log after a loss stands before the start, which must follow.
            None if matches!(leaf.body, LeafBody::EpochStart(_)) && index == 0 => return,
            _ if !matches!(leaf.body, LeafBody::Start { .. }) => {
                self.faults.add(Fault::NoStart { index, boot });
            }
            _ => {}
        }
        self.last = Some((boot, at));
    }

    /// Compares with the signed heads, in any order. All must be of one log and signed by `key`, or by
    /// the key that took its place, where somebody is believed.
    pub fn finish(mut self, checkpoints: &[&str], key: &VerifierKey) -> Report {
        self.rules.finish(&mut self.faults);
        let mut origin: Option<String> = None;
        let mut heads: Vec<(usize, Checkpoint)> = Vec::new();
        for (number, text) in checkpoints.iter().enumerate() {
            let size = Checkpoint::parse_unverified(text).map_or(0, |head| head.size);
            let key = self.outside.as_ref().map_or(key, |outside| outside.key_at(size));
            match Checkpoint::parse_and_verify(text, key) {
                Ok(head) => {
                    let expected = origin.get_or_insert_with(|| head.origin.clone());
                    if *expected == head.origin {
                        heads.push((number, head));
                    } else {
                        let expected = expected.clone();
                        let found = head.origin;
                        self.faults.add(Fault::Origin { number, found, expected });
                    }
                }
                Err(source) => self.faults.add(Fault::Checkpoint { number, source }),
            }
        }
        heads.sort_by_key(|(_, head)| head.size);
        let entries = self.levels.size();
        let (mut signed_entries, mut checkpoints_verified) = (0, 0);
        for (number, head) in heads {
            let size = head.size;
            match self.levels.root_at(size) {
                None => self.faults.add(Fault::Truncated { number, size, entries }),
                Some(root) if root == head.root => {
                    checkpoints_verified += 1;
                    signed_entries = size;
                }
                Some(_) => {
                    let (from, through) = (signed_entries, size.saturating_sub(1));
                    self.faults.add(Fault::Altered { number, from, through });
                }
            }
        }
        if entries > 0 && signed_entries == 0 {
            self.faults.add(Fault::Unsigned);
        }
        let outside = self.outside.take().map(|one| one.finish(entries, &mut self.faults));
        let (remarks, brackets, vouched) = outside.unwrap_or_default();
        Report {
            origin,
            entries,
            root: self.levels.root_at(entries).expect("a log has a root at its own size"),
            checkpoints_verified,
            signed_entries,
            batches: self.batches,
            rows: self.rows,
            faults: self.faults.listed,
            faults_left_out: self.faults.left_out,
            vouched,
            remarks,
            brackets,
        }
    }
}

#[cfg(test)]
pub(crate) mod attacks;
#[cfg(test)]
mod pruned_tests;
#[cfg(test)]
mod tests;
