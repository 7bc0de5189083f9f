//! Values of an operand on which its tests can be tried: each limit, what lies just beside it and
//! between two of them, and for names each that is named, one below each path, and one that nobody named.

use crate::constraint::{Area, DELIVERY_METHOD, QuotaKey, Rate, Relation, ReleaseVersion, Test};
use crate::contract::Contract;
use crate::duty::pattern_covers;
use crate::situation::{LinkClass, TIERS, VehicleState};
use guan_model::descriptor::{Class, Tag};
use guan_model::{ClockQuality, Severity};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a test is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis<'t> {
    Point,
    Dataset,
    Recipient,
    Purpose,
    Country,
    Delivery,
    Class,
    Tags,
    EventTime,
    Age,
    Value,
    Quality,
    Quota(QuotaKey),
    Rate(Rate),
    Place(&'t Area),
    Consent,
    Vehicle,
    DateTime,
    /// Of one zone.
    Hours(&'t str),
    Link,
    Attested,
    SecureBoot,
    Release,
    Clock,
}

/// A value on which tests are tried.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sample {
    /// A count, nanoseconds, or the place of a word in its list.
    Whole(i128),
    Real(f64),
    Name(String),
    Tags(BTreeSet<Tag>),
    Version(ReleaseVersion),
    /// A day since 1970 and a second of it, by the clock on the wall.
    Hour(i64, i64),
}

const CLASSES: [Class; 3] = [Class::General, Class::Important, Class::Core];
const SEVERITIES: [Severity; 3] = [Severity::Good, Severity::Uncertain, Severity::Bad];
const CLOCKS: [ClockQuality; 5] = [
    ClockQuality::Unset,
    ClockQuality::Rtc,
    ClockQuality::Ntp,
    ClockQuality::Authenticated,
    ClockQuality::Witnessed,
];
const LINKS: [LinkClass; 2] = [LinkClass::Metered, LinkClass::Unmetered];
/// Stands for a name that no test has: no contract can write it.
const NOBODY: &str = "\u{2}";
/// As `NOBODY`, below a path.
const BELOW: &str = "\u{1}";

/// `None` for tests that cannot be tried: what another node answers, and membership in collections.
pub(super) fn axis(test: &Test) -> Option<Axis<'_>> {
    Some(match test {
        Test::Point(_) => Axis::Point,
        Test::Dataset(test) | Test::Recipient(test) if test.relation == Relation::PartOf => {
            return None;
        }
        Test::Dataset(_) => Axis::Dataset,
        Test::Recipient(_) => Axis::Recipient,
        Test::Purpose(_) => Axis::Purpose,
        Test::Country(_) => Axis::Country,
        Test::Delivery(_) => Axis::Delivery,
        Test::Class(..) => Axis::Class,
        Test::Tags(..) => Axis::Tags,
        Test::EventTime(..) => Axis::EventTime,
        Test::Age(..) => Axis::Age,
        Test::Value(..) => Axis::Value,
        Test::Quality(..) => Axis::Quality,
        Test::Quota { key, .. } => Axis::Quota(*key),
        Test::Rate(rate) => Axis::Rate(*rate),
        Test::Place { area, .. } => Axis::Place(area),
        Test::Consent(_) => Axis::Consent,
        Test::Vehicle { .. } => Axis::Vehicle,
        Test::DateTime(..) => Axis::DateTime,
        Test::Window { window, .. } => Axis::Hours(window.zone_name()),
        Test::Link(..) => Axis::Link,
        Test::Attested(..) => Axis::Attested,
        Test::SecureBoot(_) => Axis::SecureBoot,
        Test::Release(..) => Axis::Release,
        Test::Clock(..) => Axis::Clock,
        Test::Elsewhere { .. } => return None,
    })
}

/// How many values a test names.
pub(super) fn names_in(test: &Test) -> usize {
    match test {
        Test::Point(test)
        | Test::Dataset(test)
        | Test::Recipient(test)
        | Test::Purpose(test)
        | Test::Country(test)
        | Test::Delivery(test) => test.names.len(),
        _ => 1,
    }
}

/// Not less than what `samples` gives for tests that name so many values.
pub(super) fn count_max(axis: Axis<'_>, names: usize) -> usize {
    match axis {
        Axis::Hours(_) => 7 * (2 * names + 1),
        Axis::Tags => 1 << Tag::ALL.len(),
        _ => 3 * names + 8,
    }
}

/// `is_own`: only the contract's own recipient, purpose and the like occur.
pub(super) fn samples(
    axis: Axis<'_>,
    tests: &[&Test],
    (contract, is_own): (&Contract, bool),
) -> Vec<Sample> {
    let words = |count: usize| (0_i128..).take(count).map(Sample::Whole).collect::<Vec<_>>();
    let one = |name: Option<&str>| -> Vec<Sample> {
        name.into_iter().map(|name| Sample::Name(name.to_owned())).collect()
    };
    match (axis, is_own.then_some(contract)) {
        (Axis::Dataset, Some(own)) => {
            own.datasets().iter().map(|one| Sample::Name(one.as_str().to_owned())).collect()
        }
        (Axis::Recipient, Some(own)) => one(Some(own.consumer())),
        // Without one its tests are unknown: no permission holds then.
        (Axis::Purpose, Some(own)) => one(own.purpose()),
        (Axis::Country, Some(own)) => one(own.consumer_country()),
        (Axis::Delivery, Some(_)) => one(Some(DELIVERY_METHOD)),
        (
            Axis::Point
            | Axis::Dataset
            | Axis::Recipient
            | Axis::Purpose
            | Axis::Country
            | Axis::Delivery,
            _,
        ) => names(axis, tests),
        (Axis::Class, _) => words(CLASSES.len()),
        (Axis::Quality, _) => words(SEVERITIES.len()),
        (Axis::Clock, _) => words(CLOCKS.len()),
        (Axis::Attested, _) => words(TIERS.len()),
        (Axis::Link, _) => words(LINKS.len()),
        (Axis::Vehicle, _) => words(VehicleState::WORDS.len()),
        (Axis::Consent | Axis::SecureBoot | Axis::Place(_) | Axis::Rate(_), _) => words(2),
        (Axis::Tags, _) => tags(),
        (Axis::EventTime, _) => around(tests, (i64::MIN.into(), i64::MAX.into())),
        (Axis::DateTime, _) => {
            let end = contract.not_after().saturating_add(contract.lease().grace_delivery);
            around(tests, (contract.not_before().0.into(), i128::from(end.0) - 1))
        }
        (Axis::Age, _) => around(tests, (0, i128::MAX)),
        // The reading itself counts.
        (Axis::Quota(_), _) => around(tests, (1, u64::MAX.into())),
        (Axis::Value, _) => numbers(tests),
        (Axis::Release, _) => releases(tests),
        (Axis::Hours(_), _) => hours(tests),
    }
}

fn names(axis: Axis<'_>, tests: &[&Test]) -> Vec<Sample> {
    let mut names: BTreeSet<String> = BTreeSet::from([NOBODY.to_owned()]);
    for test in tests {
        let (Test::Point(test)
        | Test::Dataset(test)
        | Test::Recipient(test)
        | Test::Purpose(test)
        | Test::Country(test)
        | Test::Delivery(test)) = test
        else {
            continue;
        };
        for name in &test.names {
            match (axis, name.strip_suffix('*')) {
                (Axis::Point, Some(path)) => drop(names.insert(format!("{path}{BELOW}"))),
                _ => drop(names.insert(name.clone())),
            }
            if axis == Axis::Purpose {
                names.insert(format!("{name}.{BELOW}"));
            }
        }
    }
    names.into_iter().map(Sample::Name).collect()
}

fn tags() -> Vec<Sample> {
    let subset = |bits: u32| {
        let chosen = Tag::ALL.into_iter().enumerate();
        let chosen = chosen.filter(|(place, _)| (bits >> place) & 1 == 1);
        Sample::Tags(chosen.map(|(_, tag)| tag).collect())
    };
    (0..1 << Tag::ALL.len()).map(subset).collect()
}

/// Each limit of whole numbers and its neighbours, and both ends.
fn around(tests: &[&Test], (from, until): (i128, i128)) -> Vec<Sample> {
    let limit = |test: &&Test| match test {
        Test::EventTime(_, moment) | Test::DateTime(_, moment) => Some(i128::from(moment.0)),
        Test::Age(_, age) => Some(nanos(*age)),
        Test::Quota { limit, .. } => Some(i128::from(*limit)),
        _ => None,
    };
    let limits = tests.iter().filter_map(limit);
    let mut all: BTreeSet<i128> = limits.flat_map(|one| [one - 1, one, one + 1]).collect();
    all.extend([from, until]);
    all.into_iter().filter(|one| (from..=until).contains(one)).map(Sample::Whole).collect()
}

fn nanos(age: Duration) -> i128 {
    i128::try_from(age.as_nanos()).expect("a duration has less than 2^96 nanoseconds")
}

fn numbers(tests: &[&Test]) -> Vec<Sample> {
    let limit = |test: &&Test| match test {
        Test::Value(_, limit) => Some(*limit),
        _ => None,
    };
    let mut limits: Vec<f64> = tests.iter().filter_map(limit).collect();
    limits.sort_by(f64::total_cmp);
    let between = limits.windows(2).map(|pair| pair[0] / 2.0 + pair[1] / 2.0);
    let mut all: Vec<f64> = between.collect();
    all.extend([f64::NEG_INFINITY, f64::INFINITY]);
    all.extend(limits);
    all.into_iter().map(Sample::Real).collect()
}

fn releases(tests: &[&Test]) -> Vec<Sample> {
    let join = |of: &ReleaseVersion| of.0.iter().fold(0_u128, |sum, n| sum << 32 | u128::from(*n));
    let limits = tests.iter().filter_map(|test| match test {
        Test::Release(_, version) => Some(join(version)),
        _ => None,
    });
    let beside = |one: u128| [one.saturating_sub(1), one, one.saturating_add(1)];
    let mut all: BTreeSet<u128> = limits.flat_map(beside).collect();
    all.extend([0, u128::MAX]);
    let split = |one: u128| {
        let part = |shift: u32| u32::try_from((one >> shift) & 0xFFFF_FFFF).expect("32 bits");
        ReleaseVersion([part(96), part(64), part(32), part(0)])
    };
    all.into_iter().map(|one| Sample::Version(split(one))).collect()
}

/// Every weekday at midnight and at each edge of each window.
fn hours(tests: &[&Test]) -> Vec<Sample> {
    let edges = |test: &&Test| match test {
        Test::Window { window, .. } => Some(window.edges()),
        _ => None,
    };
    let mut seconds: BTreeSet<i64> = tests.iter().filter_map(edges).flatten().collect();
    seconds.insert(0);
    let at = |day: i64| seconds.iter().map(move |second| Sample::Hour(day, *second));
    (0..7).flat_map(at).collect()
}

/// The answer; `false` for a value that the test cannot have.
pub(super) fn holds(test: &Test, sample: &Sample) -> bool {
    match (test, sample) {
        (Test::Purpose(test), Sample::Name(name)) if test.relation == Relation::PartOf => {
            test.names.iter().any(|tree| {
                let rest = name.strip_prefix(tree.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        }
        (Test::Point(test), Sample::Name(name)) => {
            let is_covered = test.names.iter().any(|pattern| pattern_covers(pattern, name));
            is_covered != (test.relation == Relation::NoneOf)
        }
        (
            Test::Dataset(test)
            | Test::Recipient(test)
            | Test::Purpose(test)
            | Test::Country(test)
            | Test::Delivery(test),
            Sample::Name(name),
        ) => test.names.contains(name) != (test.relation == Relation::NoneOf),
        (Test::Tags(relation, tags), Sample::Tags(of)) => match relation {
            Relation::AllOf => tags.is_subset(of),
            Relation::NoneOf => tags.is_disjoint(of),
            _ => !tags.is_disjoint(of),
        },
        (Test::Value(comparison, limit), Sample::Real(value)) => comparison.holds(value, limit),
        (Test::Release(comparison, version), Sample::Version(has)) => {
            comparison.holds(has, version)
        }
        (Test::Window { window, inside }, Sample::Hour(day, second)) => {
            window.contains_local(*day, *second) == *inside
        }
        (test, Sample::Whole(number)) => holds_for(test, *number),
        _ => false,
    }
}

/// For tests whose samples are whole numbers.
fn holds_for(test: &Test, number: i128) -> bool {
    fn at<T: Copy>(list: &[T], number: i128) -> Option<T> {
        usize::try_from(number).ok().and_then(|place| list.get(place)).copied()
    }
    match test {
        Test::EventTime(comparison, moment) | Test::DateTime(comparison, moment) => {
            comparison.holds(&number, &i128::from(moment.0))
        }
        Test::Age(comparison, age) => comparison.holds(&number, &nanos(*age)),
        Test::Quota { comparison, limit, .. } => comparison.holds(&number, &i128::from(*limit)),
        Test::Class(comparison, class) => {
            at(&CLASSES, number).is_some_and(|has| comparison.holds(&has, class))
        }
        Test::Quality(comparison, severity) => {
            at(&SEVERITIES, number).is_some_and(|has| comparison.holds(&has, severity))
        }
        Test::Clock(comparison, quality) => {
            at(&CLOCKS, number).is_some_and(|has| comparison.holds(&has, quality))
        }
        Test::Attested(comparison, tier) => {
            at(&TIERS, number).is_some_and(|(_, has)| comparison.holds(&has, tier))
        }
        Test::Link(class, is) => at(&LINKS, number).is_some_and(|has| (has == *class) == *is),
        Test::Vehicle { any_of, is } => {
            at(&VehicleState::WORDS, number).is_some_and(|(_, has)| any_of.contains(&has) == *is)
        }
        Test::Consent(expect) | Test::SecureBoot(expect) => (number == 1) == *expect,
        Test::Place { inside, .. } => (number == 1) == *inside,
        Test::Rate(_) => number == 1,
        _ => false,
    }
}
