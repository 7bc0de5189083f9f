//! The contracts of the first release (schema 1): points to forward and points to mask, by name.

use super::reader::plain_name;
use super::{Contract, DATASETS_MAX, Lease, POINTS_NAMED_MAX, Rule, RuleKind, WireForm};
use crate::action::{Action, ActionSet};
use crate::constraint::{Constraint, Leaf, NameTest, Relation, Test};
use crate::duty::{PointPatterns, Transform, Treatment};
use crate::fault::{Faults, Problem, shown};
use crate::object::{Object, add_type, entries, text};
use guan_model::{ContractId, DatasetId, Digest, PointName};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which points of its datasets a contract covers.
enum Points {
    All,
    Named(BTreeSet<PointName>),
}

impl Points {
    fn covers(&self, name: &PointName) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

pub(super) fn contract(
    value: &Value,
    pointer: &str,
    digest: Digest,
    faults: &mut Faults,
) -> Option<Contract> {
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
    let rule = rule(&points?, &mask?, &object.at("points"));
    Some(Contract {
        id: id?,
        version: version?,
        title: None,
        provider: provider?,
        consumer: consumer?,
        consumer_country: None,
        purpose: Some(purpose?),
        datasets: datasets?,
        not_before: not_before?,
        not_after: not_after?,
        lease: Lease::default(),
        rules: vec![rule],
        obligations: Vec::new(),
        terms: None,
        agreed_at: None,
        particulars: None,
        form: WireForm::First,
        digest,
    })
}

/// What schema 1 says, in the terms of its successor.
fn rule(points: &Points, mask: &BTreeSet<PointName>, pointer: &str) -> Rule {
    fn texts<T: FromIterator<String>>(names: &BTreeSet<PointName>) -> T {
        names.iter().map(|name| name.as_str().to_owned()).collect()
    }
    let constraint = match points {
        Points::All => Constraint::always(),
        Points::Named(named) => Constraint::And(vec![Constraint::Test(Leaf {
            test: Test::Point(NameTest { relation: Relation::AnyOf, names: texts(named) }),
            text: Arc::from(format!("dataField isAnyOf {} names", named.len())),
            pointer: Arc::from(pointer),
        })]),
    };
    let masked = Treatment {
        points: PointPatterns::of(texts(mask)),
        transform: Transform::Mask,
        pointer: Arc::from(pointer),
    };
    Rule {
        id: Arc::from("allow"),
        pointer: Arc::from(pointer),
        kind: RuleKind::Permission,
        actions: ActionSet::of([Action::Deliver]),
        constraint,
        treatments: if mask.is_empty() { Vec::new() } else { vec![masked] },
        duties: Vec::new(),
    }
}

pub(super) fn version(object: &Object<'_>, faults: &mut Faults) -> Option<u64> {
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
