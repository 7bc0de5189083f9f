//! JSON to constraints. What is not understood is a fault: a test that were dropped would widen the rule.

mod counts;
mod places;

use super::operand::{Foreign, Operand, Operator};
use super::{Constraint, Leaf, NameTest, QuotaKind, Relation, ReleaseVersion, Test};
use crate::duty::is_point_pattern;
use crate::fault::{Faults, Problem, shown};
use crate::interval::Comparison;
use crate::object::{Member, Object};
use crate::situation::{LinkClass, TIERS, VehicleState};
use guan_model::descriptor::{Class, Tag};
use guan_model::{ClockQuality, Severity};
use places::{area, window};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most tests of one contract.
pub(crate) const CONSTRAINTS_MAX: usize = 4096;
/// Most names of one test.
const NAMES_MAX: usize = 4096;
/// Longest name in a test, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Prefixes that JSON-LD allows before the terms of ODRL and of our profile.
const PREFIXES: [&str; 4] =
    ["odrl:", "guan:", "http://www.w3.org/ns/odrl/2/", crate::contract::NAMESPACE];

/// The term without the prefix of a vocabulary that is ours to read.
pub(crate) fn term(text: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text)
}

/// All constraints of one rule, which must all hold.
pub(crate) fn read_constraints(
    member: &Member<'_>,
    budget: &mut usize,
    faults: &mut Faults,
) -> Constraint {
    let parts = member.one_or_many(CONSTRAINTS_MAX, faults);
    let parts = flat(read_all(&parts, budget, faults));
    check_moments(&parts, &member.pointer, faults);
    Constraint::And(parts)
}

/// The parts of an `and` in an `and` that belong to several moments are parts of the outer one; others
/// stay as they were written, and are written again so.
pub(crate) fn flat(parts: Vec<Constraint>) -> Vec<Constraint> {
    let inner = |part: Constraint| {
        let is_mixed = part.phases().len() > 1;
        match part {
            Constraint::And(parts) if is_mixed => flat(parts),
            other => vec![other],
        }
    };
    parts.into_iter().flat_map(inner).collect()
}

/// Each part that must hold belongs to one moment.
pub(crate) fn check_moments(parts: &[Constraint], pointer: &str, faults: &mut Faults) {
    for _ in parts.iter().filter(|part| part.phases().len() > 1) {
        faults.add(pointer, Problem::MixedMoments);
    }
}

/// Every part is read or has a fault: one that were left out would widen the rule.
fn read_all(parts: &[Member<'_>], budget: &mut usize, faults: &mut Faults) -> Vec<Constraint> {
    let mut read = Vec::with_capacity(parts.len());
    for part in parts {
        let before = faults.len();
        match read_constraint(part, budget, faults) {
            Some(constraint) => read.push(constraint),
            None => faults.add_if_none_since(before, &part.pointer),
        }
    }
    read
}

/// Takes one of the tests that a contract may have; `None` if it has had them all.
pub(crate) fn spend(budget: &mut usize, pointer: &str, faults: &mut Faults) -> Option<()> {
    let left = budget.checked_sub(1);
    match left {
        Some(left) => *budget = left,
        None => {
            let (count, limit) = (CONSTRAINTS_MAX + 1, CONSTRAINTS_MAX);
            faults.add(pointer, Problem::TooMany { count, limit });
        }
    }
    left.map(drop)
}

/// One part, as one would be of a list of them.
pub(crate) fn read_constraint(
    member: &Member<'_>,
    budget: &mut usize,
    faults: &mut Faults,
) -> Option<Constraint> {
    spend(budget, &member.pointer, faults)?;
    let joins = |key: &str| member.value.get(key).is_some();
    for (key, join) in [
        ("and", Constraint::And as fn(Vec<Constraint>) -> Constraint),
        ("or", Constraint::Or),
        ("xone", Constraint::Xone),
    ] {
        if joins(key) {
            let object = Object::open_with(
                member.value,
                &member.pointer,
                &[key],
                &["@type", "uid"],
                faults,
            )?;
            let parts = object.member(key)?.one_or_many(CONSTRAINTS_MAX, faults);
            return Some(join(read_all(&parts, budget, faults)));
        }
    }
    read_test(member, faults)
}

fn read_test(member: &Member<'_>, faults: &mut Faults) -> Option<Constraint> {
    const KEYS: [&str; 3] = ["leftOperand", "operator", "rightOperand"];
    let optional = ["unit", "@type", "uid"];
    let object = Object::open_with(member.value, &member.pointer, &KEYS, &optional, faults)?;
    let left = object.text("leftOperand", faults).map(term);
    let operand = left.and_then(|name| {
        let operand = Asked::from_name(name);
        if operand.is_none() {
            let problem = Problem::UnknownOperand { found: shown(name) };
            faults.add(&object.at("leftOperand"), problem);
        }
        operand
    });
    let operator = object.text("operator", faults).map(term).and_then(|name| {
        let operator = Operator::from_name(name).or_else(|| Operator::from_code(name));
        if operator.is_none() {
            let known = "one of ODRL's: eq, neq, lt, lteq, gt, gteq, isA, isAnyOf, isAllOf, \
                         isNoneOf, isPartOf, hasPart";
            faults.add(&object.at("operator"), Problem::UnknownTerm { found: shown(name), known });
        }
        operator
    });
    let reader = TestReader {
        operand: operand?,
        operator: operator?,
        right: typed_literal(object.member("rightOperand")?, faults)?,
        unit: object.member("unit"),
        operator_pointer: object.at("operator"),
    };
    let right = object.members["rightOperand"].to_string();
    reader.leaf(&right, &member.pointer, faults)
}

/// Longest rendering of a test.
const TEXT_CHARS_MAX: usize = 160;

fn shown_long(text: &str) -> String {
    let mut out: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('\u{2026}');
    }
    out
}

/// `{"@value": ..., "@type": ...}` of JSON-LD is its value; the operand fixes the type.
fn typed_literal<'v>(member: Member<'v>, faults: &mut Faults) -> Option<Member<'v>> {
    if member.value.get("@value").is_none() {
        return Some(member);
    }
    let object = Object::open_with(member.value, &member.pointer, &["@value"], &["@type"], faults)?;
    object.member("@value")
}

/// The left side of a test.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Here(Operand),
    Elsewhere(Foreign),
}

impl Asked {
    fn from_name(name: &str) -> Option<Self> {
        let here = Operand::from_name(name).map(Self::Here);
        here.or_else(|| Foreign::from_name(name).map(Self::Elsewhere))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Here(operand) => operand.name(),
            Self::Elsewhere(foreign) => foreign.name(),
        }
    }
}

/// One test, taken apart; both wire forms come to this.
pub(crate) struct TestReader<'v> {
    pub(crate) operand: Asked,
    pub(crate) operator: Operator,
    pub(crate) right: Member<'v>,
    pub(crate) unit: Option<Member<'v>>,
    pub(crate) operator_pointer: String,
}

/// How data can be delivered, in TC609-6-2025-14.
const DELIVERY_CODES: [&str; 4] = ["01", "02", "03", "04"];
const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];
pub(super) const SEVERITIES: [(&str, Severity); 3] =
    [("good", Severity::Good), ("uncertain", Severity::Uncertain), ("bad", Severity::Bad)];
pub(super) const CLOCKS: [(&str, ClockQuality); 5] = [
    ("unset", ClockQuality::Unset),
    ("rtc", ClockQuality::Rtc),
    ("ntp", ClockQuality::Ntp),
    ("authenticated", ClockQuality::Authenticated),
    ("witnessed", ClockQuality::Witnessed),
];
const CLASSES: [(&str, Class); 9] = [
    ("general", Class::General),
    ("important", Class::Important),
    ("core", Class::Core),
    ("\u{4e00}\u{822c}", Class::General),
    ("\u{91cd}\u{8981}", Class::Important),
    ("\u{6838}\u{5fc3}", Class::Core),
    ("1", Class::General),
    ("2", Class::Important),
    ("3", Class::Core),
];

impl TestReader<'_> {
    /// `right`: how the file writes the value.
    pub(crate) fn leaf(
        &self,
        right: &str,
        pointer: &str,
        faults: &mut Faults,
    ) -> Option<Constraint> {
        let test = self.read(faults)?;
        let unit = self.unit.as_ref().map_or(String::new(), |unit| format!(" {}", unit.value));
        let text = format!("{} {} {right}{unit}", self.operand.name(), self.operator.name());
        let text = Arc::from(shown_long(&text.replace('"', "")));
        Some(Constraint::Test(Leaf { test, text, pointer: Arc::from(pointer) }))
    }

    fn read(&self, faults: &mut Faults) -> Option<Test> {
        let takes_unit =
            matches!(self.operand, Asked::Here(Operand::Count | Operand::DataSize | Operand::Rate));
        if let Some(unit) = self.unit.as_ref().filter(|_| !takes_unit) {
            faults.add(&unit.pointer, Problem::UnknownKey);
            return None;
        }
        match self.operand {
            Asked::Here(operand) => self.read_here(operand, faults),
            Asked::Elsewhere(foreign) => self.elsewhere(foreign, faults),
        }
    }

    fn read_here(&self, operand: Operand, faults: &mut Faults) -> Option<Test> {
        match operand {
            Operand::Delivery => self.delivery(faults),
            Operand::Point => self.names(faults).map(Test::Point),
            Operand::Dataset => self.names(faults).map(Test::Dataset),
            Operand::Recipient => self.names(faults).map(Test::Recipient),
            Operand::Purpose => self.names(faults).map(Test::Purpose),
            Operand::Country => self.names(faults).map(Test::Country),
            Operand::Class => {
                let comparison = self.comparison(faults);
                let class = self.right.value.as_u64().map(|number| number.to_string());
                let class = class.and_then(|text| find(&CLASSES, &text));
                let known = "general, important, core, or 1 to 3";
                let class = class.or_else(|| self.right.word(&CLASSES, known, faults))?;
                Some(Test::Class(comparison?, class))
            }
            Operand::Tag => self.tags(faults),
            Operand::EventTime => self.compared(Test::EventTime, |m, f| m.moment(f), faults),
            Operand::DateTime => self.compared(Test::DateTime, |m, f| m.moment(f), faults),
            Operand::Age => self.compared(Test::Age, |m, f| m.duration(f), faults),
            Operand::Value => self.compared(Test::Value, |m, f| m.decimal(f), faults),
            Operand::Spatial => self.place(faults),
            Operand::Quality => {
                let read = |m: &Member<'_>, f: &mut Faults| {
                    m.word(&SEVERITIES, "good, uncertain or bad", f)
                };
                self.compared(Test::Quality, read, faults)
            }
            Operand::Clock => {
                let known = "unset, rtc, ntp, authenticated or witnessed";
                self.compared(Test::Clock, |m, f| m.word(&CLOCKS, known, f), faults)
            }
            Operand::Attested => {
                let known = "unattested, emulated or hardware";
                self.compared(Test::Attested, |m, f| m.word(&TIERS, known, f), faults)
            }
            Operand::Release => self.compared(Test::Release, release, faults),
            Operand::Count => self.quota(QuotaKind::Count, faults),
            Operand::DataSize => self.quota(QuotaKind::Size, faults),
            Operand::Rate => self.rate(faults),
            Operand::Consent => self.equal(Test::Consent, boolean, faults),
            Operand::SecureBoot => self.equal(Test::SecureBoot, boolean, faults),
            Operand::VehicleState => self.vehicle(faults),
            Operand::TimeWindow => {
                let inside = self.inside(faults);
                let window = window(&self.right, faults)?;
                Some(Test::Window { window, inside: inside? })
            }
            Operand::Link => {
                let is = self.is(faults);
                let class = self.right.word(&LinkClass::WORDS, "metered or unmetered", faults)?;
                Some(Test::Link(class, is?))
            }
        }
    }

    fn wrong_operator(&self, known: &'static str, faults: &mut Faults) {
        let (operand, found) = (self.operand.name(), self.operator.name());
        faults.add(&self.operator_pointer, Problem::Operator { operand, found, known });
    }

    fn comparison(&self, faults: &mut Faults) -> Option<Comparison> {
        let comparison = match self.operator {
            Operator::Eq | Operator::IsA => Comparison::Eq,
            Operator::Neq => Comparison::Neq,
            Operator::Lt => Comparison::Lt,
            Operator::Lteq => Comparison::Lteq,
            Operator::Gt => Comparison::Gt,
            Operator::Gteq => Comparison::Gteq,
            _ => {
                self.wrong_operator("eq, neq, lt, lteq, gt or gteq", faults);
                return None;
            }
        };
        Some(comparison)
    }

    fn compared<T>(
        &self,
        test: impl Fn(Comparison, T) -> Test,
        read: impl Fn(&Member<'_>, &mut Faults) -> Option<T>,
        faults: &mut Faults,
    ) -> Option<Test> {
        let comparison = self.comparison(faults);
        let value = read(&self.right, faults);
        Some(test(comparison?, value?))
    }

    /// `eq` or `neq`.
    fn is(&self, faults: &mut Faults) -> Option<bool> {
        match self.operator {
            Operator::Eq | Operator::IsA => Some(true),
            Operator::Neq => Some(false),
            _ => {
                self.wrong_operator("eq or neq", faults);
                None
            }
        }
    }

    /// Of two values, not to be one is to be the other.
    fn equal(
        &self,
        test: impl Fn(bool) -> Test,
        read: impl Fn(&Member<'_>, &mut Faults) -> Option<bool>,
        faults: &mut Faults,
    ) -> Option<Test> {
        let positive = self.is(faults);
        let value = read(&self.right, faults)?;
        Some(test(value == positive?))
    }

    /// `isPartOf` (or `eq`), or their opposites.
    fn inside(&self, faults: &mut Faults) -> Option<bool> {
        match self.operator {
            Operator::IsPartOf | Operator::IsA | Operator::Eq | Operator::IsAnyOf => Some(true),
            Operator::IsNoneOf | Operator::Neq => Some(false),
            _ => {
                self.wrong_operator("isPartOf or isNoneOf", faults);
                None
            }
        }
    }

    fn names(&self, faults: &mut Faults) -> Option<NameTest> {
        let tree = matches!(self.operand, Asked::Here(Operand::Purpose));
        let relation = match self.operator {
            Operator::Eq | Operator::IsAnyOf => Relation::AnyOf,
            Operator::IsA if tree => Relation::PartOf,
            Operator::IsA => Relation::AnyOf,
            Operator::Neq | Operator::IsNoneOf => Relation::NoneOf,
            Operator::IsPartOf => Relation::PartOf,
            _ => {
                self.wrong_operator("eq, neq, isA, isAnyOf, isNoneOf or isPartOf", faults);
                return None;
            }
        };
        let many = matches!(
            self.operator,
            Operator::IsAnyOf | Operator::IsNoneOf | Operator::IsPartOf | Operator::IsA
        );
        let members = self.right.one_or_many(if many { NAMES_MAX } else { 1 }, faults);
        let mut names = BTreeSet::new();
        let is_point = matches!(self.operand, Asked::Here(Operand::Point));
        for member in &members {
            let name = if is_point { pattern(member, faults) } else { plain(member, faults) };
            let Some(name) = name else { continue };
            if let Some(twice) = names.replace(name) {
                faults.add(&self.right.pointer, Problem::Duplicate { found: shown(&twice) });
            }
        }
        (!names.is_empty()).then_some(NameTest { relation, names })
    }

    fn delivery(&self, faults: &mut Faults) -> Option<Test> {
        let test = self.names(faults)?;
        for code in test.names.iter().filter(|code| !DELIVERY_CODES.contains(&code.as_str())) {
            let known = "01 (files), 02 (a stream), 03 (an API) or 04 (other)";
            faults.add(&self.right.pointer, Problem::UnknownTerm { found: shown(code), known });
        }
        match test.relation {
            Relation::AnyOf | Relation::NoneOf => Some(Test::Delivery(test)),
            _ => {
                self.wrong_operator("eq, neq, isA, isAnyOf or isNoneOf", faults);
                None
            }
        }
    }

    /// What the node that uses the data will answer: kept as it stands.
    fn elsewhere(&self, foreign: Foreign, faults: &mut Faults) -> Option<Test> {
        let mut values = Vec::new();
        for member in self.right.one_or_many(NAMES_MAX, faults) {
            let text = member.text(faults)?;
            if !foreign.takes(text) {
                let known = "a value as in table C.6 of TC609-6-2025-14";
                faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
            }
            values.push(text.to_owned());
        }
        let operator = self.operator;
        (!values.is_empty()).then_some(Test::Elsewhere { operand: foreign, operator, values })
    }

    fn tags(&self, faults: &mut Faults) -> Option<Test> {
        let relation = match self.operator {
            Operator::HasPart | Operator::IsAnyOf | Operator::Eq => Relation::AnyOf,
            Operator::IsAllOf => Relation::AllOf,
            Operator::IsNoneOf | Operator::Neq => Relation::NoneOf,
            _ => {
                self.wrong_operator("hasPart, isAnyOf, isAllOf or isNoneOf", faults);
                return None;
            }
        };
        let table = Tag::ALL.map(|tag| (tag.name(), tag));
        let known = "personal, sensitive-personal, precise-location, vehicle-exterior or \
                     trade-secret";
        let members = self.right.one_or_many(Tag::ALL.len(), faults);
        let tags = members.iter().map(|member| member.word(&table, known, faults));
        let tags: Vec<Option<Tag>> = tags.collect();
        let tags: Option<BTreeSet<Tag>> = tags.into_iter().collect();
        tags.filter(|tags| !tags.is_empty()).map(|tags| Test::Tags(relation, tags))
    }

    fn vehicle(&self, faults: &mut Faults) -> Option<Test> {
        let is = match self.operator {
            Operator::Eq | Operator::IsA | Operator::IsAnyOf => true,
            Operator::Neq | Operator::IsNoneOf => false,
            _ => {
                self.wrong_operator("eq, neq, isAnyOf or isNoneOf", faults);
                return None;
            }
        };
        let known = "parked, driving, charging or service";
        let members = self.right.one_or_many(VehicleState::WORDS.len(), faults);
        let states: Vec<_> =
            members.iter().map(|m| m.word(&VehicleState::WORDS, known, faults)).collect();
        let any_of: Option<BTreeSet<VehicleState>> = states.into_iter().collect();
        any_of.filter(|states| !states.is_empty()).map(|any_of| Test::Vehicle { any_of, is })
    }

    fn place(&self, faults: &mut Faults) -> Option<Test> {
        let inside = self.inside(faults);
        let area = area(&self.right, faults)?;
        Some(Test::Place { area: Arc::new(area), inside: inside? })
    }
}

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning)
}

fn boolean(member: &Member<'_>, faults: &mut Faults) -> Option<bool> {
    match member.value {
        Value::Bool(value) => Some(*value),
        _ => member.word(&BOOLEANS, "true or false", faults),
    }
}

fn release(member: &Member<'_>, faults: &mut Faults) -> Option<ReleaseVersion> {
    let text = member.text(faults)?;
    let version = ReleaseVersion::parse(text);
    if version.is_none() {
        let known = "a version such as 1.4.2";
        faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
    }
    version
}

/// A name of a point, or of many; see `is_point_pattern`.
pub(crate) fn pattern(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    let is_pattern = is_point_pattern(text);
    if !is_pattern {
        faults.add(&member.pointer, Problem::Pattern { found: shown(text) });
    }
    is_pattern.then(|| text.to_owned())
}

/// A name of a party, purpose or dataset.
fn plain(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    let is_plain = !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c));
    if !is_plain {
        let known = "a name of letters, digits, '.', ':', '-' and '_', of at most 128 bytes";
        faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
    }
    is_plain.then(|| text.to_owned())
}
