//! The space's side: opens a file record by record. Memory grows with the bytes that are there, never with a length
//! that a file only says.

use crate::format::{
    CarryFault, FILE_BYTES_MAX, FIXED_BYTES, HEADER_BYTES_MAX, Header, MAGIC, RECORDS_MAX,
    RecordFault, SEALED_BYTES_MAX, VERSION, info,
};
use crate::record::{Counts, End, Record};
use guan_identity::{Opening, SEAL_KEY_BYTES, SealKey, seal_key_id};
use guan_link::BoxFrame;
use guan_model::Digest;
use guan_model::bytes_io::Reader;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read};

/// A file of which the header was read.
pub struct Unopened<R> {
    read: R,
    header: Header,
    enc: [u8; SEAL_KEY_BYTES],
    before_enc: Vec<u8>,
}

impl<R: Read> Unopened<R> {
    pub fn begin(mut read: R) -> Result<Self, CarryFault> {
        let mut fixed = [0; FIXED_BYTES];
        exact(&mut read, &mut fixed, CarryFault::Magic)?;
        let mut reader = Reader::new(&fixed);
        if reader.raw(MAGIC.len())? != MAGIC {
            return Err(CarryFault::Magic);
        }
        let (version, length) = (reader.u16()?, usize::from(reader.u16()?));
        if version != VERSION {
            return Err(CarryFault::Version { found: version });
        }
        if length > HEADER_BYTES_MAX {
            return Err(CarryFault::HeaderTooLong { length });
        }
        let mut fields = vec![0; length];
        exact(&mut read, &mut fields, CarryFault::Cut { record: 0 })?;
        let (header, enc) = Header::decode(&fields)?;
        let before_enc = [&fixed[..], &fields[..length - SEAL_KEY_BYTES]].concat();
        Ok(Self { read, header, enc, before_enc })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn open(self, key: &SealKey) -> Result<CarryReader<R>, CarryFault> {
        let (found, ours) = (self.header.key, seal_key_id(&key.public()));
        if found != ours {
            return Err(CarryFault::OtherKey { found, ours });
        }
        let opening = key.open(&self.enc, &info(&self.before_enc))?;
        let mut hash = Sha256::new();
        hash.update(&self.before_enc);
        hash.update(self.enc);
        Ok(CarryReader {
            bytes: (self.before_enc.len() + self.enc.len()) as u64,
            read: self.read,
            header: self.header,
            opening,
            hash,
            records: 0,
            counts: Counts::default(),
            end: None,
        })
    }
}

/// Gives the frames of a file in their order.
pub struct CarryReader<R> {
    read: R,
    header: Header,
    opening: Opening,
    hash: Sha256,
    bytes: u64,
    records: u64,
    counts: Counts,
    end: Option<End>,
}

impl<R: Read> CarryReader<R> {
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The end, once all frames were given; its counts and digest are those of the file.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Whatever is in it, it counts only when [`end`](Self::end) was reached and its signature holds.
    pub fn next_frame(&mut self) -> Result<Option<BoxFrame>, CarryFault> {
        if self.end.is_some() {
            return Ok(None);
        }
        let digest = Digest(self.hash.clone().finalize().into());
        let bytes = self.next_record()?;
        let record = self.records;
        let faulty = |source| CarryFault::Record { record, source };
        match Record::decode(&bytes).map_err(faulty)? {
            Record::Frame(frame) => {
                self.check(&frame).map_err(faulty)?;
                self.counts.add(&frame);
                Ok(Some(frame))
            }
            Record::End(end) => {
                self.check_end(&end, &digest)?;
                self.end = Some(end);
                Ok(None)
            }
        }
    }

    /// The plain bytes of the next record.
    fn next_record(&mut self) -> Result<Vec<u8>, CarryFault> {
        let record = self.records + 1;
        if record > RECORDS_MAX {
            return Err(CarryFault::Records);
        }
        let mut length = [0; 4];
        exact(&mut self.read, &mut length, CarryFault::Cut { record: self.records })?;
        self.hash.update(length);
        let said = u64::from(u32::from_le_bytes(length));
        if said > SEALED_BYTES_MAX as u64 {
            return Err(CarryFault::RecordTooLong { record, length: said });
        }
        self.bytes += length.len() as u64 + said;
        if self.bytes > FILE_BYTES_MAX {
            return Err(CarryFault::TooLong);
        }
        let mut bytes = Vec::new();
        self.read.by_ref().take(said).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < said {
            return Err(CarryFault::Cut { record });
        }
        self.hash.update(&bytes);
        let opened = self.opening.open(&mut bytes);
        opened.map_err(|source| CarryFault::Changed { record, source })?;
        self.records = record;
        Ok(bytes)
    }

    /// The hello comes first, and only then.
    fn check(&self, frame: &BoxFrame) -> Result<(), RecordFault> {
        match frame {
            BoxFrame::Hello(hello) => {
                let is_it = self.records == 1 && hello.offer.spool() == self.header.spool;
                is_it.then_some(()).ok_or(RecordFault::Hello)
            }
            _ if self.records == 1 => Err(RecordFault::Hello),
            BoxFrame::Chained(..) => Err(RecordFault::Chained),
            BoxFrame::Descriptors(_) | BoxFrame::Item(..) => Ok(()),
        }
    }

    fn check_end(&mut self, end: &End, digest: &Digest) -> Result<(), CarryFault> {
        if end.digest != *digest {
            return Err(CarryFault::Digest);
        }
        let (said, found) = (end.counts, self.counts);
        for (what, said, found) in [
            ("batches", said.batches, found.batches),
            ("gaps", said.gaps, found.gaps),
            ("rows", said.rows, found.rows),
        ] {
            if said != found {
                return Err(CarryFault::Count { what, said, found });
            }
        }
        let mut more = [0];
        match self.read.read(&mut more)? {
            0 => Ok(()),
            _ => Err(CarryFault::Trailing),
        }
    }
}

fn exact(read: &mut impl Read, into: &mut [u8], short: CarryFault) -> Result<(), CarryFault> {
    match read.read_exact(into) {
        Ok(()) => Ok(()),
        Err(fault) if fault.kind() == io::ErrorKind::UnexpectedEof => Err(short),
        Err(fault) => Err(fault.into()),
    }
}
