//! JSON to contract: every term is known or the file is refused, and all faults are noted.

use super::{CONTRACT_BYTES_MAX, CONTRACT_SCHEMA, Contract, SIGNATURES_MAX, WireForm};
use crate::fault::{Faults, Problem, shown};
use crate::json;
use crate::object::{Object, add_type, entries};
use crate::signature::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use guan_model::{DatasetId, Digest, IdFault};
use serde_json::Value;

/// Version of the form that the first release wrote.
const FIRST_SCHEMA: i64 = 1;

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
    pub(crate) algorithm: Algorithm,
    pub(crate) signature: Vec<u8>,
}

/// What is asked of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A whole file: it was signed.
    Whole,
    /// The bare contract object will do, too.
    Draft,
    /// As a draft, and it must make sense: somebody is about to sign it. What was signed before that
    /// was asked stays in force.
    Sense,
}

/// Reads a file or, unless a whole one is asked for, the bare contract object.
pub(crate) fn read_document(bytes: &[u8], asked: Asked, faults: &mut Faults) -> Option<Document> {
    if bytes.len() > CONTRACT_BYTES_MAX {
        // Whoever reads files stops behind the limit, so the true length is not known here.
        faults.add("", Problem::FileTooLong { limit: CONTRACT_BYTES_MAX });
        return None;
    }
    let value = json::read(bytes, faults)?;
    if asked != Asked::Whole && value.get("contract").is_none() {
        return Some(document(value, ("", asked), Vec::new(), faults));
    }
    let Object { members, .. } =
        Object::open(&value, "", &["schema", "contract", "signatures"], faults)?;
    let object = members.get("contract")?.clone();
    if let Some(schema) = members.get("schema")
        && schema.as_i64() != Some(schema_of(&object))
    {
        let known = match schema_of(&object) {
            FIRST_SCHEMA => "1 for this form of contract",
            _ => "2 for this form of contract",
        };
        faults.add("/schema", Problem::UnknownTerm { found: shown(&schema.to_string()), known });
    }
    let signatures = members.get("signatures").map_or_else(Vec::new, |list| {
        let entries = entries(list, "/signatures", SIGNATURES_MAX, faults);
        entries.iter().filter_map(|(at, entry)| signature(entry, at, faults)).collect()
    });
    Some(document(object, ("/contract", asked), signatures, faults))
}

/// The schema whose files hold contracts of this form.
pub(crate) fn schema_of(contract: &Value) -> i64 {
    if form_of(contract) == Some(WireForm::First) { FIRST_SCHEMA } else { CONTRACT_SCHEMA }
}

fn document(
    object: Value,
    (pointer, asked): (&str, Asked),
    signatures: Vec<SignatureEntry>,
    faults: &mut Faults,
) -> Document {
    let canonical = json::canonical_json(&object);
    let contract = contract(&object, (pointer, asked), Digest::of(&canonical), faults);
    Document { contract, object, canonical, signatures }
}

/// Parties and purposes follow the rules of all names.
pub(crate) fn plain_name(text: &str) -> Result<String, IdFault> {
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

/// Which form the object has is seen by members that only this form has, the surest first.
fn form_of(contract: &Value) -> Option<WireForm> {
    const MARKS: [(&[&str], WireForm); 4] = [
        (&["@type"], WireForm::Odrl),
        (&[super::tds::MARK, "contractPolicies", "strategy", "strategies"], WireForm::Tds),
        (&["profile", "assigner", "assignee", "permission", "@id", "@context"], WireForm::Odrl),
        (
            &["id", "provider", "consumer", "points", "datasets", "allow", "mask", "schema"],
            WireForm::First,
        ),
    ];
    let has = |key: &&str| contract.get(key).is_some();
    MARKS.iter().find(|(keys, _)| keys.iter().any(has)).map(|(_, form)| *form)
}

fn contract(
    value: &Value,
    (pointer, asked): (&str, Asked),
    digest: Digest,
    faults: &mut Faults,
) -> Option<Contract> {
    if !value.is_object() {
        add_type(value, pointer, "an object", faults);
        return None;
    }
    let contract = match form_of(value) {
        Some(WireForm::Odrl) => super::odrl::contract(value, pointer, digest, faults),
        Some(WireForm::Tds) => super::tds::contract(value, pointer, digest, faults),
        Some(WireForm::First) => super::first::contract(value, pointer, digest, faults),
        None => {
            faults.add(pointer, Problem::Form);
            None
        }
    }?;
    // Without a part that could not be read, rules would seem to say what they do not.
    if faults.is_empty() {
        super::check::check(&contract, faults);
        if asked == Asked::Sense {
            super::check::check_sense(&contract, pointer, faults);
        }
    }
    Some(contract)
}

pub(crate) fn signature(
    value: &Value,
    pointer: &str,
    faults: &mut Faults,
) -> Option<SignatureEntry> {
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
    let algorithm = object
        .member("algorithm")
        .and_then(|member| member.word(&Algorithm::WORDS, "Ed25519 or ECDSA-P256-SHA256", faults));
    let signature = object.text("signature", faults).and_then(|encoded| {
        let bytes = STANDARD.decode(encoded).ok().filter(|bytes| match algorithm {
            Some(Algorithm::EcdsaP256) => (8..=72).contains(&bytes.len()),
            _ => bytes.len() == 64,
        });
        if bytes.is_none() {
            faults.add(&object.at("signature"), Problem::Signature);
        }
        bytes
    });
    Some(SignatureEntry {
        pointer: pointer.to_owned(),
        party: party?,
        key_id: key_id?,
        algorithm: algorithm?,
        signature: signature?,
    })
}
