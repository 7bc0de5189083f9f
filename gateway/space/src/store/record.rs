//! Payloads of the store's frames and the snapshot at the beginning of its segments.

use super::{StoreError, StreamKey};
use bytes::Bytes;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{
    BatchSeq, BoxId, ContractId, DatasetId, DescriptorTable, Digest, SpoolId, StreamId, WallTime,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const KIND_BATCH: u8 = 1;
pub(super) const KIND_GAP: u8 = 2;
pub(super) const KIND_CHECKPOINT: u8 = 3;
pub(super) const KIND_DESCRIPTORS: u8 = 4;
/// A leaf of the space's log, behind its place.
pub(super) const KIND_LEAF: u8 = 5;

/// Leaves of the space's log with their places, as the journal has them.
pub(super) type LogTail = Vec<(u64, Bytes)>;

/// One batch as it came from a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub box_id: BoxId,
    pub spool: SpoolId,
    pub stream: StreamId,
    pub seq: BatchSeq,
    /// When the space received it.
    pub received: WallTime,
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub rows: u32,
    pub digest: Digest,
    pub bytes: Bytes,
}

/// Batches that will never come, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGap {
    pub box_id: BoxId,
    pub spool: SpoolId,
    pub stream: StreamId,
    pub from: BatchSeq,
    pub through: BatchSeq,
    pub rows: u64,
    pub reason: u8,
}

/// A descriptor table that a box announced, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub box_id: BoxId,
    pub table: DescriptorTable,
}

impl Announcement {
    pub fn digest(&self) -> Digest {
        self.table.digest()
    }
}

/// What one frame of the store holds.
#[derive(Debug, Clone)]
pub enum StoredRecord {
    Batch(Delivery),
    Gap(StoredGap),
    Checkpoint {
        box_id: BoxId,
        text: String,
    },
    Descriptors(Announcement),
    Leaf {
        place: u64,
        bytes: Bytes,
    },
    /// Of a later program.
    Unknown,
}

/// What a dataset has amounted to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatasetTotals {
    pub batches: u64,
    pub rows: u64,
    pub batch_bytes: u64,
}

/// State that is derived from the frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) cursors: BTreeMap<StreamKey, BatchSeq>,
    pub(super) tables: BTreeSet<Digest>,
    pub(super) checkpoints: BTreeMap<BoxId, String>,
    pub(super) totals: BTreeMap<DatasetId, DatasetTotals>,
    pub(super) batches: u64,
}

struct Place {
    box_id: BoxId,
    spool: SpoolId,
    stream: StreamId,
}

fn write_place(out: &mut Writer, box_id: &BoxId, spool: SpoolId, stream: StreamId) {
    out.text(box_id.as_str());
    out.raw(&spool.0);
    out.stream(stream);
}

fn read_place(reader: &mut Reader<'_>) -> Result<Option<Place>, ReadFault> {
    let box_id = BoxId::parse(reader.text()?).ok();
    let spool = SpoolId(reader.raw(16)?.try_into().expect("raw(16) gives 16 bytes"));
    let stream = reader.stream()?;
    Ok(box_id.map(|box_id| Place { box_id, spool, stream }))
}

fn bad(what: &'static str) -> StoreError {
    StoreError::Record { what }
}

impl Delivery {
    pub(super) fn encode_head(&self) -> Vec<u8> {
        let mut out = Writer::new();
        write_place(&mut out, &self.box_id, self.spool, self.stream);
        out.u64(self.seq.0);
        out.u64(self.received.0.cast_unsigned());
        out.text(self.dataset.as_str());
        out.text(self.contract.as_str());
        out.u32(self.rows);
        out.raw(&self.digest.0);
        out.finish()
    }

    fn decode(payload: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(payload);
        let mut parse = || -> Result<Option<Self>, ReadFault> {
            let place = read_place(&mut reader)?;
            let seq = BatchSeq(reader.u64()?);
            let received = WallTime(reader.u64()?.cast_signed());
            let dataset = DatasetId::parse(reader.text()?).ok();
            let contract = ContractId::parse(reader.text()?).ok();
            let (rows, digest) = (reader.u32()?, reader.digest()?);
            let bytes = Bytes::copy_from_slice(reader.rest());
            Ok(place.zip(dataset).zip(contract).map(|((place, dataset), contract)| {
                let Place { box_id, spool, stream } = place;
                Self {
                    box_id,
                    spool,
                    stream,
                    seq,
                    received,
                    dataset,
                    contract,
                    rows,
                    digest,
                    bytes,
                }
            }))
        };
        parse().ok().flatten().ok_or(bad("batch"))
    }
}

impl StoredGap {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        write_place(&mut out, &self.box_id, self.spool, self.stream);
        for number in [self.from.0, self.through.0, self.rows] {
            out.u64(number);
        }
        out.u8(self.reason);
        out.finish()
    }

    fn decode(payload: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader::new(payload);
        let mut parse = || -> Result<Option<Self>, ReadFault> {
            let place = read_place(&mut reader)?;
            let (from, through) = (BatchSeq(reader.u64()?), BatchSeq(reader.u64()?));
            let (rows, reason) = (reader.u64()?, reader.u8()?);
            Ok(place.map(|Place { box_id, spool, stream }| Self {
                box_id,
                spool,
                stream,
                from,
                through,
                rows,
                reason,
            }))
        };
        parse().ok().flatten().ok_or(bad("gap"))
    }
}

pub(super) fn encode_checkpoint(box_id: &BoxId, text: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(box_id.as_str());
    out.raw(text.as_bytes());
    out.finish()
}

pub(super) fn encode_descriptors(table: &Announcement) -> Vec<u8> {
    let mut out = Writer::new();
    out.text(table.box_id.as_str());
    out.raw(&table.table.canonical_bytes());
    out.finish()
}

/// Behind the snapshot: the leaves that need the journal still.
pub(super) fn encode_tail<'a>(leaves: impl Iterator<Item = (u64, &'a Bytes)>) -> Vec<u8> {
    let leaves: Vec<_> = leaves.collect();
    let mut out = Writer::new();
    out.varint(leaves.len() as u64);
    for (place, leaf) in leaves {
        out.u64(place);
        out.bytes(leaf);
    }
    out.finish()
}

impl StoredRecord {
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Self, StoreError> {
        let owner =
            |reader: &mut Reader<'_>| reader.text().ok().and_then(|text| BoxId::parse(text).ok());
        let mut reader = Reader::new(payload);
        Ok(match kind {
            KIND_BATCH => Self::Batch(Delivery::decode(payload)?),
            KIND_GAP => Self::Gap(StoredGap::decode(payload)?),
            KIND_CHECKPOINT => {
                let box_id = owner(&mut reader).ok_or(bad("checkpoint"))?;
                let text = String::from_utf8_lossy(reader.rest()).into_owned();
                Self::Checkpoint { box_id, text }
            }
            KIND_DESCRIPTORS => {
                let box_id = owner(&mut reader).ok_or(bad("descriptor"))?;
                let table = DescriptorTable::from_canonical_bytes(reader.rest());
                let table = table.map_err(|_| bad("descriptor"))?;
                Self::Descriptors(Announcement { box_id, table })
            }
            KIND_LEAF => {
                let (place, leaf) = payload.split_first_chunk().ok_or(bad("leaf"))?;
                let place = u64::from_be_bytes(*place);
                Self::Leaf { place, bytes: Bytes::copy_from_slice(leaf) }
            }
            _ => Self::Unknown,
        })
    }
}

impl Snapshot {
    pub(super) fn note_batch(&mut self, delivery: &Delivery) {
        let key = (delivery.box_id.clone(), delivery.spool, delivery.stream);
        self.cursors.insert(key, delivery.seq);
        let totals = self.totals.entry(delivery.dataset.clone()).or_default();
        totals.batches += 1;
        totals.rows += u64::from(delivery.rows);
        totals.batch_bytes += delivery.bytes.len() as u64;
        self.batches += 1;
    }

    pub(super) fn note_gap(&mut self, gap: &StoredGap) {
        let key = (gap.box_id.clone(), gap.spool, gap.stream);
        self.cursors.insert(key, gap.through);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u64(self.batches);
        out.varint(self.cursors.len() as u64);
        for ((box_id, spool, stream), through) in &self.cursors {
            write_place(&mut out, box_id, *spool, *stream);
            out.u64(through.0);
        }
        out.varint(self.tables.len() as u64);
        for digest in &self.tables {
            out.raw(&digest.0);
        }
        out.varint(self.checkpoints.len() as u64);
        for (box_id, text) in &self.checkpoints {
            out.text(box_id.as_str());
            out.text(text);
        }
        out.varint(self.totals.len() as u64);
        for (dataset, totals) in &self.totals {
            out.text(dataset.as_str());
            for number in [totals.batches, totals.rows, totals.batch_bytes] {
                out.u64(number);
            }
        }
        out.finish()
    }

    /// Older programs wrote no log: their snapshots end before its leaves.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, LogTail), StoreError> {
        let mut reader = Reader::new(bytes);
        let mut parse = || -> Result<Option<(Self, LogTail)>, ReadFault> {
            let mut snapshot = Self { batches: reader.u64()?, ..Self::default() };
            for _ in 0..reader.varint()? {
                let place = read_place(&mut reader)?;
                let through = BatchSeq(reader.u64()?);
                let Some(Place { box_id, spool, stream }) = place else { return Ok(None) };
                snapshot.cursors.insert((box_id, spool, stream), through);
            }
            for _ in 0..reader.varint()? {
                snapshot.tables.insert(reader.digest()?);
            }
            for _ in 0..reader.varint()? {
                let Ok(box_id) = BoxId::parse(reader.text()?) else { return Ok(None) };
                snapshot.checkpoints.insert(box_id, reader.text()?.to_owned());
            }
            for _ in 0..reader.varint()? {
                let Ok(dataset) = DatasetId::parse(reader.text()?) else { return Ok(None) };
                let (batches, rows) = (reader.u64()?, reader.u64()?);
                let totals = DatasetTotals { batches, rows, batch_bytes: reader.u64()? };
                snapshot.totals.insert(dataset, totals);
            }
            let mut tail = LogTail::new();
            let leaves = if reader.left() == 0 { 0 } else { reader.varint()? };
            for _ in 0..leaves {
                tail.push((reader.u64()?, Bytes::copy_from_slice(reader.bytes()?)));
            }
            Ok(Some((snapshot, tail)))
        };
        parse().ok().flatten().ok_or(bad("snapshot"))
    }
}
