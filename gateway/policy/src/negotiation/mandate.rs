//! What a box may agree to alone: a document that its operator signed off, and how a draft is judged by it.
//!
//! A draft goes past the mandate (refused), beside it (the operator decides) or fits. What cannot be
//! shown from the contract alone never counts as fitting.

use super::message::MessageError;
use crate::action::{Action, ActionSet};
use crate::constraint::{Constraint, Relation, Test, term};
use crate::contract::{Contract, Rule, RuleKind, check_party};
use crate::duty::Transform;
use crate::fault::{Faults, Problem, shown};
use crate::json;
use crate::object::{Member, Object, entries};
use guan_model::descriptor::{Class, Tag};
use guan_model::{DatasetId, IdFault};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Largest mandate.
pub const MANDATE_BYTES_MAX: usize = 64 * 1024;
/// Most consumers of a mandate.
pub const MANDATE_CONSUMERS_MAX: usize = 256;
/// Most datasets of a mandate.
pub const MANDATE_DATASETS_MAX: usize = 1024;
/// Version of the document that is read.
const SCHEMA: u64 = 1;
const SECONDS_PER_DAY: u64 = 86_400;

const KEYS: [&str; 8] = [
    "schema",
    "consumers",
    "datasets",
    "actions",
    "highestClass",
    "requiredTransforms",
    "longestTerm",
    "needsOperator",
];
const CLASSES: [(&str, Class); 3] =
    [("general", Class::General), ("important", Class::Important), ("core", Class::Core)];
/// The names of transformations, as contracts write them.
const TRANSFORMS: [&str; 11] = [
    "drop",
    "mask",
    "sample",
    "clamp",
    "aggregate",
    "noise",
    "round",
    "bucket",
    "coarsenPosition",
    "pseudonymise",
    "delay",
];

/// What may be agreed to without asking anybody.
#[derive(Debug, Clone, PartialEq)]
pub struct Mandate {
    consumers: BTreeSet<String>,
    datasets: BTreeSet<DatasetId>,
    actions: ActionSet,
    highest_class: Class,
    /// For points with the tag, one of these must be done to whatever leaves.
    required_transforms: BTreeMap<Tag, BTreeSet<String>>,
    longest_term: Duration,
    needs_operator: bool,
}

/// Why a draft is not simply accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("{consumer:?} is not among the consumers of the mandate")]
    Consumer { consumer: String },
    #[error("{dataset:?} is not among the datasets of the mandate")]
    Dataset { dataset: String },
    #[error("{rule} permits {action}, which the mandate does not")]
    Action { rule: String, action: &'static str },
    #[error("{rule} lets out data of class {class}; bound it by a constraint on class")]
    Class { rule: String, class: &'static str },
    #[error("{rule} lets out points with the tag {tag} without any of: {transforms}")]
    TransformMissing { rule: String, tag: &'static str, transforms: String },
    #[error(
        "{rule} transforms some points only; whether all with the tag {tag} are among them is open"
    )]
    TransformOfSomePoints { rule: String, tag: &'static str },
    #[error("it lasts {days} days, the mandate goes up to {limit_days}")]
    Term { days: u64, limit_days: u64 },
    #[error("it names a price or metering, about which the mandate says nothing")]
    Price,
    #[error("the mandate wants an operator for every contract")]
    NeedsOperator,
}

/// What a mandate says to a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// It goes past nothing that the mandate forbids, and yet a person must decide.
    AskOperator(Vec<Reason>),
    Refuse(Vec<Reason>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reasons) = match self {
            Self::Accept => return f.write_str("accept"),
            Self::AskOperator(reasons) => ("ask the operator", reasons),
            Self::Refuse(reasons) => ("refuse", reasons),
        };
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        write!(f, "{word}: {}", reasons.join("; "))
    }
}

impl Mandate {
    /// Reads the document whole or refuses it whole.
    pub fn read(json: &[u8]) -> Result<Self, MessageError> {
        let mut faults = Faults::default();
        let mandate = if json.len() > MANDATE_BYTES_MAX {
            faults.add("", Problem::TooLong { length: json.len(), limit: MANDATE_BYTES_MAX });
            None
        } else {
            json::read(json, &mut faults).and_then(|value| mandate(&value, &mut faults))
        };
        Ok(faults.finish(mandate)?)
    }

    /// Judges a draft. Nothing here asks who signed.
    pub fn judge(&self, contract: &Contract) -> Verdict {
        let mut refuse = Vec::new();
        let mut ask = Vec::new();
        if !self.consumers.contains(contract.consumer()) {
            refuse.push(Reason::Consumer { consumer: contract.consumer().to_owned() });
        }
        for dataset in contract.datasets().difference(&self.datasets) {
            refuse.push(Reason::Dataset { dataset: dataset.to_string() });
        }
        let rules = contract.rules();
        let prohibitions: Vec<&Rule> =
            rules.iter().filter(|rule| rule.kind == RuleKind::Prohibition).collect();
        for rule in rules.iter().filter(|rule| rule.kind == RuleKind::Permission) {
            self.judge_actions(rule, &mut refuse);
            self.judge_class(rule, &prohibitions, &mut refuse);
            self.judge_transforms(rule, &prohibitions, &mut refuse, &mut ask);
        }
        let term = contract.not_after().since(contract.not_before());
        if term > self.longest_term {
            let days = |span: Duration| span.as_secs().div_ceil(SECONDS_PER_DAY);
            ask.push(Reason::Term { days: days(term), limit_days: days(self.longest_term) });
        }
        if contract.terms().is_some() {
            ask.push(Reason::Price);
        }
        if self.needs_operator {
            ask.push(Reason::NeedsOperator);
        }
        match (refuse.is_empty(), ask.is_empty()) {
            (false, _) => Verdict::Refuse(refuse),
            (true, false) => Verdict::AskOperator(ask),
            (true, true) => Verdict::Accept,
        }
    }

    fn judge_actions(&self, rule: &Rule, refuse: &mut Vec<Reason>) {
        for action in rule.actions.iter() {
            if !includes(self.actions, ActionSet::of([action])) {
                let (rule, action) = (rule.id.to_string(), action.name());
                refuse.push(Reason::Action { rule, action });
            }
        }
    }

    /// Each class above the highest must be kept in by a test that always counts.
    fn judge_class(&self, rule: &Rule, prohibitions: &[&Rule], refuse: &mut Vec<Reason>) {
        let above = Class::ALL.into_iter().filter(|class| *class > self.highest_class);
        for class in above {
            let is_kept_in = excludes(rule, prohibitions, |test| match test {
                Test::Class(comparison, bound) => Some(comparison.holds(&class, bound)),
                _ => None,
            });
            if !is_kept_in {
                let (rule, class) = (rule.id.to_string(), class.name());
                refuse.push(Reason::Class { rule, class });
            }
        }
    }

    fn judge_transforms(
        &self,
        rule: &Rule,
        prohibitions: &[&Rule],
        refuse: &mut Vec<Reason>,
        ask: &mut Vec<Reason>,
    ) {
        for (tag, names) in &self.required_transforms {
            let is_kept_in = excludes(rule, prohibitions, |test| tags_hold(test, *tag));
            let fits = |transform: &Transform| names.contains(transform.name());
            let mut fitting = rule.treatments.iter().filter(|t| fits(&t.transform)).peekable();
            if is_kept_in || fitting.clone().any(|t| t.points.iter().any(|points| points == "*")) {
                continue;
            }
            let (rule, tag) = (rule.id.to_string(), tag.name());
            match fitting.peek() {
                Some(_) => ask.push(Reason::TransformOfSomePoints { rule, tag }),
                None => {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let transforms = names.join(", ");
                    refuse.push(Reason::TransformMissing { rule, tag, transforms });
                }
            }
        }
    }
}

/// Whether a point with the tag, and perhaps others, passes a test on tags for sure or fails it for sure.
fn tags_hold(test: &Test, tag: Tag) -> Option<bool> {
    match test {
        Test::Tags(Relation::NoneOf, tags) if tags.contains(&tag) => Some(false),
        Test::Tags(Relation::AnyOf | Relation::PartOf, tags) if tags.contains(&tag) => Some(true),
        Test::Tags(Relation::AllOf, tags) if tags.iter().eq([&tag]) => Some(true),
        _ => None,
    }
}

/// Whether a permission never reaches data about which `holds` is asked: one of the tests that must all
/// hold fails for it, or a prohibition of all that is permitted has this one test and holds.
fn excludes(rule: &Rule, prohibitions: &[&Rule], holds: impl Fn(&Test) -> Option<bool>) -> bool {
    let test = |constraint: &Constraint| match constraint {
        Constraint::Test(leaf) => holds(&leaf.test),
        _ => None,
    };
    let fails = rule.constraint.conjuncts().iter().any(|part| test(part) == Some(false));
    fails
        || prohibitions.iter().any(|prohibition| {
            let parts = prohibition.constraint.conjuncts();
            includes(prohibition.actions, rule.actions)
                && parts.iter().all(|part| test(part) == Some(true))
        })
}

fn includes(outer: ActionSet, inner: ActionSet) -> bool {
    Action::all().all(|action| !inner.covers(action) || outer.covers(action))
}

fn mandate(value: &Value, faults: &mut Faults) -> Option<Mandate> {
    let object = Object::open(value, "", &KEYS, faults)?;
    if let Some(schema) = object.member("schema").and_then(|member| member.whole(faults))
        && schema != SCHEMA
    {
        let known = "1; a newer mandate needs a newer program";
        faults.add("/schema", Problem::UnknownTerm { found: schema.to_string(), known });
    }
    let name =
        |text: &str| -> Result<String, IdFault> { check_party(text).map(|()| text.to_owned()) };
    let consumers = object.names("consumers", MANDATE_CONSUMERS_MAX, name, faults);
    let consumers = object.nonempty("consumers", consumers, faults);
    let datasets = object.names("datasets", MANDATE_DATASETS_MAX, DatasetId::parse, faults);
    let datasets = object.nonempty("datasets", datasets, faults);
    let actions = object.member("actions").map(|member| actions(&member, faults));
    let highest_class = object
        .member("highestClass")
        .and_then(|member| member.word(&CLASSES, "general, important or core", faults));
    let transforms = object.member("requiredTransforms").map(|member| transforms(&member, faults));
    let longest_term = object.member("longestTerm").and_then(|member| member.duration(faults));
    let needs_operator = object.member("needsOperator").and_then(|member| {
        let flag = member.value.as_bool();
        if flag.is_none() {
            crate::object::add_type(member.value, &member.pointer, "true or false", faults);
        }
        flag
    });
    Some(Mandate {
        consumers: consumers?,
        datasets: datasets?,
        actions: actions?,
        highest_class: highest_class?,
        required_transforms: transforms?,
        longest_term: longest_term?,
        needs_operator: needs_operator?,
    })
}

fn actions(member: &Member<'_>, faults: &mut Faults) -> ActionSet {
    let limit = Action::all().count();
    let mut actions = Vec::new();
    for (at, value) in entries(member.value, &member.pointer, limit, faults) {
        let Some(found) = crate::object::text(value, &at, faults) else { continue };
        match Action::from_name(term(found)) {
            Some(action) => actions.push(action),
            None => {
                let known = "an action of contracts such as use or deliver";
                faults.add(&at, Problem::UnknownTerm { found: shown(found), known });
            }
        }
    }
    if member.value.as_array().is_some_and(Vec::is_empty) {
        faults.add(&member.pointer, Problem::Empty);
    }
    ActionSet::of(actions)
}

fn transforms(member: &Member<'_>, faults: &mut Faults) -> BTreeMap<Tag, BTreeSet<String>> {
    let mut required = BTreeMap::new();
    for (at, value) in entries(member.value, &member.pointer, Tag::ALL.len(), faults) {
        let Some(object) = Object::open(value, &at, &["tag", "transforms"], faults) else {
            continue;
        };
        let tag = object.text("tag", faults).and_then(|found| {
            let tag = Tag::from_name(found);
            if tag.is_none() {
                let known = "a tag of point descriptors such as personal";
                faults.add(&object.at("tag"), Problem::UnknownTerm { found: shown(found), known });
            }
            tag
        });
        let words = TRANSFORMS.map(|name| (name, name));
        let mut names = BTreeSet::new();
        if let Some(list) = object.member("transforms") {
            for (at, value) in entries(list.value, &list.pointer, TRANSFORMS.len(), faults) {
                let entry = Member { pointer: at, value };
                names.extend(entry.word(&words, "a transformation such as mask", faults));
            }
            if names.is_empty() {
                faults.add(&list.pointer, Problem::Empty);
            }
        }
        let Some(tag) = tag else { continue };
        if required.insert(tag, names.into_iter().map(str::to_owned).collect()).is_some() {
            let found = tag.name().to_owned();
            faults.add(&object.at("tag"), Problem::Duplicate { found });
        }
    }
    required
}

#[cfg(test)]
mod tests;
