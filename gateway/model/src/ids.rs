//! Names and numbers that identify things. Each is its own type, so that two cannot be swapped.

use std::fmt;
use std::sync::Arc;

/// Longest name of a box, dataset or contract, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest point name, in bytes (research/field.md, section 9).
pub const POINT_NAME_BYTES_MAX: usize = 128;

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    #[error("{what} is empty; give it 1 to {limit} characters")]
    Empty { what: &'static str, limit: usize },
    #[error("{what} has {length} bytes; the limit is {limit}")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("{what} contains {character:?}; use letters, digits, '.', '-' and '_'")]
    Character { what: &'static str, character: char },
}

fn check_name(what: &'static str, text: &str, limit: usize) -> Result<(), IdFault> {
    if text.is_empty() {
        return Err(IdFault::Empty { what, limit });
    }
    if text.len() > limit {
        return Err(IdFault::TooLong { what, length: text.len(), limit });
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
        Some(character) => Err(IdFault::Character { what, character }),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts ASCII letters, digits, '.', '-' and '_'.
            pub fn parse(text: &str) -> Result<Self, IdFault> {
                check_name($what, text, $limit)?;
                Ok(Self(Arc::from(text)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// Name of one gateway box, unique in its space; it stands in the box's certificate.
    BoxId, "box id", NAME_BYTES_MAX
);
name_type!(
    /// Name of a dataset: the unit that contracts speak of. A point belongs to exactly one.
    DatasetId, "dataset id", NAME_BYTES_MAX
);
name_type!(
    /// Number of a digital contract (数字合约).
    ContractId, "contract id", NAME_BYTES_MAX
);
name_type!(
    /// Dotted path that names a point for people, such as `Vehicle.Speed`.
    PointName, "point name", POINT_NAME_BYTES_MAX
);

/// Longest id of a rule, in bytes.
pub const RULE_ID_BYTES_MAX: usize = 64;

/// Id of a rule within its contract.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// Accepts 1 to [`RULE_ID_BYTES_MAX`] ASCII letters, digits, '.', ':', '-' and '_'.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = (1..=RULE_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
        is_id.then(|| Self(Arc::from(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type!(
    /// Number of a point, stable for the life of the box.
    PointId, u32
);
number_type!(
    /// Number of a stream: a priority class and a lane in it, each with an order of its own.
    StreamId, u16
);
number_type!(
    /// Place of a batch in its stream. Starts at 1 in a new spool; 0 means "before the first".
    BatchSeq, u64
);
number_type!(
    /// Counts starts of the box.
    BootNumber, u32
);

impl StreamId {
    /// Priority classes; class 0 is sent first.
    pub const CLASSES: u16 = 8;
    /// Most lanes of a class. Lane 0 is for what belongs to no contract.
    pub const LANES: u16 = u16::MAX / Self::CLASSES;

    /// The stream of a lane. A class or lane out of range is a bug.
    pub fn of(class: u16, lane: u16) -> Self {
        assert!(class < Self::CLASSES && lane < Self::LANES, "class {class}, lane {lane}");
        Self(lane * Self::CLASSES + class)
    }

    /// The priority class, which is also the number of the class's shared stream.
    pub fn class(self) -> u16 {
        self.0 % Self::CLASSES
    }

    pub fn lane(self) -> u16 {
        self.0 / Self::CLASSES
    }

    /// Lower goes first: by class, lanes of a class side by side.
    pub fn shared(self) -> Self {
        Self(self.class())
    }
}

impl BatchSeq {
    /// Before the first batch of a stream.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 batches outlast the box"))
    }
}

/// Identity of one spool's life. A box whose disk was wiped starts a new one, so that its first
/// batch is not taken for a repetition of an old batch with the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId(pub [u8; 16]);

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(), &str>) {
        let outcome = DatasetId::parse(text).map(|_| ()).map_err(|fault| fault.to_string());
        assert_eq!(outcome, expect.map_err(str::to_owned), "for {text:?}");
    }

    #[test]
    fn names() {
        check("vessel-bus", Ok(()));
        check("", Err("dataset id is empty; give it 1 to 64 characters"));
        check("a b", Err("dataset id contains ' '; use letters, digits, '.', '-' and '_'"));
        check(&"x".repeat(64), Ok(()));
        check(&"x".repeat(65), Err("dataset id has 65 bytes; the limit is 64"));
    }
}
