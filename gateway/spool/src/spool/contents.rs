//! What a spool holds, read from its files beside a running owner. Changes nothing.

use super::recovery::Replay;
use super::{GapRecord, SpoolError};
use crate::disk::Disk;
use crate::journal::overlook;
use guan_model::{BatchSeq, ByteCount, StreamId, WallTime};
use std::collections::BTreeMap;

/// One stream: what waits in it, counted by whole segments, so rather too much than too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamContents {
    pub newest: BatchSeq,
    pub acknowledged: BatchSeq,
    /// Nothing through here is held any more.
    pub released: BatchSeq,
    pub rows_max: u64,
    pub bytes_max: ByteCount,
    /// Of what waits, by the wall clock at which it was committed.
    pub oldest: Option<WallTime>,
    pub youngest: Option<WallTime>,
    /// Gaps that the space has not been told of.
    pub gaps: Vec<GapRecord>,
}

impl StreamContents {
    /// Batches that the space does not have yet.
    pub fn waiting(&self) -> u64 {
        self.newest.0 - self.released.0
    }
}

/// A spool as its files have it.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Every stream that ever held a batch.
    pub streams: BTreeMap<StreamId, StreamContents>,
    pub segments: usize,
    /// As `Recovered` has them.
    pub session_snapshot: Vec<u8>,
    pub session_deltas: Vec<Vec<u8>>,
}

/// Reads the footers of sealed segments and the whole of the last one.
pub fn contents(disk: &impl Disk) -> Result<Contents, SpoolError> {
    let mut replay = Replay::default();
    overlook(disk, &mut |visit| replay.handle(visit))?;
    let Replay { segments, state, recovered, fault } = replay;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let streams = state.positions.into_iter().map(|(stream, at)| {
        let held = segments.values().filter_map(|segment| segment.streams.get(&stream));
        let held: Vec<_> = held.filter(|held| held.last > at.released).collect();
        let contents = StreamContents {
            newest: at.newest,
            acknowledged: at.acknowledged,
            released: at.released,
            rows_max: held.iter().map(|held| held.rows).sum(),
            bytes_max: ByteCount(held.iter().map(|held| held.bytes).sum()),
            oldest: held.iter().map(|held| held.oldest).min(),
            youngest: held.iter().map(|held| held.newest).max(),
            gaps: at.gaps,
        };
        (stream, contents)
    });
    Ok(Contents {
        streams: streams.collect(),
        segments: segments.len(),
        session_snapshot: recovered.session_snapshot,
        session_deltas: recovered.session_deltas,
    })
}
