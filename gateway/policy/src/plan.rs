//! All contracts and descriptors compiled: for each dataset its grants, for each grant and point the
//! rules that are left once contract and descriptor have answered what they can.
//!
//! Compiling is total and depends on nothing but its arguments, in any order. What a contract names
//! and the box does not have is a warning: contracts are written for many boxes. Whatever cannot be
//! decided safely grants nothing.

mod columns;
mod grant;
mod group;
mod judge;
mod program;

pub(crate) use columns::reading;
pub(crate) use grant::{Grant, Permit, PointRules, RuleSet, Verdict};
pub use group::GroupFault;
pub(crate) use group::SharedWindows;
pub use judge::{Judged, Verdicts};
pub use program::{Collections, Reading};
pub(crate) use program::{Counted, Fixed, Live, Program};

use crate::constraint::Test;
use crate::contract::{Contract, Lease, RuleKind};
use crate::duty::{Duty, NotifyOn, Treatment, pattern_covers};
use crate::told::Quota;
use guan_model::bytes_io::Writer;
use guan_model::descriptor::PointDescriptor;
use guan_model::{ContractId, DatasetId, DescriptorTable, Digest, PointId, WallTime};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most contracts in force on one box.
pub const CONTRACTS_MAX: usize = 1024;
/// Most points that a warning names.
const POINTS_SHOWN_MAX: usize = 4;

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
    UnknownPoint { contract: ContractId, point: String },
    #[error(
        "contract {contract} has a {transform} for point {point}, which its datasets do not have on \
         this box; if the name is wrong, nothing is done to the value"
    )]
    UnknownTreatment { contract: ContractId, point: String, transform: &'static str },
    #[error(
        "rule {rule} of contract {contract} has a {transform} for {points} alone, and no dataset of \
         the contract has such a point on this box; the rule grants nothing here, lest what is to be \
         protected leaves as it is; correct the name, or give boxes without the point another contract"
    )]
    Unprotected { contract: ContractId, rule: Arc<str>, transform: &'static str, points: String },
    #[error(
        "rule {rule} of contract {contract} grants nothing in {dataset} where it aggregates into \
         {into}: {why}"
    )]
    Group {
        contract: ContractId,
        dataset: DatasetId,
        rule: Arc<str>,
        into: String,
        why: GroupFault,
    },
    #[error(
        "contract {contract} divides the points of {dataset} into too many kinds; it grants \
         nothing there"
    )]
    TooManyKinds { contract: ContractId, dataset: DatasetId },
}

/// The points of a dataset and who may have them.
#[derive(Debug, Clone, PartialEq)]
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
    pub consumer: Arc<str>,
    /// Whether it has prohibitions, which bind all contracts of the consumer.
    pub forbids: bool,
    pub not_before: WallTime,
    pub not_after: WallTime,
    pub lease: Lease,
    /// Who must be told, and on what; sorted, each once.
    pub notify: Vec<(NotifyOn, Arc<str>)>,
    /// Whether any of its rules asks for Secure Boot, which only an attested box knows.
    pub asks_secure_boot: bool,
    /// Those of which somebody must be told; sorted, each once.
    pub quotas: Vec<Quota>,
}

impl InForce {
    fn of(contract: &Contract) -> Self {
        Self {
            contract: contract.id().clone(),
            version: contract.version(),
            digest: contract.digest(),
            consumer: contract.consumer().into(),
            forbids: contract.rules().iter().any(|rule| rule.kind == RuleKind::Prohibition),
            not_before: contract.not_before(),
            not_after: contract.not_after(),
            lease: *contract.lease(),
            notify: notifications(contract),
            asks_secure_boot: contract.asks_secure_boot().next().is_some(),
            quotas: Quota::told(contract),
        }
    }
}

/// What duties, remedies and obligations say about telling somebody.
pub(crate) fn notifications(contract: &Contract) -> Vec<(NotifyOn, Arc<str>)> {
    let duties = contract.rules().iter().flat_map(|rule| &rule.duties);
    let told: BTreeSet<(NotifyOn, Arc<str>)> = duties
        .chain(contract.obligations())
        .filter_map(|duty| match duty {
            Duty::Notify { target, on } => Some((*on, target.clone())),
            _ => None,
        })
        .collect();
    told.into_iter().collect()
}

/// Immutable; a change of contracts or descriptors makes a new plan with a new digest.
#[derive(Debug, Clone, PartialEq)]
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
        Self::compile_with(contracts, descriptors, &Collections::default())
    }

    /// As `compile`, with what is known about collections of parties and datasets.
    pub fn compile_with(
        contracts: &[Contract],
        descriptors: &DescriptorTable,
        collections: &Collections,
    ) -> Self {
        let mut warnings = Vec::new();
        let in_force = in_force(contracts, &mut warnings);
        let mut points_of: BTreeMap<&DatasetId, Vec<&PointDescriptor>> = BTreeMap::new();
        for point in descriptors.iter() {
            points_of.entry(&point.dataset).or_default().push(point);
        }
        let known: BTreeSet<DatasetId> = points_of.keys().map(|id| (*id).clone()).collect();
        let safe: Vec<Cow<'_, Contract>> = in_force
            .iter()
            .map(|contract| {
                warn_of_unknown(contract, descriptors, &known, &mut warnings);
                without_unprotected(contract, descriptors, &known, &mut warnings)
            })
            .collect();
        let mut datasets: BTreeMap<DatasetId, DatasetPlan> = BTreeMap::new();
        let table = descriptors.digest();
        for contract in safe.iter().map(AsRef::as_ref) {
            for dataset in contract.datasets() {
                let Some(points) = points_of.get(dataset) else { continue };
                let plan = datasets.entry(dataset.clone()).or_insert_with(|| DatasetPlan {
                    points: points.iter().map(|point| point.id).collect(),
                    grants: Vec::new(),
                });
                let same = |other: &&Contract| {
                    other.consumer() == contract.consumer()
                        && other.datasets().contains(dataset)
                        && other.rules().iter().any(|rule| rule.kind == RuleKind::Prohibition)
                };
                let others: Vec<&Contract> = safe.iter().map(AsRef::as_ref).filter(same).collect();
                match Grant::of(contract, &others, points, (&table, collections), &mut warnings) {
                    Some(grant) => plan.grants.push(grant),
                    None => warnings.push(PlanWarning::TooManyKinds {
                        contract: contract.id().clone(),
                        dataset: dataset.clone(),
                    }),
                }
            }
        }
        let digest = digest(&in_force, descriptors);
        Self {
            datasets,
            contracts: in_force.iter().map(|contract| InForce::of(contract)).collect(),
            descriptors: table,
            digest,
            warnings,
        }
    }

    /// Identifies the contracts in force and the descriptors, and so every decision.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A contract in force, by id.
    pub fn contract(&self, id: &ContractId) -> Option<&InForce> {
        let place = self.contracts.binary_search_by(|one| one.contract.cmp(id));
        place.ok().map(|place| &self.contracts[place])
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

    /// What a contract in force says about a point: its dataset, the grant, and the point's place there.
    pub(crate) fn grant_of(
        &self,
        contract: &ContractId,
        point: PointId,
    ) -> Option<(&DatasetId, &Grant, usize)> {
        let places =
            self.datasets.iter().filter_map(|(id, plan)| Some((id, plan, plan.ordinal(point)?)));
        let mut grants = places.flat_map(|(id, plan, ordinal)| {
            plan.grants().iter().map(move |grant| (id, grant, ordinal))
        });
        grants.find(|(_, grant, _)| grant.contract() == contract)
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

/// The contract without permissions whose protection is about no point here: with a wrong name, what
/// it was to protect would leave as it is. Boxes that lack a whole dataset cannot know the names in it.
fn without_unprotected<'c>(
    contract: &'c Contract,
    descriptors: &DescriptorTable,
    known: &BTreeSet<DatasetId>,
    warnings: &mut Vec<PlanWarning>,
) -> Cow<'c, Contract> {
    if !contract.datasets().is_subset(known) {
        return Cow::Borrowed(contract);
    }
    let is_idle = |treatment: &&Treatment| {
        let mut points = descriptors.iter();
        treatment.transform.protects()
            && !points.any(|point| {
                contract.datasets().contains(&point.dataset)
                    && treatment.points.covers(point.name.as_str())
            })
    };
    let mut gone = BTreeSet::new();
    for rule in contract.rules() {
        let Some(treatment) = rule.treatments.iter().find(is_idle) else { continue };
        let mut points: Vec<&str> = treatment.points.iter().take(POINTS_SHOWN_MAX + 1).collect();
        if points.len() > POINTS_SHOWN_MAX {
            points[POINTS_SHOWN_MAX] = "and more";
        }
        warnings.push(PlanWarning::Unprotected {
            contract: contract.id().clone(),
            rule: rule.id.clone(),
            transform: treatment.transform.name(),
            points: points.join(", "),
        });
        gone.insert(&rule.id);
    }
    match gone.is_empty() {
        true => Cow::Borrowed(contract),
        false => Cow::Owned(contract.without_rules(&gone)),
    }
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
    let is_unknown = |pattern: &str| {
        let mut points = descriptors.iter();
        !points.any(|point| {
            contract.datasets().contains(&point.dataset)
                && pattern_covers(pattern, point.name.as_str())
        })
    };
    for rule in contract.rules() {
        for leaf in rule.constraint.leaves() {
            let Test::Point(test) = &leaf.test else { continue };
            for point in test.names.iter().filter(|name| is_unknown(name)) {
                let point = point.clone();
                warnings.push(PlanWarning::UnknownPoint { contract: id.clone(), point });
            }
        }
        for one in &rule.treatments {
            for point in one.points.iter().filter(|name| is_unknown(name)) {
                warnings.push(PlanWarning::UnknownTreatment {
                    contract: id.clone(),
                    point: point.to_owned(),
                    transform: one.transform.name(),
                });
            }
        }
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
