//! Publishers that are never the limit: packets are made before, ids are put in, acknowledgements are
//! counted. All clients run on one thread.

use crate::mqtt::{PUBACK_BYTES, Prepared, connect};
use anyhow::{Context, Result, bail, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Messages that one write takes along.
const CHUNK: u64 = 128;
/// How often somebody that may not send yet looks again, where no acknowledgement will wake it.
const PACE: Duration = Duration::from_millis(2);
/// The same where one will; only the order to stop comes otherwise.
const NUDGE: Duration = Duration::from_millis(200);
/// Acknowledgements stay out for so long only when the other side has failed.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// Every so many messages one is timed.
const TIMED_EVERY: u64 = 16;
const READ_BYTES: usize = 64 << 10;
/// Connections that are being opened at the same time.
const OPENING_MAX: usize = 64;

/// What is to be published.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) address: String,
    /// One for each client.
    pub(crate) messages: Vec<Arc<Prepared>>,
    /// Messages that wait for their acknowledgement, of all clients.
    pub(crate) in_flight: u64,
    /// Messages of each client; without it, until stopped.
    pub(crate) count: Option<u64>,
    /// Messages a second of all clients together.
    pub(crate) rate: Option<f64>,
    /// Messages that may be ahead of a counter.
    pub(crate) ahead: Option<(Arc<AtomicU64>, u64)>,
}

impl Plan {
    /// As fast as acknowledgements allow, until stopped.
    pub(crate) fn steady(address: String, messages: Vec<Arc<Prepared>>, in_flight: u64) -> Self {
        Self { address, messages, in_flight, count: None, rate: None, ahead: None }
    }
}

/// Counters of a running load.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    stop: AtomicBool,
    waits_us: Mutex<Vec<u32>>,
}

impl Counters {
    /// Forgets the times measured so far.
    pub(crate) fn restart(&self) {
        self.waits_us.lock().expect("nobody panics while holding it").clear();
    }

    /// Time from sending to acknowledgement that this share of the messages stayed below.
    pub(crate) fn wait_ms(&self, share: f64) -> Option<f64> {
        let mut waits = self.waits_us.lock().expect("nobody panics while holding it").clone();
        waits.sort_unstable();
        crate::statistics::quantile(&waits, share).map(|wait| f64::from(wait) / 1e3)
    }
}

pub(crate) struct Load {
    pub(crate) counters: Arc<Counters>,
    thread: JoinHandle<Result<()>>,
}

impl Load {
    /// Returns when all clients are connected.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let (ready, connected) = std::sync::mpsc::channel();
        let of_thread = counters.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(plan, of_thread, ready))
        });
        match connected.recv() {
            Ok(()) => Ok(Self { counters, thread }),
            Err(_) => {
                thread.join().ok().context("the load panicked")??;
                bail!("the load ended before it began")
            }
        }
    }

    /// Until all messages of the plan are acknowledged.
    pub(crate) fn join(self) -> Result<()> {
        self.thread.join().ok().context("the load panicked")?
    }

    /// Sends nothing more and waits for what is out.
    pub(crate) fn stop(self) -> Result<u64> {
        self.counters.stop.store(true, Relaxed);
        let counters = self.counters.clone();
        self.join()?;
        Ok(counters.acknowledged.load(Relaxed))
    }
}

async fn run(
    plan: Plan,
    counters: Arc<Counters>,
    ready: std::sync::mpsc::Sender<()>,
) -> Result<()> {
    let mut streams = Vec::with_capacity(plan.messages.len());
    let mut opening = JoinSet::new();
    for number in 0..plan.messages.len() {
        if opening.len() >= OPENING_MAX {
            streams.extend(opening.join_next().await.transpose()?.transpose()?);
        }
        let address = plan.address.clone();
        opening.spawn(async move { connect(&address, &format!("load-{number}")).await });
    }
    while let Some(opened) = opening.join_next().await {
        streams.push(opened??);
    }
    ensure!(ready.send(()).is_ok(), "nobody waits for the load");
    let clients = streams.len() as u64;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (stream, messages) in streams.into_iter().zip(plan.messages.clone()) {
        let (reader, writer) = stream.into_split();
        let client = Arc::new(Client {
            in_flight: (plan.in_flight / clients).clamp(1, 60_000),
            rate: plan.rate.map(|rate| rate / precise(clients)),
            plan: plan.clone(),
            messages,
            all: counters.clone(),
            acknowledged: AtomicU64::new(0),
            sent_us: (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect(),
            started,
            news: Notify::new(),
        });
        tasks.spawn(write(client.clone(), writer));
        tasks.spawn(read(client, reader));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

struct Client {
    plan: Plan,
    messages: Arc<Prepared>,
    in_flight: u64,
    rate: Option<f64>,
    all: Arc<Counters>,
    acknowledged: AtomicU64,
    /// When the message with a packet id was sent, for the few that are timed.
    sent_us: Vec<AtomicU64>,
    started: Instant,
    news: Notify,
}

impl Client {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether an acknowledgement is what it waits for.
    fn in_flight_full(&self, sent: u64) -> bool {
        let out = sent - self.acknowledged.load(Relaxed);
        out > 0 && self.in_flight - out < self.few()
    }

    /// One write for several messages, unless these are the last or are due one by one.
    fn few(&self) -> u64 {
        (self.in_flight / 4).clamp(1, CHUNK / 2)
    }

    /// How many more may go now.
    fn room(&self, sent: u64) -> u64 {
        let room = self.in_flight - (sent - self.acknowledged.load(Relaxed));
        let left = self.plan.count.map_or(CHUNK, |count| count - sent);
        let due = self.rate.map_or(CHUNK, |rate| {
            whole(rate * self.started.elapsed().as_secs_f64()).saturating_sub(sent)
        });
        let ahead = self.plan.ahead.as_ref().map_or(CHUNK, |(counter, limit)| {
            let ahead = self.all.sent.load(Relaxed).saturating_sub(counter.load(Relaxed));
            limit.saturating_sub(ahead)
        });
        let enough = room >= self.few() || left < self.few() || self.rate.is_some();
        if enough { room.min(left).min(due).min(ahead).min(CHUNK) } else { 0 }
    }
}

/// Ids 1 to 65,535 in turn.
fn packet_id(number: u64) -> u16 {
    u16::try_from(number % u64::from(u16::MAX) + 1).expect("a remainder of 65,535, and one")
}

async fn write(client: Arc<Client>, mut writer: OwnedWriteHalf) -> Result<()> {
    let (mut sent, mut out) = (0_u64, Vec::new());
    let mut next = 0;
    let is_done = |sent| {
        client.all.stop.load(Relaxed) || client.plan.count.is_some_and(|count| sent == count)
    };
    while !is_done(sent) {
        let room = client.room(sent);
        if room == 0 {
            let waits = client.in_flight_full(sent);
            let wait = if waits { NUDGE } else { PACE };
            let _ = tokio::time::timeout(wait, client.news.notified()).await;
            continue;
        }
        out.clear();
        let now = client.now_us();
        for number in sent..sent + room {
            let id = packet_id(number);
            client.messages.write(next, id, &mut out);
            next = (next + 1) % client.messages.len();
            if number % TIMED_EVERY == 0 {
                client.sent_us[usize::from(id)].store(now, Relaxed);
            }
        }
        sent += room;
        client.all.sent.fetch_add(room, Relaxed);
        writer.write_all(&out).await?;
    }
    let mut moved = (client.acknowledged.load(Relaxed), Instant::now());
    while client.acknowledged.load(Relaxed) < sent {
        let _ = tokio::time::timeout(NUDGE, client.news.notified()).await;
        let acknowledged = client.acknowledged.load(Relaxed);
        if acknowledged > moved.0 {
            moved = (acknowledged, Instant::now());
        }
        ensure!(moved.1.elapsed() < STANDSTILL_MAX, "acknowledgements stay out");
    }
    // A closed connection ends the reader, too.
    writer.write_all(&[0xe0, 0]).await?;
    Ok(writer.shutdown().await?)
}

async fn read(client: Arc<Client>, mut reader: OwnedReadHalf) -> Result<()> {
    let (mut buffer, mut filled, mut number) = (vec![0; READ_BYTES], 0, 0_u64);
    loop {
        // After the goodbye the broker may close in any way.
        let Ok(length) = reader.read(&mut buffer[filled..]).await else { return Ok(()) };
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let whole = filled / PUBACK_BYTES;
        let mut waits = Vec::new();
        let now = client.now_us();
        for packet in buffer[..whole * PUBACK_BYTES].chunks_exact(PUBACK_BYTES) {
            ensure!(packet[0] == 0x40, "the broker sent packet {:#x}", packet[0]);
            let id = u16::from_be_bytes([packet[2], packet[3]]);
            ensure!(id == packet_id(number), "acknowledgement {id} is out of order");
            if number % TIMED_EVERY == 0 {
                let sent = client.sent_us[usize::from(id)].load(Relaxed);
                waits.push(u32::try_from(now.saturating_sub(sent)).unwrap_or(u32::MAX));
            }
            number += 1;
        }
        buffer.copy_within(whole * PUBACK_BYTES..filled, 0);
        filled -= whole * PUBACK_BYTES;
        client.all.waits_us.lock().expect("nobody panics while holding it").extend(waits);
        client.acknowledged.store(number, Relaxed);
        client.all.acknowledged.fetch_add(whole as u64, Relaxed);
        client.news.notify_one();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of clients")]
fn precise(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, below 2^53")]
fn whole(number: f64) -> u64 {
    number as u64
}
