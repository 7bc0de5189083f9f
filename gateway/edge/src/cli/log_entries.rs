//! `guan log show`: entries of the log for people.

use super::acts::openings;
use super::log::reader;
use super::{Common, load, print_json};
use guan_evidence::view::{Newest, entry, line};
use guan_log::{Openings, Piece};
use guan_policy::object::moment_text;
use serde_json::json;
use std::process::ExitCode;

/// Who acted is shown only with `disclose`.
pub(super) fn show(
    common: &Common,
    last: usize,
    kind: Option<&str>,
    disclose: bool,
) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let mut newest = Newest::new(last, kind);
    let mut next = 0;
    reader(&config)?.for_each_piece(&mut |piece| match piece {
        Piece::Leaf(index, bytes) => {
            next = index + 1;
            newest.handle_bytes(bytes);
        }
        Piece::Damaged { through } => {
            eprintln!("guan: entries {next} to {through} cannot be read: their bundle is damaged");
            next = through + 1;
        }
    })?;
    let known = if disclose { openings(&config)? } else { Openings::default() };
    if common.json {
        let entries = newest.entries().map(|(leaf, json)| {
            let mut json = json.clone();
            if let Some(name) = known.name_of(leaf.actor.as_ref()) {
                json["actor_name"] = json!(name);
            }
            json
        });
        print_json(&json!({"entries": entries.collect::<Vec<_>>()}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (leaf, _) in newest.entries() {
        let (seq, kind, at) = (leaf.seq, leaf.body.kind_name(), moment_text(leaf.wall));
        let by = match (leaf.actor, known.name_of(leaf.actor.as_ref())) {
            (None, _) => String::new(),
            (Some(_), Some(name)) => format!(", by {name}"),
            (Some(_), None) if disclose => ", by somebody who is not known here".to_owned(),
            (Some(commitment), None) => format!(", by {commitment}"),
        };
        println!("{seq:>8}  {at}  {kind:<16} {}{by}", line(&entry(&leaf.body)));
    }
    if known.damaged > 0 {
        println!("{} files that say who acted are damaged and open nothing", known.damaged);
    }
    Ok(ExitCode::SUCCESS)
}
