//! What a message is answered with: an acknowledgement with the state reached, or an error.
//!
//! An error changes no state at the end that gives it.

use super::message::{CONTEXT, Pid, put_reasons};
use super::state::{MessageKind, Role, State};
use crate::json::canonical_json;
use serde_json::{Map, Value, json};

/// The message led to this state; asked again with the same message, the answer is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub consumer_pid: Pid,
    pub provider_pid: Pid,
    pub state: State,
}

impl Ack {
    pub fn pid(&self, role: Role) -> &Pid {
        match role {
            Role::Consumer => &self.consumer_pid,
            Role::Provider => &self.provider_pid,
        }
    }

    /// A `ContractNegotiation`, also the answer to whoever asks for the state.
    pub fn to_json(&self) -> Vec<u8> {
        let put = |members: &mut Map<String, Value>| {
            members.insert("state".to_owned(), json!(self.state.name()));
        };
        document("ContractNegotiation", &self.consumer_pid, &self.provider_pid, put)
    }
}

/// Why a message is not followed. The sender is to blame, or the two ends differ about the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "{message} of the {sender} must not come in {}; {}",
        state_name(*.state), may_send(*.sender, .allowed)
    )]
    IllegalTransition {
        state: Option<State>,
        sender: Role,
        message: MessageKind,
        allowed: Vec<MessageKind>,
    },
    #[error(
        "the message names {found:?} as the negotiation of the {role}, this one is {expected:?}; \
         send it to the right negotiation"
    )]
    OtherNegotiation { role: Role, found: String, expected: String },
    #[error("{limit} proposals were made, which is the limit; accept the last one or terminate")]
    TooManyProposals { limit: u32 },
}

impl Refusal {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::IllegalTransition { .. } => "illegal-transition",
            Self::OtherNegotiation { .. } => "other-negotiation",
            Self::TooManyProposals { .. } => "too-many-proposals",
        }
    }
}

pub(super) fn state_name(state: Option<State>) -> &'static str {
    state.map_or("a negotiation that has not begun", State::name)
}

pub(super) fn may_send(sender: Role, allowed: &[MessageKind]) -> String {
    if allowed.is_empty() {
        return format!("the {sender} may send nothing; begin a new negotiation");
    }
    let names: Vec<&str> = allowed.iter().map(|message| message.name()).collect();
    format!("the {sender} may send {}", names.join(" or "))
}

/// An error as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub code: Option<String>,
    pub reasons: Vec<String>,
}

impl From<&Refusal> for Rejection {
    fn from(refusal: &Refusal) -> Self {
        Self { code: Some(refusal.code().to_owned()), reasons: vec![refusal.to_string()] }
    }
}

impl Rejection {
    /// A `ContractNegotiationError`.
    pub fn to_json(&self, consumer_pid: &Pid, provider_pid: &Pid) -> Vec<u8> {
        document("ContractNegotiationError", consumer_pid, provider_pid, |members| {
            let mut put = |key: &str, value: Value| {
                members.insert(key.to_owned(), value);
            };
            put_reasons(&mut put, self.code.as_deref(), &self.reasons);
        })
    }
}

/// What the other end said to a message of ours. Bindings may acknowledge without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Accepted(Option<Ack>),
    Refused(Option<Rejection>),
}

fn document(
    wire_type: &str,
    consumer_pid: &Pid,
    provider_pid: &Pid,
    put: impl FnOnce(&mut Map<String, Value>),
) -> Vec<u8> {
    let mut members = Map::new();
    for (key, value) in [
        ("@context", json!([CONTEXT])),
        ("@type", json!(wire_type)),
        ("consumerPid", json!(consumer_pid.as_str())),
        ("providerPid", json!(provider_pid.as_str())),
    ] {
        members.insert(key.to_owned(), value);
    }
    put(&mut members);
    canonical_json(&Value::Object(members))
}
