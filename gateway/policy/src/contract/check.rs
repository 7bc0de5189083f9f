//! What makes a contract that is well formed refuse to make sense: it is said before anyone signs.

use super::{Contract, Rule, RuleKind, sense};
use crate::action::Action;
use crate::constraint::{Constraint, Test};
use crate::duty::{Duty, PointPatterns, Statistic, Transform};
use crate::fault::{Faults, Problem};
use crate::interval::{Comparison, IntervalSet};

pub(super) fn check(contract: &Contract, faults: &mut Faults) {
    let permissions = || contract.rules.iter().filter(|rule| rule.kind == RuleKind::Permission);
    for rule in &contract.rules {
        let at = &*rule.pointer;
        if !is_satisfiable(contract, &rule.constraint) || !sense::can_hold(&rule.constraint) {
            faults.add(at, Problem::Unsatisfiable);
        }
        check_treatments(rule, faults);
        check_foreign(rule, faults);
        check_rates(rule, faults);
    }
    // Where something could not be read, what is missing may be just that.
    let is_whole = faults.is_empty();
    if is_whole && contract.provider == contract.consumer {
        faults.add("", Problem::OneSided);
    }
    if is_whole && contract.rules.is_empty() && contract.obligations.is_empty() {
        faults.add("", Problem::NoRule);
    }
    check_retention(contract, faults);
    for permission in permissions() {
        let forbids = |rule: &&Rule| {
            rule.kind == RuleKind::Prohibition
                && permission.actions.iter().all(|action| {
                    let is_delivery = action == Action::Deliver && binds_the_box(rule);
                    is_delivery || rule.actions.covers(action)
                })
                && sense::implies(&permission.constraint, &rule.constraint)
        };
        if let Some(prohibition) = contract.rules.iter().find(forbids) {
            let prohibition = prohibition.id.to_string();
            faults.add(&permission.pointer, Problem::Contradiction { prohibition });
        }
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
            let clamps = |pattern: &str| {
                rule.treatments.iter().any(|other| {
                    matches!(other.transform, Transform::Clamp { .. })
                        && other.points.iter().any(|clamp| includes(clamp, pattern))
                })
            };
            // How often something happened changes by one with one reading.
            let is_count = |one: &Transform| {
                matches!(one, Transform::Aggregate { statistic: Statistic::Count, .. })
            };
            let counts = |pattern: &str| {
                let counted = rule.treatments.iter().filter(|other| is_count(&other.transform));
                counted.flat_map(|other| other.points.iter()).any(|one| includes(one, pattern))
            };
            let is_bounded = |pattern: &str| clamps(pattern) || counts(pattern);
            if let Some(point) = one.points.iter().find(|pattern| !is_bounded(pattern)) {
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

/// A rate is used up by what a permission lets in; a prohibition lets nothing in, so its rate would always
/// be within its limit and fire for ever.
fn check_rates(rule: &Rule, faults: &mut Faults) {
    if rule.kind == RuleKind::Prohibition {
        for leaf in rule.constraint.leaves() {
            if matches!(leaf.test, Test::Rate(_)) {
                faults.add(&leaf.pointer, Problem::RateForbids);
            }
        }
    }
}

/// What must be kept longer than it may be kept.
fn check_retention(contract: &Contract, faults: &mut Faults) {
    let duties = contract.rules.iter().flat_map(|rule| &rule.duties);
    let duties: Vec<&Duty> = duties.chain(&contract.obligations).collect();
    let longest = duties.iter().filter_map(|duty| match duty {
        Duty::Retain(duration) => Some(*duration),
        _ => None,
    });
    let shortest = duties.iter().filter_map(|duty| match duty {
        Duty::DeleteAfter(duration) => Some(*duration),
        _ => None,
    });
    if let (Some(keep), Some(delete)) = (longest.max(), shortest.min())
        && keep > delete
    {
        faults.add("", Problem::Retention);
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
            // Delivery is a transfer, and to distribute is to deliver further: forbidding either forbids it.
            const BOUND: [Action; 5] = [
                Action::Collect,
                Action::Store,
                Action::Deliver,
                Action::Transfer,
                Action::Distribute,
            ];
            rule.actions.covers_any(&BOUND)
        }
    }
}
