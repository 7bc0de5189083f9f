//! A weak link between this machine and the far namespace: two TUN devices, and what lies between them. It
//! has a rate, a queue in front of that, a delay, and loses packets by a seed; the same for both directions.
//!
//! Never here: what the packets mean.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tappers::{Interface, Tun};

const PACKET_BYTES_MAX: usize = 2048;
/// Packets that are between the devices, of one direction: more than queue and delay hold.
const UNDERWAY_MAX: usize = 4096;

/// What the link is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) bits_per_s: u32,
    pub(crate) one_way: Duration,
    /// Of so many packets one is lost.
    pub(crate) lost_of: u32,
    pub(crate) queue: Duration,
}

/// Of one direction, in bytes with IP headers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) offered: AtomicU64,
    pub(crate) delivered: AtomicU64,
}

/// Bytes of one direction at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> Bytes {
        Bytes { offered: self.offered.load(Relaxed), delivered: self.delivered.load(Relaxed) }
    }
}

/// Both directions, until the program ends.
pub(crate) struct Line {
    pub(crate) there: Arc<Counters>,
}

struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

/// Makes the device of a name; who moves it into a namespace still has its packets here.
pub(crate) fn device(name: &str) -> Result<Arc<Tun>> {
    let interface = Interface::new(name).context("the name of a device")?;
    Ok(Arc::new(Tun::new_named(interface).with_context(|| format!("TUN device {name}"))?))
}

impl Line {
    pub(crate) fn start(near: &Arc<Tun>, far: &Arc<Tun>, quality: Quality) -> Self {
        let there = Arc::new(Counters::default());
        begin(near.clone(), far.clone(), quality, 1, there.clone());
        begin(far.clone(), near.clone(), quality, 2, Arc::default());
        Self { there }
    }
}

/// One direction: a thread that takes packets in, and one that lets them out when they are due.
fn begin(from: Arc<Tun>, to: Arc<Tun>, quality: Quality, seed: u64, counters: Arc<Counters>) {
    let (underway, arriving) = sync_channel(UNDERWAY_MAX);
    let of_exit = counters.clone();
    thread::spawn(move || take(&from, Shaper::new(quality, seed), &counters, &underway));
    thread::spawn(move || deliver(&to, &arriving, &of_exit));
}

/// A device that is gone ends the direction with the benchmark.
fn take(from: &Tun, mut shaper: Shaper, counters: &Counters, underway: &SyncSender<Packet>) {
    let mut buffer = [0; PACKET_BYTES_MAX];
    while let Ok(length) = from.recv(&mut buffer) {
        counters.offered.fetch_add(length as u64, Relaxed);
        let Some(due) = shaper.handle_packet(Instant::now(), length) else { continue };
        let packet = Packet { due, bytes: buffer[..length].to_vec() };
        if let Err(TrySendError::Disconnected(_)) = underway.try_send(packet) {
            return;
        }
    }
}

fn deliver(to: &Tun, arriving: &Receiver<Packet>, counters: &Counters) {
    while let Ok(packet) = arriving.recv() {
        thread::sleep(packet.due.saturating_duration_since(Instant::now()));
        // Before the far device is up, there is nobody to have it.
        if to.send(&packet.bytes).is_ok() {
            counters.delivered.fetch_add(packet.bytes.len() as u64, Relaxed);
        }
    }
}

/// When a packet comes out, if it does.
struct Shaper {
    quality: Quality,
    /// The line has sent everything that it took by then.
    idle_at: Option<Instant>,
    random: u64,
}

impl Shaper {
    fn new(quality: Quality, seed: u64) -> Self {
        Self { quality, idle_at: None, random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// `None`: the queue is full, or the packet is lost, having taken its time on the line.
    fn handle_packet(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let begins = self.idle_at.map_or(now, |idle| idle.max(now));
        if begins - now > self.quality.queue {
            return None;
        }
        let bits = u64::try_from(length).expect("a packet is small") * 8;
        let ends = begins
            + Duration::from_nanos(bits * 1_000_000_000 / u64::from(self.quality.bits_per_s));
        self.idle_at = Some(ends);
        let is_lost = self.next().is_multiple_of(u64::from(self.quality.lost_of));
        (!is_lost).then_some(ends + self.quality.one_way)
    }

    /// xorshift64* of Vigna, the upper half.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUALITY: Quality = Quality {
        bits_per_s: 1_000_000,
        one_way: Duration::from_millis(50),
        lost_of: 20,
        queue: Duration::from_millis(100),
    };

    #[test]
    fn packets_take_their_time_and_a_full_queue_takes_no_more() {
        let mut shaper = Shaper::new(Quality { lost_of: u32::MAX, ..QUALITY }, 1);
        let now = Instant::now();
        let due: Vec<Option<Duration>> =
            (0..12).map(|_| shaper.handle_packet(now, 1250).map(|due| due - now)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(due[..3], [ms(60), ms(70), ms(80)]);
        assert_eq!(due[10..], [ms(160), None]);
        assert_eq!(
            shaper.handle_packet(now + Duration::from_millis(10), 1250).map(|at| at - now),
            ms(170)
        );
    }

    #[test]
    fn one_of_twenty_is_lost() {
        let mut shaper = Shaper::new(QUALITY, 7);
        let start = Instant::now();
        let lost = (0..100_000_u64).filter(|number| {
            let now = start + Duration::from_millis(20 * number);
            shaper.handle_packet(now, 1250).is_none()
        });
        let lost = lost.count();
        assert!((4_700..5_300).contains(&lost), "{lost} of 100,000");
    }
}
