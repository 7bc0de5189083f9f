//! The simulator: the real engine, spool, log, link over quinn and store, on simulated disks, network and
//! clock, under faults that a seed chooses.
//!
//! `GUAN_SIM_SEEDS=500 cargo test -p guan-tests --test sim` runs seeds 0 to 499 instead of the fixed set;
//! `GUAN_SIM_SEED=17` runs one. Seeds that ever failed stand in `seeds.txt` and always run.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod box_host;
mod checks;
mod dice;
mod ledger;
mod quinn_net;
mod space_host;
mod world;

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
    let mut readings = 0;
    for seed in &seeds {
        match run(*seed, Breakage::None) {
            Ok(outcome) => readings += outcome.readings,
            Err(fault) => failed.push(format!("seed {seed}: {fault}")),
        }
    }
    println!("sim: {} seeds, {readings} readings arrived", seeds.len());
    assert!(readings > 0);
    assert!(failed.is_empty(), "repeat with GUAN_SIM_SEED=<seed>:\n{}", failed.join("\n"));
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
