//! The trace of a batch through two logs: W3C Trace Context's id of 16 bytes, which OpenTelemetry shares.
//!
//! Both ends derive it from the batch itself, so neither has to send it and neither can choose it.

use guan_model::{BatchSeq, Digest, SpoolId, StreamId};

/// Bytes of a trace id.
pub const TRACE_BYTES: usize = 16;
const DOMAIN: &[u8] = b"guan-trace/1\n";

/// First 16 bytes of SHA-256 over a domain, spool, stream and number of a batch, and its digest.
pub fn trace_id(
    spool: SpoolId,
    stream: StreamId,
    seq: BatchSeq,
    batch: &Digest,
) -> [u8; TRACE_BYTES] {
    let (stream, seq) = (stream.0.to_be_bytes(), seq.0.to_be_bytes());
    let Digest(hash) = Digest::of_parts(&[DOMAIN, &spool.0, &stream, &seq, &batch.0]);
    *hash.first_chunk().expect("a digest has more bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let id = |spool, stream, seq, batch| {
            trace_id(SpoolId([spool; 16]), StreamId(stream), BatchSeq(seq), &Digest([batch; 32]))
        };
        let known = id(1, 2, 3, 4);
        assert_eq!(known, id(1, 2, 3, 4));
        for other in [id(0, 2, 3, 4), id(1, 0, 3, 4), id(1, 2, 0, 4), id(1, 2, 3, 0)] {
            assert_ne!(known, other);
        }
    }
}
