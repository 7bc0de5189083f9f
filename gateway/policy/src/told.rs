//! What must be known to tell somebody (notify): what one contract refuses whatever the others do, and how full its
//! quotas are. Computed only for contracts that want somebody told, from verdicts that are there already.

use crate::constraint::{Period, QuotaKey, Test};
use crate::contract::{Contract, Rule};
use crate::duty::NotifyOn;
use crate::interval::Comparison;
use crate::plan::{
    Grant, InForce, Plan, PointRules, Reading, Verdict, Verdicts, notifications, reading,
};
use crate::situation::Situation;
use crate::truth::Truth;
use crate::usage::{CellKey, Usage};
use guan_model::{ClockQuality, ContractId, Now, Series};
use std::collections::{BTreeMap, BTreeSet};

/// A counter and the most that the contract lets it come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quota {
    pub key: QuotaKey,
    pub limit: u64,
}

/// Rows that one contract does not let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractRefusal {
    pub contract: ContractId,
    pub rows: u64,
    /// Of these, rows that only a used-up quota holds back.
    pub by_quota: BTreeMap<Quota, u64>,
}

impl Quota {
    /// `None` for tests that set no limit.
    pub(crate) fn of(test: &Test) -> Option<Self> {
        let Test::Quota { key, comparison, limit } = test else { return None };
        let limit = match comparison {
            // A permission up to it, or a prohibition beyond it.
            Comparison::Lteq | Comparison::Gt => *limit,
            Comparison::Lt | Comparison::Gteq => limit.saturating_sub(1),
            Comparison::Eq | Comparison::Neq => return None,
        };
        Some(Self { key: *key, limit })
    }

    fn of_rule(rule: &Rule) -> impl Iterator<Item = Self> {
        rule.constraint.leaves().into_iter().filter_map(|leaf| Self::of(&leaf.test))
    }

    /// Of a contract that wants somebody told of its quotas.
    pub(crate) fn told(contract: &Contract) -> Vec<Self> {
        if !notifications(contract).iter().any(|(on, _)| *on == NotifyOn::Quota) {
            return Vec::new();
        }
        let quotas: BTreeSet<Self> = contract.rules().iter().flat_map(Self::of_rule).collect();
        quotas.into_iter().collect()
    }
}

impl InForce {
    /// What is used of each quota of which somebody wants to be told, and the number of the period.
    pub fn quotas_used(&self, usage: &Usage, now: &Now) -> Vec<(Quota, i64, u64)> {
        let is_known = |quota: &&Quota| {
            now.quality != ClockQuality::Unset || quota.key.period == Period::Total
        };
        let used = |quota: &Quota| {
            let number = quota.key.period.number(now.wall);
            let cell = CellKey::Quota { contract: self.contract.clone(), key: quota.key };
            (*quota, number, usage.used(&cell, number))
        };
        self.quotas.iter().filter(is_known).map(used).collect()
    }
}

impl Plan {
    /// Adds what a contract has just said of a series to its refusals.
    pub(crate) fn note_refusals(
        grant: &Grant,
        rules: Option<&PointRules>,
        (situation, series): (&Situation, &Series),
        (verdicts, usage): (&Verdicts, &Usage),
        refusal: &mut Option<ContractRefusal>,
    ) {
        let Some(rules) = rules else { return };
        for judged in verdicts.last() {
            if !matches!(judged.verdict, Verdict::Forbid(_) | Verdict::None) {
                continue;
            }
            let refusal = refusal.get_or_insert_with(|| ContractRefusal {
                contract: grant.contract().clone(),
                rows: 0,
                by_quota: BTreeMap::new(),
            });
            refusal.rows += judged.len() as u64;
            if grant.quotas.is_empty() {
                continue;
            }
            for row in judged.rows() {
                let reading: Reading = reading(series, row);
                let about = (situation, &reading, usage);
                if let Some(quota) = rules.used_up(judged.verdict, about) {
                    *refusal.by_quota.entry(quota).or_default() += 1;
                }
            }
        }
    }
}

impl PointRules {
    /// The quota but for which a verdict would be another.
    fn used_up(&self, verdict: Verdict, about: (&Situation, &Reading, &Usage)) -> Option<Quota> {
        match verdict {
            Verdict::None => self.permit_programs(about).find_map(|(program, live)| {
                let is_it = program.truth(live) != Truth::True
                    && program.truth_supposing(live, Truth::True) == Truth::True;
                is_it.then(|| program.quota_that(live, Truth::False)).flatten()
            }),
            Verdict::Forbid(place) => {
                let (program, live) = self.forbid_program(place, about);
                let is_it = program.truth_supposing(live, Truth::False) == Truth::False;
                is_it.then(|| program.quota_that(live, Truth::True)).flatten()
            }
            _ => None,
        }
    }
}
