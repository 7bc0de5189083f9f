//! The spool as the link sees it: a reader beside the writer.

use bytes::Bytes;
use guan_link::driver::{BatchSource, ReadFault};
use guan_link::{EncodedBatch, Gap, Item, StreamRange};
use guan_model::{BatchSeq, SpoolId, StreamId};
use guan_spool::{Disk, Item as Stored, SpoolError, SpoolReader};
use std::collections::BTreeSet;

/// Hands committed batches to the link.
pub struct SpoolSource<D: Disk> {
    reader: SpoolReader<D>,
    spool: SpoolId,
    streams: BTreeSet<StreamId>,
    tables: Vec<Bytes>,
}

impl<D: Disk> SpoolSource<D> {
    /// `tables` are those of [`crate::tables::keep`].
    pub fn new(
        reader: SpoolReader<D>,
        spool: SpoolId,
        streams: BTreeSet<StreamId>,
        tables: Vec<Bytes>,
    ) -> Self {
        Self { reader, spool, streams, tables }
    }
}

fn fault(fault: SpoolError) -> ReadFault {
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
        let reader = &self.reader;
        let range = |id: &StreamId| StreamRange {
            id: *id,
            oldest_unreleased: reader.acknowledged(*id).next(),
            newest: reader.newest(*id),
        };
        // Lanes that contracts had in earlier lives, too: what they hold still waits.
        let known: BTreeSet<StreamId> = reader.streams().into_iter().collect();
        Ok(known.union(&self.streams).map(range).collect())
    }

    fn descriptors(&mut self) -> Result<Vec<Bytes>, ReadFault> {
        Ok(self.tables.clone())
    }

    fn next(&mut self, stream: StreamId, after: BatchSeq) -> Result<Option<Item>, ReadFault> {
        let item = self.reader.next(stream, after).map_err(fault)?;
        Ok(item.map(|item| match item {
            Stored::Batch(batch) => Item::Batch(EncodedBatch {
                seq: batch.seq,
                dataset: batch.meta.dataset,
                contract: batch.meta.contract,
                rows: batch.meta.rows,
                digest: batch.meta.digest,
                bytes: batch.bytes,
            }),
            Stored::Gap(gap) => Item::Gap(Gap {
                from: gap.from,
                through: gap.through,
                rows: gap.rows,
                reason: gap.reason as u8,
            }),
        }))
    }
}
