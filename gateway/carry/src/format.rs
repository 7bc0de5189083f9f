//! The file: a header in the clear, then sealed records.
//!
//! ```text
//! magic 8 "GUANCARY", version u16, length of the header u16
//! header   box text, spool 16, space text, key 32 (SHA-256 of the public key), enc 32
//! record   length u32, then so many bytes: a record of `record`, sealed (HPKE, RFC 9180), in the order of the file
//! ```
//! Integers are little-endian, a text is its varint length and UTF-8. Everything before `enc` is the `info` of HPKE,
//! so that no other header goes with the records.

use crate::record::RECORD_BYTES_MAX;
use guan_identity::{SEAL_KEY_BYTES, SEAL_TAG_BYTES, SealFault};
use guan_link::FrameFault;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{BoxId, Digest, IdFault, SignFault, SpoolId};
use std::io;

pub(crate) const MAGIC: &[u8; 8] = b"GUANCARY";
/// The only version so far.
pub const VERSION: u16 = 1;
/// Longest header.
pub const HEADER_BYTES_MAX: usize = 512;
/// Longest file: more than a stick has, and less than a disk.
pub const FILE_BYTES_MAX: u64 = 64 << 30;
/// Most records of a file.
pub const RECORDS_MAX: u64 = 1 << 24;
/// Magic, version and length of the header.
pub(crate) const FIXED_BYTES: usize = 12;
/// Longest record as it stands in the file.
pub(crate) const SEALED_BYTES_MAX: usize = RECORD_BYTES_MAX + SEAL_TAG_BYTES;
const INFO: &[u8] = b"guan-carry/1\n";

/// Why a file cannot be written or taken.
#[derive(Debug, thiserror::Error)]
pub enum CarryFault {
    #[error("the file cannot be read or written")]
    File(#[from] io::Error),
    #[error("this is no file of `guan spool export`")]
    Magic,
    #[error("the file has version {found}, this program reads {VERSION}; use a newer program")]
    Version { found: u16 },
    #[error("the file's header is damaged; export again")]
    Header(#[from] ReadFault),
    #[error("a name in the file's header is none; export again")]
    Name(#[from] IdFault),
    #[error("the header has {length} bytes; the limit is {HEADER_BYTES_MAX}")]
    HeaderTooLong { length: usize },
    #[error(
        "the file is sealed for the key {found}, and this is {ours}: put that key back, or export again for this one"
    )]
    OtherKey { found: Digest, ours: Digest },
    #[error("the file ends within or after record {record}: it was cut; nothing of it counts")]
    Cut { record: u64 },
    #[error("record {record} was changed, or stands out of order; nothing of the file counts")]
    Changed { record: u64, source: SealFault },
    #[error("nothing can be sealed for this key")]
    Seal(#[from] SealFault),
    #[error("record {record} says that it has {length} bytes; the limit is {SEALED_BYTES_MAX}")]
    RecordTooLong { record: u64, length: u64 },
    #[error("the file has more than {RECORDS_MAX} records")]
    Records,
    #[error("the file has more than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "record {record} cannot be read: the box made it wrongly, or it was damaged before it was sealed"
    )]
    Record { record: u64, source: RecordFault },
    #[error("something follows after the end of the file; nothing of it counts")]
    Trailing,
    #[error("the end says {what} {said}, and the file has {found}; nothing of it counts")]
    Count { what: &'static str, said: u64, found: u64 },
    #[error("the end speaks of another file; nothing of it counts")]
    Digest,
    #[error("the end of the file cannot be signed with the box's key")]
    Sign(#[from] SignFault),
    #[error("the certificate in the file cannot be used: {detail}")]
    Certificate { detail: String },
    #[error(
        "the file says that it is of box {said}, and is signed by box {signed}; nothing of it counts"
    )]
    OtherBox { said: BoxId, signed: BoxId },
    #[error("the file is not signed with the key of its box; nothing of it counts")]
    Forged,
}

impl CarryFault {
    /// Whether a file that was copied whole would do.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}

/// Why the content of a record is none.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    #[error("it has the unknown kind {0}")]
    Kind(u8),
    #[error("it is damaged")]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Frame(#[from] FrameFault),
    #[error("it holds more than a frame, or none")]
    NotOneFrame,
    #[error("the first record is not the hello of the spool that the header names")]
    Hello,
    #[error("a batch in a chain has no place in a file")]
    Chained,
    #[error("the certificate has {length} bytes, the signature {signature}; that is too long")]
    EndTooLong { length: usize, signature: usize },
}

/// What stands in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub box_id: BoxId,
    pub spool: SpoolId,
    /// Name of the space that the file is for.
    pub space: BoxId,
    /// [`guan_identity::seal_key_id`] of the key that it is sealed for.
    pub key: Digest,
}

impl Header {
    /// All of the file up to `enc`.
    pub(crate) fn before_enc(&self) -> Result<Vec<u8>, CarryFault> {
        let mut out = Writer::new();
        out.text(self.box_id.as_str());
        out.raw(&self.spool.0);
        out.text(self.space.as_str());
        out.raw(&self.key.0);
        let fields = out.finish();
        let length = fields.len() + SEAL_KEY_BYTES;
        if length > HEADER_BYTES_MAX {
            return Err(CarryFault::HeaderTooLong { length });
        }
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.u16(VERSION);
        out.u16(u16::try_from(length).expect("it is below the limit"));
        out.raw(&fields);
        Ok(out.finish())
    }

    /// The header, and how long it is with `enc` and without.
    pub(crate) fn decode(fields: &[u8]) -> Result<(Self, [u8; SEAL_KEY_BYTES]), CarryFault> {
        let mut reader = Reader::new(fields);
        let box_id = BoxId::parse(reader.text()?)?;
        let spool = reader.raw(16)?.try_into().expect("raw(16) gives 16 bytes");
        let space = BoxId::parse(reader.text()?)?;
        let key = reader.digest()?;
        let enc = reader.raw(SEAL_KEY_BYTES)?.try_into().expect("as many bytes were taken");
        reader.end()?;
        Ok((Self { box_id, spool: SpoolId(spool), space, key }, enc))
    }
}

/// What both ends know beside the key.
pub(crate) fn info(before_enc: &[u8]) -> Vec<u8> {
    [INFO, before_enc].concat()
}
