//! Contracts as ODRL 2.2 in our profile: JSON-LD in compact terms, read without any remote context.
//!
//! Shape as in the Dataspace Protocol 2025-1: one target, and no rule has a target of its own. Terms of
//! the box are in the profile's namespace; a foreign profile is refused.

mod writer;

pub(super) use writer::{lease_json, odrl_json};

use super::duties::{Duties, read_duties};
use super::particulars::Particulars;
use super::reader::plain_name;
use super::{Contract, DATASETS_MAX, Fate, Lease, PROFILE, RULES_MAX, Rule, RuleKind, WireForm};
use crate::action::{Action, ActionSet};
use crate::constraint::{CONSTRAINTS_MAX, Constraint, read_constraints, term};
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object};
use guan_model::{ContractId, DatasetId, Digest, RuleId, WallTime};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

const REQUIRED: [&str; 8] =
    ["@type", "@id", "profile", "version", "assigner", "assignee", "target", "validity"];
const OPTIONAL: [&str; 13] = [
    // A contract that only forbids bounds what others grant.
    "permission",
    "@context",
    "conflict",
    "title",
    "purpose",
    "assigneeCountry",
    "prohibition",
    "obligation",
    "lease",
    "price",
    "metering",
    "timestamp",
    "particulars",
];
/// Where the context of our profile is published.
pub(crate) const CONTEXT: &str = "https://guankou.example/contracts/context.jsonld";
/// The contexts that a contract may name: ODRL's, ours, and those of the Dataspace Protocol.
pub(crate) const CONTEXTS: [&str; 5] = [
    "http://www.w3.org/ns/odrl.jsonld",
    "https://www.w3.org/ns/odrl.jsonld",
    CONTEXT,
    "https://w3id.org/dspace/2025/1/context.jsonld",
    "https://w3id.org/dspace/2025/1/odrl-profile.jsonld",
];
/// Longest title, in bytes: 128 characters, of which each may have four.
const TITLE_BYTES_MAX: usize = 512;
/// Most actions of one rule.
const ACTIONS_MAX: usize = 32;

pub(super) fn contract(
    value: &Value,
    pointer: &str,
    digest: Digest,
    faults: &mut Faults,
) -> Option<Contract> {
    let object = Object::open_with(value, pointer, &REQUIRED, &OPTIONAL, faults)?;
    fixed_terms(&object, faults);
    contexts(&object, faults);
    let id = object.name("@id", |text| ContractId::parse(strip_urn(text)), faults);
    let version = super::first::version(&object, faults);
    let provider = object.name("assigner", plain_name, faults);
    let consumer = object.name("assignee", plain_name, faults);
    let datasets = datasets(&object, faults);
    let validity = validity(&object, faults);
    let country = object.member("assigneeCountry").map(|member| country(&member, faults));
    let purpose = object.member("purpose").map(|_| object.name("purpose", plain_name, faults));
    // When it was agreed, as the Dataspace Protocol wants it; signed with the rest, and decides nothing.
    let agreed_at = object.time("timestamp", faults);
    let title = object.member("title").and_then(|member| title(&member, faults));
    let lease = object.member("lease").map_or(Some(Lease::default()), |m| lease(&m, faults));
    let mut budget = CONSTRAINTS_MAX;
    let mut rules = Vec::new();
    for (key, kind) in
        [("permission", RuleKind::Permission), ("prohibition", RuleKind::Prohibition)]
    {
        if let Some(member) = object.member(key) {
            read_rules(&member, kind, &mut budget, &mut rules, faults);
        }
    }
    let obligations = object.member("obligation").map(|member| read_duties(&member, faults));
    let obligations = obligations.unwrap_or_default();
    if !obligations.treatments.is_empty() {
        faults.add(&object.at("obligation"), Problem::TransformOutsidePermission);
    }
    let particulars =
        object.member("particulars").and_then(|member| Particulars::read(&member, faults));
    if let (Some(particulars), Some(datasets)) = (&particulars, &datasets) {
        particulars.check(datasets, &object.at("particulars"), faults);
    }
    let (not_before, not_after) = validity?;
    let (provider, consumer) = (provider?, consumer?);
    Some(Contract {
        id: id?,
        version: version?,
        title,
        agreed_at,
        particulars: particulars.and_then(|all| all.settled(&provider, &consumer)),
        provider,
        consumer,
        consumer_country: match country {
            Some(country) => Some(country?),
            None => None,
        },
        purpose: match purpose {
            Some(purpose) => Some(purpose?),
            None => None,
        },
        datasets: datasets?,
        not_before,
        not_after,
        lease: lease?,
        rules,
        obligations: obligations.duties,
        terms: terms(&object),
        form: WireForm::Odrl,
        digest,
    })
}

/// Members that allow one value only.
fn fixed_terms(object: &Object<'_>, faults: &mut Faults) {
    const TYPES: [(&str, ()); 6] = [
        ("Agreement", ()),
        ("Offer", ()),
        ("Set", ()),
        ("odrl:Agreement", ()),
        ("odrl:Offer", ()),
        ("odrl:Set", ()),
    ];
    if let Some(member) = object.member("@type") {
        member.word(&TYPES, "Agreement, Offer or Set", faults);
    }
    if let Some(member) = object.member("profile") {
        member.word(&[(PROFILE, ())], "the profile urn:guankou:odrl:1", faults);
    }
    if let Some(member) = object.member("conflict") {
        let known = "prohibit: a prohibition always wins here";
        member.word(&[("prohibit", ()), ("odrl:prohibit", ())], known, faults);
    }
}

/// No context is ever loaded; one that is not known could give the words another meaning.
fn contexts(object: &Object<'_>, faults: &mut Faults) {
    let Some(member) = object.member("@context") else { return };
    for member in member.one_or_many(CONTEXTS.len(), faults) {
        let Some(text) = member.text(faults) else { continue };
        if !CONTEXTS.contains(&text) {
            faults.add(&member.pointer, Problem::Context { found: shown(text), own: CONTEXT });
        }
    }
}

fn strip_urn(text: &str) -> &str {
    text.strip_prefix("urn:contract:").unwrap_or(text)
}

fn datasets(object: &Object<'_>, faults: &mut Faults) -> Option<BTreeSet<DatasetId>> {
    let members = object.member("target")?.one_or_many(DATASETS_MAX, faults);
    let mut datasets = BTreeSet::new();
    for member in &members {
        let Some(text) = member.text(faults) else { continue };
        match DatasetId::parse(text) {
            Ok(dataset) => {
                if !datasets.insert(dataset) {
                    faults.add(&member.pointer, Problem::Duplicate { found: shown(text) });
                }
            }
            Err(fault) => {
                faults.add(&member.pointer, Problem::Name { detail: fault.to_string() });
            }
        }
    }
    (!datasets.is_empty()).then_some(datasets)
}

fn validity(object: &Object<'_>, faults: &mut Faults) -> Option<(WallTime, WallTime)> {
    let member = object.member("validity")?;
    let keys = ["notBefore", "notAfter"];
    let object = Object::open(member.value, &member.pointer, &keys, faults)?;
    let (from, until) = (object.time("notBefore", faults), object.time("notAfter", faults));
    let (from, until) = (from?, until?);
    if until <= from {
        faults.add(&object.at("notAfter"), Problem::Interval);
    }
    Some((from, until))
}

pub(super) fn country(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    let is_code = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
    if !is_code {
        let known = "two capital letters of ISO 3166-1";
        faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
    }
    is_code.then(|| text.to_owned())
}

pub(super) fn title(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    if text.len() > TITLE_BYTES_MAX {
        let (length, limit) = (text.len(), TITLE_BYTES_MAX);
        faults.add(&member.pointer, Problem::TooLong { length, limit });
    }
    // An empty one says as much as none.
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn lease(member: &Member<'_>, faults: &mut Faults) -> Option<Lease> {
    let keys = ["maxOffline", "graceDelivery", "onEarlyEnd"];
    let object = Object::open_with(member.value, &member.pointer, &[], &keys, faults)?;
    let mut lease = Lease::default();
    if let Some(member) = object.member("maxOffline") {
        lease.max_offline = member.duration(faults)?;
    }
    if let Some(member) = object.member("graceDelivery") {
        lease.grace_delivery = member.duration(faults)?;
    }
    if let Some(member) = object.member("onEarlyEnd") {
        lease.on_early_end = member.word(&Fate::WORDS, "send or shred", faults)?;
    }
    Some(lease)
}

/// Price and metering, as they stand.
pub(super) fn terms(object: &Object<'_>) -> Option<Value> {
    let pick = |key: &str| object.members.get(key).map(|value| (key.to_owned(), value.clone()));
    let terms: serde_json::Map<String, Value> =
        [pick("price"), pick("metering")].into_iter().flatten().collect();
    (!terms.is_empty()).then_some(Value::Object(terms))
}

fn read_rules(
    member: &Member<'_>,
    kind: RuleKind,
    budget: &mut usize,
    rules: &mut Vec<Rule>,
    faults: &mut Faults,
) {
    if member.value.as_array().is_some_and(Vec::is_empty) {
        return;
    }
    for (place, member) in member.one_or_many(RULES_MAX, faults).iter().enumerate() {
        if let Some(rule) = read_rule(member, kind, place, budget, faults) {
            if rules.iter().any(|other| other.id == rule.id) {
                let found = rule.id.to_string();
                faults.add(&member.pointer, Problem::DuplicateRule { found });
            }
            rules.push(rule);
        }
    }
}

fn read_rule(
    member: &Member<'_>,
    kind: RuleKind,
    place: usize,
    budget: &mut usize,
    faults: &mut Faults,
) -> Option<Rule> {
    let (optional, duties_key, name): (&[&str], _, _) = match kind {
        RuleKind::Permission => (&["uid", "@type", "constraint", "duty"], "duty", "permission"),
        RuleKind::Prohibition => {
            (&["uid", "@type", "constraint", "remedy"], "remedy", "prohibition")
        }
    };
    let object = Object::open_with(member.value, &member.pointer, &["action"], optional, faults)?;
    let id = match object.member("uid") {
        Some(uid) => rule_id(&uid, faults)?,
        None => format!("{name}-{}", place + 1),
    };
    let actions = object.member("action").map(|member| actions(&member, faults));
    let constraint = object
        .member("constraint")
        .map_or(Constraint::always(), |member| read_constraints(&member, budget, faults));
    let at = object.at(duties_key);
    let Duties { treatments, duties } =
        object.member(duties_key).map(|m| read_duties(&m, faults)).unwrap_or_default();
    if kind == RuleKind::Prohibition && !treatments.is_empty() {
        faults.add(&at, Problem::TransformOutsidePermission);
    }
    Some(Rule {
        id: Arc::from(id),
        pointer: Arc::from(member.pointer.as_str()),
        kind,
        actions: actions?,
        constraint,
        treatments,
        duties,
    })
}

pub(super) fn rule_id(member: &Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    let is_id = RuleId::parse(text).is_some();
    if !is_id {
        let known = "an id of letters, digits, '.', ':', '-' and '_', of at most 64 bytes";
        faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
    }
    is_id.then(|| text.to_owned())
}

fn actions(member: &Member<'_>, faults: &mut Faults) -> ActionSet {
    let mut actions = Vec::new();
    for member in member.one_or_many(ACTIONS_MAX, faults) {
        let Some(text) = member.text(faults) else { continue };
        match Action::from_name(term(text)) {
            Some(action) => actions.push(action),
            None => {
                let known = "an action of ODRL or TC609-6-2025-14 such as use, deliver or read";
                faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
            }
        }
    }
    ActionSet::of(actions)
}

#[cfg(test)]
pub(crate) mod tests;
