//! JSON in texts. The interface tables type members as texts that the dictionary types as objects, so
//! both are read: a text is parsed as strictly as the file, and faults in it are placed in it.

use crate::contract::PROFILE;
use crate::fault::{Faults, child};
use crate::json;
use serde_json::{Map, Value};

/// Members that one table of the document types as text and another as object.
const FOLDED: [&str; 5] =
    ["contractPolicies", "strategy", "policyExpansion", "expansionItem", "contractExpansionItem"];

/// The value with texts of JSON in place of which stands the JSON. What is ours is left as it is.
pub(super) fn unfold(value: &Value, pointer: &str, faults: &mut Faults) -> Value {
    match value {
        Value::Array(values) => {
            let values = values.iter().enumerate();
            let at = |place: usize| child(pointer, &place.to_string());
            Value::Array(values.map(|(place, one)| unfold(one, &at(place), faults)).collect())
        }
        Value::Object(members) => {
            let mut out = Map::new();
            for (key, value) in members {
                let at = child(pointer, key);
                let value = match value {
                    Value::String(text) if FOLDED.contains(&key.as_str()) => {
                        parse(text, &at, faults)
                    }
                    own if key == PROFILE => own.clone(),
                    other => unfold(other, &at, faults),
                };
                out.insert(key.clone(), value);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// Texts in the text stay texts: what is folded twice is no form of the document.
fn parse(text: &str, pointer: &str, faults: &mut Faults) -> Value {
    let mut inner = Faults::default();
    let value = json::read(text.as_bytes(), &mut inner).unwrap_or(Value::Null);
    faults.absorb(pointer, inner);
    match value {
        // A whole list of policies may hold further texts.
        Value::Object(_) => {
            let mut unfolded = Map::new();
            for (key, value) in value.as_object().into_iter().flatten() {
                let is_list = value.is_array() && key != PROFILE;
                let at = child(pointer, key);
                let value = if is_list { unfold(value, &at, faults) } else { value.clone() };
                unfolded.insert(key.clone(), value);
            }
            Value::Object(unfolded)
        }
        other => other,
    }
}
