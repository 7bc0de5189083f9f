//! Constraints to JSON in our profile of ODRL, in one spelling each.
//!
//! What `reader` makes of the result is the constraint that was written, but for the texts of its
//! tests. Never chooses what a form cannot say: every test has a word.

use super::operand::{Operand, Operator};
use super::reader::{CLOCKS, SEVERITIES};
use super::{
    Area, Constraint, NameTest, Period, Position, QuotaKey, QuotaKind, Rate, Relation,
    ReleaseVersion, Test, TimeWindow,
};
use crate::interval::Comparison;
use crate::object::{decimal_text, duration_text, exact_moment_text, whole_json};
use crate::situation::{LinkClass, TIERS, VehicleState};
use guan_model::descriptor::Class;
use serde_json::{Value, json};

/// One test as left operand, operator, right operand and unit.
pub(crate) struct Written {
    pub(crate) left: &'static str,
    pub(crate) operator: Operator,
    pub(crate) right: Value,
    pub(crate) unit: Option<&'static str>,
}

/// One part of a rule's constraint.
pub(crate) fn constraint_json(constraint: &Constraint) -> Value {
    let all = |parts: &[Constraint]| parts.iter().map(constraint_json).collect::<Vec<_>>();
    match constraint {
        Constraint::Test(leaf) => {
            let Written { left, operator, right, unit } = write(&leaf.test);
            let mut test =
                json!({"leftOperand": left, "operator": operator.name(), "rightOperand": right});
            if let Some(unit) = unit {
                test["unit"] = json!(unit);
            }
            test
        }
        Constraint::And(parts) => json!({"and": all(parts)}),
        Constraint::Or(parts) => json!({"or": all(parts)}),
        Constraint::Xone(parts) => json!({"xone": all(parts)}),
    }
}

pub(crate) fn write(test: &Test) -> Written {
    use Operand as Of;
    match test {
        Test::Point(test) => named(Of::Point, test),
        Test::Dataset(test) => named(Of::Dataset, test),
        Test::Recipient(test) => named(Of::Recipient, test),
        Test::Purpose(test) => named(Of::Purpose, test),
        Test::Country(test) => named(Of::Country, test),
        Test::Delivery(test) => named(Of::Delivery, test),
        Test::Tags(relation, tags) => {
            let names: Vec<_> = tags.iter().map(|tag| tag.name()).collect();
            plain(Of::Tag, operator_for(*relation), json!(names))
        }
        Test::Place { area, inside } => plain(Of::Spatial, inside_or_not(*inside), area_json(area)),
        Test::Window { window, inside } => {
            plain(Of::TimeWindow, inside_or_not(*inside), window_json(window))
        }
        Test::Quota { key, comparison, limit } => {
            let (operand, unit) = quota_unit(*key);
            Written { unit, ..plain(operand, operator_of(*comparison), whole_json(*limit)) }
        }
        Test::Rate(rate) => {
            let right = whole_json(rate.readings);
            Written { unit: Some(rate_unit(*rate)), ..plain(Of::Rate, Operator::Lteq, right) }
        }
        Test::Consent(value) => plain(Of::Consent, Operator::Eq, json!(value)),
        Test::SecureBoot(value) => plain(Of::SecureBoot, Operator::Eq, json!(value)),
        Test::Vehicle { any_of, is } => {
            let operator = if *is { Operator::IsAnyOf } else { Operator::IsNoneOf };
            let names: Vec<_> =
                any_of.iter().map(|state| word(&VehicleState::WORDS, state)).collect();
            plain(Of::VehicleState, operator, json!(names))
        }
        Test::Link(class, is) => {
            let operator = if *is { Operator::Eq } else { Operator::Neq };
            plain(Of::Link, operator, json!(word(&LinkClass::WORDS, class)))
        }
        Test::Elsewhere { operand, operator, values } => {
            let right = match values.as_slice() {
                [one] => json!(one),
                many => json!(many),
            };
            Written { left: operand.name(), operator: *operator, right, unit: None }
        }
        Test::Class(comparison, _)
        | Test::EventTime(comparison, _)
        | Test::DateTime(comparison, _)
        | Test::Age(comparison, _)
        | Test::Value(comparison, _)
        | Test::Quality(comparison, _)
        | Test::Attested(comparison, _)
        | Test::Release(comparison, _)
        | Test::Clock(comparison, _) => compared(test, *comparison),
    }
}

fn compared(test: &Test, comparison: Comparison) -> Written {
    use Operand as Of;
    let (operand, right) = match test {
        Test::Class(_, Class::General) => (Of::Class, "general".to_owned()),
        Test::Class(_, Class::Important) => (Of::Class, "important".to_owned()),
        Test::Class(_, Class::Core) => (Of::Class, "core".to_owned()),
        Test::EventTime(_, moment) => (Of::EventTime, exact_moment_text(*moment)),
        Test::DateTime(_, moment) => (Of::DateTime, exact_moment_text(*moment)),
        Test::Age(_, age) => (Of::Age, duration_text(*age)),
        Test::Value(_, value) => (Of::Value, decimal_text(*value)),
        Test::Quality(_, severity) => (Of::Quality, word(&SEVERITIES, severity).to_owned()),
        Test::Attested(_, tier) => (Of::Attested, word(&TIERS, tier).to_owned()),
        Test::Release(_, version) => (Of::Release, release_text(*version)),
        Test::Clock(_, quality) => (Of::Clock, word(&CLOCKS, quality).to_owned()),
        other => unreachable!("{other:?} is not compared"),
    };
    plain(operand, operator_of(comparison), json!(right))
}

fn plain(operand: Operand, operator: Operator, right: Value) -> Written {
    Written { left: operand.name(), operator, right, unit: None }
}

fn named(operand: Operand, test: &NameTest) -> Written {
    plain(operand, operator_for(test.relation), json!(test.names))
}

fn operator_for(relation: Relation) -> Operator {
    match relation {
        Relation::AnyOf => Operator::IsAnyOf,
        Relation::NoneOf => Operator::IsNoneOf,
        Relation::PartOf => Operator::IsPartOf,
        Relation::AllOf => Operator::IsAllOf,
    }
}

fn operator_of(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Eq => Operator::Eq,
        Comparison::Neq => Operator::Neq,
        Comparison::Lt => Operator::Lt,
        Comparison::Lteq => Operator::Lteq,
        Comparison::Gt => Operator::Gt,
        Comparison::Gteq => Operator::Gteq,
    }
}

fn inside_or_not(inside: bool) -> Operator {
    if inside { Operator::IsPartOf } else { Operator::IsNoneOf }
}

fn word<T: PartialEq>(table: &[(&'static str, T)], meaning: &T) -> &'static str {
    let row = table.iter().find(|(_, own)| own == meaning);
    row.expect("every meaning has a word").0
}

fn quota_unit(key: QuotaKey) -> (Operand, Option<&'static str>) {
    let operand = match key.kind {
        QuotaKind::Count => Operand::Count,
        QuotaKind::Size => Operand::DataSize,
    };
    let unit = match (key.kind, key.period) {
        (_, Period::Total) => return (operand, None),
        (QuotaKind::Count, Period::Minute) => "1/min",
        (QuotaKind::Count, Period::Hour) => "1/h",
        (QuotaKind::Count, Period::Day) => "1/d",
        (QuotaKind::Count, Period::Month) => "1/mo",
        (QuotaKind::Size, Period::Minute) => "By/min",
        (QuotaKind::Size, Period::Hour) => "By/h",
        (QuotaKind::Size, Period::Day) => "By/d",
        (QuotaKind::Size, Period::Month) => "By/mo",
    };
    (operand, Some(unit))
}

fn rate_unit(rate: Rate) -> &'static str {
    match rate.per_s {
        1 => "1/s",
        60 => "1/min",
        3600 => "1/h",
        _ => "1/d",
    }
}

fn area_json(area: &Area) -> Value {
    let decimals = |at: &Position| [decimal_text(at.latitude), decimal_text(at.longitude)];
    match area {
        Area::Circle { centre, radius_m } => {
            let [latitude, longitude] = decimals(centre);
            let radius_m = decimal_text(*radius_m);
            json!({
                "type": "circle", "latitude": latitude, "longitude": longitude,
                "radius_m": radius_m,
            })
        }
        Area::Polygon { vertices, .. } => {
            let vertices: Vec<_> = vertices.iter().map(decimals).collect();
            json!({"type": "polygon", "vertices": vertices})
        }
    }
}

fn window_json(window: &TimeWindow) -> Value {
    let [from, until] = window.hours();
    let mut json = json!({"from": from, "until": until, "zone": window.zone_name()});
    let weekdays = window.weekdays();
    if weekdays.len() < 7 {
        json["weekdays"] = json!(weekdays);
    }
    json
}

fn release_text(version: ReleaseVersion) -> String {
    let used = version.0.iter().rposition(|number| *number != 0).map_or(1, |last| last + 1);
    version.0[..used].iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}
