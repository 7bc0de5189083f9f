//! `guan log show`: entries of the log for people.

use super::log::read_leaves;
use super::{Common, load, print_json};
use guan_evidence::view::{Newest, entry, line};
use guan_policy::object::moment_text;
use std::process::ExitCode;

pub(super) fn show(common: &Common, last: usize, kind: Option<&str>) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let mut newest = Newest::new(last, kind);
    read_leaves(&config, &mut |bytes| newest.handle_bytes(bytes))?;
    if common.json {
        print_json(&newest.json())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (leaf, _) in newest.entries() {
        let (seq, kind, at) = (leaf.seq, leaf.body.kind_name(), moment_text(leaf.wall));
        println!("{seq:>8}  {at}  {kind:<16} {}", line(&entry(&leaf.body)));
    }
    Ok(ExitCode::SUCCESS)
}
