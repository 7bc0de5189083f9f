//! The streams of a session over one ordered connection, where QUIC does not get through: a sans-IO core.
//!
//! ```text
//! record  kind u8, stream u8, length u16, then the body
//! 0 Data    the stream's next bytes
//! 1 Credit  u32: so many bytes more may be sent on the stream
//! 2 Ping    stream 0, empty: somebody is there
//! 3 Close   stream 0, code u8, UTF-8 text to the end: the connection ends
//! ```
//! Integers are little-endian. Stream 0 is opened first; what a stream is for its first byte says
//! ([`crate::StreamKind`]). Invariants:
//! - What waits to be read of a stream is at most [`WINDOW_BYTES`], what waits to be sent at most [`OUT_BYTES_MAX`] and
//!   one piece.
//! - A record of data is short, so that here a stream of higher priority waits for [`RECORD_BYTES_MAX`] at most. What
//!   the owner has taken out goes before it, though: the record that TLS holds, and all that the socket does.
//! - A path that is silent for the idle timeout is dead; something is said at each keep-alive.
//!
//! Never here: what the bytes mean, certificates, sockets.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Duration;

/// Data, control and live.
pub const STREAMS: usize = 3;
/// Longest body: with its head it fits into one record of TLS.
pub const RECORD_BYTES_MAX: usize = (16 << 10) - HEAD_BYTES;
/// What one end may send on a stream ahead of what the other has read.
pub const WINDOW_BYTES: u32 = 256 << 10;
/// From here on a stream takes nothing more until something has left.
pub const OUT_BYTES_MAX: usize = 64 << 10;
pub const HEAD_BYTES: usize = 4;
const CLOSE_TEXT_BYTES_MAX: usize = 1 << 10;

const DATA: u8 = 0;
const CREDIT: u8 = 1;
const PING: u8 = 2;
const CLOSE: u8 = 3;

/// The other end broke a rule of the records, or is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MuxFault {
    #[error("a record of the unknown kind {kind}; one end may need an update")]
    Kind { kind: u8 },
    #[error("a record for stream {stream}; there are {STREAMS}")]
    Stream { stream: u8 },
    #[error("a record of kind {kind} with {length} bytes")]
    Length { kind: u8, length: usize },
    #[error("{length} bytes for stream {stream}, which may have {allowed}")]
    Credit { stream: u8, length: usize, allowed: u32 },
    #[error("more credit for stream {stream} than can be counted")]
    CreditTooLarge { stream: u8 },
    #[error("nothing came for {} s", limit.as_secs())]
    Silent { limit: Duration },
}

/// The other end has ended the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxClose {
    pub code: u8,
    pub text: String,
}

#[derive(Debug)]
struct Stream {
    priority: i32,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Bytes that may still be sent.
    credit: u32,
    arrived: BytesMut,
    /// Bytes that may still arrive.
    allowed: u32,
    /// Bytes that were read and for which no credit was given yet.
    read: u32,
    is_heard: bool,
}

impl Stream {
    fn new() -> Self {
        Self {
            priority: 0,
            out: VecDeque::new(),
            out_bytes: 0,
            credit: WINDOW_BYTES,
            arrived: BytesMut::new(),
            allowed: WINDOW_BYTES,
            read: 0,
            is_heard: false,
        }
    }
}

/// One end of the connection.
#[derive(Debug)]
pub struct Mux {
    keep_alive: Duration,
    idle_timeout: Duration,
    streams: [Stream; STREAMS],
    /// Of records that are not whole yet.
    incoming: BytesMut,
    said_at: Duration,
    heard_at: Duration,
    /// Streams that the other end has begun and nobody has taken.
    begun: VecDeque<usize>,
    /// What is said last, until it is said.
    last_words: Option<Bytes>,
    is_closing: bool,
    closed: Option<MuxClose>,
}

impl Mux {
    pub fn new(now: Duration, keep_alive: Duration, idle_timeout: Duration) -> Self {
        Self {
            keep_alive,
            idle_timeout,
            streams: std::array::from_fn(|_| Stream::new()),
            incoming: BytesMut::new(),
            said_at: now,
            heard_at: now,
            begun: VecDeque::new(),
            last_words: None,
            is_closing: false,
            closed: None,
        }
    }

    // Streams

    /// A stream of higher priority goes first.
    pub fn set_priority(&mut self, stream: usize, priority: i32) {
        self.streams[stream].priority = priority;
    }

    /// Whether the stream takes something.
    pub fn has_room(&self, stream: usize) -> bool {
        self.streams[stream].out_bytes < OUT_BYTES_MAX
    }

    /// To be asked for room before.
    pub fn push(&mut self, stream: usize, piece: Bytes) {
        let stream = &mut self.streams[stream];
        if !piece.is_empty() {
            stream.out_bytes += piece.len();
            stream.out.push_back(piece);
        }
    }

    /// What has arrived on the stream, at most so much of it.
    pub fn take(&mut self, stream: usize, bytes_max: usize) -> Option<Bytes> {
        let stream = &mut self.streams[stream];
        let length = stream.arrived.len().min(bytes_max);
        if length == 0 {
            return None;
        }
        stream.read += u32::try_from(length).expect("a window is shorter");
        Some(stream.arrived.split_to(length).freeze())
    }

    /// A stream that the other end has begun.
    pub fn poll_begun(&mut self) -> Option<usize> {
        self.begun.pop_front()
    }

    /// What was not handed out yet is left out.
    pub fn handle_close(&mut self, code: u8, text: &str) {
        if self.is_closing {
            return;
        }
        self.is_closing = true;
        let text = &text.as_bytes()[..text.floor_char_boundary(CLOSE_TEXT_BYTES_MAX)];
        self.last_words = Some(record(CLOSE, 0, &[&[code], text].concat()));
    }

    /// Why the other end has ended the connection.
    pub fn closed(&self) -> Option<&MuxClose> {
        self.closed.as_ref()
    }

    /// Nothing more will be said.
    pub fn is_done(&self) -> bool {
        self.is_closing && self.last_words.is_none()
    }

    // The connection

    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) -> Result<(), MuxFault> {
        self.heard_at = now;
        self.incoming.extend_from_slice(bytes);
        while self.closed.is_none() && self.incoming.len() >= HEAD_BYTES {
            let (kind, stream) = (self.incoming[0], self.incoming[1]);
            let length = usize::from(u16::from_le_bytes([self.incoming[2], self.incoming[3]]));
            check_head(kind, stream, length)?;
            if self.incoming.len() < HEAD_BYTES + length {
                break;
            }
            self.incoming.advance(HEAD_BYTES);
            let body = self.incoming.split_to(length);
            self.handle_record(kind, stream, &body)?;
        }
        Ok(())
    }

    /// The next record: last words before all, then credit, then data by priority, then what keeps the path alive.
    pub fn poll_bytes(&mut self, now: Duration) -> Option<Bytes> {
        let record = match self.is_closing {
            true => self.last_words.take(),
            false => self
                .credit_record()
                .or_else(|| self.data_record())
                .or_else(|| (now >= self.said_at + self.keep_alive).then(|| record(PING, 0, &[]))),
        };
        if record.is_some() {
            self.said_at = now;
        }
        record
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_bytes`](Self::poll_bytes) are due.
    pub fn poll_timeout(&self) -> Duration {
        let given_up_at = self.heard_at + self.idle_timeout;
        match self.is_closing {
            true => given_up_at,
            false => given_up_at.min(self.said_at + self.keep_alive),
        }
    }

    pub fn handle_timeout(&self, now: Duration) -> Result<(), MuxFault> {
        match now >= self.heard_at + self.idle_timeout {
            true => Err(MuxFault::Silent { limit: self.idle_timeout }),
            false => Ok(()),
        }
    }

    fn handle_record(&mut self, kind: u8, number: u8, body: &[u8]) -> Result<(), MuxFault> {
        let index = usize::from(number);
        let stream = &mut self.streams[index];
        match kind {
            DATA => {
                let length = u32::try_from(body.len()).expect("a record is short");
                let Some(allowed) = stream.allowed.checked_sub(length) else {
                    let (length, allowed) = (body.len(), stream.allowed);
                    return Err(MuxFault::Credit { stream: number, length, allowed });
                };
                stream.allowed = allowed;
                stream.arrived.extend_from_slice(body);
                if !std::mem::replace(&mut stream.is_heard, true) {
                    self.begun.push_back(index);
                }
            }
            CREDIT => {
                let more = u32::from_le_bytes(body.try_into().expect("the head was checked"));
                let credit = stream.credit.checked_add(more);
                stream.credit = credit.ok_or(MuxFault::CreditTooLarge { stream: number })?;
            }
            CLOSE => {
                let (code, text) = body.split_first().expect("the head was checked");
                let text = String::from_utf8_lossy(text).into_owned();
                self.closed = Some(MuxClose { code: *code, text });
            }
            _ => {}
        }
        Ok(())
    }

    fn credit_record(&mut self) -> Option<Bytes> {
        let due = |stream: &Stream| stream.read >= WINDOW_BYTES / 2;
        let index = self.streams.iter().position(due)?;
        let stream = &mut self.streams[index];
        let more = std::mem::take(&mut stream.read);
        stream.allowed += more;
        Some(record(CREDIT, number(index), &more.to_le_bytes()))
    }

    fn data_record(&mut self) -> Option<Bytes> {
        let ready = |index: &usize| {
            let stream = &self.streams[*index];
            stream.out_bytes > 0 && stream.credit > 0
        };
        let ready = (0..STREAMS).filter(ready);
        let index = ready.max_by_key(|index| (self.streams[*index].priority, STREAMS - index))?;
        let stream = &mut self.streams[index];
        let credit = usize::try_from(stream.credit).unwrap_or(usize::MAX);
        let room = credit.min(RECORD_BYTES_MAX);
        let mut body = BytesMut::with_capacity(room.min(stream.out_bytes));
        while body.len() < room
            && let Some(piece) = stream.out.front_mut()
        {
            let part = piece.split_to(piece.len().min(room - body.len()));
            body.extend_from_slice(&part);
            if piece.is_empty() {
                stream.out.pop_front();
            }
        }
        stream.out_bytes -= body.len();
        stream.credit -= u32::try_from(body.len()).expect("at most the credit was taken");
        Some(record(DATA, number(index), &body))
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index).expect("few streams")
}

fn check_head(kind: u8, stream: u8, length: usize) -> Result<(), MuxFault> {
    let streams = match kind {
        DATA | CREDIT => STREAMS,
        PING | CLOSE => 1,
        _ => return Err(MuxFault::Kind { kind }),
    };
    if usize::from(stream) >= streams {
        return Err(MuxFault::Stream { stream });
    }
    let fits = match kind {
        DATA => (1..=RECORD_BYTES_MAX).contains(&length),
        CREDIT => length == 4,
        PING => length == 0,
        _ => (1..=CLOSE_TEXT_BYTES_MAX + 1).contains(&length),
    };
    if fits { Ok(()) } else { Err(MuxFault::Length { kind, length }) }
}

fn record(kind: u8, stream: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
    out.put_u8(kind);
    out.put_u8(stream);
    out.put_u16_le(u16::try_from(body.len()).expect("a record is short"));
    out.put_slice(body);
    out.freeze()
}

#[cfg(test)]
mod tests;
