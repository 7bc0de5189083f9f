//! The simulator: the real engine, spool, log, link over quinn and store, on simulated disks, network and
//! clock, under faults that a seed chooses.
//!
//! `GUAN_SIM_SEEDS=500 cargo test -p guan-tests --test sim` runs seeds 0 to 499 instead of the fixed set;
//! `GUAN_SIM_SEED=17` runs one; `GUAN_SIM_DAYS=30` sets the length of the outage. Seeds that ever failed stand in `seeds.txt` and always run.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod box_host;
mod checks;
mod dice;
mod ledger;
mod medium;
mod outage;
mod overtaking;
mod quinn_net;
mod space_host;
mod world;

use std::time::Duration;
use world::{Breakage, run};

/// Seeds of an ordinary run.
const SEEDS: u64 = 40;

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("GUAN_SIM_SEED") {
        return vec![seed];
    }
    let fixed = include_str!("seeds.txt").lines().filter_map(|line| {
        line.split('#').next().and_then(|number| number.trim().parse::<u64>().ok())
    });
    let count = number("GUAN_SIM_SEEDS").unwrap_or(SEEDS);
    fixed.chain(0..count).collect()
}

#[test]
fn what_is_acknowledged_arrives_once_under_every_seed() {
    let mut failed = Vec::new();
    let seeds = seeds();
    let (mut readings, mut changed) = (0, 0);
    for seed in &seeds {
        match run(*seed, Breakage::None) {
            Ok(outcome) => {
                readings += outcome.readings;
                changed += u64::from(outcome.streams > 1);
            }
            Err(fault) => failed.push(format!("seed {seed}: {fault}")),
        }
    }
    println!(
        "sim: {} seeds, {readings} readings arrived, in {changed} seeds by both sides of their lane",
        seeds.len()
    );
    assert!(readings > 0);
    assert!(changed > 0 || seeds.len() < 10, "no lane ever changed its side");
    assert!(failed.is_empty(), "repeat with GUAN_SIM_SEED=<seed>:\n{}", failed.join("\n"));
}

/// Days without the space, in an ordinary run.
const OUTAGE_DAYS: u32 = 3;
/// What calling a space that does not answer may cost a day.
const CALLS_BYTES_MAX: u64 = 2 << 20;

#[test]
fn a_long_outage_costs_nothing() {
    let days = std::env::var("GUAN_SIM_DAYS").ok().and_then(|text| text.parse().ok());
    let days = days.unwrap_or(OUTAGE_DAYS);
    let outage = outage::run(days).unwrap_or_else(|fault| panic!("{fault}"));
    println!(
        "sim: {days} days without the space, {} batches waited and came in {} s, {} readings in all; the box \
         called for the space with {} bytes",
        outage.queued,
        outage.drained_in.as_secs(),
        outage.readings,
        outage.calls_bytes
    );
    assert!(outage.calls_bytes < u64::from(days) * CALLS_BYTES_MAX, "{} bytes", outage.calls_bytes);
    assert!(outage.queued > u64::from(days) * 50, "only {} batches waited", outage.queued);
}

/// One contract, an outage of an hour, a link on which the backlog takes its time: what comes now does not wait for it.
#[test]
fn new_batches_do_not_wait_behind_the_backlog_of_their_contract() {
    let run = |live_after| overtaking::run(live_after).unwrap_or_else(|fault| panic!("{fault}"));
    let (ordered, live) = (run(None), run(Some(Duration::from_secs(30))));
    println!("sim: in their order {ordered:?}");
    println!("sim: overtaking {live:?}");
    assert!(live.during > 30 && ordered.during > 30, "the backlog drained too quickly");
    assert!(live.worst < Duration::from_secs(3), "{live:?}");
    assert!(live.overtaking >= live.during as u64 / 2 && ordered.overtaking == 0, "{live:?}");
    assert!(ordered.median > live.worst * 5, "{ordered:?}");
    assert!(live.drained_in < ordered.drained_in * 3 / 2, "{live:?}, {ordered:?}");
}

/// A checker that cannot fail proves nothing: each broken promise must be seen within a few seeds.
fn check_seen(breakage: Breakage, part: &str) {
    let faults = (0..SEEDS).filter_map(|seed| run(seed, breakage).err());
    let mut found = faults.map(|fault| fault.to_string());
    let seen = found.any(|fault| {
        println!("{breakage:?}: {fault}");
        fault.contains(part)
    });
    assert!(seen, "{breakage:?} was not seen as {part:?}");
}

#[test]
fn an_acknowledgement_before_the_commit_is_seen() {
    check_seen(Breakage::EarlyAnswer, "acknowledged and missing");
}

#[test]
fn a_skipped_directory_sync_is_seen() {
    check_seen(Breakage::NoDirectorySync, "acknowledged and");
}

#[test]
fn an_edited_log_entry_is_seen() {
    check_seen(Breakage::EditedLeaf, "log");
}

#[test]
fn a_batch_without_decision_is_seen() {
    check_seen(Breakage::NoDecision, "log");
}
