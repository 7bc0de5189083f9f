//! All contracts and descriptors compiled: for each dataset its grants, for each grant two bitmaps.
//!
//! Compiling is total and depends on nothing but its arguments, in any order. What a contract names
//! and the box does not have is a warning: contracts are written for many boxes. Whatever cannot be
//! decided safely grants nothing.

use crate::contract::{Contract, Validity, validity};
use crate::decision::DenyReason;
use guan_model::bytes_io::Writer;
use guan_model::{
    ContractId, DatasetId, DescriptorTable, Digest, Now, PointId, PointName, WallTime,
};
use std::collections::{BTreeMap, BTreeSet};

/// Most contracts in force on one box.
pub const CONTRACTS_MAX: usize = 1024;

/// What a contract does with a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    Pass,
    Mask,
    Deny,
}

/// Something that an operator should look at; the rest of the plan stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanWarning {
    #[error(
        "{count} contracts are in force, the limit is {CONTRACTS_MAX}; {ignored} grants nothing"
    )]
    TooMany { count: usize, ignored: ContractId },
    #[error(
        "contract {contract} has version {version} in two forms, neither grants anything; remove \
         one of the files"
    )]
    Conflict { contract: ContractId, version: u64 },
    #[error("contract {contract} names dataset {dataset}, which has no points on this box")]
    UnknownDataset { contract: ContractId, dataset: DatasetId },
    #[error("contract {contract} names point {point}, which its datasets do not have on this box")]
    UnknownPoint { contract: ContractId, point: PointName },
    #[error(
        "contract {contract} masks point {point}, which its datasets do not have on this box; if \
         the name is wrong, the value is not masked"
    )]
    UnknownMask { contract: ContractId, point: PointName },
}

/// A set of places in the sorted points of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn of(bits: impl ExactSizeIterator<Item = bool>) -> Self {
        let mut words = vec![0; bits.len().div_ceil(64)];
        for (index, bit) in bits.enumerate() {
            words[index / 64] |= u64::from(bit) << (index % 64);
        }
        Self(words)
    }

    fn has(&self, index: usize) -> bool {
        (self.0[index / 64] >> (index % 64)) & 1 == 1
    }
}

/// What one contract says about one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    contract: ContractId,
    contract_digest: Digest,
    not_before: WallTime,
    not_after: WallTime,
    covered: Bitmap,
    masked: Bitmap,
}

impl Grant {
    pub(crate) fn contract(&self) -> &ContractId {
        &self.contract
    }

    pub(crate) fn contract_digest(&self) -> Digest {
        self.contract_digest
    }

    pub(crate) fn valid_at(&self, now: &Now) -> bool {
        validity(now, self.not_before, self.not_after) == Validity::Valid
    }

    /// Why a grant that covers a point does not let it go.
    pub(crate) fn invalid_reason(&self, now: &Now) -> DenyReason {
        let contract = self.contract.clone();
        match validity(now, self.not_before, self.not_after) {
            Validity::NotYet => DenyReason::NotYetValid { contract },
            Validity::Expired => DenyReason::Expired { contract },
            Validity::Valid => unreachable!("a valid grant lets every point go that it covers"),
        }
    }

    pub(crate) fn treatment(&self, ordinal: usize) -> Treatment {
        match (self.covered.has(ordinal), self.masked.has(ordinal)) {
            (false, _) => Treatment::Deny,
            (true, true) => Treatment::Mask,
            (true, false) => Treatment::Pass,
        }
    }
}

/// The points of a dataset and who may have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatasetPlan {
    /// Sorted.
    points: Vec<PointId>,
    /// Sorted by contract.
    grants: Vec<Grant>,
}

impl DatasetPlan {
    pub(crate) fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Place of a point in the bitmaps; `None` for a point of another dataset.
    pub(crate) fn ordinal(&self, point: PointId) -> Option<usize> {
        self.points.binary_search(&point).ok()
    }
}

/// A contract that counts, for status and for leaves about changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    pub contract: ContractId,
    pub version: u64,
    pub digest: Digest,
}

impl InForce {
    fn of(contract: &Contract) -> Self {
        Self {
            contract: contract.id().clone(),
            version: contract.version(),
            digest: contract.digest(),
        }
    }
}

/// Immutable; a change of contracts or descriptors makes a new plan with a new digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    datasets: BTreeMap<DatasetId, DatasetPlan>,
    contracts: Vec<InForce>,
    descriptors: Digest,
    digest: Digest,
    warnings: Vec<PlanWarning>,
}

impl Plan {
    /// The highest version of each contract is in force. One version in two forms puts none of the
    /// contract in force.
    pub fn compile(contracts: &[Contract], descriptors: &DescriptorTable) -> Self {
        let mut warnings = Vec::new();
        let in_force = in_force(contracts, &mut warnings);
        let mut points_of: BTreeMap<&DatasetId, Vec<(PointId, &PointName)>> = BTreeMap::new();
        for point in descriptors.iter() {
            points_of.entry(&point.dataset).or_default().push((point.id, &point.name));
        }
        let known: BTreeSet<DatasetId> = points_of.keys().map(|id| (*id).clone()).collect();
        let mut datasets: BTreeMap<DatasetId, DatasetPlan> = BTreeMap::new();
        for contract in &in_force {
            warn_of_unknown(contract, descriptors, &known, &mut warnings);
            for dataset in contract.datasets() {
                let Some(points) = points_of.get(dataset) else { continue };
                let plan = datasets.entry(dataset.clone()).or_insert_with(|| DatasetPlan {
                    points: points.iter().map(|(id, _)| *id).collect(),
                    grants: Vec::new(),
                });
                plan.grants.push(grant(contract, points));
            }
        }
        let digest = digest(&in_force, descriptors);
        Self {
            datasets,
            contracts: in_force.iter().map(|contract| InForce::of(contract)).collect(),
            descriptors: descriptors.digest(),
            digest,
            warnings,
        }
    }

    /// Identifies the contracts in force and the descriptors, and so every decision.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Digest of the descriptor table whose point ids the plan speaks of.
    pub fn descriptors(&self) -> Digest {
        self.descriptors
    }

    /// The contracts in force, sorted by id; expired ones and those still to come included.
    pub fn contracts(&self) -> &[InForce] {
        &self.contracts
    }

    pub fn warnings(&self) -> &[PlanWarning] {
        &self.warnings
    }

    pub(crate) fn dataset(&self, id: &DatasetId) -> Option<&DatasetPlan> {
        self.datasets.get(id)
    }
}

/// The contracts that count, sorted by id.
fn in_force<'c>(contracts: &'c [Contract], warnings: &mut Vec<PlanWarning>) -> Vec<&'c Contract> {
    let mut by_id: BTreeMap<&ContractId, Vec<&Contract>> = BTreeMap::new();
    for contract in contracts {
        by_id.entry(contract.id()).or_default().push(contract);
    }
    let mut in_force = Vec::new();
    for (id, versions) in by_id {
        let newest = versions.iter().map(|contract| contract.version()).max();
        let newest = newest.expect("an id is listed with a contract");
        let mut latest = versions.iter().filter(|contract| contract.version() == newest);
        let first = latest.next().expect("one contract has the highest version");
        if latest.any(|other| other.digest() != first.digest()) {
            warnings.push(PlanWarning::Conflict { contract: id.clone(), version: newest });
            continue;
        }
        in_force.push(*first);
    }
    let count = in_force.len();
    for ignored in in_force.iter().skip(CONTRACTS_MAX) {
        warnings.push(PlanWarning::TooMany { count, ignored: ignored.id().clone() });
    }
    in_force.truncate(CONTRACTS_MAX);
    in_force
}

fn warn_of_unknown(
    contract: &Contract,
    descriptors: &DescriptorTable,
    known: &BTreeSet<DatasetId>,
    warnings: &mut Vec<PlanWarning>,
) {
    let id = contract.id();
    for dataset in contract.datasets().difference(known) {
        let warning =
            PlanWarning::UnknownDataset { contract: id.clone(), dataset: dataset.clone() };
        warnings.push(warning);
    }
    let is_unknown = |name: &&PointName| {
        let point = descriptors.by_name(name.as_str());
        point.is_none_or(|point| !contract.datasets().contains(&point.dataset))
    };
    if let crate::contract::Points::Named(names) = contract.points() {
        warnings.extend(
            names.iter().filter(is_unknown).map(|name| PlanWarning::UnknownPoint {
                contract: id.clone(),
                point: name.clone(),
            }),
        );
    }
    warnings.extend(
        contract
            .mask()
            .iter()
            .filter(is_unknown)
            .map(|name| PlanWarning::UnknownMask { contract: id.clone(), point: name.clone() }),
    );
}

fn grant(contract: &Contract, points: &[(PointId, &PointName)]) -> Grant {
    Grant {
        contract: contract.id().clone(),
        contract_digest: contract.digest(),
        not_before: contract.not_before(),
        not_after: contract.not_after(),
        covered: Bitmap::of(points.iter().map(|(_, name)| contract.points().covers(name))),
        masked: Bitmap::of(points.iter().map(|(_, name)| contract.mask().contains(*name))),
    }
}

fn digest(in_force: &[&Contract], descriptors: &DescriptorTable) -> Digest {
    let mut out = Writer::new();
    out.bytes(b"guan plan 1");
    out.raw(&descriptors.digest().0);
    out.varint(in_force.len() as u64);
    for contract in in_force {
        out.raw(&contract.digest().0);
    }
    Digest::of(&out.finish())
}

#[cfg(test)]
mod tests;
