//! Frames as bytes: length (varint, of what follows), type (u8), body.
//!
//! ```text
//! box -> space, data     0x01 Hello    version_min u16, version_max u16, spool 16, streams
//!                                      streams: count u8, then id u8, oldest varint, newest varint
//!                        0x02 Batch    stream u8, seq varint, dataset text, contract text,
//!                                      rows varint, digest 32, then the batch to the end
//!                        0x03 Gap      stream u8, from varint, through varint, rows varint, reason u8
//!                        0x04 Descriptors  to the end
//!                        0x05 Chained  stream u8, seq varint, begins u8 (0 or 1), length varint, check 4, piece to the
//!                                      end; the piece holds dataset text, contract text, rows varint, then the
//!                                      batch's canonical bytes to the end (version 2)
//! space -> box, data     0x11 Welcome  version u16, count u8, then id u8, through varint; credit varint
//!                        0x12 Ack      stream u8, through varint, credit varint
//!                        0x13 Refuse   stream u8, seq varint, reason u8, text
//! box -> space, control  0x21 Checkpoint  UTF-8 to the end
//!                        0x22 Report      UTF-8 JSON to the end
//!                        0x23 Evidence    to the end
//!                        0x24 Ask         to the end
//! space -> box, control  0x31 CheckpointSeen  size varint
//!                        0x32 Goodbye         code u8, text, retry_after_ms varint
//!                        0x33 Challenge       nonce 32, ima_start varint, ima_value 32, boot_log 32
//!                        0x34 Verdict         outcome u8, document to the end
//!                        0x35 Answer          to the end
//! ```
//! Integers are little-endian, varints LEB128, a text is its varint length and UTF-8
//! (`guan_model::bytes_io`). A type with the high bit is unknown here and skippable; that is allowed on
//! the control stream only, where later versions add configuration and contracts.

mod body;
mod decoder;
#[cfg(test)]
mod tests;

pub use decoder::FrameDecoder;

use crate::frame::{CONTRACTS_BYTES_MAX, EVIDENCE_BYTES_MAX, LETTER_BYTES_MAX, OfferFault};
use crate::text::TextTooLong;
use bytes::Bytes;
use guan_model::IdFault;
use guan_model::bytes_io::{ReadFault, Writer};

/// Longest frame of a data stream: a batch of 8 MiB and room for what stands around it.
pub const DATA_FRAME_BYTES_MAX: usize = 9 << 20;
/// Longest frame of a control stream.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 << 10;
/// Before a letter: its type, its topic and its ticket.
pub(crate) const LETTER_HEAD_BYTES: usize = 5;
/// Longest frame of the control stream of a box, which carries evidence and letters.
pub const BOX_NOTE_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + 1;
const _: () = assert!(LETTER_BYTES_MAX + LETTER_HEAD_BYTES < BOX_NOTE_BYTES_MAX);
/// Longest frame of the control stream of the space, which carries contracts and letters.
pub const SPACE_NOTE_BYTES_MAX: usize = CONTRACTS_BYTES_MAX + 1;
const _: () = assert!(LETTER_BYTES_MAX + LETTER_HEAD_BYTES < SPACE_NOTE_BYTES_MAX);
/// A receiver that does not know a type with this bit goes on without it (control stream).
pub const SKIPPABLE: u8 = 0x80;

/// The peer sent bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("a frame without a type")]
    Empty,
    #[error("a frame of {length} bytes; the limit here is {limit}")]
    TooLong { length: u64, limit: usize },
    #[error("frame type {code:#04x} is unknown here; one end may need an update")]
    UnknownType { code: u8 },
    #[error("a {frame} frame is cut short or damaged")]
    Body { frame: &'static str, source: ReadFault },
    #[error("a {frame} frame carries a name that is none")]
    Name { frame: &'static str, source: IdFault },
    #[error("a {frame} frame carries too long a text")]
    Text { frame: &'static str, source: TextTooLong },
    #[error("a {frame} frame carries an impossible list of streams")]
    Offer { frame: &'static str, source: OfferFault },
    #[error("a {frame} frame says {value} for {what}, which cannot be")]
    Value { frame: &'static str, what: &'static str, value: u64 },
}

/// A set of frames that run in one direction of one stream.
pub trait Wire: Sized {
    /// Longest frame: type and body.
    const BYTES_MAX: usize;
    /// Whether unknown types with [`SKIPPABLE`] are passed over.
    const SKIPS: bool;

    fn code(&self) -> u8;
    /// Writes the body, apart from a large tail that is returned as it is, to save a copy.
    fn write(&self, out: &mut Writer) -> Bytes;
    /// `None`: the type is unknown.
    fn read(code: u8, body: &Bytes) -> Result<Option<Self>, FrameFault>;
}

/// A frame in two pieces, to be written one after the other; the second may be empty.
pub fn encode<F: Wire>(frame: &F) -> [Bytes; 2] {
    let mut body = Writer::new();
    let tail = frame.write(&mut body);
    let body = body.finish();
    let length = 1 + body.len() + tail.len();
    assert!(length <= F::BYTES_MAX, "a frame of {length} bytes was made, {} fit", F::BYTES_MAX);
    let mut head = Writer::new();
    head.varint(length as u64);
    head.u8(frame.code());
    head.raw(&body);
    [head.finish().into(), tail]
}
