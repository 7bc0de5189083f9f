//! Messages a second that are safe at the far end, for both products with the same payloads.
//!
//! Ours counts a message when the space has stored it, durably on both sides; the bridge's counts when the
//! subscriber behind the second broker has it.

use crate::bridge::{Bridge, Saving};
use crate::load::{Counters, Load, Plan};
use crate::mqtt::Prepared;
use crate::ours::{Ours, Setting};
use crate::payloads;
use crate::process::{cpu_s, resident_peak_mb};
use crate::{Bench, limits};
use anyhow::{Result, ensure};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_secs(2);
/// Messages that wait for their acknowledgement, over all clients.
const IN_FLIGHT: u64 = 12_000;
/// Messages that come as fast as the peer acknowledges them.
const FLOOD: u64 = 50_000;
const DELIVERY_MAX: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(2);
/// Messages that the near broker may hold for the bridge where the publisher waits.
const AHEAD: u64 = 20_000;
/// The same where it writes all that it holds at each change.
const AHEAD_SAVING: u64 = 100;

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) clients: usize,
    pub(crate) payload_bytes: usize,
}

/// What was measured in one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) per_s: f64,
    pub wait_p99_ms: f64,
    /// Of the process at the near end.
    pub(crate) resident_mb: f64,
    pub(crate) cpu_us: f64,
    pub(crate) far_cpu_us: f64,
    pub(crate) fsync_per_s: f64,
}

/// Ours, over a window in the middle of a steady load.
pub(crate) fn ours(bench: &Bench, cell: Cell) -> Result<Measured> {
    let fsync_per_s = limits::fsync_per_s(&bench.folder)?;
    let setting = Setting { points: &bench.points(cell.clients), ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("ours"), &setting)?;
    pair.start()?;
    let messages = payloads::sized(bench.machine()?, cell.clients, cell.payload_bytes);
    let load = Load::start(Plan::steady(pair.mqtt(), messages, IN_FLIGHT))?;
    std::thread::sleep(WARM_UP);
    load.counters.restart();
    let cpu = || Ok::<_, anyhow::Error>((cpu_s(pair.guan()?)?, cpu_s(pair.space()?)?));
    let (start_ms, start) = pair.next_stored()?;
    let before = cpu()?;
    std::thread::sleep(bench.window);
    let (end_ms, end) = pair.next_stored()?;
    let after = cpu()?;
    let resident_mb = resident_peak_mb(pair.guan()?)?;
    let counters = load.counters.clone();
    let acknowledged = load.stop()?;
    pair.wait_stored(acknowledged)?;
    pair.stop()?;
    let count = number(end - start);
    Ok(Measured {
        per_s: count * 1e3 / number(end_ms - start_ms),
        wait_p99_ms: counters.wait_ms(0.99).unwrap_or(f64::NAN),
        resident_mb,
        cpu_us: (after.0 - before.0) * 1e6 / count,
        far_cpu_us: (after.1 - before.1) * 1e6 / count,
        fsync_per_s,
    })
}

/// The peer under the very load that ours gets: messages come as fast as it acknowledges them, and pile up
/// before its bridge. Counted from the first message until the last is delivered.
pub(crate) fn bridge(bench: &Bench, cell: Cell) -> Result<Measured> {
    let (pair, messages, fsync_per_s) = set_up(bench, cell, Saving::Default)?;
    let each = FLOOD.div_ceil(cell.clients as u64);
    let all = each * cell.clients as u64;
    let plan = Plan::steady(pair.mqtt(), messages, IN_FLIGHT);
    let (before, started) = (cpu(&pair)?, Instant::now());
    let load = Load::start(Plan { count: Some(each), ..plan })?;
    let counters = load.counters.clone();
    load.join()?;
    while pair.sink.delivered.load(Relaxed) < all {
        ensure!(started.elapsed() < DELIVERY_MAX, "the bridge does not deliver everything");
        std::thread::sleep(LOOK);
    }
    let took = started.elapsed();
    measured(&pair, all, (before, took), &counters, fsync_per_s)
}

/// The peer with a publisher that waits for the subscriber, so that nothing piles up: the most that it can do.
pub(crate) fn bridge_paced(bench: &Bench, cell: Cell, saving: Saving) -> Result<Measured> {
    let (pair, messages, fsync_per_s) = set_up(bench, cell, saving)?;
    let delivered = pair.sink.delivered.clone();
    let ahead = if saving == Saving::Default { AHEAD } else { AHEAD_SAVING };
    let plan = Plan::steady(pair.mqtt(), messages, IN_FLIGHT);
    let load = Load::start(Plan { ahead: Some((delivered.clone(), ahead)), ..plan })?;
    std::thread::sleep(WARM_UP);
    load.counters.restart();
    let (before, started, start) = (cpu(&pair)?, Instant::now(), delivered.load(Relaxed));
    std::thread::sleep(bench.window);
    let (took, count) = (started.elapsed(), delivered.load(Relaxed) - start);
    let found = measured(&pair, count, (before, took), &load.counters, fsync_per_s);
    load.stop()?;
    found
}

type Pair = (Bridge, Vec<Arc<Prepared>>, f64);

fn set_up(bench: &Bench, cell: Cell, saving: Saving) -> Result<Pair> {
    let fsync_per_s = limits::fsync_per_s(&bench.folder)?;
    let pair = Bridge::start(&bench.folder.join("bridge"), &bench.far, saving)?;
    let messages = payloads::sized(bench.machine()?, cell.clients, cell.payload_bytes);
    Ok((pair, messages, fsync_per_s))
}

fn cpu(pair: &Bridge) -> Result<(f64, f64)> {
    let [near, far] = pair.processes();
    Ok((cpu_s(near)?, cpu_s(far)?))
}

fn measured(
    pair: &Bridge,
    count: u64,
    (before, took): ((f64, f64), Duration),
    counters: &Counters,
    fsync_per_s: f64,
) -> Result<Measured> {
    let (after, count) = (cpu(pair)?, number(count));
    Ok(Measured {
        per_s: count / took.as_secs_f64(),
        wait_p99_ms: counters.wait_ms(0.99).unwrap_or(f64::NAN),
        resident_mb: resident_peak_mb(pair.processes()[0])?,
        cpu_us: (after.0 - before.0) * 1e6 / count,
        far_cpu_us: (after.1 - before.1) * 1e6 / count,
        fsync_per_s,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a count of messages")]
pub(crate) fn number(count: u64) -> f64 {
    count as f64
}
