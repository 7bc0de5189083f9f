//! What a box may have booted: one signed JSON file per release, made with it.
//!
//! ```json
//! {"schema":1,"release":"2026.11","counter":3,"secure_boot":true,"variables":{"db":["<hex>"]},
//!  "pcrs":{"11":["<hex>"]},"valid_until":"2027-06-01T00:00:00Z"}
//! ```
//! The file is signed as a whole: line 1 is the document, line 2 the Ed25519 signature over line 1, in hex.

use ed25519_dalek::{Signature, VerifyingKey};
use guan_evidence::tpm::{PCR_COUNT, Pcrs};
use guan_model::{Digest, WallTime};
use serde::Deserialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest file.
pub const REFERENCE_BYTES_MAX: usize = 64 << 10;
/// Values that one PCR may have.
const VALUES_MAX: usize = 64;
const SCHEMA: u64 = 1;

/// Why a file holds no reference values; whoever made the release is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFault {
    #[error("the file has {length} bytes; the limit is {REFERENCE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the file does not have a document in line 1 and a signature in hex in line 2")]
    Form,
    #[error("none of the trusted release keys made the signature")]
    Signature,
    #[error("the document cannot be read: {0}")]
    Json(String),
    #[error("schema {found}; schema {SCHEMA} is spoken here")]
    Schema { found: u64 },
    #[error("{pcr:?} is no PCR (0 to 23) with 1 to {VALUES_MAX} digests in hex")]
    Pcr { pcr: String },
    #[error("variable {name:?} does not list 1 to {VALUES_MAX} digests in hex")]
    Variable { name: String },
    #[error("valid_until {text:?} is no time like 2027-06-01T00:00:00Z")]
    Until { text: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u64,
    release: String,
    #[serde(default)]
    counter: u64,
    #[serde(default)]
    secure_boot: bool,
    #[serde(default)]
    variables: BTreeMap<String, Vec<String>>,
    pcrs: BTreeMap<String, Vec<String>>,
    valid_until: String,
}

/// Reference values of one release, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub release: String,
    /// Rises with each release that must not be gone back behind.
    pub counter: u64,
    /// Whether Secure Boot must have been on.
    pub secure_boot: bool,
    /// Digests that Secure Boot's variables (db, dbx, PK, KEK) may have.
    pub variables: BTreeMap<String, Vec<Digest>>,
    pcrs: BTreeMap<u8, Vec<Digest>>,
    pub valid_until: WallTime,
}

impl Reference {
    /// `keys`: Ed25519 public keys that sign releases.
    pub fn parse(text: &str, keys: &[[u8; 32]]) -> Result<Self, ReferenceFault> {
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceFault::TooLong { length: text.len() });
        }
        let (document, signature) = text.trim_end().split_once('\n').ok_or(ReferenceFault::Form)?;
        let signature = hex_64(signature).ok_or(ReferenceFault::Form)?;
        let signature = Signature::from_bytes(&signature);
        let is_signed = |key: &[u8; 32]| {
            let key = VerifyingKey::from_bytes(key);
            key.is_ok_and(|key| key.verify_strict(document.as_bytes(), &signature).is_ok())
        };
        if !keys.iter().any(is_signed) {
            return Err(ReferenceFault::Signature);
        }
        Self::read(document)
    }

    fn read(document: &str) -> Result<Self, ReferenceFault> {
        let json = serde_json::from_str::<Document>(document);
        let document = json.map_err(|fault| ReferenceFault::Json(fault.to_string()))?;
        if document.schema != SCHEMA {
            return Err(ReferenceFault::Schema { found: document.schema });
        }
        let mut pcrs = BTreeMap::new();
        for (pcr, values) in document.pcrs {
            let number = pcr.parse::<u8>().ok().filter(|number| *number < PCR_COUNT);
            match (number, digests(&values)) {
                (Some(number), Some(digests)) => drop(pcrs.insert(number, digests)),
                _ => return Err(ReferenceFault::Pcr { pcr }),
            }
        }
        let mut variables = BTreeMap::new();
        for (name, values) in document.variables {
            match digests(&values) {
                Some(digests) => drop(variables.insert(name, digests)),
                None => return Err(ReferenceFault::Variable { name }),
            }
        }
        let until = OffsetDateTime::parse(&document.valid_until, &Rfc3339);
        let until = until.map_err(|_| ReferenceFault::Until { text: document.valid_until })?;
        let valid_until = WallTime::from_seconds(until.unix_timestamp());
        let Document { release, counter, secure_boot, .. } = document;
        Ok(Self { release, counter, secure_boot, variables, pcrs, valid_until })
    }

    /// The first PCR that is missing or has a value that was not published.
    pub fn first_mismatch(&self, pcrs: &Pcrs) -> Option<u8> {
        let differs = |(pcr, values): (&u8, &Vec<Digest>)| {
            let is_published = pcrs.get(pcr).is_some_and(|value| values.contains(value));
            (!is_published).then_some(*pcr)
        };
        self.pcrs.iter().find_map(differs)
    }
}

fn digests(values: &[String]) -> Option<Vec<Digest>> {
    let digests: Option<Vec<_>> = values.iter().map(|text| Digest::from_hex(text)).collect();
    digests.filter(|all| (1..=VALUES_MAX).contains(&all.len()))
}

fn hex_64(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
    Some(bytes)
}
