//! A contract as TC609-6-2025-14 has it: in its words as far as they reach, the rest in our extension.
//!
//! Unsigned, so in the first of its states. `Contract::to_tds` reads back what stands here.

use super::codes::Word;
use super::identifier::Identifier;
use super::value::ends_of;
use crate::action::Action;
use crate::constraint::{Constraint, Operator, Test, Written, constraint_json, write_test};
use crate::contract::duties::duties_json;
use crate::contract::odrl::lease_json;
use crate::contract::particulars::{Particulars, Side};
use crate::contract::{Contract, Lease, PROFILE, Rule, RuleKind};
use crate::duty::Duty;
use crate::object::exact_moment_text;
use serde_json::{Map, Value, json};

pub(in crate::contract) fn tds_json(contract: &Contract) -> Value {
    let nothing = Particulars::default();
    let said = contract.particulars.as_ref().unwrap_or(&nothing);
    let number = Identifier::of(&contract.id);
    let mut out = json!({
        "contractId": number.as_ref().map_or(String::new(), Identifier::to_string),
        "contractName": contract.title.as_deref().unwrap_or_default(),
        "contractStatus": super::Status::Initiated.code(),
        "signMode": if said.by_platform { "02" } else { "01" },
        "signatoryEntities": [
            party(&contract.provider, &said.provider, "01"),
            party(&contract.consumer, &said.consumer, "02"),
        ],
        "activationTime": exact_moment_text(contract.not_before),
        "endTime": exact_moment_text(contract.not_after),
        "contractPolicies": policies(contract, said),
    });
    let own = extension(contract, said, number.is_some());
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[key] = value;
        }
    };
    put("expansionItem", (!own.is_empty()).then(|| json!({PROFILE: own})));
    put("contractAbstract", said.summary.as_ref().map(|text| json!(text)));
    put("createTime", said.created.as_ref().map(|text| json!(text)));
    put("signTime", contract.agreed_at.map(|moment| json!(exact_moment_text(moment))));
    out
}

fn party(id: &str, side: &Side, role: &str) -> Value {
    let mut out = json!({"signatoryEntityId": id, "signatorytype": role});
    if let Some(name) = &side.name {
        out["signatoryEntityName"] = json!(name);
    }
    out
}

/// What is not so anyway.
fn extension(contract: &Contract, said: &Particulars, is_numbered: bool) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
    if contract.version != 1 {
        put("version", json!(contract.version));
    }
    if contract.lease != Lease::default() {
        put("lease", lease_json(&contract.lease));
    }
    if !is_numbered {
        put("id", json!(contract.id.as_str()));
    }
    if contract.rules.is_empty() && contract.obligations.is_empty() {
        put("subjectInfo", subjects(contract, said));
        put("executionNodeInfo", nodes(contract, said));
    }
    if let Some(purpose) = &contract.purpose {
        put("purpose", json!(purpose));
    }
    if let Some(country) = &contract.consumer_country {
        put("assigneeCountry", json!(country));
    }
    for (key, value) in contract.terms.iter().filter_map(Value::as_object).flatten() {
        put(key, value.clone());
    }
    out
}

fn policies(contract: &Contract, said: &Particulars) -> Value {
    let mut out = Map::new();
    let subjects = subjects(contract, said);
    let nodes = nodes(contract, said);
    for (key, name, kind) in [
        ("permissionPolicies", "permission", RuleKind::Permission),
        ("prohibitionPolicies", "prohibition", RuleKind::Prohibition),
    ] {
        let rules = contract.rules.iter().filter(|rule| rule.kind == kind).zip(1..);
        let rules: Vec<Value> = rules
            .map(|(rule, place)| {
                let usual_id = format!("{name}-{place}");
                policy(rule, &usual_id, &subjects, &nodes)
            })
            .collect();
        if !rules.is_empty() {
            out.insert(key.to_owned(), json!(rules));
        }
    }
    if !contract.obligations.is_empty() {
        let mut policy = json!({
            "subjectInfo": subjects, "executionNodeInfo": nodes,
            "actions": words_of(&contract.obligations),
        });
        if !are_words_enough(&contract.obligations) {
            let duties = duties_json(&[], &contract.obligations);
            policy["policyExpansion"] = json!({PROFILE: {"duty": duties}});
        }
        out.insert("obligationPolicies".to_owned(), json!([policy]));
    }
    Value::Object(out)
}

fn subjects(contract: &Contract, said: &Particulars) -> Value {
    let subjects = contract.datasets.iter().map(|dataset| {
        let described = said.products.get(dataset);
        let owner = described.and_then(|product| product.owner.as_ref());
        let mut out = json!({
            "dataProductId": dataset.as_str(),
            "dataProductEntityId": owner.unwrap_or(&contract.provider),
        });
        if let Some(name) = described.and_then(|product| product.name.as_ref()) {
            out["dataProductName"] = json!(name);
        }
        if let Some(summary) = described.and_then(|product| product.summary.as_ref()) {
            out["dataProductAbstract"] = json!(summary);
        }
        out
    });
    let mut subjects: Vec<Value> = subjects.collect();
    if subjects.len() == 1 { subjects.remove(0) } else { json!(subjects) }
}

fn nodes(contract: &Contract, said: &Particulars) -> Value {
    let (provider, consumer) = (&said.provider, &said.consumer);
    let mut out = json!({
        "providerNodeId": provider.node.as_ref().unwrap_or(&contract.provider),
        "consumerNodeId": consumer.node.as_ref().unwrap_or(&contract.consumer),
    });
    if let Some(name) = &provider.node_name {
        out["providerNodeName"] = json!(name);
    }
    if let Some(name) = &consumer.node_name {
        out["consumerNodeName"] = json!(name);
    }
    out
}

fn policy(rule: &Rule, usual_id: &str, subjects: &Value, nodes: &Value) -> Value {
    let constraints: Vec<Value> = rule.constraint.conjuncts().iter().map(constraint).collect();
    let mut own = Map::new();
    if &*rule.id != usual_id {
        own.insert("uid".to_owned(), json!(&*rule.id));
    }
    let is_permission = rule.kind == RuleKind::Permission;
    let needs_duties = match is_permission {
        true => !rule.treatments.is_empty() || !are_words_enough(&rule.duties),
        false => !rule.duties.is_empty(),
    };
    if needs_duties {
        let key = if is_permission { "duty" } else { "remedy" };
        own.insert(key.to_owned(), json!(duties_json(&rule.treatments, &rule.duties)));
    }
    let mut out = json!({
        "subjectInfo": subjects, "executionNodeInfo": nodes, "actions": actions(rule),
    });
    if !own.is_empty() {
        out["policyExpansion"] = json!({PROFILE: own});
    }
    if !constraints.is_empty() {
        out["constraints"] = json!(constraints);
    }
    out
}

/// Words of table C.5 for what they say, and ours for the rest; forms and duties by their words, too,
/// so that whoever does not know our extension sees that there are some.
fn actions(rule: &Rule) -> Vec<Value> {
    let is_permission = rule.kind == RuleKind::Permission;
    let mut words: Vec<Word> = Vec::new();
    let mut own: Vec<&str> = Vec::new();
    for action in rule.actions.iter() {
        match word_for(action, is_permission) {
            Some(word) => words.push(word),
            None => own.push(action.name()),
        }
    }
    if is_permission {
        words.extend(rule.treatments.iter().map(|one| Word::of_transform(&one.transform)));
        words.extend(rule.duties.iter().filter_map(Word::of_duty));
    }
    let mut out = texts(&words);
    if !own.is_empty() {
        out.push(json!({"expansionItem": {PROFILE: own}}));
    }
    out
}

fn word_for(action: Action, is_permission: bool) -> Option<Word> {
    let words = super::codes::ACTIONS.iter().map(|(_, word)| *word);
    words.into_iter().find(|word| match is_permission {
        true => *word == Word::Act(action),
        false => word.forbidden() == Some(action),
    })
}

/// Each once, in order.
fn texts(words: &[Word]) -> Vec<Value> {
    let first = |place: usize, word: &Word| !words[..place].contains(word);
    let words = words.iter().enumerate().filter(|(place, word)| first(*place, word));
    words.map(|(_, word)| json!(word.text())).collect()
}

fn words_of(duties: &[Duty]) -> Vec<Value> {
    texts(&duties.iter().filter_map(Word::of_duty).collect::<Vec<_>>())
}

/// Whether the words of some duties say all of them.
fn are_words_enough(duties: &[Duty]) -> bool {
    let is_word = |duty: &Duty| matches!(duty, Duty::Log | Duty::AttachPolicy | Duty::Compensate);
    let is_new = |place: usize, duty: &Duty| !duties[..place].contains(duty);
    duties.iter().enumerate().all(|(place, duty)| is_word(duty) && is_new(place, duty))
}

/// One part of a rule, in the document's words if it has some.
fn constraint(constraint: &Constraint) -> Value {
    let own = || {
        json!({
            "constraintName": "expansionItem", "constraintOperator": Operator::Eq.code(),
            "constraintValue": {PROFILE: constraint_json(constraint)},
        })
    };
    let Constraint::Test(leaf) = constraint else { return own() };
    let Written { left, operator, right, unit } = write_test(&leaf.test);
    let (name, value) = match &leaf.test {
        Test::DateTime(..) => ("time", right),
        Test::Window { window, .. } => return hours(operator, window),
        Test::Quota { .. } | Test::Rate(_) => {
            let name = if left == "rate" { "frequency" } else { left };
            match amount(&right, unit) {
                Some(value) => (name, value),
                None => return own(),
            }
        }
        Test::Point(_) => ("dataField", right),
        Test::Value(..) => ("valueExpression", right),
        Test::Delivery(_) | Test::Elsewhere { .. } => (left, right),
        _ => return own(),
    };
    json!({
        "constraintName": name, "constraintOperator": operator.code(), "constraintValue": value,
    })
}

fn hours(operator: Operator, window: &crate::constraint::TimeWindow) -> Value {
    let mut own = json!({"zone": window.zone_name()});
    let weekdays = window.weekdays();
    if weekdays.len() < 7 {
        own["weekdays"] = json!(weekdays);
    }
    json!({
        "constraintName": "timeWindow", "constraintOperator": operator.code(),
        "constraintValue": ends_of(&window.hours()), "expansionItem": {PROFILE: own},
    })
}

/// A limit with its unit in the text, as annex D has it; `None` if there is no word for the unit.
fn amount(right: &Value, unit: Option<&str>) -> Option<Value> {
    let Some(unit) = unit else { return Some(right.clone()) };
    let (counted, letter) = unit.split_once('/')?;
    let period = match letter {
        "s" => "\u{79d2}",
        "min" => "\u{5206}\u{949f}",
        "h" => "\u{5c0f}\u{65f6}",
        "d" => "\u{5929}",
        "mo" => "\u{6708}",
        _ => return None,
    };
    let number = right.as_str().map_or_else(|| right.to_string(), str::to_owned);
    let counted = if counted == "By" { "B" } else { "\u{6b21}" };
    Some(json!(format!("{number} {counted}/{period}")))
}
