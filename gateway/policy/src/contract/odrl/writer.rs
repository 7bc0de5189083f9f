//! A contract as an offer in our profile of ODRL: unsigned, to be read, changed and signed.

use crate::constraint::constraint_json;
use crate::contract::duties::duties_json;
use crate::contract::{Contract, Fate, Lease, PROFILE, Rule, RuleKind};
use crate::object::{duration_text, exact_moment_text};
use serde_json::{Map, Value, json};

pub(crate) fn odrl_json(contract: &Contract) -> Value {
    let mut out = json!({
        "@type": "Offer",
        "@id": format!("urn:contract:{}", contract.id),
        "profile": PROFILE,
        "version": contract.version,
        "conflict": "prohibit",
        "assigner": contract.provider,
        "assignee": contract.consumer,
        "target": contract.datasets.iter().map(|dataset| dataset.as_str()).collect::<Vec<_>>(),
        "validity": {
            "notBefore": exact_moment_text(contract.not_before),
            "notAfter": exact_moment_text(contract.not_after),
        },
        "lease": lease_json(&contract.lease),
    });
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out[key] = value;
        }
    };
    put("title", contract.title.as_ref().map(|title| json!(title)));
    put("assigneeCountry", contract.consumer_country.as_ref().map(|code| json!(code)));
    put("purpose", contract.purpose.as_ref().map(|purpose| json!(purpose)));
    put("timestamp", contract.agreed_at.map(|moment| json!(exact_moment_text(moment))));
    put("particulars", contract.particulars.as_ref().map(|all| all.to_json()));
    for (key, kind) in
        [("permission", RuleKind::Permission), ("prohibition", RuleKind::Prohibition)]
    {
        let rules = contract.rules.iter().filter(|rule| rule.kind == kind);
        let rules: Vec<Value> = rules.map(rule_json).collect();
        put(key, (!rules.is_empty()).then(|| json!(rules)));
    }
    let obligations = duties_json(&[], &contract.obligations);
    put("obligation", (!obligations.is_empty()).then(|| json!(obligations)));
    for (key, value) in contract.terms.iter().filter_map(Value::as_object).flatten() {
        put(key, Some(value.clone()));
    }
    out
}

pub(crate) fn lease_json(lease: &Lease) -> Value {
    let row = Fate::WORDS.iter().find(|(_, fate)| *fate == lease.on_early_end);
    json!({
        "maxOffline": duration_text(lease.max_offline),
        "graceDelivery": duration_text(lease.grace_delivery),
        "onEarlyEnd": row.expect("every fate has a word").0,
    })
}

fn rule_json(rule: &Rule) -> Value {
    let actions: Vec<&str> = rule.actions.iter().map(|action| action.name()).collect();
    let constraint: Vec<Value> = rule.constraint.conjuncts().iter().map(constraint_json).collect();
    let duties = duties_json(&rule.treatments, &rule.duties);
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("uid", json!(&*rule.id));
    put("action", json!(actions));
    if !constraint.is_empty() {
        put("constraint", json!(constraint));
    }
    if !duties.is_empty() {
        let key = match rule.kind {
            RuleKind::Permission => "duty",
            RuleKind::Prohibition => "remedy",
        };
        put(key, json!(duties));
    }
    Value::Object(out)
}
