//! The windows that the points of a group share, for one contract and dataset.
//!
//! A result is of many points and leaves on another one, so nothing about that one may be stricter: the
//! permission must be about it, on the same conditions of leaving, and each prohibition about it must be one
//! about every point of the group. A point for which that is not so is left out of the permission.
//! Prohibitions of all points have their places in one list, so that readings that are asked the same when they
//! leave share windows, whichever point they are of.

use super::PlanWarning;
use super::grant::{FORBIDS_MAX, Forbid, Permit, PointRules, RuleSet};
use super::program::{Collections, Fixed, Program};
use crate::contract::Contract;
use crate::terms::Terms;
use guan_model::bytes_io::Writer;
use guan_model::descriptor::PointDescriptor;
use guan_model::{BootNumber, Digest, Now, PointId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a permission makes of a point that shares its windows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    /// Place of the group among those of the grant.
    pub(crate) group: u16,
    /// For each prohibition about the point, its place in the list of the group.
    forbids: Vec<u16>,
}

impl Member {
    /// Places of prohibitions about the point, in the list of the group.
    pub(crate) fn places(&self, forbids: RuleSet) -> Vec<u16> {
        let places = forbids.iter().filter_map(|place| self.forbids.get(place).copied());
        let mut set = RuleSet::default();
        places.for_each(|place| set.insert(usize::from(place)));
        set.places()
    }
}

/// A group of points under one permission.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedWindows {
    pub(crate) rule: Arc<str>,
    /// The point on which results leave.
    pub(crate) into: PointId,
    /// Which rules stand, as [`super::Grant::identity`] says it of a point.
    pub(crate) identity: Digest,
    /// Of one of its points; what follows on the windows is the same for all.
    pub(crate) permit: Permit,
    forbids: Vec<Binding>,
    /// Whose readings may be in a window, with their places in the dataset; `into` is the first.
    pub(crate) points: Vec<(PointId, usize)>,
}

/// A prohibition about a point of the group.
#[derive(Debug, Clone, PartialEq)]
struct Binding {
    contract_digest: Digest,
    rule: Arc<str>,
    later: Program,
}

impl SharedWindows {
    /// What is asked when a result leaves.
    pub(crate) fn terms(&self, forbids: RuleSet, now: Now, boot: BootNumber) -> Terms {
        let forbid = forbids.iter().filter_map(|place| self.forbids.get(place));
        let forbid = forbid.map(|one| (one.rule.clone(), one.later.clone()));
        self.permit.terms(forbid.collect(), now, boot)
    }

    fn identity(&self, contract: &Digest, descriptors: &Digest) -> Digest {
        let mut out = Writer::new();
        out.bytes(b"guan window group 1");
        [descriptors, contract].iter().for_each(|digest| out.raw(&digest.0));
        out.u32(self.into.0);
        self.forbids.iter().for_each(|one| out.raw(&one.contract_digest.0));
        // Conditions of leaving may differ from point to point, so that their order tells which are which.
        let forbid = self.forbids.iter().map(|one| (one.rule.clone(), one.later.clone()));
        out.bytes(&self.permit.asked(forbid.collect()).encode());
        Digest::of(&out.finish())
    }
}

/// Why a permission does not let a group have its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum GroupFault {
    #[error("the dataset has no such point on this box; correct the name, or declare the point")]
    NoPoint,
    #[error(
        "the permission is not about it, or lets it leave on other conditions; let it be about both"
    )]
    NotPermitted,
    #[error("a prohibition is about it and not, in the same words, about all that is aggregated")]
    Prohibited,
}

/// What is known of the point of results under one rule.
struct Target {
    point: PointId,
    ordinal: usize,
    rules: PointRules,
}

/// The groups of one grant while it is made.
pub(super) struct Groups<'g> {
    contract: &'g Contract,
    others: &'g [&'g Contract],
    points: &'g [&'g PointDescriptor],
    collections: &'g Collections,
    targets: BTreeMap<String, Option<Target>>,
    all: Vec<SharedWindows>,
    /// What cannot be, each once: rule, name of the point of results, why.
    faults: Vec<(Arc<str>, String, GroupFault)>,
}

impl<'g> Groups<'g> {
    pub(super) fn new(
        contract: &'g Contract,
        others: &'g [&'g Contract],
        points: &'g [&'g PointDescriptor],
        collections: &'g Collections,
    ) -> Self {
        let (targets, all, faults) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { contract, others, points, collections, targets, all, faults }
    }

    /// Makes a point one of its groups; permissions that cannot have their group are gone afterwards. `None`:
    /// too many prohibitions, or groups.
    pub(super) fn admit(&mut self, rules: &mut PointRules, ordinal: usize) -> Option<()> {
        if rules.permits.iter().all(|permit| permit.results_on().is_none()) {
            return Some(());
        }
        let mut kept = Vec::with_capacity(rules.permits.len());
        for mut permit in std::mem::take(&mut rules.permits) {
            if let Some(into) = permit.results_on().map(str::to_owned) {
                if let Some(fault) = self.fault(&into, &permit, &rules.forbids)? {
                    self.note(&permit.rule, into, fault);
                    continue;
                }
                permit.member = Some(self.join(&into, &permit, &rules.forbids, ordinal)?);
            }
            kept.push(permit);
        }
        rules.set_permits(kept);
        Some(())
    }

    fn note(&mut self, rule: &Arc<str>, into: String, fault: GroupFault) {
        let one = (rule.clone(), into, fault);
        if !self.faults.contains(&one) {
            self.faults.push(one);
        }
    }

    /// The outer `None`: too many prohibitions are about the point of results.
    fn fault(
        &mut self,
        into: &str,
        permit: &Permit,
        forbids: &[Forbid],
    ) -> Option<Option<GroupFault>> {
        let Some(target) = self.target(into)? else { return Some(Some(GroupFault::NoPoint)) };
        let about = target.rules.permit_by_rule(&permit.rule);
        if about.is_none_or(|about| !about.leaves_as(permit)) {
            return Some(Some(GroupFault::NotPermitted));
        }
        let is_known = |one: &Forbid| forbids.iter().any(|known| known.asks_as(one));
        let is_free = target.rules.forbids.iter().all(is_known);
        Some((!is_free).then_some(GroupFault::Prohibited))
    }

    /// The outer `None`: too many prohibitions. The inner: there is no such point.
    fn target(&mut self, into: &str) -> Option<Option<&Target>> {
        if !self.targets.contains_key(into) {
            let ordinal = self.points.iter().position(|point| point.name.as_str() == into);
            let target = match ordinal {
                None => None,
                Some(ordinal) => {
                    let point = self.points[ordinal];
                    let (contract, collections) = (self.contract, self.collections);
                    let rules =
                        PointRules::of(&Fixed { contract, point, collections }, self.others)?;
                    Some(Target { point: point.id, ordinal, rules })
                }
            };
            self.targets.insert(into.to_owned(), target);
        }
        Some(self.targets[into].as_ref())
    }

    fn join(
        &mut self,
        into: &str,
        permit: &Permit,
        forbids: &[Forbid],
        ordinal: usize,
    ) -> Option<Member> {
        let target = self.targets[into].as_ref().expect("it was just looked at");
        let is_it = |one: &SharedWindows| one.rule == permit.rule && one.into == target.point;
        let place = self.all.iter().position(is_it).unwrap_or_else(|| {
            self.all.push(SharedWindows {
                rule: permit.rule.clone(),
                into: target.point,
                identity: Digest([0; 32]),
                permit: permit.clone(),
                forbids: Vec::new(),
                points: vec![(target.point, target.ordinal)],
            });
            self.all.len() - 1
        });
        let shared = &mut self.all[place];
        shared.points.push((self.points[ordinal].id, ordinal));
        let mut places = Vec::with_capacity(forbids.len());
        for forbid in forbids {
            let one = forbid.binding();
            let known = shared.forbids.iter().position(|known| *known == one);
            let at = known.unwrap_or_else(|| {
                shared.forbids.push(one);
                shared.forbids.len() - 1
            });
            places.push(u16::try_from(at).ok().filter(|at| usize::from(*at) < FORBIDS_MAX)?);
        }
        Some(Member { group: u16::try_from(place).ok()?, forbids: places })
    }

    pub(super) fn finish(
        self,
        descriptors: &Digest,
        warnings: &mut Vec<PlanWarning>,
    ) -> Vec<SharedWindows> {
        warnings.extend(self.faults.into_iter().map(|(rule, into, why)| PlanWarning::Group {
            contract: self.contract.id().clone(),
            dataset: self.points[0].dataset.clone(),
            rule,
            into,
            why,
        }));
        let mut all = self.all;
        for one in &mut all {
            one.identity = one.identity(&self.contract.digest(), descriptors);
        }
        all
    }
}

impl Forbid {
    fn binding(&self) -> Binding {
        let (contract_digest, rule) = (self.contract_digest, self.rule.clone());
        Binding { contract_digest, rule, later: self.later.clone() }
    }
}
