//! Cuts a stream of bytes into frames.
//!
//! Memory grows with the bytes that arrive, never with a length that was only announced.

use super::{FrameFault, SKIPPABLE, Wire};
use bytes::BytesMut;
use std::marker::PhantomData;

/// Bytes of a length that can be within any limit; longer ones are refused unread.
const LENGTH_BYTES_MAX: usize = 4;

/// Takes pieces of any size, gives whole frames. After a fault the stream cannot be read on.
#[derive(Debug)]
pub struct FrameDecoder<F> {
    buffer: BytesMut,
    faulty: Option<FrameFault>,
    frames: PhantomData<fn() -> F>,
}

impl<F: Wire> Default for FrameDecoder<F> {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), faulty: None, frames: PhantomData }
    }
}

impl<F: Wire> FrameDecoder<F> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what arrived. Call [`poll`](Self::poll) until it gives nothing before the next piece: what
    /// is held is then less than one frame and one piece.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.faulty.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole frame.
    pub fn poll(&mut self) -> Result<Option<F>, FrameFault> {
        if let Some(fault) = &self.faulty {
            return Err(fault.clone());
        }
        self.cut().inspect_err(|fault| {
            self.buffer = BytesMut::new();
            self.faulty = Some(fault.clone());
        })
    }

    /// Bytes of a frame that is not whole yet.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn cut(&mut self) -> Result<Option<F>, FrameFault> {
        while let Some((prefix, length)) = self.length()? {
            if self.buffer.len() - prefix < length {
                return Ok(None);
            }
            let mut frame = self.buffer.split_to(prefix + length).freeze();
            let body = frame.split_off(prefix + 1);
            let code = frame[prefix];
            match F::read(code, &body)? {
                Some(frame) => return Ok(Some(frame)),
                None if F::SKIPS && code & SKIPPABLE != 0 => {}
                None => return Err(FrameFault::UnknownType { code }),
            }
        }
        Ok(None)
    }

    /// Bytes of the length, and the length, once they are there.
    fn length(&self) -> Result<Option<(usize, usize)>, FrameFault> {
        let limit = F::BYTES_MAX;
        let mut length = 0;
        for (index, byte) in self.buffer.iter().take(LENGTH_BYTES_MAX).enumerate() {
            length |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 != 0 {
                continue;
            }
            return match length {
                0 => Err(FrameFault::Empty),
                _ if length > limit => Err(FrameFault::TooLong { length: length as u64, limit }),
                _ => Ok(Some((index + 1, length))),
            };
        }
        if self.buffer.len() < LENGTH_BYTES_MAX {
            return Ok(None);
        }
        // The four bytes read so far say at least this much, and more follow.
        Err(FrameFault::TooLong { length: (length as u64).max(1 << 28), limit })
    }
}
