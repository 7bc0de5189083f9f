//! The seven messages of a negotiation and how they are written.
//!
//! A message that exists has a canonical form that [`Message::read`] takes: what this end sends, an
//! equal program can read. Its digest is its identity: equal messages have equal digests.

use super::state::{MessageKind, Role};
use super::terms::{Signatures, Terms};
use crate::contract::CONTRACT_BYTES_MAX;
use crate::fault::{ContractError, ContractFault};
use crate::json::canonical_json;
use guan_model::{Digest, IdFault};
use serde_json::{Map, Value, json};
use std::fmt;

/// The JSON-LD context of every message.
pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";
/// Largest message: a contract, sixteen signatures and the envelope.
pub const MESSAGE_BYTES_MAX: usize = CONTRACT_BYTES_MAX + 32 * 1024;
/// Longest id of a negotiation, in bytes.
pub(super) const PID_BYTES_MAX: usize = 256;
/// Longest id of a message: a pid and a number.
pub(super) const MESSAGE_ID_BYTES_MAX: usize = PID_BYTES_MAX + 16;
/// Longest address, in bytes.
pub(super) const ADDRESS_BYTES_MAX: usize = 1024;
/// Most reasons of a termination or an error.
pub(super) const REASONS_MAX: usize = 8;
/// Longest reason that is kept, in characters.
pub(super) const REASON_CHARS_MAX: usize = 256;

/// How one end names a negotiation: an IRI of its own choice, never used again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pid(String);

impl Pid {
    pub fn parse(text: &str) -> Result<Self, IdFault> {
        check_text("pid", text, PID_BYTES_MAX).map(|()| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names and addresses: not empty, not endless, no space and nothing invisible.
pub(super) fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), IdFault> {
    if text.is_empty() {
        return Err(IdFault::Empty { what, limit });
    }
    if text.len() > limit {
        return Err(IdFault::TooLong { what, length: text.len(), limit });
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(character) => Err(IdFault::Character { what, character }),
        None => Ok(()),
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Request(Terms),
    Offer(Terms),
    Accepted,
    Agreement { terms: Terms, signatures: Signatures },
    Verification(Signatures),
    Finalized,
    Termination { code: Option<String>, reasons: Vec<String> },
}

impl Body {
    pub fn kind(&self) -> MessageKind {
        match self {
            Self::Request(_) => MessageKind::Request,
            Self::Offer(_) => MessageKind::Offer,
            Self::Accepted => MessageKind::Accepted,
            Self::Agreement { .. } => MessageKind::Agreement,
            Self::Verification(_) => MessageKind::Verification,
            Self::Finalized => MessageKind::Finalized,
            Self::Termination { .. } => MessageKind::Termination,
        }
    }

    fn wire_type(&self) -> &'static str {
        match self {
            Self::Accepted | Self::Finalized => "ContractNegotiationEventMessage",
            other => other.kind().name(),
        }
    }
}

/// The envelope: who speaks of which negotiation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Envelope {
    /// Tells a message from an equal one that was sent before.
    pub(super) id: Option<String>,
    pub(super) consumer_pid: Option<Pid>,
    pub(super) provider_pid: Option<Pid>,
    /// Where the sender takes messages; only in the first message of a negotiation.
    pub(super) callback: Option<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub(super) envelope: Envelope,
    pub(super) body: Body,
    canonical: Vec<u8>,
}

impl Message {
    pub(super) fn new(envelope: Envelope, body: Body) -> Self {
        let canonical = canonical_json(&value(&envelope, &body));
        Self { envelope, body, canonical }
    }

    pub(super) fn received(envelope: Envelope, body: Body, canonical: Vec<u8>) -> Self {
        Self { envelope, body, canonical }
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    pub fn kind(&self) -> MessageKind {
        self.body.kind()
    }

    /// The negotiation's name at one end; missing in a first message for the end that is to choose it.
    pub fn pid(&self, role: Role) -> Option<&Pid> {
        match role {
            Role::Consumer => self.envelope.consumer_pid.as_ref(),
            Role::Provider => self.envelope.provider_pid.as_ref(),
        }
    }

    pub fn callback(&self) -> Option<&str> {
        self.envelope.callback.as_deref()
    }

    /// The bytes for the wire.
    pub fn to_json(&self) -> &[u8] {
        &self.canonical
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical)
    }
}

fn value(envelope: &Envelope, body: &Body) -> Value {
    let mut members = Map::new();
    let mut put = |key: &str, value: Value| {
        members.insert(key.to_owned(), value);
    };
    put("@context", json!([CONTEXT]));
    put("@type", json!(body.wire_type()));
    let Envelope { id, consumer_pid, provider_pid, callback } = envelope;
    for (key, text) in [
        ("@id", id.as_deref()),
        ("consumerPid", consumer_pid.as_ref().map(Pid::as_str)),
        ("providerPid", provider_pid.as_ref().map(Pid::as_str)),
        ("callbackAddress", callback.as_deref()),
    ] {
        if let Some(text) = text {
            put(key, json!(text));
        }
    }
    match body {
        Body::Request(terms) | Body::Offer(terms) => put("offer", terms.value().clone()),
        Body::Agreement { terms, signatures } => {
            put("agreement", terms.value().clone());
            put_signatures(&mut put, signatures);
        }
        Body::Verification(signatures) => put_signatures(&mut put, signatures),
        Body::Accepted => put("eventType", json!("ACCEPTED")),
        Body::Finalized => put("eventType", json!("FINALIZED")),
        Body::Termination { code, reasons } => put_reasons(&mut put, code.as_deref(), reasons),
    }
    Value::Object(members)
}

fn put_signatures(put: &mut impl FnMut(&str, Value), signatures: &Signatures) {
    if !signatures.is_empty() {
        put("signatures", signatures.value());
    }
}

pub(super) fn put_reasons(
    put: &mut impl FnMut(&str, Value),
    code: Option<&str>,
    reasons: &[String],
) {
    if let Some(code) = code {
        put("code", json!(code));
    }
    if !reasons.is_empty() {
        put("reason", json!(reasons));
    }
}

/// Cuts what people wrote to what is kept of it.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// Why a document is no message, or cannot be put into one: at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageError {
    pub faults: Vec<ContractFault>,
    /// There were more faults than are listed.
    pub truncated: bool,
}

impl From<ContractError> for MessageError {
    fn from(error: ContractError) -> Self {
        Self { faults: error.faults, truncated: error.truncated }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is refused")?;
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        if self.truncated { f.write_str("\n  and more") } else { Ok(()) }
    }
}

impl std::error::Error for MessageError {}
