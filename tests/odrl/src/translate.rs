//! A case of the suite as our document and the state in which it is asked.

use crate::graph::{Graph, ODRL, REPORT};
use anyhow::{Context, bail};
use guan_policy::Collections;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// IRIs as the plain names of our documents.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn of(&mut self, iri: &str) -> String {
        let next = format!("n{}", self.0.len());
        self.0.entry(iri.to_owned()).or_insert(next).clone()
    }
}

/// Who asks for what.
pub(crate) struct Request {
    pub(crate) party: String,
    pub(crate) action: String,
    pub(crate) target: String,
}

pub(crate) fn request(graph: &Graph, id: &str) -> anyhow::Result<Request> {
    let kinds = ["permission", "prohibition", "obligation"];
    let rule = kinds.iter().find_map(|kind| graph.one(id, &format!("{ODRL}{kind}")));
    let rule = rule.with_context(|| format!("the request {id} asks for nothing"))?;
    let part = |name: &str| {
        let found = graph.one(rule, &format!("{ODRL}{name}")).map(str::to_owned);
        found.with_context(|| format!("the request {id} has no {name}"))
    };
    let action = part("action")?;
    let action = action.strip_prefix(ODRL).unwrap_or(&action).to_owned();
    Ok(Request { party: part("assignee")?, action, target: part("target")? })
}

/// Members of collections: of the state of the world, and the empty ones that the policy declares.
pub(crate) fn collections(policy: &Graph, world: &Graph, names: &mut Names) -> Collections {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in ["PartyCollection", "AssetCollection"] {
        for declared in policy.of_type(&format!("{ODRL}{kind}")) {
            members.entry(names.of(declared)).or_default();
        }
    }
    for graph in [policy, world] {
        for (member, collection) in graph.pairs(&format!("{ODRL}partOf")) {
            let member = names.of(member);
            members.entry(names.of(collection)).or_default().insert(member);
        }
    }
    Collections { parties: members.clone(), datasets: members }
}

/// Rules whose duties the state of the world reports as violated.
pub(crate) fn violated_rules(policy: &Graph, world: &Graph) -> BTreeSet<String> {
    let is_violated = |duty: &str| {
        world.pairs(&format!("{REPORT}rule")).any(|(report, rule)| {
            rule == duty
                && world.one(report, &format!("{REPORT}deonticState"))
                    == Some(&format!("{REPORT}Violated"))
        })
    };
    let duty = format!("{ODRL}duty");
    let duties = policy.pairs(&duty);
    duties.filter(|(_, duty)| is_violated(duty)).map(|(rule, _)| rule.to_owned()).collect()
}

/// The policy as a contract between an assigner and the party that asks, about what it asks for.
pub(crate) fn document(
    graph: &Graph,
    policy: &str,
    request: &Request,
    names: &mut Names,
) -> anyhow::Result<Value> {
    let rules = |kind: &str, names: &mut Names| -> anyhow::Result<Vec<Value>> {
        let rules = graph.all(policy, &format!("{ODRL}{kind}"));
        rules.into_iter().map(|id| rule(graph, id, kind, names)).collect()
    };
    let (permission, prohibition) = (rules("permission", names)?, rules("prohibition", names)?);
    Ok(json!({
        "@type": "Set", "@id": names.of(policy), "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "owner", "assignee": names.of(&request.party),
        "target": names.of(&request.target),
        "validity": {"notBefore": "1900-01-01T00:00:00Z", "notAfter": "2200-01-01T00:00:00Z"},
        "permission": permission, "prohibition": prohibition,
    }))
}

fn rule(graph: &Graph, id: &str, kind: &str, names: &mut Names) -> anyhow::Result<Value> {
    let mut constraints = Vec::new();
    for (part, operand, collection) in
        [("assignee", "recipient", "PartyCollection"), ("target", "dataset", "AssetCollection")]
    {
        if let Some(iri) = graph.one(id, &format!("{ODRL}{part}")) {
            let is_collection = graph.is_a(iri, &format!("{ODRL}{collection}"));
            let operator = if is_collection { "isPartOf" } else { "eq" };
            constraints.push(json!({
                "leftOperand": operand, "operator": operator, "rightOperand": names.of(iri),
            }));
        }
    }
    for node in graph.all(id, &format!("{ODRL}constraint")) {
        constraints.push(constraint(graph, node)?);
    }
    // A rule without an action is about every action.
    let actions: Vec<&str> = graph.all(id, &format!("{ODRL}action"));
    let actions: Vec<&str> = match actions.is_empty() {
        true => vec!["use", "transfer"],
        false => actions.iter().map(|iri| iri.strip_prefix(ODRL).unwrap_or(iri)).collect(),
    };
    let mut rule = json!({"uid": names.of(id), "action": actions});
    if !constraints.is_empty() {
        rule["constraint"] = Value::Array(constraints);
    }
    let duties = graph.all(id, &format!("{ODRL}duty"));
    let duties: Vec<Value> = duties.into_iter().map(|duty| one_duty(graph, duty)).collect();
    if !duties.is_empty() {
        let key = if kind == "permission" { "duty" } else { "remedy" };
        rule[key] = Value::Array(duties);
    }
    Ok(rule)
}

fn one_duty(graph: &Graph, duty: &str) -> Value {
    let action = graph.one(duty, &format!("{ODRL}action")).unwrap_or_default();
    json!({"action": action.strip_prefix(ODRL).unwrap_or(action)})
}

fn constraint(graph: &Graph, node: &str) -> anyhow::Result<Value> {
    for join in ["and", "or", "xone", "andSequence"] {
        let parts = graph.all(node, &format!("{ODRL}{join}"));
        if !parts.is_empty() {
            let parts: Vec<String> = parts.into_iter().flat_map(|part| list(graph, part)).collect();
            let parts = parts.iter().map(|part| constraint(graph, part));
            return Ok(json!({join: parts.collect::<anyhow::Result<Vec<_>>>()?}));
        }
    }
    let part = |name: &str| {
        let found = graph.all(node, &format!("{ODRL}{name}"));
        match found.as_slice() {
            [] => bail!("the constraint {node} has no {name}"),
            [one] => Ok(json!(one.strip_prefix(ODRL).unwrap_or(one))),
            many => Ok(json!(many)),
        }
    };
    Ok(json!({
        "leftOperand": part("leftOperand")?, "operator": part("operator")?,
        "rightOperand": part("rightOperand")?,
    }))
}

/// The members of an RDF list, or the node itself.
fn list(graph: &Graph, node: &str) -> Vec<String> {
    const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
    let mut members = Vec::new();
    let mut at = node;
    while let Some(first) = graph.one(at, &format!("{RDF}first")) {
        members.push(first.to_owned());
        match graph.one(at, &format!("{RDF}rest")) {
            // A list that returns to itself would never end.
            Some(rest) if members.len() < 10_000 => at = rest,
            _ => break,
        }
    }
    if members.is_empty() { vec![node.to_owned()] } else { members }
}
