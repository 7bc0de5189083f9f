//! What the spool writes: the payloads of its frames, the summary of a segment, the snapshot in its header.

use super::SpoolError;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, StreamId, WallTime};
use std::collections::BTreeMap;

pub(super) const KIND_BATCH: u8 = 1;
pub(super) const KIND_LEAF: u8 = 2;
pub(super) const KIND_SESSION: u8 = 3;
pub(super) const KIND_RELEASED: u8 = 4;
pub(super) const KIND_GAP: u8 = 5;
/// As `KIND_BATCH`, with terms before the batch's bytes.
pub(super) const KIND_BATCH_ON_TERMS: u8 = 6;

pub(super) fn is_batch(kind: u8) -> bool {
    matches!(kind, KIND_BATCH | KIND_BATCH_ON_TERMS)
}

/// The stream of a batch, without reading the rest.
pub(super) fn stream_of(payload: &[u8]) -> Option<StreamId> {
    Reader::new(payload).stream().ok()
}

/// What the spool must know of a batch without decoding it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMeta {
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub rows: u32,
    pub digest: Digest,
    /// When it may leave, for whoever decides that; empty: at once.
    pub terms: Vec<u8>,
}

/// Why batches will never arrive. The numbers are on disk and on the wire: append only, the same as
/// `guan_evidence::GapReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GapReason {
    QuotaBytes = 1,
    QuotaAge = 2,
    Damage = 3,
    Operator = 4,
    /// The contract under which they were kept has ended.
    Shredded = 5,
}

impl GapReason {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::QuotaBytes, Self::QuotaAge, Self::Damage, Self::Operator, Self::Shredded]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }
}

/// Batches of a stream that are gone, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecord {
    pub stream: StreamId,
    pub from: BatchSeq,
    pub through: BatchSeq,
    pub rows: u64,
    pub reason: GapReason,
}

/// Head of a batch frame; the batch's bytes follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchHead {
    pub(super) stream: StreamId,
    pub(super) seq: BatchSeq,
    pub(super) wall: WallTime,
    pub(super) meta: BatchMeta,
}

impl BatchHead {
    pub(super) fn kind(&self) -> u8 {
        if self.meta.terms.is_empty() { KIND_BATCH } else { KIND_BATCH_ON_TERMS }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.stream(self.stream);
        out.u64(self.seq.0);
        out.u64(self.wall.0.cast_unsigned());
        out.u32(self.meta.rows);
        out.raw(&self.meta.digest.0);
        out.text(self.meta.dataset.as_str());
        out.text(self.meta.contract.as_str());
        if !self.meta.terms.is_empty() {
            out.bytes(&self.meta.terms);
        }
        out.finish()
    }

    /// The head and the length of its bytes.
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<(Self, usize), SpoolError> {
        let mut reader = Reader::new(payload);
        let mut parse = || -> Result<Option<Self>, ReadFault> {
            let stream = reader.stream()?;
            let seq = BatchSeq(reader.u64()?);
            let wall = WallTime(reader.u64()?.cast_signed());
            let rows = reader.u32()?;
            let digest = reader.digest()?;
            let dataset = DatasetId::parse(reader.text()?).ok();
            let contract = ContractId::parse(reader.text()?).ok();
            let terms = match kind {
                KIND_BATCH_ON_TERMS => reader.bytes()?.to_vec(),
                _ => Vec::new(),
            };
            Ok(dataset.zip(contract).map(|(dataset, contract)| {
                let meta = BatchMeta { dataset, contract, rows, digest, terms };
                Self { stream, seq, wall, meta }
            }))
        };
        let head = parse().ok().flatten().ok_or(SpoolError::Record { what: "batch" })?;
        Ok((head, payload.len() - reader.left()))
    }
}

impl GapRecord {
    pub(super) fn write(&self, out: &mut Writer) {
        out.stream(self.stream);
        out.u64(self.from.0);
        out.u64(self.through.0);
        out.u64(self.rows);
        out.u8(self.reason as u8);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SpoolError> {
        let mut parse = || -> Result<Option<Self>, ReadFault> {
            let stream = reader.stream()?;
            let (from, through) = (BatchSeq(reader.u64()?), BatchSeq(reader.u64()?));
            let (rows, reason) = (reader.u64()?, GapReason::from_code(reader.u8()?));
            Ok(reason.map(|reason| Self { stream, from, through, rows, reason }))
        };
        parse().ok().flatten().ok_or(SpoolError::Record { what: "gap" })
    }
}

/// What a segment holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamSummary {
    pub(super) first: BatchSeq,
    pub(super) last: BatchSeq,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) oldest: WallTime,
    pub(super) newest: WallTime,
}

/// What a segment holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) streams: BTreeMap<StreamId, StreamSummary>,
    /// One past the last leaf.
    pub(super) leaves_end: u64,
}

impl Summary {
    pub(super) fn note_batch(&mut self, head: &BatchHead, bytes: u64) {
        let (seq, wall, rows) = (head.seq, head.wall, u64::from(head.meta.rows));
        self.streams
            .entry(head.stream)
            .and_modify(|stream| {
                stream.last = seq;
                stream.rows += rows;
                stream.bytes += bytes;
                stream.oldest = stream.oldest.min(wall);
                stream.newest = stream.newest.max(wall);
            })
            .or_insert(StreamSummary {
                first: seq,
                last: seq,
                rows,
                bytes,
                oldest: wall,
                newest: wall,
            });
    }

    pub(super) fn note_leaf(&mut self, index: u64) {
        self.leaves_end = self.leaves_end.max(index + 1);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u64(self.leaves_end);
        for (stream, summary) in &self.streams {
            out.stream(*stream);
            for number in [summary.first.0, summary.last.0, summary.rows, summary.bytes] {
                out.u64(number);
            }
            out.u64(summary.oldest.0.cast_unsigned());
            out.u64(summary.newest.0.cast_unsigned());
        }
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SpoolError> {
        let mut reader = Reader::new(bytes);
        let mut parse = || -> Result<Self, ReadFault> {
            let mut summary = Self { leaves_end: reader.u64()?, streams: BTreeMap::new() };
            while reader.left() > 0 {
                let stream = reader.stream()?;
                let (first, last) = (BatchSeq(reader.u64()?), BatchSeq(reader.u64()?));
                let (rows, bytes) = (reader.u64()?, reader.u64()?);
                let oldest = WallTime(reader.u64()?.cast_signed());
                let newest = WallTime(reader.u64()?.cast_signed());
                let one = StreamSummary { first, last, rows, bytes, oldest, newest };
                summary.streams.insert(stream, one);
            }
            Ok(summary)
        };
        parse().map_err(|_| SpoolError::Record { what: "summary" })
    }
}

/// Where a stream stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// Newest batch.
    pub(super) newest: BatchSeq,
    /// The space has everything through here.
    pub(super) acknowledged: BatchSeq,
    /// Nothing through here is held any more: acknowledged, or dropped as a gap.
    pub(super) released: BatchSeq,
    /// Gaps that the space has not been told of, in order.
    pub(super) gaps: Vec<GapRecord>,
}

impl Default for Position {
    fn default() -> Self {
        let zero = BatchSeq::ZERO;
        Self { newest: zero, acknowledged: zero, released: zero, gaps: Vec::new() }
    }
}

/// Everything that recovery needs from before a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) positions: BTreeMap<StreamId, Position>,
    pub(super) sessions: Vec<u8>,
    pub(super) last_wall: Option<WallTime>,
}

impl Snapshot {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(u8::from(self.last_wall.is_some()));
        out.u64(self.last_wall.map_or(0, |wall| wall.0.cast_unsigned()));
        out.varint(self.positions.len() as u64);
        for (stream, position) in &self.positions {
            out.stream(*stream);
            out.u64(position.newest.0);
            out.u64(position.acknowledged.0);
            out.u64(position.released.0);
            out.varint(position.gaps.len() as u64);
            for gap in &position.gaps {
                gap.write(&mut out);
            }
        }
        out.raw(&self.sessions);
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SpoolError> {
        let fault = |_| SpoolError::Record { what: "snapshot" };
        let mut reader = Reader::new(bytes);
        let has_wall = reader.u8().map_err(fault)? == 1;
        let wall = WallTime(reader.u64().map_err(fault)?.cast_signed());
        let mut positions = BTreeMap::new();
        for _ in 0..reader.varint().map_err(fault)? {
            let stream = reader.stream().map_err(fault)?;
            let newest = BatchSeq(reader.u64().map_err(fault)?);
            let acknowledged = BatchSeq(reader.u64().map_err(fault)?);
            let released = BatchSeq(reader.u64().map_err(fault)?);
            let mut gaps = Vec::new();
            for _ in 0..reader.varint().map_err(fault)? {
                gaps.push(GapRecord::read(&mut reader)?);
            }
            positions.insert(stream, Position { newest, acknowledged, released, gaps });
        }
        let sessions = reader.rest().to_vec();
        Ok(Self { positions, sessions, last_wall: has_wall.then_some(wall) })
    }
}
