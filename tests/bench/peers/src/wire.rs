//! Bytes on the wire for one reading: all Ethernet frames in both directions, from the first message until
//! the far end has the last.

use crate::Bench;
use crate::bridge::{Bridge, Saving};
use crate::load::{Load, Plan};
use crate::ours::{Ours, Setting};
use crate::payloads::WireSet;
use crate::throughput::number;
use anyhow::{Context, Result, ensure};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const IN_FLIGHT: u64 = 4_000;
const LOOK: Duration = Duration::from_millis(10);
const DELIVERY_MAX: Duration = Duration::from_secs(120);
/// Acknowledgements of the last messages are on their way for so long at most.
const TAIL: Duration = Duration::from_millis(300);

/// Bytes of a reading: to the far end, and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wire {
    pub(crate) there: f64,
    pub(crate) back: f64,
}

impl Wire {
    pub(crate) fn sum(self) -> f64 {
        self.there + self.back
    }
}

pub(crate) fn ours(bench: &Bench, set: &WireSet) -> Result<Wire> {
    let setting = Setting { points: &bench.points(1), rows_max: set.rows_max, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("wire-ours"), &setting)?;
    pair.start()?;
    let measured = count(bench, set, &pair.mqtt(), || pair.wait_stored(set.readings))?;
    pair.stop()?;
    Ok(measured)
}

pub(crate) fn bridge(bench: &Bench, set: &WireSet) -> Result<Wire> {
    let pair = Bridge::start(&bench.folder.join("wire-bridge"), &bench.far, Saving::Default)?;
    let started = Instant::now();
    count(bench, set, &pair.mqtt(), || {
        while pair.sink.delivered.load(Relaxed) < set.readings {
            ensure!(started.elapsed() < DELIVERY_MAX, "the bridge does not deliver everything");
            std::thread::sleep(LOOK);
        }
        Ok(())
    })
}

fn count(
    bench: &Bench,
    set: &WireSet,
    address: &str,
    wait: impl FnOnce() -> Result<()>,
) -> Result<Wire> {
    bench.far.set_single_frames(true)?;
    let bytes = || bench.far.bytes()?.context("a namespace is needed to count frames");
    let before = bytes()?;
    let plan = Plan::steady(address.to_owned(), set.messages.clone(), IN_FLIGHT);
    let load = Load::start(Plan { count: Some(set.readings), ..plan })?;
    load.join()?;
    wait()?;
    std::thread::sleep(TAIL);
    let after = bytes()?;
    bench.far.set_single_frames(false)?;
    let each = |before: u64, after: u64| number(after - before) / number(set.readings);
    Ok(Wire { there: each(before.0, after.0), back: each(before.1, after.1) })
}
