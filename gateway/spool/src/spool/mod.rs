//! The spool of a box: batches in streams, with quotas and cursors, and the leaves and session records
//! that share their commits.
//!
//! Invariants:
//! - Numbers of a stream have no hole apart from recorded gaps; `released` never passes the newest.
//! - What was pushed is durable after `commit`, all of it or none of it.
//! - A segment is removed only after the cursor that frees it is durable.
//! - Memory grows with the number of segments and gaps, never with the number of batches.
//!
//! Never here: what a batch, a leaf or a session record means.

mod contents;
mod reader;
mod record;
mod recovery;
mod status;

pub use contents::{Contents, StreamContents, contents};
pub use reader::{Item, SpoolReader, StoredBatch};
pub use record::{BatchMeta, GapReason, GapRecord};
pub use recovery::Recovered;
pub use status::{SpoolStatus, StreamStatus, VerifyReport, batches, verify};

use crate::disk::Disk;
use crate::journal::{Journal, JournalError, SNAPSHOT_BYTES_MAX};
use guan_model::bytes_io::Writer;
use guan_model::{BatchSeq, ByteCount, ClockQuality, Now, SpoolId, StreamId, WallTime};
use record::{
    BatchHead, KIND_GAP, KIND_LEAF, KIND_RELEASED, KIND_SESSION, Position, Snapshot, StreamSummary,
    Summary,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Most priority classes of a spool.
pub const STREAMS_MAX: usize = StreamId::CLASSES as usize;
/// Most lanes over all classes, so that headers and the link's hello stay short.
pub const LANES_MAX: usize = 1024;
/// Most gaps that wait to be told to the space, over all streams; older ones are joined.
pub const GAPS_MAX: usize = 1024;
/// Space that is kept for leaves, cursors and gaps when batches have used up the total quota.
pub const RESERVE_BYTES: u64 = 1 << 20;

/// What is full when no stream is.
const THE_SPOOL: &str = "the spool";
/// Session changes that are kept before a new snapshot is asked for, and their share of a segment: each
/// segment begins with them.
const SESSION_DELTAS_BYTES: u64 = 256 << 10;
const SESSION_DELTAS_SHARE: u64 = 16;

/// What happens when a stream is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// New data is not accepted; nothing accepted is lost.
    Refuse,
    /// The oldest data makes room, as a recorded gap.
    DropOldest,
}

/// Limits of one priority class, over all its lanes.
#[derive(Debug, Clone)]
pub struct StreamConfig {
    pub id: StreamId,
    pub name: String,
    pub bytes_max: u64,
    pub age_max: Option<Duration>,
    pub when_full: WhenFull,
}

/// Limits of the spool.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    pub segment_bytes_max: u64,
    /// Of all segment files together.
    pub total_bytes_max: u64,
    pub streams: Vec<StreamConfig>,
}

/// Why a stream takes no more; the operator set the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is full: {used} of {limit} used, the next batch has {wanted}; \
     restore the link, raise the limit, or set when_full = \"drop-oldest\""
)]
pub struct Full {
    /// The stream's name, or "the spool".
    pub what: String,
    pub used: ByteCount,
    pub limit: ByteCount,
    pub wanted: ByteCount,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Why the spool cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a {what} record in the spool cannot be read; it was written by another program")]
    Record { what: &'static str },
    #[error("stream {0} is not in the configuration of the spool")]
    UnknownStream(StreamId),
    #[error("the spool has {LANES_MAX} lanes; end contracts that are no longer needed")]
    Lanes,
    #[error("{count} streams are configured; give 1 to {STREAMS_MAX} with different ids")]
    Streams { count: usize },
}

impl SpoolError {
    /// Whether the disk was full; then everything since the last commit is undone.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Journal(JournalError::NoSpace))
    }
}

/// State that the reader on the link's side looks at.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    segments: BTreeMap<u64, Summary>,
    positions: BTreeMap<StreamId, Position>,
}

/// The spool; one writer owns it.
pub struct Spool<D: Disk> {
    journal: Journal<D>,
    config: SpoolConfig,
    /// As of the last commit.
    shared: Arc<Mutex<Shared>>,
    positions: BTreeMap<StreamId, Position>,
    staged: Summary,
    staged_gaps: Vec<GapRecord>,
    cursor_moved: bool,
    /// A snapshot and the deltas since, which together are a snapshot again.
    sessions: Vec<u8>,
    staged_sessions: Vec<u8>,
    session_snapshot_bytes: usize,
    last_wall: Option<WallTime>,
    leaves_sealed: u64,
}

impl<D: Disk> Spool<D> {
    pub fn id(&self) -> SpoolId {
        SpoolId(self.journal.id())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics while holding it")
    }

    fn stream(&self, id: StreamId) -> Result<&StreamConfig, SpoolError> {
        let found = self.config.streams.iter().find(|stream| stream.id == id.shared());
        found.ok_or(SpoolError::UnknownStream(id))
    }

    /// The lanes of a class and where they stand.
    fn lanes(&self, class: StreamId) -> impl Iterator<Item = (StreamId, &Position)> {
        let is_of = move |(id, _): &(StreamId, &Position)| id.shared() == class.shared();
        self.positions.iter().map(|(id, at)| (*id, at)).filter(is_of)
    }

    fn position(&mut self, id: StreamId) -> &mut Position {
        self.positions.entry(id).or_default()
    }

    /// Stages a batch; it gets the next number of its stream.
    pub fn push_batch(
        &mut self,
        stream: StreamId,
        wall: WallTime,
        meta: &BatchMeta,
        bytes: &[u8],
    ) -> Result<BatchSeq, PushError> {
        let known = self.positions.get(&stream);
        if known.is_none() && self.positions.len() >= LANES_MAX {
            return Err(SpoolError::Lanes.into());
        }
        let seq = known.map_or(BatchSeq::ZERO, |at| at.newest).next();
        let head = BatchHead { stream, seq, wall, meta: meta.clone() };
        let encoded = head.encode();
        let wanted = (encoded.len() + bytes.len()) as u64;
        self.make_room(stream, wanted)?;
        self.ensure_segment()?;
        self.journal.append(head.kind(), &[&encoded, bytes]).map_err(SpoolError::from)?;
        self.staged.note_batch(&head, wanted);
        self.last_wall = self.last_wall.max(Some(wall));
        self.position(stream).newest = seq;
        Ok(seq)
    }

    /// Stages a leaf of the evidence log.
    pub fn push_leaf(&mut self, index: u64, bytes: &[u8]) -> Result<(), SpoolError> {
        self.ensure_segment()?;
        self.journal.append(KIND_LEAF, &[&index.to_le_bytes(), bytes])?;
        self.staged.note_leaf(index);
        Ok(())
    }

    /// Stages a change of the sessions.
    pub fn push_session(&mut self, delta: &[u8]) -> Result<(), SpoolError> {
        self.ensure_segment()?;
        self.journal.append(KIND_SESSION, &[delta])?;
        self.staged_sessions.extend_from_slice(delta);
        Ok(())
    }

    /// Whether the changes since the last snapshot have grown so long that a new one is due.
    pub fn wants_session_snapshot(&self) -> bool {
        let share = self.config.segment_bytes_max / SESSION_DELTAS_SHARE;
        let deltas = usize::try_from(share.min(SESSION_DELTAS_BYTES)).expect("below a mebibyte");
        self.sessions.len() > self.session_snapshot_bytes * 2 + deltas
    }

    /// The whole state of the sessions as of the last commit; it begins the next segment.
    pub fn set_session_snapshot(&mut self, snapshot: Vec<u8>) {
        assert!(self.staged_sessions.is_empty(), "a snapshot is taken between commits");
        self.session_snapshot_bytes = snapshot.len();
        self.sessions = snapshot;
    }

    /// The space has everything through `through`. Durable with the next commit; sending again after a
    /// crash does no harm.
    pub fn release(&mut self, stream: StreamId, through: BatchSeq) -> Result<(), SpoolError> {
        self.stream(stream)?;
        self.cursor_moved |= self.position(stream).acknowledge(through);
        Ok(())
    }

    /// Leaves below `end` are in bundles of their own and no longer need the journal.
    pub fn handle_leaves_sealed(&mut self, end: u64) {
        self.leaves_sealed = self.leaves_sealed.max(end);
        self.cursor_moved = true;
    }

    /// Whether a commit would write anything.
    pub fn is_dirty(&self) -> bool {
        self.journal.has_staged() || self.cursor_moved
    }

    /// Makes everything staged durable. After `is_no_space` everything since the last commit is undone.
    pub fn commit(&mut self) -> Result<(), SpoolError> {
        let outcome = self.stage_cursors().and_then(|()| Ok(self.journal.commit()?));
        if let Err(fault) = outcome {
            self.rollback();
            return Err(fault);
        }
        self.handle_committed();
        self.trim()
    }

    /// Forgets everything since the last commit, numbers too.
    pub fn rollback(&mut self) {
        self.journal.rollback();
        self.staged = Summary::default();
        self.staged_gaps.clear();
        self.staged_sessions.clear();
        let durable = self.shared().positions.clone();
        for (stream, position) in &mut self.positions {
            // What the space has stored is true whether or not it is durable here.
            let acknowledged = position.acknowledged;
            *position = durable.get(stream).cloned().unwrap_or_default();
            position.acknowledge(acknowledged);
        }
    }

    /// Drops what is too old or above its quota. The caller records the gaps as evidence.
    pub fn enforce(&mut self, now: &Now) -> Result<Vec<GapRecord>, SpoolError> {
        // With a clock that is only carried on, nothing is old for certain.
        if now.quality != ClockQuality::Unset {
            for stream in self.config.streams.clone() {
                let Some(age_max) = stream.age_max else { continue };
                while let Some((lane, last, newest)) = self.oldest_segment_of(stream.id)
                    && now.wall.since(newest) > age_max
                {
                    self.drop_through(lane, last, GapReason::QuotaAge)?;
                }
            }
        }
        Ok(std::mem::take(&mut self.staged_gaps))
    }

    /// Gaps that quotas made since the last call; the caller records them as evidence.
    pub fn take_gaps(&mut self) -> Vec<GapRecord> {
        std::mem::take(&mut self.staged_gaps)
    }

    /// A reader for the link's side.
    pub fn reader(&self) -> SpoolReader<D> {
        SpoolReader::new(self.journal.reader(), self.shared.clone())
    }

    fn make_room(&mut self, stream: StreamId, wanted: u64) -> Result<(), PushError> {
        let config = self.stream(stream)?.clone();
        loop {
            let used = self.used(stream);
            let total = self.total();
            let room = self.config.total_bytes_max.saturating_sub(RESERVE_BYTES);
            let (over, what, used, limit) = match used + wanted > config.bytes_max {
                true => (true, format!("stream {}", config.name), used, config.bytes_max),
                false => (total + wanted > room, THE_SPOOL.to_owned(), total, room),
            };
            if !over {
                return Ok(());
            }
            let is_made = match config.when_full {
                WhenFull::DropOldest if what == THE_SPOOL => self.free_segment_of(stream)?,
                WhenFull::DropOldest => self.drop_oldest_of(stream)?,
                WhenFull::Refuse => false,
            };
            if !is_made {
                let is_others = what == THE_SPOOL && config.when_full == WhenFull::DropOldest;
                let what = if is_others { format!("{what}, held by other streams,") } else { what };
                let [used, limit, wanted] = [used, limit, wanted].map(ByteCount);
                return Err(Full { what, used, limit, wanted }.into());
            }
        }
    }

    /// Gives up the oldest segment's part of a class. `false`: it has none.
    fn drop_oldest_of(&mut self, stream: StreamId) -> Result<bool, SpoolError> {
        let Some((lane, last, _)) = self.oldest_segment_of(stream) else { return Ok(false) };
        self.drop_through(lane, last, GapReason::QuotaBytes)?;
        Ok(true)
    }

    /// Frees the oldest segment that nobody but this class holds, and gives up no batch unless there is one: what
    /// another class holds would stay on the disk all the same.
    fn free_segment_of(&mut self, stream: StreamId) -> Result<bool, SpoolError> {
        let lanes: Option<Vec<(StreamId, BatchSeq)>> = {
            let shared = self.shared();
            let held = shared.segments.values().map(|summary| {
                let held = summary.streams.iter().filter(|(lane, held)| {
                    self.positions.get(*lane).is_none_or(|at| at.released < held.last)
                });
                held.map(|(lane, held)| (*lane, held.last)).collect::<Vec<_>>()
            });
            let is_ours = |held: &Vec<(StreamId, BatchSeq)>| {
                !held.is_empty() && held.iter().all(|(lane, _)| lane.shared() == stream.shared())
            };
            held.into_iter().find(is_ours)
        };
        let Some(lanes) = lanes else { return Ok(false) };
        for (lane, last) in lanes {
            self.drop_through(lane, last, GapReason::QuotaBytes)?;
        }
        Ok(true)
    }

    /// Bytes of all segments that still hold a batch, with the leaves and sessions between, and of the batches
    /// that are staged.
    fn total(&self) -> u64 {
        let shared = self.shared();
        let is_held = |number: u64| {
            shared.segments.get(&number).is_some_and(|summary| {
                summary.streams.iter().any(|(stream, held)| {
                    self.positions.get(stream).is_none_or(|at| at.released < held.last)
                })
            })
        };
        let staged: u64 = self.staged.streams.values().map(|held| held.bytes).sum();
        self.journal.bytes_where(is_held) + staged
    }

    /// Bytes of a class that the space has not released, counted by whole segments.
    fn used(&self, stream: StreamId) -> u64 {
        let shared = self.shared();
        let lanes = shared.segments.values().chain([&self.staged]).flat_map(|held| &held.streams);
        let is_held = |(lane, held): &(&StreamId, &StreamSummary)| {
            let released = self.positions.get(*lane).map_or(BatchSeq::ZERO, |at| at.released);
            lane.shared() == stream.shared() && held.last > released
        };
        lanes.filter(is_held).map(|(_, held)| held.bytes).sum()
    }

    /// The lane of a class whose unreleased segment is the oldest, with the segment's last number and
    /// newest time.
    fn oldest_segment_of(&self, stream: StreamId) -> Option<(StreamId, BatchSeq, WallTime)> {
        let shared = self.shared();
        let of_lane = |(lane, at): (StreamId, &Position)| {
            let held = |(number, summary): (&u64, &Summary)| {
                let held = summary.streams.get(&lane).filter(|held| held.last > at.released)?;
                Some((*number, lane, held.last, held.newest))
            };
            shared.segments.iter().find_map(held)
        };
        // Of lanes that share a segment the older comes first, or the younger would keep it.
        let oldest = self.lanes(stream).filter_map(of_lane).min_by_key(|found| (found.0, found.3));
        oldest.map(|(_, lane, last, newest)| (lane, last, newest))
    }

    /// Nothing of a stream through here is held any more.
    pub fn released(&self, stream: StreamId) -> BatchSeq {
        self.positions.get(&stream).map_or(BatchSeq::ZERO, |at| at.released)
    }

    /// The last batch that was pushed to a stream.
    pub fn newest(&self, stream: StreamId) -> BatchSeq {
        self.positions.get(&stream).map_or(BatchSeq::ZERO, |at| at.newest)
    }

    /// Whether a stream is known, or leaves half of the lanes to others.
    pub fn has_ample_room_for(&self, stream: StreamId) -> bool {
        self.positions.contains_key(&stream) || self.positions.len() < LANES_MAX / 2
    }

    /// Whether all that was pushed to a lane, in any class, is released.
    pub fn is_lane_empty(&self, lane: u16) -> bool {
        let mut of_lane = self.positions.iter().filter(|(id, _)| id.lane() == lane);
        of_lane.all(|(_, at)| at.released == at.newest)
    }

    /// Gives up everything of a lane that is committed and not released: what was kept may no longer
    /// leave. The gap is durable with the next commit; the segments go when nothing else needs them.
    pub fn shred(&mut self, lane: StreamId) -> Result<Option<GapRecord>, SpoolError> {
        self.give_up(lane, self.newest(lane), GapReason::Shredded)
    }

    /// Gives up what is committed of a stream through a number, and not released; else as [`Self::shred`].
    pub fn give_up(
        &mut self,
        stream: StreamId,
        through: BatchSeq,
        reason: GapReason,
    ) -> Result<Option<GapRecord>, SpoolError> {
        assert!(!self.journal.has_staged(), "streams are given up between commits");
        let through = through.min(self.newest(stream));
        if self.released(stream) >= through {
            return Ok(None);
        }
        self.drop_through(stream, through, reason)?;
        Ok(self.staged_gaps.pop())
    }

    /// Gives up all committed batches of a stream through `through`.
    fn drop_through(
        &mut self,
        stream: StreamId,
        through: BatchSeq,
        reason: GapReason,
    ) -> Result<(), SpoolError> {
        let from = self.position(stream).released.next();
        let rows = self.rows_between(stream, from, through)?;
        let gap = GapRecord { stream, from, through, rows, reason };
        self.ensure_segment()?;
        let mut out = Writer::new();
        gap.write(&mut out);
        self.journal.append(KIND_GAP, &[&out.finish()])?;
        self.staged_gaps.push(gap.clone());
        self.position(stream).note_gap(gap);
        self.cursor_moved = true;
        Ok(())
    }

    fn rows_between(
        &self,
        stream: StreamId,
        from: BatchSeq,
        through: BatchSeq,
    ) -> Result<u64, SpoolError> {
        // What is given up may be as large as the disk: whole segments are counted by their summaries.
        let whole: BTreeMap<BatchSeq, (BatchSeq, u64)> = {
            let shared = self.shared();
            let held = shared.segments.values().filter_map(|held| held.streams.get(&stream));
            held.map(|held| (held.first, (held.last, held.rows))).collect()
        };
        let mut reader = self.reader();
        let mut rows = 0;
        let mut after = BatchSeq(from.0 - 1);
        while after < through {
            if let Some((last, held)) = whole.get(&after.next())
                && *last <= through
            {
                rows += held;
                after = *last;
                continue;
            }
            match reader.next(stream, after)? {
                Some(Item::Batch(batch)) => {
                    rows += u64::from(batch.meta.rows);
                    after = batch.seq;
                }
                Some(Item::Gap(gap)) => after = gap.through,
                None => break,
            }
        }
        Ok(rows)
    }

    fn ensure_segment(&mut self) -> Result<(), SpoolError> {
        if !self.journal.needs_segment() {
            return Ok(());
        }
        let summary = match self.journal.segment() {
            Some(number) => self.shared().segments.get(&number).cloned().unwrap_or_default(),
            None => Summary::default(),
        };
        let mut snapshot = Snapshot {
            positions: self.shared().positions.clone(),
            sessions: self.sessions.clone(),
            last_wall: self.last_wall,
        };
        for (stream, position) in &mut snapshot.positions {
            // Cursors are written as they are now; numbers as of the last commit.
            if let Some(now) = self.positions.get(stream) {
                position.acknowledge(now.acknowledged);
            }
        }
        let encoded = snapshot.encode();
        assert!(encoded.len() <= SNAPSHOT_BYTES_MAX, "sessions and gaps are limited");
        let number = self.journal.begin(&summary.encode(), encoded)?;
        self.shared().segments.insert(number, Summary::default());
        Ok(())
    }

    fn stage_cursors(&mut self) -> Result<(), SpoolError> {
        if !self.cursor_moved {
            return Ok(());
        }
        let durable = self.shared().positions.clone();
        for (stream, position) in self.positions.clone() {
            let known = durable.get(&stream).map_or(BatchSeq::ZERO, |before| before.acknowledged);
            if position.acknowledged > known {
                self.ensure_segment()?;
                let mut out = Writer::new();
                out.stream(stream);
                out.u64(position.acknowledged.0);
                self.journal.append(KIND_RELEASED, &[&out.finish()])?;
            }
        }
        Ok(())
    }

    fn handle_committed(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.sessions.append(&mut self.staged_sessions);
        let positions = self.positions.clone();
        let segment = self.journal.segment();
        let mut shared = self.shared();
        if let Some(summary) = segment.and_then(|number| shared.segments.get_mut(&number)) {
            summary.absorb(staged);
        }
        for position in positions.values() {
            assert!(position.released <= position.newest, "a cursor passed the newest batch");
        }
        shared.positions = positions;
        drop(shared);
        self.cursor_moved = false;
    }

    /// Removes segments whose batches are all released and whose leaves are all sealed. What one lane still
    /// holds in an old segment keeps the later ones of others no longer than they need. The one before the
    /// current one stays: should the header of that be damaged, it is where everything else is known from.
    fn trim(&mut self) -> Result<(), SpoolError> {
        let current = self.journal.segment();
        let free: Vec<u64> = {
            let shared = self.shared();
            let before = current.and_then(|current| {
                shared.segments.range(..current).next_back().map(|(number, _)| *number)
            });
            let is_free = |(number, summary): &(&u64, &Summary)| {
                let mut streams = summary.streams.iter();
                let is_released = streams.all(|(stream, held)| {
                    shared.positions.get(stream).is_some_and(|at| at.released >= held.last)
                });
                let is_kept = Some(**number) == current || Some(**number) == before;
                !is_kept && is_released && summary.leaves_end <= self.leaves_sealed
            };
            shared.segments.iter().filter(is_free).map(|(number, _)| *number).collect()
        };
        if !free.is_empty() {
            self.journal.remove(&free)?;
            self.shared().segments.retain(|number, _| !free.contains(number));
        }
        Ok(())
    }
}

impl Position {
    /// The space has everything through here. `true` when that is news.
    fn acknowledge(&mut self, through: BatchSeq) -> bool {
        // A space may not free what was never sent.
        let through = through.min(self.newest);
        if through <= self.acknowledged {
            return false;
        }
        self.acknowledged = through;
        self.released = self.released.max(through);
        self.gaps.retain(|gap| gap.through > through);
        true
    }

    /// Adds a gap, joined to the one before when it follows on it for the same reason.
    fn note_gap(&mut self, gap: GapRecord) {
        self.released = self.released.max(gap.through);
        let many = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut() {
            Some(last)
                if last.through.next() == gap.from && (last.reason == gap.reason || many) =>
            {
                last.through = gap.through;
                last.rows += gap.rows;
            }
            _ => self.gaps.push(gap),
        }
    }
}

impl Summary {
    fn absorb(&mut self, staged: Self) {
        self.leaves_end = self.leaves_end.max(staged.leaves_end);
        for (stream, new) in staged.streams {
            match self.streams.get_mut(&stream) {
                Some(held) => {
                    held.last = new.last;
                    held.rows += new.rows;
                    held.bytes += new.bytes;
                    held.oldest = held.oldest.min(new.oldest);
                    held.newest = held.newest.max(new.newest);
                }
                None => {
                    self.streams.insert(stream, new);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
