//! Duties to JSON in our profile of ODRL: what the reader makes of it is what was written.

use crate::constraint::Period;
use crate::duty::{
    Aggregate, Axis, Duty, Mechanism, Noise, NotifyOn, Statistic, Transform, Treatment,
};
use crate::object::{decimal_text, duration_text, exact_moment_text, whole_json};
use serde_json::{Value, json};

/// Digits behind the point of what is kept in millionths, and in trillionths.
const MICRO_DIGITS: usize = 6;
const PICO_DIGITS: usize = 12;

/// Transformations first, then what else is due; in this order they are read back.
pub(crate) fn duties_json(treatments: &[Treatment], duties: &[Duty]) -> Vec<Value> {
    treatments.iter().map(treatment_json).chain(duties.iter().map(duty_json)).collect()
}

fn action(name: &str, parameters: Vec<(&str, Value)>) -> Value {
    let refinement: Vec<Value> = parameters
        .into_iter()
        .map(|(name, value)| {
            let operator = if value.is_array() { "isAnyOf" } else { "eq" };
            json!({"leftOperand": name, "operator": operator, "rightOperand": value})
        })
        .collect();
    match refinement.is_empty() {
        true => json!({"action": name}),
        false => json!({"action": name, "refinement": refinement}),
    }
}

fn treatment_json(treatment: &Treatment) -> Value {
    let patterns: Vec<&str> = treatment.points.iter().collect();
    let mut parameters = match patterns.as_slice() {
        ["*"] => Vec::new(),
        _ => vec![("dataField", json!(patterns))],
    };
    parameters.extend(parameters_of(&treatment.transform));
    action(treatment.transform.name(), parameters)
}

fn parameters_of(transform: &Transform) -> Vec<(&'static str, Value)> {
    let decimal = |number: &f64| json!(decimal_text(*number));
    match transform {
        Transform::Drop | Transform::Mask | Transform::Pseudonymise => Vec::new(),
        Transform::Sample { one_of } => vec![("oneOf", whole_json(*one_of))],
        Transform::Clamp { low, high } => vec![("low", decimal(low)), ("high", decimal(high))],
        Transform::Aggregate(aggregate) => aggregate_parameters(aggregate),
        Transform::Noise(noise) => noise_parameters(noise),
        Transform::Round { step } => vec![("step", decimal(step))],
        Transform::Bucket { edges } => {
            let edges: Vec<_> = edges.iter().map(|edge| decimal_text(*edge)).collect();
            vec![("edges", json!(edges))]
        }
        Transform::Grid(grid) => {
            let axis = match grid.axis {
                Axis::Latitude => "latitude",
                Axis::Longitude => "longitude",
            };
            let mut all = vec![("axis", json!(axis)), ("step_m", decimal(&grid.step_m))];
            if grid.reference_latitude != 0.0 {
                all.push(("referenceLatitude", decimal(&grid.reference_latitude)));
            }
            all
        }
        Transform::Delay { span } => vec![("span", json!(duration_text(*span)))],
    }
}

fn aggregate_parameters(aggregate: &Aggregate) -> Vec<(&'static str, Value)> {
    let row = Statistic::WORDS.iter().find(|(_, own)| *own == aggregate.statistic);
    let name = row.expect("every statistic has a word").0;
    let mut all =
        vec![("window", json!(duration_text(aggregate.window))), ("statistic", json!(name))];
    if aggregate.readings_min != 1 {
        all.push(("contributors", whole_json(aggregate.readings_min)));
    }
    if let Some(group) = &aggregate.group {
        all.push(("into", json!(group.into.as_str())));
        all.push(("minContributors", whole_json(group.contributors_min)));
    }
    all
}

fn noise_parameters(noise: &Noise) -> Vec<(&'static str, Value)> {
    let micro = |number| json!(fixed_point(number, MICRO_DIGITS));
    let mut all =
        vec![("epsilon", micro(noise.epsilon_micro)), ("budget", micro(noise.budget_micro))];
    let period = match noise.period {
        Period::Total => "total",
        // No contract can name it.
        Period::Minute => "minute",
        Period::Hour => "hour",
        Period::Day => "day",
        Period::Month => "month",
    };
    all.push(("period", json!(period)));
    match noise.mechanism {
        Mechanism::Laplace => all.push(("mechanism", json!("laplace"))),
        Mechanism::Gaussian { delta_pico } => {
            all.push(("mechanism", json!("gaussian")));
            all.push(("delta", json!(fixed_point(delta_pico, PICO_DIGITS))));
        }
    }
    all
}

/// A number of smallest parts as a decimal.
fn fixed_point(parts: u64, digits: usize) -> String {
    let text = format!("{parts:0width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let fraction = fraction.trim_end_matches('0');
    match fraction {
        "" => whole.to_owned(),
        _ => format!("{whole}.{fraction}"),
    }
}

fn duty_json(duty: &Duty) -> Value {
    let parameters = match duty {
        Duty::DeleteAfter(span) => vec![("after", json!(duration_text(*span)))],
        Duty::DeleteBy(moment) => vec![("by", json!(exact_moment_text(*moment)))],
        Duty::Retain(span) => vec![("atLeast", json!(duration_text(*span)))],
        Duty::Notify { target, on } => {
            let row = NotifyOn::WORDS.iter().find(|(_, own)| own == on);
            let on = row.expect("every occasion has a word").0;
            vec![("target", json!(&**target)), ("on", json!(on))]
        }
        Duty::AcknowledgeUse { every } => vec![("every", json!(duration_text(*every)))],
        Duty::Log | Duty::AttachPolicy | Duty::Compensate => Vec::new(),
    };
    action(duty.name(), parameters)
}

/// Each in one line: its action, then its refinements with their values.
pub(in crate::contract) fn texts(treatments: &[Treatment], duties: &[Duty]) -> Vec<String> {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let texts =
                values.iter().map(|one| one.as_str().map_or(one.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let line = |duty: &Value| {
        let refinement = duty["refinement"].as_array().into_iter().flatten();
        let parts = refinement
            .map(|one| format!("{} {}", shown(&one["leftOperand"]), shown(&one["rightOperand"])));
        let parts: Vec<String> = parts.collect();
        format!("{} {}", shown(&duty["action"]), parts.join(", ")).trim_end().to_owned()
    };
    duties_json(treatments, duties).iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_points() {
        let check = |parts, digits, expect: &str| {
            assert_eq!(fixed_point(parts, digits), expect, "{parts} / 10^{digits}");
        };
        check(0, 6, "0");
        check(1, 6, "0.000001");
        check(250_000, 6, "0.25");
        check(1_000_000_000, 6, "1000");
        check(1, 12, "0.000000000001");
        check(100_000_000_000, 12, "0.1");
    }
}
