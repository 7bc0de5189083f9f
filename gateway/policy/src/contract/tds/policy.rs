//! Policies of TC609-6-2025-14 to rules and duties.
//!
//! A word that asks for a form (desensitize) or for something to be done (delete) is never taken for a
//! right: it must be backed by a duty that says how, or the contract is refused.

use super::codes::{self, Due, Form, Name, Word};
use super::constraint::{self, Setting};
use crate::action::{Action, ActionSet};
use crate::constraint::{CONSTRAINTS_MAX, Constraint, check_moments, flat, term};
use crate::contract::duties::{Duties, read_duties};
use crate::contract::odrl::rule_id;
use crate::contract::particulars::{self, NAME_CHARS_MAX, Product, SUMMARY_CHARS_MAX, Side};
use crate::contract::reader::plain_name;
use crate::contract::{DATASETS_MAX, PROFILE, RULES_MAX, Rule, RuleKind};
use crate::duty::Duty;
use crate::fault::{Faults, Problem, shown};
use crate::object::{Member, Object, entries};
use guan_model::DatasetId;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most words of one policy.
const ACTIONS_MAX: usize = 64;

/// What all policies of a contract come to.
pub(super) struct Policies<'z> {
    /// Of times without an offset.
    pub(super) zone: Option<&'z TimeZone>,
    pub(super) rules: Vec<(Rule, Subjects)>,
    pub(super) obligations: Vec<(Duty, Subjects)>,
    pub(super) products: BTreeMap<DatasetId, Product>,
    /// The nodes of provider and consumer, once a policy has told.
    pub(super) told: Option<(Side, Side)>,
    budget: usize,
}

/// The datasets that a policy is about, and where it says so.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    pub(super) datasets: BTreeSet<DatasetId>,
    pub(super) pointer: String,
}

/// One of the three lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Permission,
    Prohibition,
    Obligation,
}

impl Kind {
    /// The name of the list, of a rule without id, and of its duties in our extension.
    const ALL: [(Self, &'static str, &'static str, &'static str); 3] = [
        (Self::Permission, "permissionPolicies", "permission", "duty"),
        (Self::Prohibition, "prohibitionPolicies", "prohibition", "remedy"),
        (Self::Obligation, "obligationPolicies", "obligation", "duty"),
    ];
}

/// What our extension says of a policy.
#[derive(Default)]
struct Extension {
    id: Option<String>,
    duties: Duties,
}

/// The words of a policy and its actions in our profile.
#[derive(Default)]
struct Words {
    words: Vec<(Word, String)>,
    actions: Vec<Action>,
    pointer: String,
}

impl<'z> Policies<'z> {
    pub(super) fn new(zone: Option<&'z TimeZone>) -> Self {
        Self {
            zone,
            rules: Vec::new(),
            obligations: Vec::new(),
            products: BTreeMap::new(),
            told: None,
            budget: CONSTRAINTS_MAX,
        }
    }

    /// Reads the three lists. A strategy without them does not say whether it permits or forbids.
    pub(super) fn read(&mut self, member: &Member<'_>, faults: &mut Faults) -> Option<()> {
        let keys = Kind::ALL.map(|(_, key, ..)| key);
        let object = Object::open_with(member.value, &member.pointer, &[], &keys, faults)?;
        for (kind, key, name, duties_key) in Kind::ALL {
            let Some(list) = object.member(key) else { continue };
            if list.value.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            for (place, policy) in list.one_or_many(RULES_MAX, faults).iter().enumerate() {
                let before = faults.len();
                let name = format!("{name}-{}", place + 1);
                if self.policy(policy, kind, (&name, duties_key), faults).is_none() {
                    faults.add_if_none_since(before, &policy.pointer);
                }
            }
        }
        Some(())
    }

    fn policy(
        &mut self,
        member: &Member<'_>,
        kind: Kind,
        (name, duties_key): (&str, &str),
        faults: &mut Faults,
    ) -> Option<()> {
        let optional: Vec<&str> = ["executionNodeInfo", "constraints"]
            .into_iter()
            .chain(codes::names("policyExpansion"))
            .collect();
        let required = ["subjectInfo", "actions"];
        let object =
            Object::open_with(member.value, &member.pointer, &required, &optional, faults)?;
        let subjects = object.member("subjectInfo").and_then(|m| self.subjects(&m, faults));
        if let Some(member) = object.member("executionNodeInfo") {
            self.nodes(&member, faults);
        }
        let words = object.member("actions").map(|m| words(&m, faults));
        let extension = match codes::member(&object, "policyExpansion", faults) {
            Some(member) => extension(&member, kind, duties_key, faults),
            None => Some(Extension::default()),
        };
        let constraint = object
            .member("constraints")
            .filter(|list| !list.value.as_array().is_some_and(Vec::is_empty));
        if kind == Kind::Obligation {
            if let Some(list) = constraint {
                faults.add(&list.pointer, Problem::ObligationConstraint);
            }
            let (words, extension, subjects) = (words?, extension?, subjects?);
            let duties = self.obliged(&words, extension.duties, faults)?;
            self.obligations.extend(duties.into_iter().map(|duty| (duty, subjects.clone())));
            return Some(());
        }
        let constraint =
            constraint.map_or(Constraint::always(), |list| self.constraints(&list, faults));
        let (words, extension) = (words?, extension?);
        let id = extension.id.unwrap_or_else(|| name.to_owned());
        let mut rule = Rule {
            id: Arc::from(id),
            pointer: Arc::from(member.pointer.as_str()),
            kind: RuleKind::Permission,
            actions: ActionSet::default(),
            constraint,
            treatments: extension.duties.treatments,
            duties: extension.duties.duties,
        };
        match kind {
            Kind::Prohibition => forbid(&mut rule, &words, faults),
            _ => permit(&mut rule, &words, faults),
        }
        if rule.actions.is_empty() {
            faults.add(&words.pointer, Problem::Empty);
        }
        if self.rules.iter().any(|(other, _)| other.id == rule.id) {
            let found = rule.id.to_string();
            faults.add(&member.pointer, Problem::DuplicateRule { found });
        }
        self.rules.push((rule, subjects?));
        Some(())
    }

    pub(super) fn subjects(
        &mut self,
        member: &Member<'_>,
        faults: &mut Faults,
    ) -> Option<Subjects> {
        const OPTIONAL: [&str; 3] =
            ["dataProductName", "dataProductAbstract", "dataProductEntityId"];
        let mut datasets = BTreeSet::new();
        for member in member.one_or_many(DATASETS_MAX, faults) {
            let object = Object::open_with(
                member.value,
                &member.pointer,
                &["dataProductId"],
                &OPTIONAL,
                faults,
            )?;
            let text = |key: &str, limit: usize, faults: &mut Faults| {
                object.member(key).and_then(|member| particulars::text(&member, limit, faults))
            };
            let dataset = object.name("dataProductId", DatasetId::parse, faults)?;
            let product = Product {
                name: text("dataProductName", NAME_CHARS_MAX, faults),
                summary: text("dataProductAbstract", SUMMARY_CHARS_MAX, faults),
                owner: object
                    .member("dataProductEntityId")
                    .and_then(|_| object.name("dataProductEntityId", plain_name, faults)),
            };
            let known = self.products.entry(dataset.clone()).or_insert_with(|| product.clone());
            if *known != product {
                faults.add(&member.pointer, Problem::Differs);
            }
            if !datasets.insert(dataset) {
                let found = shown(object.text("dataProductId", faults)?);
                faults.add(&object.at("dataProductId"), Problem::Duplicate { found });
            }
        }
        (!datasets.is_empty()).then(|| Subjects { datasets, pointer: member.pointer.clone() })
    }

    pub(super) fn nodes(&mut self, member: &Member<'_>, faults: &mut Faults) -> Option<()> {
        let all = ["providerNodeId", "providerNodeName", "consumerNodeId", "consumerNodeName"];
        let known: Vec<&str> = all.into_iter().flat_map(codes::names).collect();
        let object = Object::open_with(member.value, &member.pointer, &[], &known, faults)?;
        let mut side = |id, name| {
            let node = codes::member(&object, id, faults);
            let node =
                node.and_then(|m| crate::object::name(m.value, &m.pointer, plain_name, faults));
            let node_name = codes::member(&object, name, faults);
            let node_name = node_name.and_then(|m| particulars::text(&m, NAME_CHARS_MAX, faults));
            Side { name: None, node, node_name }
        };
        let both = (side(all[0], all[1]), side(all[2], all[3]));
        if self.told.get_or_insert_with(|| both.clone()) != &both {
            faults.add(&member.pointer, Problem::Differs);
        }
        Some(())
    }

    fn constraints(&mut self, list: &Member<'_>, faults: &mut Faults) -> Constraint {
        let members = list.one_or_many(CONSTRAINTS_MAX, faults);
        let period = members.iter().find_map(constraint::period_of);
        if let Some((_, at)) = &period
            && !members.iter().any(constraint::lacks_period)
        {
            faults.add(at, Problem::PeriodOfNothing);
        }
        let setting =
            Setting { zone: self.zone, period: period.as_ref().map(|(letter, _)| *letter) };
        let mut parts = Vec::new();
        let mut has_period = false;
        for member in &members {
            if constraint::period_of(member).is_some() {
                if std::mem::replace(&mut has_period, true) {
                    let found = "timeWindow".to_owned();
                    faults.add(&member.pointer, Problem::Duplicate { found });
                }
                continue;
            }
            let before = faults.len();
            match constraint::read(member, &setting, &mut self.budget, faults) {
                Some(constraint) => parts.push(constraint),
                None => faults.add_if_none_since(before, &member.pointer),
            }
        }
        let parts = flat(parts);
        check_moments(&parts, &list.pointer, faults);
        Constraint::And(parts)
    }

    fn obliged(&self, words: &Words, given: Duties, faults: &mut Faults) -> Option<Vec<Duty>> {
        let mut duties = given.duties;
        for (word, at) in &words.words {
            match word {
                Word::Due(due) => back(*due, &mut duties, at, faults),
                Word::Act(_) | Word::Form(_) => {
                    let found = word.text().to_owned();
                    let known = "what can be owed: plicyTransmit, logRecordSend, delete, alert or \
                                 compensate";
                    faults.add(at, Problem::UnknownTerm { found, known });
                }
            }
        }
        if duties.is_empty() || !words.actions.is_empty() {
            faults.add(&words.pointer, Problem::Empty);
        }
        Some(duties)
    }
}

fn permit(rule: &mut Rule, words: &Words, faults: &mut Faults) {
    let mut actions = words.actions.clone();
    for (word, at) in &words.words {
        match word {
            Word::Act(action) => actions.push(*action),
            Word::Due(due) => back(*due, &mut rule.duties, at, faults),
            Word::Form(form) => {
                let is_backed = rule.treatments.iter().any(|one| {
                    *form == Form::Transform || Word::of_transform(&one.transform) == *word
                });
                if !is_backed {
                    faults.add(at, Problem::WithoutParameters { found: word.text() });
                }
            }
        }
    }
    rule.actions = ActionSet::of(actions);
}

fn forbid(rule: &mut Rule, words: &Words, faults: &mut Faults) {
    rule.kind = RuleKind::Prohibition;
    let mut actions = words.actions.clone();
    for (word, at) in &words.words {
        match word.forbidden() {
            Some(action) => actions.push(action),
            None => {
                let (found, known) = (word.text().to_owned(), "something that can be forbidden");
                faults.add(at, Problem::UnknownTerm { found, known });
            }
        }
    }
    rule.actions = ActionSet::of(actions);
}

/// A word that asks for something to be done. If it needs no more, it is the duty; else one must be
/// there.
fn back(due: Due, duties: &mut Vec<Duty>, at: &str, faults: &mut Faults) {
    let word = Word::Due(due);
    if duties.iter().any(|duty| Word::of_duty(duty) == Some(word)) {
        return;
    }
    match due {
        Due::Log => duties.push(Duty::Log),
        Due::AttachPolicy => duties.push(Duty::AttachPolicy),
        Due::Compensate => duties.push(Duty::Compensate),
        Due::Delete | Due::Alert => {
            faults.add(at, Problem::WithoutParameters { found: word.text() });
        }
    }
}

fn words(member: &Member<'_>, faults: &mut Faults) -> Words {
    let mut all = Words { pointer: member.pointer.clone(), ..Words::default() };
    let list = match member.value.is_array() {
        true => entries(member.value, &member.pointer, ACTIONS_MAX, faults),
        false => vec![(member.pointer.clone(), member.value)],
    };
    for (pointer, value) in list {
        if value.is_object() {
            own_actions(&Member { pointer, value }, &mut all.actions, faults);
            continue;
        }
        let Some(text) = crate::object::text(value, &pointer, faults) else { continue };
        match Word::of(text) {
            Some(word) if all.words.iter().any(|(other, _)| *other == word) => {
                faults.add(&pointer, Problem::Duplicate { found: shown(text) });
            }
            Some(word) => all.words.push((word, pointer)),
            None => {
                let found = shown(text);
                let known = match Name::of(text) {
                    Some(_) => "it as the name of a constraint, not as an action",
                    None => "one of the twenty actions of table C.5 such as read or delivery",
                };
                faults.add(&pointer, Problem::UnknownTerm { found, known });
            }
        }
    }
    all
}

/// Row 21 of table C.5: actions that the document has no word for.
fn own_actions(member: &Member<'_>, actions: &mut Vec<Action>, faults: &mut Faults) -> Option<()> {
    let object = Object::open(member.value, &member.pointer, &["expansionItem"], faults)?;
    let inner = object.member("expansionItem")?;
    let inner = Object::open(inner.value, &inner.pointer, &[PROFILE], faults)?;
    for member in inner.member(PROFILE)?.one_or_many(ACTIONS_MAX, faults) {
        let Some(text) = member.text(faults) else { continue };
        match Action::from_name(term(text)) {
            Some(action) => actions.push(action),
            None => {
                let known = "an action of ODRL or our profile such as use or collect";
                faults.add(&member.pointer, Problem::UnknownTerm { found: shown(text), known });
            }
        }
    }
    Some(())
}

fn extension(
    member: &Member<'_>,
    kind: Kind,
    duties_key: &str,
    faults: &mut Faults,
) -> Option<Extension> {
    let outer = Object::open(member.value, &member.pointer, &[PROFILE], faults)?;
    let own = outer.member(PROFILE)?;
    let keys: &[&str] = match kind {
        Kind::Obligation => &[duties_key],
        _ => &["uid", duties_key],
    };
    let object = Object::open_with(own.value, &own.pointer, &[], keys, faults)?;
    let id = match object.member("uid") {
        Some(uid) => Some(rule_id(&uid, faults)?),
        None => None,
    };
    let duties = object.member(duties_key).map(|m| read_duties(&m, faults)).unwrap_or_default();
    if kind != Kind::Permission && !duties.treatments.is_empty() {
        faults.add(&object.at(duties_key), Problem::TransformOutsidePermission);
    }
    Some(Extension { id, duties })
}
