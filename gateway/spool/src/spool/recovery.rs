//! Opening the spool: what its files say is all there is, no second ledger can disagree with them.

use super::record::{
    BatchHead, KIND_GAP, KIND_LEAF, KIND_RELEASED, KIND_SESSION, Snapshot, Summary, is_batch,
};
use super::{GapRecord, STREAMS_MAX, Shared, Spool, SpoolConfig, SpoolError};
use crate::disk::Disk;
use crate::journal::{Journal, JournalConfig, Salvage, Visit};
use guan_model::bytes_io::{ReadFault, Reader};
use guan_model::{BatchSeq, SpoolId, StreamId, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What the files held, for the owner.
#[derive(Debug, Default)]
pub struct Recovered {
    /// There was no spool before.
    pub is_new: bool,
    pub last_wall: Option<WallTime>,
    pub session_snapshot: Vec<u8>,
    pub session_deltas: Vec<Vec<u8>>,
    pub salvage: Salvage,
}

#[derive(Default)]
pub(super) struct Replay {
    pub(super) segments: BTreeMap<u64, Summary>,
    pub(super) state: Snapshot,
    pub(super) recovered: Recovered,
    pub(super) fault: Option<SpoolError>,
}

impl<D: Disk> Spool<D> {
    /// Opens or begins a spool. `id` is used only for a new one.
    pub fn open(
        disk: D,
        config: SpoolConfig,
        id: SpoolId,
    ) -> Result<(Self, Recovered), SpoolError> {
        let ids: BTreeSet<StreamId> = config.streams.iter().map(|stream| stream.id).collect();
        let count = config.streams.len();
        let are_classes = ids.iter().all(|id| *id == id.shared());
        if count == 0 || count > STREAMS_MAX || ids.len() != count || !are_classes {
            return Err(SpoolError::Streams { count });
        }
        let mut replay = Replay::default();
        let journal_config = JournalConfig { segment_bytes_max: config.segment_bytes_max };
        let opened = Journal::open(disk, journal_config, id.0, &mut |visit| replay.handle(visit));
        let (journal, salvage) = opened?;
        if let Some(fault) = replay.fault {
            return Err(fault);
        }
        let mut recovered = replay.recovered;
        recovered.is_new = replay.segments.is_empty();
        recovered.last_wall = replay.state.last_wall;
        recovered.salvage = salvage;
        let positions = replay.state.positions;
        let shared = Shared { segments: replay.segments, positions: positions.clone() };
        let mut sessions = recovered.session_snapshot.clone();
        sessions.extend(recovered.session_deltas.concat());
        let spool = Self {
            journal,
            config,
            shared: Arc::new(Mutex::new(shared)),
            positions,
            staged: Summary::default(),
            staged_gaps: Vec::new(),
            cursor_moved: false,
            // What was read may be changes for the most part, of many starts: a long one asks for a snapshot at once.
            session_snapshot_bytes: 0,
            sessions,
            staged_sessions: Vec::new(),
            last_wall: recovered.last_wall,
            leaves_sealed: 0,
        };
        Ok((spool, recovered))
    }
}

/// Index of a leaf's record, and where the leaf begins.
pub(super) fn read_leaf(payload: &[u8]) -> Result<(u64, usize), SpoolError> {
    let (index, _) = payload.split_first_chunk().ok_or(SpoolError::Record { what: "leaf" })?;
    Ok((u64::from_le_bytes(*index), index.len()))
}

/// A stream and the place through which the space has it.
fn read_released(payload: &[u8]) -> Result<(StreamId, BatchSeq), SpoolError> {
    let mut reader = Reader::new(payload);
    let mut parse = || -> Result<_, ReadFault> {
        let read = (reader.stream()?, BatchSeq(reader.u64()?));
        reader.end().map(|()| read)
    };
    parse().map_err(|_| SpoolError::Record { what: "cursor" })
}

impl Replay {
    pub(super) fn handle(&mut self, visit: Visit<'_>) {
        if self.fault.is_none()
            && let Err(fault) = self.try_handle(visit)
        {
            self.fault = Some(fault);
        }
    }

    fn try_handle(&mut self, visit: Visit<'_>) -> Result<(), SpoolError> {
        match visit {
            Visit::Sealed { number, summary } => {
                let summary = Summary::decode(summary)?;
                // A snapshot that follows knows of all of them. Without one no number may be given twice.
                for (stream, held) in &summary.streams {
                    let position = self.state.positions.entry(*stream).or_default();
                    position.newest = position.newest.max(held.last);
                }
                self.segments.insert(number, summary);
            }
            Visit::Segment { number, snapshot } => {
                self.segments.insert(number, Summary::default());
                if let Some(snapshot) = snapshot {
                    self.state = Snapshot::decode(snapshot)?;
                    self.recovered.session_snapshot = self.state.sessions.clone();
                    self.recovered.session_deltas.clear();
                }
            }
            Visit::Frame { number, kind, payload } => self.handle_frame(number, kind, payload)?,
        }
        Ok(())
    }

    fn handle_frame(&mut self, number: u64, kind: u8, payload: &[u8]) -> Result<(), SpoolError> {
        let summary = self.segments.entry(number).or_default();
        match kind {
            kind if is_batch(kind) => {
                let (head, _) = BatchHead::decode(kind, payload)?;
                summary.note_batch(&head, payload.len() as u64);
                let position = self.state.positions.entry(head.stream).or_default();
                position.newest = position.newest.max(head.seq);
                self.state.last_wall = self.state.last_wall.max(Some(head.wall));
            }
            KIND_LEAF => {
                let (index, _) = read_leaf(payload)?;
                summary.note_leaf(index);
            }
            KIND_SESSION => self.recovered.session_deltas.push(payload.to_vec()),
            KIND_RELEASED => {
                let (stream, through) = read_released(payload)?;
                self.state.positions.entry(stream).or_default().acknowledge(through);
            }
            KIND_GAP => {
                let gap = GapRecord::read(&mut Reader::new(payload))?;
                self.state.positions.entry(gap.stream).or_default().note_gap(gap);
            }
            // A kind of a later program does not matter to the order of batches.
            _ => {}
        }
        Ok(())
    }
}
