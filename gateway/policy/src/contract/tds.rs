//! Contracts as TC609-6-2025-14 (2025-08-29) has them: information on the contract (table C.1) and
//! policies (C.2), each of subject, nodes, actions and constraints (B.4, C.3 to C.6).
//!
//! What the document disagrees with itself about is read in every spelling and written in one (`codes`).
//! Terms of ours that it has no word for stand in its members for extensions, under the name of our
//! profile; any other unknown member refuses the contract. A local time needs a zone, from there.

mod codes;
mod constraint;
mod identifier;
mod policy;
mod unfold;
pub(super) mod value;
mod writer;

pub use codes::{MEMBERS, Spelling, Status, VALUES, action_words, constraint_words};
pub use identifier::{IDENTIFIER_CHARS, Identifier, IdentifierFault};
pub(super) use writer::tds_json;

use super::odrl::{country, lease, terms, title};
use super::particulars::{self, NAME_CHARS_MAX, Particulars, SUMMARY_CHARS_MAX};
use super::reader::plain_name;
use super::{Contract, DATASETS_MAX, Lease, PROFILE, Rule, WireForm};
use crate::constraint::{Constraint, Leaf, NameTest, Relation, Test, TimeWindow};
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object};
use guan_model::{ContractId, DatasetId, Digest, WallTime};
use jiff::tz::TimeZone;
use policy::{Policies, Subjects};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The member by which this form is known.
pub(crate) const MARK: &str = "contractId";
const REQUIRED: [&str; 5] =
    [MARK, "contractName", "contractStatus", "signMode", "signatoryEntities"];
/// Members with two names come on top.
const OPTIONAL: [&str; 2] = ["contractAbstract", "activationTime"];
const SPELLED: [&str; 5] =
    ["createTime", "signTime", "endTime", "contractPolicies", "expansionItem"];
/// What our extension may say of a contract.
const EXTENSION: [&str; 10] = [
    "id",
    "version",
    "zone",
    "subjectInfo",
    "executionNodeInfo",
    "purpose",
    "assigneeCountry",
    "lease",
    "price",
    "metering",
];
/// Most parties that a file lists; two of them can be bound.
const PARTIES_MAX: usize = 16;

/// A party and how it is called.
struct Party {
    id: String,
    name: Option<String>,
}

/// What our extension says.
struct Extension<'v> {
    id: Option<ContractId>,
    id_pointer: String,
    version: u64,
    zone: Option<TimeZone>,
    /// Of a contract without policies.
    subjects: Option<Member<'v>>,
    nodes: Option<Member<'v>>,
    purpose: Option<String>,
    country: Option<String>,
    lease: Lease,
    terms: Option<Value>,
}

impl Default for Extension<'_> {
    fn default() -> Self {
        Self {
            id: None,
            id_pointer: String::new(),
            version: 1,
            zone: None,
            subjects: None,
            nodes: None,
            purpose: None,
            country: None,
            lease: Lease::default(),
            terms: None,
        }
    }
}

pub(super) fn contract(
    value: &Value,
    pointer: &str,
    digest: Digest,
    faults: &mut Faults,
) -> Option<Contract> {
    let unfolded = unfold::unfold(value, pointer, faults);
    let optional: Vec<&str> =
        OPTIONAL.into_iter().chain(SPELLED.into_iter().flat_map(codes::names)).collect();
    let object = Object::open_with(&unfolded, pointer, &REQUIRED, &optional, faults)?;
    let extension = match codes::member(&object, "expansionItem", faults) {
        Some(member) => extension(&member, faults),
        None => Some(Extension::default()),
    };
    let zone = extension.as_ref().and_then(|own| own.zone.as_ref());
    let id = id(&object, extension.as_ref(), faults);
    let title = object.member("contractName").and_then(|member| title(&member, faults));
    status(&object, faults);
    let parties = object.member("signatoryEntities").and_then(|m| parties(&m, faults));
    let term = term(&object, zone, faults);
    let mut found = Particulars {
        summary: object
            .member("contractAbstract")
            .and_then(|member| particulars::text(&member, SUMMARY_CHARS_MAX, faults)),
        created: codes::member(&object, "createTime", faults)
            .and_then(|member| particulars::created(&member, faults)),
        by_platform: object
            .member("signMode")
            .and_then(|member| particulars::sign_mode(&member, faults))
            .unwrap_or_default(),
        ..Particulars::default()
    };
    let mut policies = Policies::new(zone);
    match codes::member(&object, "contractPolicies", faults) {
        Some(member) => drop(policies.read(&member, faults)),
        None => faults.add(&object.at("contractPolicies"), Problem::Missing),
    }
    let others = extension.as_ref().and_then(|own| own.subjects.as_ref());
    let others = others.and_then(|member| policies.subjects(member, faults));
    if let Some(member) = extension.as_ref().and_then(|own| own.nodes.as_ref()) {
        policies.nodes(member, faults);
    }
    let Policies { rules, obligations, products, told, .. } = policies;
    (found.provider, found.consumer) = told.unwrap_or_default();
    found.products = products;
    let extension = extension?;
    let datasets = datasets(&rules, &obligations, others.as_ref(), (&object, faults));
    let rules = rules.into_iter().map(|(rule, about)| narrowed(rule, &about, &datasets)).collect();
    let obligations = obligations.into_iter().map(|(duty, _)| duty).collect();
    let ([provider, consumer], (not_before, not_after, agreed_at)) = (parties?, term?);
    (found.provider.name, found.consumer.name) = (provider.name, consumer.name);
    Some(Contract {
        id: id?,
        version: extension.version,
        title,
        consumer_country: extension.country,
        purpose: extension.purpose,
        datasets,
        not_before,
        not_after,
        lease: extension.lease,
        rules,
        obligations,
        terms: extension.terms,
        agreed_at,
        particulars: found.settled(&provider.id, &consumer.id),
        provider: provider.id,
        consumer: consumer.id,
        form: WireForm::Tds,
        digest,
    })
}

/// The platform's number; or none yet, and the name that the parties gave in our extension.
fn id(
    object: &Object<'_>,
    extension: Option<&Extension<'_>>,
    faults: &mut Faults,
) -> Option<ContractId> {
    let text = object.text(MARK, faults)?;
    let own = extension.and_then(|own| own.id.as_ref().map(|id| (id, &own.id_pointer)));
    if text.is_empty() {
        if own.is_none() {
            faults.add(&object.at(MARK), Problem::Missing);
        }
        return own.map(|(id, _)| id.clone());
    }
    if let Some((_, at)) = own {
        faults.add(at, Problem::TwoSpellings { first: MARK, second: "id" });
    }
    match Identifier::parse(text) {
        Ok(identifier) => {
            Some(identifier.contract_id().expect("47 of the characters that names have"))
        }
        Err(detail) => {
            faults.add(&object.at(MARK), Problem::Number { detail });
            None
        }
    }
}

/// A contract that ended must not come back to life by being read again.
fn status(object: &Object<'_>, faults: &mut Faults) -> Option<()> {
    let text = object.text("contractStatus", faults)?;
    match Status::from_code(text) {
        Some(status) if status.can_grant() => {}
        Some(_) => {
            faults.add(&object.at("contractStatus"), Problem::Ended { found: shown(text) });
        }
        None => {
            let known = "01, 02, 03, 0301, 0302, 05 or 06 as in table C.1";
            let problem = Problem::UnknownTerm { found: shown(text), known };
            faults.add(&object.at("contractStatus"), problem);
        }
    }
    Some(())
}

/// Provider and consumer.
fn parties(member: &Member<'_>, faults: &mut Faults) -> Option<[Party; 2]> {
    const ROLES: [(&str, usize); 2] = [("01", 0), ("02", 1)];
    const NAMES: [&str; 2] = ["provider (01)", "consumer (02)"];
    let mut found: [Option<Party>; 2] = [None, None];
    let known: Vec<&str> = ["signatoryEntityId", "signatorytype"]
        .into_iter()
        .flat_map(codes::names)
        .chain(["signatoryEntityName"])
        .collect();
    for member in member.one_or_many(PARTIES_MAX, faults) {
        let object = Object::open_with(member.value, &member.pointer, &[], &known, faults)?;
        let id = required(&object, "signatoryEntityId", faults);
        let id = id.and_then(|m| crate::object::name(m.value, &m.pointer, plain_name, faults));
        let name = object
            .member("signatoryEntityName")
            .and_then(|member| particulars::text(&member, NAME_CHARS_MAX, faults));
        let role = required(&object, "signatorytype", faults).and_then(|member| {
            let known = "01 (provider) or 02 (consumer): a contract binds these two here";
            member.word(&ROLES, known, faults)
        });
        let Some(role) = role else { continue };
        if found[role].is_some() {
            faults.add(&member.pointer, Problem::OneParty { role: NAMES[role] });
        }
        found[role] = Some(Party { id: id?, name });
    }
    for (_, role) in found.iter().zip(NAMES).filter(|(party, _)| party.is_none()) {
        faults.add(&member.pointer, Problem::OneParty { role });
    }
    let [provider, consumer] = found;
    Some([provider?, consumer?])
}

fn required<'v>(
    object: &Object<'v>,
    written: &'static str,
    faults: &mut Faults,
) -> Option<Member<'v>> {
    let before = faults.len();
    let member = codes::member(object, written, faults);
    if member.is_none() && faults.len() == before {
        faults.add(&object.at(written), Problem::Missing);
    }
    member
}

/// From when, until when, and when it was signed; without a begin of its own a contract begins then.
fn term(
    object: &Object<'_>,
    zone: Option<&TimeZone>,
    faults: &mut Faults,
) -> Option<(WallTime, WallTime, Option<WallTime>)> {
    let agreed = codes::member(object, "signTime", faults);
    let agreed_at = agreed.and_then(|member| value::moment(&member, zone, faults));
    let from = match object.member("activationTime") {
        Some(member) => value::moment(&member, zone, faults),
        None if agreed_at.is_some() => agreed_at,
        None => {
            faults.add(&object.at("activationTime"), Problem::Missing);
            None
        }
    };
    let end = required(object, "endTime", faults);
    let until = end.as_ref().and_then(|member| value::moment(member, zone, faults));
    let (from, until) = (from?, until?);
    if until <= from
        && let Some(end) = end
    {
        faults.add(&end.pointer, Problem::Interval);
    }
    Some((from, until, agreed_at))
}

fn extension<'v>(member: &Member<'v>, faults: &mut Faults) -> Option<Extension<'v>> {
    let outer = Object::open(member.value, &member.pointer, &[PROFILE], faults)?;
    let own = outer.member(PROFILE)?;
    let object = Object::open_with(own.value, &own.pointer, &[], &EXTENSION, faults)?;
    let mut found = Extension { id_pointer: object.at("id"), ..Extension::default() };
    let before = faults.len();
    if object.member("id").is_some() {
        found.id = object.name("id", ContractId::parse, faults);
    }
    if object.member("version").is_some() {
        found.version = super::first::version(&object, faults).unwrap_or(1);
    }
    if let Some(member) = object.member("zone") {
        let name = member.text(faults).unwrap_or_default();
        found.zone = TimeWindow::zone(name);
        if found.zone.is_none() {
            let known = "a zone of the IANA database such as Asia/Shanghai";
            faults.add(&member.pointer, Problem::UnknownTerm { found: shown(name), known });
        }
    }
    (found.subjects, found.nodes) =
        (object.member("subjectInfo"), object.member("executionNodeInfo"));
    if object.member("purpose").is_some() {
        found.purpose = object.name("purpose", plain_name, faults);
    }
    if let Some(member) = object.member("assigneeCountry") {
        found.country = country(&member, faults);
    }
    if let Some(member) = object.member("lease") {
        found.lease = lease(&member, faults).unwrap_or_default();
    }
    found.terms = terms(&object);
    // What has a fault must not count as left out.
    (faults.len() == before).then_some(found)
}

/// All that the contract is about.
fn datasets(
    rules: &[(Rule, Subjects)],
    obligations: &[(crate::duty::Duty, Subjects)],
    others: Option<&Subjects>,
    (object, faults): (&Object<'_>, &mut Faults),
) -> BTreeSet<DatasetId> {
    let subjects = rules.iter().map(|(_, about)| about);
    let subjects = subjects.chain(obligations.iter().map(|(_, about)| about));
    let subjects = subjects.chain(others);
    let all: BTreeSet<DatasetId> =
        subjects.flat_map(|about| about.datasets.iter()).cloned().collect();
    if all.len() > DATASETS_MAX {
        let (count, limit) = (all.len(), DATASETS_MAX);
        faults.add(&object.at("contractPolicies"), Problem::TooMany { count, limit });
    }
    if all.is_empty() && faults.is_empty() {
        faults.add(&object.at("contractPolicies"), Problem::Empty);
    }
    // Obligations bind for the whole contract here.
    for (_, about) in obligations.iter().filter(|(_, about)| about.datasets != all) {
        faults.add(&about.pointer, Problem::Differs);
    }
    all
}

/// A rule about some of the datasets asks for them.
fn narrowed(mut rule: Rule, about: &Subjects, all: &BTreeSet<DatasetId>) -> Rule {
    if about.datasets == *all {
        return rule;
    }
    let names: BTreeSet<String> =
        about.datasets.iter().map(|dataset| dataset.as_str().to_owned()).collect();
    let text = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut parts = vec![Constraint::Test(Leaf {
        test: Test::Dataset(NameTest { relation: Relation::AnyOf, names }),
        text: Arc::from(format!("dataset isAnyOf [{}]", shown(&text))),
        pointer: Arc::from(about.pointer.as_str()),
    })];
    parts.extend(rule.constraint.conjuncts().iter().cloned());
    rule.constraint = Constraint::And(parts);
    rule
}

#[cfg(test)]
mod tests;
