//! The embedded store of the space: what boxes delivered, each batch once, durable before the ack.
//!
//! Built on the spool's journal. Cursors, totals and names of points are derived from the files: each
//! segment begins with a snapshot of them, the last one is replayed. Invariants:
//! - Batches of a box's stream are stored without holes; what comes again is dropped and counted.
//! - `commit` is one fdatasync for everything that came in since the last one.
//! - A batch is stored only if it decodes and is what it says it is.
//! - A batch and the leaf of the space's log that says so are in one commit.
//!
//! Never here: connections, certificates, Parquet.

mod log;
mod record;

pub use log::{HEAD_INTERVAL, HEAD_LEAVES_MAX, LogParts, Logged, log_origin};
pub use record::{Announcement, DatasetTotals, Delivery, StoredGap, StoredRecord};

use crate::retention::{Retention, RetentionFault};
use bytes::Bytes;
use guan_codec::DecodeFault;
use guan_evidence::{LeafBody, Received};
use guan_log::{EvidenceLog, EvidenceLogError, LeavesDamaged, LogHead, SignedHead};
use guan_model::{BatchSeq, BoxId, DatasetId, Digest, Now, SpoolId, StreamId};
use guan_spool::{Disk, Journal, JournalConfig, JournalError, Salvage, Visit, journal};
use log::SpaceLog;
use record::{
    KIND_BATCH, KIND_CHECKPOINT, KIND_DESCRIPTORS, KIND_GAP, KIND_LEAF, LogTail, Snapshot,
    encode_checkpoint, encode_descriptors, encode_tail,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Most streams of all boxes together whose cursors are kept.
pub const CURSORS_MAX: usize = 65_536;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a {what} record in the store cannot be read; it was written by another program")]
    Record { what: &'static str },
    #[error(transparent)]
    Log(EvidenceLogError),
    #[error(
        "the folder of the space's log has {have} leaves, the store knows of {expected}: put the \
         folder `log` back beside the store"
    )]
    LogFolder { have: u64, expected: u64 },
}

pub(crate) fn is_full(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a delivery is not stored; the box that sent it is to blame.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the batch cannot be decoded")]
    Decode(#[source] DecodeFault),
    #[error("the batch has digest {found}, {announced} was announced")]
    Digest { found: Digest, announced: Digest },
    #[error("the batch says {what} {found}, {announced} was announced")]
    Header { what: &'static str, found: String, announced: String },
    #[error("batch {seq} of stream {stream} came after {through}: batches between are missing")]
    Hole { stream: StreamId, seq: BatchSeq, through: BatchSeq },
    #[error("the descriptor table {digest} was not announced before the batch that uses it")]
    Descriptors { digest: Digest },
    #[error("the space keeps {CURSORS_MAX} streams, none is free for a new one")]
    Cursors,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Staged; durable after the next commit.
    New,
    /// Known already.
    Duplicate,
}

/// A delivery whose bytes are what was announced.
#[derive(Debug, Clone)]
pub struct Judged {
    delivery: Delivery,
    descriptors: Digest,
}

impl Judged {
    /// Decodes the whole batch: what does not decode must not be acknowledged.
    pub fn judge(delivery: Delivery) -> Result<Self, Refused> {
        let decoded = guan_codec::decode(&delivery.bytes).map_err(Refused::Decode)?;
        if decoded.digest != delivery.digest {
            let (found, announced) = (decoded.digest, delivery.digest);
            return Err(Refused::Digest { found, announced });
        }
        let header = &decoded.batch.header;
        let contract = header.contract.as_ref().map(ToString::to_string).unwrap_or_default();
        let pairs = [
            ("dataset", header.dataset.to_string(), delivery.dataset.to_string()),
            ("contract", contract, delivery.contract.to_string()),
            ("rows", decoded.batch.rows().to_string(), delivery.rows.to_string()),
        ];
        for (what, found, announced) in pairs {
            if found != announced {
                return Err(Refused::Header { what, found, announced });
            }
        }
        let descriptors = header.descriptors;
        Ok(Self { delivery, descriptors })
    }

    /// Enciphers it, if its contract wants it deleted one day.
    pub fn seal(&mut self, retention: &Retention) -> Result<(), RetentionFault> {
        retention.seal(&mut self.delivery)
    }

    /// The descriptor table that the batch refers to.
    pub fn descriptors(&self) -> Digest {
        self.descriptors
    }
}

/// Identity of one stream of one life of a box.
pub type StreamKey = (BoxId, SpoolId, StreamId);

/// Counters since the program started.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreCounters {
    pub commits: u64,
    pub batches: u64,
    pub duplicates: u64,
    pub refused: u64,
}

/// The store; one thread owns it.
pub struct Store<D: Disk> {
    journal: Journal<D>,
    /// With what is staged; equal to the durable state after each commit.
    state: Snapshot,
    durable: Snapshot,
    log: SpaceLog<D>,
    counters: StoreCounters,
}

impl<D: Disk> Store<D> {
    pub fn open(
        disk: D,
        segment_bytes_max: u64,
        id: [u8; 16],
        log: LogParts<D>,
    ) -> Result<(Self, Salvage), StoreError> {
        let (mut state, mut tail) = (Snapshot::default(), LogTail::new());
        let mut fault = None;
        let config = JournalConfig { segment_bytes_max };
        let (journal, salvage) = Journal::open(disk, config, id, &mut |visit| {
            if let Err(bad) = replay(&mut state, &mut tail, visit) {
                fault.get_or_insert(bad);
            }
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let durable = state.clone();
        let log = SpaceLog::open(log, tail, SpoolId(journal.id()))?;
        let counters = StoreCounters::default();
        Ok((Self { journal, state, durable, log, counters }, salvage))
    }

    /// How far each stream of a spool is durable.
    pub fn cursors(&self, box_id: &BoxId, spool: SpoolId) -> BTreeMap<StreamId, BatchSeq> {
        let all = self.durable.cursors.iter();
        let own = all.filter(|((owner, life, _), _)| owner == box_id && *life == spool);
        own.map(|((_, _, stream), through)| (*stream, *through)).collect()
    }

    /// Stages the points of a box. Known tables cost nothing.
    pub fn announce(&mut self, table: &Announcement) -> Result<(), StoreError> {
        if self.state.tables.contains(&table.digest()) {
            return Ok(());
        }
        self.ensure_segment()?;
        self.journal.append(KIND_DESCRIPTORS, &[&encode_descriptors(table)])?;
        self.state.tables.insert(table.digest());
        Ok(())
    }

    /// Stages a batch, and the leaf that says so.
    pub fn deliver(
        &mut self,
        now: &Now,
        judged: &Judged,
    ) -> Result<Result<Taken, Refused>, StoreError> {
        let delivery = &judged.delivery;
        let key = (delivery.box_id.clone(), delivery.spool, delivery.stream);
        let through = self.through(&key);
        if delivery.seq <= through {
            self.counters.duplicates += 1;
            return Ok(Ok(Taken::Duplicate));
        }
        if let Err(refused) = self.check(judged, through, &key) {
            self.counters.refused += 1;
            return Ok(Err(refused));
        }
        self.ensure_segment()?;
        self.journal.append(KIND_BATCH, &[&delivery.encode_head(), &delivery.bytes])?;
        self.state.note_batch(delivery);
        let received = Received {
            box_id: delivery.box_id.clone(),
            spool: delivery.spool,
            stream: delivery.stream,
            seq: delivery.seq,
            dataset: delivery.dataset.clone(),
            contract: delivery.contract.clone(),
            rows: u64::from(delivery.rows),
            batch: delivery.digest,
        };
        self.note(now, LeafBody::Received(received))?;
        Ok(Ok(Taken::New))
    }

    /// Stages a leaf of the space's log.
    pub fn note(&mut self, now: &Now, body: LeafBody) -> Result<(), StoreError> {
        self.note_of(now, None, body)
    }

    /// The same of what somebody did; `actor` is the commitment to who.
    pub fn note_of(
        &mut self,
        now: &Now,
        actor: Option<Digest>,
        body: LeafBody,
    ) -> Result<(), StoreError> {
        self.ensure_segment()?;
        let leaves = self.log.append(now, actor, body);
        self.keep(leaves)
    }

    /// Stages the leaf with which a run begins. If its commit fails, it stands before the next one.
    pub fn start(&mut self, now: &Now) -> Result<(), StoreError> {
        self.ensure_segment()?;
        let leaves = self.log.start(now);
        self.keep(leaves)
    }

    fn keep(&mut self, leaves: LogTail) -> Result<(), StoreError> {
        for (place, leaf) in leaves {
            self.journal.append(KIND_LEAF, &[&place.to_be_bytes(), &leaf])?;
        }
        Ok(())
    }

    /// Stages a gap: these batches will never come.
    pub fn note_gap(&mut self, gap: &StoredGap) -> Result<Result<Taken, Refused>, StoreError> {
        let key = (gap.box_id.clone(), gap.spool, gap.stream);
        let through = self.through(&key);
        if gap.through <= through {
            return Ok(Ok(Taken::Duplicate));
        }
        if gap.from > through.next() {
            let (stream, seq) = (gap.stream, gap.from);
            return Ok(Err(Refused::Hole { stream, seq, through }));
        }
        self.ensure_segment()?;
        self.journal.append(KIND_GAP, &[&gap.encode()])?;
        self.state.note_gap(gap);
        Ok(Ok(Taken::New))
    }

    /// Stages the newest signed head of a box's log.
    pub fn note_checkpoint(&mut self, box_id: &BoxId, text: &str) -> Result<(), StoreError> {
        self.ensure_segment()?;
        self.journal.append(KIND_CHECKPOINT, &[&encode_checkpoint(box_id, text)])?;
        self.state.checkpoints.insert(box_id.clone(), text.to_owned());
        Ok(())
    }

    /// Makes everything staged durable. When the disk is full it is undone and must be sent again.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if let Err(fault) = self.journal.commit() {
            self.rollback();
            return Err(fault.into());
        }
        self.counters.batches += self.state.batches - self.durable.batches;
        self.counters.commits += 1;
        self.durable.clone_from(&self.state);
        self.log.handle_committed();
        match self.log.seal() {
            // The commit stands: the leaves stay in the journal, and nothing new is taken before
            // they are sealed.
            Err(StoreError::Journal(JournalError::NoSpace)) => Ok(()),
            sealed => sealed,
        }
    }

    /// Signs the head of the log, if it is time.
    pub fn sign_due(&mut self, now: &Now) -> Result<Option<SignedHead>, StoreError> {
        self.log.sign_due(now)
    }

    /// Signs the head of the log, if it has moved.
    pub fn sign(&mut self, now: &Now) -> Result<Option<SignedHead>, StoreError> {
        self.log.sign(now)
    }

    /// Whether leaves wait for a signed head.
    pub fn is_unsigned(&self) -> bool {
        self.log.is_unsigned()
    }

    /// Size and root of the log after the last commit.
    pub fn log_head(&self) -> LogHead {
        self.log.head()
    }

    /// Leaves of the log that cannot be read any more, as the log says after the next start.
    pub fn log_damaged(&self) -> &[LeavesDamaged] {
        self.log.damaged()
    }

    /// Leaves about batches, of all commits since the last call.
    pub fn take_logged(&mut self) -> Vec<Logged> {
        self.log.take_logged()
    }

    /// Forgets what is staged.
    pub fn rollback(&mut self) {
        self.journal.rollback();
        self.log.rollback();
        self.state = self.durable.clone();
    }

    pub fn counters(&self) -> StoreCounters {
        self.counters
    }

    /// Rows, batches and bytes of each dataset over the life of the store.
    pub fn totals(&self) -> &BTreeMap<DatasetId, DatasetTotals> {
        &self.durable.totals
    }

    /// Digests of the descriptor tables that batches may refer to.
    pub fn tables(&self) -> &BTreeSet<Digest> {
        &self.durable.tables
    }

    pub fn all_cursors(&self) -> &BTreeMap<StreamKey, BatchSeq> {
        &self.durable.cursors
    }

    pub fn checkpoints(&self) -> &BTreeMap<BoxId, String> {
        &self.durable.checkpoints
    }

    pub fn disk_bytes(&self) -> u64 {
        self.journal.bytes()
    }

    fn through(&self, key: &StreamKey) -> BatchSeq {
        self.state.cursors.get(key).copied().unwrap_or(BatchSeq::ZERO)
    }

    fn check(&self, judged: &Judged, through: BatchSeq, key: &StreamKey) -> Result<(), Refused> {
        let delivery = &judged.delivery;
        if delivery.seq != through.next() {
            let (stream, seq) = (delivery.stream, delivery.seq);
            return Err(Refused::Hole { stream, seq, through });
        }
        let is_known = self.state.cursors.contains_key(key);
        if !is_known && self.state.cursors.len() >= CURSORS_MAX {
            return Err(Refused::Cursors);
        }
        if !self.state.tables.contains(&judged.descriptors) {
            return Err(Refused::Descriptors { digest: judged.descriptors });
        }
        Ok(())
    }

    fn ensure_segment(&mut self) -> Result<(), StoreError> {
        if !self.journal.has_staged() && self.log.must_seal() {
            self.log.seal()?;
        }
        if self.journal.needs_segment() {
            // Segments change between commits only, so the state is the durable one here.
            let tail = encode_tail(self.log.unsealed());
            self.journal.begin(&[], [self.durable.encode(), tail].concat())?;
        }
        Ok(())
    }
}

fn replay(state: &mut Snapshot, tail: &mut LogTail, visit: Visit<'_>) -> Result<(), StoreError> {
    match visit {
        Visit::Sealed { .. } | Visit::Segment { snapshot: None, .. } => {}
        Visit::Segment { snapshot: Some(snapshot), .. } => {
            (*state, *tail) = Snapshot::decode(snapshot)?;
        }
        Visit::Frame { kind, payload, .. } => match StoredRecord::decode(kind, payload)? {
            StoredRecord::Batch(delivery) => state.note_batch(&delivery),
            StoredRecord::Gap(gap) => state.note_gap(&gap),
            StoredRecord::Checkpoint { box_id, text } => {
                state.checkpoints.insert(box_id, text);
            }
            StoredRecord::Descriptors(table) => {
                state.tables.insert(table.digest());
            }
            StoredRecord::Leaf { place, bytes } => tail.push((place, bytes)),
            StoredRecord::Unknown => {}
        },
    }
    Ok(())
}

/// The leaves of the space's log that lie in the journal and in no bundle of `log` yet, while the daemon may be
/// running. The journal keeps those of years, too, which need no memory here.
pub fn read_leaves<L: Disk>(disk: &impl Disk, log: L) -> Result<Vec<(u64, Bytes)>, StoreError> {
    let from = EvidenceLog::tail_from(log).map_err(StoreError::Log)?;
    let mut leaves = Vec::new();
    read_all(disk, &mut |record| {
        if let StoredRecord::Leaf { place, bytes } = record
            && place >= from
        {
            leaves.push((place, bytes));
        }
        Ok(())
    })?;
    Ok(leaves)
}

/// Reads everything that the store holds, in order, while the daemon may be running.
pub fn read_all(
    disk: &impl Disk,
    handle: &mut dyn FnMut(StoredRecord) -> Result<(), StoreError>,
) -> Result<Salvage, StoreError> {
    let mut fault = None;
    let salvage = journal::survey(disk, &mut |visit| {
        if let Visit::Frame { kind, payload, .. } = visit
            && fault.is_none()
            && let Err(bad) = StoredRecord::decode(kind, payload).and_then(&mut *handle)
        {
            fault = Some(bad);
        }
    })?;
    fault.map_or(Ok(salvage), Err)
}

#[cfg(test)]
pub(crate) mod tests;
