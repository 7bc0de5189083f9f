//! What a box sends to prove itself, in deterministic CBOR; and what its quote is bound to.
//!
//! A TPM's signature is no COSE signature and this is no EAT: the TPM's own bytes travel untouched, so
//! that any other tool can check them too (`tpm2_checkquote`).

use super::appraise::Logs;
use super::event_log::EVENT_LOG_BYTES_MAX;
use super::ima::IMA_BYTES_MAX;
use crate::tier::{Tier, TierFault};
use guan_evidence::tpm::{ATTEST_BYTES_MAX, PCR_COUNT, Pcrs};
use guan_model::Digest;
use guan_model::cbor::{CborFault, CborReader, CborWriter, MapKeys};
use std::io::Read;

/// Version of the evidence, and of what the quote is bound to.
pub const EVIDENCE_SCHEMA: u64 = 1;
/// Longest evidence on the wire: logs are compressed.
pub const EVIDENCE_BYTES_MAX: usize = 512 << 10;
const ZSTD_LEVEL: i32 = 3;
/// Longest packed log in it.
const PACKED_LOG_BYTES_MAX: u64 = 480 << 10;
const SIGNATURE_BYTES_MAX: u64 = 256;
const RELEASE_BYTES_MAX: usize = 64;
const CLAIMS_BYTES_MAX: u64 = 1024;
/// Bytes of a nonce and of a TLS exporter.
pub const NONCE_BYTES: usize = 32;
/// First byte of what a box's quote is bound to, and its role: reflections are of another role.
const BINDING_VERSION: u8 = 1;
const ROLE_BOX: u8 = 1;

const SCHEMA: u64 = 1;
const CLAIMS: u64 = 2;
const QUOTE: u64 = 3;
const QUOTE_SIGNATURE: u64 = 4;
const PCRS: u64 = 5;
const BOOT_LOG: u64 = 6;
const IMA_LIST: u64 = 7;
const COUNTED: u64 = 8;
const COUNTED_SIGNATURE: u64 = 9;

const RELEASE: u64 = 1;
const BOOT: u64 = 2;
const LOG_SIZE: u64 = 3;
const LOG_ROOT: u64 = 4;
const COUNTER: u64 = 5;
const IMA_START: u64 = 6;
const TIER: u64 = 7;

/// Why bytes are no evidence; the box is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceFault {
    #[error("evidence of {length} bytes; the limit is {EVIDENCE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("evidence that is no deterministic CBOR of its form")]
    Cbor(#[from] CborFault),
    #[error("evidence of schema {found}; schema {EVIDENCE_SCHEMA} is spoken here")]
    Schema { found: u64 },
    #[error("the evidence names PCR {pcr}")]
    Pcr { pcr: u64 },
    #[error("the release's name has {length} bytes; the limit is {RELEASE_BYTES_MAX}")]
    Release { length: usize },
    #[error(transparent)]
    Tier(#[from] TierFault),
    #[error("the {what} cannot be unpacked")]
    Packed { what: &'static str },
    #[error("the {what} unpacks to more than {limit} bytes")]
    Unpacked { what: &'static str, limit: usize },
}

/// What the box says of itself; the quote makes it binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Name of the firmware release that runs.
    pub release: String,
    pub boot: u32,
    /// Size and root of the evidence log.
    pub log_size: u64,
    pub log_root: Digest,
    /// The TPM's counter of minimum releases.
    pub counter: u64,
    /// Entries of the IMA list that the space has already.
    pub ima_start: u64,
    pub tier: Tier,
}

impl Claims {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        out.map(7);
        out.entry_text(RELEASE, &self.release);
        out.entry(BOOT, self.boot.into());
        out.entry(LOG_SIZE, self.log_size);
        out.entry_bytes(LOG_ROOT, &self.log_root.0);
        out.entry(COUNTER, self.counter);
        out.entry(IMA_START, self.ima_start);
        out.entry_text(TIER, self.tier.name());
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceFault> {
        let mut fields = Fields::open(bytes)?;
        fields.require(RELEASE)?;
        let release = fields.reader.text()?;
        if release.len() > RELEASE_BYTES_MAX {
            return Err(EvidenceFault::Release { length: release.len() });
        }
        let release = release.to_owned();
        fields.require(BOOT)?;
        let boot = fields.reader.narrow()?;
        fields.require(LOG_SIZE)?;
        let log_size = fields.reader.unsigned()?;
        fields.require(LOG_ROOT)?;
        let log_root = Digest(fields.reader.fixed_bytes()?);
        fields.require(COUNTER)?;
        let counter = fields.reader.unsigned()?;
        fields.require(IMA_START)?;
        let ima_start = fields.reader.unsigned()?;
        fields.require(TIER)?;
        let tier = Tier::parse(fields.reader.text()?)?;
        fields.close()?;
        Ok(Self { release, boot, log_size, log_root, counter, ima_start, tier })
    }
}

/// A map whose keys are all required.
struct Fields<'a> {
    reader: CborReader<'a>,
    keys: MapKeys,
}

impl<'a> Fields<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, CborFault> {
        let mut reader = CborReader::new(bytes);
        let keys = reader.map()?;
        Ok(Self { reader, keys })
    }

    fn require(&mut self, key: u64) -> Result<(), CborFault> {
        self.keys.require(&mut self.reader, key)
    }

    fn close(self) -> Result<(), CborFault> {
        self.keys.finish(&self.reader)?;
        self.reader.end()
    }
}

/// All that a box sends for one challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// As sent: the quote is bound to these bytes.
    pub claims_bytes: Vec<u8>,
    pub claims: Claims,
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub quote_signature: Vec<u8>,
    pub pcrs: Pcrs,
    /// zstd; empty when the firmware keeps none, or the space knows it.
    pub boot_log: Vec<u8>,
    /// zstd; from `ima_start` on.
    pub ima_list: Vec<u8>,
    /// TPMS_ATTEST of the counter, bound as the quote is.
    pub counted: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub counted_signature: Vec<u8>,
}

impl Evidence {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        out.map(9);
        out.entry(SCHEMA, EVIDENCE_SCHEMA);
        out.entry_bytes(CLAIMS, &self.claims_bytes);
        out.entry_bytes(QUOTE, &self.quote);
        out.entry_bytes(QUOTE_SIGNATURE, &self.quote_signature);
        out.unsigned(PCRS);
        out.map(self.pcrs.len() as u64);
        for (pcr, value) in &self.pcrs {
            out.entry_bytes(u64::from(*pcr), &value.0);
        }
        out.entry_bytes(BOOT_LOG, &self.boot_log);
        out.entry_bytes(IMA_LIST, &self.ima_list);
        out.entry_bytes(COUNTED, &self.counted);
        out.entry_bytes(COUNTED_SIGNATURE, &self.counted_signature);
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceFault> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(EvidenceFault::TooLong { length: bytes.len() });
        }
        let mut fields = Fields::open(bytes)?;
        fields.require(SCHEMA)?;
        match fields.reader.unsigned()? {
            EVIDENCE_SCHEMA => {}
            found => return Err(EvidenceFault::Schema { found }),
        }
        fields.require(CLAIMS)?;
        let claims_bytes = fields.reader.bytes(CLAIMS_BYTES_MAX)?.to_vec();
        let claims = Claims::decode(&claims_bytes)?;
        fields.require(QUOTE)?;
        let quote = fields.reader.bytes(ATTEST_BYTES_MAX as u64)?.to_vec();
        fields.require(QUOTE_SIGNATURE)?;
        let quote_signature = fields.reader.bytes(SIGNATURE_BYTES_MAX)?.to_vec();
        fields.require(PCRS)?;
        let pcrs = pcrs(&mut fields.reader)?;
        fields.require(BOOT_LOG)?;
        let boot_log = fields.reader.bytes(PACKED_LOG_BYTES_MAX)?.to_vec();
        fields.require(IMA_LIST)?;
        let ima_list = fields.reader.bytes(PACKED_LOG_BYTES_MAX)?.to_vec();
        fields.require(COUNTED)?;
        let counted = fields.reader.bytes(ATTEST_BYTES_MAX as u64)?.to_vec();
        fields.require(COUNTED_SIGNATURE)?;
        let counted_signature = fields.reader.bytes(SIGNATURE_BYTES_MAX)?.to_vec();
        fields.close()?;
        Ok(Self {
            claims_bytes,
            claims,
            quote,
            quote_signature,
            pcrs,
            boot_log,
            ima_list,
            counted,
            counted_signature,
        })
    }
}

fn pcrs(reader: &mut CborReader<'_>) -> Result<Pcrs, EvidenceFault> {
    let mut keys = reader.map()?;
    let mut pcrs = Pcrs::new();
    while let Some(pcr) = keys.next(reader)? {
        let number = u8::try_from(pcr).ok().filter(|number| *number < PCR_COUNT);
        let is_next = |number: &u8| pcrs.last_key_value().is_none_or(|(last, _)| last < number);
        let number = number.filter(is_next).ok_or(EvidenceFault::Pcr { pcr })?;
        pcrs.insert(number, Digest(reader.fixed_bytes()?));
    }
    keys.finish(reader)?;
    Ok(pcrs)
}

/// The logs of evidence, unpacked up to their limits.
pub fn unpack_logs(evidence: &Evidence) -> Result<Logs, EvidenceFault> {
    Ok(Logs {
        boot: unpack_boot_log(&evidence.boot_log)?,
        ima: unpack("list of measured files", &evidence.ima_list, IMA_BYTES_MAX)?,
    })
}

/// A boot log as evidence carries it.
pub fn unpack_boot_log(packed: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
    unpack("boot log", packed, EVENT_LOG_BYTES_MAX)
}

fn unpack(what: &'static str, packed: &[u8], limit: usize) -> Result<Vec<u8>, EvidenceFault> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    let unpackable = || EvidenceFault::Packed { what };
    let reader = zstd::Decoder::new(packed).map_err(|_| unpackable())?;
    let mut bytes = Vec::new();
    // One byte more than may be there: nothing is taken for whole that was cut.
    reader.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|_| unpackable())?;
    match bytes.len() <= limit {
        true => Ok(bytes),
        false => Err(EvidenceFault::Unpacked { what, limit }),
    }
}

/// A log as evidence carries it.
pub fn pack_log(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    zstd::encode_all(bytes, ZSTD_LEVEL)
}

/// The connection that a quote belongs to, as either end sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub nonce: [u8; NONCE_BYTES],
    /// Of the TLS session (RFC 5705), with the nonce as context.
    pub exporter: [u8; NONCE_BYTES],
    /// Leaf certificates in DER.
    pub box_leaf: Digest,
    pub space_leaf: Digest,
}

impl Binding {
    /// The qualifying data of the quote. Every part has a fixed length, so nothing can be moved from one
    /// into the next.
    pub fn qualify(&self, claims_bytes: &[u8]) -> Digest {
        let claims = Digest::of(claims_bytes);
        Digest::of_parts(&[
            &[BINDING_VERSION, ROLE_BOX],
            &self.nonce,
            &self.exporter,
            &self.box_leaf.0,
            &self.space_leaf.0,
            &claims.0,
        ])
    }
}
