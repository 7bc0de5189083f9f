//! `guan-space contract acknowledge`: a consumer says under its signature what it got.

use super::contract::key_of;
use super::meter::shown;
use super::{Common, load, print_json, wall_time};
use anyhow::{Context, bail};
use guan_model::ContractId;
use guan_policy::contract::parse_moment;
use guan_space::acknowledgement::{
    ACKNOWLEDGED_FILE, Acknowledged, Covered, acknowledge, asked, count, due, read_known,
};
use guan_space::parties::PartyKeys;
use guan_space::{run, signed_lines};
use guan_spool::OsDisk;
use serde_json::json;
use std::path::Path;

/// Signs for every period that is due, or for the one in which a moment lies.
pub(super) fn execute(
    common: &Common,
    contract: &str,
    period: Option<&str>,
    by: Option<(&str, &Path)>,
) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let id = ContractId::parse(contract)?;
    let mut all = asked(&run::open_sets(&config)?);
    all.retain(|contract, _| *contract == id);
    let consumer = all.get(&id).map(|one| one.consumer.clone()).with_context(|| {
        format!("no box has a contract {id} that asks for acknowledgeUse; see `contract list`")
    })?;
    if let Some((party, _)) = by
        && party != consumer
    {
        bail!("{party} is not the consumer of contract {id}; {consumer} acknowledges its use");
    }
    let parties = PartyKeys::new(&config);
    let key = match by {
        Some(by) => key_of(&config, Some(by))?.1,
        None => parties.private(&consumer)?.with_context(|| {
            format!("this space has no key of {consumer}; name it with --by {consumer} --key FILE")
        })?,
    };
    let path = config.state_dir.join(run::STORE_DIR);
    let store = OsDisk::open_read_only(&path).with_context(|| {
        format!("there is no store in {}; start `guan-space run` first", path.display())
    })?;
    let known = read_known(&config.state_dir, &parties);
    let (known, _) = known.with_context(|| format!("{ACKNOWLEDGED_FILE} cannot be read"))?;
    let covered = Covered::new(&all, &known);
    // Before it is counted: a period that is over by then gets nothing more.
    let now = wall_time();
    let counted = count(&store, &all, &covered)?;
    let is_all = counted.fault().is_none();
    let mut waiting = due(&all, &counted.uses, &covered, now);
    if let Some(text) = period {
        let at = parse_moment(text)
            .with_context(|| format!("{text:?} is no moment such as 2026-01-01T00:00:00Z"))?;
        let at_s = at.0.div_euclid(1_000_000_000);
        waiting.retain(|one| (one.period.from_s..one.period.until_s).contains(&at_s));
    }
    let mut said = Vec::new();
    for one in waiting {
        let what = Acknowledged {
            contract: one.contract,
            party: one.consumer,
            space: config.id.to_string(),
            from_s: one.period.from_s,
            until_s: one.period.until_s,
            batches: one.sum.batches,
            rows: one.sum.rows,
            at_s: now.0.div_euclid(1_000_000_000),
        };
        let path = config.state_dir.join(ACKNOWLEDGED_FILE);
        signed_lines::append(&path, &acknowledge(&what, &key)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        said.push(what);
    }
    if common.json {
        return print_json(&json!({"acknowledged": said, "is_all": is_all}));
    }
    print(&id, &said, is_all);
    Ok(())
}

fn print(id: &ContractId, said: &[Acknowledged], is_all: bool) {
    if said.is_empty() {
        println!("nothing is due under contract {id}");
    }
    for Acknowledged { party, rows, from_s, until_s, .. } in said {
        let (from, until) = (shown(*from_s), shown(*until_s));
        println!("{party} acknowledges {rows} readings, {from} to {until}");
    }
    if !is_all {
        println!("more periods wait than were counted at once; run this again");
    }
}
