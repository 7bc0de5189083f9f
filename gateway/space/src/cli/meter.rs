//! `guan-space meter`.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_model::BoxId;
use guan_space::meter::{BoxMeter, Compared, compare, received};
use guan_space::run;
use guan_spool::OsDisk;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// The version of `guan meter --json` that is read.
const SCHEMA: u32 = 1;

pub(super) fn execute(common: &Common, box_file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let path = config.state_dir.join(run::STORE_DIR);
    let disk = OsDisk::open_read_only(&path).with_context(|| {
        format!("there is no store in {}; start `guan-space run` first", path.display())
    })?;
    let boxes = received(&disk)?;
    let Some(file) = box_file else {
        if common.json {
            let boxes = boxes.iter().map(|(id, days)| (id.to_string(), json!(days)));
            print_json(&json!({"boxes": boxes.collect::<serde_json::Map<_, _>>()}))?;
            return Ok(ExitCode::SUCCESS);
        }
        println!(
            "{:<16} {:<24} {:<12} {:>9} {:>12}",
            "box", "contract", "day (UTC)", "batches", "readings"
        );
        for (id, contracts) in &boxes {
            for (contract, days) in contracts {
                for (day, sum) in days {
                    let (batches, rows) = (sum.batches, sum.rows);
                    println!("{id:<16} {contract:<24} {day:<12} {batches:>9} {rows:>12}");
                }
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
    let says: BoxMeter = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what `guan meter --json` prints", file.display()))?;
    if says.schema != SCHEMA {
        bail!("{} has schema {}, this program reads {SCHEMA}", file.display(), says.schema);
    }
    let here = boxes.get(&BoxId::parse(&says.box_id)?).cloned().unwrap_or_default();
    let compared = compare(&says, &here);
    let agrees = compared.iter().all(|one| one.missing_rows == 0);
    match common.json {
        true => print_json(&json!({
            "box": says.box_id, "agrees": agrees, "contracts": compared,
        }))?,
        false => print(&says.box_id, &compared),
    }
    Ok(if agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(box_id: &str, compared: &[Compared]) {
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>12}",
        "contract", "log says", "given up", "received", "missing"
    );
    for one in compared {
        println!(
            "{:<24} {:>12} {:>12} {:>12} {:>12}",
            one.contract, one.kept.rows, one.given_up.rows, one.received.rows, one.missing_rows
        );
    }
    match compared.iter().find(|one| one.missing_rows != 0) {
        None => println!("box {box_id} and this space agree"),
        Some(one) => println!(
            "box {box_id}: contract {} differs by {} readings: on their way, or ask the box's log",
            one.contract, one.missing_rows
        ),
    }
}
