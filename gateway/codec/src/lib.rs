//! Columnar batch encoding with zstd and bounded decoding.
//!
//! A stand-alone batch is `"GKB1" | length of the plain bytes varint | zstd frame`. The plain bytes are
//! canonical: header, series table, then columns over all series one after the other. Their SHA-256 is
//! the digest of the batch, so it does not depend on zstd's version or level. Invariants:
//! - `decode(encode(batch))` is the batch bit for bit: NaN payloads, -0, empty texts, quality runs.
//! - A decoder never allocates more than the announced length, which is capped, plus what the counted
//!   rows need, which are capped too.
//!
//! Never here: files, sockets, clocks.
#![forbid(unsafe_code)]

pub mod chain;
mod column;
mod fault;
mod plain;

pub use fault::{DecodeFault, TableFault};

use guan_model::bytes_io::{Reader, Writer};
use guan_model::descriptor::TABLE_BYTES_MAX;
use guan_model::{Batch, DescriptorTable, Digest};

/// First bytes of an encoded batch; the last one is the version.
pub const MAGIC: &[u8; 4] = b"GKB1";
/// Largest encoded batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Largest batch before compression: 8,192 values of 4 KiB, and their times.
pub const PLAIN_BYTES_MAX: usize = 34 << 20;
const ZSTD_LEVEL: i32 = 3;

/// How much work a chain may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Squeeze {
    #[default]
    Usual,
    /// Bytes are dearer than time: up to twice the work for some percent less.
    Hard,
}

impl Squeeze {
    fn level(self) -> i32 {
        match self {
            Self::Usual => 6,
            Self::Hard => 9,
        }
    }
}

/// An encoded batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    /// SHA-256 of the plain bytes.
    pub digest: Digest,
    pub rows: u32,
}

/// A decoded batch.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub batch: Batch,
    pub digest: Digest,
}

/// Makes a descriptor table small for the wire: one zstd frame of its canonical bytes.
pub fn pack_table(table: &DescriptorTable) -> Vec<u8> {
    let plain = table.canonical_bytes();
    zstd::bulk::compress(&plain, ZSTD_LEVEL).expect("zstd compresses into memory")
}

/// Reads a descriptor table that another party packed; takes at most `TABLE_BYTES_MAX` of memory.
pub fn unpack_table(bytes: &[u8]) -> Result<DescriptorTable, TableFault> {
    let plain = zstd::bulk::decompress(bytes, TABLE_BYTES_MAX).map_err(|_| TableFault::Inflate)?;
    Ok(DescriptorTable::from_canonical_bytes(&plain)?)
}

/// Makes a document small for the wire: one zstd frame.
pub fn pack_document(document: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(document, ZSTD_LEVEL).expect("zstd compresses into memory")
}

/// Reads a document that another party packed; takes at most `bytes_max` of memory.
pub fn unpack_document(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, TableFault> {
    zstd::bulk::decompress(bytes, bytes_max).map_err(|_| TableFault::Inflate)
}

/// Encodes a batch so that it can be decoded alone.
pub fn encode(batch: &Batch) -> Encoded {
    let plain = plain::write(batch);
    let rows = u32::try_from(batch.rows()).expect("a batch has at most ROWS_PER_BATCH_MAX rows");
    Encoded { bytes: pack(&plain), digest: Digest::of(&plain), rows }
}

/// The stand-alone batch of these plain bytes, whatever they are.
pub fn pack(plain: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(MAGIC);
    out.varint(plain.len() as u64);
    let squeezed = zstd::bulk::compress(plain, ZSTD_LEVEL).expect("zstd compresses into memory");
    out.raw(&squeezed);
    out.finish()
}

/// Reads a batch that another party encoded.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeFault> {
    let plain = self::plain(bytes)?;
    Ok(Decoded { batch: plain::read(&plain)?, digest: Digest::of(&plain) })
}

/// Only inflates: the canonical bytes whose SHA-256 is the batch's digest.
pub fn plain(bytes: &[u8]) -> Result<Vec<u8>, DecodeFault> {
    let (length, squeezed) = open(bytes)?;
    let plain = zstd::bulk::decompress(squeezed, length).map_err(|_| DecodeFault::Inflate)?;
    match plain.len() == length {
        true => Ok(plain),
        false => Err(DecodeFault::Length { announced: length, found: plain.len() }),
    }
}

/// How many plain bytes the batch announces; the same as it has unless it is damaged.
pub fn plain_length(bytes: &[u8]) -> Result<usize, DecodeFault> {
    open(bytes).map(|(length, _)| length)
}

/// Announced length and the zstd frame.
fn open(bytes: &[u8]) -> Result<(usize, &[u8]), DecodeFault> {
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(DecodeFault::TooLong { length: bytes.len(), limit: BATCH_BYTES_MAX });
    }
    let mut reader = Reader::new(bytes);
    if reader.raw(MAGIC.len())? != MAGIC {
        return Err(DecodeFault::Magic);
    }
    let announced = reader.varint()?;
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > PLAIN_BYTES_MAX {
        return Err(DecodeFault::TooLong { length, limit: PLAIN_BYTES_MAX });
    }
    Ok((length, reader.rest()))
}

#[cfg(test)]
mod tests;
