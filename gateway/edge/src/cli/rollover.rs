//! `guan log rollover`: asks the running gateway for a new key of the log, and waits until it signs.

use super::acts::By;
use super::cert::now;
use super::log::lineage;
use super::request::Asked;
use super::{Common, load, print_json};
use anyhow::bail;
use guan_edge::run::{ROLLOVER_REQUEST_FILE, RolloverRequest};
use guan_edge::status::GuanStatus;
use guan_edge::system_clock::wall_time;
use serde_json::json;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn execute(common: &Common, by: &By, wait_s: u64) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let before = lineage(&config)?.newest().clone();
    let status = GuanStatus::read(&config.state_dir)?;
    if status.is_stale(now()) {
        bail!("guan does not run; the running gateway changes the key: start `guan run`");
    }
    let asked = Asked::leave(&config, ROLLOVER_REQUEST_FILE, by, |actor| {
        RolloverRequest::new(wall_time(), actor)
    })?;
    let deadline = Instant::now() + Duration::from_secs(wait_s);
    loop {
        // Between two files that are replaced one after the other they do not fit; then it is looked again.
        if let Some((step, after)) = lineage(&config).ok().and_then(|lineage| {
            let step = lineage.steps().last()?;
            let (origin, index) = step.place();
            Some(((origin.to_owned(), index), lineage.newest().clone()))
        }) && after != before
        {
            let (origin, index) = step;
            match common.json {
                true => print_json(&json!({
                    "origin": origin, "index": index, "key": after.to_string(),
                    "before": before.to_string(),
                }))?,
                false => println!(
                    "entry {index} of {origin} hands over to\n{after}\nwho checks the log by its earlier key \
                     follows that entry; the space is told over the link"
                ),
            }
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() > deadline {
            let what = match asked.take_back() {
                true => "and the old one stays",
                false => "and it may still come: the gateway has the request",
            };
            bail!("no new key within {wait_s} s, {what}; see the alarms in `guan status`");
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
