//! `guan-space status`, `export` and `config`.

use super::{Common, load, print_json, wall_time};
use anyhow::Context;
use guan_configs::SpaceConfig;
use guan_model::ByteCount;
use guan_space::retention::Retention;
use guan_space::{export, run, status};
use guan_spool::OsDisk;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn status(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let status = status::read(&config.state_dir)?;
    let is_stale = status.is_stale(wall_time());
    if common.json {
        let mut value = serde_json::to_value(&status)?;
        value["is_stale"] = is_stale.into();
        print_json(&value)?;
    } else {
        print_status(&status);
    }
    if is_stale {
        eprintln!("guan-space: this is old: the space does not run, or hangs; look at its log");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_status(status: &status::SpaceStatus) {
    let full = if status.store_is_full { ", THE DISK IS FULL" } else { "" };
    println!("space      {}, listens on {}", status.space, status.listen);
    println!("store      {}{full}", ByteCount(status.store_bytes));
    println!(
        "batches    {} stored, {} came twice, {} refused, {} commits (since the start)",
        status.batches_stored, status.duplicates_dropped, status.refused, status.commits
    );
    println!("log        {} entries", status.log_entries);
    for one in &status.boxes {
        let state = match &one.address {
            Some(address) => format!("connected from {address}"),
            None => "not connected".to_owned(),
        };
        let log = one.log_size.map_or(String::new(), |size| format!(", log of {size} entries"));
        println!("box        {}: {state}{log}", one.id);
    }
    for dataset in &status.datasets {
        println!(
            "  {:<20} {} readings in {} batches, {}",
            dataset.id,
            dataset.rows,
            dataset.batches,
            ByteCount(dataset.batch_bytes)
        );
    }
    for alarm in &status.alarms {
        println!("ALARM      {alarm}");
    }
}

pub(super) fn export(common: &Common, out: &Path, by_contract: bool) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    let path = config.state_dir.join(run::STORE_DIR);
    let disk = OsDisk::open_read_only(&path).with_context(|| {
        format!("there is no store in {}; start `guan-space run` first", path.display())
    })?;
    let layout = match by_contract {
        true => export::Layout::ByContract,
        false => export::Layout::Together,
    };
    let retention = Retention::open(&config.state_dir)?;
    let report = export::export(&disk, out, layout, &retention)?;
    if common.json {
        return print_json(&report);
    }
    for file in &report.files {
        let name = match &file.contract {
            Some(contract) => format!("{contract} {}", file.dataset),
            None => file.dataset.clone(),
        };
        println!("{name:<20} {} readings -> {}", file.rows, file.path.display());
    }
    if report.rows_in_gaps > 0 {
        println!("{} readings were given up by boxes before they came here", report.rows_in_gaps);
    }
    if report.rows_deleted > 0 {
        println!("{} readings were deleted, as their contracts demand", report.rows_deleted);
    }
    if report.files.is_empty() {
        println!("the store is empty");
    }
    Ok(())
}

pub(super) fn config_check(common: &Common) -> anyhow::Result<()> {
    load(&common.config)?;
    match common.json {
        true => print_json(&json!({"valid": true})),
        false => {
            println!("{} is valid", common.config.display());
            Ok(())
        }
    }
}

pub(super) fn config_show(common: &Common) -> anyhow::Result<()> {
    let config = load(&common.config)?;
    if !common.json {
        print!("{}", config.to_toml());
        return Ok(());
    }
    let values = config.effective().iter().map(|one| {
        json!({"key": format!("{}.{}", one.table, one.key), "value": one.value.to_toml(),
               "line": one.line})
    });
    print_json(&json!({"file": common.config, "values": values.collect::<Vec<_>>()}))
}

pub(super) fn config_reference() {
    for key in SpaceConfig::reference() {
        let default =
            key.default.map_or("must be given".to_owned(), |value| format!("default {value}"));
        println!("{}\n    {}: {}; {default}\n    {}", key.key, key.kind, key.accepted, key.about);
    }
}
