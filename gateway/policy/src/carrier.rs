//! A contract set with its contracts as one file, for boxes that are never online (USB stick).
//!
//! Bytes: JSON, `{"schema": 1, "set": TEXT, "contracts": [TEXT, ...]}`; each text is a signed file as it would
//! come over the link. The file itself is not signed: what is in it is, and is judged when it is taken.

use crate::contract::CONTRACT_BYTES_MAX;
use crate::plan::CONTRACTS_MAX;
use crate::roster::ROSTER_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// Longest carrier.
pub const CARRIER_BYTES_MAX: usize = 32 << 20;
const SCHEMA: u32 = 1;

/// Why a file carries nothing; whoever made it is to blame.
#[derive(Debug, thiserror::Error)]
pub enum CarrierFault {
    #[error("it is no file of `guan-space contract carry`: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has schema {found}, and this release reads {SCHEMA}; update guan")]
    Schema { found: u32 },
    #[error("{what} has {found} bytes, and {limit} is the limit")]
    TooLong { what: &'static str, found: usize, limit: usize },
    #[error("it carries {found} contracts, and {CONTRACTS_MAX} is the limit")]
    TooMany { found: usize },
}

/// What is carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    schema: u32,
    set: String,
    contracts: Vec<String>,
}

impl Carrier {
    pub fn new(set: String, contracts: Vec<String>) -> Result<Self, CarrierFault> {
        Self { schema: SCHEMA, set, contracts }.checked()
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, CarrierFault> {
        short("the file", bytes.len(), CARRIER_BYTES_MAX)?;
        serde_json::from_slice::<Self>(bytes)?.checked()
    }

    /// The file.
    pub fn encode(&self) -> Result<Vec<u8>, CarrierFault> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        short("the file", bytes.len(), CARRIER_BYTES_MAX)?;
        Ok(bytes)
    }

    /// The set as the space signed it.
    pub fn set(&self) -> &[u8] {
        self.set.as_bytes()
    }

    /// The contracts as their parties signed them.
    pub fn contracts(&self) -> impl Iterator<Item = &[u8]> {
        self.contracts.iter().map(String::as_bytes)
    }

    fn checked(self) -> Result<Self, CarrierFault> {
        if self.schema != SCHEMA {
            return Err(CarrierFault::Schema { found: self.schema });
        }
        if self.contracts.len() > CONTRACTS_MAX {
            return Err(CarrierFault::TooMany { found: self.contracts.len() });
        }
        short("the set", self.set.len(), ROSTER_BYTES_MAX)?;
        let longest = self.contracts.iter().map(String::len).max().unwrap_or(0);
        short("a contract", longest, CONTRACT_BYTES_MAX)?;
        Ok(self)
    }
}

fn short(what: &'static str, found: usize, limit: usize) -> Result<(), CarrierFault> {
    if found > limit { Err(CarrierFault::TooLong { what, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: usize, contracts: &[usize], is_taken: bool) {
        let text = |length: usize| "x".repeat(length);
        let made = Carrier::new(text(set), contracts.iter().map(|one| text(*one)).collect());
        let read = made.and_then(|made| {
            let read = Carrier::parse(&made.encode()?)?;
            assert_eq!(read, made);
            Ok(read)
        });
        assert_eq!(read.is_ok(), is_taken, "{set} {}", contracts.len());
    }

    #[test]
    fn limits() {
        check(1, &[], true);
        check(ROSTER_BYTES_MAX, &[CONTRACT_BYTES_MAX], true);
        check(ROSTER_BYTES_MAX + 1, &[], false);
        check(1, &[CONTRACT_BYTES_MAX + 1], false);
        check(1, &vec![1; CONTRACTS_MAX], true);
        check(1, &vec![1; CONTRACTS_MAX + 1], false);
        check(1, &[CONTRACT_BYTES_MAX; CARRIER_BYTES_MAX / CONTRACT_BYTES_MAX], false);
    }

    #[test]
    fn what_is_none_is_named() {
        let said = |bytes: &[u8]| Carrier::parse(bytes).unwrap_err().to_string();
        assert!(said(b"{").contains("guan-space contract carry"));
        assert!(said(br#"{"schema": 2, "set": "", "contracts": []}"#).contains("schema 2"));
        assert!(said(br#"{"schema": 1, "set": "", "contracts": [], "x": 1}"#).contains("unknown"));
        assert!(said(&vec![b' '; CARRIER_BYTES_MAX + 1]).contains("limit"));
    }
}
