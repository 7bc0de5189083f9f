//! The firmware's log of what it booted: TCG_PCR_EVENT2 after a header in the old form (TCG PC Client
//! Platform Firmware Profile, 10). Made by whoever may lie; capped and replayed, never believed.

use guan_evidence::tpm::{ALG_SHA256, PCR_COUNT, Pcrs};
use guan_model::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Longest log.
pub const EVENT_LOG_BYTES_MAX: usize = 8 << 20;
/// Most events in it.
pub const EVENTS_MAX: usize = 16_384;
/// Digest algorithms that the header may announce.
const ALGORITHMS_MAX: u32 = 8;
/// Longest digest of an algorithm (SHA-512).
const DIGEST_BYTES_MAX: u16 = 64;
const SHA1_BYTES: usize = 20;
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
const LOCALITY: &[u8; 16] = b"StartupLocality\0";
const EV_NO_ACTION: u32 = 3;

/// Why bytes are no event log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogFault {
    #[error("the log has {length} bytes; the limit is {EVENT_LOG_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the log ends at byte {at} inside {what}")]
    Short { at: usize, what: &'static str },
    #[error("the log does not begin with the header of its specification")]
    Header,
    #[error("the header announces {count} digest algorithms; the limit is {ALGORITHMS_MAX}")]
    Algorithms { count: u32 },
    #[error("the header gives algorithm {algorithm:#06x} digests of {length} bytes")]
    DigestLength { algorithm: u16, length: u16 },
    #[error("the header announces no SHA-256")]
    NoSha256,
    #[error(
        "event {event} has a digest of algorithm {algorithm:#06x}, which the header did not announce"
    )]
    Unannounced { event: usize, algorithm: u16 },
    #[error("event {event} has {count} digests; the header announced {announced}")]
    DigestCount { event: usize, count: u32, announced: usize },
    #[error("event {event} names PCR {pcr}")]
    Pcr { event: usize, pcr: u32 },
    #[error("the log has more than {EVENTS_MAX} events")]
    TooMany,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    pub pcr: u8,
    pub kind: u32,
    pub sha256: Digest,
    pub data: &'a [u8],
}

/// A parsed log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog<'a> {
    pub events: Vec<Event<'a>>,
    /// Locality from which the TPM was started; PCR 0 begins with it.
    pub startup_locality: u8,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], EventLogFault> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(EventLogFault::Short { at: self.at, what })?;
        self.at += length;
        Ok(taken)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, EventLogFault> {
        let bytes = self.take(2, what)?.try_into().expect("two bytes were taken");
        Ok(u16::from_le_bytes(bytes))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, EventLogFault> {
        let bytes = self.take(4, what)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    /// A length of 32 bits, and as many bytes.
    fn sized(&mut self, what: &'static str) -> Result<&'a [u8], EventLogFault> {
        let length = self.u32(what)?;
        let length = usize::try_from(length);
        self.take(length.map_err(|_| EventLogFault::Short { at: self.at, what })?, what)
    }

    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

impl<'a> EventLog<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogFault> {
        if bytes.len() > EVENT_LOG_BYTES_MAX {
            return Err(EventLogFault::TooLong { length: bytes.len() });
        }
        let mut reader = Reader { bytes, at: 0 };
        let algorithms = header(&mut reader)?;
        let mut log = Self { events: Vec::new(), startup_locality: 0 };
        while !reader.is_empty() {
            if log.events.len() == EVENTS_MAX {
                return Err(EventLogFault::TooMany);
            }
            let event = event(&mut reader, &algorithms, log.events.len())?;
            let says_locality = event.kind == EV_NO_ACTION && event.pcr == 0;
            if says_locality && let Some([locality]) = event.data.strip_prefix(LOCALITY) {
                log.startup_locality = *locality;
            }
            log.events.push(event);
        }
        Ok(log)
    }

    /// The PCRs after these events. Those that no event names are not among them.
    pub fn replay(&self) -> Pcrs {
        let mut pcrs = Pcrs::new();
        for event in self.events.iter().filter(|event| event.kind != EV_NO_ACTION) {
            let mut start = Digest([0; 32]);
            if event.pcr == 0 {
                start.0[31] = self.startup_locality;
            }
            extend(pcrs.entry(event.pcr).or_insert(start), &event.sha256);
        }
        pcrs
    }
}

/// What extending does to a PCR.
pub fn extend(pcr: &mut Digest, digest: &Digest) {
    pcr.0 = Sha256::new().chain_update(pcr.0).chain_update(digest.0).finalize().into();
}

/// The first event, in the form of TPM 1.2: digest algorithms and their lengths.
fn header(reader: &mut Reader<'_>) -> Result<BTreeMap<u16, usize>, EventLogFault> {
    let (pcr, kind) = (reader.u32("the header")?, reader.u32("the header")?);
    reader.take(SHA1_BYTES, "the header")?;
    let bytes = reader.sized("the header")?;
    let mut inner = Reader { bytes, at: 0 };
    let is_known = pcr == 0 && kind == EV_NO_ACTION;
    if !is_known || inner.take(SIGNATURE.len(), "the header")? != SIGNATURE {
        return Err(EventLogFault::Header);
    }
    // Platform class, specification's version and errata, size of a native integer.
    inner.take(4 + 4, "the header")?;
    let count = inner.u32("the header's algorithms")?;
    if count > ALGORITHMS_MAX {
        return Err(EventLogFault::Algorithms { count });
    }
    let mut algorithms = BTreeMap::new();
    for _ in 0..count {
        let algorithm = inner.u16("the header's algorithms")?;
        let length = inner.u16("the header's algorithms")?;
        let is_right = algorithm != ALG_SHA256 || length == 32;
        if length > DIGEST_BYTES_MAX || !is_right {
            return Err(EventLogFault::DigestLength { algorithm, length });
        }
        algorithms.insert(algorithm, usize::from(length));
    }
    match algorithms.contains_key(&ALG_SHA256) {
        true => Ok(algorithms),
        false => Err(EventLogFault::NoSha256),
    }
}

fn event<'a>(
    reader: &mut Reader<'a>,
    algorithms: &BTreeMap<u16, usize>,
    event: usize,
) -> Result<Event<'a>, EventLogFault> {
    let pcr = reader.u32("an event's PCR")?;
    let kind = reader.u32("an event's type")?;
    let known = u8::try_from(pcr).ok().filter(|pcr| *pcr < PCR_COUNT);
    let Some(known) = known else { return Err(EventLogFault::Pcr { event, pcr }) };
    let count = reader.u32("an event's digests")?;
    let announced = algorithms.len();
    if usize::try_from(count) != Ok(announced) {
        return Err(EventLogFault::DigestCount { event, count, announced });
    }
    let mut sha256 = None;
    for _ in 0..count {
        let algorithm = reader.u16("an event's digests")?;
        let length = algorithms.get(&algorithm);
        let length = length.ok_or(EventLogFault::Unannounced { event, algorithm })?;
        let digest = reader.take(*length, "an event's digests")?;
        if algorithm == ALG_SHA256 {
            sha256 = Some(Digest(digest.try_into().expect("the header says 32 bytes")));
        }
    }
    let sha256 = sha256.ok_or(EventLogFault::Unannounced { event, algorithm: ALG_SHA256 })?;
    Ok(Event { pcr: known, kind, sha256, data: reader.sized("an event's data")? })
}
