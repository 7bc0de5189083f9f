//! How much may be on the way: a window of rate times round trip that random loss does not shrink. Without I/O.
//!
//! Feed with `handle_*`, in the order in which the transport learns things; ask [`Control::window`] at any
//! time. `now` and `sent` are moments of one monotonic clock, from any origin.
//!
//! The rate is what the peer confirmed over whole rounds ([`rounds`]), the round trip the smallest mean of a
//! round. A small share more than their product stands in the queue at the bottleneck, so that a link that gets
//! faster is noticed without bursts. Loss takes that share back only where it grows with the share ([`headroom`]);
//! loss that stays whatever is sent is the link's own. Each [`REST_INTERVAL`] the window falls below the product
//! for a round, so that a queue that we made ourselves is not taken for distance.
//!
//! Invariants: the window is never below [`WINDOW_PACKETS_MIN`] packets, and with a cap never above what the
//! cap fills, unless that is less. Never here: pacing within the window, which is the transport's.

mod headroom;
mod rounds;
#[cfg(test)]
mod tests;

use headroom::Headroom;
use rounds::{Round, Rounds};
use std::time::Duration;

/// Smallest window: below it acknowledgements that wait for a second packet stop the clock.
pub const WINDOW_PACKETS_MIN: u64 = 4;
/// Packets that may leave before anything is known (RFC 9002, 7.2).
pub const WINDOW_PACKETS_FIRST: u64 = 10;
/// How long a round trip may be believed without having been seen again.
pub const REST_INTERVAL: Duration = Duration::from_secs(10);
/// Share of the product that is on the way while the queue empties.
const REST_SHARE: f64 = 0.7;
/// Time for acknowledgements to come in pairs and for tasks to be late, on top of the round trip.
const SLACK: Duration = Duration::from_millis(5);
/// Most bytes of that time: more overflows the socket of a peer that is near and fast.
const SLACK_BYTES_MAX: f64 = 96.0 * 1024.0;
/// Packets that this end and the peer hold back for a moment.
const SLACK_PACKETS: u64 = 2;
/// So many samples of the round trip in a row must show a queue before the start ends.
const QUEUE_SAMPLES: usize = 8;
/// Rounds without growth that end the start, and growth that counts.
const FLAT_ROUNDS: u32 = 2;
const GROWTH: f64 = 1.25;
/// Lost packets of one round, and their share, that end the start: a queue that is too short to show.
const START_LOSS: (u64, f64) = (5, 0.15);

/// What the controller is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second, UDP payload; `None`: as fast as the link takes them.
    pub rate_bytes_per_s_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Doubles each round until a queue shows.
    Start {
        best: f64,
        flat: u32,
    },
    /// A queue shows: one more round at this window tells the rate.
    Settle {
        rounds: u32,
    },
    Cruise,
    /// Lets the queue empty; from `since` on it is.
    Rest {
        since: Option<Duration>,
    },
}

/// State of one path.
#[derive(Debug, Clone)]
pub struct Control {
    limits: Limits,
    packet_bytes: u64,
    phase: Phase,
    rounds: Rounds,
    headroom: Headroom,
    window: u64,
    base: Option<Base>,
    /// Newest samples of the round trip, for the end of the start.
    recent: [Duration; QUEUE_SAMPLES],
    recent_count: usize,
    shortest: Duration,
}

/// The round trip without our own queue.
#[derive(Debug, Clone, Copy)]
struct Base {
    trip: Duration,
    seen_at: Duration,
}

impl Control {
    pub fn new(now: Duration, packet_bytes: u64, limits: Limits) -> Self {
        Self {
            limits,
            packet_bytes,
            phase: Phase::Start { best: 0.0, flat: 0 },
            rounds: Rounds::new(now),
            headroom: Headroom::new(),
            window: WINDOW_PACKETS_FIRST * packet_bytes,
            base: None,
            recent: [Duration::MAX; QUEUE_SAMPLES],
            recent_count: 0,
            shortest: Duration::MAX,
        }
    }

    /// A packet arrived; called for each before [`handle_acks_end`](Self::handle_acks_end).
    pub fn handle_ack(&mut self, now: Duration, sent: Duration, bytes: u64, is_idle: bool) {
        let trip = now.saturating_sub(sent);
        self.shortest = self.shortest.min(trip);
        self.recent[self.recent_count % QUEUE_SAMPLES] = trip;
        self.recent_count += 1;
        self.rounds.handle_ack(sent, trip, bytes, is_idle);
        if let Phase::Start { .. } = self.phase {
            if !is_idle {
                self.window += bytes;
            }
            if self.shows_queue() {
                self.phase = Phase::Settle { rounds: 1 };
            }
        }
    }

    /// All acknowledgements that came together are told.
    pub fn handle_acks_end(&mut self, now: Duration, in_flight: u64) {
        if let Phase::Rest { since: since @ None } = &mut self.phase
            && in_flight <= self.window
        {
            *since = Some(now);
        }
        let is_held = self.headroom.is_sounding() || matches!(self.phase, Phase::Rest { .. });
        if let Some(round) = self.rounds.poll_end(now, is_held) {
            self.handle_round(now, &round);
        }
        self.clamp();
    }

    /// Packets did not arrive. `is_total`: nothing did, for several round trips.
    pub fn handle_loss(&mut self, now: Duration, bytes: u64, is_total: bool) {
        self.rounds.handle_loss(bytes);
        self.headroom.handle_loss(bytes);
        if is_total {
            // Whatever was known was of another path.
            let limits = self.limits;
            *self = Self::new(now, self.packet_bytes, limits);
            self.window = WINDOW_PACKETS_MIN * self.packet_bytes;
        } else if let Phase::Start { .. } = self.phase
            && self.overflows()
        {
            self.phase = Phase::Cruise;
            self.window = self.target().unwrap_or(self.window);
        }
        self.clamp();
    }

    /// More is lost than a link loses that is not full.
    fn overflows(&self) -> bool {
        let ((lost, share), round) = (START_LOSS, self.rounds.current());
        let is_much = round.lost >= lost * self.packet_bytes && round.loss_share() > share;
        is_much && round.acked >= WINDOW_PACKETS_FIRST * self.packet_bytes
    }

    /// A router marked packets in place of dropping them.
    pub fn handle_mark(&mut self) {
        self.headroom.handle_mark();
        if let Phase::Start { .. } = self.phase {
            self.phase = Phase::Settle { rounds: 1 };
        }
    }

    pub fn handle_packet_size(&mut self, packet_bytes: u64) {
        self.packet_bytes = packet_bytes;
        self.clamp();
    }

    /// Bytes that may be on the way.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// What the link carries, as far as is known.
    pub fn rate_bytes_per_s(&self) -> Option<u64> {
        let rate = self.capped_rate()?;
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        #[expect(clippy::cast_sign_loss, reason = "rates are positive")]
        Some(rate as u64)
    }

    fn capped_rate(&self) -> Option<f64> {
        let rate = self.rounds.rate()?;
        Some(self.cap().map_or(rate, |cap| rate.min(cap)))
    }

    #[expect(clippy::cast_precision_loss, reason = "rates need three digits")]
    fn cap(&self) -> Option<f64> {
        self.limits.rate_bytes_per_s_max.map(|cap| cap as f64)
    }

    /// Every one of the newest samples waited behind our own packets.
    fn shows_queue(&self) -> bool {
        let Some(base) = self.base.filter(|_| self.recent_count >= QUEUE_SAMPLES) else {
            return false;
        };
        let queue = (base.trip / 4).max(Duration::from_millis(8));
        self.recent.iter().all(|trip| *trip > base.trip + queue)
    }

    fn handle_round(&mut self, now: Duration, round: &Round) {
        self.learn_trip(now, round);
        self.headroom.handle_round(now, round, self.packet_bytes);
        self.phase = match self.phase {
            Phase::Start { best, flat } => self.start(best, flat, round),
            Phase::Settle { rounds: 0 } => Phase::Cruise,
            Phase::Settle { rounds } => Phase::Settle { rounds: rounds - 1 },
            Phase::Cruise if self.is_rest_due(now) => Phase::Rest { since: None },
            Phase::Cruise => Phase::Cruise,
            Phase::Rest { since } => match since {
                // A whole round without the queue.
                Some(since) if round.began >= since => {
                    self.base = round.mean_trip().map(|trip| Base { trip, seen_at: now });
                    Phase::Cruise
                }
                _ => Phase::Rest { since },
            },
        };
        if let Phase::Cruise | Phase::Rest { .. } = self.phase
            && let Some(target) = self.target()
        {
            self.window = target;
        }
    }

    fn start(&self, best: f64, flat: u32, round: &Round) -> Phase {
        let Some(rate) = self.rounds.rate().filter(|_| !round.is_idle) else {
            return Phase::Start { best, flat };
        };
        match rate >= best * GROWTH {
            true => Phase::Start { best: rate, flat: 0 },
            false if flat + 1 >= FLAT_ROUNDS => Phase::Cruise,
            false => Phase::Start { best, flat: flat + 1 },
        }
    }

    /// The smallest mean; a mean and not a minimum, because what varies by itself is no queue of ours.
    fn learn_trip(&mut self, now: Duration, round: &Round) {
        let Some(trip) = round.mean_trip() else { return };
        let is_new = self.base.is_none_or(|base| trip <= base.trip + base.trip / 32);
        if is_new {
            let known = self.base.map_or(Duration::MAX, |base| base.trip);
            self.base = Some(Base { trip: trip.min(known), seen_at: now });
        }
    }

    fn is_rest_due(&self, now: Duration) -> bool {
        self.base.is_some_and(|base| now.saturating_sub(base.seen_at) >= REST_INTERVAL)
    }

    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates and times are positive")]
    #[expect(clippy::cast_precision_loss, reason = "a window needs three digits")]
    fn target(&self) -> Option<u64> {
        let (rate, trip) = (self.capped_rate()?, self.base?.trip);
        // What is lost was sent, too, and stands in the window until it is missed.
        let rate = rate / (1.0 - self.headroom.floor());
        let product = rate * trip.as_secs_f64();
        if let Phase::Rest { .. } = self.phase {
            return Some((product * REST_SHARE) as u64);
        }
        if self.headroom.is_sounding() {
            return Some((product * (1.0 + self.headroom.share())) as u64);
        }
        let slack = (rate * SLACK.as_secs_f64()).min(SLACK_BYTES_MAX);
        let slack = slack + (SLACK_PACKETS * self.packet_bytes) as f64;
        Some((product * (1.0 + self.headroom.share()) + slack) as u64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    #[expect(clippy::cast_sign_loss, reason = "rates and times are positive")]
    fn clamp(&mut self) {
        if let (Some(cap), Some(base)) = (self.cap(), self.base) {
            self.window = self.window.min((cap * base.trip.as_secs_f64()) as u64);
        }
        self.window = self.window.max(WINDOW_PACKETS_MIN * self.packet_bytes);
    }
}
