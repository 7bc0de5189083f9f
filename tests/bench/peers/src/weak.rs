//! How much of a weak link both products use, and how much more than the payload they send over it.

use crate::Bench;
use crate::bridge::{Bridge, Saving};
use crate::far::Far;
use crate::line::{Line, Quality};
use crate::load::{Load, Plan};
use crate::mqtt::Prepared;
use crate::ours::{Ours, Setting};
use crate::throughput::number;
use anyhow::{Context, Result};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Payloads that nothing makes smaller.
const PAYLOAD_BYTES: usize = 1024;
const PAYLOADS: usize = 4096;
/// More than the link takes in the time, so that it is never idle.
const PER_S: f64 = 400.0;
const IN_FLIGHT: u64 = 1000;
/// Both begin slowly.
const WARM_UP: Duration = Duration::from_secs(10);

/// The link of a depot with bad reception.
pub(crate) const QUALITY: Quality = Quality {
    bits_per_s: 1_000_000,
    one_way: Duration::from_millis(50),
    lost_of: 20,
    queue: Duration::from_millis(512),
};

/// Over one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    /// Payload at the far end, in percent of what the line carries.
    pub(crate) goodput_percent: f64,
    /// Bytes with IP headers that went onto the line for a byte of payload that arrived.
    pub(crate) sent_per_byte: f64,
}

fn payloads() -> Result<Vec<Arc<Prepared>>> {
    let random = SystemRandom::new();
    let mut payloads = vec![vec![0; PAYLOAD_BYTES]; PAYLOADS];
    for payload in &mut payloads {
        random.fill(payload).ok().context("the system has no random numbers")?;
    }
    Ok(vec![Arc::new(Prepared::new(payloads.iter().map(|payload| ("opaque", &payload[..]))))])
}

/// `delivered` says when, and how many messages were at the far end then.
fn measure(
    line: &Line,
    window: Duration,
    mut delivered: impl FnMut() -> Result<(f64, u64)>,
) -> Result<Use> {
    thread::sleep(WARM_UP);
    let (begun, before) = delivered()?;
    let line_before = line.there.read();
    thread::sleep(window);
    let (ended, after) = delivered()?;
    let sent = number(line.there.read().offered - line_before.offered);
    let payload = number((after - before) * PAYLOAD_BYTES as u64);
    Ok(Use {
        goodput_percent: payload * 8.0 / (ended - begun) / f64::from(QUALITY.bits_per_s) * 100.0,
        sent_per_byte: sent / payload,
    })
}

fn plan(address: String) -> Result<Plan> {
    Ok(Plan { rate: Some(PER_S), ..Plan::steady(address, payloads()?, IN_FLIGHT) })
}

pub(crate) fn ours(bench: &Bench, far: &Far, window: Duration) -> Result<Use> {
    let line = far.line().context("the link is not weak")?;
    let setting = Setting { far, points: &bench.points(1), ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("weak-ours"), &setting)?;
    pair.start()?;
    let load = Load::start(plan(pair.mqtt())?)?;
    let used = measure(line, window, || {
        let (written_ms, rows) = pair.next_stored()?;
        Ok((number(written_ms) / 1e3, rows))
    })?;
    load.stop()?;
    pair.stop()?;
    Ok(used)
}

pub(crate) fn bridge(bench: &Bench, far: &Far, window: Duration) -> Result<Use> {
    let line = far.line().context("the link is not weak")?;
    let pair = Bridge::start(&bench.folder.join("weak-bridge"), far, Saving::Default)?;
    let load = Load::start(plan(pair.mqtt())?)?;
    let started = Instant::now();
    let used = measure(line, window, || {
        Ok((started.elapsed().as_secs_f64(), pair.sink.delivered.load(Relaxed)))
    })?;
    load.stop()?;
    Ok(used)
}
