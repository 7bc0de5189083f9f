//! Batches in a chain: on each pipe a batch is told by what it shares with those before it on the same pipe, so that
//! small ones cost little more than their news ([`guan_codec::chain`]).
//!
//! The batch stands alone in the spool and in the space; only between them it does not. What the space rebuilds has
//! the canonical bytes that the box has, and so the digest that its log names; four bytes of that come along and are
//! compared. Invariants:
//! - Frames of a pipe are made and read in one order; a chain lives as long as its session at most, and begins anew
//!   after [`EPOCH_BYTES_MAX`].
//! - Both ends count the credit of a batch in a chain by the length of what is told, which bounds what the space holds.
//!
//! Never here: what is damaged or unsound in the spool. It goes alone, so that the space can refuse it by name.

use crate::frame::{CHECK_BYTES, Chained, EncodedBatch, ITEM_COST_BYTES};
use bytes::Bytes;
use guan_codec::Squeeze;
use guan_codec::chain::{ChainFault, ChainReader, ChainWriter, PIECE_BYTES_MAX};
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{ContractId, DatasetId, Digest, IdFault};

/// First version that has chains.
pub const VERSION_MIN: u16 = 2;
/// Longest batch in canonical bytes that goes into a chain while the link has room: longer ones gain little, and
/// squeezing them again costs time.
pub const CHAINED_BYTES_MAX: usize = 16 << 10;
/// The same while the link is what holds the box up.
pub const CHAINED_BYTES_MAX_SCARCE: usize = PIECE_BYTES_MAX - HEAD_BYTES_MAX;
/// A chain begins anew after so many bytes, with the effort that fits then.
pub const EPOCH_BYTES_MAX: u64 = 4 << 20;
/// Two names and a number.
const HEAD_BYTES_MAX: usize = 1 << 10;

/// What was told makes no batch. Whoever told it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnchainFault {
    #[error("its chain has not begun")]
    NotBegun,
    #[error(transparent)]
    Chain(#[from] ChainFault),
    #[error("it is cut short")]
    Read(#[from] ReadFault),
    #[error("it carries a name that is none")]
    Name(#[from] IdFault),
    #[error("it says {rows} rows")]
    Rows { rows: u64 },
    #[error("it is another one than its digest says")]
    Check,
}

/// What the chain is told of a batch: names, rows, canonical bytes.
#[derive(Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `None`: it goes alone, as it is too long or not sound.
    pub(crate) fn of(batch: &EncodedBatch, bytes_max: usize) -> Option<Self> {
        if guan_codec::plain_length(&batch.bytes).ok()? > bytes_max {
            return None;
        }
        let plain = guan_codec::plain(&batch.bytes).ok()?;
        if Digest::of(&plain) != batch.digest {
            return None;
        }
        let mut out = Writer::new();
        out.text(batch.dataset.as_str());
        out.text(batch.contract.as_str());
        out.varint(batch.rows.into());
        out.raw(&plain);
        Some(Self { bytes: out.finish() })
    }

    /// Credit that it takes.
    pub(crate) fn cost(&self) -> u64 {
        ITEM_COST_BYTES + self.bytes.len() as u64
    }
}

impl Chained {
    /// Credit that it takes; the same as that of its message.
    pub fn cost(&self) -> u64 {
        ITEM_COST_BYTES + u64::from(self.length)
    }
}

/// The box's end of a pipe's chain.
#[derive(Debug, Default)]
pub(crate) struct ChainOut {
    writer: Option<ChainWriter>,
}

impl ChainOut {
    pub(crate) fn write(
        &mut self,
        batch: &EncodedBatch,
        message: &Message,
        squeeze: Squeeze,
    ) -> Chained {
        let is_over = |writer: &mut ChainWriter| writer.taken_bytes() >= EPOCH_BYTES_MAX;
        if self.writer.as_mut().is_some_and(is_over) {
            self.writer = None;
        }
        let begins = self.writer.is_none();
        let writer = self.writer.get_or_insert_with(|| ChainWriter::new(squeeze));
        let piece = Bytes::from(writer.write(&message.bytes));
        let check = batch.digest.0[..CHECK_BYTES].try_into().expect("a digest is longer");
        let length = u32::try_from(message.bytes.len()).expect("pieces are short");
        Chained { seq: batch.seq, begins, length, check, piece }
    }
}

/// The space's end of a pipe's chain.
#[derive(Debug, Default)]
pub(crate) struct ChainIn {
    reader: Option<ChainReader>,
}

impl ChainIn {
    /// What was told of the batch, for [`unpack`]; the chain goes on from it.
    pub(crate) fn read(&mut self, chained: &Chained) -> Result<Vec<u8>, UnchainFault> {
        if chained.begins {
            self.reader = Some(ChainReader::new());
        }
        let reader = self.reader.as_mut().ok_or(UnchainFault::NotBegun)?;
        let length = usize::try_from(chained.length).unwrap_or(usize::MAX);
        Ok(reader.read(&chained.piece, length)?)
    }
}

/// The batch as it stands alone. Costs a digest and a compression.
pub(crate) fn unpack(chained: &Chained, message: &[u8]) -> Result<EncodedBatch, UnchainFault> {
    let mut reader = Reader::new(message);
    let dataset = DatasetId::parse(reader.text()?)?;
    let contract = ContractId::parse(reader.text()?)?;
    let rows = reader.varint()?;
    let rows = u32::try_from(rows).map_err(|_| UnchainFault::Rows { rows })?;
    let plain = reader.rest();
    let digest = Digest::of(plain);
    if digest.0[..CHECK_BYTES] != chained.check {
        return Err(UnchainFault::Check);
    }
    let bytes = Bytes::from(guan_codec::pack(plain));
    Ok(EncodedBatch { seq: chained.seq, dataset, contract, rows, digest, bytes })
}
