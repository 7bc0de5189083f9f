//! A digital contract (数字合约): who may have which points of which datasets, when, in what form.
//!
//! A contract that exists was read whole, holds no unknown term and bears a signature that was
//! checked. `reader` turns JSON into it, `signature` checks who signed.

mod reader;

pub(crate) use reader::{Document, SignatureEntry, check_party, read_document};

use crate::fault::{ContractError, Faults};
use crate::signature::TrustedKeys;
use guan_model::{ContractId, DatasetId, Digest, Now, PointName, WallTime};
use std::collections::BTreeSet;

/// Largest contract file.
pub const CONTRACT_BYTES_MAX: usize = 256 * 1024;
/// Version of the file's form.
pub const CONTRACT_SCHEMA: i64 = 1;
/// Most datasets of one contract.
pub const DATASETS_MAX: usize = 64;
/// Most points that a contract names, and most that it masks.
pub const POINTS_NAMED_MAX: usize = 8192;
/// Most signatures of one file.
pub const SIGNATURES_MAX: usize = 16;

/// Which points of its datasets a contract covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Points {
    All,
    Named(BTreeSet<PointName>),
}

impl Points {
    pub fn covers(&self, name: &PointName) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

/// Where a moment lies in the life of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    NotYet,
    Valid,
    Expired,
}

/// A contract whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    id: ContractId,
    version: u64,
    provider: String,
    consumer: String,
    purpose: String,
    datasets: BTreeSet<DatasetId>,
    points: Points,
    not_before: WallTime,
    not_after: WallTime,
    mask: BTreeSet<PointName>,
    digest: Digest,
}

impl Contract {
    /// Reads a signed contract file. A trusted key of the contract's provider or consumer must have
    /// signed it. Signatures by unknown keys do not count; one by a trusted key that does not fit
    /// refuses the file.
    pub fn parse(json: &[u8], keys: &TrustedKeys) -> Result<Self, ContractError> {
        let mut faults = Faults::default();
        let document = read_document(json, true, &mut faults);
        if let Some(document) = &document
            && let Some(contract) = &document.contract
        {
            keys.check(document, contract, &mut faults);
        }
        faults.finish(document.and_then(|document| document.contract))
    }

    pub fn id(&self) -> &ContractId {
        &self.id
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The party whose data it is.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The party that may have the data.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    pub fn datasets(&self) -> &BTreeSet<DatasetId> {
        &self.datasets
    }

    pub fn points(&self) -> &Points {
        &self.points
    }

    /// Points whose rows leave without their value.
    pub fn mask(&self) -> &BTreeSet<PointName> {
        &self.mask
    }

    /// First moment at which it is valid.
    pub fn not_before(&self) -> WallTime {
        self.not_before
    }

    /// First moment at which it is no longer valid.
    pub fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// SHA-256 of the canonical bytes (RFC 8785) of the contract object, without signatures.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn validity(&self, now: &Now) -> Validity {
        validity(now, self.not_before, self.not_after)
    }

    pub fn valid_at(&self, now: &Now) -> bool {
        self.validity(now) == Validity::Valid
    }
}

pub(crate) fn validity(now: &Now, not_before: WallTime, not_after: WallTime) -> Validity {
    if now.wall < not_before {
        Validity::NotYet
    } else if now.wall >= not_after {
        Validity::Expired
    } else {
        Validity::Valid
    }
}

#[cfg(test)]
pub(crate) mod tests;
