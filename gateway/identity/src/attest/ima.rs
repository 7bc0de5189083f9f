//! The kernel's list of files that it measured (IMA), in the binary form of
//! `binary_runtime_measurements`: PCR, template digest, name and data, little endian.
//!
//! The list's own digests are SHA-1 by tradition; what went into the SHA-256 bank is SHA-256 over the
//! template's data. Made by whoever may lie; capped and replayed, never believed.

use super::event_log::extend;
use guan_model::Digest;

/// Longest list.
pub const IMA_BYTES_MAX: usize = 64 << 20;
/// Most entries in it.
pub const IMA_ENTRIES_MAX: usize = 1 << 20;
/// PCR into which the kernel measures.
pub const IMA_PCR: u8 = 10;
const TEMPLATE_DIGEST_BYTES: usize = 20;
const TEMPLATE_NAME_BYTES_MAX: usize = 32;
const TEMPLATE_DATA_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 8;
/// Template digest of an entry that the kernel could not measure in order.
const VIOLATION: [u8; TEMPLATE_DIGEST_BYTES] = [0; TEMPLATE_DIGEST_BYTES];

/// Why bytes are no IMA list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImaFault {
    #[error("the list has {length} bytes; the limit is {IMA_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the list ends at byte {at} inside {what}")]
    Short { at: usize, what: &'static str },
    #[error("entry {entry} measures into PCR {pcr}; only {IMA_PCR} is expected")]
    Pcr { entry: usize, pcr: u32 },
    #[error("entry {entry}: {what} has {length} bytes; the limit is {limit}")]
    FieldTooLong { entry: usize, what: &'static str, length: u32, limit: usize },
    #[error("entry {entry} has template {template:?}; ima-ng and ima-sig are spoken here")]
    Template { entry: usize, template: String },
    #[error("entry {entry}: {what}")]
    Malformed { entry: usize, what: &'static str },
    #[error("the list has more than {IMA_ENTRIES_MAX} entries")]
    TooMany,
}

/// One measured file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImaEntry<'a> {
    /// The file's digest, with its algorithm as the kernel names it ("sha256").
    pub algorithm: &'a str,
    pub file_digest: &'a [u8],
    /// Path as the kernel saw it; any bytes.
    pub path: &'a [u8],
    /// Empty when the file is not signed.
    pub signature: &'a [u8],
    /// The file was written while it was read: nothing is known about it.
    pub is_violation: bool,
    extended: Digest,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    entry: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], ImaFault> {
        let end = self.at.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(ImaFault::Short { at: self.at, what })?;
        self.at += length;
        Ok(taken)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ImaFault> {
        let bytes = self.take(4, what)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    fn sized(&mut self, limit: usize, what: &'static str) -> Result<&'a [u8], ImaFault> {
        let length = self.u32(what)?;
        match usize::try_from(length).ok().filter(|length| *length <= limit) {
            Some(length) => self.take(length, what),
            None => Err(ImaFault::FieldTooLong { entry: self.entry, what, length, limit }),
        }
    }
}

/// All entries, in order.
pub fn parse_ima(bytes: &[u8]) -> Result<Vec<ImaEntry<'_>>, ImaFault> {
    if bytes.len() > IMA_BYTES_MAX {
        return Err(ImaFault::TooLong { length: bytes.len() });
    }
    let mut reader = Reader { bytes, at: 0, entry: 0 };
    let mut entries = Vec::new();
    while reader.at < bytes.len() {
        if entries.len() == IMA_ENTRIES_MAX {
            return Err(ImaFault::TooMany);
        }
        entries.push(entry(&mut reader)?);
        reader.entry += 1;
    }
    Ok(entries)
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<ImaEntry<'a>, ImaFault> {
    let number = reader.entry;
    let pcr = reader.u32("an entry's PCR")?;
    if pcr != u32::from(IMA_PCR) {
        return Err(ImaFault::Pcr { entry: number, pcr });
    }
    let is_violation = reader.take(TEMPLATE_DIGEST_BYTES, "an entry's digest")? == VIOLATION;
    let template = reader.sized(TEMPLATE_NAME_BYTES_MAX, "an entry's template")?;
    let fields_wanted = match template {
        b"ima-ng" => 2,
        b"ima-sig" => 3,
        other => {
            let template = String::from_utf8_lossy(other).into_owned();
            return Err(ImaFault::Template { entry: number, template });
        }
    };
    let data = reader.sized(TEMPLATE_DATA_BYTES_MAX, "an entry's data")?;
    let fields = fields(data, number)?;
    if fields.len() != fields_wanted {
        return Err(ImaFault::Malformed { entry: number, what: "fields are missing or too many" });
    }
    let (algorithm, file_digest) = digest_field(fields[0], number)?;
    let path = fields[1].strip_suffix(b"\0").unwrap_or(fields[1]);
    let signature = fields.get(2).copied().unwrap_or_default();
    let extended = match is_violation {
        true => Digest([0xFF; 32]),
        false => Digest::of(data),
    };
    Ok(ImaEntry { algorithm, file_digest, path, signature, is_violation, extended })
}

/// The template's fields, each with a length before it.
fn fields(data: &[u8], number: usize) -> Result<Vec<&[u8]>, ImaFault> {
    let mut reader = Reader { bytes: data, at: 0, entry: number };
    let mut fields = Vec::new();
    while reader.at < data.len() {
        if fields.len() == FIELDS_MAX {
            return Err(ImaFault::Malformed { entry: number, what: "too many fields" });
        }
        fields.push(reader.sized(TEMPLATE_DATA_BYTES_MAX, "a template's field")?);
    }
    Ok(fields)
}

/// `sha256:`, a zero, and the digest.
fn digest_field(field: &[u8], entry: usize) -> Result<(&str, &[u8]), ImaFault> {
    let malformed = |what| ImaFault::Malformed { entry, what };
    let zero = field.iter().position(|byte| *byte == 0);
    let (name, digest) = field.split_at(zero.ok_or(malformed("a digest without algorithm"))?);
    let name = name.strip_suffix(b":").ok_or(malformed("a digest without algorithm"))?;
    let name = std::str::from_utf8(name);
    Ok((name.map_err(|_| malformed("an algorithm that is no text"))?, &digest[1..]))
}

/// A place in a list: so many entries, which lead to this value of PCR 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImaPlace {
    pub entries: u64,
    pub value: Digest,
}

impl ImaPlace {
    pub const START: Self = Self { entries: 0, value: Digest([0; 32]) };
}

/// The part of a list that follows a place, and the place: the start when the list does not lead there (the
/// machine has booted since, or keeps what it cannot parse).
pub fn ima_after(bytes: &[u8], place: ImaPlace) -> (&[u8], ImaPlace) {
    let whole = (bytes, ImaPlace::START);
    let mut reader = Reader { bytes, at: 0, entry: 0 };
    let mut value = ImaPlace::START.value;
    for _ in 0..place.entries {
        match entry(&mut reader) {
            Ok(entry) => extend(&mut value, &entry.extended),
            Err(_) => return whole,
        }
        reader.entry += 1;
    }
    if value == place.value { (&bytes[reader.at..], place) } else { whole }
}

/// How many of the entries lead from one value of PCR 10 to another; `None` when no prefix does. The list may
/// have grown since the quote was made, so a prefix counts.
pub fn replay_ima(entries: &[ImaEntry<'_>], from: &Digest, pcr: &Digest) -> Option<usize> {
    let mut value = *from;
    if value == *pcr {
        return Some(0);
    }
    entries.iter().enumerate().find_map(|(index, entry)| {
        extend(&mut value, &entry.extended);
        (value == *pcr).then_some(index + 1)
    })
}
