//! The words of TC609-6-2025-14 in one place: actions, constraints, states, and where the document
//! disagrees with itself. Reader, writer and `guan contract vocabulary` take them from here.

use crate::action::Action;
use crate::constraint::{Foreign, Operand};
use crate::duty::{Duty, Transform};
use crate::fault::{Faults, Problem};
use crate::object::{Member, Object};

/// A word that the document spells or types in more than one way.
#[derive(Debug, Clone, Copy)]
pub struct Spelling {
    /// As we write it.
    pub written: &'static str,
    /// As it is read, too.
    pub also: &'static [&'static str],
    /// Where the spellings stand: tables and sections of TC609-6-2025-14, unless another is named.
    pub sources: &'static str,
}

const fn spelling(
    written: &'static str,
    also: &'static [&'static str],
    sources: &'static str,
) -> Spelling {
    Spelling { written, also, sources }
}

/// Every member of a contract that has two names.
pub const MEMBERS: [Spelling; 16] = [
    spelling("expansionItem", &["contractExpansionItem"], "C.1 row 13; B.5 row 6"),
    spelling("contractPolicies", &["strategy"], "C.2 row 1; B.4, B.5, B.6 row 3"),
    spelling("createTime", &["issueTime"], "C.1 row 5; B.3 row 3"),
    spelling("signTime", &["signatoryTime"], "C.1 row 10; B.4 row 4.3, B.5 row 5"),
    spelling("endTime", &["indate"], "B.3 row 5; C.1 row 12"),
    spelling("signatoryEntityId", &["entityId"], "C.1 row 7, B.5 row 4.1; B.4 row 4.1"),
    spelling("signatorytype", &["signatoryType"], "C.1 row 9; case of all other members"),
    spelling("providerNodeId", &["assignerId"], "B.4 row 3.2.1; C.3 row 1"),
    spelling("providerNodeName", &["assignerName"], "B.4 row 3.2.2; C.3 row 2"),
    spelling("consumerNodeId", &["assigneeId"], "B.4 row 3.2.3; C.3 row 3"),
    spelling("consumerNodeName", &["assigneeName"], "B.4 row 3.2.4; C.3 row 4"),
    spelling("policyExpansion", &["expansionItem"], "B.4 row 3.5; C.3 row 5, C.4 row 5"),
    spelling("permissionPolicies", &[], "C.2 row 2"),
    spelling("prohibitionPolicies", &[], "C.2 row 3"),
    spelling("obligationPolicies", &[], "C.2 row 4"),
    spelling("activationTime", &[], "B.3 row 4; 6.2.1 row 10 takes the time of signing for it"),
];

/// Values that are written in two ways. Each is read in both.
pub const VALUES: [Spelling; 9] = [
    spelling("plicyTransmit", &["policyTransmit"], "C.5 row 14; the Chinese word of table 4"),
    spelling("dateRecord", &["dataRecord"], "C.6 row 9; the Chinese word of table 5.1"),
    spelling("01..12", &["eq..neq"], "B.4 row 3.4.2; table 5.2, annex D"),
    spelling(
        "2026-11-24T00:00:00Z",
        &["20261124080000", "2026-11-24 08:00:00"],
        "B.3, table 5.1; C.1, C.6 row 1; annex D",
    ),
    spelling("07 (isAnyOf)", &["05 (isA)"], "table 5.2; annex D uses isA for lists"),
    spelling("10000 \u{6b21}/\u{5929}", &["10000 and timeWindow eq P1D"], "annex D; C.6 row 6"),
    spelling("\"10000\"", &["10000", "[\"a\", \"b\"]"], "B.4 row 3.4.3 has texts; C.6 types them"),
    spelling("{..}", &["\"{..}\""], "C.1, C.3 type extensions as objects; B.4, B.5, C.2 as texts"),
    spelling("02", &["02\u{ff1a}label"], "C.6 rows 15 to 17; annex D"),
];

/// The member with a name that the table knows, in whichever spelling.
pub(super) fn member<'v>(
    object: &Object<'v>,
    written: &'static str,
    faults: &mut Faults,
) -> Option<Member<'v>> {
    let mut found: Option<(&'static str, Member<'v>)> = None;
    for name in names(written) {
        let Some(member) = object.member(name) else { continue };
        if let Some((first, _)) = &found {
            faults.add(&member.pointer, Problem::TwoSpellings { first, second: name });
        } else {
            found = Some((name, member));
        }
    }
    found.map(|(_, member)| member)
}

/// All names of a member, the one that is written first.
pub(super) fn names(written: &'static str) -> impl Iterator<Item = &'static str> {
    let row = MEMBERS.iter().find(|row| row.written == written);
    let also = row.map_or(&[][..], |row| row.also);
    std::iter::once(written).chain(also.iter().copied())
}

/// What a word of table C.5 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Something that the consumer or the box may do.
    Act(Action),
    /// A form that data must have before it is used: by one of these transformations. The same
    /// word in a prohibition is an action, if it is one of ours.
    Form(Form),
    /// Something that must be done. The same word in a prohibition is an action.
    Due(Due),
}

/// Which transformations a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Transform,
    Anonymize,
    Desensitize,
}

/// Which duties a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    AttachPolicy,
    Log,
    Delete,
    Alert,
    Compensate,
}

/// Table C.5, rows 1 to 20 in order, and `export` of annex D.
pub(super) const ACTIONS: [(&str, Word); 21] = [
    ("transform", Word::Form(Form::Transform)),
    ("anonymize", Word::Form(Form::Anonymize)),
    ("desensitize", Word::Form(Form::Desensitize)),
    ("access", Word::Act(Action::Access)),
    ("read", Word::Act(Action::Read)),
    ("reproduce", Word::Act(Action::Reproduce)),
    ("storage", Word::Act(Action::Store)),
    ("download", Word::Act(Action::Download)),
    ("process", Word::Act(Action::Process)),
    ("jointDevelop", Word::Act(Action::JointDevelop)),
    ("distribute", Word::Act(Action::Distribute)),
    ("compute", Word::Act(Action::Compute)),
    ("grantUse", Word::Act(Action::GrantUse)),
    ("plicyTransmit", Word::Due(Due::AttachPolicy)),
    ("delivery", Word::Act(Action::Deliver)),
    ("sell", Word::Act(Action::Sell)),
    ("logRecordSend", Word::Due(Due::Log)),
    ("delete", Word::Due(Due::Delete)),
    ("alert", Word::Due(Due::Alert)),
    ("compensate", Word::Due(Due::Compensate)),
    ("export", Word::Act(Action::Export)),
];

impl Word {
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = if text == "policyTransmit" { "plicyTransmit" } else { text };
        ACTIONS.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
    }

    pub(super) fn text(self) -> &'static str {
        let row = ACTIONS.iter().find(|(_, meaning)| *meaning == self);
        row.expect("every meaning is in the table").0
    }

    /// What a prohibition forbids with this word.
    pub(super) fn forbidden(self) -> Option<Action> {
        match self {
            Self::Act(action) => Some(action),
            Self::Form(Form::Anonymize) => Some(Action::Anonymize),
            Self::Due(Due::Delete) => Some(Action::Delete),
            Self::Due(Due::AttachPolicy) => Some(Action::PolicyTransmit),
            Self::Form(_) | Self::Due(_) => None,
        }
    }

    pub(super) fn of_transform(transform: &Transform) -> Self {
        Self::Form(match transform {
            Transform::Aggregate(_) | Transform::Noise(_) => Form::Anonymize,
            Transform::Sample { .. } | Transform::Clamp { .. } | Transform::Delay { .. } => {
                Form::Transform
            }
            Transform::Drop
            | Transform::Mask
            | Transform::Round { .. }
            | Transform::Bucket { .. }
            | Transform::Grid(_)
            | Transform::Pseudonymise => Form::Desensitize,
        })
    }

    /// `None`: the document has no word for it.
    pub(super) fn of_duty(duty: &Duty) -> Option<Self> {
        Some(Self::Due(match duty {
            Duty::DeleteAfter(_) | Duty::DeleteBy(_) => Due::Delete,
            Duty::Notify { .. } => Due::Alert,
            Duty::Log => Due::Log,
            Duty::AttachPolicy => Due::AttachPolicy,
            Duty::Compensate => Due::Compensate,
            Duty::Retain(_) | Duty::AcknowledgeUse { .. } => return None,
        }))
    }
}

/// What a name of table C.6 asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Time,
    TimeWindow,
    Region,
    Frequency,
    /// A test of ours whose value is an amount.
    Amount(Operand),
    /// A test of ours with the same values.
    Same(Operand),
    Foreign(Foreign),
    /// A constraint in our profile of ODRL.
    Extension,
}

/// Table C.6, rows 1 to 19 in order. The names of annex D that are actions are not among them.
pub(super) const CONSTRAINTS: [(&str, Name); 19] = [
    ("time", Name::Time),
    ("timeWindow", Name::TimeWindow),
    ("region", Name::Region),
    ("networkAddress", Name::Foreign(Foreign::NetworkAddress)),
    ("physicalAddress", Name::Foreign(Foreign::PhysicalAddress)),
    ("count", Name::Amount(Operand::Count)),
    ("frequency", Name::Frequency),
    ("dataSize", Name::Amount(Operand::DataSize)),
    ("dateRecord", Name::Amount(Operand::Count)),
    ("dataField", Name::Same(Operand::Point)),
    ("valueExpression", Name::Same(Operand::Value)),
    ("application", Name::Foreign(Foreign::Application)),
    ("algorithm", Name::Foreign(Foreign::Algorithm)),
    ("machineLearningModels", Name::Foreign(Foreign::MachineLearningModels)),
    ("executionEnv", Name::Foreign(Foreign::ExecutionEnv)),
    ("encryptMode", Name::Foreign(Foreign::EncryptMode)),
    ("deliveryMethod", Name::Same(Operand::Delivery)),
    ("payAmount", Name::Foreign(Foreign::PayAmount)),
    ("expansionItem", Name::Extension),
];

impl Name {
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = if text == "dataRecord" { "dateRecord" } else { text };
        CONSTRAINTS.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning)
    }
}

/// States of a contract (table C.1 row 4). 04 is not in the document, and so no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Initiated,
    Negotiating,
    Signing,
    Signed,
    SigningFailed,
    Performing,
    Ended,
}

impl Status {
    /// Code, state, and its names in Chinese and English.
    pub const TABLE: [(&'static str, Self, &'static str, &'static str); 7] = [
        ("01", Self::Initiated, "\u{53d1}\u{8d77}", "initiated"),
        ("02", Self::Negotiating, "\u{534f}\u{5546}", "negotiating"),
        ("03", Self::Signing, "\u{7b7e}\u{8ba2}", "signing"),
        ("0301", Self::Signed, "\u{7b7e}\u{8ba2}\u{6210}\u{529f}", "signed"),
        ("0302", Self::SigningFailed, "\u{7b7e}\u{8ba2}\u{5931}\u{8d25}", "signing failed"),
        ("05", Self::Performing, "\u{5c65}\u{884c}\u{4e2d}", "performing"),
        ("06", Self::Ended, "\u{7ec8}\u{6b62}", "ended"),
    ];

    pub fn from_code(code: &str) -> Option<Self> {
        Self::TABLE.iter().find(|(own, ..)| *own == code).map(|(_, status, ..)| *status)
    }

    pub fn code(self) -> &'static str {
        let row = Self::TABLE.iter().find(|(_, status, ..)| *status == self);
        row.expect("every state is in the table").0
    }

    /// Whether a contract in this state can be in force, now or later.
    pub fn can_grant(self) -> bool {
        !matches!(self, Self::SigningFailed | Self::Ended)
    }
}

/// The words of table C.5, without the one of annex D.
pub fn action_words() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().take(20).map(|(word, _)| *word)
}

/// The words of table C.6, without the extension.
pub fn constraint_words() -> impl Iterator<Item = &'static str> {
    CONSTRAINTS.iter().take(18).map(|(word, _)| *word)
}
