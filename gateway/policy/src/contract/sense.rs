//! Whether the tests of a rule can all hold at once, and whether one rule's tests follow from another's.
//!
//! Looks at conjunctions only, test by test of one kind: bounded work, and never a sound contract refused.
//! What it cannot tell counts as possible.

use crate::constraint::{Constraint, NameTest, Relation, Test};
use crate::interval::IntervalSet;
use guan_model::descriptor::Class;
use guan_model::{ClockQuality, Severity};
use std::collections::BTreeSet;

/// What a test is about: tests of one subject can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Value,
    Class,
    Age,
    Quality,
    Clock,
    Attested,
    DateTime,
    EventTime,
}

/// The tests that must all hold, nested conjunctions included.
fn conjuncts(constraint: &Constraint) -> Vec<&Constraint> {
    match constraint {
        Constraint::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

/// Doubles in their order, as integers in the same order.
fn ordered(number: f64) -> i64 {
    // Both zeros are one number.
    let bits = (number + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX - 1)
}

/// What a test allows its subject to be.
fn range(test: &Test) -> Option<(Subject, IntervalSet)> {
    Some(match test {
        Test::Value(comparison, limit) => {
            (Subject::Value, IntervalSet::of(*comparison, ordered(*limit)))
        }
        Test::Class(comparison, class) => {
            (Subject::Class, IntervalSet::of(*comparison, *class as i64))
        }
        Test::Age(comparison, age) => (Subject::Age, IntervalSet::of(*comparison, nanos(*age))),
        Test::Quality(comparison, severity) => {
            (Subject::Quality, IntervalSet::of(*comparison, *severity as i64))
        }
        Test::Clock(comparison, quality) => {
            (Subject::Clock, IntervalSet::of(*comparison, *quality as i64))
        }
        Test::Attested(comparison, tier) => {
            (Subject::Attested, IntervalSet::of(*comparison, i64::from(*tier)))
        }
        Test::DateTime(comparison, at) => (Subject::DateTime, IntervalSet::of(*comparison, at.0)),
        Test::EventTime(comparison, at) => (Subject::EventTime, IntervalSet::of(*comparison, at.0)),
        _ => return None,
    })
}

fn meet(sets: &[IntervalSet]) -> IntervalSet {
    IntervalSet::combine(sets, |count| count == sets.len())
}

/// All that a subject can be.
fn domain(subject: Subject) -> IntervalSet {
    let up_to = |last: i64| {
        use crate::interval::Comparison::{Gteq, Lteq};
        meet(&[IntervalSet::of(Gteq, 0), IntervalSet::of(Lteq, last)])
    };
    match subject {
        Subject::Class => {
            let classes = Class::ALL
                .map(|class| IntervalSet::of(crate::interval::Comparison::Eq, class as i64));
            IntervalSet::combine(&classes, |count| count > 0)
        }
        Subject::Quality => up_to(Severity::Bad as i64),
        Subject::Clock => up_to(ClockQuality::Witnessed as i64),
        Subject::Age => IntervalSet::of(crate::interval::Comparison::Gteq, 0),
        Subject::Value | Subject::Attested | Subject::DateTime | Subject::EventTime => {
            IntervalSet::all()
        }
    }
}

/// What all tests about a subject together allow it to be.
fn allowed(parts: &[&Constraint], subject: Subject) -> IntervalSet {
    let mut sets = vec![domain(subject)];
    for part in parts {
        if let Constraint::Test(leaf) = part
            && let Some((found, set)) = range(&leaf.test)
            && found == subject
        {
            sets.push(set);
        }
    }
    meet(&sets)
}

/// A test that the name is one of a list without patterns.
fn named(test: &Test) -> Option<(u8, &BTreeSet<String>)> {
    let (kind, names) = match test {
        Test::Dataset(names) => (0, names),
        Test::Recipient(names) => (1, names),
        Test::Purpose(names) => (2, names),
        Test::Country(names) => (3, names),
        Test::Point(names) => (4, names),
        _ => return None,
    };
    let is_plain = |names: &NameTest| !names.names.iter().any(|name| name.ends_with('*'));
    (names.relation == Relation::AnyOf && is_plain(names)).then_some((kind, &names.names))
}

/// Whether some reading at some moment can pass all tests, as far as they can be compared.
pub(super) fn can_hold(constraint: &Constraint) -> bool {
    let parts = conjuncts(constraint);
    let leaves = || {
        parts.iter().filter_map(|part| match part {
            Constraint::Test(leaf) => Some(&leaf.test),
            _ => None,
        })
    };
    let subjects: BTreeSet<Subject> = leaves().filter_map(|test| Some(range(test)?.0)).collect();
    if subjects.into_iter().any(|subject| allowed(&parts, subject).is_empty()) {
        return false;
    }
    let lists: Vec<_> = leaves().filter_map(named).collect();
    lists.iter().enumerate().all(|(place, (kind, names))| {
        let earlier = lists[..place].iter().filter(|(other, _)| other == kind);
        earlier.into_iter().all(|(_, other)| names.intersection(other).next().is_some())
    })
}

/// Equal but for the places where they stand and the order of their parts.
fn is_same(a: &Constraint, b: &Constraint) -> bool {
    match (a, b) {
        (Constraint::Test(a), Constraint::Test(b)) => a.test == b.test,
        (Constraint::And(a), Constraint::And(b))
        | (Constraint::Or(a), Constraint::Or(b))
        | (Constraint::Xone(a), Constraint::Xone(b)) => {
            let within = |one: &[Constraint], other: &[Constraint]| {
                one.iter().all(|part| other.iter().any(|known| is_same(part, known)))
            };
            a.len() == b.len() && within(a, b) && within(b, a)
        }
        _ => false,
    }
}

/// Whether whatever passes `premise` passes `conclusion`, too.
pub(super) fn implies(premise: &Constraint, conclusion: &Constraint) -> bool {
    let known = conjuncts(premise);
    conjuncts(conclusion).into_iter().all(|wanted| {
        known.iter().any(|part| is_same(part, wanted) || is_wider(part, wanted))
            || is_in_range(&known, wanted)
    })
}

/// Whether the ranges that the premise leaves lie within the one that is wanted.
fn is_in_range(known: &[&Constraint], wanted: &Constraint) -> bool {
    let Constraint::Test(leaf) = wanted else { return false };
    let Some((subject, set)) = range(&leaf.test) else { return false };
    let is_asked = known.iter().any(|part| {
        matches!(part, Constraint::Test(leaf) if range(&leaf.test).is_some_and(|(one, _)| one == subject))
    });
    // Without a test of its own a reading may be of any kind, even one without the value.
    let left = allowed(known, subject);
    is_asked && meet(&[left.clone(), set]) == left
}

/// Whether a list of names that is known lies within the one that is wanted.
fn is_wider(known: &Constraint, wanted: &Constraint) -> bool {
    let (Constraint::Test(known), Constraint::Test(wanted)) = (known, wanted) else { return false };
    match (named(&known.test), named(&wanted.test)) {
        (Some((kind, few)), Some((other, many))) => kind == other && few.is_subset(many),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
