//! The spool as the link sees it: a reader beside the writer, and the door through which batches leave.

use crate::leaving::{Door, Envelope, EnvelopeFault};
use crate::ledger::LinkLedger;
use crate::vault::{Vault, VaultFault};
use crate::writer::Cursors;
use bytes::Bytes;
use guan_link::driver::{BatchSource, ReadFault};
use guan_link::{EncodedBatch, Gap, Item, Kept, StreamRange};
use guan_model::{BatchSeq, Now, SpoolId, StreamId};
use guan_policy::Leave;
use guan_spool::{Disk, Item as Stored, SpoolError, SpoolReader, StoredBatch};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// Lanes that are offered before anything is in them, so that a new contract needs no new session.
const SPARE_LANES: u16 = 16;

/// Why the next batch cannot be had.
#[derive(Debug, thiserror::Error)]
enum SourceFault {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Vault(#[from] VaultFault),
    #[error(transparent)]
    Envelope(#[from] EnvelopeFault),
}

/// What the reader asks and tells beside the spool.
pub struct Doorway {
    pub door: Door,
    pub vault: Vault,
    pub clock: Box<dyn FnMut() -> Now + Send>,
    /// Streams whose batches through here can never leave; the writer gives them up.
    pub forfeits: watch::Sender<Cursors>,
    /// What each contract may use of the link.
    pub ledger: LinkLedger,
}

/// Hands committed batches to the link, as far as they may leave.
pub struct SpoolSource<D: Disk> {
    reader: SpoolReader<D>,
    spool: SpoolId,
    /// Those of the configuration.
    streams: BTreeSet<StreamId>,
    tables: Vec<Bytes>,
    doorway: Doorway,
    /// In this session.
    offered: BTreeSet<StreamId>,
    /// Streams that the session knows for a backlog.
    resting: BTreeSet<StreamId>,
}

impl<D: Disk> SpoolSource<D> {
    /// `tables` are those of [`crate::tables::keep`].
    pub fn new(
        reader: SpoolReader<D>,
        spool: SpoolId,
        streams: BTreeSet<StreamId>,
        tables: Vec<Bytes>,
        doorway: Doorway,
    ) -> Self {
        Self {
            reader,
            spool,
            streams,
            tables,
            doorway,
            offered: BTreeSet::new(),
            resting: BTreeSet::new(),
        }
    }

    /// Streams that hold something or did, those of the configuration, and some to spare.
    fn offer(&self) -> BTreeSet<StreamId> {
        let mut offer: BTreeSet<StreamId> = self.reader.streams().into_iter().collect();
        let highest = offer.iter().map(|stream| stream.lane()).max().unwrap_or(0);
        // Each open lane may get a second side.
        let highest = highest.max(self.doorway.door.lanes() * 2);
        let lanes = 0..(highest + SPARE_LANES).min(StreamId::LANES);
        for stream in &self.streams {
            let spare = lanes.clone().map(|lane| StreamId::of(stream.class(), lane));
            let room = guan_link::STREAMS_MAX - offer.len();
            let spare: Vec<StreamId> = spare.filter(|id| !offer.contains(id)).take(room).collect();
            offer.extend(spare);
        }
        offer
    }

    /// The batch in the clear, if it may leave now.
    fn leave(
        &mut self,
        stream: StreamId,
        now: Now,
        batch: StoredBatch,
    ) -> Result<Option<EncodedBatch>, SourceFault> {
        let Doorway { door, vault, forfeits, ledger, .. } = &self.doorway;
        if !ledger.allows(&batch.meta.contract) {
            return Ok(None);
        }
        let bytes = match Envelope::decode(&batch.meta.terms)? {
            // Kept by an earlier release.
            None => batch.bytes,
            Some(envelope) => {
                let leave = door.judge(stream, &envelope.terms, now);
                match leave.map_err(EnvelopeFault::from)? {
                    Leave::Now => vault.open_batch(&envelope.contract, &batch.bytes)?.into(),
                    Leave::Hold(_) => return Ok(None),
                    Leave::Never(_) => {
                        forfeits.send_modify(|forfeits| {
                            forfeits.insert(stream, batch.seq);
                        });
                        return Ok(None);
                    }
                }
            }
        };
        ledger.handle_batch(&batch.meta.contract, bytes.len() as u64);
        Ok(Some(EncodedBatch {
            seq: batch.seq,
            dataset: batch.meta.dataset,
            contract: batch.meta.contract,
            rows: batch.meta.rows,
            digest: batch.meta.digest,
            bytes,
        }))
    }

    fn try_next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, SourceFault> {
        let now = (self.doorway.clock)();
        let Some(item) = self.reader.next(stream, after)? else { return Ok(None) };
        match item {
            // What is gone is said at once, whatever holds the rest back.
            Stored::Gap(gap) => Ok(Some(Item::Gap(Gap {
                from: gap.from,
                through: gap.through,
                rows: gap.rows,
                reason: gap.reason as u8,
            }))),
            Stored::Batch(_) if self.doorway.door.held(stream, &now).is_some() => Ok(None),
            Stored::Batch(batch) => Ok(self.leave(stream, now, batch)?.map(Item::Batch)),
        }
    }
}

fn fault(fault: SourceFault) -> ReadFault {
    ReadFault(Box::new(fault))
}

impl<D: Disk + Send + 'static> BatchSource for SpoolSource<D>
where
    D::File: Send,
{
    fn spool(&self) -> SpoolId {
        self.spool
    }

    fn streams(&mut self) -> Result<Vec<StreamRange>, ReadFault> {
        self.doorway.door.handle_session();
        self.offered = self.offer();
        self.resting.clear();
        let reader = &self.reader;
        let range = |id: &StreamId| StreamRange {
            id: *id,
            oldest_unreleased: reader.acknowledged(*id).next(),
            newest: reader.newest(*id),
        };
        Ok(self.offered.iter().map(range).collect())
    }

    fn session(&self) -> u64 {
        self.doorway.door.session()
    }

    fn is_outgrown(&mut self) -> bool {
        self.reader.streams().iter().any(|stream| !self.offered.contains(stream))
    }

    fn kept(&mut self) -> Vec<Kept> {
        let new = self.doorway.door.news_of_resting(&mut self.resting).into_iter();
        let kept = |(stream, younger)| {
            let through = self.reader.newest(stream);
            Kept { stream, through, younger }
        };
        new.map(kept).collect()
    }

    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        Ok(self.tables.clone())
    }

    fn next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, ReadFault> {
        self.try_next(stream, after).map_err(fault)
    }
}
