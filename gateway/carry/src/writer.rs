//! The box's side: seals frames one after the other into a file that is complete only with its end.

use crate::format::{CarryFault, FILE_BYTES_MAX, Header, RECORDS_MAX, SEALED_BYTES_MAX, info};
use crate::record::{Counts, End, RECORD_BYTES_MAX, Record, SIGNATURE_BYTES_MAX, encode_frame};
use guan_identity::certificate::CERTIFICATE_BYTES_MAX;
use guan_identity::{SEAL_KEY_BYTES, SEAL_TAG_BYTES, Sealing, seal_for};
use guan_link::{BoxFrame, Item};
use guan_model::{Digest, Signer};
use sha2::{Digest as _, Sha256};
use std::io::Write;

/// What the end needs at most.
pub const END_ROOM_BYTES: u64 = (CERTIFICATE_BYTES_MAX + SIGNATURE_BYTES_MAX + 256) as u64;
/// What stands before a record.
const LENGTH_BYTES: u64 = 4;

/// Writes one file. Dropped before [`finish`](Self::finish), what was written counts for nothing.
pub struct CarryWriter<W> {
    out: W,
    sealing: Sealing,
    hash: Sha256,
    bytes: u64,
    records: u64,
    counts: Counts,
}

impl<W: Write> CarryWriter<W> {
    /// `reader` is the public key of the space that the header names.
    pub fn begin(
        mut out: W,
        header: &Header,
        reader: &[u8; SEAL_KEY_BYTES],
    ) -> Result<Self, CarryFault> {
        let before_enc = header.before_enc()?;
        let (enc, sealing) = seal_for(reader, &info(&before_enc))?;
        let mut hash = Sha256::new();
        for part in [&before_enc[..], &enc] {
            out.write_all(part)?;
            hash.update(part);
        }
        let bytes = (before_enc.len() + enc.len()) as u64;
        Ok(Self { out, sealing, hash, bytes, records: 0, counts: Counts::default() })
    }

    /// Of the file so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// SHA-256 of the file so far.
    pub fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// Whether the file has room for an item and its end, within `bytes_max` and the limits of the format.
    pub fn has_room(&self, item: &Item, bytes_max: u64) -> bool {
        let limit = bytes_max.min(FILE_BYTES_MAX);
        let needed = item.cost() + LENGTH_BYTES + SEAL_TAG_BYTES as u64 + END_ROOM_BYTES;
        self.bytes.saturating_add(needed) <= limit && self.records + 1 < RECORDS_MAX
    }

    /// Frames of the data stream, the hello first.
    pub fn put(&mut self, frame: &BoxFrame) -> Result<(), CarryFault> {
        self.write(encode_frame(frame))?;
        self.counts.add(frame);
        Ok(())
    }

    /// The end, which makes the file one.
    pub fn finish(
        mut self,
        certificate: &[u8],
        signer: &dyn Signer,
    ) -> Result<(W, End), CarryFault> {
        let (digest, counts) = (self.digest(), self.counts);
        let signature = signer.sign(&End::message(&digest, &counts))?;
        let end = End { counts, digest, certificate: certificate.to_vec(), signature };
        self.write(Record::End(end.clone()).encode())?;
        self.out.flush()?;
        Ok((self.out, end))
    }

    fn write(&mut self, mut record: Vec<u8>) -> Result<(), CarryFault> {
        let length = record.len();
        assert!(length <= RECORD_BYTES_MAX, "a frame of {length} bytes was made");
        self.sealing.seal(&mut record);
        if self.records == RECORDS_MAX {
            return Err(CarryFault::Records);
        }
        let added = LENGTH_BYTES + record.len() as u64;
        if self.bytes + added > FILE_BYTES_MAX {
            return Err(CarryFault::TooLong);
        }
        assert!(record.len() <= SEALED_BYTES_MAX, "what is sealed is longer by the tag only");
        let length = u32::try_from(record.len()).expect("it is below the limit").to_le_bytes();
        for part in [&length[..], &record] {
            self.out.write_all(part)?;
            self.hash.update(part);
        }
        self.bytes += added;
        self.records += 1;
        Ok(())
    }
}
