//! `guan meter`: what the signed log says was kept under each contract, day by day (计量).

use super::log::read_leaves;
use super::{Common, load, print_json};
use guan_evidence::{Leaf, LeafBody};
use guan_model::{BatchSeq, StreamId};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Batches and readings of a day.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
struct Sum {
    batches: u64,
    rows: u64,
}

/// Ranges of batches that were given up, by stream.
type Gaps = BTreeMap<StreamId, Vec<(BatchSeq, BatchSeq)>>;

pub(super) fn execute(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let mut gaps = Gaps::new();
    read_leaves(&config, &mut |bytes| {
        if let Ok(Leaf { body: LeafBody::DataGap(gap), .. }) = Leaf::decode(bytes) {
            gaps.entry(gap.stream).or_default().push((gap.from, gap.through));
        }
    })?;
    let mut kept: BTreeMap<String, BTreeMap<String, Sum>> = BTreeMap::new();
    let mut given_up: BTreeMap<String, Sum> = BTreeMap::new();
    read_leaves(&config, &mut |bytes| {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        let LeafBody::Batch(batch) = &leaf.body else { return };
        let contract = batch.contract.to_string();
        let day = day(leaf.wall.millis());
        let add = |sum: &mut Sum| {
            sum.batches += 1;
            sum.rows += batch.rows;
        };
        add(kept.entry(contract.clone()).or_default().entry(day).or_default());
        let gone = gaps.get(&batch.stream).is_some_and(|ranges| {
            ranges.iter().any(|(from, through)| (*from..=*through).contains(&batch.seq))
        });
        if gone {
            add(given_up.entry(contract).or_default());
        }
    })?;
    if common.json {
        print_json(&json!({
            "schema": 1, "box": config.box_id.as_str(), "contracts": kept, "given_up": given_up,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24} {:<12} {:>9} {:>12}", "contract", "day (UTC)", "batches", "readings");
    for (contract, days) in &kept {
        for (day, sum) in days {
            println!("{contract:<24} {day:<12} {:>9} {:>12}", sum.batches, sum.rows);
        }
    }
    for (contract, sum) in &given_up {
        println!("{contract:<24} given up     {:>9} {:>12}", sum.batches, sum.rows);
    }
    println!("`guan meter --json` is what `guan-space meter --box FILE` compares with its store");
    Ok(ExitCode::SUCCESS)
}

fn day(millis: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(millis.div_euclid(1000));
    at.map_or_else(|_| "unknown".to_owned(), |at| at.date().to_string())
}
