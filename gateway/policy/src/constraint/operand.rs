//! The operands and operators that a constraint may name, with their spellings.

/// The twelve operators of ODRL 2.2; the numbers are TC609-6-2025-14's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Operator {
    Eq = 1,
    Gt = 2,
    Gteq = 3,
    HasPart = 4,
    IsA = 5,
    IsAllOf = 6,
    IsAnyOf = 7,
    IsNoneOf = 8,
    IsPartOf = 9,
    Lt = 10,
    Lteq = 11,
    Neq = 12,
}

const OPERATORS: [(&str, Operator); 12] = [
    ("eq", Operator::Eq),
    ("gt", Operator::Gt),
    ("gteq", Operator::Gteq),
    ("hasPart", Operator::HasPart),
    ("isA", Operator::IsA),
    ("isAllOf", Operator::IsAllOf),
    ("isAnyOf", Operator::IsAnyOf),
    ("isNoneOf", Operator::IsNoneOf),
    ("isPartOf", Operator::IsPartOf),
    ("lt", Operator::Lt),
    ("lteq", Operator::Lteq),
    ("neq", Operator::Neq),
];

impl Operator {
    pub fn all() -> impl Iterator<Item = Self> {
        OPERATORS.iter().map(|(_, operator)| *operator)
    }

    pub fn name(self) -> &'static str {
        let row = OPERATORS.iter().find(|(_, operator)| *operator == self);
        row.expect("every operator is in the table").0
    }

    pub fn from_name(name: &str) -> Option<Self> {
        OPERATORS.iter().find(|(own, _)| *own == name).map(|(_, operator)| *operator)
    }

    /// Two digits, `01` to `12`.
    pub fn code(self) -> String {
        format!("{:02}", self as u8)
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::all().find(|operator| operator.code() == code)
    }
}

/// What a constraint asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operand {
    Point,
    Dataset,
    Recipient,
    Purpose,
    Country,
    Class,
    Tag,
    EventTime,
    Age,
    Spatial,
    Value,
    Quality,
    Count,
    DataSize,
    Rate,
    Consent,
    VehicleState,
    DateTime,
    TimeWindow,
    Link,
    Attested,
    SecureBoot,
    Release,
    Clock,
    Delivery,
}

/// Operand, its name in ODRL or our profile, and other spellings that are taken for it.
const OPERANDS: [(Operand, &str, &[&str]); 25] = [
    (Operand::Point, "dataField", &["point"]),
    (Operand::Dataset, "dataset", &[]),
    (Operand::Recipient, "recipient", &[]),
    (Operand::Purpose, "purpose", &[]),
    (Operand::Country, "recipientCountry", &[]),
    (Operand::Class, "grade", &["class"]),
    (Operand::Tag, "tag", &[]),
    (Operand::EventTime, "eventTime", &[]),
    (Operand::Age, "age", &[]),
    (Operand::Spatial, "spatial", &["region"]),
    (Operand::Value, "value", &["valueExpression"]),
    (Operand::Quality, "quality", &[]),
    (Operand::Count, "count", &["dataRecord", "dateRecord"]),
    (Operand::DataSize, "dataSize", &[]),
    (Operand::Rate, "rate", &["frequency"]),
    (Operand::Consent, "consent", &[]),
    (Operand::VehicleState, "vehicleState", &[]),
    (Operand::DateTime, "dateTime", &["time"]),
    (Operand::TimeWindow, "timeWindow", &[]),
    (Operand::Link, "link", &["uplink"]),
    (Operand::Attested, "attested", &[]),
    (Operand::SecureBoot, "secureBoot", &[]),
    (Operand::Release, "releaseMin", &["release"]),
    (Operand::Clock, "clockQuality", &["clockTrusted"]),
    (Operand::Delivery, "deliveryMethod", &[]),
];

impl Operand {
    pub(crate) fn name(self) -> &'static str {
        let row = OPERANDS.iter().find(|(operand, ..)| *operand == self);
        row.expect("every operand is in the table").1
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let row = OPERANDS.iter().find(|(_, own, others)| *own == name || others.contains(&name));
        row.map(|(operand, ..)| *operand)
    }
}

/// What TC609-6-2025-14 lets a constraint ask and only the node that uses the data can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Foreign {
    NetworkAddress,
    PhysicalAddress,
    Application,
    Algorithm,
    MachineLearningModels,
    ExecutionEnv,
    EncryptMode,
    PayAmount,
}

/// Operand, its name, its longest value in characters, and how many codes it has if it has codes.
const FOREIGN: [(Foreign, &str, usize, u8); 8] = [
    (Foreign::NetworkAddress, "networkAddress", 45, 0),
    (Foreign::PhysicalAddress, "physicalAddress", 20, 0),
    (Foreign::Application, "application", 1024, 0),
    (Foreign::Algorithm, "algorithm", 1024, 0),
    (Foreign::MachineLearningModels, "machineLearningModels", 1024, 0),
    (Foreign::ExecutionEnv, "executionEnv", 2, 7),
    (Foreign::EncryptMode, "encryptMode", 2, 3),
    (Foreign::PayAmount, "payAmount", 128, 0),
];

impl Foreign {
    pub fn all() -> impl Iterator<Item = Self> {
        FOREIGN.iter().map(|(operand, ..)| *operand)
    }

    fn row(self) -> &'static (Self, &'static str, usize, u8) {
        let row = FOREIGN.iter().find(|(operand, ..)| *operand == self);
        row.expect("every operand is in the table")
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub fn from_name(name: &str) -> Option<Self> {
        FOREIGN.iter().find(|(_, own, ..)| *own == name).map(|(operand, ..)| *operand)
    }

    /// Whether its values are codes.
    pub(crate) fn has_codes(self) -> bool {
        self.row().3 > 0
    }

    /// Whether a constraint may compare with this.
    pub(crate) fn takes(self, value: &str) -> bool {
        let (_, _, chars_max, codes) = *self.row();
        let is_code = || (1..=codes).any(|code| format!("{code:02}") == value);
        match codes {
            0 => !value.is_empty() && value.chars().count() <= chars_max,
            _ => is_code(),
        }
    }
}

/// The names of all operands that are decided on the box.
pub fn operand_names() -> impl Iterator<Item = &'static str> {
    OPERANDS.iter().map(|(_, name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_back_to_themselves() {
        for operator in Operator::all() {
            assert_eq!(Operator::from_name(operator.name()), Some(operator));
            assert_eq!(Operator::from_code(&operator.code()), Some(operator));
        }
        for name in operand_names() {
            assert_eq!(Operand::from_name(name).map(Operand::name), Some(name));
        }
        for foreign in Foreign::all() {
            assert_eq!(Foreign::from_name(foreign.name()), Some(foreign));
            assert!(Operand::from_name(foreign.name()).is_none(), "two readings of one name");
        }
        assert_eq!(Operator::from_name("EQ"), None);
        assert_eq!(Operator::from_code("1"), None);
    }

    #[test]
    fn values_of_foreign_operands() {
        let check = |foreign: Foreign, value: &str, expect: bool| {
            assert_eq!(foreign.takes(value), expect, "{foreign:?} {value:?}");
        };
        check(Foreign::ExecutionEnv, "07", true);
        check(Foreign::ExecutionEnv, "08", false);
        check(Foreign::ExecutionEnv, "00", false);
        check(Foreign::EncryptMode, "3", false);
        check(Foreign::PhysicalAddress, &"a".repeat(20), true);
        check(Foreign::PhysicalAddress, &"a".repeat(21), false);
        check(Foreign::Algorithm, &"\u{7b97}".repeat(1024), true);
        check(Foreign::Algorithm, "", false);
    }
}
