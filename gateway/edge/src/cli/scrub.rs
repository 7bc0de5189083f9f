//! `guan log scrub`: asks the running gateway to read the log's bundles again now, and waits for what it finds.

use super::cert::now;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_edge::run::SCRUB_REQUEST_FILE;
use guan_edge::status::{EvidenceStatus, GuanStatus};
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn execute(common: &Common, wait_s: u64) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let before = GuanStatus::read(&config.state_dir)?;
    if before.is_stale(now()) {
        bail!("guan does not run; the running gateway scrubs its log: start `guan run`");
    }
    let request = config.state_dir.join(SCRUB_REQUEST_FILE);
    std::fs::write(&request, "scrub\n")
        .with_context(|| format!("{} cannot be written", request.display()))?;
    let deadline = Instant::now() + Duration::from_secs(wait_s);
    loop {
        let evidence = GuanStatus::read(&config.state_dir)?.evidence;
        // One that was underway when it was asked for comes to its end first.
        if !request.exists() && is_over(&before.evidence, &evidence) {
            return tell(common, &evidence);
        }
        if Instant::now() > deadline {
            bail!("the scrub is not over within {wait_s} s; `guan status` tells when it is");
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Whether a scrub ended that began after that moment.
fn is_over(before: &EvidenceStatus, after: &EvidenceStatus) -> bool {
    let is_new = after.scrub_began_ms.is_some() && after.scrub_began_ms != before.scrub_began_ms;
    is_new && after.scrub_ended_ms >= after.scrub_began_ms
}

fn tell(common: &Common, evidence: &EvidenceStatus) -> anyhow::Result<ExitCode> {
    let EvidenceStatus { log, scrub_found, damaged_bundles, .. } = evidence;
    if common.json {
        print_json(&json!({
            "log": log, "found": scrub_found, "damaged_bundles": damaged_bundles,
            "began_ms": evidence.scrub_began_ms, "ended_ms": evidence.scrub_ended_ms,
        }))?;
    } else if *scrub_found == 0 {
        println!("every bundle of {log} on this disk is as it was sealed");
    } else {
        println!(
            "{scrub_found} bundles of {log} were found damaged, and {damaged_bundles} are still; the running \
             gateway asks the space's mirror for them: see the alarms in `guan status`"
        );
    }
    Ok(if *scrub_found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
