//! What durability costs: bytes on the device, the start after a kill with a full spool, memory, and the
//! way back after an outage.

use crate::Bench;
use crate::load::{Load, Plan};
use crate::mqtt::{PUBACK_BYTES, Prepared};
use crate::ours::{Ours, Setting};
use crate::payloads;
use crate::process::{resident_mb, resident_peak_mb, write_bytes};
use crate::throughput::number;
use anyhow::{Context, Result, ensure};
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const IN_FLIGHT: u64 = 12_000;
const PAYLOAD_BYTES: usize = 200;
/// Largest opaque value; random bytes, so that they take as much room on the disk.
const OPAQUE_BYTES: usize = 4096;
/// Different ones; a batch holds fewer.
const OPAQUES: usize = 16_384;
const FULL_BYTES: u64 = 1 << 30;
/// Readings that a box collects each second, for what an hour without a link leaves behind.
const HOURLY_PER_S: u64 = 1000;
const LIVE_PER_S: f64 = 1000.0;
const READY_WAIT: Duration = Duration::from_secs(60);

/// How acknowledgements are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// As fast as the disk flushes.
    Prompt,
    /// When a batch is full, or after the longest window.
    WithBatch,
}

/// Bytes that the box hands to its device for a byte of payload, at full rate.
pub(crate) fn device_bytes(bench: &Bench, acks: Acks) -> Result<f64> {
    let (rows_max, window_ms) = match acks {
        Acks::Prompt => (crate::ROWS_MAX, 0),
        Acks::WithBatch => (8192, 1000),
    };
    let points = bench.points(1);
    let setting = Setting { points: &points, rows_max, window_ms, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("device"), &setting)?;
    pair.start()?;
    let before = write_bytes(pair.guan()?)?;
    let messages = payloads::sized(bench.machine()?, 1, PAYLOAD_BYTES);
    let load = Load::start(Plan::steady(pair.mqtt(), messages, IN_FLIGHT))?;
    std::thread::sleep(bench.window);
    let acknowledged = load.stop()?;
    pair.wait_stored(acknowledged)?;
    let written = write_bytes(pair.guan()?)? - before;
    pair.stop()?;
    Ok(number(written) / (number(acknowledged) * number(PAYLOAD_BYTES as u64)))
}

/// The same for a trickle: each message has its commit to itself.
pub(crate) fn device_bytes_of_trickle(bench: &Bench, per_s: f64) -> Result<f64> {
    let points = bench.points(1);
    let setting = Setting { points: &points, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("device"), &setting)?;
    pair.start()?;
    let before = write_bytes(pair.guan()?)?;
    let messages = payloads::sized(bench.machine()?, 1, PAYLOAD_BYTES);
    let plan = Plan { rate: Some(per_s), ..Plan::steady(pair.mqtt(), messages, IN_FLIGHT) };
    let load = Load::start(plan)?;
    std::thread::sleep(bench.window);
    let acknowledged = load.stop()?;
    pair.wait_stored(acknowledged)?;
    let written = write_bytes(pair.guan()?)? - before;
    pair.stop()?;
    Ok(number(written) / (number(acknowledged) * number(PAYLOAD_BYTES as u64)))
}

/// The start over a spool of a gigabyte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) spooled_bytes: u64,
    /// From the start of the process to the first PUBACK.
    pub(crate) ms: f64,
    pub(crate) resident_mb: f64,
}

pub(crate) fn open(bench: &Bench) -> Result<Opened> {
    let points = bench.points(1);
    let setting = Setting { points: &points, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("open"), &setting)?;
    // The space does not run: everything stays.
    pair.start_guan()?;
    let messages = opaques()?;
    let count = FULL_BYTES.div_ceil(OPAQUE_BYTES as u64);
    let plan = Plan { count: Some(count), ..Plan::steady(pair.mqtt(), vec![messages], IN_FLIGHT) };
    Load::start(plan)?.join()?;
    pair.kill_guan()?;
    let spooled_bytes = folder_bytes(&pair.stage.folder.join("box/state/spool"))?;
    let started = Instant::now();
    let guan = pair.stage.begin_guan()?;
    first_puback(&pair.mqtt())?;
    let ms = started.elapsed().as_secs_f64() * 1e3;
    let resident_mb = resident_peak_mb(guan.id())?;
    guan.stop()?;
    Ok(Opened { spooled_bytes, ms, resident_mb })
}

fn opaques() -> Result<Arc<Prepared>> {
    let random = SystemRandom::new();
    let mut payloads = vec![vec![0; OPAQUE_BYTES]; OPAQUES];
    for payload in &mut payloads {
        random.fill(payload).ok().context("the system has no random numbers")?;
    }
    Ok(Arc::new(Prepared::new(payloads.iter().map(|payload| ("opaque", &payload[..])))))
}

fn folder_bytes(folder: &std::path::Path) -> Result<u64> {
    let lengths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    lengths.sum()
}

/// Connects, publishes one message and waits for its PUBACK.
fn first_puback(address: &str) -> Result<()> {
    let started = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(fault) => {
                ensure!(started.elapsed() < READY_WAIT, "guan does not listen: {fault}");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    };
    stream.set_nodelay(true)?;
    stream.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'a'])?;
    let mut answer = [0; PUBACK_BYTES];
    stream.read_exact(&mut answer)?;
    let (prepared, mut packet) = (Prepared::new([("opaque", &b"first"[..])]), Vec::new());
    prepared.write(0, 1, &mut packet);
    stream.write_all(&packet)?;
    stream.read_exact(&mut answer)?;
    ensure!(answer[0] == 0x40, "no PUBACK but {:#x}", answer[0]);
    Ok(())
}

/// Memory of the box, in megabytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) idle: f64,
    pub(crate) full: f64,
    pub(crate) full_peak: f64,
    pub(crate) after: f64,
}

pub(crate) fn memory(bench: &Bench, idle: Duration, full: Duration) -> Result<Memory> {
    let points = bench.points(1);
    let setting = Setting { points: &points, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("memory"), &setting)?;
    pair.start()?;
    std::thread::sleep(idle);
    let guan = pair.guan()?;
    let idle = resident_mb(guan)?;
    let messages = payloads::sized(bench.machine()?, 1, PAYLOAD_BYTES);
    let load = Load::start(Plan::steady(pair.mqtt(), messages, IN_FLIGHT))?;
    std::thread::sleep(full);
    let (full, full_peak) = (resident_mb(guan)?, resident_peak_mb(guan)?);
    let acknowledged = load.stop()?;
    pair.wait_stored(acknowledged)?;
    let after = resident_mb(guan)?;
    pair.stop()?;
    Ok(Memory { idle, full, full_peak, after })
}

/// The way back after an hour without a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    pub(crate) readings: u64,
    pub(crate) per_s: f64,
    /// Of live messages, before and while the backlog leaves.
    pub before_p99_ms: f64,
    pub meanwhile_p99_ms: f64,
}

pub(crate) fn drain(bench: &Bench, backlog: Duration) -> Result<Drained> {
    let points = bench.points(1);
    let setting = Setting { points: &points, ..bench.setting() };
    let mut pair = Ours::set_up(&bench.folder.join("drain"), &setting)?;
    pair.start_guan()?;
    let messages = payloads::sized(bench.machine()?, 1, PAYLOAD_BYTES);
    let readings = HOURLY_PER_S * backlog.as_secs();
    let steady = Plan::steady(pair.mqtt(), messages, IN_FLIGHT);
    Load::start(Plan { count: Some(readings), ..steady.clone() })?.join()?;
    let live = Load::start(Plan { rate: Some(LIVE_PER_S), ..steady })?;
    std::thread::sleep(bench.window);
    let before_p99_ms = live.counters.wait_ms(0.99).unwrap_or(f64::NAN);
    live.counters.restart();
    let started = Instant::now();
    pair.start_space()?;
    loop {
        let acknowledged = readings + live.counters.acknowledged.load(Relaxed);
        // What came in the last second or two is on its way.
        if pair.next_stored().is_ok_and(|(_, rows)| rows + 2 * HOURLY_PER_S >= acknowledged) {
            break;
        }
        ensure!(started.elapsed() < Duration::from_secs(600), "the backlog does not drain");
    }
    let took = started.elapsed();
    let meanwhile_p99_ms = live.counters.wait_ms(0.99).unwrap_or(f64::NAN);
    let acknowledged = live.stop()?;
    pair.wait_stored(readings + acknowledged)?;
    pair.stop()?;
    Ok(Drained {
        readings,
        per_s: number(readings) / took.as_secs_f64(),
        before_p99_ms,
        meanwhile_p99_ms,
    })
}
