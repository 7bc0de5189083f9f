//! What is negotiated about: an offer or an agreement as an ODRL object, and signatures of an agreement.
//!
//! Read strictly and kept in canonical form; what it means is not asked here.

use super::message::MessageError;
use crate::contract::{CONTRACT_BYTES_MAX, CONTRACT_SCHEMA, SIGNATURES_MAX};
use crate::fault::{Faults, Problem};
use crate::json::{self, DEPTH_MAX, canonical_json};
use crate::object::{Object, entries};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest list of signatures, in bytes; sixteen of ours have 3 KiB.
pub(super) const SIGNATURES_BYTES_MAX: usize = 16 * 1024;
/// Members in which an agreement may differ from the offer that it came from.
const OF_THE_ACT: [&str; 3] = ["@id", "@type", "timestamp"];
/// The parties: an offer need not name them.
const PARTIES: [&str; 2] = ["assigner", "assignee"];

/// An offer or an agreement.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms(Arc<Value>);

impl Terms {
    /// Reads a bare contract object, such as `Contract::draft` takes.
    pub fn read(json: &[u8]) -> Result<Self, MessageError> {
        let mut faults = Faults::default();
        let value = match json.len() {
            length if length > CONTRACT_BYTES_MAX => {
                faults.add("", Problem::TooLong { length, limit: CONTRACT_BYTES_MAX });
                None
            }
            _ => json::read(json, &mut faults),
        };
        let terms =
            value.and_then(|value| Self::of(&value, "", &["Offer", "Agreement"], &mut faults));
        Ok(faults.finish(terms)?)
    }

    /// The object at a place of a message; it leaves one level of nesting to the message.
    pub(super) fn of(
        value: &Value,
        pointer: &str,
        types: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        let Some(members) = value.as_object() else {
            crate::object::add_type(value, pointer, "an object", faults);
            return None;
        };
        let object = Object { pointer: pointer.to_owned(), members };
        for key in ["@id", "@type"].into_iter().filter(|key| !members.contains_key(*key)) {
            faults.add(&object.at(key), Problem::Missing);
        }
        object.text("@id", faults)?;
        let found = object.text("@type", faults)?;
        if !types.contains(&found.strip_prefix("odrl:").unwrap_or(found)) {
            let known = "Offer in a request or an offer, Agreement in an agreement";
            let found = crate::fault::shown(found);
            faults.add(&object.at("@type"), Problem::UnknownTerm { found, known });
        }
        if depth(value) >= DEPTH_MAX {
            faults.add(pointer, Problem::TooDeep { limit: DEPTH_MAX - 1 });
        }
        let length = canonical_json(value).len();
        if length > CONTRACT_BYTES_MAX {
            faults.add(pointer, Problem::TooLong { length, limit: CONTRACT_BYTES_MAX });
        }
        Some(Self(Arc::new(value.clone())))
    }

    /// Canonical bytes, for `Contract::draft`.
    pub fn to_json(&self) -> Vec<u8> {
        canonical_json(&self.0)
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    pub(super) fn is_agreement(&self) -> bool {
        let kind = self.0.get("@type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.ends_with("Agreement"))
    }

    /// The same, as an agreement.
    #[must_use]
    pub fn to_agreement(&self) -> Self {
        self.with_type("Agreement")
    }

    /// The same, as an offer.
    #[must_use]
    pub fn to_offer(&self) -> Self {
        self.with_type("Offer")
    }

    fn with_type(&self, name: &str) -> Self {
        let mut object = Value::clone(&self.0);
        object["@type"] = json!(name);
        Self(Arc::new(object))
    }

    /// Whether an agreement grants what was offered: all is equal but its id, its type and its moment.
    pub fn agree_with(&self, offer: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.0.as_object(), offer.0.as_object()) else {
            return false;
        };
        let all = ours.keys().chain(theirs.keys());
        all.filter(|key| !OF_THE_ACT.contains(&key.as_str())).all(|key| {
            match (ours.get(key), theirs.get(key)) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => PARTIES.contains(&key.as_str()),
            }
        })
    }
}

/// How deep lists and objects nest.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Signatures of the agreed contract, as they stand in a contract file. The protocol knows none: they
/// are a member of our own beside the agreement, and beside its verification.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signatures(Vec<Value>);

impl Signatures {
    pub fn none() -> Self {
        Self::default()
    }

    /// The signatures of a contract file, such as [`crate::sign`] makes it.
    pub fn of_file(json: &[u8]) -> Result<Self, MessageError> {
        let mut faults = Faults::default();
        let file = json::read(json, &mut faults);
        let signatures = file.as_ref().and_then(|file| {
            let list = file.get("signatures");
            if list.is_none() {
                faults.add("/signatures", Problem::Missing);
            }
            Some(Self::of(list?, "/signatures", &mut faults))
        });
        Ok(faults.finish(signatures)?)
    }

    pub(super) fn of(list: &Value, pointer: &str, faults: &mut Faults) -> Self {
        let entries = entries(list, pointer, SIGNATURES_MAX, faults);
        for (at, entry) in &entries {
            if !entry.is_object() {
                crate::object::add_type(entry, at, "an object", faults);
            }
        }
        let signatures = Self(entries.into_iter().map(|(_, entry)| entry.clone()).collect());
        let length = canonical_json(&signatures.value()).len();
        if length > SIGNATURES_BYTES_MAX {
            faults.add(pointer, Problem::TooLong { length, limit: SIGNATURES_BYTES_MAX });
        }
        signatures
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn value(&self) -> Value {
        Value::Array(self.0.clone())
    }

    /// The contract file of an agreement with the signatures of both ends, for `Contract::parse`.
    pub(super) fn file(&self, others: &Self, agreement: &Terms) -> Vec<u8> {
        let mut all = self.0.clone();
        all.extend(others.0.iter().filter(|entry| !self.0.contains(entry)).cloned());
        canonical_json(&json!({
            "schema": CONTRACT_SCHEMA, "contract": agreement.value(), "signatures": all,
        }))
    }
}
