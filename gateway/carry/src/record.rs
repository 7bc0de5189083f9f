//! What is sealed: frames of the link as a session has them, and the end.
//!
//! ```text
//! 0x01 frame  a frame of the box's data stream, as the link writes it (guan_link::wire); the first is the hello
//! 0x02 end    batches u64, gaps u64, rows u64, digest 32, certificate, signature (both: varint length, bytes)
//! ```
//! The digest is SHA-256 of the file before the end's record. The signature is of the certificate's key, over
//! [`End::message`]. Nothing follows after the end.

use crate::format::{CarryFault, RecordFault};
use guan_identity::certificate::CERTIFICATE_BYTES_MAX;
use guan_identity::{Tier, certificate_key, peer_identity};
use guan_link::wire::{self, DATA_FRAME_BYTES_MAX};
use guan_link::{BoxFrame, FrameDecoder, Item};
use guan_model::bytes_io::{Reader, Writer};
use guan_model::{BoxId, Digest, PublicKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

/// Longest record before it is sealed: the longest frame with its length, and the kind.
pub const RECORD_BYTES_MAX: usize = DATA_FRAME_BYTES_MAX + 8;
/// Longest signature; ECDSA on P-256 has 72 bytes at most.
pub(crate) const SIGNATURE_BYTES_MAX: usize = 128;
const FRAME: u8 = 1;
const END: u8 = 2;
/// First line of what the box signs.
const DOMAIN: &[u8] = b"guan-carry-end/1\n";

/// How much a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub batches: u64,
    pub gaps: u64,
    /// In the batches.
    pub rows: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, frame: &BoxFrame) {
        match frame {
            BoxFrame::Item(_, Item::Batch(batch)) => {
                self.batches += 1;
                self.rows = self.rows.saturating_add(batch.rows.into());
            }
            BoxFrame::Item(_, Item::Gap(_)) => self.gaps += 1,
            BoxFrame::Hello(_) | BoxFrame::Descriptors(_) | BoxFrame::Chained(..) => {}
        }
    }
}

/// The last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub counts: Counts,
    /// SHA-256 of the file before this record: box's log, space and receipt name the file by it.
    pub digest: Digest,
    /// In DER: the one with which the space knows the box.
    pub certificate: Vec<u8>,
    pub signature: Vec<u8>,
}

impl End {
    /// What is signed.
    pub fn message(digest: &Digest, counts: &Counts) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(DOMAIN);
        out.raw(&digest.0);
        out.u64(counts.batches);
        out.u64(counts.gaps);
        out.u64(counts.rows);
        out.finish()
    }

    /// Who signed, by the certificate, which nobody has vouched for yet: the space compares it with the one that it
    /// enrolled the box with.
    pub fn signed_by(&self, said: &BoxId) -> Result<Tier, CarryFault> {
        let refused =
            |fault: guan_identity::CertFault| CarryFault::Certificate { detail: fault.to_string() };
        let (signed, tier) = peer_identity(&self.certificate).map_err(refused)?;
        if signed != *said {
            return Err(CarryFault::OtherBox { said: said.clone(), signed });
        }
        let PublicKey::EcdsaP256(point) = certificate_key(&self.certificate).map_err(refused)?
        else {
            return Err(CarryFault::Forged);
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        let message = Self::message(&self.digest, &self.counts);
        key.verify(&message, &self.signature).map_err(|_| CarryFault::Forged)?;
        Ok(tier)
    }
}

/// What one record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Frame(BoxFrame),
    End(End),
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Frame(frame) => encode_frame(frame),
            Self::End(end) => {
                let mut out = Writer::new();
                out.u8(END);
                out.u64(end.counts.batches);
                out.u64(end.counts.gaps);
                out.u64(end.counts.rows);
                out.raw(&end.digest.0);
                out.bytes(&end.certificate);
                out.bytes(&end.signature);
                out.finish()
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordFault> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FRAME => {
                let mut decoder = FrameDecoder::<BoxFrame>::new();
                decoder.handle_bytes(reader.rest());
                let frame = decoder.poll()?.ok_or(RecordFault::NotOneFrame)?;
                match decoder.held_bytes() {
                    0 => Ok(Self::Frame(frame)),
                    _ => Err(RecordFault::NotOneFrame),
                }
            }
            END => {
                let counts =
                    Counts { batches: reader.u64()?, gaps: reader.u64()?, rows: reader.u64()? };
                let digest = reader.digest()?;
                let (certificate, signature) = (reader.bytes()?, reader.bytes()?);
                reader.end()?;
                let (length, signed) = (certificate.len(), signature.len());
                if length > CERTIFICATE_BYTES_MAX || signed > SIGNATURE_BYTES_MAX {
                    return Err(RecordFault::EndTooLong { length, signature: signed });
                }
                let (certificate, signature) = (certificate.to_vec(), signature.to_vec());
                Ok(Self::End(End { counts, digest, certificate, signature }))
            }
            kind => Err(RecordFault::Kind(kind)),
        }
    }
}

pub(crate) fn encode_frame(frame: &BoxFrame) -> Vec<u8> {
    let [head, tail] = wire::encode(frame);
    // Room for the tag, too, so that sealing copies nothing.
    let room = 1 + head.len() + tail.len() + guan_identity::SEAL_TAG_BYTES;
    let mut record = Vec::with_capacity(room);
    record.push(FRAME);
    record.extend_from_slice(&head);
    record.extend_from_slice(&tail);
    record
}
