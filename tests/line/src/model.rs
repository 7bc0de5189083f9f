//! One direction of a link as a bottleneck: a queue with a tail, a rate, loss behind it, a delay. Without I/O.
//!
//! A packet takes the line for its size over the rate, waits for those before it, and is dropped when the queue
//! is full. What is lost at random has taken the line before: on a radio link, too, it was sent. Packets arrive
//! in order. Sizes are those of IP packets.

use std::collections::VecDeque;
use std::time::Duration;

/// IPv4 and UDP headers.
pub const HEADERS: u64 = 28;

/// What a link is like, in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub rate_bits_per_s: u64,
    /// Each way.
    pub delay: Duration,
    /// Uniform, on top of the delay, in 4 ms steps of the whole line: a radio that is late delays all behind it.
    pub jitter: Duration,
    /// Of a thousand packets.
    pub loss_permille: u32,
    pub queue_bytes: u64,
}

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub offered_packets: u64,
    pub offered_bytes: u64,
    /// The queue was full.
    pub dropped_packets: u64,
    /// Lost at random.
    pub lost_packets: u64,
    pub arrived_packets: u64,
    pub arrived_bytes: u64,
}

impl Counts {
    pub fn since(self, before: Self) -> Self {
        Self {
            offered_packets: self.offered_packets - before.offered_packets,
            offered_bytes: self.offered_bytes - before.offered_bytes,
            dropped_packets: self.dropped_packets - before.dropped_packets,
            lost_packets: self.lost_packets - before.lost_packets,
            arrived_packets: self.arrived_packets - before.arrived_packets,
            arrived_bytes: self.arrived_bytes - before.arrived_bytes,
        }
    }
}

/// xorshift64*: the same losses in each run with the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit.max(1)
    }
}

#[derive(Debug)]
pub struct Line<P> {
    shape: Shape,
    dice: Dice,
    busy_until: Duration,
    last_arrival: Duration,
    underway: VecDeque<(Duration, u64, P)>,
    counts: Counts,
}

impl<P> Line<P> {
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            dice: Dice::new(seed),
            busy_until: Duration::ZERO,
            last_arrival: Duration::ZERO,
            underway: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 8 * 1_000_000_000 / self.shape.rate_bits_per_s)
    }

    /// `bytes` is the size of the IP packet.
    pub fn handle_packet(&mut self, now: Duration, bytes: u64, packet: P) {
        self.counts.offered_packets += 1;
        self.counts.offered_bytes += bytes;
        let waiting = self.busy_until.saturating_sub(now);
        if waiting + self.time_of(bytes) > self.time_of(self.shape.queue_bytes) {
            self.counts.dropped_packets += 1;
            return;
        }
        self.busy_until = self.busy_until.max(now) + self.time_of(bytes);
        let is_lost = self.dice.below(1000) < u64::from(self.shape.loss_permille);
        let jitter_us = u64::try_from(self.shape.jitter.as_micros()).expect("below a second");
        let jitter = Duration::from_micros(self.dice.below(jitter_us + 1));
        if is_lost {
            self.counts.lost_packets += 1;
            return;
        }
        let arrival = (self.busy_until + self.shape.delay + jitter).max(self.last_arrival);
        self.last_arrival = arrival;
        self.underway.push_back((arrival, bytes, packet));
    }

    /// The next packet that has arrived.
    pub fn poll(&mut self, now: Duration) -> Option<P> {
        let (at, bytes, _) = self.underway.front()?;
        if *at > now {
            return None;
        }
        self.counts.arrived_packets += 1;
        self.counts.arrived_bytes += *bytes;
        self.underway.pop_front().map(|(_, _, packet)| packet)
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.underway.front().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        rate_bits_per_s: 1_000_000,
        delay: Duration::from_millis(50),
        jitter: Duration::ZERO,
        loss_permille: 0,
        queue_bytes: 5000,
    };

    #[test]
    fn packets_wait_for_each_other_and_the_tail_is_dropped() {
        let mut line = Line::new(SHAPE, 1);
        for number in 0..6 {
            line.handle_packet(Duration::ZERO, 1250, number);
        }
        let expected = [60, 70, 80, 90].map(Duration::from_millis);
        for (number, at) in expected.into_iter().enumerate() {
            assert_eq!(line.poll_timeout(), Some(at));
            assert_eq!(line.poll(at - Duration::from_nanos(1)), None);
            assert_eq!(line.poll(at), Some(number));
        }
        let counts = line.counts();
        assert_eq!((counts.offered_packets, counts.dropped_packets), (6, 2));
        assert_eq!(counts.arrived_bytes, 5000);
    }

    #[test]
    fn loss_takes_the_line_and_has_its_share() {
        let mut line = Line::new(Shape { loss_permille: 50, ..SHAPE }, 7);
        for number in 0..20_000_u64 {
            line.handle_packet(Duration::from_millis(10 * number), 1250, ());
        }
        let lost = line.counts().lost_packets;
        assert!((900..1100).contains(&lost), "{lost}");
        assert_eq!(line.counts().dropped_packets, 0);
    }
}
