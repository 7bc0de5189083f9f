//! What makes a contract that is well formed refuse to make sense: it is said before anyone signs.
//!
//! `check` is for every file; `check_sense` for whoever is about to sign: what was signed before it
//! was asked stays in force, and a rule that says nothing grants nothing.

mod groups;
mod implication;

use super::{Contract, Rule, RuleKind, WireForm};
use crate::action::Action;
use crate::constraint::{Constraint, Test};
use crate::duty::{Aggregate, Duty, PointPatterns, Statistic, Transform};
use crate::fault::{Faults, Problem, child};
use crate::interval::{Comparison, IntervalSet};
use implication::{Reasoner, disjuncts};
use std::time::Duration;

/// Shortest period for which a consumer is asked to acknowledge its use.
const ACKNOWLEDGE_EVERY_MIN: Duration = Duration::from_secs(1);

pub(super) fn check(contract: &Contract, faults: &mut Faults) {
    let permissions = || contract.rules.iter().filter(|rule| rule.kind == RuleKind::Permission);
    for rule in &contract.rules {
        let at = &*rule.pointer;
        if !is_satisfiable(contract, &rule.constraint) {
            faults.add(at, Problem::Unsatisfiable);
        }
        check_treatments(rule, faults);
        groups::check(rule, faults);
        check_foreign(rule, faults);
        check_rates(rule, faults);
    }
    for permission in permissions() {
        let forbids = |rule: &&Rule| {
            rule.kind == RuleKind::Prohibition
                && permission.actions.iter().all(|action| rule.actions.covers(action))
                && (rule.constraint.is_always()
                    || is_same(&rule.constraint, &permission.constraint))
        };
        if let Some(prohibition) = contract.rules.iter().find(forbids) {
            let prohibition = prohibition.id.to_string();
            faults.add(&permission.pointer, Problem::Contradiction { prohibition });
        }
    }
}

/// What can be seen only by what rules mean together. `pointer`: where the contract stands.
pub(super) fn check_sense(contract: &Contract, pointer: &str, faults: &mut Faults) {
    if contract.provider == contract.consumer {
        let key = match contract.form {
            WireForm::Odrl => "assignee",
            WireForm::Tds => "signatoryEntities",
            WireForm::First => "consumer",
        };
        faults.add(&child(pointer, key), Problem::SameParty);
    }
    if contract.rules.is_empty() && contract.obligations.is_empty() {
        faults.add(pointer, Problem::NoRules);
    }
    for rule in &contract.rules {
        check_retention(rule, contract, faults);
        check_periods(&rule.duties, &rule.pointer, faults);
    }
    check_periods(&contract.obligations, pointer, faults);
    check_meaning(contract, faults);
}

/// Whether each rule can hold, and whether prohibitions leave anything of each permission.
fn check_meaning(contract: &Contract, faults: &mut Faults) {
    let mut reasoner = Reasoner::new(contract);
    let expanded: Vec<_> =
        contract.rules.iter().map(|rule| (rule, disjuncts(&rule.constraint))).collect();
    for (rule, all) in &expanded {
        let Some(all) = all else { continue };
        let binds = binds_the_box(rule);
        // A prohibition may name what the contract must never be about.
        let is_own = binds && rule.kind == RuleKind::Permission;
        let possible: Vec<_> = all.iter().filter(|one| reasoner.is_possible(one, is_own)).collect();
        if possible.is_empty() {
            if is_satisfiable(contract, &rule.constraint) {
                faults.add(&rule.pointer, Problem::Unsatisfiable);
            }
            continue;
        }
        if rule.kind == RuleKind::Prohibition {
            continue;
        }
        let forbids: Vec<_> = expanded
            .iter()
            .filter(|(other, _)| other.kind == RuleKind::Prohibition && forbids_all(other, rule))
            .flat_map(|(other, all)| all.iter().flatten().map(move |one| (*other, one)))
            .collect();
        let mut stops = |one| {
            forbids.iter().find(|(_, wide)| reasoner.implies(one, wide, binds)).map(|(by, _)| *by)
        };
        let by: Option<Vec<&Rule>> = possible.into_iter().map(&mut stops).collect();
        let is_new = !faults.is_at(&rule.pointer);
        if let Some(prohibition) = by.and_then(|by| by.first().copied())
            && is_new
        {
            let prohibition = prohibition.id.to_string();
            faults.add(&rule.pointer, Problem::Contradiction { prohibition });
        }
    }
}

/// Whether a prohibition that holds leaves nothing of a permission. What the box does not deliver is
/// nowhere for anything else that is permitted.
fn forbids_all(prohibition: &Rule, permission: &Rule) -> bool {
    let stops_delivery = binds_the_box(prohibition) && binds_the_box(permission);
    stops_delivery || permission.actions.iter().all(|action| prohibition.actions.forbids(action))
}

/// Nobody can keep data for longer than it may have it. A store keeps what came under one contract together,
/// so what one permission wants kept binds the others, too.
fn check_retention(rule: &Rule, contract: &Contract, faults: &mut Faults) {
    if rule.kind == RuleKind::Prohibition {
        return;
    }
    let kept = contract.duties_of_use().filter_map(|duty| match duty {
        Duty::Retain(span) => Some(*span),
        _ => None,
    });
    let kept = kept.max().unwrap_or(Duration::ZERO);
    let is_too_long = |duty: &Duty| match duty {
        Duty::DeleteAfter(span) => kept > *span,
        Duty::DeleteBy(moment) => contract.not_before.saturating_add(kept) > *moment,
        _ => false,
    };
    let mut duties = rule.duties.iter().chain(&contract.obligations);
    if !kept.is_zero() && duties.any(is_too_long) {
        faults.add(&rule.pointer, Problem::RetainBeyondDelete);
    }
}

/// Each period is counted and signed for by itself.
fn check_periods(duties: &[Duty], pointer: &str, faults: &mut Faults) {
    for duty in duties {
        if let Duty::AcknowledgeUse { every } = duty
            && *every < ACKNOWLEDGE_EVERY_MIN
        {
            let (found, limit) = (every.as_secs(), ACKNOWLEDGE_EVERY_MIN.as_secs());
            faults.add(pointer, Problem::PeriodTooShort { found, limit });
        }
    }
}

/// The bucket of a rate empties with what a permission lets go; a prohibition lets nothing go.
fn check_rates(rule: &Rule, faults: &mut Faults) {
    if rule.kind == RuleKind::Prohibition && binds_the_box(rule) {
        for leaf in rule.constraint.leaves() {
            if let Test::Rate(_) = &leaf.test {
                faults.add(&leaf.pointer, Problem::RateInProhibition);
            }
        }
    }
}

/// Equal but for the places where they stand.
fn is_same(a: &Constraint, b: &Constraint) -> bool {
    match (a, b) {
        (Constraint::Test(a), Constraint::Test(b)) => a.test == b.test,
        (Constraint::And(a), Constraint::And(b))
        | (Constraint::Or(a), Constraint::Or(b))
        | (Constraint::Xone(a), Constraint::Xone(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        _ => false,
    }
}

/// Whether the times that a rule asks for exist within the contract's term, as far as conjunctions
/// tell. `dateTime` may lie in the grace after the term.
fn is_satisfiable(contract: &Contract, constraint: &Constraint) -> bool {
    let grace = contract.not_after.saturating_add(contract.lease.grace_delivery);
    let term = |until: i64| {
        let from = IntervalSet::of(Comparison::Gteq, contract.not_before.0);
        vec![from, IntervalSet::of(Comparison::Lt, until)]
    };
    let (mut sent, mut measured) = (term(grace.0), vec![]);
    for part in constraint.conjuncts() {
        match times(part, &|test| matches!(test, Test::DateTime(..))) {
            Some(set) => sent.push(set),
            None => measured.extend(times(part, &|test| matches!(test, Test::EventTime(..)))),
        }
    }
    let meet = |sets: &[IntervalSet]| IntervalSet::combine(sets, |count| count == sets.len());
    !meet(&sent).is_empty() && (measured.is_empty() || !meet(&measured).is_empty())
}

/// The moments at which a tree of time tests holds; `None` if it asks anything else.
pub(crate) fn times(
    constraint: &Constraint,
    is_time: &dyn Fn(&Test) -> bool,
) -> Option<IntervalSet> {
    let sets = |parts: &[Constraint]| -> Option<Vec<IntervalSet>> {
        parts.iter().map(|part| times(part, is_time)).collect()
    };
    match constraint {
        Constraint::Test(leaf) => match &leaf.test {
            Test::DateTime(comparison, moment) | Test::EventTime(comparison, moment)
                if is_time(&leaf.test) =>
            {
                Some(IntervalSet::of(*comparison, moment.0))
            }
            _ => None,
        },
        Constraint::And(parts) if parts.is_empty() => None,
        Constraint::And(parts) => {
            sets(parts).map(|sets| IntervalSet::combine(&sets, |count| count == sets.len()))
        }
        Constraint::Or(parts) => {
            sets(parts).map(|sets| IntervalSet::combine(&sets, |count| count > 0))
        }
        Constraint::Xone(parts) => {
            sets(parts).map(|sets| IntervalSet::combine(&sets, |count| count == 1))
        }
    }
}

fn check_treatments(rule: &Rule, faults: &mut Faults) {
    for (place, one) in rule.treatments.iter().enumerate() {
        for other in &rule.treatments[..place] {
            if one.transform.step() == other.transform.step()
                && let Some(point) = overlap(&one.points, &other.points)
            {
                let (point, step) = (point.to_owned(), one.transform.name());
                faults.add(&one.pointer, Problem::TwoTransforms { point, step });
            }
        }
        if matches!(one.transform, Transform::Noise(_)) {
            // A count says the same whatever the values are.
            let is_bound = |transform: &Transform| {
                matches!(
                    transform,
                    Transform::Clamp { .. }
                        | Transform::Aggregate(Aggregate { statistic: Statistic::Count, .. })
                )
            };
            let clamps = |pattern: &str| {
                rule.treatments.iter().any(|other| {
                    is_bound(&other.transform)
                        && other.points.iter().any(|clamp| includes(clamp, pattern))
                })
            };
            if let Some(point) = one.points.iter().find(|pattern| !clamps(pattern)) {
                let point = point.to_owned();
                faults.add(&one.pointer, Problem::NoiseUnbounded { point });
            }
        }
    }
}

/// What only another node can answer must not bind this one: it would grant nothing, or forbid all.
fn check_foreign(rule: &Rule, faults: &mut Faults) {
    if !binds_the_box(rule) {
        return;
    }
    for leaf in rule.constraint.leaves() {
        if let Test::Elsewhere { operand, .. } = &leaf.test {
            faults.add(&leaf.pointer, Problem::Elsewhere { operand: operand.name() });
        }
    }
}

/// A pattern for points that two lists both cover.
fn overlap<'p>(a: &'p PointPatterns, b: &'p PointPatterns) -> Option<&'p str> {
    let mut pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    pairs.find_map(|(a, b)| {
        if includes(a, b) {
            Some(b)
        } else if includes(b, a) {
            Some(a)
        } else {
            None
        }
    })
}

/// Whether everything that `inner` is about, `outer` is about, too.
fn includes(outer: &str, inner: &str) -> bool {
    match (outer.strip_suffix('*'), inner.strip_suffix('*')) {
        (Some(outer), Some(inner)) => inner.starts_with(outer),
        (Some(outer), None) => inner.starts_with(outer),
        (None, None) => outer == inner,
        (None, Some(_)) => false,
    }
}

/// Whether the rule is about what the box does: collecting, storing, delivering.
pub(crate) fn binds_the_box(rule: &Rule) -> bool {
    match rule.kind {
        RuleKind::Permission => rule.actions.covers(Action::Deliver),
        RuleKind::Prohibition => {
            let steps = [Action::Collect, Action::Store, Action::Deliver];
            steps.into_iter().any(|step| rule.actions.forbids(step))
        }
    }
}

#[cfg(test)]
mod tests;
