//! Bytes of a segment file.
//!
//! ```text
//! header   magic "guanseg1" | number u64 | journal id 16 | snapshot length u32 | snapshot | CRC32C u32
//! frame    payload length u32 | kind u8 | CRC32C u32 | payload
//! commit   a frame of kind 0 whose payload is the offset u64 where the commit began
//! footer   a frame of kind 255 with the owner's summary, then its offset u64 and "guanfoot"
//! ```
//! All little-endian. A frame's checksum covers the segment's number and the frame's offset too, so
//! that stale bytes from elsewhere never pass for a frame.

use guan_model::bytes_io::{Reader, Writer};

/// First bytes of every segment; the last one is the version.
pub(super) const MAGIC: &[u8; 8] = b"guanseg1";
/// Last bytes of a sealed segment.
pub(super) const FOOTER_MAGIC: &[u8; 8] = b"guanfoot";
/// Largest payload of one frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Largest snapshot in a header.
pub const SNAPSHOT_BYTES_MAX: usize = 8 << 20;
/// A header with the longest snapshot.
pub(super) const HEADER_BYTES_MAX: usize = 64 + SNAPSHOT_BYTES_MAX;
/// Bytes of a header up to its snapshot.
pub(super) const HEADER_FIXED_BYTES: usize = 36;
/// Bytes of a frame around its payload.
pub(super) const FRAME_OVERHEAD: usize = 9;
pub(super) const TRAILER_BYTES: usize = 16;
pub(super) const KIND_COMMIT: u8 = 0;
pub(super) const KIND_FOOTER: u8 = 255;
/// Kinds from 1 to this one are the owner's.
pub const OWNER_KIND_MAX: u8 = 15;

fn checksum(segment: u64, offset: u64, kind: u8, payload: &[u8]) -> u32 {
    let mut place = [0; 17];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16] = kind;
    crc32c::crc32c_append(crc32c::crc32c(&place), payload)
}

/// Appends a frame that will stand at `offset`.
pub(super) fn write_frame(out: &mut Vec<u8>, segment: u64, offset: u64, kind: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("checked against FRAME_BYTES_MAX");
    out.extend_from_slice(&length.to_le_bytes());
    out.push(kind);
    out.extend_from_slice(&checksum(segment, offset, kind, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Kind and payload length of a frame head, if they can be.
pub(super) fn parse_head(head: &[u8; FRAME_OVERHEAD]) -> Option<(u8, usize, u32)> {
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let kind = head[4];
    let crc = u32::from_le_bytes(head[5..].try_into().ok()?);
    let known = kind <= OWNER_KIND_MAX || kind == KIND_FOOTER;
    (known && length <= FRAME_BYTES_MAX).then_some((kind, length, crc))
}

/// Whether a payload is what was written at this place.
pub(super) fn is_intact(segment: u64, offset: u64, kind: u8, crc: u32, payload: &[u8]) -> bool {
    checksum(segment, offset, kind, payload) == crc
}

/// What stands at the beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) id: [u8; 16],
    pub(super) snapshot: Vec<u8>,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.u64(self.number);
        out.raw(&self.id);
        let length = u32::try_from(self.snapshot.len()).expect("checked against its limit");
        out.u32(length);
        out.raw(&self.snapshot);
        let mut bytes = out.finish();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header and its length, from the beginning of a segment.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut reader = Reader::new(bytes);
        if reader.raw(8).ok()? != MAGIC {
            return None;
        }
        let number = reader.u64().ok()?;
        let id = reader.raw(16).ok()?.try_into().ok()?;
        let length = reader.u32().ok()? as usize;
        if length > SNAPSHOT_BYTES_MAX {
            return None;
        }
        let snapshot = reader.raw(length).ok()?.to_vec();
        let covered = bytes.len() - reader.left();
        let crc = reader.u32().ok()?;
        let intact = crc32c::crc32c(&bytes[..covered]) == crc;
        intact.then_some((Self { number, id, snapshot }, covered + 4))
    }

    /// Length of the header that begins so, by its own count and unchecked.
    pub(super) fn length_of(beginning: &[u8]) -> Option<usize> {
        let count = beginning.get(32..HEADER_FIXED_BYTES)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(count)).ok()?.checked_add(HEADER_FIXED_BYTES + 4)
    }

    /// Whether these bytes begin a segment of a version that this program does not know.
    pub(super) fn is_of_other_version(bytes: &[u8]) -> bool {
        let version = bytes.get(7).filter(|version| version.is_ascii_digit());
        bytes.get(..7) == Some(&MAGIC[..7]) && version.is_some_and(|version| *version != MAGIC[7])
    }
}
