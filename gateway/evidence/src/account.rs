//! What a log says of the batches of each contract, and what became of them (计量, 溯源).
//!
//! Leaves are read in their order. Batches are known by their place, as gaps and receipts name them:
//! number and stream, within the spool of the last start. Where a start is not there, as in a pruned log, the spool is
//! not known and may be that of any later one. Nothing here is verified; who reads has checked the log before.

use crate::leaf::{BatchAccepted, GapReason, Leaf, LeafBody};
use guan_model::{BatchSeq, ContractId, SpoolId, StreamId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most lines (contract and day) of an account; what is over is counted in [`Account::left_out`].
pub const LINES_MAX: usize = 100_000;
const DAY_MS: i64 = 86_400_000;

/// Where batches lie. `None`: the log begins after the start that would name the spool.
type Lane = (Option<SpoolId>, StreamId);

/// Numbers of batches, as ranges that do not touch.
#[derive(Debug, Clone, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, from: u64, through: u64) {
        if from > through {
            return;
        }
        let (mut from, mut through) = (from, through);
        // All that overlap or touch, from the last one backwards.
        while let Some((&first, &last)) = self.0.range(..=through.saturating_add(1)).next_back() {
            if last.saturating_add(1) < from {
                break;
            }
            self.0.remove(&first);
            (from, through) = (from.min(first), through.max(last));
        }
        self.0.insert(from, through);
    }

    fn overlaps(&self, from: u64, through: u64) -> bool {
        self.0.range(..=through).next_back().is_some_and(|(_, last)| *last >= from)
    }
}

/// Batches by place. Neighbours cost nothing, so a whole log of a lane is one range.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<Lane, Ranges>);

impl Places {
    pub fn insert(&mut self, spool: Option<SpoolId>, stream: StreamId, seq: BatchSeq) {
        self.insert_all((spool, stream), (seq, seq));
    }

    fn insert_all(&mut self, lane: Lane, (from, through): (BatchSeq, BatchSeq)) {
        self.0.entry(lane).or_default().insert(from.0, through.0);
    }

    pub fn contains(&self, spool: Option<SpoolId>, stream: StreamId, seq: BatchSeq) -> bool {
        self.overlap((spool, stream), (seq, seq))
    }

    /// A spool that is not known may be any.
    fn overlap(&self, (spool, stream): Lane, (from, through): (BatchSeq, BatchSeq)) -> bool {
        let is_in = |ranges: &Ranges| ranges.overlaps(from.0, through.0);
        let has = |lane: Lane| self.0.get(&lane).is_some_and(is_in);
        match spool {
            Some(_) => has((spool, stream)) || has((None, stream)),
            None => self.0.iter().any(|((_, other), ranges)| *other == stream && is_in(ranges)),
        }
    }
}

/// Chooses the leaves that speak of one contract: what came of it, its batches, the space's receipts for
/// them and the gaps where they will never arrive. Read all leaves, from the log's beginning.
#[derive(Debug)]
pub struct About {
    contract: ContractId,
    spool: Option<SpoolId>,
    kept: Places,
}

impl About {
    pub fn new(contract: ContractId) -> Self {
        Self { contract, spool: None, kept: Places::default() }
    }

    pub fn handle_leaf(&mut self, leaf: &Leaf) -> bool {
        match &leaf.body {
            LeafBody::Start { spool, .. } => {
                self.spool = Some(*spool);
                false
            }
            LeafBody::Batch(batch) if batch.contract == self.contract => {
                self.kept.insert(self.spool, batch.stream, batch.seq);
                true
            }
            LeafBody::ContractChange { contract, .. } => *contract == self.contract,
            LeafBody::DataGap(gap) => {
                self.kept.overlap((self.spool, gap.stream), (gap.from, gap.through))
            }
            LeafBody::Forwarded(sent) => {
                self.kept.overlap((self.spool, sent.stream), (sent.from, sent.through))
            }
            LeafBody::Received(received) => received.contract == self.contract,
            LeafBody::Deleted(deleted) => deleted.contract == self.contract,
            _ => false,
        }
    }
}

/// What became of batches: the first of two readings of a log.
#[derive(Debug, Default)]
pub struct Fates {
    spool: Option<SpoolId>,
    sent: Places,
    given_up: BTreeMap<GapReason, Places>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The space has logged that it received it.
    Sent,
    /// It will never arrive.
    GivenUp(GapReason),
}

impl Fates {
    pub fn handle_leaf(&mut self, leaf: &Leaf) {
        match &leaf.body {
            LeafBody::Start { spool, .. } => self.spool = Some(*spool),
            LeafBody::DataGap(gap) => {
                let places = self.given_up.entry(gap.reason).or_default();
                places.insert_all((self.spool, gap.stream), (gap.from, gap.through));
            }
            LeafBody::Forwarded(sent) => {
                self.sent.insert_all((self.spool, sent.stream), (sent.from, sent.through));
            }
            _ => {}
        }
    }

    /// A receipt of the space counts for more than what the box gave up. `None`: the log does not say.
    pub fn of(&self, spool: Option<SpoolId>, batch: &BatchAccepted) -> Option<Fate> {
        if self.sent.contains(spool, batch.stream, batch.seq) {
            return Some(Fate::Sent);
        }
        let gone = |places: &Places| places.contains(spool, batch.stream, batch.seq);
        let found = self.given_up.iter().find(|(_, places)| gone(places));
        found.map(|(reason, _)| Fate::GivenUp(*reason))
    }
}

/// Batches and readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub batches: u64,
    pub rows: u64,
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.batches = self.batches.saturating_add(other.batches);
        self.rows = self.rows.saturating_add(other.rows);
    }
}

/// What was kept under a contract on a day, and what became of that, then or later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    pub kept: Sum,
    /// Of that, under a signed head.
    pub proven: Sum,
    pub sent: Sum,
    pub given_up: BTreeMap<GapReason, Sum>,
}

impl Line {
    fn count(&mut self, one: Sum, is_proven: bool, fate: Option<Fate>) {
        self.kept.add(one);
        if is_proven {
            self.proven.add(one);
        }
        match fate {
            Some(Fate::Sent) => self.sent.add(one),
            Some(Fate::GivenUp(reason)) => self.given_up.entry(reason).or_default().add(one),
            None => {}
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.kept.add(other.kept);
        self.proven.add(other.proven);
        self.sent.add(other.sent);
        for (reason, sum) in &other.given_up {
            self.given_up.entry(*reason).or_default().add(*sum);
        }
    }

    pub fn given_up(&self) -> Sum {
        let mut all = Sum::default();
        self.given_up.values().for_each(|sum| all.add(*sum));
        all
    }
}

/// Contract, and day since 1970 (UTC) by the box's clock.
pub type LineKey = (ContractId, i64);

/// A batch, as it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub key: LineKey,
    pub spool: Option<SpoolId>,
    pub sum: Sum,
    pub fate: Option<Fate>,
}

/// Adds up batches by contract and day: the second reading of a log.
#[derive(Debug)]
pub struct Account<'f> {
    fates: &'f Fates,
    spool: Option<SpoolId>,
    lines: BTreeMap<LineKey, Line>,
    left_out: u64,
}

impl<'f> Account<'f> {
    pub fn new(fates: &'f Fates) -> Self {
        Self { fates, spool: None, lines: BTreeMap::new(), left_out: 0 }
    }

    /// `is_proven`: a signed head covers the leaf. `None`: the leaf is about no batch, or there is no line
    /// left for it.
    pub fn handle_leaf(&mut self, leaf: &Leaf, is_proven: bool) -> Option<Counted> {
        if let LeafBody::Start { spool, .. } = &leaf.body {
            self.spool = Some(*spool);
        }
        let LeafBody::Batch(batch) = &leaf.body else { return None };
        let key = (batch.contract.clone(), leaf.wall.millis().div_euclid(DAY_MS));
        if self.lines.len() == LINES_MAX && !self.lines.contains_key(&key) {
            self.left_out += 1;
            return None;
        }
        let (sum, spool) = (Sum { batches: 1, rows: batch.rows }, self.spool);
        let fate = self.fates.of(spool, batch);
        self.lines.entry(key.clone()).or_default().count(sum, is_proven, fate);
        Some(Counted { key, spool, sum, fate })
    }

    /// Batches for which there was no line left.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    pub fn lines(self) -> BTreeMap<LineKey, Line> {
        self.lines
    }
}

#[cfg(test)]
mod tests;
