//! The document: DCAT 3 in JSON-LD with compact terms, in an envelope that the box signs.
//!
//! Quality is `dqv:QualityMeasurement`, offers are `odrl:Offer` of our profile, included once and referred to by
//! their ids. `configs/catalogue/context.jsonld` maps the terms; nobody loads it to read a document here, and
//! what a document names as its context is never fetched. There is one way to write a catalogue: a document
//! that differs from what its content is written as is refused, with the first place that differs.

mod read;
mod write;

use guan_policy::envelope::Envelope;
use serde_json::Value;

/// Name of the context that maps our terms.
pub const CONTEXT: &str = "urn:guankou:catalogue:1:context";
/// The context itself.
pub const CONTEXT_FILE: &str = include_str!("../../../configs/catalogue/context.jsonld");
pub const PROFILE: &str = "urn:guankou:catalogue:1";
/// What the space exports.
const MEDIA_TYPE: &str = "application/vnd.apache.parquet";
const SERVICE_ID: &str = "_:space";
const ENVELOPE: Envelope = Envelope {
    domain: b"guan-catalogue/1\n",
    body: "catalogue",
    schema: 1,
    bytes_max: crate::catalogue::CATALOGUE_BYTES_MAX,
};

pub use read::read;
pub use write::{body, write};

/// The counts and bounds beside the shares.
const READINGS: &str = "readings";
const REFUSED: &str = "refused";
const DELAY_P50: &str = "delayP50Ms";
const DELAY_P99: &str = "delayP99Ms";
const TIMELY_WITHIN: &str = "timelyWithinMs";

/// JSON pointer to the first place at which two values differ.
fn first_difference(a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.filter_map(|key| {
                let rest = match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => first_difference(a, b),
                    _ => Some(String::new()),
                }?;
                Some(guan_policy::fault::child("", key) + &rest)
            })
            .next()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(at, (a, b))| Some(format!("/{at}{}", first_difference(a, b)?)))
        }
        (a, b) => (a != b).then(String::new),
    }
}

#[cfg(test)]
pub(crate) mod tests;
