//! `guan contract diff`: what two contracts say differently, whatever their forms and spellings.

use super::read_draft;
use crate::cli::print_json;
use anyhow::Context;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

/// Members whose lists say the same in any order.
const UNORDERED: [&str; 9] =
    ["constraint", "and", "or", "xone", "duty", "remedy", "obligation", "refinement", "action"];

pub(in crate::cli) fn diff(old: &Path, new: &Path, is_json: bool) -> anyhow::Result<ExitCode> {
    let object = |path: &Path| -> anyhow::Result<Json> {
        let (contract, _) = read_draft(path)?;
        // One form and one spelling for both, so that only what they mean is compared.
        let written = contract.to_odrl();
        let written = written.with_context(|| format!("{} cannot be compared", path.display()))?;
        Ok(settled(&written))
    };
    let differences = differences(&object(old)?, &object(new)?);
    if is_json {
        print_json(&json!({"differences": differences}))?;
    } else {
        for one in &differences {
            let pointer = one["pointer"].as_str().unwrap_or_default();
            match (&one["old"], &one["new"]) {
                (Json::Null, new) => println!("+ {pointer}: {new}"),
                (old, Json::Null) => println!("- {pointer}: {old}"),
                (old, new) => println!("~ {pointer}: {old} -> {new}"),
            }
        }
        if differences.is_empty() {
            println!("the contracts are equal");
        }
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lists that say the same in any order, in one order; rules under their ids. The order of permissions
/// counts, for the first that holds gives the form: it is a member of its own.
fn settled(value: &Json) -> Json {
    let Json::Object(members) = value else {
        return match value {
            Json::Array(values) => values.iter().map(settled).collect(),
            other => other.clone(),
        };
    };
    let mut out = Map::new();
    for (key, value) in members {
        let mut value = settled(value);
        if let ("permission" | "prohibition", Json::Array(rules)) = (key.as_str(), &value) {
            let id = |rule: &Json| rule["uid"].as_str().unwrap_or_default().to_owned();
            if key == "permission" && rules.len() > 1 {
                let order: Vec<String> = rules.iter().map(id).collect();
                out.insert("order of permissions".to_owned(), json!(order));
            }
            let by_id: Map<String, Json> =
                rules.iter().map(|rule| (id(rule), rule.clone())).collect();
            value = Json::Object(by_id);
        }
        if let Json::Array(values) = &mut value
            && UNORDERED.contains(&key.as_str())
        {
            values.sort_by_cached_key(ToString::to_string);
        }
        out.insert(key.clone(), value);
    }
    Json::Object(out)
}

fn differences(old: &Json, new: &Json) -> Vec<Json> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

/// Notes each place at which two values differ. Neither has null: no contract may.
fn compare(pointer: &str, old: Option<&Json>, new: Option<&Json>, found: &mut Vec<Json>) {
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        (Some(Json::Object(old)), Some(Json::Object(new))) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                compare(&format!("{pointer}/{key}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new))) => {
            for place in 0..old.len().max(new.len()) {
                compare(&format!("{pointer}/{place}"), old.get(place), new.get(place), found);
            }
        }
        (old, new) => found.push(json!({"pointer": pointer, "old": old, "new": new})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &Json, new: &Json, expect: &[&str]) {
        let found = differences(&settled(old), &settled(new));
        let found: Vec<&str> = found.iter().filter_map(|one| one["pointer"].as_str()).collect();
        assert_eq!(found, expect, "{old} and {new}");
    }

    #[test]
    fn order_counts_where_it_means_something() {
        let rules =
            |ids: [&str; 2]| ids.map(|id| json!({"uid": id, "constraint": [{"a": 1}, {"b": 2}]}));
        let permits = |ids| json!({"permission": rules(ids)});
        check(&permits(["p", "q"]), &permits(["p", "q"]), &[]);
        let swapped = ["/order of permissions/0", "/order of permissions/1"];
        check(&permits(["p", "q"]), &permits(["q", "p"]), &swapped);
        let forbids = |ids| json!({"prohibition": rules(ids)});
        check(&forbids(["p", "q"]), &forbids(["q", "p"]), &[]);
        let other = json!({"prohibition": [{"uid": "p", "constraint": [{"b": 2}, {"a": 1}]}]});
        check(&forbids(["p", "q"]), &other, &["/prohibition/q"]);
        let edges = |edges: [i64; 2]| json!({"duty": [{"rightOperand": edges}]});
        check(
            &edges([1, 2]),
            &edges([2, 1]),
            &["/duty/0/rightOperand/0", "/duty/0/rightOperand/1"],
        );
    }
}
