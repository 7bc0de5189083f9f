//! What an operator wants to know of the spool.

use super::contents::contents;
use super::record::{BatchHead, BatchMeta, KIND_GAP, KIND_LEAF, Position, is_batch};
use super::{Spool, SpoolError};
use crate::disk::Disk;
use crate::journal::{Salvage, Visit, survey};
use guan_model::{BatchSeq, ByteCount, StreamId, WallTime};
use std::collections::BTreeMap;

/// One priority class, all its lanes together.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    pub id: StreamId,
    pub name: String,
    pub newest: BatchSeq,
    pub acknowledged: BatchSeq,
    /// Batches that the space does not have yet.
    pub queued_batches: u64,
    /// By whole segments, so rather too much than too little.
    pub queued_bytes: ByteCount,
    pub limit: ByteCount,
    pub oldest: Option<WallTime>,
    /// Gaps that the space has not been told of.
    pub gaps: usize,
}

/// The whole spool.
#[derive(Debug, Clone)]
pub struct SpoolStatus {
    pub streams: Vec<StreamStatus>,
    pub segments: usize,
    pub disk_bytes: ByteCount,
    pub limit: ByteCount,
}

impl<D: Disk> Spool<D> {
    pub fn status(&self) -> SpoolStatus {
        let streams = self.config.streams.iter().map(|stream| {
            let lanes: Vec<&Position> = self.lanes(stream.id).map(|(_, at)| at).collect();
            let sum = |of: fn(&Position) -> u64| lanes.iter().map(|at| of(at)).sum::<u64>();
            StreamStatus {
                id: stream.id,
                name: stream.name.clone(),
                newest: BatchSeq(sum(|at| at.newest.0)),
                acknowledged: BatchSeq(sum(|at| at.acknowledged.0)),
                queued_batches: sum(|at| at.newest.0 - at.released.0),
                queued_bytes: ByteCount(self.used(stream.id)),
                limit: ByteCount(stream.bytes_max),
                oldest: self.oldest_wall_of(stream.id),
                gaps: lanes.iter().map(|at| at.gaps.len()).sum(),
            }
        });
        SpoolStatus {
            streams: streams.collect(),
            segments: self.journal.segments(),
            disk_bytes: ByteCount(self.journal.bytes()),
            limit: ByteCount(self.config.total_bytes_max),
        }
    }

    fn oldest_wall_of(&self, class: StreamId) -> Option<WallTime> {
        self.lanes(class).filter_map(|(lane, _)| self.waits_since(lane)).min()
    }

    /// Since when something of a stream waits, by whole segments, so rather too early than too late.
    pub fn waits_since(&self, stream: StreamId) -> Option<WallTime> {
        let released = self.released(stream);
        let shared = self.shared();
        let mut held = shared.segments.values().filter_map(|summary| summary.streams.get(&stream));
        held.find(|held| held.last > released).map(|held| held.oldest)
    }

    /// Where the last batch of a stream lies: later ones compare greater, within a segment by the wall clock.
    pub fn last_kept(&self, stream: StreamId) -> Option<(u64, WallTime)> {
        let shared = self.shared();
        let mut held = shared.segments.iter().rev();
        held.find_map(|(number, held)| Some((*number, held.streams.get(&stream)?.newest)))
    }
}

/// What a read of every byte found. Damage is reported, never repaired here.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    pub segments: u64,
    pub batches: u64,
    pub rows: u64,
    pub batch_bytes: ByteCount,
    pub leaves: u64,
    pub gaps: u64,
    /// Numbers that are missing between batches of a stream without a gap that says so.
    pub holes: u64,
    pub salvage: Salvage,
}

impl VerifyReport {
    pub fn is_clean(&self) -> bool {
        self.holes == 0 && self.salvage.damaged_places == 0
    }
}

/// Shows every batch that the spool holds, without its readings.
pub fn batches(
    disk: &impl Disk,
    handle: &mut dyn FnMut(StreamId, BatchSeq, WallTime, &BatchMeta),
) -> Result<(), SpoolError> {
    survey(disk, &mut |visit| {
        if let Visit::Frame { kind, payload, .. } = visit
            && is_batch(kind)
            && let Ok((head, _)) = BatchHead::decode(kind, payload)
        {
            handle(head.stream, head.seq, head.wall, &head.meta);
        }
    })?;
    Ok(())
}

/// Numbers of a stream as they stand in the files.
struct Seen {
    first: BatchSeq,
    last: BatchSeq,
    /// Runs of numbers that are missing between them, both ends included.
    holes: Vec<(u64, u64)>,
}

impl Seen {
    fn of(seq: BatchSeq) -> Self {
        Self { first: seq, last: seq, holes: Vec::new() }
    }

    fn handle(&mut self, seq: BatchSeq) {
        if seq.0 > self.last.0 + 1 {
            self.holes.push((self.last.0 + 1, seq.0 - 1));
        }
        self.last = self.last.max(seq);
    }

    /// How many numbers through `newest` are missing that nobody has let go of.
    fn missing(&self, released: BatchSeq, newest: BatchSeq) -> u64 {
        let ends = [(released.0 + 1, self.first.0 - 1), (self.last.0 + 1, newest.0)];
        let runs = self.holes.iter().copied().chain(ends);
        runs.map(|(from, through)| (through + 1).saturating_sub(from.max(released.0 + 1))).sum()
    }
}

/// Reads the whole spool without changing it; `handle_leaf` is shown every leaf that it holds.
pub fn verify(
    disk: &impl Disk,
    handle_leaf: &mut dyn FnMut(u64, &[u8]),
) -> Result<VerifyReport, SpoolError> {
    let mut report = VerifyReport::default();
    let mut streams: BTreeMap<StreamId, Seen> = BTreeMap::new();
    let mut fault = None;
    // The owner may add batches, and let go of some, while they are read.
    let before = contents(disk)?;
    let salvage = survey(disk, &mut |visit| match visit {
        Visit::Segment { .. } | Visit::Sealed { .. } => report.segments += 1,
        Visit::Frame { kind, payload, .. } if is_batch(kind) => {
            match BatchHead::decode(kind, payload) {
                Ok((head, length)) => {
                    report.batches += 1;
                    report.rows += u64::from(head.meta.rows);
                    report.batch_bytes.0 += (payload.len() - length) as u64;
                    let seen = streams.entry(head.stream).or_insert_with(|| Seen::of(head.seq));
                    seen.handle(head.seq);
                }
                Err(bad) => fault = Some(bad),
            }
        }
        Visit::Frame { kind: KIND_LEAF, payload, .. } => {
            if let Some((index, leaf)) = payload.split_first_chunk::<8>() {
                report.leaves += 1;
                handle_leaf(u64::from_le_bytes(*index), leaf);
            }
        }
        Visit::Frame { kind: KIND_GAP, .. } => report.gaps += 1,
        Visit::Frame { .. } => {}
    })?;
    report.salvage = salvage;
    let after = contents(disk)?;
    for (stream, at) in &before.streams {
        let released = after.streams.get(stream).map_or(at.released, |after| after.released);
        report.holes += match streams.get(stream) {
            Some(seen) => seen.missing(released, at.newest),
            None => at.newest.0.saturating_sub(released.0),
        };
    }
    fault.map_or(Ok(report), Err)
}
