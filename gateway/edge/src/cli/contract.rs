//! `guan contract check` and `guan contract lint`.

use super::{Common, load, print_json};
use anyhow::Context;
use guan_edge::contracts::{none, read_contracts};
use guan_edge::run::OfSpace;
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_edge::wiring;
use guan_link::driver::describe;
use guan_policy::contract::RuleKind;
use guan_policy::duty::Transform;
use guan_policy::{CONTRACT_BYTES_MAX, Contract, Plan};
use serde_json::json;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn check(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let keys = wiring::trusted_keys(&config)?;
    let folder = &config.contracts.directory;
    // A box that gets all its contracts from the space has no folder.
    let own = if folder.exists() { read_contracts(folder, &keys)? } else { none() };
    let OfSpace { contracts, refused } = OfSpace::read(&config, &keys);
    let all: Vec<Contract> = own.contracts.into_iter().chain(contracts).collect();
    let plan = Plan::compile(&all, &config.descriptors);
    let now = SharedClock::new(SystemClock::new(None)).read();
    let refused: Vec<String> = {
        let own = own.refused.iter().map(|fault| describe(fault));
        own.chain(refused.iter().map(|fault| describe(fault))).collect()
    };
    let warnings: Vec<String> = plan.warnings().iter().map(ToString::to_string).collect();
    if common.json {
        let contracts: Vec<_> = all
            .iter()
            .map(|contract| {
                json!({
                    "id": contract.id().to_string(), "version": contract.version(),
                    "provider": contract.provider(), "consumer": contract.consumer(),
                    "purpose": contract.purpose(), "is_valid_now": contract.valid_at(&now),
                    "datasets": contract.datasets().iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        print_json(&json!({"contracts": contracts, "refused": refused, "warnings": warnings}))?;
    } else {
        for contract in &all {
            let datasets: Vec<_> = contract.datasets().iter().map(ToString::to_string).collect();
            let state = if contract.valid_at(&now) { "in force" } else { "NOT in force now" };
            println!(
                "{} v{}: {state}; {} to {}: {}",
                contract.id(),
                contract.version(),
                contract.provider(),
                contract.consumer(),
                datasets.join(", ")
            );
        }
        refused.iter().for_each(|text| println!("REFUSED {text}"));
        warnings.iter().for_each(|text| println!("warning: {text}"));
        if all.is_empty() {
            println!("no contract: nothing may leave this box");
        }
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the words, or what is published about them.
pub(super) fn vocabulary(schema: bool, context: bool, json: bool) -> anyhow::Result<ExitCode> {
    use guan_policy::vocabulary::{COUNTED, DUTIES, context as ld, schema as of, vocabulary};
    let words = vocabulary();
    match (schema, context, json) {
        (true, ..) => println!("{:#}", of()),
        (_, true, _) => println!("{:#}", ld()),
        (.., true) => print_json(&words)?,
        _ => {
            let list = |key: &str| {
                let names = words[key].as_array().into_iter().flatten();
                names.filter_map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
            };
            for key in ["operands", "elsewhere", "operators", "actions", "units"] {
                println!("{key:<10} {}", list(key));
            }
            for duty in &DUTIES {
                let required = duty.required.join(" ");
                let optional: Vec<String> =
                    duty.optional.iter().map(|name| format!("[{name}]")).collect();
                println!(
                    "duty       {:<16} {:<44} {} ({})",
                    duty.name,
                    format!("{required} {}", optional.join(" ")).trim(),
                    duty.english,
                    duty.chinese
                );
            }
            COUNTED.iter().for_each(|text| println!("counted    {text}"));
            print_document(&words["tds"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The words of TC609-6-2025-14.
fn print_document(words: &serde_json::Value) {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rows = |key: &str| words[key].as_array().into_iter().flatten();
    println!("\n{}", text(&words["document"]));
    for key in ["actions", "constraints"] {
        println!("{key:<11} {}", rows(key).map(text).collect::<Vec<_>>().join(" "));
    }
    let operators =
        rows("operators").map(|one| format!("{}={}", text(&one["code"]), text(&one["name"])));
    println!("operators   {}", operators.collect::<Vec<_>>().join(" "));
    let statuses =
        rows("statuses").map(|one| format!("{}={}", text(&one["code"]), text(&one["chinese"])));
    println!("statuses    {}", statuses.collect::<Vec<_>>().join(" "));
    for key in ["members", "values"] {
        for row in rows(key) {
            let also = row["also"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
            let (written, sources) = (text(&row["written"]), text(&row["sources"]));
            println!("also read   {} for {written} ({sources})", also.join(", "));
        }
    }
}

/// What is well formed and hardly meant so.
fn warnings(contract: &Contract) -> Vec<String> {
    let mut warnings = Vec::new();
    if guan_edge::system_clock::wall_time() >= contract.not_after() {
        let until = guan_policy::object::moment_text(contract.not_after());
        warnings.push(format!("the validity ended at {until}; it grants nothing any more"));
    }
    for rule in contract.rules() {
        for treatment in &rule.treatments {
            let Transform::Aggregate(aggregate) = &treatment.transform else { continue };
            let id = &rule.id;
            match &aggregate.group {
                None if aggregate.readings_min >= 2 => warnings.push(format!(
                    "rule {id} asks for readings behind each row of its aggregate: a window is one \
                     point's, so they are not different sources; `into` joins several points"
                )),
                None => {}
                Some(group) => warnings.push(format!(
                    "rule {id} asks for {} different points behind each row of {}: they are different \
                     sources only if its dataField names one point of each",
                    group.contributors_min, group.into
                )),
            }
        }
    }
    warnings.extend(secure_boot_warnings(contract));
    warnings
}

/// What only some boxes can answer.
fn secure_boot_warnings(contract: &Contract) -> Vec<String> {
    let rules = contract.asks_secure_boot().map(|rule| {
        let effect = match rule.kind {
            RuleKind::Permission => "never holds",
            RuleKind::Prohibition => "always forbids",
        };
        format!(
            "rule {} asks for secureBoot, which only a box with a TPM knows, from the space's verdict; on \
             others it {effect}",
            rule.id
        )
    });
    rules.collect()
}

/// Says what a draft means, or everything that is wrong with it. Asks nobody's signature.
pub(super) fn lint(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let unreadable = || format!("{} cannot be read", file.display());
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(unreadable)?;
    opened.take(CONTRACT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    let draft = Contract::lint(&bytes);
    let warnings = draft.as_ref().map_or_else(|_| Vec::new(), warnings);
    if json {
        let faults: Vec<_> = draft.as_ref().err().map_or_else(Vec::new, |error| {
            let one = |fault: &guan_policy::ContractFault| {
                json!({"pointer": fault.pointer, "problem": fault.problem.to_string()})
            };
            error.faults.iter().map(one).collect()
        });
        print_json(&json!({"is_valid": draft.is_ok(), "faults": faults, "warnings": warnings}))?;
    }
    match draft {
        Ok(contract) if !json => {
            println!("{} v{} is well formed", contract.id(), contract.version());
            for rule in contract.rules() {
                let tests: Vec<String> =
                    rule.constraint.leaves().iter().map(|leaf| leaf.text.to_string()).collect();
                let when = if tests.is_empty() { "always".to_owned() } else { tests.join("; ") };
                println!("  {:?} {}: {when}", rule.kind, rule.id);
                rule.duty_texts().iter().for_each(|duty| println!("    duty {duty}"));
            }
            contract.obligation_texts().iter().for_each(|duty| println!("  Obligation {duty}"));
            warnings.iter().for_each(|text| println!("warning: {text}"));
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            if !json {
                println!("{error}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}
