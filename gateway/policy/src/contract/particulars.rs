//! What TC609-6-2025-14 lets a contract say beside its terms: names, descriptions, nodes of execution.
//!
//! Carried between the forms so that nothing gets lost, signed with the rest; decides nothing.

use super::reader::plain_name;
use super::tds::value::is_moment;
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object};
use guan_model::DatasetId;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Longest name, in characters.
pub(super) const NAME_CHARS_MAX: usize = 128;
/// Longest description, in characters.
pub(super) const SUMMARY_CHARS_MAX: usize = 1024;

/// One of the two sides.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Side {
    /// Of the party.
    pub(crate) name: Option<String>,
    /// Which connector executes the contract for it, unless it bears the name of the party.
    pub(crate) node: Option<String>,
    pub(crate) node_name: Option<String>,
}

/// What is said of a data product beside its id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Product {
    pub(crate) name: Option<String>,
    pub(crate) summary: Option<String>,
    /// Whose it is, unless the provider's.
    pub(crate) owner: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Particulars {
    pub(crate) summary: Option<String>,
    /// As written: without a zone it names no moment.
    pub(crate) created: Option<String>,
    /// Agreed through a platform, not between the parties alone.
    pub(crate) by_platform: bool,
    pub(crate) provider: Side,
    pub(crate) consumer: Side,
    pub(crate) products: BTreeMap<DatasetId, Product>,
}

/// How a contract was agreed, in TC609-6-2025-14; `true` through a platform.
pub(super) const SIGN_MODES: [(&str, bool); 2] = [("01", false), ("02", true)];

impl Particulars {
    /// `None` if they say nothing; what says only what is so anyway is left out.
    pub(super) fn settled(mut self, provider: &str, consumer: &str) -> Option<Self> {
        for (side, party) in [(&mut self.provider, provider), (&mut self.consumer, consumer)] {
            if side.node.as_deref() == Some(party) {
                side.node = None;
            }
        }
        for product in self.products.values_mut() {
            if product.owner.as_deref() == Some(provider) {
                product.owner = None;
            }
        }
        self.products.retain(|_, product| *product != Product::default());
        (self != Self::default()).then_some(self)
    }

    /// The member of the ODRL form.
    pub(super) fn read(member: &Member<'_>, faults: &mut Faults) -> Option<Self> {
        const KEYS: [&str; 6] =
            ["summary", "created", "signMode", "assigner", "assignee", "products"];
        let object = Object::open_with(member.value, &member.pointer, &[], &KEYS, faults)?;
        let mut found = Self {
            summary: object.member("summary").and_then(|m| text(&m, SUMMARY_CHARS_MAX, faults)),
            created: object.member("created").and_then(|m| created(&m, faults)),
            ..Self::default()
        };
        if let Some(mode) = object.member("signMode") {
            found.by_platform = sign_mode(&mode, faults)?;
        }
        if let Some(member) = object.member("assigner") {
            found.provider = side(&member, faults)?;
        }
        if let Some(member) = object.member("assignee") {
            found.consumer = side(&member, faults)?;
        }
        if let Some(member) = object.member("products") {
            for member in member.one_or_many(super::DATASETS_MAX, faults) {
                let (dataset, product) = product(&member, faults)?;
                found.products.insert(dataset, product);
            }
        }
        Some(found)
    }

    /// Products that the contract is not about cannot be described by it.
    pub(super) fn check(&self, datasets: &BTreeSet<DatasetId>, at: &str, faults: &mut Faults) {
        for dataset in self.products.keys().filter(|dataset| !datasets.contains(dataset)) {
            let (found, known) = (shown(dataset.as_str()), "a dataset of the contract");
            faults.add(at, Problem::UnknownTerm { found, known });
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            value.map(|value| out.insert(key.to_owned(), value));
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        put("summary", text(&self.summary));
        put("created", text(&self.created));
        put("signMode", self.by_platform.then(|| json!("02")));
        for (key, side) in [("assigner", &self.provider), ("assignee", &self.consumer)] {
            let members =
                [("name", &side.name), ("node", &side.node), ("nodeName", &side.node_name)];
            put(key, object(members, Map::new()));
        }
        let products: Vec<Value> = self
            .products
            .iter()
            .filter_map(|(dataset, one)| {
                let id = Map::from_iter([("dataset".to_owned(), json!(dataset.as_str()))]);
                object([("name", &one.name), ("summary", &one.summary), ("owner", &one.owner)], id)
            })
            .collect();
        put("products", (!products.is_empty()).then(|| json!(products)));
        Value::Object(out)
    }
}

fn object(members: [(&str, &Option<String>); 3], mut out: Map<String, Value>) -> Option<Value> {
    for (key, value) in members {
        value.as_ref().map(|value| out.insert(key.to_owned(), json!(value)));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn side(member: &Member<'_>, faults: &mut Faults) -> Option<Side> {
    let keys = ["name", "node", "nodeName"];
    let object = Object::open_with(member.value, &member.pointer, &[], &keys, faults)?;
    Some(Side {
        name: object.member("name").and_then(|m| text(&m, NAME_CHARS_MAX, faults)),
        node: object.member("node").and_then(|_| object.name("node", plain_name, faults)),
        node_name: object.member("nodeName").and_then(|m| text(&m, NAME_CHARS_MAX, faults)),
    })
}

fn product(member: &Member<'_>, faults: &mut Faults) -> Option<(DatasetId, Product)> {
    let keys = ["name", "summary", "owner"];
    let object = Object::open_with(member.value, &member.pointer, &["dataset"], &keys, faults)?;
    let dataset = object.name("dataset", DatasetId::parse, faults)?;
    let product = Product {
        name: object.member("name").and_then(|m| text(&m, NAME_CHARS_MAX, faults)),
        summary: object.member("summary").and_then(|m| text(&m, SUMMARY_CHARS_MAX, faults)),
        owner: object.member("owner").and_then(|_| object.name("owner", plain_name, faults)),
    };
    Some((dataset, product))
}

/// A text of so many characters; an empty one says nothing.
pub(super) fn text(member: &Member<'_>, chars_max: usize, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    let length = text.chars().count();
    if length > chars_max {
        faults.add(&member.pointer, Problem::TooManyCharacters { length, limit: chars_max });
    }
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn created(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    if !is_moment(text) {
        faults.add(&member.pointer, Problem::Time { found: shown(text) });
    }
    Some(text.to_owned())
}

pub(super) fn sign_mode(member: &Member<'_>, faults: &mut Faults) -> Option<bool> {
    let known = "01 (between the parties) or 02 (through a platform)";
    member.word(&SIGN_MODES, known, faults)
}
