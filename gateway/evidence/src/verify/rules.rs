//! Rules of the product that a correct tree alone does not prove.
//!
//! A `Batch` leaf draws its rows from the latest `Decision` leaf of its dataset, under the same plan;
//! the decision stands before it. Batch numbers of a stream start at 1 in each spool and have no hole
//! that no `DataGap` leaf records, before or after.

use super::{Fault, Faults};
use crate::leaf::{BatchAccepted, DataGap, GapReason, LeafBody};
use guan_model::{BatchSeq, DatasetId, Digest, SpoolId, StreamId};
use std::collections::BTreeMap;

/// Most open holes, and most gaps recorded ahead, of one stream; and most damaged ranges that may still be mended. What is beyond is reported as a
/// hole at once or explains nothing, so a hostile log costs no more than that.
pub(super) const RANGES_MAX: usize = 1000;

/// Batches that no leaf has accounted for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    /// The leaf that jumped over them.
    index: u64,
    from: u64,
    through: u64,
}

#[derive(Debug)]
struct Stream {
    next: u64,
    holes: Vec<Hole>,
    /// Recorded gaps that reach beyond the batches seen so far.
    ahead: Vec<(u64, u64)>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { next: 1, holes: Vec::new(), ahead: Vec::new() }
    }
}

#[derive(Debug, Default)]
pub(super) struct ProductRules {
    spool: Option<SpoolId>,
    streams: BTreeMap<StreamId, Stream>,
    /// Rows that the latest decision of a dataset still permits, and under which plan.
    permitted: BTreeMap<DatasetId, (Digest, u64)>,
    /// Damage that is told and not mended yet.
    lost: Vec<Lost>,
}

/// Leaves that could not be read any more when leaf `index` was written.
#[derive(Debug)]
struct Lost {
    index: u64,
    from: u64,
    through: u64,
}

impl Lost {
    fn fault(&self) -> Fault {
        Fault::LeavesLost { index: self.index, from: self.from, through: self.through }
    }
}

impl ProductRules {
    pub(super) fn handle(&mut self, index: u64, body: &LeafBody, faults: &mut Faults) {
        match body {
            LeafBody::Start { spool, .. } if self.spool != Some(*spool) => {
                self.end_spool(faults);
                self.spool = Some(*spool);
            }
            LeafBody::Decision(decision) => {
                let budget = (decision.plan, decision.permitted);
                self.permitted.insert(decision.dataset.clone(), budget);
            }
            LeafBody::Batch(batch) => {
                self.check_decision(index, batch, faults);
                self.check_seq(index, batch, faults);
            }
            LeafBody::DataGap(gap) if gap.from > gap.through => {
                faults.add(Fault::GapRange { index });
            }
            LeafBody::DataGap(gap) => self.record_gap(gap, faults),
            // Told of by itself, where somebody is believed; here it says that leaves are gone.
            LeafBody::LogGap { from, through, reason, refill: None } => {
                let lost = Lost { index, from: *from, through: *through };
                match *reason == GapReason::Damage && self.lost.len() < RANGES_MAX {
                    true => self.lost.push(lost),
                    false => faults.add(lost.fault()),
                }
            }
            _ => {}
        }
    }

    /// Leaves that were lost are here again, and are those that they were.
    pub(super) fn handle_refill(&mut self, from: u64, through: u64) {
        self.lost.retain(|lost| lost.from < from || lost.through > through);
    }

    fn check_decision(&mut self, index: u64, batch: &BatchAccepted, faults: &mut Faults) {
        if batch.rows == 0 {
            return faults.add(Fault::EmptyBatch { index });
        }
        let budget = self.permitted.get_mut(&batch.dataset).filter(|(plan, _)| *plan == batch.plan);
        let permitted = budget.as_ref().map_or(0, |(_, rows)| *rows);
        match budget {
            Some((_, rows)) if *rows >= batch.rows => *rows -= batch.rows,
            _ => faults.add(Fault::NotPermitted {
                index,
                dataset: batch.dataset.clone(),
                rows: batch.rows,
                permitted,
            }),
        }
    }

    fn check_seq(&mut self, index: u64, batch: &BatchAccepted, faults: &mut Faults) {
        let stream = self.streams.entry(batch.stream).or_default();
        let seq = batch.seq.0;
        if seq < stream.next {
            let expected = BatchSeq(stream.next);
            let (stream, seq) = (batch.stream, batch.seq);
            return faults.add(Fault::SeqBack { index, stream, seq, expected });
        }
        if seq > stream.next {
            let mut holes = vec![Hole { index, from: stream.next, through: seq - 1 }];
            stream.ahead.iter().for_each(|gap| subtract(&mut holes, *gap));
            for hole in holes {
                match stream.holes.len() < RANGES_MAX {
                    true => stream.holes.push(hole),
                    false => faults.add(hole.fault(batch.stream)),
                }
            }
        }
        stream.next = seq.saturating_add(1);
        let next = stream.next;
        stream.ahead.retain(|(_, through)| *through >= next);
    }

    fn record_gap(&mut self, gap: &DataGap, faults: &mut Faults) {
        let stream = self.streams.entry(gap.stream).or_default();
        let range = (gap.from.0, gap.through.0);
        subtract(&mut stream.holes, range);
        // A gap in the middle of a hole leaves two.
        let kept = stream.holes.len().min(RANGES_MAX);
        for hole in stream.holes.drain(kept..) {
            faults.add(hole.fault(gap.stream));
        }
        if range.1 >= stream.next && stream.ahead.len() < RANGES_MAX {
            stream.ahead.push(range);
        }
    }

    /// At the end of the log.
    pub(super) fn finish(&mut self, faults: &mut Faults) {
        self.lost.iter().for_each(|lost| faults.add(lost.fault()));
        self.end_spool(faults);
    }

    /// Reports the holes that nothing explained. A new spool counts from 1 again.
    fn end_spool(&mut self, faults: &mut Faults) {
        for (id, stream) in std::mem::take(&mut self.streams) {
            stream.holes.iter().for_each(|hole| faults.add(hole.fault(id)));
        }
    }
}

impl Hole {
    fn fault(&self, stream: StreamId) -> Fault {
        let (from, through) = (BatchSeq(self.from), BatchSeq(self.through));
        Fault::Hole { index: self.index, stream, from, through }
    }
}

/// Takes a range out of the holes.
fn subtract(holes: &mut Vec<Hole>, (from, through): (u64, u64)) {
    let whole = std::mem::take(holes);
    for hole in whole {
        if through < hole.from || from > hole.through {
            holes.push(hole);
            continue;
        }
        if from > hole.from {
            holes.push(Hole { through: from - 1, ..hole });
        }
        if through < hole.through {
            holes.push(Hole { from: through + 1, ..hole });
        }
    }
}
