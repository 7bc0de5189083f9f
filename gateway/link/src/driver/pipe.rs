//! Frames over one stream, in steps that a `select!` may drop at any moment.

use super::fault::LinkFault;
use super::transport::{RecvStream, SendStream};
use crate::fault::{PeerFault, PeerMisbehaved};
use crate::frame::StreamKind;
use crate::wire::{FrameDecoder, Wire, encode};
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes taken from a stream at once.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Pieces handed to a stream at once.
const PIECES_MAX: usize = 64;

/// Frames on their way out. What is queued here is bounded by the caller, who stops while it is
/// [`is_full`](Self::is_full).
pub(super) struct Outgoing {
    stream: SendStream,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    sent_bytes: u64,
}

/// From here on no new frame is made; the last one may be a whole batch.
const QUEUE_BYTES_FULL: usize = 256 << 10;

impl Outgoing {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, queue: VecDeque::new(), queued_bytes: 0, sent_bytes: 0 }
    }

    pub(super) fn push(&mut self, frame: &impl Wire) {
        for piece in encode(frame) {
            self.push_bytes(piece);
        }
    }

    pub(super) fn push_bytes(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.queued_bytes += piece.len();
            self.queue.push_back(piece);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued_bytes >= QUEUE_BYTES_FULL
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Hands over some bytes; waits for room in the stream. Dropped before it is done, it has
    /// written nothing.
    pub(super) async fn write(&mut self) -> Result<(), LinkFault> {
        let pieces = self.queue.make_contiguous();
        let count = pieces.len().min(PIECES_MAX);
        let (chunks, bytes) = self.stream.write_chunks(&mut pieces[..count]).await?;
        self.queue.drain(..chunks);
        self.queued_bytes -= bytes;
        self.sent_bytes += bytes as u64;
        Ok(())
    }

    /// Writes everything and ends the stream.
    pub(super) async fn finish(&mut self) -> Result<(), LinkFault> {
        while !self.is_empty() {
            self.write().await?;
        }
        self.stream.finish();
        Ok(())
    }
}

/// Frames on their way in.
pub(super) struct Incoming<F> {
    stream: RecvStream,
    decoder: FrameDecoder<F>,
    received_bytes: u64,
    /// The byte that the stream must begin with, until it has come.
    kind: Option<StreamKind>,
}

impl<F: Wire> Incoming<F> {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, decoder: FrameDecoder::new(), received_bytes: 0, kind: None }
    }

    /// A stream whose first byte has yet to come.
    pub(super) fn beginning(stream: RecvStream, kind: StreamKind) -> Self {
        Self { kind: Some(kind), ..Self::new(stream) }
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Waits for bytes. Dropped before it is done, it has taken none.
    pub(super) async fn read(&mut self) -> Result<(), LinkFault> {
        let chunk = self.stream.read_chunk(CHUNK_BYTES_MAX).await?;
        let chunk = chunk.ok_or(PeerMisbehaved::StreamEnded)?;
        self.received_bytes += chunk.len() as u64;
        let mut bytes = &chunk[..];
        if let (Some(kind), Some((code, rest))) = (self.kind, bytes.split_first()) {
            if *code != kind as u8 {
                return Err(PeerMisbehaved::StreamKind { code: *code }.into());
            }
            (self.kind, bytes) = (None, rest);
        }
        self.decoder.handle_bytes(bytes);
        Ok(())
    }

    /// The next whole frame of what was read.
    pub(super) fn poll(&mut self) -> Result<Option<F>, LinkFault> {
        self.decoder.poll().map_err(|fault| PeerFault::from(fault).into())
    }
}
