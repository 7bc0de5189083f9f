//! Reading the spool in the order of a stream, beside the writer.

use super::record::{BatchHead, KIND_LEAF, is_batch, stream_of};
use super::recovery::read_leaf;
use super::{BatchMeta, GapReason, GapRecord, Shared, SpoolError};
use crate::disk::Disk;
use crate::journal::JournalReader;
use bytes::Bytes;
use guan_model::{BatchSeq, StreamId, WallTime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A batch as it was pushed.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    pub seq: BatchSeq,
    pub wall: WallTime,
    pub meta: BatchMeta,
    pub bytes: Bytes,
}

/// What comes next in a stream.
#[derive(Debug, Clone)]
pub enum Item {
    Batch(StoredBatch),
    Gap(GapRecord),
}

/// Reads committed batches. Cheap when it is asked in order; another place costs a segment's scan.
pub struct SpoolReader<D: Disk> {
    journal: JournalReader<D>,
    shared: Arc<Mutex<Shared>>,
    /// Where the batch after the last one of a stream may stand: segment and offset.
    places: BTreeMap<StreamId, (BatchSeq, u64, u64)>,
}

impl<D: Disk> SpoolReader<D> {
    pub(super) fn new(journal: JournalReader<D>, shared: Arc<Mutex<Shared>>) -> Self {
        Self { journal, shared, places: BTreeMap::new() }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    /// Every stream that ever held a batch, ascending.
    pub fn streams(&self) -> Vec<StreamId> {
        self.shared().positions.keys().copied().collect()
    }

    /// Newest committed batch of a stream.
    pub fn newest(&self, stream: StreamId) -> BatchSeq {
        self.shared().positions.get(&stream).map_or(BatchSeq::ZERO, |at| at.newest)
    }

    /// The space has everything of a stream through here, as far as the spool knows.
    pub fn acknowledged(&self, stream: StreamId) -> BatchSeq {
        self.shared().positions.get(&stream).map_or(BatchSeq::ZERO, |at| at.acknowledged)
    }

    /// The first batch or gap after `after`; `None` when nothing more is committed. Batches that damage
    /// took away come as a gap.
    pub fn next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, SpoolError> {
        let (newest, gap) = {
            let shared = self.shared();
            let Some(position) = shared.positions.get(&stream) else { return Ok(None) };
            let gap = position.gaps.iter().find(|gap| gap.through > after).cloned();
            (position.newest, gap)
        };
        if after >= newest {
            return Ok(None);
        }
        if let Some(gap) = &gap
            && gap.from <= after.next()
        {
            let from = after.next();
            return Ok(Some(Item::Gap(GapRecord { from, ..gap.clone() })));
        }
        let found = self.find(stream, after)?;
        // What was given up while we looked may be trimmed already; that is no damage.
        if found.as_ref().is_none_or(|batch| batch.seq != after.next())
            && let Some(gap) = self.gap_at(stream, after.next())
        {
            return Ok(Some(Item::Gap(gap)));
        }
        // Up to here the stream has no known gap, so a hole is damage.
        let end = gap.map_or(newest, |gap| BatchSeq(gap.from.0 - 1));
        match found {
            Some(batch) if batch.seq == after.next() => Ok(Some(Item::Batch(batch))),
            found => {
                let before = found.map_or(end, |batch| BatchSeq(batch.seq.0 - 1).min(end));
                let (from, reason) = (after.next(), GapReason::Damage);
                // The number of rows went with them.
                Ok(Some(Item::Gap(GapRecord { stream, from, through: before, rows: 0, reason })))
            }
        }
    }

    /// The rest of the gap in which a number lies.
    fn gap_at(&self, stream: StreamId, from: BatchSeq) -> Option<GapRecord> {
        let shared = self.shared();
        let mut gaps = shared.positions.get(&stream)?.gaps.iter();
        let gap = gaps.find(|gap| gap.from <= from && from <= gap.through)?;
        Some(GapRecord { from, ..gap.clone() })
    }

    /// The leaves from an index on that the journal holds, in the order in which they were written.
    pub fn leaves_from(&mut self, first: u64) -> Result<Vec<(u64, Bytes)>, SpoolError> {
        let segments: Vec<u64> = {
            let shared = self.shared();
            let held = shared.segments.iter().filter(|(_, summary)| summary.leaves_end > first);
            held.map(|(number, _)| *number).collect()
        };
        let mut leaves = Vec::new();
        for segment in segments {
            let mut at = self.journal.first_offset(segment);
            while let Some(offset) = at
                && let Some(frame) = self.journal.next(segment, offset)?
            {
                at = Some(frame.next);
                if frame.kind == KIND_LEAF {
                    let (index, start) = read_leaf(&frame.payload)?;
                    if index >= first {
                        leaves.push((index, frame.payload.slice(start..)));
                    }
                }
            }
        }
        Ok(leaves)
    }

    /// The first batch of a stream with a number above `after`.
    fn find(
        &mut self,
        stream: StreamId,
        after: BatchSeq,
    ) -> Result<Option<StoredBatch>, SpoolError> {
        let (mut segment, mut offset) = match self.places.get(&stream) {
            Some((last, segment, offset)) if *last == after => (*segment, Some(*offset)),
            _ => match self.segment_with(stream, after) {
                Some(segment) => (segment, None),
                None => return Ok(None),
            },
        };
        loop {
            let start = match offset.or_else(|| self.journal.first_offset(segment)) {
                Some(start) => start,
                // Trimmed under us: go on where the stream goes on.
                None => match self.segment_with(stream, after) {
                    Some(next) if next > segment => {
                        (segment, offset) = (next, None);
                        continue;
                    }
                    _ => return Ok(None),
                },
            };
            let Some(frame) = self.journal.next(segment, start)? else {
                match self.journal.segment_from(segment + 1) {
                    Some(next) => (segment, offset) = (next, None),
                    None => return Ok(None),
                }
                continue;
            };
            offset = Some(frame.next);
            if !is_batch(frame.kind) || stream_of(&frame.payload) != Some(stream) {
                continue;
            }
            let (head, length) = BatchHead::decode(frame.kind, &frame.payload)?;
            if head.seq > after {
                self.places.insert(stream, (head.seq, segment, frame.next));
                let bytes = frame.payload.slice(length..);
                let BatchHead { seq, wall, meta, .. } = head;
                return Ok(Some(StoredBatch { seq, wall, meta, bytes }));
            }
        }
    }

    fn segment_with(&self, stream: StreamId, after: BatchSeq) -> Option<u64> {
        let shared = self.shared();
        let mut segments = shared.segments.iter();
        let held = |summary: &super::Summary| {
            summary.streams.get(&stream).is_some_and(|held| held.last > after)
        };
        segments.find(|(_, summary)| held(summary)).map(|(number, _)| *number)
    }
}
