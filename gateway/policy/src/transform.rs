//! Carrying out a form on the rows of one series: columns in, columns out.
//!
//! Every change of a value sets the quality to uncertain, reduced by policy, and keeps the flags.
//! Times stay as they are. A row without a value stays as it is.

use crate::duty::{Axis, Transform};
use guan_model::{Column, Quality, Reason, Series, Severity};

/// What became of the rows of a series.
pub(crate) struct Formed {
    /// `None` if the form leaves all rows out.
    pub(crate) series: Option<Series>,
    /// Rows that lost their value.
    pub(crate) masked: u64,
}

/// Applies a form, sorted by step.
pub(crate) fn apply(form: &[Transform], mut series: Series) -> Formed {
    let rows = series.rows() as u64;
    let mut masked = 0;
    for transform in form {
        match transform {
            Transform::Drop => return Formed { series: None, masked: 0 },
            Transform::Mask => {
                masked = rows;
                mask(&mut series);
            }
            Transform::Clamp { low, high } => change(&mut series, |v| v.clamp(*low, *high)),
            Transform::Round { step } => change(&mut series, |v| (v / step).round() * step),
            Transform::Grid { axis, step_degrees } => {
                let limit = match axis {
                    Axis::Latitude => 90.0,
                    Axis::Longitude => 180.0,
                };
                let middle = |v: f64| ((v / step_degrees).floor() + 0.5) * step_degrees;
                change(&mut series, |v| middle(v).clamp(-limit, limit));
            }
            Transform::Bucket { edges } => change(&mut series, |v| {
                let above = edges.partition_point(|edge| *edge <= v);
                // Below the first edge the lowest bucket is open: minus infinity says so.
                above.checked_sub(1).map_or(f64::NEG_INFINITY, |place| edges[place])
            }),
            Transform::Sample { .. }
            | Transform::Aggregate { .. }
            | Transform::Noise(_)
            | Transform::Pseudonymise
            | Transform::Delay { .. } => {
                unreachable!("`Contract::parse` refuses what this release does not carry out")
            }
        }
    }
    Formed { series: Some(series), masked }
}

fn reduced(quality: Quality) -> Quality {
    let severity = match quality.severity() {
        Severity::Bad => Severity::Bad,
        _ => Severity::Uncertain,
    };
    Quality::new(severity, Reason::PolicyReduced).with_flags(quality.flags())
}

/// A masked row says nothing of its value: neither type nor quality.
fn mask(series: &mut Series) {
    let masked = Quality::new(Severity::Uncertain, Reason::PolicyReduced);
    for quality in &mut series.qualities {
        *quality = masked.with_flags(quality.flags());
    }
    series.values = Column::Absent;
}

/// Changes every number. What is no number cannot take the form, so it loses its value: a text that
/// slipped into a point of numbers would otherwise leave as it is.
fn change(series: &mut Series, with: impl Fn(f64) -> f64) {
    match &mut series.values {
        Column::Absent => return,
        Column::F64(values) => values.iter_mut().for_each(|value| *value = with(*value)),
        Column::F32(values) => {
            let wide = values.iter().map(|value| with(f64::from(*value)));
            series.values = Column::F64(wide.collect());
        }
        Column::I64(values) => {
            #[allow(clippy::cast_precision_loss, reason = "the form is coarser than 2^-53")]
            let wide = values.iter().map(|value| with(*value as f64));
            series.values = Column::F64(wide.collect());
        }
        Column::U64(values) => {
            #[allow(clippy::cast_precision_loss, reason = "the form is coarser than 2^-53")]
            let wide = values.iter().map(|value| with(*value as f64));
            series.values = Column::F64(wide.collect());
        }
        Column::Bool(_) | Column::Text(_) | Column::Bytes(_) => return mask(series),
    }
    for quality in &mut series.qualities {
        *quality = reduced(*quality);
    }
}
