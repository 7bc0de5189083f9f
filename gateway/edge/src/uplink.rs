//! The spool as the link sees it: a reader beside the writer, and the door through which batches leave.

use crate::leaving::{Door, Envelope, EnvelopeFault};
use crate::ledger::LinkLedger;
use crate::vault::{Vault, VaultFault};
use crate::writer::Cursors;
use bytes::Bytes;
use guan_link::driver::{BatchSource, ReadFault};
use guan_link::{EncodedBatch, Gap, Item, Kept, STREAMS_MAX, StreamRange};
use guan_model::{BatchSeq, Now, SpoolId, StreamId};
use guan_policy::Leave;
use guan_spool::{Disk, Item as Stored, SpoolError, SpoolReader, StoredBatch};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// Lanes that are offered before anything is in them, so that a new contract needs no new session.
const SPARE_LANES: u16 = 16;
/// A session offers everything that the spool holds.
const _: () = assert!(guan_spool::spool::LANES_MAX <= STREAMS_MAX);

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

    fn offer(&self) -> BTreeSet<StreamId> {
        offer(self.reader.streams(), &self.streams, self.doorway.door.lanes())
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

/// Streams that hold something or did, those of the configuration, and some to spare. A class that needs many leaves
/// the others as many: the first batch of a stream that is not offered costs a session.
fn offer(
    held: Vec<StreamId>,
    configured: &BTreeSet<StreamId>,
    open_lanes: u16,
) -> BTreeSet<StreamId> {
    let mut offer: BTreeSet<StreamId> = held.into_iter().collect();
    let highest = offer.iter().map(|stream| stream.lane()).max().unwrap_or(0);
    // Each open lane may get a second side.
    let highest = highest.max(open_lanes * 2);
    let lanes = 0..(highest + SPARE_LANES).min(StreamId::LANES);
    let classes: BTreeSet<u16> = configured.iter().map(|stream| stream.class()).collect();
    let mut spare: Vec<(usize, u16, StreamId)> = Vec::new();
    for class in classes {
        let free = lanes.clone().map(|lane| StreamId::of(class, lane));
        let free = free.filter(|stream| !offer.contains(stream)).enumerate();
        spare.extend(free.map(|(turn, stream)| (turn, class, stream)));
    }
    spare.sort_unstable();
    // As many as the spool holds at the most.
    let room = STREAMS_MAX.saturating_sub(offer.len());
    offer.extend(spare.into_iter().take(room).map(|(_, _, stream)| stream));
    offer
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

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: u16 = StreamId::CLASSES;

    fn classes(count: u16) -> BTreeSet<StreamId> {
        (0..count).map(StreamId).collect()
    }

    fn held(class: u16, lanes: std::ops::Range<u16>) -> Vec<StreamId> {
        lanes.map(|lane| StreamId::of(class, lane)).collect()
    }

    fn of_class(offer: &BTreeSet<StreamId>, class: u16) -> Vec<u16> {
        offer.iter().filter(|stream| stream.class() == class).map(|stream| stream.lane()).collect()
    }

    #[test]
    fn all_that_may_come_is_offered_where_there_is_room() {
        let offer = offer(held(1, 3..4), &classes(2), 4);
        let lanes: Vec<u16> = (0..8 + SPARE_LANES).collect();
        assert_eq!((of_class(&offer, 0), of_class(&offer, 1)), (lanes.clone(), lanes));
        assert_eq!(offer.len(), 2 * usize::from(8 + SPARE_LANES));
    }

    /// Whatever one class takes, the others have the same room for what comes.
    #[test]
    fn what_is_to_spare_is_shared_out_over_the_classes() {
        for busy in [0, CLASSES - 1] {
            let known = held(busy, 1..301);
            let offer = offer(known.clone(), &classes(CLASSES), 300);
            assert_eq!(offer.len(), STREAMS_MAX);
            assert!(known.iter().all(|stream| offer.contains(stream)), "what is held goes first");
            let each = (STREAMS_MAX - 300) / usize::from(CLASSES);
            for class in 0..CLASSES {
                let own = if class == busy { 300 } else { 0 };
                let spare = of_class(&offer, class).len() - own;
                assert!((each..=each + 1).contains(&spare), "class {class}: {spare}");
            }
            // The numbers that lanes get next.
            assert!(of_class(&offer, busy).contains(&(300 + SPARE_LANES)), "{busy}");
        }
    }

    #[test]
    fn an_offer_has_as_many_streams_as_a_session_takes() {
        let count = u16::try_from(STREAMS_MAX).unwrap();
        for (lanes, expect) in [(1..count - 1, count), (1..count, count), (1..count + 1, count)] {
            let known = held(2, lanes);
            let offer = offer(known.clone(), &classes(CLASSES), 1000);
            assert_eq!(offer.len(), usize::from(expect), "{}", known.len());
            assert!(known.iter().all(|stream| offer.contains(stream)));
        }
    }
}
