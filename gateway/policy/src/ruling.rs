//! The four verdicts of TC609-6-2025-15, 7.1.2.3, in which decisions are told to people.
//!
//! Never here: how a decision is made; `plan` and `decision` make it.

use crate::contract::{Contract, Rule};
use crate::decision::DenyReason;
use crate::duty::{Duty, Treatment};
use std::fmt;

/// What became of a reading, in the words of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ruling {
    /// It leaves as it is.
    Allow,
    /// It leaves in another form, when something asked at leaving holds, or for something in return.
    Conditional,
    /// A prohibition forbids it.
    Deny,
    /// No permission lets it go.
    DefaultDeny,
}

impl Ruling {
    pub const ALL: [Self; 4] = [Self::Allow, Self::Conditional, Self::Deny, Self::DefaultDeny];

    pub fn english(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Conditional => "conditional allow",
            Self::Deny => "deny",
            Self::DefaultDeny => "default deny",
        }
    }

    pub fn chinese(self) -> &'static str {
        match self {
            Self::Allow => "\u{5141}\u{8bb8}",
            Self::Conditional => "\u{6709}\u{6761}\u{4ef6}\u{5141}\u{8bb8}",
            Self::Deny => "\u{62d2}\u{7edd}",
            Self::DefaultDeny => "\u{9ed8}\u{8ba4}\u{62d2}\u{7edd}",
        }
    }

    /// Of rows that do not leave as such. What a permission's own form leaves out, or takes into a
    /// window, was allowed on the condition of that form.
    pub fn of_refusal(reason: &DenyReason) -> Self {
        match reason {
            DenyReason::Prohibited { .. } => Self::Deny,
            DenyReason::Dropped { .. } | DenyReason::Absorbed { .. } => Self::Conditional,
            DenyReason::NoContract
            | DenyReason::NotYetValid { .. }
            | DenyReason::Expired { .. }
            | DenyReason::PointNotCovered { .. }
            | DenyReason::OtherDescriptors
            | DenyReason::NotPermitted { .. } => Self::DefaultDeny,
        }
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.chinese(), self.english())
    }
}

impl Contract {
    /// The verdict when a permission of this contract lets readings of a point go.
    pub fn ruling(&self, permission: &str, point: &str) -> Ruling {
        let rule = self.rules().iter().find(|rule| &*rule.id == permission);
        match rule.is_some_and(|rule| has_conditions(rule, point)) {
            true => Ruling::Conditional,
            false => Ruling::Allow,
        }
    }
}

fn has_conditions(rule: &Rule, point: &str) -> bool {
    use crate::constraint::Phase;
    let is_result =
        |one: &Treatment| one.transform.group().is_some_and(|group| group.into.as_str() == point);
    let changes_form = rule.treatments.iter().any(|one| one.points.covers(point) || is_result(one));
    // The box does these two for every reading.
    let asks = |duty: &Duty| !matches!(duty, Duty::Log | Duty::AttachPolicy);
    let waits = rule.constraint.phases().contains(&Phase::Release);
    changes_form || waits || rule.duties.iter().any(asks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::odrl::tests::agreement;
    use guan_model::ContractId;
    use serde_json::{Value, json};

    #[test]
    fn the_four_verdicts() {
        let check = |constraint: Value, duty: Value, point: &str, expect: Ruling| {
            let mut object = agreement();
            object["permission"] = json!([{"uid": "p", "action": "deliver", "duty": duty,
                "constraint": [{"leftOperand": "quality", "operator": "eq", "rightOperand": "good"},
                    constraint]}]);
            let contract = Contract::draft(object.to_string().as_bytes()).unwrap();
            assert_eq!(contract.ruling("p", point), expect, "{object}");
        };
        let value = || json!({"leftOperand": "value", "operator": "lt", "rightOperand": 5});
        let link = json!({"leftOperand": "link", "operator": "eq", "rightOperand": "unmetered"});
        let log = || json!([{"action": "log"}]);
        let refined = |action: &str, name: &str, value: &str| {
            json!([{"action": action, "refinement": [
                {"leftOperand": name, "operator": "eq", "rightOperand": value}]}])
        };
        check(value(), log(), "A.x", Ruling::Allow);
        check(link, log(), "A.x", Ruling::Conditional);
        check(value(), refined("mask", "dataField", "A.*"), "A.x", Ruling::Conditional);
        check(value(), refined("mask", "dataField", "A.*"), "B.x", Ruling::Allow);
        check(value(), refined("delete", "after", "P30D"), "A.x", Ruling::Conditional);
        let contract = ContractId::parse("C").unwrap();
        let refused = |reason: DenyReason| Ruling::of_refusal(&reason);
        let rule = std::sync::Arc::from("f");
        let prohibited = DenyReason::Prohibited { contract: contract.clone(), rule };
        assert_eq!(refused(prohibited), Ruling::Deny);
        assert_eq!(refused(DenyReason::NoContract), Ruling::DefaultDeny);
        assert_eq!(refused(DenyReason::Dropped { contract }), Ruling::Conditional);
        let texts = Ruling::ALL.map(|ruling| ruling.to_string());
        let expect =
            ["允许 allow", "有条件允许 conditional allow", "拒绝 deny", "默认拒绝 default deny"];
        assert_eq!(texts, expect);
    }
}
