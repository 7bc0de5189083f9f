//! What one contract says about the points of one dataset.

use super::program::{Collections, Fixed, Program, Reading};
use crate::contract::check::binds_the_box;
use crate::contract::{Contract, RuleKind, Validity, validity};
use crate::decision::DenyReason;
use crate::duty::Transform;
use crate::situation::Situation;
use crate::truth::Truth;
use guan_model::descriptor::PointDescriptor;
use guan_model::{ContractId, Digest, Now, WallTime};
use std::sync::Arc;

/// Most different sets of rules that one contract has for the points of a dataset.
const RULE_SETS_MAX: usize = 4096;

/// A permission for some points: when it holds, and the form in which rows then leave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Permit {
    contract: ContractId,
    rule: Arc<str>,
    program: Program,
    /// In the order of their steps.
    pub(crate) form: Vec<Transform>,
}

/// A prohibition for some points.
#[derive(Debug, Clone, PartialEq)]
struct Forbid {
    rule: Arc<str>,
    program: Program,
}

/// The rules that are left for points about which a contract says the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PointRules {
    permits: Vec<Permit>,
    forbids: Vec<Forbid>,
}

/// What the rules say of one reading. The four verdicts of TC609-6-2025-15: allowed (a permit with an
/// empty form), allowed on conditions (with a form), refused (forbid), refused by default (none).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict<'p> {
    Permit(&'p Permit),
    Forbid(&'p Arc<str>),
    None,
}

impl PointRules {
    fn of(fixed: &Fixed<'_>) -> Self {
        let mut rules = Self::default();
        for rule in fixed.contract.rules().iter().filter(|rule| binds_the_box(rule)) {
            let program = fixed.compile(&rule.constraint);
            if program == Program::Known(Truth::False) {
                continue;
            }
            let id = rule.id.clone();
            match rule.kind {
                RuleKind::Prohibition => rules.forbids.push(Forbid { rule: id, program }),
                RuleKind::Permission => {
                    let name = fixed.point.name.as_str();
                    let treats = rule.treatments.iter().filter(|one| one.points.covers(name));
                    let mut form: Vec<Transform> = treats.map(|t| t.transform.clone()).collect();
                    form.sort_by_key(Transform::step);
                    let contract = fixed.contract.id().clone();
                    rules.permits.push(Permit { contract, rule: id, program, form });
                }
            }
        }
        rules
    }

    /// Whether no permission is about the point.
    pub(crate) fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    /// The first permission, for saying what came closest.
    pub(crate) fn nearest(&self) -> Option<&Arc<str>> {
        self.permits.first().map(|permit| &permit.rule)
    }

    /// Whether all readings of a batch get the same verdict.
    pub(crate) fn is_of_batch(&self) -> bool {
        self.permits.iter().all(|one| one.program.is_of_batch())
            && self.forbids.iter().all(|one| one.program.is_of_batch())
    }

    /// Prohibition wins, on true and on unknown; a permission needs true; else no.
    pub(crate) fn verdict(&self, situation: &Situation, reading: &Reading) -> Verdict<'_> {
        let fires = |forbid: &&Forbid| forbid.program.truth(situation, reading) != Truth::False;
        if let Some(forbid) = self.forbids.iter().find(fires) {
            return Verdict::Forbid(&forbid.rule);
        }
        let holds = |permit: &&Permit| {
            permit.program.truth(situation, reading) == Truth::True
                && !situation.is_violated(&permit.contract, &permit.rule)
        };
        self.permits.iter().find(holds).map_or(Verdict::None, Verdict::Permit)
    }
}

/// What one contract says about one dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    contract: ContractId,
    contract_digest: Digest,
    not_before: WallTime,
    not_after: WallTime,
    /// For each point of the dataset, in order, its place in `rules`.
    rules_of: Vec<u16>,
    rules: Vec<PointRules>,
}

impl Grant {
    /// `None` when the contract divides the points into more than [`RULE_SETS_MAX`] kinds.
    pub(super) fn of(
        contract: &Contract,
        points: &[&PointDescriptor],
        collections: &Collections,
    ) -> Option<Self> {
        let mut rules: Vec<PointRules> = Vec::new();
        let mut rules_of = Vec::with_capacity(points.len());
        for point in points {
            let own = PointRules::of(&Fixed { contract, point, collections });
            let known = rules.iter().position(|known| *known == own);
            let place = known.unwrap_or_else(|| {
                rules.push(own);
                rules.len() - 1
            });
            rules_of.push(u16::try_from(place).ok().filter(|_| place < RULE_SETS_MAX)?);
        }
        Some(Self {
            contract: contract.id().clone(),
            contract_digest: contract.digest(),
            not_before: contract.not_before(),
            not_after: contract.not_after(),
            rules_of,
            rules,
        })
    }

    pub(crate) fn contract(&self) -> &ContractId {
        &self.contract
    }

    pub(crate) fn contract_digest(&self) -> Digest {
        self.contract_digest
    }

    pub(crate) fn valid_at(&self, now: &Now) -> bool {
        validity(now, self.not_before, self.not_after) == Validity::Valid
    }

    /// Why its term does not let anything go; `None` while the term lasts.
    pub(crate) fn invalid_reason(&self, now: &Now) -> Option<DenyReason> {
        let contract = self.contract.clone();
        match validity(now, self.not_before, self.not_after) {
            Validity::NotYet => Some(DenyReason::NotYetValid { contract }),
            Validity::Expired => Some(DenyReason::Expired { contract }),
            Validity::Valid => None,
        }
    }

    pub(crate) fn rules(&self, ordinal: usize) -> &PointRules {
        &self.rules[usize::from(self.rules_of[ordinal])]
    }
}
