//! Constraints of TC609-6-2025-14: a name, an operator and a value, to the tests of our own.

use super::codes::{Name, names};
use super::value;
use crate::constraint::{
    Asked, Constraint, Leaf, Operand, Operator, Test, TestReader, read_constraint, spend,
};
use crate::contract::PROFILE;
use crate::fault::{Faults, Problem, child, shown};
use crate::interval::Comparison;
use crate::object::{Member, Object};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most names in a text between brackets; a list has the limit of lists.
const LISTED_MAX: usize = 4096;

/// What a policy says for all of its constraints.
pub(super) struct Setting<'z> {
    /// Of times without an offset.
    pub(super) zone: Option<&'z TimeZone>,
    /// Of counters that name none.
    pub(super) period: Option<&'static str>,
}

/// One constraint, taken apart.
struct Parts<'v> {
    name: Name,
    operator: Operator,
    value: Member<'v>,
    /// What our extension adds.
    extension: Option<Object<'v>>,
    operator_pointer: String,
    pointer: String,
}

const KEYS: [&str; 3] = ["constraintName", "constraintOperator", "constraintValue"];

fn parts<'v>(member: &Member<'v>, faults: &mut Faults) -> Option<Parts<'v>> {
    let optional: Vec<&str> = names("policyExpansion").skip(1).collect();
    let object = Object::open_with(member.value, &member.pointer, &KEYS, &optional, faults)?;
    let name = object.text("constraintName", faults).and_then(|text| {
        let name = Name::of(text);
        if name.is_none() {
            let found = shown(text);
            let problem = match text {
                // Annex D prints these among the constraints; table C.5 has them as actions.
                "logRecordSend" | "compensate" => {
                    let known = "it as an action of the policy, as table C.5 has it";
                    Problem::UnknownTerm { found, known }
                }
                _ => Problem::UnknownOperand { found },
            };
            faults.add(&object.at("constraintName"), problem);
        }
        name
    });
    let operator = object.text("constraintOperator", faults).and_then(|text| {
        let operator = Operator::from_code(text).or_else(|| Operator::from_name(text));
        if operator.is_none() {
            let known = "a code from 01 to 12 as in table B.4, or its name of table 5.2";
            let problem = Problem::UnknownTerm { found: shown(text), known };
            faults.add(&object.at("constraintOperator"), problem);
        }
        operator
    });
    let extension = match object.member("expansionItem") {
        None => None,
        Some(member) => {
            let members = Object::open(member.value, &member.pointer, &[PROFILE], faults)?;
            let own = members.member(PROFILE)?;
            Some(Object::open_with(own.value, &own.pointer, &[], &["zone", "weekdays"], faults)?)
        }
    };
    Some(Parts {
        name: name?,
        operator: operator?,
        value: object.member("constraintValue")?,
        extension,
        operator_pointer: object.at("constraintOperator"),
        pointer: member.pointer.clone(),
    })
}

/// The period that a `timeWindow` of the policy sets for its counters, and where. Such a constraint
/// is none of its own: `timeWindow eq P1D` beside a count means a count for each day.
pub(super) fn period_of(member: &Member<'_>) -> Option<(&'static str, String)> {
    let text = |key: &str| member.value.get(key).and_then(Value::as_str);
    let is_window = text("constraintName") == Some("timeWindow");
    let operator = text("constraintOperator")
        .and_then(|text| Operator::from_code(text).or_else(|| Operator::from_name(text)));
    if !is_window || operator != Some(Operator::Eq) {
        return None;
    }
    let period = value::period(text("constraintValue")?)?;
    Some((period, child(&member.pointer, "constraintValue")))
}

/// Whether a constraint counts by a period that it does not name.
pub(super) fn lacks_period(member: &Member<'_>) -> bool {
    let name = member.value.get("constraintName").and_then(Value::as_str).and_then(Name::of);
    let is_bare = |is_size| match member.value.get("constraintValue") {
        Some(Value::String(text)) => {
            value::amount(text, is_size).is_some_and(|(_, unit)| unit.is_none())
        }
        Some(Value::Number(_)) => true,
        _ => false,
    };
    match name {
        Some(Name::Frequency) => is_bare(false),
        Some(Name::Amount(operand)) => is_bare(operand == Operand::DataSize),
        _ => false,
    }
}

pub(super) fn read(
    member: &Member<'_>,
    setting: &Setting<'_>,
    budget: &mut usize,
    faults: &mut Faults,
) -> Option<Constraint> {
    let parts = parts(member, faults)?;
    if let Some(extension) = &parts.extension
        && parts.name != Name::TimeWindow
    {
        faults.add(&extension.pointer, Problem::UnknownKey);
    }
    if parts.name == Name::Extension {
        return extension(&parts, budget, faults);
    }
    spend(budget, &parts.pointer, faults)?;
    match parts.name {
        Name::Time => time(&parts, setting, faults),
        Name::TimeWindow => window(&parts, setting, faults),
        Name::Region => region(&parts, faults),
        Name::Frequency => amount(&parts, Operand::Rate, setting, faults),
        Name::Amount(operand) => amount(&parts, operand, setting, faults),
        Name::Same(operand) => same(&parts, Asked::Here(operand), faults),
        Name::Foreign(foreign) => same(&parts, Asked::Elsewhere(foreign), faults),
        Name::Extension => unreachable!("was read above"),
    }
}

impl Parts<'_> {
    /// Hands the test to the reader of both forms, with another value in place.
    fn test(
        &self,
        operand: Asked,
        right: &Value,
        unit: Option<&Value>,
        faults: &mut Faults,
    ) -> Option<Constraint> {
        let at = |value| Member { pointer: self.value.pointer.clone(), value };
        let reader = TestReader {
            operand,
            operator: self.operator,
            right: at(right),
            unit: unit.map(at),
            operator_pointer: self.operator_pointer.clone(),
        };
        reader.leaf(&right.to_string(), &self.pointer, faults)
    }

    fn wrong_operator(&self, operand: &'static str, known: &'static str, faults: &mut Faults) {
        let found = self.operator.name();
        faults.add(&self.operator_pointer, Problem::Operator { operand, found, known });
    }
}

/// A constraint in our profile of ODRL, with an operator of its own.
fn extension(parts: &Parts<'_>, budget: &mut usize, faults: &mut Faults) -> Option<Constraint> {
    if parts.operator != Operator::Eq {
        parts.wrong_operator("expansionItem", "01: the constraint has its own operator", faults);
    }
    let object = Object::open(parts.value.value, &parts.value.pointer, &[PROFILE], faults)?;
    read_constraint(&object.member(PROFILE)?, budget, faults)
}

/// A moment that is compared, or an interval that the moment lies in.
fn time(parts: &Parts<'_>, setting: &Setting<'_>, faults: &mut Faults) -> Option<Constraint> {
    let text = parts.value.text(faults)?;
    let Some(ends) = value::ends(text) else {
        let moment = value::moment(&parts.value, setting.zone, faults)?;
        let right = json!(crate::object::exact_moment_text(moment));
        return parts.test(Asked::Here(Operand::DateTime), &right, None, faults);
    };
    if !matches!(parts.operator, Operator::Eq | Operator::IsA | Operator::IsPartOf) {
        parts.wrong_operator("time", "01, 05 or 09 for an interval", faults);
        return None;
    }
    let mut both = Vec::new();
    for (end, comparison) in ends.into_iter().zip([Comparison::Gteq, Comparison::Lteq]) {
        match value::moment_of(end, setting.zone) {
            Ok(moment) => both.push(Constraint::Test(Leaf {
                text: Arc::from(format!("dateTime {comparison:?} {end}").to_lowercase()),
                pointer: Arc::from(parts.pointer.as_str()),
                test: Test::DateTime(comparison, moment),
            })),
            Err(problem) => faults.add(&parts.value.pointer, problem),
        }
    }
    (both.len() == 2).then_some(Constraint::And(both))
}

/// Hours of the day, or an interval of moments as annex D has it.
fn window(parts: &Parts<'_>, setting: &Setting<'_>, faults: &mut Faults) -> Option<Constraint> {
    let text = parts.value.text(faults)?;
    if text.starts_with('P') {
        let known = "hours such as 08:00/18:00; a period of PT1M, PT1H or P1D stands with eq \
                     beside a count, and a term in activationTime and endTime";
        let problem = Problem::UnknownTerm { found: shown(text), known };
        faults.add(&parts.value.pointer, problem);
        return None;
    }
    let Some([from, until]) = value::ends(text).filter(|ends| !value::is_moment(ends[0])) else {
        return time(parts, setting, faults);
    };
    let own = |key: &str| parts.extension.as_ref().and_then(|own| own.member(key));
    let mut right = json!({"from": from, "until": until});
    match (own("zone"), setting.zone.and_then(TimeZone::iana_name)) {
        (Some(zone), _) => right["zone"] = zone.value.clone(),
        (None, Some(zone)) => right["zone"] = json!(zone),
        (None, None) => {
            faults.add(&parts.value.pointer, Problem::NoZone { found: shown(text) });
            return None;
        }
    }
    if let Some(weekdays) = own("weekdays") {
        right["weekdays"] = weekdays.value.clone();
    }
    parts.test(Asked::Here(Operand::TimeWindow), &right, None, faults)
}

/// Borders of GB/T 2260 are nowhere to be had, so every code is refused by its name.
fn region(parts: &Parts<'_>, faults: &mut Faults) -> Option<Constraint> {
    parts.value.text(faults)?;
    parts.test(Asked::Here(Operand::Spatial), parts.value.value, None, faults)
}

/// A limit, with unit and period in the text or beside it.
fn amount(
    parts: &Parts<'_>,
    operand: Operand,
    setting: &Setting<'_>,
    faults: &mut Faults,
) -> Option<Constraint> {
    let is_size = operand == Operand::DataSize;
    let (number, unit) = match parts.value.value {
        Value::String(text) => match value::amount(text, is_size) {
            Some(found) => found,
            None => {
                let known = "a whole number with a unit such as 10000 \u{6b21}/\u{5929} or 10G";
                let problem = Problem::UnknownTerm { found: shown(text), known };
                faults.add(&parts.value.pointer, problem);
                return None;
            }
        },
        _ => (parts.value.whole(faults)?, None),
    };
    let by_policy = || setting.period.map(|letter| value::unit(letter, is_size));
    let unit = unit.or_else(by_policy).map(|unit| json!(unit));
    let right = crate::object::whole_json(number);
    if operand == Operand::Rate && unit.is_none() {
        let known = "a number for a period, such as 100 \u{6b21}/\u{5206}\u{949f}";
        let found = shown(&parts.value.value.to_string());
        faults.add(&parts.value.pointer, Problem::UnknownTerm { found, known });
        return None;
    }
    parts.test(Asked::Here(operand), &right, unit.as_ref(), faults)
}

/// Values that are ours, too, but for lists in a text and codes with labels.
fn same(parts: &Parts<'_>, operand: Asked, faults: &mut Faults) -> Option<Constraint> {
    let text = parts.value.value.as_str();
    let right = match (operand, text) {
        (Asked::Here(Operand::Point), Some(text)) => {
            let names = value::listed(text);
            if names.len() > LISTED_MAX {
                let (count, limit) = (names.len(), LISTED_MAX);
                faults.add(&parts.value.pointer, Problem::TooMany { count, limit });
                return None;
            }
            match names.as_slice() {
                [one] => json!(one),
                many => json!(many),
            }
        }
        (Asked::Here(Operand::Delivery), _) => codes(parts.value.value),
        (Asked::Elsewhere(foreign), _) if foreign.has_codes() => codes(parts.value.value),
        _ => parts.value.value.clone(),
    };
    parts.test(operand, &right, None, faults)
}

fn codes(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(value::code(text)),
        Value::Array(values) => Value::Array(values.iter().map(codes).collect()),
        other => other.clone(),
    }
}
