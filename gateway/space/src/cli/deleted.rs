//! `guan-space deleted`: what was deleted as contracts asked, and whether the space has signed it.

use super::{Common, load, print_json};
use anyhow::Context;
use guan_identity::LogKeyFile;
use guan_model::Signer;
use guan_space::retention::{DELETED_FILE, Finding, review};
use serde_json::{Value, json};
use std::process::ExitCode;

/// With `verify`, the exit status tells whether every line is good. Half a line says nothing, so it is no lie:
/// the space says its deletion again.
pub(super) fn execute(common: &Common, verify: bool) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let file = &config.contract_key_file;
    let key = LogKeyFile::load(file, config.id.as_str())
        .with_context(|| format!("the key {} cannot be used", file.display()))?;
    let path = config.state_dir.join(DELETED_FILE);
    let (mut all, mut count, mut bad, mut damaged) = (Vec::new(), 0u64, 0u64, 0u64);
    let reviewed = review(&path, &key.public_key(), &mut |event, finding| {
        match finding {
            Finding::Damaged => damaged += 1,
            Finding::Good => count += 1,
            Finding::Forged | Finding::Unknown => (count, bad) = (count + 1, bad + 1),
        }
        match common.json {
            true if verify => all.push(json!({"deleted": event, "signature": finding.name()})),
            true => all.push(json!({"deleted": event})),
            false if finding == Finding::Damaged => {
                println!(
                    "half a line of a power cut; its deletion is said again below, or when the space runs"
                );
            }
            false => print(event, verify.then_some(finding)),
        }
    });
    reviewed.with_context(|| format!("{} cannot be read", path.display()))?;
    match common.json {
        true if verify => {
            print_json(&json!({"lines": all, "verified": bad == 0, "damaged": damaged}))?;
        }
        true => print_json(&json!({"lines": all, "damaged": damaged}))?,
        false if count + damaged == 0 => println!("nothing was deleted"),
        false if verify && bad == 0 => println!("{count} lines, all signed by {}", config.id),
        false if verify => println!("{bad} of {count} lines are not what {} signed", config.id),
        false => {}
    }
    Ok(if verify && bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(event: &Value, finding: Option<Finding>) {
    let text = |key: &str| event[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| event[key].as_i64().map_or("?".to_owned(), |it| it.to_string());
    let boxes = event["boxes"].as_array().map(|all| {
        let names: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
        names.join(",")
    });
    let finding = finding.map_or(String::new(), |finding| format!("  {}", finding.name()));
    println!(
        "{} s  contract {}  boxes {}  came from {} s  {} batches, {} readings, {} bytes{finding}",
        number("deleted_at_s"),
        text("contract"),
        boxes.unwrap_or_else(|| "?".to_owned()),
        number("received_from_s"),
        number("batches"),
        number("rows"),
        number("bytes"),
    );
}
