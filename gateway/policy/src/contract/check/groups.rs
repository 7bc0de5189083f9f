//! Aggregates that several points share: one result comes of many points, so that what is done to it must
//! be the same for all of them.
//!
//! Never here: what a box has; whether the point of the results exists, the plan says.

use super::{includes, overlap};
use crate::contract::Rule;
use crate::duty::{Group, PointPatterns, Statistic, Step, Transform, Treatment};
use crate::fault::{Faults, Problem};

pub(super) fn check(rule: &Rule, faults: &mut Faults) {
    for (place, own) in rule.treatments.iter().enumerate() {
        let Some(group) = own.transform.group() else { continue };
        let is_same = |other: &&Treatment| {
            other.transform.group().is_some_and(|other| other.into == group.into)
        };
        if rule.treatments[..place].iter().any(|other| is_same(&other)) {
            faults.add(&own.pointer, Problem::IntoTwice { point: group.into.to_string() });
        }
        for (at, other) in rule.treatments.iter().enumerate() {
            if at != place {
                check_other(rule, (own, group), other, faults);
            }
        }
    }
}

/// What else the rule does to the points of the group, or to the point of its results.
fn check_other(
    rule: &Rule,
    (own, group): (&Treatment, &Group),
    other: &Treatment,
    faults: &mut Faults,
) {
    let step = other.transform.step();
    if !covers_all(&other.points, &own.points) {
        // Whoever names the point of the results means the results, which would leave without it.
        let is_meant = other.points.covers(group.into.as_str());
        let is_of_result = step > Step::Aggregate && overlap(&own.points, &other.points).is_some();
        if is_meant || is_of_result {
            let (point, step) = (group.into.to_string(), other.transform.name());
            faults.add(&other.pointer, Problem::GroupInPart { point, step });
        }
        return;
    }
    let is_new = !faults.is_at(&other.pointer);
    if !matches!(other.transform, Transform::Noise(_)) || !is_new {
        return;
    }
    if let Transform::Aggregate(aggregate) = &own.transform
        && aggregate.statistic == Statistic::Count
    {
        return faults.add(&other.pointer, Problem::NoiseOnGroupCount);
    }
    // Two ranges are wider together than each: the sensitivity is that of one.
    let is_bound = |one: &Treatment| {
        matches!(one.transform, Transform::Clamp { .. }) && covers_all(&one.points, &own.points)
    };
    if !rule.treatments.iter().any(is_bound) {
        let point = own.points.iter().next().unwrap_or_default().to_owned();
        faults.add(&other.pointer, Problem::NoiseUnbounded { point });
    }
}

fn covers_all(outer: &PointPatterns, inner: &PointPatterns) -> bool {
    inner.iter().all(|inner| outer.iter().any(|outer| includes(outer, inner)))
}
