//! `guan log show`: entries of the log for people.

use super::log::read_leaves;
use super::{Common, load, print_json};
use guan_evidence::{Leaf, LeafBody};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::process::ExitCode;

/// Most entries that are shown at a time.
const LAST_MAX: usize = 10_000;

pub(super) fn show(common: &Common, last: usize, kind: Option<&str>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let last = last.min(LAST_MAX);
    let mut entries: VecDeque<Leaf> = VecDeque::new();
    read_leaves(&config, &mut |bytes| {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        if kind.is_none_or(|kind| leaf.body.kind_name() == kind) {
            entries.push_back(leaf);
        }
        if entries.len() > last {
            entries.pop_front();
        }
    })?;
    if common.json {
        let all = entries.iter().map(|leaf| {
            json!({
                "seq": leaf.seq, "wall_ms": leaf.wall.millis(), "boot": leaf.boot.0,
                "kind": leaf.body.kind_name(), "entry": entry(&leaf.body),
            })
        });
        print_json(&json!({"entries": all.collect::<Vec<_>>()}))?;
    } else {
        for leaf in &entries {
            let (seq, kind) = (leaf.seq, leaf.body.kind_name());
            println!("{seq:>8}  {}  {kind:<16} {}", moment(leaf), line(&entry(&leaf.body)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn moment(leaf: &Leaf) -> String {
    let seconds = leaf.wall.millis().div_euclid(1000);
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| format!("{seconds} s"))
}

fn line(entry: &Value) -> String {
    let Some(members) = entry.as_object() else { return String::new() };
    let parts = members.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn entry(body: &LeafBody) -> Value {
    match body {
        LeafBody::Start { program, spool } => {
            json!({"program": program.as_str(), "spool": hex::encode(spool.0)})
        }
        LeafBody::Stop => json!({}),
        LeafBody::Batch(batch) => json!({
            "dataset": batch.dataset.as_str(), "contract": batch.contract.as_str(),
            "rows": batch.rows, "stream": batch.stream.0, "batch": batch.seq.0,
            "digest": batch.batch.to_string(),
        }),
        LeafBody::Decision(decision) => {
            let denied = decision.denied.iter().map(|(why, rows)| (why.name(), *rows));
            let denied: std::collections::BTreeMap<&str, u64> = denied.collect();
            json!({
                "dataset": decision.dataset.as_str(), "permitted": decision.permitted,
                "masked": decision.masked, "denied": denied,
            })
        }
        LeafBody::ContractChange { contract, version, digest, outcome, .. } => json!({
            "contract": contract.as_str(), "version": version, "outcome": outcome.name(),
            "digest": digest.to_string(),
        }),
        LeafBody::ConfigChange { digest, outcome } => {
            json!({"digest": digest.to_string(), "outcome": outcome.name()})
        }
        LeafBody::ClockStep { from, to } => {
            json!({"from_ms": from.millis(), "to_ms": to.millis()})
        }
        LeafBody::LogGap { from, through, reason } => {
            json!({"from": from, "through": through, "reason": reason.name()})
        }
        LeafBody::DataGap(gap) => json!({
            "stream": gap.stream.0, "from": gap.from.0, "through": gap.through.0,
            "rows": gap.rows, "reason": gap.reason.name(),
        }),
        LeafBody::Salvage(salvage) => json!({
            "files_set_aside": salvage.files_set_aside, "frames_lost": salvage.frames_lost,
            "bytes_lost": salvage.bytes_lost, "torn_tail_bytes": salvage.torn_tail_bytes,
        }),
    }
}
