//! Whole packets from a socket, with bounded memory and time.

use super::codec::{Frame, Malformed, frame};
use super::frequent::PUBLISH;
use super::limits::{LINGER_BYTES_MAX, MESSAGE_COST_MIN, PACKET_WAIT, READ_BYTES, READ_BYTES_BUSY};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireFault {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(
        "a packet of {length} bytes; the limit is {limit}: send smaller messages or raise \
         mqtt.packet_bytes_max"
    )]
    TooLarge { length: usize, limit: usize },
    /// Nothing can follow, but the client is owed an answer.
    #[error("{why}")]
    Answered { answer: &'static [u8], why: &'static str },
    #[error("a packet was begun and not finished within {} s", PACKET_WAIT.as_secs())]
    Slow,
    #[error("the client closed the connection without a goodbye")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// A place in the line for memory.
type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A whole packet and the memory that it takes of the budget.
pub(super) struct Packet {
    pub(super) bytes: BytesMut,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// The reading half of a connection.
pub(super) struct WireReader<R> {
    reader: R,
    buffer: BytesMut,
    ingest: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    packet_bytes_max: usize,
    begun: Option<Instant>,
    waiting: Option<Waiting>,
    is_busy: bool,
    /// The buffer has room for a busy client.
    is_large: bool,
}

/// What a packet takes of the budget.
fn cost(length: usize) -> u32 {
    u32::try_from(length.max(MESSAGE_COST_MIN)).expect("packets are below 256 MiB")
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    pub(super) fn new(reader: R, ingest: Arc<Semaphore>, packet_bytes_max: usize) -> Self {
        let buffer = BytesMut::with_capacity(READ_BYTES);
        Self {
            reader,
            buffer,
            ingest,
            permit: None,
            packet_bytes_max,
            begun: None,
            waiting: None,
            is_busy: false,
            is_large: false,
        }
    }

    /// The next packet. Dropped before it is done, nothing is lost.
    pub(super) async fn read(&mut self) -> Result<Packet, WireFault> {
        loop {
            let wanted = match frame(&self.buffer)? {
                Frame::Incomplete => {
                    self.note_begun();
                    READ_BYTES
                }
                Frame::Length { head, body } => {
                    let limit = self.packet_bytes_max;
                    if body > limit {
                        return Err(WireFault::TooLarge { length: body, limit });
                    }
                    let length = head + body;
                    let is_whole = self.buffer.len() >= length;
                    // A long packet gets its share before it is buffered, a short one before it
                    // is handed on; who waits here is not read.
                    let is_publish = self.buffer[0] >> 4 == PUBLISH;
                    if self.permit.is_none() && (length > READ_BYTES || (is_whole && is_publish)) {
                        self.permit = Some(self.acquire(cost(length)).await);
                        // Time spent waiting for others is not the client's fault.
                        self.begun = self.begun.map(|_| Instant::now());
                    }
                    if is_whole {
                        return Ok(self.take(length));
                    }
                    length - self.buffer.len()
                }
            };
            // Whoever filled the room has more to say: fewer and larger reads from then on.
            let wanted = if self.is_busy { wanted.max(READ_BYTES_BUSY) } else { wanted };
            if self.is_large && !self.is_busy && self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            self.is_large = self.is_busy;
            self.buffer.reserve(wanted);
            let room = self.buffer.capacity() - self.buffer.len();
            let length = self.reader.read_buf(&mut self.buffer).await?;
            if length == 0 {
                return Err(WireFault::Closed);
            }
            self.is_busy = length == room;
            self.note_begun();
        }
    }

    /// The next packet, if it has come with the one before and memory is there; all else is for
    /// [`read`](Self::read).
    pub(super) fn read_more(&mut self) -> Option<Packet> {
        let length = match frame(&self.buffer) {
            Ok(Frame::Length { head, body }) if body <= self.packet_bytes_max => head + body,
            _ => usize::MAX,
        };
        if self.buffer.len() < length {
            self.note_begun();
            return None;
        }
        if self.permit.is_none() && self.buffer[0] >> 4 == PUBLISH {
            let permit = self.ingest.clone().try_acquire_many_owned(cost(length));
            self.permit = Some(permit.ok()?);
        }
        Some(self.take(length))
    }

    /// The clock is asked only where a packet is left unfinished.
    fn note_begun(&mut self) {
        if !self.buffer.is_empty() {
            self.begun.get_or_insert_with(Instant::now);
        }
    }

    /// Waits for memory in line with the other connections. Dropped before it is done, the place in the
    /// line is kept for the next call: who has more to do than to read must not fall behind for it.
    async fn acquire(&mut self, cost: u32) -> OwnedSemaphorePermit {
        if self.waiting.is_none() {
            match self.ingest.clone().try_acquire_many_owned(cost) {
                Ok(permit) => return permit,
                Err(_) => {
                    self.waiting = Some(Box::pin(self.ingest.clone().acquire_many_owned(cost)));
                }
            }
        }
        let waiting = self.waiting.as_mut().expect("made above");
        let permit = waiting.await.expect("the budget is never closed");
        self.waiting = None;
        permit
    }

    /// Whether reading waits for memory that other messages hold: no fault of this client.
    pub(super) fn waits_for_room(&self) -> bool {
        self.waiting.is_some()
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// When a packet that was begun must be whole.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.filter(|_| self.waiting.is_none()).map(|begun| begun + PACKET_WAIT)
    }

    /// Reads what still comes, up to the end or a limit, and forgets it.
    pub(super) async fn discard(&mut self) {
        (self.permit, self.waiting) = (None, None);
        self.buffer = BytesMut::new();
        let mut bytes = [0; 512];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(count @ 1..) = self.reader.read(&mut bytes).await
            && count < left
        {
            left -= count;
        }
    }

    /// The packet shares the buffer's memory, which is free again once its reader has dropped it.
    fn take(&mut self, length: usize) -> Packet {
        let bytes = if length > READ_BYTES_BUSY {
            // The room for a long packet goes with it.
            let mut rest = BytesMut::with_capacity(READ_BYTES);
            rest.extend_from_slice(&self.buffer[length..]);
            let mut long = std::mem::replace(&mut self.buffer, rest);
            long.truncate(length);
            long
        } else {
            self.buffer.split_to(length)
        };
        self.begun = None;
        Packet { bytes, permit: self.permit.take() }
    }
}
