//! Whole packets from a socket, with bounded memory and time.

use super::codec::{Frame, Malformed, frame};
use super::limits::{LINGER_BYTES_MAX, MESSAGE_COST_MIN, PACKET_WAIT, READ_BYTES};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Packet type of PUBLISH in the first byte's upper half.
const PUBLISH: u8 = 3;

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
}

impl<R: AsyncRead + Unpin> WireReader<R> {
    pub(super) fn new(reader: R, ingest: Arc<Semaphore>, packet_bytes_max: usize) -> Self {
        let buffer = BytesMut::with_capacity(READ_BYTES);
        Self { reader, buffer, ingest, permit: None, packet_bytes_max, begun: None, waiting: None }
    }

    /// The next packet. Dropped before it is done, nothing is lost.
    pub(super) async fn read(&mut self) -> Result<Packet, WireFault> {
        loop {
            let wanted = match frame(&self.buffer)? {
                Frame::Incomplete => READ_BYTES,
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
                        let cost = u32::try_from(length.max(MESSAGE_COST_MIN));
                        let cost = cost.expect("packets are below 256 MiB");
                        self.permit = Some(self.acquire(cost).await);
                        // Time spent waiting for others is not the client's fault.
                        self.begun = self.begun.map(|_| Instant::now());
                    }
                    if is_whole {
                        return Ok(self.take(length));
                    }
                    length - self.buffer.len()
                }
            };
            self.buffer.reserve(wanted);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(WireFault::Closed);
            }
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

    fn take(&mut self, length: usize) -> Packet {
        // A copy of its own, so that a small message does not keep a large buffer alive.
        let bytes = BytesMut::from(&self.buffer[..length]);
        self.buffer.advance(length);
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ_BYTES {
            self.buffer = BytesMut::with_capacity(READ_BYTES);
        }
        self.begun = (!self.buffer.is_empty()).then(Instant::now);
        Packet { bytes, permit: self.permit.take() }
    }
}
