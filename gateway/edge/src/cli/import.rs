//! `guan contract import`.

use super::acting::{acting, not_begun, unsure};
use super::acts::By;
use super::{Common, load, print_json};
use anyhow::Context as _;
use guan_edge::standing::{StandingFault, carrier_waits, leave_carrier};
use guan_edge::status::GuanStatus;
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_edge::wiring;
use guan_evidence::Deed;
use guan_model::Digest;
use guan_policy::CARRIER_BYTES_MAX;
use serde_json::json;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long beyond its interval a running program may take.
const TAKE_WAIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// SHA-256 of the file, as far as one of this kind can go.
fn digest(file: &Path) -> anyhow::Result<Digest> {
    let context = || format!("{} cannot be read", file.display());
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(context)?;
    opened.take(CARRIER_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(context)?;
    Ok(Digest::of(&bytes))
}

pub(super) fn import(common: &Common, file: &Path, by: &By) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let keys = wiring::trusted_keys(&config)?;
    let done = (Deed::ContractsImported, Some(digest(file)?));
    let roster = acting(&config, by, done, || {
        leave_carrier(&config, &keys, file).map_err(|fault| match fault {
            StandingFault::File { .. } => unsure(fault),
            fault => not_begun(fault),
        })
    })?;
    let now = SharedClock::new(SystemClock::new(None)).read();
    let runs = GuanStatus::read(&config.state_dir).is_ok_and(|status| !status.is_stale(now.wall));
    let deadline = Instant::now() + config.contracts.reload + TAKE_WAIT;
    while runs && carrier_waits(&config.state_dir) && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    let is_taken = !carrier_waits(&config.state_dir);
    if common.json {
        let contracts = roster.entries.iter().map(|one| {
            json!({"id": one.contract.as_str(), "version": one.version, "state": one.state.name()})
        });
        let contracts: Vec<_> = contracts.collect();
        print_json(&json!({"epoch": roster.epoch, "taken": is_taken, "contracts": contracts}))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("contract set of {} with epoch {}", roster.space, roster.epoch);
    for one in &roster.entries {
        println!("  {:<10} {} version {}", one.state.name(), one.contract, one.version);
    }
    match (is_taken, runs) {
        (true, _) => println!("guan has looked at it; `guan status` says whether it counts"),
        (false, true) => println!(
            "guan runs and could not keep it yet, and tries again; `guan status` says why: look at the disk first"
        ),
        (false, false) => println!("guan takes it when it next starts"),
    }
    Ok(ExitCode::SUCCESS)
}
