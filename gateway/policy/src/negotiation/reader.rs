//! JSON to messages and answers: every member is known or the document is refused, all faults noted.
//!
//! Contexts are known by name and never loaded; a foreign one could give our terms another meaning.

use super::answer::{Ack, Answer, Rejection};
use super::message::{
    ADDRESS_BYTES_MAX, Body, CONTEXT, Envelope, MESSAGE_BYTES_MAX, MESSAGE_ID_BYTES_MAX, Message,
    MessageError, Pid, REASONS_MAX, check_text, cut,
};
use super::state::State;
use super::terms::{Signatures, Terms};
use crate::fault::{Faults, Problem, shown};
use crate::json::{self, canonical_json};
use crate::object::{Object, entries};
use serde_json::Value;

/// The contexts that leave our terms as they are.
const CONTEXTS: [&str; 2] = [CONTEXT, "https://w3id.org/dspace/2025/1/odrl-profile.jsonld"];
/// Most contexts of one message.
const CONTEXTS_MAX: usize = 8;

/// Which members a type has besides `@context` and `@type`.
struct Form {
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const PIDS: [&str; 2] = ["consumerPid", "providerPid"];

fn form(wire_type: &str) -> Option<Form> {
    let (required, optional): (&[&str], &[&str]) = match wire_type {
        "ContractRequestMessage" => {
            (&["consumerPid", "offer"], &["providerPid", "callbackAddress"])
        }
        "ContractOfferMessage" => (&["providerPid", "offer"], &["consumerPid", "callbackAddress"]),
        "ContractAgreementMessage" => {
            (&["consumerPid", "providerPid", "agreement"], &["signatures", "callbackAddress"])
        }
        "ContractAgreementVerificationMessage" => (&PIDS, &["signatures"]),
        "ContractNegotiationEventMessage" => (&["consumerPid", "providerPid", "eventType"], &[]),
        "ContractNegotiationTerminationMessage" | "ContractNegotiationError" => {
            (&PIDS, &["code", "reason"])
        }
        "ContractNegotiation" => (&["consumerPid", "providerPid", "state"], &[]),
        _ => return None,
    };
    Some(Form { required, optional })
}

impl Message {
    /// Reads what came over the wire.
    pub fn read(json: &[u8]) -> Result<Self, MessageError> {
        let mut faults = Faults::default();
        let value = document(json, &mut faults);
        let message = value.as_ref().and_then(|value| message(value, &mut faults));
        Ok(faults.finish(message)?)
    }
}

impl Answer {
    /// Reads the body of an answer: an acknowledgement or an error.
    pub fn read(json: &[u8]) -> Result<Self, MessageError> {
        let mut faults = Faults::default();
        let value = document(json, &mut faults);
        let answer = value.as_ref().and_then(|value| answer(value, &mut faults));
        Ok(faults.finish(answer)?)
    }
}

fn document(json: &[u8], faults: &mut Faults) -> Option<Value> {
    if json.len() > MESSAGE_BYTES_MAX {
        faults.add("", Problem::TooLong { length: json.len(), limit: MESSAGE_BYTES_MAX });
        return None;
    }
    json::read(json, faults)
}

/// The object, once its type is known to be one of `types` and its members are those of the type.
fn typed<'v>(
    value: &'v Value,
    types: fn(&str) -> bool,
    known: &'static str,
    faults: &mut Faults,
) -> Option<(&'v str, Object<'v>)> {
    let found = value.get("@type").and_then(Value::as_str).unwrap_or_default();
    let Some(form) = form(found).filter(|_| types(found)) else {
        faults.add("/@type", Problem::UnknownTerm { found: shown(found), known });
        return None;
    };
    let required = [&["@context", "@type"], form.required].concat();
    let optional = [&["@id"], form.optional].concat();
    let object = Object::open_with(value, "", &required, &optional, faults)?;
    contexts(&object, faults);
    Some((found, object))
}

fn contexts(object: &Object<'_>, faults: &mut Faults) {
    let Some(list) = object.members.get("@context") else { return };
    let mut names_protocol = false;
    for (at, value) in entries(list, "/@context", CONTEXTS_MAX, faults) {
        let Some(found) = crate::object::text(value, &at, faults) else { continue };
        names_protocol |= found == CONTEXT;
        if !CONTEXTS.contains(&found) {
            let known = "the contexts of the Dataspace Protocol 2025-1";
            faults.add(&at, Problem::UnknownTerm { found: shown(found), known });
        }
    }
    if !names_protocol {
        faults.add("/@context", Problem::Missing);
    }
}

fn message(value: &Value, faults: &mut Faults) -> Option<Message> {
    let is_message = |name: &str| name.ends_with("Message");
    let known = "a message of a contract negotiation";
    let (wire_type, object) = typed(value, is_message, known, faults)?;
    let envelope = envelope(&object, faults);
    let body = match wire_type {
        "ContractRequestMessage" => {
            either(&object, ["providerPid", "callbackAddress"], faults);
            terms(&object, "offer", &["Offer"], faults).map(Body::Request)
        }
        "ContractOfferMessage" => {
            either(&object, ["consumerPid", "callbackAddress"], faults);
            terms(&object, "offer", &["Offer"], faults).map(Body::Offer)
        }
        "ContractAgreementMessage" => {
            let signatures = signatures(&object, faults);
            terms(&object, "agreement", &["Agreement"], faults)
                .map(|terms| Body::Agreement { terms, signatures })
        }
        "ContractAgreementVerificationMessage" => {
            Some(Body::Verification(signatures(&object, faults)))
        }
        "ContractNegotiationEventMessage" => object.member("eventType").and_then(|member| {
            let events = [("ACCEPTED", true), ("FINALIZED", false)];
            let is_accepted = member.word(&events, "ACCEPTED or FINALIZED", faults)?;
            Some(if is_accepted { Body::Accepted } else { Body::Finalized })
        }),
        _ => {
            let (code, reasons) = reasons(&object, faults);
            Some(Body::Termination { code, reasons })
        }
    };
    // The canonical form is made only of what was read whole.
    if !faults.is_empty() {
        return None;
    }
    Some(Message::received(envelope, body?, canonical_json(value)))
}

fn answer(value: &Value, faults: &mut Faults) -> Option<Answer> {
    let is_answer =
        |name: &str| ["ContractNegotiation", "ContractNegotiationError"].contains(&name);
    let known = "ContractNegotiation or ContractNegotiationError";
    let (wire_type, object) = typed(value, is_answer, known, faults)?;
    let Envelope { consumer_pid, provider_pid, .. } = envelope(&object, faults);
    if wire_type == "ContractNegotiationError" {
        let (code, reasons) = reasons(&object, faults);
        return Some(Answer::Refused(Some(Rejection { code, reasons })));
    }
    let state = object.text("state", faults).and_then(|found| {
        let state = State::from_name(found);
        if state.is_none() {
            let known = "a state such as REQUESTED";
            faults.add("/state", Problem::UnknownTerm { found: shown(found), known });
        }
        state
    });
    let (consumer_pid, provider_pid) = (consumer_pid?, provider_pid?);
    Some(Answer::Accepted(Some(Ack { consumer_pid, provider_pid, state: state? })))
}

fn envelope(object: &Object<'_>, faults: &mut Faults) -> Envelope {
    let mut pid = |key: &str| object.name(key, Pid::parse, faults);
    let (consumer_pid, provider_pid) = (pid("consumerPid"), pid("providerPid"));
    let mut text = |key: &str, what: &'static str, limit: usize| {
        object.name(key, |text| check_text(what, text, limit).map(|()| text.to_owned()), faults)
    };
    let id = text("@id", "message id", MESSAGE_ID_BYTES_MAX);
    let callback = text("callbackAddress", "address", ADDRESS_BYTES_MAX);
    Envelope { id, consumer_pid, provider_pid, callback }
}

/// The first message of a negotiation brings an address, each later one the other end's pid.
fn either(object: &Object<'_>, keys: [&str; 2], faults: &mut Faults) {
    if !keys.iter().any(|key| object.members.contains_key(*key)) {
        faults.add(&object.at(keys[1]), Problem::Missing);
    }
}

fn terms(object: &Object<'_>, key: &str, types: &[&str], faults: &mut Faults) -> Option<Terms> {
    let member = object.member(key)?;
    Terms::of(member.value, &member.pointer, types, faults)
}

fn signatures(object: &Object<'_>, faults: &mut Faults) -> Signatures {
    object.member("signatures").map_or_else(Signatures::none, |member| {
        Signatures::of(member.value, &member.pointer, faults)
    })
}

/// Reasons may have any form; a text is kept as it is, anything else as JSON. Long ones are cut, for
/// an end must not depend on how it is explained.
fn reasons(object: &Object<'_>, faults: &mut Faults) -> (Option<String>, Vec<String>) {
    let code = object.text("code", faults).map(cut);
    let Some(list) = object.member("reason") else { return (code, Vec::new()) };
    let entries = entries(list.value, &list.pointer, usize::MAX, faults);
    let text = |(_, value): (String, &Value)| match value {
        Value::String(text) => cut(text),
        other => cut(&String::from_utf8_lossy(&canonical_json(other))),
    };
    (code, entries.into_iter().take(REASONS_MAX).map(text).collect())
}
