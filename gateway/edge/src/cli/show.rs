//! `guan status` and `guan config`.

use super::{Common, load, print_json};
use guan_configs::Value;
use guan_configs::edge::EdgeConfig;
use guan_edge::flash::{FULL_WRITES, FlashView};
use guan_edge::status::{EvidenceStatus, GuanStatus, LinkUse};
use guan_edge::system_clock::wall_time;
use guan_model::{ByteCount, WallTime};
use guan_policy::object::moment_text;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn status(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let status = GuanStatus::read(&config.state_dir)?;
    let is_stale = status.is_stale(wall_time());
    if common.json {
        let mut value = serde_json::to_value(&status)?;
        value["is_stale"] = is_stale.into();
        print_json(&value)?;
    } else {
        print_status(&status);
    }
    if is_stale {
        eprintln!("guan: this is old: the gateway does not run, or hangs; look at its log");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_link_use(used: &LinkUse) {
    let bytes =
        |today, month| format!("{} today, {} this month", ByteCount(today), ByteCount(month));
    println!("           {}", bytes(used.bytes_today, used.bytes_month));
    if let Some(why) = &used.why {
        println!("           {}: {why}", used.permit);
    }
    for one in &used.contracts {
        let spent = if one.is_spent { ", spent: its batches wait" } else { "" };
        println!("  {:<12} {}{spent}", one.id, bytes(one.bytes_today, one.bytes_month));
    }
}

fn print_status(status: &GuanStatus) {
    let GuanStatus { box_id, boot, tier, clock, process, .. } = status;
    println!("box        {box_id}, boot {boot}, process {process}, tier {tier}, clock {clock}");
    let listen = status.mqtt_listen.as_deref().unwrap_or("off");
    let intake = &status.intake;
    println!(
        "mqtt       {listen}, {} connections, {} messages",
        intake.connections, intake.publications
    );
    for (reason, count) in &intake.refused {
        println!("refused    {count} messages: {reason}");
    }
    for (what, count) in &intake.missed {
        println!("missed     {count} by local subscribers, for want of room: {what}");
    }
    if let Some(text) = &intake.last_refusal {
        println!("           last: {text}");
    }
    let link = &status.link;
    let transport = link.transport.as_ref().map_or(String::new(), |name| format!(" over {name}"));
    println!(
        "link       {}{transport}, {} sessions, {} failures",
        link.state, link.sessions, link.failures
    );
    if let (Some(error), true) = (&link.last_error, link.state != "connected") {
        println!("           last: {error}");
    }
    print_link_use(&status.link_use);
    println!(
        "spool      {} of {}, {} batches wait",
        ByteCount(status.spool_bytes),
        ByteCount(status.spool_bytes_max),
        status.queued_batches
    );
    show_flash(&status.flash);
    for stream in &status.streams {
        println!(
            "  {:<12} newest {}, acknowledged {}, {} of {}",
            stream.name,
            stream.newest,
            stream.acknowledged,
            ByteCount(stream.queued_bytes),
            ByteCount(stream.size_bytes_max)
        );
    }
    println!("log        {} entries", status.log_entries);
    show_evidence(&status.evidence);
    println!(
        "contracts  {}",
        if status.contracts.is_empty() {
            "none: nothing may leave".to_owned()
        } else {
            status.contracts.join(", ")
        }
    );
    for waiting in &status.waiting {
        println!("waiting    {waiting}");
    }
    for (dataset, counts) in &status.datasets {
        println!(
            "  {dataset:<20} {} readings in, {} permitted, {} denied",
            counts.rows_in, counts.rows_permitted, counts.rows_refused
        );
    }
    for notice in &status.notices {
        println!("notice     {notice}");
    }
    for alarm in &status.alarms {
        println!("ALARM      {alarm}");
    }
}

fn show_flash(flash: &FlashView) {
    let written = ByteCount(flash.written_bytes);
    match (flash.written_bytes_per_day, flash.years) {
        (Some(per_day), Some(years)) => println!(
            "flash      {} a day: {} of {FULL_WRITES} full writes last {years} years",
            ByteCount(per_day),
            ByteCount(flash.size_bytes)
        ),
        _ => println!(
            "flash      {written} written in {} s, too short for a forecast",
            flash.observed_s
        ),
    }
}

pub(super) fn config_check(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let (points, mappings) = (config.descriptors.iter().count(), config.mappings.len());
    if common.json {
        print_json(&json!({"valid": true, "points": points, "mappings": mappings}))?;
    } else {
        println!("{} is valid: {points} points, {mappings} mappings", common.config.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn config_show(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    if !common.json {
        print!("{}", config.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    let values: Vec<_> = config
        .effective()
        .iter()
        .map(|one| {
            let key = if one.table.is_empty() {
                one.key.clone()
            } else {
                format!("{}.{}", one.table, one.key)
            };
            let value = match &one.value {
                Value::Text(text) => json!(text),
                Value::Integer(number) => json!(number),
                Value::Flag(flag) => json!(flag),
                Value::Texts(texts) => json!(texts),
                Value::Absent => json!(null),
            };
            json!({"key": key, "value": value, "line": one.line, "is_default": one.line.is_none()})
        })
        .collect();
    print_json(&json!({"file": common.config, "values": values}))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn config_reference(json: bool) -> anyhow::Result<ExitCode> {
    let reference = EdgeConfig::reference();
    if json {
        let keys: Vec<_> = reference
            .iter()
            .map(|key| {
                json!({"key": key.key, "kind": key.kind, "accepted": key.accepted,
                       "default": key.default, "about": key.about})
            })
            .collect();
        print_json(&keys)?;
        return Ok(ExitCode::SUCCESS);
    }
    for key in reference {
        let default =
            key.default.map_or("must be given".to_owned(), |value| format!("default {value}"));
        println!("{}\n    {}: {}; {default}\n    {}", key.key, key.kind, key.accepted, key.about);
    }
    Ok(ExitCode::SUCCESS)
}

/// Who vouches for how much of the log.
fn show_evidence(evidence: &EvidenceStatus) {
    let sizes = [
        ("signed", Some(evidence.signed)),
        ("anchored", evidence.anchored),
        ("chained", evidence.chained),
        ("cosigned", evidence.cosigned.map(|(size, _)| size)),
        ("mirrored", evidence.mirrored),
        ("stamped", evidence.stamped.map(|(size, _)| size)),
    ];
    let known = sizes.iter().filter_map(|(what, size)| Some(format!("{what} {}", (*size)?)));
    println!("           {}", known.collect::<Vec<_>>().join(", "));
    if let Some(ended_ms) = evidence.scrub_ended_ms {
        let at = moment_text(WallTime::from_millis(ended_ms));
        let damaged = match (evidence.scrub_found, evidence.damaged_bundles) {
            (0, 0) => "nothing damaged".to_owned(),
            (found, damaged) => format!("{found} damaged bundles found, {damaged} are now"),
        };
        println!("           scrubbed {at}: {damaged}");
    } else if evidence.damaged_bundles > 0 {
        println!("           {} damaged bundles", evidence.damaged_bundles);
    }
    if evidence.refilled_bundles > 0 {
        println!(
            "           {} bundles came back from the space's mirror since the start",
            evidence.refilled_bundles
        );
    }
    if let Some(fault) = &evidence.stamp_fault {
        println!("           no time stamp: {fault}");
    }
    if let Some(suspect) = &evidence.suspect {
        println!("           SUSPECT: {suspect}");
    }
}
