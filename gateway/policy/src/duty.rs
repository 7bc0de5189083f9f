//! What a permission asks for in return: the form in which data leaves, and what follows afterwards.
//!
//! Transformations are done on the box before anything leaves. They run in the order of [`Step`],
//! whatever order the contract lists them in, so that the same duties mean the same output:
//! drop, mask, sample, clamp, aggregate, noise, generalise, pseudonymise, delay. A point has at most
//! one transformation of each step; two would contradict each other.

use crate::constraint::{METRES_PER_DEGREE, Period};
use guan_model::{PointName, WallTime};
use std::sync::Arc;
use std::time::Duration;

/// Most edges of a bucket transformation.
pub const BUCKET_EDGES_MAX: usize = 256;
/// Most readings of which `sample` keeps one.
pub const SAMPLE_MAX: u64 = 1 << 32;
/// Longest window of an aggregate.
pub const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Fewest and most different points that a result of a group may ask for.
pub const CONTRIBUTORS_MIN: u64 = 2;
pub const CONTRIBUTORS_MAX: u64 = 1024;
/// Millionths of the privacy parameter epsilon, in which budgets are kept.
pub const MICRO: f64 = 1_000_000.0;

/// The place of a transformation in the fixed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Drop,
    Mask,
    Sample,
    Clamp,
    Aggregate,
    Noise,
    Generalise,
    Pseudonymise,
    Delay,
}

/// What an aggregate gives for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistic {
    Count,
    Min,
    Max,
    Mean,
    /// In percent, by t-digest.
    Percentile(u8),
}

impl Statistic {
    pub const WORDS: [(&'static str, Self); 9] = [
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("p05", Self::Percentile(5)),
        ("p50", Self::Percentile(50)),
        ("p90", Self::Percentile(90)),
        ("p95", Self::Percentile(95)),
        ("p99", Self::Percentile(99)),
    ];
}

/// Windows of one point, or of a group of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    pub window: Duration,
    pub statistic: Statistic,
    /// Fewest readings behind a result.
    pub readings_min: u64,
    pub group: Option<Group>,
}

/// All points that the aggregate covers share their windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The point of the same dataset on which results leave; nothing else leaves on it under the permission.
    pub into: PointName,
    /// Fewest different points behind a result.
    pub contributors_min: u64,
}

/// How noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Laplace,
    /// With the probability delta, in millionths of a millionth, that epsilon does not hold.
    Gaussian {
        delta_pico: u64,
    },
}

/// Noise and what may be spent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Noise {
    pub mechanism: Mechanism,
    /// Spent by every value that leaves, in millionths.
    pub epsilon_micro: u64,
    /// Most that all values together may spend in a period, in millionths.
    pub budget_micro: u64,
    pub period: Period,
}

/// North or east.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    Latitude,
    Longitude,
}

/// Cells of a grid on the ground, as the contract gives them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    pub axis: Axis,
    pub step_m: f64,
    /// Where the cells have this length from west to east; they are shorter nearer to a pole.
    pub reference_latitude: f64,
}

impl Grid {
    pub fn step_degrees(self) -> f64 {
        // A degree of longitude is shorter away from the equator, by the cosine of the latitude.
        let metres = match self.axis {
            Axis::Latitude => METRES_PER_DEGREE,
            Axis::Longitude => METRES_PER_DEGREE * self.reference_latitude.to_radians().cos(),
        };
        self.step_m / metres
    }
}

/// One change of form.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform {
    /// The rows do not leave.
    Drop,
    /// The rows leave without their value.
    Mask,
    /// One of so many rows leaves.
    Sample {
        one_of: u64,
    },
    /// Values are moved into a range.
    Clamp {
        low: f64,
        high: f64,
    },
    /// One row a window leaves, if enough readings stand behind it.
    Aggregate(Aggregate),
    Noise(Noise),
    /// To the nearest multiple.
    Round {
        step: f64,
    },
    /// The lower edge of the bucket; minus infinity below the first edge, and for what compares with none.
    Bucket {
        edges: Arc<[f64]>,
    },
    /// The middle of a cell of a grid on the ground.
    Grid(Grid),
    /// A keyed hash in place of the value.
    Pseudonymise,
    /// The rows leave so much later.
    Delay {
        span: Duration,
    },
}

impl Transform {
    pub fn step(&self) -> Step {
        match self {
            Self::Drop => Step::Drop,
            Self::Mask => Step::Mask,
            Self::Sample { .. } => Step::Sample,
            Self::Clamp { .. } => Step::Clamp,
            Self::Aggregate(_) => Step::Aggregate,
            Self::Noise(_) => Step::Noise,
            Self::Round { .. } | Self::Bucket { .. } | Self::Grid(_) => Step::Generalise,
            Self::Pseudonymise => Step::Pseudonymise,
            Self::Delay { .. } => Step::Delay,
        }
    }

    /// Whether data would tell more without it; the others only thin it out or bring it into bounds.
    pub fn protects(&self) -> bool {
        !matches!(self, Self::Sample { .. } | Self::Clamp { .. })
    }

    /// Of an aggregate whose windows several points share.
    pub fn group(&self) -> Option<&Group> {
        match self {
            Self::Aggregate(aggregate) => aggregate.group.as_ref(),
            _ => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Mask => "mask",
            Self::Sample { .. } => "sample",
            Self::Clamp { .. } => "clamp",
            Self::Aggregate(_) => "aggregate",
            Self::Noise(_) => "noise",
            Self::Round { .. } => "round",
            Self::Bucket { .. } => "bucket",
            Self::Grid(_) => "coarsenPosition",
            Self::Pseudonymise => "pseudonymise",
            Self::Delay { .. } => "delay",
        }
    }
}

/// Names of points: exact, or all below a path that ends in `.*`; `*` is every point.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PointPatterns(Vec<String>);

impl PointPatterns {
    pub fn every() -> Self {
        Self(vec!["*".to_owned()])
    }

    pub fn of(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    pub fn covers(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern_covers(pattern, name))
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Whether a text is a pattern that can be about a point: a name, a path with `.*`, or `*`. Any other
/// `*` would be about nothing, and what protects nothing lets everything go.
pub(crate) fn is_point_pattern(text: &str) -> bool {
    text == "*" || PointName::parse(text.strip_suffix(".*").unwrap_or(text)).is_ok()
}

/// Whether a pattern of the contract is about a point.
pub(crate) fn pattern_covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(path) => name.starts_with(path),
        None => pattern == name,
    }
}

/// A transformation and the points that it is done to.
#[derive(Debug, Clone, PartialEq)]
pub struct Treatment {
    pub points: PointPatterns,
    pub transform: Transform,
    /// JSON pointer into the file that it was read from.
    pub pointer: Arc<str>,
}

/// When a notification is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotifyOn {
    Deny,
    Quota,
    Use,
}

impl NotifyOn {
    pub const WORDS: [(&'static str, Self); 3] =
        [("deny", Self::Deny), ("quota", Self::Quota), ("use", Self::Use)];
}

/// What somebody must do, other than transform.
#[derive(Debug, Clone, PartialEq)]
pub enum Duty {
    /// The consumer's store deletes the data so long after it came.
    DeleteAfter(Duration),
    /// The consumer's store deletes the data by then.
    DeleteBy(WallTime),
    /// The consumer's store keeps the data at least so long.
    Retain(Duration),
    Notify {
        target: Arc<str>,
        on: NotifyOn,
    },
    /// The consumer reports how often the data was used.
    AcknowledgeUse {
        every: Duration,
    },
    /// Decisions stand in the evidence log; the box always does it.
    Log,
    /// The contract's digest goes with the data; the box always does it.
    AttachPolicy,
    /// Payment, by the terms of the contract; metered here, settled elsewhere.
    Compensate,
}

impl Duty {
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeleteAfter(_) | Self::DeleteBy(_) => "delete",
            Self::Retain(_) => "retain",
            Self::Notify { .. } => "notify",
            Self::AcknowledgeUse { .. } => "acknowledgeUse",
            Self::Log => "log",
            Self::AttachPolicy => "policyTransmit",
            Self::Compensate => "compensate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expect: bool| {
            let patterns = PointPatterns::of(vec![pattern.to_owned()]);
            assert_eq!(patterns.covers(name), expect, "{pattern} {name}");
        };
        check("*", "Vessel.Speed", true);
        check("Vessel.*", "Vessel.Speed", true);
        check("Vessel.*", "Vessels.Speed", false);
        check("Vessel.Speed", "Vessel.Speed", true);
        check("Vessel.Speed", "Vessel.Speed.Mean", false);
    }

    #[test]
    fn what_is_a_pattern() {
        for pattern in ["*", "Vessel.*", "Vessel.Speed", "a-b_c.*"] {
            assert!(is_point_pattern(pattern), "{pattern}");
        }
        for pattern in ["", ".*", "*.Speed", "Vessel.*.Speed", "Vessel*", "**", "Vessel.**", "a b"]
        {
            assert!(!is_point_pattern(pattern), "{pattern}");
        }
    }
}
