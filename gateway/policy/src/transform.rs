//! Changing the values of one series, row by row: columns in, columns out.
//!
//! Every change of a value sets the quality to uncertain, reduced by policy, and keeps the flags.
//! Times stay as they are. A row without a value stays as it is.

use crate::duty::{Axis, Transform};
use guan_model::{Column, Quality, Reason, Series, Severity};

/// Applies a step that needs nothing but the row; gives how many rows lost their value.
pub(crate) fn apply(transform: &Transform, series: &mut Series) -> u64 {
    match transform {
        Transform::Round { step } => change(series, |v| (v / step).round() * step),
        Transform::Grid(grid) => {
            let step_degrees = grid.step_degrees();
            let limit = match grid.axis {
                Axis::Latitude => 90.0,
                Axis::Longitude => 180.0,
            };
            let middle = |v: f64| ((v / step_degrees).floor() + 0.5) * step_degrees;
            change(series, |v| middle(v).clamp(-limit, limit))
        }
        Transform::Bucket { edges } => change(series, |v| {
            let above = edges.partition_point(|edge| *edge <= v);
            above.checked_sub(1).map_or(f64::NEG_INFINITY, |place| edges[place])
        }),
        // The delay is kept by the terms on which the rows leave.
        Transform::Delay { .. } => 0,
        other => unreachable!("{} is done before", other.name()),
    }
}

fn reduced(quality: Quality) -> Quality {
    let severity = match quality.severity() {
        Severity::Bad => Severity::Bad,
        _ => Severity::Uncertain,
    };
    Quality::new(severity, Reason::PolicyReduced).with_flags(quality.flags())
}

/// A masked row says nothing of its value: neither type nor quality.
pub(crate) fn mask(series: &mut Series) {
    let masked = Quality::new(Severity::Uncertain, Reason::PolicyReduced);
    for quality in &mut series.qualities {
        *quality = masked.with_flags(quality.flags());
    }
    series.values = Column::Absent;
}

/// Puts other values in place.
pub(crate) fn set_values(series: &mut Series, values: Column) {
    assert!(values.len().is_none_or(|len| len == series.rows()), "one value for each row");
    series.values = values;
    for quality in &mut series.qualities {
        *quality = reduced(*quality);
    }
}

/// Changes every number. What is no number cannot take the form, so it loses its value: a text that
/// slipped into a point of numbers would otherwise leave as it is. Gives how many rows did.
pub(crate) fn change(series: &mut Series, with: impl Fn(f64) -> f64) -> u64 {
    let values = match &series.values {
        Column::Absent => return 0,
        Column::Bool(_) | Column::Text(_) | Column::Bytes(_) => {
            mask(series);
            return series.rows() as u64;
        }
        numbers => (0..series.rows()).map(|row| with(number(numbers, row).unwrap_or(f64::NAN))),
    };
    let values = Column::F64(values.collect());
    set_values(series, values);
    0
}

/// The number of a row; `None` for what is no number.
#[allow(clippy::cast_precision_loss, reason = "contracts compare with decimals of 24 characters")]
pub(crate) fn number(values: &Column, row: usize) -> Option<f64> {
    match values {
        Column::F64(values) => Some(values[row]),
        Column::F32(values) => Some(f64::from(values[row])),
        Column::I64(values) => Some(values[row] as f64),
        Column::U64(values) => Some(values[row] as f64),
        Column::Bool(values) => Some(f64::from(u8::from(values[row]))),
        Column::Absent | Column::Text(_) | Column::Bytes(_) => None,
    }
}

/// Bytes of a row before compression: its value, and 8 for its time.
pub(crate) fn bytes(values: &Column, row: usize) -> u64 {
    let value = match values {
        Column::Absent => 0,
        Column::Bool(_) => 1,
        Column::F32(_) => 4,
        Column::I64(_) | Column::U64(_) | Column::F64(_) => 8,
        Column::Text(values) => values[row].len(),
        Column::Bytes(values) => values[row].len(),
    };
    value as u64 + 8
}
