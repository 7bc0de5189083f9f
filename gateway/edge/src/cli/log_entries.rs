//! `guan log show`: entries of the log for people.

use super::log::read_leaves;
use super::{Common, load, print_json};
use guan_evidence::Leaf;
use guan_evidence::view::{LeafView, entry};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::process::ExitCode;

/// Most entries that are shown at a time.
const LAST_MAX: usize = 10_000;

pub(super) fn show(common: &Common, last: usize, kind: Option<&str>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let last = last.min(LAST_MAX);
    let mut view = LeafView::new();
    let mut entries: VecDeque<(Leaf, Value)> = VecDeque::new();
    read_leaves(&config, &mut |bytes| {
        let Ok(leaf) = Leaf::decode(bytes) else { return };
        let json = view.leaf(&leaf);
        if kind.is_none_or(|kind| leaf.body.kind_name() == kind) {
            entries.push_back((leaf, json));
        }
        if entries.len() > last {
            entries.pop_front();
        }
    })?;
    if common.json {
        let all: Vec<Value> = entries.into_iter().map(|(_, json)| json).collect();
        print_json(&json!({"entries": all}))?;
    } else {
        for (leaf, _) in &entries {
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
