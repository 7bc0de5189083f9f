//! Constraints compiled for one contract and one point: what contract and descriptor decide is gone.

use crate::constraint::{
    Constraint, DELIVERY_METHOD, NameTest, Period, Phase, QuotaKey, Relation, Test,
};
use crate::contract::Contract;
use crate::contract::check::times;
use crate::duty::pattern_covers;
use crate::interval::IntervalSet;
use crate::situation::Situation;
use crate::told::Quota;
use crate::truth::{ExactlyOne, Truth};
use crate::usage::{CellKey, Usage};
use guan_model::descriptor::PointDescriptor;
use guan_model::{ClockQuality, ContractId, Quality, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which parties and datasets belong to which collection, as far as the box was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collections {
    pub parties: BTreeMap<String, BTreeSet<String>>,
    pub datasets: BTreeMap<String, BTreeSet<String>>,
}

/// What a test may ask of one reading.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// When it was measured; when it came, if the source gave no time.
    pub event_time: WallTime,
    pub gateway_time: WallTime,
    pub quality: Quality,
    /// `None` for what is no number.
    pub value: Option<f64>,
    /// Of value and time, before compression.
    pub bytes: u64,
}

impl Reading {
    /// For programs that ask for no reading.
    pub(crate) const NONE: Self = Self {
        event_time: WallTime(0),
        gateway_time: WallTime(0),
        quality: Quality::GOOD,
        value: None,
        bytes: 0,
    };
}

/// Everything that a live test may ask.
#[derive(Clone, Copy)]
pub(crate) struct Live<'l> {
    pub(crate) situation: &'l Situation,
    pub(crate) reading: &'l Reading,
    /// Without it counters are unknown.
    pub(crate) counted: Option<Counted<'l>>,
}

/// Whose counters are asked.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'l> {
    pub(crate) contract: &'l ContractId,
    pub(crate) rule: &'l Arc<str>,
    pub(crate) usage: &'l Usage,
}

/// A constraint of which only live questions are left.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Program {
    Known(Truth),
    DateTime(IntervalSet),
    EventTime(IntervalSet),
    Test(Test),
    And(Vec<Program>),
    Or(Vec<Program>),
    Xone(Vec<Program>),
}

/// The most that a program asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Asks {
    /// What is the same for every reading of a batch.
    #[default]
    Batch,
    /// The reading.
    Rows,
    /// What the readings before it have used up.
    Counters,
}

/// What is fixed when a rule is compiled.
pub(crate) struct Fixed<'c> {
    pub(crate) contract: &'c Contract,
    pub(crate) point: &'c PointDescriptor,
    pub(crate) collections: &'c Collections,
}

impl Fixed<'_> {
    /// The part that is answered when a reading comes, and the part that is asked when it leaves.
    pub(crate) fn split(&self, constraint: &Constraint) -> (Program, Program) {
        let is_later = |part: &&Constraint| part.phases().contains(&Phase::Release);
        let (later, now): (Vec<_>, Vec<_>) = constraint.conjuncts().iter().partition(is_later);
        let part = |parts: Vec<&Constraint>| {
            self.compile(&Constraint::And(parts.into_iter().cloned().collect()))
        };
        (part(now), part(later))
    }

    pub(crate) fn compile(&self, constraint: &Constraint) -> Program {
        // Hundreds of office hours become one search.
        if let Some(set) = times(constraint, &|test| matches!(test, Test::DateTime(..))) {
            return Program::DateTime(set);
        }
        if let Some(set) = times(constraint, &|test| matches!(test, Test::EventTime(..))) {
            return Program::EventTime(set);
        }
        match constraint {
            Constraint::Test(leaf) => match self.decide(&leaf.test) {
                Some(truth) => Program::Known(truth),
                None => Program::Test(leaf.test.clone()),
            },
            Constraint::And(parts) => join(self.all(parts), Truth::True, Program::And),
            Constraint::Or(parts) => join(self.all(parts), Truth::False, Program::Or),
            Constraint::Xone(parts) => {
                let parts = self.all(parts);
                match parts.iter().all(|part| matches!(part, Program::Known(_))) {
                    true => Program::Known(exactly_one(parts.iter().map(Program::known))),
                    false => Program::Xone(parts),
                }
            }
        }
    }

    fn all(&self, parts: &[Constraint]) -> Vec<Program> {
        parts.iter().map(|part| self.compile(part)).collect()
    }

    /// The answer to a test of phase `Compile`; `None` for the others.
    fn decide(&self, test: &Test) -> Option<Truth> {
        let (contract, point) = (self.contract, self.point);
        Some(match test {
            Test::Point(test) => {
                let name = point.name.as_str();
                let covered = test.names.iter().any(|pattern| pattern_covers(pattern, name));
                named(test.relation, covered)
            }
            Test::Dataset(test) => member(test, point.dataset.as_str(), &self.collections.datasets),
            Test::Recipient(test) => member(test, contract.consumer(), &self.collections.parties),
            Test::Purpose(test) => contract.purpose().map_or(Truth::Unknown, |purpose| {
                let is_below = |tree: &String| {
                    let rest = purpose.strip_prefix(tree.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                };
                match test.relation {
                    Relation::PartOf => Truth::from(test.names.iter().any(is_below)),
                    relation => named(relation, test.names.contains(purpose)),
                }
            }),
            Test::Country(test) => contract
                .consumer_country()
                .map_or(Truth::Unknown, |code| named(test.relation, test.names.contains(code))),
            Test::Delivery(test) => named(test.relation, test.names.contains(DELIVERY_METHOD)),
            Test::Elsewhere { .. } => Truth::Unknown,
            Test::Class(comparison, class) => comparison.holds(&point.class, class).into(),
            Test::Tags(relation, tags) => Truth::from(match relation {
                Relation::AllOf => tags.is_subset(&point.tags),
                Relation::NoneOf => tags.is_disjoint(&point.tags),
                _ => !tags.is_disjoint(&point.tags),
            }),
            _ => return None,
        })
    }
}

fn named(relation: Relation, is_among: bool) -> Truth {
    Truth::from(is_among != (relation == Relation::NoneOf))
}

/// `PartOf` asks for membership in a collection; one that nobody described is unknown.
fn member(test: &NameTest, name: &str, collections: &BTreeMap<String, BTreeSet<String>>) -> Truth {
    if test.relation != Relation::PartOf {
        return named(test.relation, test.names.contains(name));
    }
    let belongs = test.names.iter().map(|collection| {
        Truth::of(collections.get(collection).map(|members| members.contains(name)))
    });
    belongs.fold(Truth::False, Truth::or)
}

/// Leaves out the parts that change nothing; one that decides alone decides.
fn join(parts: Vec<Program>, neutral: Truth, wrap: impl Fn(Vec<Program>) -> Program) -> Program {
    if parts.contains(&Program::Known(!neutral)) {
        return Program::Known(!neutral);
    }
    let is_live = |part: &Program| *part != Program::Known(neutral);
    let mut live: Vec<Program> = parts.into_iter().filter(is_live).collect();
    match live.len() {
        0 => Program::Known(neutral),
        1 => live.remove(0),
        _ => wrap(live),
    }
}

fn exactly_one(truths: impl Iterator<Item = Truth>) -> Truth {
    let mut one = ExactlyOne::default();
    truths.for_each(|truth| one.note(truth));
    one.truth()
}

impl Program {
    fn known(&self) -> Truth {
        match self {
            Self::Known(truth) => *truth,
            _ => Truth::Unknown,
        }
    }

    pub(crate) fn asks(&self) -> Asks {
        match self {
            Self::Known(_) | Self::DateTime(_) => Asks::Batch,
            Self::EventTime(_) => Asks::Rows,
            Self::Test(test) => match test {
                Test::Age(..) | Test::Place { .. } | Test::Value(..) | Test::Quality(..) => {
                    Asks::Rows
                }
                Test::Quota { .. } | Test::Rate(_) => Asks::Counters,
                _ => Asks::Batch,
            },
            Self::And(parts) | Self::Or(parts) | Self::Xone(parts) => {
                parts.iter().map(Self::asks).max().unwrap_or_default()
            }
        }
    }

    /// As `truth`, if all quotas had this answer.
    pub(crate) fn truth_supposing(&self, live: Live<'_>, quotas: Truth) -> Truth {
        let of = |part: &Self| part.truth_supposing(live, quotas);
        match self {
            Self::And(parts) => parts.iter().map(of).fold(Truth::True, Truth::and),
            Self::Or(parts) => parts.iter().map(of).fold(Truth::False, Truth::or),
            Self::Xone(parts) => exactly_one(parts.iter().map(of)),
            Self::Test(Test::Quota { .. }) => quotas,
            alone => alone.truth(live),
        }
    }

    /// The first quota with this answer.
    pub(crate) fn quota_that(&self, live: Live<'_>, says: Truth) -> Option<Quota> {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::Xone(parts) => {
                parts.iter().find_map(|part| part.quota_that(live, says))
            }
            Self::Test(test) => Quota::of(test).filter(|_| answer(test, live) == says),
            _ => None,
        }
    }

    /// As `truth`, where no reading is at hand: what asks for one, or for counters, is unknown.
    pub(crate) fn truth_without_reading(&self, situation: &Situation) -> Truth {
        let of = |part: &Self| part.truth_without_reading(situation);
        match self {
            Self::And(parts) => parts.iter().map(of).fold(Truth::True, Truth::and),
            Self::Or(parts) => parts.iter().map(of).fold(Truth::False, Truth::or),
            Self::Xone(parts) => exactly_one(parts.iter().map(of)),
            alone if alone.asks() != Asks::Batch => Truth::Unknown,
            alone => alone.truth(Live { situation, reading: &Reading::NONE, counted: None }),
        }
    }

    pub(crate) fn truth(&self, live: Live<'_>) -> Truth {
        let Live { situation, reading, .. } = live;
        match self {
            Self::Known(truth) => *truth,
            Self::DateTime(set) => match situation.now.quality {
                ClockQuality::Unset => Truth::Unknown,
                _ => set.contains(situation.now.wall.0).into(),
            },
            Self::EventTime(set) => set.contains(reading.event_time.0).into(),
            Self::Test(test) => answer(test, live),
            Self::And(parts) => {
                let truths = parts.iter().map(|part| part.truth(live));
                until(truths, Truth::False, Truth::and).unwrap_or(Truth::True)
            }
            Self::Or(parts) => {
                let truths = parts.iter().map(|part| part.truth(live));
                until(truths, Truth::True, Truth::or).unwrap_or(Truth::False)
            }
            Self::Xone(parts) => exactly_one(parts.iter().map(|part| part.truth(live))),
        }
    }
}

/// Joins answers up to the first that decides.
fn until(
    truths: impl Iterator<Item = Truth>,
    decides: Truth,
    join: impl Fn(Truth, Truth) -> Truth,
) -> Option<Truth> {
    let mut joined = None;
    for truth in truths {
        let next = joined.map_or(truth, |so_far| join(so_far, truth));
        if next == decides {
            return Some(next);
        }
        joined = Some(next);
    }
    joined
}

impl Counted<'_> {
    /// What would be used up if the reading went, too.
    fn with_reading(&self, key: QuotaKey, live: Live<'_>) -> u64 {
        let period = key.period.number(live.situation.now.wall);
        let cell = CellKey::Quota { contract: self.contract.clone(), key };
        self.usage.used(&cell, period).saturating_add(key.cost(live.reading.bytes))
    }
}

/// The answer to a live test. What the box does not know is unknown, never false.
pub(super) fn answer(test: &Test, live: Live<'_>) -> Truth {
    let Live { situation, reading, .. } = live;
    let clock_is_set = situation.now.quality != ClockQuality::Unset;
    match test {
        Test::Age(comparison, limit) => {
            let age = reading.gateway_time.since(reading.event_time);
            Truth::of(clock_is_set.then(|| comparison.holds(&age, limit)))
        }
        Test::Place { area, inside } => {
            let at = situation.track.at(reading.gateway_time);
            Truth::of(at.map(|at| area.contains(at) == *inside))
        }
        Test::Value(comparison, limit) => {
            Truth::of(reading.value.map(|value| comparison.holds(&value, limit)))
        }
        Test::Quality(comparison, severity) => {
            comparison.holds(&reading.quality.severity(), severity).into()
        }
        Test::Consent(expect) => Truth::of(situation.consent.map(|given| given == *expect)),
        Test::Vehicle { any_of, is } => {
            Truth::of(situation.vehicle.map(|state| any_of.contains(&state) == *is))
        }
        Test::Window { window, inside } => {
            Truth::of(clock_is_set.then(|| window.contains(situation.now.wall) == *inside))
        }
        Test::Link(class, is) => Truth::of(situation.link.map(|link| (link == *class) == *is)),
        Test::Attested(comparison, tier) => {
            Truth::of(situation.attested.map(|has| comparison.holds(&has, tier)))
        }
        Test::SecureBoot(expect) => Truth::of(situation.secure_boot.map(|on| on == *expect)),
        Test::Release(comparison, version) => {
            Truth::of(situation.release.map(|has| comparison.holds(&has, version)))
        }
        Test::Clock(comparison, quality) => {
            comparison.holds(&situation.now.quality, quality).into()
        }
        Test::Quota { key, comparison, limit } => {
            let of = live.counted.filter(|_| clock_is_set || key.period == Period::Total);
            Truth::of(of.map(|of| comparison.holds(&of.with_reading(*key, live), limit)))
        }
        Test::Rate(rate) => Truth::of(live.counted.map(|of| {
            let (contract, rule) = (of.contract.clone(), of.rule.clone());
            let key = CellKey::Rate { contract, rule, rate: Some(*rate) };
            of.usage.has_room(&key, *rate, reading.gateway_time)
        })),
        _ => unreachable!("times became sets, and contract and descriptor answered the rest"),
    }
}
