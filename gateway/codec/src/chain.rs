//! Batches one after the other in a zstd stream that is kept, so that each is told by what it shares with those
//! before it. A small batch then takes little more than its news.
//!
//! A piece is what one batch adds to the stream, flushed to the byte. Invariants:
//! - Pieces are read in the order in which they were made, each once; one that is missing or damaged ends the chain.
//! - The reader holds a window of [`WINDOW_BYTES`] whatever the writer says, and gives at most the length that
//!   was announced for the piece.
//!
//! Never here: which batches go into a chain and when it begins anew; that is the link's business.

use crate::Squeeze;
use zstd::stream::raw::{Decoder, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::{CParameter, DParameter};

/// Earlier bytes that a piece may refer to: what the reader keeps in memory.
pub const WINDOW_BYTES: usize = 1 << WINDOW_LOG;
const WINDOW_LOG: u32 = 18;
/// Places that the writer remembers: half of the window's, for 1.3 MB less.
const HASH_LOG: u32 = 17;
/// Longest piece before compression, so that one batch does not push all others out of the window.
pub const PIECE_BYTES_MAX: usize = 1 << 20;
/// Room for a piece to begin with.
const GUESS_BYTES: usize = 1 << 10;

/// Why bytes are no piece of this chain. Whoever sent them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    #[error("a piece announces {length} bytes; the limit is {PIECE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error(
        "a piece cannot be inflated: it is damaged, out of order or asks for too large a window"
    )]
    Inflate,
    #[error("a piece announces {announced} bytes and holds {found}")]
    Length { announced: usize, found: usize },
    #[error("a piece holds more than the {announced} bytes that it announces")]
    Surplus { announced: usize },
}

/// Makes the pieces.
pub struct ChainWriter {
    encoder: Encoder<'static>,
    taken_bytes: u64,
}

impl std::fmt::Debug for ChainWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChainWriter").field("taken_bytes", &self.taken_bytes).finish()
    }
}

impl ChainWriter {
    pub fn new(squeeze: Squeeze) -> Self {
        let mut encoder = Encoder::new(squeeze.level()).expect("zstd takes memory and its levels");
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG)).expect("a window that zstd has");
        encoder.set_parameter(CParameter::HashLog(HASH_LOG)).expect("a table that zstd has");
        Self { encoder, taken_bytes: 0 }
    }

    /// Bytes before compression so far.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// The next piece.
    ///
    /// # Panics
    /// Beyond [`PIECE_BYTES_MAX`].
    pub fn write(&mut self, plain: &[u8]) -> Vec<u8> {
        assert!(plain.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", plain.len());
        self.taken_bytes += plain.len() as u64;
        let mut piece = vec![0; GUESS_BYTES + plain.len() / 2];
        let (mut input, mut written, mut left) = (InBuffer::around(plain), 0, 1);
        while left > 0 || input.pos() < plain.len() {
            if written == piece.len() {
                piece.resize(2 * written, 0);
            }
            let mut output = OutBuffer::around_pos(&mut piece[..], written);
            left = match input.pos() < plain.len() {
                true => self.encoder.run(&mut input, &mut output).map(|_| 1),
                false => self.encoder.flush(&mut output),
            }
            .expect("zstd compresses into memory");
            written = output.pos();
        }
        piece.truncate(written);
        piece
    }
}

/// Reads the pieces.
pub struct ChainReader {
    decoder: Decoder<'static>,
}

impl std::fmt::Debug for ChainReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ChainReader")
    }
}

impl Default for ChainReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ChainReader {
    pub fn new() -> Self {
        let mut decoder = Decoder::new().expect("zstd takes memory");
        let limit = DParameter::WindowLogMax(WINDOW_LOG);
        decoder.set_parameter(limit).expect("a window that zstd has");
        Self { decoder }
    }

    /// What the next piece holds. After a fault the chain is of no more use.
    pub fn read(&mut self, piece: &[u8], length: usize) -> Result<Vec<u8>, ChainFault> {
        if length > PIECE_BYTES_MAX {
            return Err(ChainFault::TooLong { length });
        }
        let mut plain = vec![0; length];
        let (mut input, mut written) = (InBuffer::around(piece), 0);
        loop {
            let (before, at) = (input.pos(), written);
            written += self.step(&mut input, &mut plain[at..])?;
            let is_stuck = input.pos() == before && written == at;
            if written == length || is_stuck {
                break;
            }
        }
        if written < length {
            return Err(ChainFault::Length { announced: length, found: written });
        }
        // What was flushed leaves nothing behind, neither here nor in the decoder.
        let mut surplus = [0];
        loop {
            let before = input.pos();
            if self.step(&mut input, &mut surplus)? > 0 {
                return Err(ChainFault::Surplus { announced: length });
            }
            if input.pos() == piece.len() {
                return Ok(plain);
            }
            if input.pos() == before {
                return Err(ChainFault::Inflate);
            }
        }
    }

    fn step(&mut self, input: &mut InBuffer<'_>, out: &mut [u8]) -> Result<usize, ChainFault> {
        let mut output = OutBuffer::around(out);
        self.decoder.run(input, &mut output).map_err(|_| ChainFault::Inflate)?;
        Ok(output.pos())
    }
}

#[cfg(test)]
mod tests;
