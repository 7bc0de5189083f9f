//! JSON to contract: every term is known or the file is refused, and all faults are noted.

use super::{
    CONTRACT_BYTES_MAX, CONTRACT_SCHEMA, Contract, DATASETS_MAX, POINTS_NAMED_MAX, Points,
    SIGNATURES_MAX,
};
use crate::fault::{Faults, Problem, child, shown};
use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{ContractId, DatasetId, Digest, IdFault, PointName, WallTime};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A contract file, its signatures not yet checked.
pub(crate) struct Document {
    /// `None` if the contract object has faults.
    pub(crate) contract: Option<Contract>,
    /// The contract object as JSON, and its canonical bytes.
    pub(crate) object: Value,
    pub(crate) canonical: Vec<u8>,
    pub(crate) signatures: Vec<SignatureEntry>,
}

/// One entry of the list of signatures.
pub(crate) struct SignatureEntry {
    pub(crate) pointer: String,
    pub(crate) party: String,
    pub(crate) key_id: String,
    pub(crate) signature: [u8; 64],
}

/// Reads a file. Without `whole`, the bare contract object will do, too.
pub(crate) fn read_document(bytes: &[u8], whole: bool, faults: &mut Faults) -> Option<Document> {
    if bytes.len() > CONTRACT_BYTES_MAX {
        let limit = CONTRACT_BYTES_MAX;
        faults.add("", Problem::TooLong { length: bytes.len(), limit });
        return None;
    }
    let value = json::read(bytes, faults)?;
    if !whole && value.get("contract").is_none() {
        return Some(document(value, "", Vec::new(), faults));
    }
    let Object { members, .. } =
        Object::open(&value, "", &["schema", "contract", "signatures"], faults)?;
    let schema = members.get("schema").and_then(Value::as_i64);
    if members.contains_key("schema") && schema != Some(CONTRACT_SCHEMA) {
        let found = members["schema"].to_string();
        faults.add("/schema", Problem::UnknownTerm { found: shown(&found), known: "1" });
    }
    let signatures = members.get("signatures").map_or_else(Vec::new, |list| {
        let entries = entries(list, "/signatures", SIGNATURES_MAX, faults);
        entries.iter().filter_map(|(at, entry)| signature(entry, at, faults)).collect()
    });
    let object = members.get("contract")?.clone();
    Some(document(object, "/contract", signatures, faults))
}

fn document(
    object: Value,
    pointer: &str,
    signatures: Vec<SignatureEntry>,
    faults: &mut Faults,
) -> Document {
    let canonical = json::canonical_json(&object);
    let contract = contract(&object, pointer, Digest::of(&canonical), faults);
    Document { contract, object, canonical, signatures }
}

/// An object with exactly the known keys.
struct Object<'v> {
    pointer: String,
    members: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    /// Notes unknown and missing keys; `None` if the value is no object.
    fn open(value: &'v Value, pointer: &str, known: &[&str], faults: &mut Faults) -> Option<Self> {
        let Some(members) = value.as_object() else {
            add_type(value, pointer, "an object", faults);
            return None;
        };
        for key in members.keys().filter(|key| !known.contains(&key.as_str())) {
            faults.add(&child(pointer, key), Problem::UnknownKey);
        }
        for key in known.iter().filter(|key| !members.contains_key(**key)) {
            faults.add(&child(pointer, key), Problem::Missing);
        }
        Some(Self { pointer: pointer.to_owned(), members })
    }

    fn at(&self, key: &str) -> String {
        child(&self.pointer, key)
    }

    fn text(&self, key: &str, faults: &mut Faults) -> Option<&'v str> {
        text(self.members.get(key)?, &self.at(key), faults)
    }

    fn name<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, IdFault>,
        faults: &mut Faults,
    ) -> Option<T> {
        name(self.members.get(key)?, &self.at(key), parse, faults)
    }

    /// A list of names without repetitions.
    fn names<T: Ord>(
        &self,
        key: &str,
        limit: usize,
        parse: impl Fn(&str) -> Result<T, IdFault>,
        faults: &mut Faults,
    ) -> Option<BTreeSet<T>> {
        let mut names = BTreeSet::new();
        for (at, value) in entries(self.members.get(key)?, &self.at(key), limit, faults) {
            let Some(parsed) = name(value, &at, &parse, faults) else { continue };
            if !names.insert(parsed) {
                let found = shown(value.as_str().unwrap_or_default());
                faults.add(&at, Problem::Duplicate { found });
            }
        }
        Some(names)
    }

    fn nonempty<T>(
        &self,
        key: &str,
        names: Option<BTreeSet<T>>,
        faults: &mut Faults,
    ) -> Option<BTreeSet<T>> {
        let is_empty_list = self.members.get(key)?.as_array().is_some_and(Vec::is_empty);
        if is_empty_list {
            faults.add(&self.at(key), Problem::Empty);
        }
        names
    }

    fn time(&self, key: &str, faults: &mut Faults) -> Option<WallTime> {
        let text = self.text(key, faults)?;
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| text.ends_with('Z'));
        let nanos = moment.and_then(|moment| i64::try_from(moment.unix_timestamp_nanos()).ok());
        if nanos.is_none() {
            faults.add(&self.at(key), Problem::Time { found: shown(text) });
        }
        nanos.map(WallTime)
    }
}

/// Notes a wrong type, except of a null: the reader has noted what it stands for.
fn add_type(value: &Value, pointer: &str, expected: &'static str, faults: &mut Faults) {
    if !value.is_null() {
        faults.add(pointer, Problem::Type { expected });
    }
}

fn text<'v>(value: &'v Value, pointer: &str, faults: &mut Faults) -> Option<&'v str> {
    let text = value.as_str();
    if text.is_none() {
        add_type(value, pointer, "a text", faults);
    }
    text
}

fn name<T>(
    value: &Value,
    pointer: &str,
    parse: impl Fn(&str) -> Result<T, IdFault>,
    faults: &mut Faults,
) -> Option<T> {
    match parse(text(value, pointer, faults)?) {
        Ok(name) => Some(name),
        Err(fault) => {
            faults.add(pointer, Problem::Name { detail: fault.to_string() });
            None
        }
    }
}

fn entries<'v>(
    value: &'v Value,
    pointer: &str,
    limit: usize,
    faults: &mut Faults,
) -> Vec<(String, &'v Value)> {
    let Some(values) = value.as_array() else {
        add_type(value, pointer, "a list", faults);
        return Vec::new();
    };
    if values.len() > limit {
        faults.add(pointer, Problem::TooMany { count: values.len(), limit });
        return Vec::new();
    }
    let numbered = values.iter().enumerate();
    numbered.map(|(index, value)| (child(pointer, &index.to_string()), value)).collect()
}

/// Parties and purposes follow the rules of all names.
fn plain_name(text: &str) -> Result<String, IdFault> {
    check_party(text).map(|()| text.to_owned())
}

/// Whether a text can name a party.
pub(crate) fn check_party(text: &str) -> Result<(), IdFault> {
    DatasetId::parse(text).map(|_| ()).map_err(|fault| match fault {
        IdFault::Empty { limit, .. } => IdFault::Empty { what: "name", limit },
        IdFault::TooLong { length, limit, .. } => IdFault::TooLong { what: "name", length, limit },
        IdFault::Character { character, .. } => IdFault::Character { what: "name", character },
    })
}

fn contract(value: &Value, pointer: &str, digest: Digest, faults: &mut Faults) -> Option<Contract> {
    const KEYS: [&str; 11] = [
        "id",
        "version",
        "provider",
        "consumer",
        "purpose",
        "datasets",
        "points",
        "not_before",
        "not_after",
        "allow",
        "mask",
    ];
    let object = Object::open(value, pointer, &KEYS, faults)?;
    let id = object.name("id", ContractId::parse, faults);
    let version = version(&object, faults);
    let provider = object.name("provider", plain_name, faults);
    let consumer = object.name("consumer", plain_name, faults);
    let purpose = object.name("purpose", plain_name, faults);
    let datasets = object.names("datasets", DATASETS_MAX, DatasetId::parse, faults);
    let datasets = object.nonempty("datasets", datasets, faults);
    let points = points(&object, faults);
    let not_before = object.time("not_before", faults);
    let not_after = object.time("not_after", faults);
    if let (Some(not_before), Some(not_after)) = (not_before, not_after)
        && not_after <= not_before
    {
        faults.add(&object.at("not_after"), Problem::Interval);
    }
    allow(&object, faults);
    let mask = object.names("mask", POINTS_NAMED_MAX, PointName::parse, faults);
    if let (Some(points), Some(mask)) = (&points, &mask) {
        for name in mask.iter().filter(|name| !points.covers(name)) {
            let found = name.as_str().to_owned();
            faults.add(&object.at("mask"), Problem::MaskNotCovered { found });
        }
    }
    Some(Contract {
        id: id?,
        version: version?,
        provider: provider?,
        consumer: consumer?,
        purpose: purpose?,
        datasets: datasets?,
        points: points?,
        not_before: not_before?,
        not_after: not_after?,
        mask: mask?,
        digest,
    })
}

fn version(object: &Object<'_>, faults: &mut Faults) -> Option<u64> {
    let value = object.members.get("version")?;
    let Some(found) = value.as_i64() else {
        add_type(value, &object.at("version"), "an integer", faults);
        return None;
    };
    let version = u64::try_from(found).ok().filter(|version| *version >= 1);
    if version.is_none() {
        faults.add(&object.at("version"), Problem::Version { found });
    }
    version
}

fn points(object: &Object<'_>, faults: &mut Faults) -> Option<Points> {
    match object.members.get("points")? {
        Value::String(word) if word == "all" => Some(Points::All),
        Value::String(word) => {
            let known = "\"all\" or a list of points";
            faults.add(&object.at("points"), Problem::UnknownTerm { found: shown(word), known });
            None
        }
        _ => {
            let names = object.names("points", POINTS_NAMED_MAX, PointName::parse, faults);
            let names = object.nonempty("points", names, faults)?;
            (!names.is_empty()).then_some(Points::Named(names))
        }
    }
}

/// The only action so far is to forward.
fn allow(object: &Object<'_>, faults: &mut Faults) {
    let Some(list) = object.members.get("allow") else { return };
    let pointer = object.at("allow");
    let mut seen = BTreeSet::new();
    for (at, value) in entries(list, &pointer, 1, faults) {
        let Some(found) = text(value, &at, faults) else { continue };
        if found != "forward" {
            faults.add(&at, Problem::UnknownTerm { found: shown(found), known: "\"forward\"" });
        }
        seen.insert(found);
    }
    object.nonempty("allow", Some(seen), faults);
}

fn signature(value: &Value, pointer: &str, faults: &mut Faults) -> Option<SignatureEntry> {
    const KEYS: [&str; 4] = ["party", "key_id", "algorithm", "signature"];
    let object = Object::open(value, pointer, &KEYS, faults)?;
    let party = object.name("party", plain_name, faults);
    let key_id = object.text("key_id", faults).and_then(|found| {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits = found.len() == 8 && found.bytes().all(hex);
        if !fits {
            let known = "8 lower-case hex digits";
            faults.add(&object.at("key_id"), Problem::UnknownTerm { found: shown(found), known });
        }
        fits.then(|| found.to_owned())
    });
    if let Some(found) = object.text("algorithm", faults).filter(|found| *found != "Ed25519") {
        let known = "\"Ed25519\"";
        faults.add(&object.at("algorithm"), Problem::UnknownTerm { found: shown(found), known });
    }
    let signature = object.text("signature", faults).and_then(|encoded| {
        let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok());
        if bytes.is_none() {
            faults.add(&object.at("signature"), Problem::Signature);
        }
        bytes
    });
    Some(SignatureEntry {
        pointer: pointer.to_owned(),
        party: party?,
        key_id: key_id?,
        signature: signature?,
    })
}
