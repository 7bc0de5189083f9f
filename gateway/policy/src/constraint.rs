//! Conditions of a rule: tests of one operand each, joined by and, or and xone.
//!
//! Every operand is tested at one of three moments. What is fixed by contract and descriptor is
//! decided when the plan is compiled; what belongs to the reading when it is collected; what belongs to
//! the moment of sending when it is released. A rule must be a conjunction of parts that belong to
//! one moment each, else nobody could say what to keep.

pub(crate) mod area;
mod operand;
mod quota;
mod reader;
mod window;
mod writer;

pub use area::{Area, METRES_PER_DEGREE, Position};
pub(crate) use operand::Operand;
pub use operand::{Foreign, Operator, operand_names};
pub use quota::{Period, QuotaKey, QuotaKind, Rate};
pub(crate) use reader::{
    Asked, CONSTRAINTS_MAX, TestReader, check_moments, flat, pattern, read_constraint,
    read_constraints, spend, term,
};
pub use window::TimeWindow;
pub(crate) use writer::{Written, constraint_json, write as write_test};

use crate::interval::Comparison;
use crate::situation::{LinkClass, VehicleState};
use guan_model::descriptor::{Class, Tag};
use guan_model::{ClockQuality, Severity, WallTime};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// When a test can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// By contract and descriptor alone.
    Compile,
    /// By the reading and the state of the box when it came.
    Collect,
    /// By the state of the box when it leaves.
    Release,
}

/// How a name stands to the names of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    AnyOf,
    NoneOf,
    /// The name is a member of a collection, or lies below it in a tree.
    PartOf,
    AllOf,
}

/// Names, sorted, and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTest {
    pub relation: Relation,
    pub names: BTreeSet<String>,
}

/// One question. Every value was checked when the contract was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    Point(NameTest),
    Dataset(NameTest),
    Recipient(NameTest),
    Purpose(NameTest),
    Country(NameTest),
    Class(Comparison, Class),
    Tags(Relation, BTreeSet<Tag>),
    EventTime(Comparison, WallTime),
    Age(Comparison, Duration),
    Place {
        area: Arc<Area>,
        inside: bool,
    },
    Value(Comparison, f64),
    Quality(Comparison, Severity),
    Quota {
        key: QuotaKey,
        comparison: Comparison,
        limit: u64,
    },
    Rate(Rate),
    Consent(bool),
    Vehicle {
        any_of: BTreeSet<VehicleState>,
        is: bool,
    },
    DateTime(Comparison, WallTime),
    Window {
        window: TimeWindow,
        inside: bool,
    },
    Link(LinkClass, bool),
    Attested(Comparison, u8),
    SecureBoot(bool),
    Release(Comparison, ReleaseVersion),
    Clock(Comparison, ClockQuality),
    /// How the data comes, by the codes of TC609-6-2025-14.
    Delivery(NameTest),
    /// What only the node that uses the data can answer; carried to it, and unknown here.
    Elsewhere {
        operand: Foreign,
        operator: Operator,
        values: Vec<String>,
    },
}

/// The code of TC609-6-2025-14 for how this box delivers: as a stream of data.
pub const DELIVERY_METHOD: &str = "02";

/// A version of the box's release, up to four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReleaseVersion(pub [u32; 4]);

impl ReleaseVersion {
    /// `1`, `1.2`, `1.2.3` or `1.2.3.4`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = [0; 4];
        for (place, part) in text.split('.').enumerate() {
            let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *numbers.get_mut(place)? = is_number.then(|| part.parse().ok()).flatten()?;
        }
        Some(Self(numbers))
    }
}

impl Test {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Point(_)
            | Self::Dataset(_)
            | Self::Recipient(_)
            | Self::Purpose(_)
            | Self::Country(_)
            | Self::Class(..)
            | Self::Tags(..)
            | Self::Delivery(_)
            | Self::Elsewhere { .. } => Phase::Compile,
            Self::EventTime(..)
            | Self::Age(..)
            | Self::Place { .. }
            | Self::Value(..)
            | Self::Quality(..)
            | Self::Quota { .. }
            | Self::Rate(_)
            | Self::Consent(_)
            | Self::Vehicle { .. } => Phase::Collect,
            Self::DateTime(..)
            | Self::Window { .. }
            | Self::Link(..)
            | Self::Attested(..)
            | Self::SecureBoot(_)
            | Self::Release(..)
            | Self::Clock(..) => Phase::Release,
        }
    }
}

/// A test and how the contract writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leaf {
    pub test: Test,
    /// Such as `dateTime lteq 2027-01-01T00:00:00Z`, for people.
    pub text: Arc<str>,
    /// JSON pointer into the file that it was read from.
    pub pointer: Arc<str>,
}

/// A tree of tests.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    Test(Leaf),
    And(Vec<Constraint>),
    Or(Vec<Constraint>),
    Xone(Vec<Constraint>),
}

impl Constraint {
    /// Holds always.
    pub fn always() -> Self {
        Self::And(Vec::new())
    }

    pub fn is_always(&self) -> bool {
        matches!(self, Self::And(parts) if parts.is_empty())
    }

    /// The parts that must all hold.
    pub fn conjuncts(&self) -> &[Constraint] {
        match self {
            Self::And(parts) => parts,
            other => std::slice::from_ref(other),
        }
    }

    pub fn leaves(&self) -> Vec<&Leaf> {
        match self {
            Self::Test(leaf) => vec![leaf],
            Self::And(parts) | Self::Or(parts) | Self::Xone(parts) => {
                parts.iter().flat_map(Self::leaves).collect()
            }
        }
    }

    /// The moments, other than compiling, at which its tests can be answered.
    pub fn phases(&self) -> BTreeSet<Phase> {
        let phases = self.leaves().into_iter().map(|leaf| leaf.test.phase());
        phases.filter(|phase| *phase != Phase::Compile).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_versions() {
        let check = |text: &str, expect: Option<[u32; 4]>| {
            assert_eq!(ReleaseVersion::parse(text).map(|version| version.0), expect, "{text:?}");
        };
        check("1.2", Some([1, 2, 0, 0]));
        check("1.2.3.4", Some([1, 2, 3, 4]));
        for wrong in ["", "1.", "1.2.3.4.5", "v1", "1.x", "4294967296"] {
            check(wrong, None);
        }
        assert!(ReleaseVersion::parse("1.10") > ReleaseVersion::parse("1.9.9"));
    }
}
