//! What contracts say of one reading, straight from their rules: no plan, no columns, no shortcuts.

use super::ledger::Ledger;
use guan_model::{
    BootNumber, ClockQuality, DatasetId, Digest, PointDescriptor, Quality, Reason, Row, Severity,
    Value,
};
use guan_policy::action::Action;
use guan_policy::constraint::{Constraint, Period, Phase, Relation, Test};
use guan_policy::contract::{Rule, RuleKind};
use guan_policy::duty::{Axis, PointPatterns, Transform};
use guan_policy::interval::Comparison;
use guan_policy::{Collections, Contract, DenyReason, Situation};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// `None` is unknown.
type Answer = Option<bool>;

/// What one contract makes of one reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Refused(DenyReason),
    Leaves {
        permission: String,
        row: Row,
        is_masked: bool,
        /// Whether it may leave at the later moment.
        leaves_then: bool,
    },
}

/// What is known when a reading comes, and later, when it would leave.
pub(crate) struct World<'w> {
    pub(crate) contracts: &'w [Contract],
    /// Of the batch.
    pub(crate) dataset: &'w DatasetId,
    pub(crate) points: &'w [PointDescriptor],
    pub(crate) collections: &'w Collections,
    pub(crate) comes: &'w Situation,
    pub(crate) leaves: &'w Situation,
    /// The boot in which it would leave; it comes in boot 1.
    pub(crate) boot: BootNumber,
    /// What was let go before; `None` for contracts that count nothing.
    pub(crate) ledger: Option<&'w Ledger>,
}

/// Everything that a test may ask.
struct Asked<'a> {
    contract: &'a Contract,
    rule: &'a Rule,
    ledger: Option<&'a Ledger>,
    point: &'a PointDescriptor,
    row: &'a Row,
    situation: &'a Situation,
    collections: &'a Collections,
}

/// A reading that came.
#[derive(Clone, Copy)]
struct Came<'a> {
    point: &'a PointDescriptor,
    row: &'a Row,
}

/// The permission that lets a reading in, and the prohibitions that are asked when it leaves.
pub(crate) struct Granted<'c> {
    pub(crate) permission: &'c Rule,
    later_forbids: Vec<(&'c Contract, &'c Rule)>,
}

impl World<'_> {
    pub(crate) fn outcome(&self, contract: &Contract, row: &Row) -> Outcome {
        match self.granted(contract, row) {
            Ok(granted) => self.leaving(contract, row, &granted),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// Where a point of the batch is described.
    pub(crate) fn point(&self, row: &Row) -> Option<&PointDescriptor> {
        let is_it =
            |point: &&PointDescriptor| point.id == row.point && point.dataset == *self.dataset;
        self.points.iter().find(is_it)
    }

    pub(crate) fn granted<'c>(
        &'c self,
        contract: &'c Contract,
        row: &'c Row,
    ) -> Result<Granted<'c>, DenyReason> {
        let came = self.point(row).map(|point| Came { point, row });
        let permissions = came.map_or_else(Vec::new, |came| {
            let rules = contract.rules().iter();
            let permissions = rules.filter(|rule| rule.kind == RuleKind::Permission);
            permissions.filter(|rule| self.concerns(contract, rule, came)).collect()
        });
        let (Some(came), Some(nearest)) = (came, permissions.first()) else {
            return Err(DenyReason::PointNotCovered { contract: contract.id().clone() });
        };
        match self.out_of_term(contract) {
            Some(reason) => Err(reason),
            None => self.granted_in_term(contract, came, &permissions, nearest),
        }
    }

    fn out_of_term(&self, contract: &Contract) -> Option<DenyReason> {
        let (now, id) = (&self.comes.now, contract.id().clone());
        if now.wall < contract.not_before() && now.quality != ClockQuality::Unset {
            return Some(DenyReason::NotYetValid { contract: id });
        }
        (now.wall >= contract.not_after()).then_some(DenyReason::Expired { contract: id })
    }

    fn granted_in_term<'c>(
        &'c self,
        contract: &'c Contract,
        came: Came<'c>,
        permissions: &[&'c Rule],
        nearest: &Rule,
    ) -> Result<Granted<'c>, DenyReason> {
        let id = contract.id().clone();
        let mut later_forbids = Vec::new();
        for (other, rule) in self.prohibitions(contract) {
            let asked = self.asked((other, rule), came, self.comes);
            if !self.concerns(other, rule, came) || all(&parts(rule, false), &asked) == Some(false)
            {
                continue;
            }
            if settled(&parts(rule, true), &asked) == Some(Some(true)) {
                let (contract, rule) = (other.id().clone(), rule.id.clone());
                return Err(DenyReason::Prohibited { contract, rule });
            }
            later_forbids.push((other, rule));
        }
        let holds = |rule: &&&'c Rule| {
            let asked = self.asked((contract, rule), came, self.comes);
            all(&parts(rule, false), &asked) == Some(true)
        };
        let Some(permission) = permissions.iter().find(holds) else {
            let rule = nearest.id.clone();
            return Err(DenyReason::NotPermitted { contract: id, rule });
        };
        Ok(Granted { permission, later_forbids })
    }

    fn leaving(&self, contract: &Contract, row: &Row, granted: &Granted<'_>) -> Outcome {
        let Granted { permission, later_forbids } = granted;
        let point = self.point(row).expect("a granted row has a point");
        let came = Came { point, row };
        let Some((row, is_masked)) = treat(permission, came.point, came.row) else {
            return Outcome::Refused(DenyReason::Dropped { contract: contract.id().clone() });
        };
        let then = |contract, rule| {
            all(&parts(rule, true), &self.asked((contract, rule), came, self.leaves))
        };
        let leaves_then = then(contract, permission) == Some(true)
            && later_forbids.iter().all(|(other, rule)| then(other, rule) == Some(false))
            && delay(permission, came.point).is_none_or(|span| self.has_passed(span));
        let permission = permission.id.to_string();
        Outcome::Leaves { permission, row, is_masked, leaves_then }
    }

    fn asked<'a>(
        &'a self,
        (contract, rule): (&'a Contract, &'a Rule),
        came: Came<'a>,
        situation: &'a Situation,
    ) -> Asked<'a> {
        let Came { point, row } = came;
        let (collections, ledger) = (self.collections, self.ledger);
        Asked { contract, rule, ledger, point, row, situation, collections }
    }

    /// Whether a rule is about what the box does, and not settled to be never about the point.
    fn concerns(&self, contract: &Contract, rule: &Rule, came: Came<'_>) -> bool {
        let asked = self.asked((contract, rule), came, self.comes);
        let actions: &[Action] = match rule.kind {
            RuleKind::Permission => &[Action::Deliver],
            RuleKind::Prohibition => &[
                Action::Collect,
                Action::Store,
                Action::Deliver,
                Action::Transfer,
                Action::Distribute,
            ],
        };
        let never = [false, true].map(|later| settled(&parts(rule, later), &asked));
        actions.iter().any(|action| rule.actions.covers(*action))
            && !never.contains(&Some(Some(false)))
            && !self.protects_nothing(contract, rule)
            && !self.has_no_results(rule, came)
    }

    /// Whether the point belongs to a group whose results have no point to leave on.
    fn has_no_results(&self, rule: &Rule, came: Came<'_>) -> bool {
        let covering =
            rule.treatments.iter().filter(|one| one.points.covers(came.point.name.as_str()));
        let mut groups = covering.filter_map(|one| one.transform.group());
        groups.any(|group| {
            let is_it =
                |one: &PointDescriptor| one.name == group.into && one.dataset == came.point.dataset;
            !self.points.iter().any(is_it)
        })
    }

    /// Whether a form that hides something is about none of the points that the contract has here; told
    /// only when every dataset of the contract is here.
    fn protects_nothing(&self, contract: &Contract, rule: &Rule) -> bool {
        let points = || self.points.iter().filter(|one| contract.datasets().contains(&one.dataset));
        let is_here = |dataset: &DatasetId| points().any(|one| one.dataset == *dataset);
        contract.datasets().iter().all(is_here)
            && rule.treatments.iter().any(|one| {
                let only_thins =
                    matches!(one.transform, Transform::Sample { .. } | Transform::Clamp { .. });
                !only_thins && !points().any(|point| one.points.covers(point.name.as_str()))
            })
    }

    /// The prohibitions that bind a contract: its own, then those of its consumer's other contracts in
    /// their terms.
    fn prohibitions<'s>(&'s self, contract: &'s Contract) -> Vec<(&'s Contract, &'s Rule)> {
        let now = &self.comes.now;
        let mut others: Vec<&Contract> = self
            .contracts
            .iter()
            .filter(|other| other.id() != contract.id() && other.consumer() == contract.consumer())
            .filter(|other| other.datasets().contains(self.dataset))
            .filter(|other| now.quality == ClockQuality::Unset || other.valid_at(now))
            .collect();
        others.sort_by_key(|other| other.id().clone());
        let all = std::iter::once(contract).chain(others);
        let rules = all.flat_map(|one| one.rules().iter().map(move |rule| (one, rule)));
        rules.filter(|(_, rule)| rule.kind == RuleKind::Prohibition).collect()
    }

    fn has_passed(&self, span: Duration) -> bool {
        let (kept, now) = (&self.comes.now, &self.leaves.now);
        if self.boot == BootNumber(1) {
            return now.monotonic.saturating_sub(kept.monotonic) >= span;
        }
        let are_set = [kept, now].iter().all(|one| one.quality != ClockQuality::Unset);
        (are_set && now.wall.since(kept.wall) >= span) || now.monotonic >= span
    }
}

/// The conjuncts of a rule that are asked when a reading comes, or those when it leaves.
fn parts(rule: &Rule, later: bool) -> Vec<&Constraint> {
    let conjuncts = rule.constraint.conjuncts().iter();
    conjuncts.filter(|part| part.phases().contains(&Phase::Release) == later).collect()
}

fn all(parts: &[&Constraint], asked: &Asked<'_>) -> Answer {
    and(parts.iter().map(|part| truth(part, asked)))
}

fn truth(constraint: &Constraint, asked: &Asked<'_>) -> Answer {
    match constraint {
        Constraint::Test(leaf) => answer(&leaf.test, asked),
        Constraint::And(parts) => and(parts.iter().map(|part| truth(part, asked))),
        Constraint::Or(parts) => or(parts.iter().map(|part| truth(part, asked))),
        Constraint::Xone(parts) => xone(parts.iter().map(|part| truth(part, asked))),
    }
}

fn and(answers: impl Iterator<Item = Answer>) -> Answer {
    let answers: Vec<Answer> = answers.collect();
    match () {
        () if answers.contains(&Some(false)) => Some(false),
        () if answers.contains(&None) => None,
        () => Some(true),
    }
}

fn or(answers: impl Iterator<Item = Answer>) -> Answer {
    and(answers.map(|answer| answer.map(|is| !is))).map(|is| !is)
}

fn xone(answers: impl Iterator<Item = Answer>) -> Answer {
    let answers: Vec<Answer> = answers.collect();
    let trues = answers.iter().filter(|answer| **answer == Some(true)).count();
    match () {
        () if trues > 1 => Some(false),
        () if answers.contains(&None) => None,
        () => Some(trues == 1),
    }
}

/// What contract and descriptor alone decide of a conjunction: the outer `None` says that a live test
/// is left, or that more than one part is.
fn settled(parts: &[&Constraint], asked: &Asked<'_>) -> Option<Answer> {
    let parts: Vec<Option<Answer>> = parts.iter().map(|part| settled_one(part, asked)).collect();
    settled_join(&parts, true)
}

fn settled_one(constraint: &Constraint, asked: &Asked<'_>) -> Option<Answer> {
    let each = |parts: &[Constraint]| -> Vec<Option<Answer>> {
        parts.iter().map(|part| settled_one(part, asked)).collect()
    };
    match constraint {
        Constraint::Test(leaf) => {
            (leaf.test.phase() == Phase::Compile).then(|| answer(&leaf.test, asked))
        }
        Constraint::And(parts) => settled_join(&each(parts), true),
        Constraint::Or(parts) => settled_join(&each(parts), false),
        Constraint::Xone(parts) => {
            let all: Option<Vec<Answer>> = each(parts).into_iter().collect();
            all.map(|all| xone(all.into_iter()))
        }
    }
}

fn settled_join(parts: &[Option<Answer>], neutral: bool) -> Option<Answer> {
    if parts.contains(&Some(Some(!neutral))) {
        return Some(Some(!neutral));
    }
    let rest: Vec<_> = parts.iter().filter(|part| **part != Some(Some(neutral))).collect();
    match rest[..] {
        [] => Some(Some(neutral)),
        [one] => *one,
        _ => None,
    }
}

fn compares<T: PartialOrd>(comparison: Comparison, left: T, right: T) -> bool {
    let order = left.partial_cmp(&right);
    match comparison {
        Comparison::Eq => order == Some(Ordering::Equal),
        Comparison::Neq => order != Some(Ordering::Equal),
        Comparison::Lt => order == Some(Ordering::Less),
        Comparison::Lteq => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Gt => order == Some(Ordering::Greater),
        Comparison::Gteq => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
}

fn answer(test: &Test, asked: &Asked<'_>) -> Answer {
    let Asked { contract, point, collections, .. } = asked;
    let among = |relation, is: bool| Some(if relation == Relation::NoneOf { !is } else { is });
    match test {
        Test::Point(test) => {
            let patterns = PointPatterns::of(test.names.iter().cloned().collect());
            among(test.relation, patterns.covers(point.name.as_str()))
        }
        Test::Dataset(test) => {
            member(test.relation, &test.names, point.dataset.as_str(), &collections.datasets)
        }
        Test::Recipient(test) => {
            member(test.relation, &test.names, contract.consumer(), &collections.parties)
        }
        Test::Purpose(test) => contract.purpose().and_then(|purpose| match test.relation {
            Relation::PartOf => Some(
                test.names
                    .iter()
                    .any(|tree| purpose == tree || purpose.starts_with(&format!("{tree}."))),
            ),
            relation => among(relation, test.names.contains(purpose)),
        }),
        Test::Country(test) => contract
            .consumer_country()
            .and_then(|country| among(test.relation, test.names.contains(country))),
        Test::Delivery(test) => among(test.relation, test.names.iter().any(|code| code == "02")),
        Test::Elsewhere { .. } => None,
        Test::Class(comparison, class) => {
            Some(compares(*comparison, point.class as u8, *class as u8))
        }
        Test::Tags(relation, tags) => {
            let has = tags.iter().filter(|tag| point.tags.contains(tag)).count();
            Some(match relation {
                Relation::AllOf => has == tags.len(),
                Relation::NoneOf => has == 0,
                Relation::AnyOf | Relation::PartOf => has > 0,
            })
        }
        live => answer_live(live, asked),
    }
}

/// What belongs to the reading and to the moment.
fn answer_live(test: &Test, asked: &Asked<'_>) -> Answer {
    let Asked { row, situation, .. } = asked;
    let now = &situation.now;
    let clock_is_set = now.quality != ClockQuality::Unset;
    let measured = row.source_time.unwrap_or(row.gateway_time);
    match test {
        Test::EventTime(comparison, moment) => Some(compares(*comparison, measured, *moment)),
        Test::DateTime(comparison, moment) => {
            clock_is_set.then(|| compares(*comparison, now.wall, *moment))
        }
        Test::Age(comparison, limit) => clock_is_set.then(|| {
            let nanos = (i128::from(row.gateway_time.0) - i128::from(measured.0)).max(0);
            compares(*comparison, nanos.unsigned_abs(), limit.as_nanos())
        }),
        Test::Place { area, inside } => {
            situation.track.at(row.gateway_time).map(|at| area.contains(at) == *inside)
        }
        Test::Value(comparison, limit) => {
            number(row).map(|value| compares(*comparison, value, *limit))
        }
        Test::Quality(comparison, severity) => {
            Some(compares(*comparison, row.quality.severity() as u8, *severity as u8))
        }
        Test::Consent(expect) => situation.consent.map(|given| given == *expect),
        Test::Vehicle { any_of, is } => {
            situation.vehicle.map(|state| any_of.contains(&state) == *is)
        }
        Test::Window { window, inside } => {
            clock_is_set.then(|| window.contains(now.wall) == *inside)
        }
        Test::Link(class, is) => situation.link.map(|link| (link == *class) == *is),
        Test::Attested(comparison, tier) => {
            situation.attested.map(|has| compares(*comparison, has, *tier))
        }
        Test::SecureBoot(expect) => situation.secure_boot.map(|on| on == *expect),
        Test::Release(comparison, version) => {
            situation.release.map(|has| compares(*comparison, has, *version))
        }
        Test::Clock(comparison, quality) => {
            Some(compares(*comparison, now.quality as u8, *quality as u8))
        }
        Test::Quota { key, comparison, limit } => {
            let ledger = asked.ledger.expect("contracts that count have a ledger");
            let is_known = clock_is_set || key.period == Period::Total;
            let used = ledger.used(asked.contract.id(), *key, now.wall);
            let used = used + Ledger::cost(*key, row);
            is_known.then(|| compares(*comparison, used, *limit))
        }
        Test::Rate(rate) => {
            let ledger = asked.ledger.expect("contracts that count have a ledger");
            Some(ledger.has_room(asked.contract.id(), &asked.rule.id, *rate, row.gateway_time))
        }
        other => unreachable!("{other:?} is answered by contract and descriptor"),
    }
}

fn member(
    relation: Relation,
    names: &BTreeSet<String>,
    name: &str,
    collections: &BTreeMap<String, BTreeSet<String>>,
) -> Answer {
    match relation {
        Relation::PartOf => {
            or(names.iter().map(|one| collections.get(one).map(|members| members.contains(name))))
        }
        Relation::NoneOf => Some(!names.contains(name)),
        _ => Some(names.contains(name)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "contracts compare decimals")]
pub(crate) fn number(row: &Row) -> Option<f64> {
    match row.value.as_ref()? {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::I64(value) => Some(*value as f64),
        Value::U64(value) => Some(*value as f64),
        Value::F32(value) => Some(f64::from(*value)),
        Value::F64(value) => Some(*value),
        Value::Text(_) | Value::Bytes(_) => None,
    }
}

fn delay(rule: &Rule, point: &PointDescriptor) -> Option<Duration> {
    rule.treatments.iter().find_map(|one| match &one.transform {
        Transform::Delay { span } if one.points.covers(point.name.as_str()) => Some(*span),
        _ => None,
    })
}

/// What a permission does to a point, in the order in which it is done.
pub(crate) fn form<'r>(rule: &'r Rule, point: &PointDescriptor) -> Vec<&'r Transform> {
    // Only results leave on the point of a group.
    static DROPPED: Transform = Transform::Drop;
    let mut groups = rule.treatments.iter().filter_map(|one| one.transform.group());
    if groups.any(|group| group.into == point.name) {
        return vec![&DROPPED];
    }
    let covering = rule.treatments.iter().filter(|one| one.points.covers(point.name.as_str()));
    let mut transforms: Vec<&Transform> = covering.map(|one| &one.transform).collect();
    transforms.sort_by_key(|transform| transform.step());
    transforms
}

/// The row after one treatment after the other, and whether it lost its value; `None`: it does not leave.
fn treat(rule: &Rule, point: &PointDescriptor, row: &Row) -> Option<(Row, bool)> {
    apply(&form(rule, point), row, None)
}

/// The row after treatments that need no memory; `key` is for pseudonyms.
pub(crate) fn apply(
    transforms: &[&Transform],
    row: &Row,
    key: Option<[u8; 32]>,
) -> Option<(Row, bool)> {
    let (mut row, mut is_masked) = (row.clone(), false);
    for transform in transforms {
        let changed = match transform {
            Transform::Drop => return None,
            Transform::Mask => None,
            // Neither changes a row.
            Transform::Delay { .. } | Transform::Sample { .. } => continue,
            // There is nothing to change in an absent value.
            _ if row.value.is_none() => continue,
            Transform::Pseudonymise => {
                key.zip(row.value.as_ref()).map(|(key, value)| Value::Text(pseudonym(&key, value)))
            }
            change => match row.value {
                Some(Value::Bool(_)) => None,
                _ => number(&row).map(|value| Value::F64(changed(change, value))),
            },
        };
        let flags = row.quality.flags();
        let severity = match (&changed, row.quality.severity()) {
            (Some(_), Severity::Bad) => Severity::Bad,
            _ => Severity::Uncertain,
        };
        row.quality = Quality::new(severity, Reason::PolicyReduced).with_flags(flags);
        is_masked |= changed.is_none();
        row.value = changed;
    }
    Some((row, is_masked))
}

/// HMAC-SHA-256 as RFC 2104 writes it, over the kind of the value and its text; the first half.
fn pseudonym(key: &[u8; 32], value: &Value) -> String {
    let message = match value {
        Value::Bool(value) => vec![0, u8::from(*value)],
        Value::Text(text) => [&[2], text.as_bytes()].concat(),
        Value::Bytes(bytes) => [&[3], &bytes[..]].concat(),
        Value::I64(number) => [b"\x01", number.to_string().as_bytes()].concat(),
        Value::U64(number) => [b"\x01", number.to_string().as_bytes()].concat(),
        Value::F32(number) => [b"\x01", f64::from(*number).to_string().as_bytes()].concat(),
        Value::F64(number) => [b"\x01", number.to_string().as_bytes()].concat(),
    };
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block.to_vec()
    };
    let inner = Digest::of(&[padded(0x36), message].concat());
    let outer = Digest::of(&[padded(0x5C), inner.0.to_vec()].concat());
    outer.to_string()[..32].to_owned()
}

fn changed(transform: &Transform, value: f64) -> f64 {
    match transform {
        Transform::Clamp { low, high } => value.clamp(*low, *high),
        Transform::Round { step } => (value / step).round() * step,
        Transform::Bucket { edges } => {
            let below = edges.iter().filter(|edge| **edge <= value);
            below.copied().fold(f64::NEG_INFINITY, f64::max)
        }
        Transform::Grid(grid) => {
            let step_degrees = grid.step_degrees();
            let limit = if grid.axis == Axis::Latitude { 90.0 } else { 180.0 };
            (((value / step_degrees).floor() + 0.5) * step_degrees).clamp(-limit, limit)
        }
        other => unreachable!("the contracts drawn have no {}", other.name()),
    }
}

/// The reason that a refused row is counted under: the first of the highest weight.
pub(crate) fn weightiest(reasons: Vec<DenyReason>) -> DenyReason {
    let weight = |reason: &DenyReason| match reason {
        DenyReason::PointNotCovered { .. } => 0,
        _ => 1,
    };
    let heaviest = reasons.iter().map(weight).max();
    let mut heavy = reasons.into_iter().filter(|reason| Some(weight(reason)) == heaviest);
    heavy.next().unwrap_or(DenyReason::NoContract)
}
