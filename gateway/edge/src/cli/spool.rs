//! `guan spool`.

use super::{Common, load, print_json};
use anyhow::Context;
use guan_edge::status::GuanStatus;
use guan_model::ByteCount;
use guan_spool::{OsDisk, spool};
use serde_json::json;
use std::process::ExitCode;

/// Folder of the spool in `box.state_dir`.
fn open(common: &Common) -> anyhow::Result<OsDisk> {
    let config = load(&common.config)?;
    let path = config.state_dir.join(guan_edge::run::SPOOL_DIR);
    OsDisk::open_read_only(&path)
        .with_context(|| format!("there is no spool in {}; start `guan run` first", path.display()))
}

pub(super) fn status(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let report = spool::verify(&open(common)?, &mut |_, _| {})?;
    // Cursors are the running gateway's; the files alone say what is there.
    let running = GuanStatus::read(&config.state_dir).ok();
    if common.json {
        let streams = running.as_ref().map(|status| &status.streams);
        print_json(&json!({
            "segments": report.segments, "batches": report.batches, "rows": report.rows,
            "batch_bytes": report.batch_bytes.0, "log_entries": report.leaves,
            "gaps": report.gaps, "streams": streams,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} segments with {} batches, {} readings, {}",
        report.segments, report.batches, report.rows, report.batch_bytes
    );
    for stream in running.iter().flat_map(|status| &status.streams) {
        println!(
            "{:<12} newest {}, acknowledged {}, {} of {}",
            stream.name,
            stream.newest,
            stream.acknowledged,
            ByteCount(stream.queued_bytes),
            ByteCount(stream.size_bytes_max)
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(common: &Common) -> anyhow::Result<ExitCode> {
    let report = spool::verify(&open(common)?, &mut |_, _| {})?;
    let is_clean = report.is_clean();
    if common.json {
        print_json(&json!({
            "clean": is_clean, "segments": report.segments, "batches": report.batches,
            "rows": report.rows, "log_entries": report.leaves, "holes": report.holes,
            "damaged_places": report.salvage.damaged_places,
            "damaged_bytes": report.salvage.damaged_bytes,
            "torn_bytes": report.salvage.torn_bytes,
        }))?;
    } else {
        println!(
            "{} segments, {} batches, {} readings, {} log entries",
            report.segments, report.batches, report.rows, report.leaves
        );
        let salvage = &report.salvage;
        match is_clean {
            true => println!("no damage"),
            false => println!(
                "DAMAGED: {} places ({}), {} batches missing; the next start salvages what is \
                 readable and tells the space of the gap",
                salvage.damaged_places,
                ByteCount(salvage.damaged_bytes),
                report.holes
            ),
        }
        if salvage.torn_bytes > 0 {
            println!(
                "{} bytes at the end were never acknowledged (a write was cut)",
                salvage.torn_bytes
            );
        }
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
