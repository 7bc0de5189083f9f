//! What box and space say to each other, as values.
//!
//! Values that exist are valid: what needs a check has private fields and a constructor. Bytes are the
//! business of [`crate::wire`].

use crate::STREAMS_MAX;
use crate::gate::GateOutcome;
use crate::text::{CheckpointText, Reason, ReportJson};
use bytes::Bytes;
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use std::time::Duration;

/// Credit that every item costs beside its bytes: names and numbers take memory too, and it bounds
/// how many small items fit into the window.
pub const ITEM_COST_BYTES: u64 = 256;

/// Longest descriptor table in its announced form.
pub const DESCRIPTORS_BYTES_MAX: usize = 8 << 20;
/// Most tables that a box announces in one session: those of the batches it still holds.
pub const DESCRIPTORS_PER_SESSION_MAX: usize = 32;

/// Reasons of gaps that the link itself makes. Numbers below 0x80 are those of the evidence log.
pub mod gap_reason {
    /// The space once acknowledged these batches and no longer knows them.
    pub const SPACE_BEHIND: u8 = 0x80;
    /// The space refused the batch for good.
    pub const REFUSED: u8 = 0x81;
    /// The spool went on without them and without a gap of its own.
    pub const MISSING: u8 = 0x82;
}

/// First byte of each QUIC stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StreamKind {
    Data = 1,
    Control = 2,
    /// Batches that overtake those of the data stream. Optional, opened by the box when it first needs it.
    Live = 3,
}

impl StreamKind {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Data, Self::Control, Self::Live].into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Versions of this protocol that a program speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: u16,
    pub max: u16,
}

impl Versions {
    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// What the box holds of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRange {
    pub id: StreamId,
    /// First place that is not yet released; `newest + 1` when everything is.
    pub oldest_unreleased: BatchSeq,
    pub newest: BatchSeq,
}

/// Place up to which a stream is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub stream: StreamId,
    pub through: BatchSeq,
}

/// A spool and its streams, ascending by id, each once, at most [`STREAMS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    spool: SpoolId,
    streams: Vec<StreamRange>,
}

/// Why a list of streams is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferFault {
    #[error("{count} streams are offered; the limit is {STREAMS_MAX}")]
    TooMany { count: usize },
    #[error("stream {stream} stands out of order or twice")]
    Order { stream: StreamId },
    #[error("stream {stream} claims to start at {oldest} and to end at {newest}")]
    Range { stream: StreamId, oldest: BatchSeq, newest: BatchSeq },
}

impl Offer {
    pub fn new(spool: SpoolId, streams: Vec<StreamRange>) -> Result<Self, OfferFault> {
        if streams.len() > STREAMS_MAX {
            return Err(OfferFault::TooMany { count: streams.len() });
        }
        if let Some(pair) = streams.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(OfferFault::Order { stream: pair[1].id });
        }
        let sound = |one: &&StreamRange| {
            one.oldest_unreleased > BatchSeq::ZERO && one.oldest_unreleased.0 - 1 <= one.newest.0
        };
        if let Some(one) = streams.iter().find(|one| !sound(one)) {
            let (stream, oldest, newest) = (one.id, one.oldest_unreleased, one.newest);
            return Err(OfferFault::Range { stream, oldest, newest });
        }
        Ok(Self { spool, streams })
    }

    pub fn spool(&self) -> SpoolId {
        self.spool
    }

    pub fn streams(&self) -> &[StreamRange] {
        &self.streams
    }
}

/// An encoded batch at its place in a stream. The link carries the bytes and never looks inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    pub seq: BatchSeq,
    pub dataset: DatasetId,
    pub contract: ContractId,
    pub rows: u32,
    /// Of the batch's canonical uncompressed bytes; the space compares it when it decodes.
    pub digest: Digest,
    pub bytes: Bytes,
}

/// Places that will never be filled, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: BatchSeq,
    pub through: BatchSeq,
    /// Readings that are gone; 0 when nobody knows.
    pub rows: u64,
    pub reason: u8,
}

/// What fills the next places of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Batch(EncodedBatch),
    Gap(Gap),
}

impl Item {
    pub fn from(&self) -> BatchSeq {
        match self {
            Self::Batch(batch) => batch.seq,
            Self::Gap(gap) => gap.from,
        }
    }

    pub fn through(&self) -> BatchSeq {
        match self {
            Self::Batch(batch) => batch.seq,
            Self::Gap(gap) => gap.through,
        }
    }

    pub fn rows(&self) -> u64 {
        match self {
            Self::Batch(batch) => u64::from(batch.rows),
            Self::Gap(gap) => gap.rows,
        }
    }

    /// Credit that the item takes. Both ends compute it from the item, not from its frame.
    pub fn cost(&self) -> u64 {
        let bytes = match self {
            Self::Batch(batch) => batch.bytes.len() as u64,
            Self::Gap(_) => 0,
        };
        ITEM_COST_BYTES + bytes
    }
}

/// First frame of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub versions: Versions,
    pub offer: Offer,
}

/// The way of a frame from the box. What is on the live pipe overtakes what waits in the transport for the data pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    Data,
    Live,
}

/// Bytes of its digest that a batch in a chain brings along: what is rebuilt wrongly is found out.
pub const CHECK_BYTES: usize = 4;

/// A batch at its place in a stream, in the chain of its pipe ([`crate::chain`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    pub seq: BatchSeq,
    /// The chain begins anew with it.
    pub begins: bool,
    /// Of what the piece holds.
    pub length: u32,
    pub check: [u8; CHECK_BYTES],
    pub piece: Bytes,
}

/// Data stream, box to space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoxFrame {
    Hello(Hello),
    /// A descriptor table that batches of this session use, before the first of them. The link
    /// carries the bytes and never looks inside.
    Descriptors(Bytes),
    Item(StreamId, Item),
    /// From version 2 on.
    Chained(StreamId, Chained),
}

/// First frame of the space: what it already holds, for exactly the streams that were offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    pub version: u16,
    pub cursors: Vec<Cursor>,
    /// Absolute: all credit granted in this session.
    pub credit_bytes: u64,
}

/// Everything of the stream through here is durable in the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub cursor: Cursor,
    /// Absolute: all credit granted in this session.
    pub credit_bytes: u64,
}

/// Why the space does not take a batch. The numbers are on the wire: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseReason {
    BadDigest,
    Undecodable,
    UnknownDataset,
    NoContract,
    Busy,
    /// Newer than this program.
    Other(u8),
}

impl RefuseReason {
    pub fn code(self) -> u8 {
        match self {
            Self::BadDigest => 1,
            Self::Undecodable => 2,
            Self::UnknownDataset => 3,
            Self::NoContract => 4,
            Self::Busy => 5,
            Self::Other(code) => code,
        }
    }

    pub fn from_code(code: u8) -> Self {
        let known = [
            Self::BadDigest,
            Self::Undecodable,
            Self::UnknownDataset,
            Self::NoContract,
            Self::Busy,
        ];
        known.into_iter().find(|one| one.code() == code).unwrap_or(Self::Other(code))
    }

    /// Whether sending the same bytes again can never help. Anything else may change in the space
    /// (a contract arrives), so the data is kept and offered again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::BadDigest | Self::Undecodable)
    }
}

/// The space does not take a batch, nor anything after it until its place is filled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    pub stream: StreamId,
    pub seq: BatchSeq,
    pub reason: RefuseReason,
    pub text: Reason,
}

/// Data stream, space to box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceFrame {
    Welcome(Welcome),
    Ack(Ack),
    Refuse(Refuse),
}

/// Longest evidence that a box sends.
pub const EVIDENCE_BYTES_MAX: usize = 512 << 10;
/// Longest question of a box about its identity, and longest answer.
pub const ASK_BYTES_MAX: usize = 32 << 10;
/// Longest list of contracts, and longest contract.
pub const CONTRACTS_BYTES_MAX: usize = 512 << 10;
/// Most contracts that a box asks for at a time.
pub const WANTED_MAX: usize = 1024;
/// Longest verdict that a space sends.
pub const VERDICT_BYTES_MAX: usize = 32 << 10;
/// Bytes of the space's nonce.
pub const NONCE_BYTES: usize = 32;

/// Longest letter.
pub const LETTER_BYTES_MAX: usize = 384 << 10;
/// Most letters that wait for the link at one end.
pub const LETTERS_MAX: usize = 16;

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A message of a contract negotiation.
    Negotiation,
    /// What the other end says to such a message.
    NegotiationAnswer,
    /// The catalogue of the box.
    Catalogue,
    /// What the space says to it.
    CatalogueReceipt,
    /// Box to space: the box's log key as a C2SP verifier key, a newline, then the body of C2SP
    /// tlog-witness `add-checkpoint`.
    Witness,
    /// Space to box: the status of `add-checkpoint` as two bytes, big endian, then its body.
    WitnessAnswer,
    /// Box to space: the log's name, a newline, the index of the first leaf in eight bytes, big endian,
    /// then leaves as in an entry bundle.
    Mirror,
    /// Space to box: the index of the leaf that the mirror wants next, in eight bytes, big endian, then
    /// the mirror's cosignature line over the last head that it has whole, or nothing.
    MirrorAnswer,
    /// Space to box, at the beginning of each session: its verifier keys, a line each with what they
    /// are for: `log VKEY`, `witness VKEY`, `mirror VKEY`.
    LogKeys,
    /// Space to box: batches that its log says it received, one leaf of kind `data.forwarded` each, in
    /// the encoding of an entry bundle; their places in time are the space's.
    Received,
    /// Box to space: leaves that it has lost and the mirror may have. The log's name, a newline, the index of the
    /// first in eight bytes and how many in four, big endian.
    MirrorAsk,
    /// Space to box: the index of the first in eight bytes, big endian, then those of the leaves that follow one
    /// another there and fit, as in an entry bundle; none, if the mirror does not have the first.
    MirrorLeaves,
}

impl Topic {
    pub const ALL: [Self; 12] = [
        Self::Negotiation,
        Self::NegotiationAnswer,
        Self::Catalogue,
        Self::CatalogueReceipt,
        Self::Witness,
        Self::WitnessAnswer,
        Self::Mirror,
        Self::MirrorAnswer,
        Self::LogKeys,
        Self::Received,
        Self::MirrorAsk,
        Self::MirrorLeaves,
    ];

    pub fn code(self) -> u8 {
        self as u8 + 1
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.code() == code)
    }
}

/// What one end tells the other beside the data. It is lost with its session: who sends it keeps it
/// until the answer, which bears the same ticket. The link never looks inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub topic: Topic,
    pub ticket: u32,
    pub body: Bytes,
}

/// Control stream, box to space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoxNote {
    Checkpoint(CheckpointText),
    Report(ReportJson),
    /// Answer to a challenge. The link carries the bytes and never looks inside.
    Evidence(Bytes),
    /// What the box asks about its identity (a renewal); likewise.
    Ask(Bytes),
    /// Contracts of the roster that the box does not have.
    Want(Vec<Digest>),
    Letter(Letter),
}

/// The space ends the session on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goodbye {
    pub code: CloseCode,
    pub text: Reason,
    /// How long the box should stay away; whole milliseconds on the wire.
    pub retry_after: Duration,
}

/// What a box is to prove, and what the space has of its logs already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub nonce: [u8; NONCE_BYTES],
    /// Entries of the list of measured files, and the value of PCR 10 to which they lead.
    pub ima_start: u64,
    pub ima_value: Digest,
    /// Of the boot log; zeros when there is none.
    pub boot_log: Digest,
}

/// Control stream, space to box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceNote {
    /// The space has kept a checkpoint of the evidence log of this size.
    CheckpointSeen {
        size: u64,
    },
    Goodbye(Goodbye),
    /// Prove what you are, for this nonce.
    Challenge(Question),
    /// What the space makes of the evidence, signed; the link never looks inside.
    Verdict {
        outcome: GateOutcome,
        document: Bytes,
    },
    /// Answer to what the box asked.
    Answer(Bytes),
    /// Which contracts stand, signed; empty when the space keeps none for this box. The link never
    /// looks inside. Sent in each session before any acknowledgement, after each change, and again
    /// every [`crate::driver::ROSTER_INTERVAL`].
    Roster(Bytes),
    /// A contract of the roster; likewise.
    Document(Bytes),
    Letter(Letter),
}

/// Why a connection is closed: QUIC application error code (RFC 9000, 20.2) and goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing is wrong: the closing end stops or restarts.
    Done,
    /// The other end broke a rule of this protocol.
    Misbehaved,
    /// No common version, or the spool and the space cannot go together.
    Incompatible,
    /// The other end was silent for too long.
    Silent,
    /// The closing end cannot read or write its store.
    Storage,
    /// The space serves as many boxes as it can.
    Full,
    /// The certificate names no box that this space serves.
    Unauthorized,
    /// The same box has connected again.
    Superseded,
    /// Newer than this program.
    Other(u8),
}

impl CloseCode {
    const KNOWN: [Self; 8] = [
        Self::Done,
        Self::Misbehaved,
        Self::Incompatible,
        Self::Silent,
        Self::Storage,
        Self::Full,
        Self::Unauthorized,
        Self::Superseded,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Misbehaved => 1,
            Self::Incompatible => 2,
            Self::Silent => 3,
            Self::Storage => 4,
            Self::Full => 5,
            Self::Unauthorized => 6,
            Self::Superseded => 7,
            Self::Other(code) => code,
        }
    }

    pub fn from_code(code: u8) -> Self {
        Self::KNOWN.into_iter().find(|one| one.code() == code).unwrap_or(Self::Other(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(id: u16, oldest: u64, newest: u64) -> StreamRange {
        let (oldest_unreleased, newest) = (BatchSeq(oldest), BatchSeq(newest));
        StreamRange { id: StreamId(id), oldest_unreleased, newest }
    }

    #[test]
    fn offers_are_bounded_ordered_and_sound() {
        let check = |streams: Vec<StreamRange>, fault: Option<OfferFault>| {
            assert_eq!(Offer::new(SpoolId([1; 16]), streams).err(), fault);
        };
        let many = |count: u16| (0..count).map(|id| range(id, 1, 0)).collect::<Vec<_>>();
        check(many(1024), None);
        check(many(1025), Some(OfferFault::TooMany { count: 1025 }));
        check(
            vec![range(1, 1, 0), range(0, 1, 0)],
            Some(OfferFault::Order { stream: StreamId(0) }),
        );
        check(
            vec![range(1, 1, 0), range(1, 1, 0)],
            Some(OfferFault::Order { stream: StreamId(1) }),
        );
        check(vec![range(0, 5, 4)], None);
        for (oldest, newest) in [(0, 4), (6, 4)] {
            let (stream, oldest, newest) = (StreamId(0), BatchSeq(oldest), BatchSeq(newest));
            let fault = OfferFault::Range { stream, oldest, newest };
            check(vec![range(0, oldest.0, newest.0)], Some(fault));
        }
    }

    #[test]
    fn the_newest_common_version_wins() {
        let check = |ours: (u16, u16), theirs: (u16, u16), expect| {
            let of = |(min, max)| Versions { min, max };
            assert_eq!(of(ours).common(of(theirs)), expect);
            assert_eq!(of(theirs).common(of(ours)), expect);
        };
        check((1, 1), (1, 1), Some(1));
        check((1, 3), (2, 5), Some(3));
        check((1, 2), (3, 4), None);
    }

    #[test]
    fn codes_survive() {
        for code in 0..=u8::MAX {
            assert_eq!(CloseCode::from_code(code).code(), code);
            assert_eq!(RefuseReason::from_code(code).code(), code);
        }
        assert_eq!(CloseCode::from_code(8), CloseCode::Other(8));
        assert_eq!(RefuseReason::from_code(5), RefuseReason::Busy);
        assert!(!RefuseReason::Other(9).is_final(), "what we do not know must not cost data");
    }
}
