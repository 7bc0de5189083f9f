//! `guan meter`: what the signed log says was kept under each contract, day by day (计量).

use super::log::{key_of, reader};
use super::{Common, load, print_json};
use guan_evidence::account::{Account, Fates};
use guan_evidence::view::account_line;
use guan_evidence::{Checkpoint, Leaf};
use guan_policy::object::day_text;
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn execute(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let log = reader(&config)?;
    let head = log.checkpoint()?;
    let head = match head {
        Some(text) => Some(Checkpoint::parse_and_verify(&text, &key_of(&config, &text)?)?),
        None => None,
    };
    let signed = head.map_or(0, |head| head.size);
    let mut fates = Fates::default();
    log.for_each(&mut |_, bytes| {
        if let Ok(leaf) = Leaf::decode(bytes) {
            fates.handle_leaf(&leaf);
        }
    })?;
    let mut account = Account::new(&fates);
    log.for_each(&mut |index, bytes| {
        if let Ok(leaf) = Leaf::decode(bytes) {
            account.handle_leaf(&leaf, index < signed);
        }
    })?;
    let left_out = account.left_out();
    let lines = account.lines();
    if common.json {
        let lines = lines.iter().map(|((contract, day), line)| {
            let mut json = account_line(line);
            json["contract"] = json!(contract.as_str());
            json["day"] = json!(day_text(*day));
            json
        });
        let lines: Vec<Value> = lines.collect();
        print_json(&json!({
            "schema": 2, "box": config.box_id.as_str(), "lines": lines, "left_out": left_out,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{:<24} {:<10} {:>9} {:>12} {:>12} {:>12} {:>12}",
        "contract", "day (UTC)", "batches", "readings", "signed", "received", "given up"
    );
    for ((contract, day), line) in &lines {
        let (kept, given_up) = (line.kept, line.given_up());
        println!(
            "{:<24} {:<10} {:>9} {:>12} {:>12} {:>12} {:>12}",
            contract.as_str(),
            day_text(*day),
            kept.batches,
            kept.rows,
            line.proven.rows,
            line.sent.rows,
            given_up.rows
        );
    }
    if left_out > 0 {
        println!("{left_out} batches more are in none of these lines");
    }
    println!("received: as the space says; `guan-space meter` compares this log with its store");
    Ok(ExitCode::SUCCESS)
}
