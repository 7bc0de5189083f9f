//! `guan-space deleted`: what was deleted as contracts asked, and whether the space has signed it.

use super::{Common, load, print_json};
use anyhow::Context;
use guan_identity::LogKeyFile;
use guan_model::Signer;
use guan_space::retention::{DELETED_FILE, Finding, review};
use serde_json::{Value, json};
use std::process::ExitCode;

/// With `verify`, the exit status tells whether every line is good.
pub(super) fn execute(common: &Common, verify: bool) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let file = &config.contract_key_file;
    let key = LogKeyFile::load(file, config.id.as_str())
        .with_context(|| format!("the key {} cannot be used", file.display()))?;
    let path = config.state_dir.join(DELETED_FILE);
    let (mut all, mut count, mut bad) = (Vec::new(), 0u64, 0u64);
    let reviewed = review(&path, &key.public_key(), &mut |event, finding| {
        count += 1;
        bad += u64::from(finding != Finding::Good);
        match common.json {
            true if verify => all.push(json!({"deleted": event, "signature": finding.name()})),
            true => all.push(json!({"deleted": event})),
            false => print(event, verify.then_some(finding)),
        }
    });
    reviewed.with_context(|| format!("{} cannot be read", path.display()))?;
    match common.json {
        true if verify => print_json(&json!({"lines": all, "verified": bad == 0}))?,
        true => print_json(&json!({"lines": all}))?,
        false if count == 0 => println!("nothing was deleted"),
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
