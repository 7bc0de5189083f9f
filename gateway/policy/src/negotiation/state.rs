//! States of a negotiation and the only steps between them (Dataspace Protocol 2025-1, section 7).
//!
//! One table is the whole law: what is not in it is illegal. FINALIZED and TERMINATED have no row of
//! their own, so nothing leaves them.

use std::fmt;

/// Which end of a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Wants the data.
    Consumer,
    /// Has the data.
    Provider,
}

impl Role {
    pub fn other(self) -> Self {
        match self {
            Self::Consumer => Self::Provider,
            Self::Provider => Self::Consumer,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a negotiation stands. A state is reached when the other end has acknowledged the message that
/// leads to it; only TERMINATED may be entered alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Requested,
    Offered,
    Accepted,
    Agreed,
    Verified,
    Finalized,
    Terminated,
}

impl State {
    pub const ALL: [Self; 7] = [
        Self::Requested,
        Self::Offered,
        Self::Accepted,
        Self::Agreed,
        Self::Verified,
        Self::Finalized,
        Self::Terminated,
    ];

    /// As it is written on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Offered => "OFFERED",
            Self::Accepted => "ACCEPTED",
            Self::Agreed => "AGREED",
            Self::Verified => "VERIFIED",
            Self::Finalized => "FINALIZED",
            Self::Terminated => "TERMINATED",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Finalized | Self::Terminated)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a message asks for. The two events are kinds of their own, for each has its own sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    Request,
    Offer,
    Accepted,
    Agreement,
    Verification,
    Finalized,
    Termination,
}

impl MessageKind {
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Offer,
        Self::Accepted,
        Self::Agreement,
        Self::Verification,
        Self::Finalized,
        Self::Termination,
    ];

    /// For people: the message's type, and the event's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "ContractRequestMessage",
            Self::Offer => "ContractOfferMessage",
            Self::Accepted => "ContractNegotiationEventMessage ACCEPTED",
            Self::Agreement => "ContractAgreementMessage",
            Self::Verification => "ContractAgreementVerificationMessage",
            Self::Finalized => "ContractNegotiationEventMessage FINALIZED",
            Self::Termination => "ContractNegotiationTerminationMessage",
        }
    }

    /// Whether it puts new terms on the table.
    pub fn is_proposal(self) -> bool {
        matches!(self, Self::Request | Self::Offer)
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From, sender, message, to. `None` is before the first message.
const STEPS: [(Option<State>, Role, MessageKind, State); 9] = {
    use {MessageKind as M, Role as R, State as S};
    [
        (None, R::Consumer, M::Request, S::Requested),
        (None, R::Provider, M::Offer, S::Offered),
        (Some(S::Requested), R::Provider, M::Offer, S::Offered),
        (Some(S::Requested), R::Provider, M::Agreement, S::Agreed),
        (Some(S::Offered), R::Consumer, M::Request, S::Requested),
        (Some(S::Offered), R::Consumer, M::Accepted, S::Accepted),
        (Some(S::Accepted), R::Provider, M::Agreement, S::Agreed),
        (Some(S::Agreed), R::Consumer, M::Verification, S::Verified),
        (Some(S::Verified), R::Provider, M::Finalized, S::Finalized),
    ]
};

/// Where a message of `sender` leads, or `None` if it must not come now.
pub fn next_state(from: Option<State>, sender: Role, message: MessageKind) -> Option<State> {
    if message == MessageKind::Termination {
        // Either end, whenever there is something left to end.
        return from.filter(|state| !state.is_terminal()).map(|_| State::Terminated);
    }
    let step =
        STEPS.iter().find(|(state, by, kind, _)| (*state, *by, *kind) == (from, sender, message));
    step.map(|(.., to)| *to)
}

/// What `sender` may send now.
pub fn allowed(from: Option<State>, sender: Role) -> Vec<MessageKind> {
    let all = MessageKind::ALL.into_iter();
    all.filter(|message| next_state(from, sender, *message).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a state, `-` before the first message: the table as the protocol's diagram has it.
    fn reach(from: Option<State>) -> String {
        let mut out = String::new();
        for role in [Role::Consumer, Role::Provider] {
            for message in allowed(from, role) {
                let to = next_state(from, role, message).unwrap();
                out.push_str(&format!("{}:{} ", &role.name()[..1], to.name()));
            }
        }
        out.trim_end().to_owned()
    }

    #[test]
    fn steps() {
        let check = |from, expect: &str| assert_eq!(reach(from), expect, "from {from:?}");
        check(None, "c:REQUESTED p:OFFERED");
        check(Some(State::Requested), "c:TERMINATED p:OFFERED p:AGREED p:TERMINATED");
        check(Some(State::Offered), "c:REQUESTED c:ACCEPTED c:TERMINATED p:TERMINATED");
        check(Some(State::Accepted), "c:TERMINATED p:AGREED p:TERMINATED");
        check(Some(State::Agreed), "c:VERIFIED c:TERMINATED p:TERMINATED");
        check(Some(State::Verified), "c:TERMINATED p:FINALIZED p:TERMINATED");
        check(Some(State::Finalized), "");
        check(Some(State::Terminated), "");
    }

    #[test]
    fn in_each_state_one_end_has_the_turn() {
        for from in State::ALL {
            let turns = [Role::Consumer, Role::Provider].into_iter().filter(|role| {
                allowed(Some(from), *role).iter().any(|m| *m != MessageKind::Termination)
            });
            assert_eq!(turns.count(), usize::from(!from.is_terminal()), "in {from}");
        }
    }

    #[test]
    fn names() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("requested"), None);
    }
}
