//! What can be done with data: the actions of ODRL 2.2 and TC609-6-2025-14 that a contract may name.
//!
//! The box itself performs `collect`, `store` and `deliver`; all others bind the consumer and are
//! carried to it unchanged. ODRL's hierarchy holds: `use` includes everything but `transfer`, and
//! `transfer` includes `sell` and `give`.

/// One action. The order is the bit in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    Use,
    Transfer,
    Collect,
    Store,
    Deliver,
    Access,
    Read,
    Write,
    Modify,
    Delete,
    Reproduce,
    Download,
    Print,
    Display,
    Distribute,
    Export,
    Process,
    Compute,
    Aggregate,
    Anonymize,
    Derive,
    JointDevelop,
    GrantUse,
    PolicyTransmit,
    Index,
    Execute,
    Sell,
    Give,
}

/// Actions, their names in our profile and ODRL, and how TC609-6-2025-14 spells them.
const NAMES: [(Action, &str, &[&str]); 28] = [
    (Action::Use, "use", &[]),
    (Action::Transfer, "transfer", &[]),
    (Action::Collect, "collect", &[]),
    (Action::Store, "store", &["storage"]),
    (Action::Deliver, "deliver", &["delivery"]),
    (Action::Access, "access", &[]),
    (Action::Read, "read", &[]),
    (Action::Write, "write", &[]),
    (Action::Modify, "modify", &[]),
    (Action::Delete, "delete", &[]),
    (Action::Reproduce, "reproduce", &[]),
    (Action::Download, "download", &[]),
    (Action::Print, "print", &[]),
    (Action::Display, "display", &[]),
    (Action::Distribute, "distribute", &[]),
    (Action::Export, "export", &[]),
    (Action::Process, "process", &[]),
    (Action::Compute, "compute", &[]),
    (Action::Aggregate, "aggregate", &[]),
    (Action::Anonymize, "anonymize", &[]),
    (Action::Derive, "derive", &[]),
    (Action::JointDevelop, "jointDevelop", &[]),
    (Action::GrantUse, "grantUse", &[]),
    (Action::PolicyTransmit, "policyTransmit", &["plicyTransmit"]),
    (Action::Index, "index", &[]),
    (Action::Execute, "execute", &[]),
    (Action::Sell, "sell", &[]),
    (Action::Give, "give", &[]),
];

impl Action {
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(action, ..)| *action)
    }

    pub fn name(self) -> &'static str {
        let row = NAMES.iter().find(|(action, ..)| *action == self);
        row.expect("every action is in the table").1
    }

    /// Also takes the other spellings of the published texts.
    pub fn from_name(name: &str) -> Option<Self> {
        let row = NAMES.iter().find(|(_, own, others)| *own == name || others.contains(&name));
        row.map(|(action, ..)| *action)
    }

    fn bit(self) -> u32 {
        1 << self as u8
    }

    /// The action and what it includes.
    fn closure(self) -> u32 {
        let transfers = Self::Transfer.bit() | Self::Sell.bit() | Self::Give.bit();
        match self {
            Self::Use => Self::all().fold(0, |bits, action| bits | action.bit()) & !transfers,
            Self::Transfer => transfers,
            other => other.bit(),
        }
    }
}

/// The actions that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionSet {
    named: u32,
    covered: u32,
}

impl ActionSet {
    pub fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        let mut set = Self::default();
        for action in actions {
            set.named |= action.bit();
            set.covered |= action.closure();
        }
        set
    }

    /// Whether the rule is about an action, by name or through one that includes it.
    pub fn covers(self, action: Action) -> bool {
        self.covered & action.bit() != 0
    }

    /// Whether a prohibition of these stops an action. As `covers`, and delivery is a transfer and
    /// distributes: whoever forbids these does not want it. A permission of them grants no delivery.
    pub fn forbids(self, action: Action) -> bool {
        let wider: &[Action] = match action {
            Action::Deliver => &[Action::Transfer, Action::Distribute],
            _ => &[],
        };
        self.covers(action) || self.covers_any(wider)
    }

    pub fn covers_any(self, actions: &[Action]) -> bool {
        actions.iter().any(|action| self.covers(*action))
    }

    pub fn is_empty(self) -> bool {
        self.named == 0
    }

    /// As they were named.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::all().filter(move |action| self.named & action.bit() != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_back_to_themselves() {
        for (place, action) in Action::all().enumerate() {
            assert_eq!(Action::from_name(action.name()), Some(action));
            assert_eq!(action as usize, place);
        }
        assert_eq!(Action::from_name("plicyTransmit"), Some(Action::PolicyTransmit));
        assert_eq!(Action::from_name("Use"), None);
    }

    fn check(rule: &[Action], asked: Action, expect: bool) {
        let set = ActionSet::of(rule.iter().copied());
        assert_eq!(set.covers(asked), expect, "{rule:?} and {asked:?}");
    }

    /// Cases 010, 014 and 017 of the ODRL test suite rest on this.
    #[test]
    fn use_includes_all_but_transfers() {
        check(&[Action::Use], Action::Read, true);
        check(&[Action::Use], Action::Deliver, true);
        check(&[Action::Use], Action::Sell, false);
        check(&[Action::Use], Action::Transfer, false);
        check(&[Action::Transfer], Action::Sell, true);
        check(&[Action::Transfer], Action::Read, false);
        check(&[Action::Read], Action::Use, false);
        check(&[], Action::Read, false);
        check(&[Action::Use, Action::Transfer], Action::Give, true);
    }

    #[test]
    fn prohibitions_of_what_delivery_is_stop_it() {
        let check = |rule: &[Action], asked: Action, expect: bool| {
            let set = ActionSet::of(rule.iter().copied());
            assert_eq!(set.forbids(asked), expect, "{rule:?} and {asked:?}");
        };
        for stops in [Action::Deliver, Action::Use, Action::Transfer, Action::Distribute] {
            check(&[stops], Action::Deliver, true);
        }
        for other in [Action::Sell, Action::Give, Action::Read, Action::Store] {
            check(&[other], Action::Deliver, false);
        }
        check(&[Action::Transfer], Action::Read, false);
        check(&[Action::Deliver], Action::Transfer, false);
    }
}
