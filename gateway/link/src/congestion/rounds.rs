//! Rounds: from an acknowledgement to the first one of something that was sent after it. What arrived in a round,
//! over its time, is the rate that the link gave.

use std::collections::VecDeque;
use std::time::Duration;

/// The best of so many rounds, and of at least so long, is the rate.
const KEPT_ROUNDS: u64 = 8;
const KEPT_FOR: Duration = Duration::from_millis(500);
/// Rounds that are remembered at most; on links so short, fewer tell as much.
pub(super) const SAMPLES_MAX: usize = 64;

/// What happened in one round.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    pub(super) began: Duration,
    pub(super) acked: u64,
    pub(super) lost: u64,
    /// The owner had nothing to send for some of it, so that it says nothing about the link's rate.
    pub(super) is_idle: bool,
    trips: Duration,
    trip_count: u32,
    sent_last: Option<Duration>,
    is_over: bool,
}

impl Round {
    pub(super) fn mean_trip(&self) -> Option<Duration> {
        (self.trip_count > 0).then(|| self.trips / self.trip_count)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share needs three digits")]
    pub(super) fn loss_share(&self) -> f64 {
        self.lost as f64 / (self.acked + self.lost).max(1) as f64
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    number: u64,
    at: Duration,
    rate: f64,
}

/// The round that runs, and the rates of those before. Rates fall from front to back.
#[derive(Debug, Clone)]
pub(super) struct Rounds {
    current: Round,
    /// When the last packet that the round before acknowledged was sent.
    sent_before: Option<Duration>,
    number: u64,
    samples: VecDeque<Sample>,
}

impl Rounds {
    pub(super) fn new(now: Duration) -> Self {
        let current = Round { began: now, ..Round::default() };
        Self { current, sent_before: None, number: 0, samples: VecDeque::new() }
    }

    pub(super) fn handle_ack(&mut self, sent: Duration, trip: Duration, bytes: u64, is_idle: bool) {
        let round = &mut self.current;
        round.acked += bytes;
        round.trips += trip;
        round.trip_count += 1;
        round.is_idle |= is_idle;
        round.sent_last = round.sent_last.max(Some(sent));
        round.is_over |= sent >= round.began;
    }

    pub(super) fn handle_loss(&mut self, bytes: u64) {
        self.current.lost += bytes;
    }

    /// The round, if it is over; the next one begins. `is_held`: we sent less than the link carries.
    pub(super) fn poll_end(&mut self, now: Duration, is_held: bool) -> Option<Round> {
        if !self.current.is_over || now <= self.current.began {
            return None;
        }
        let next = Round { began: now, ..Round::default() };
        let mut round = std::mem::replace(&mut self.current, next);
        round.is_idle |= is_held;
        if let (Some(before), Some(last)) = (self.sent_before, round.sent_last) {
            // Acknowledgements that were held up and come together are no faster link.
            let time = (now - round.began).max(last.saturating_sub(before));
            self.learn(now, &round, time);
        }
        self.sent_before = round.sent_last;
        Some(round)
    }

    /// The round that runs.
    pub(super) fn current(&self) -> &Round {
        &self.current
    }

    pub(super) fn rate(&self) -> Option<f64> {
        self.samples.front().map(|sample| sample.rate)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs three digits")]
    fn learn(&mut self, now: Duration, round: &Round, time: Duration) {
        let rate = round.acked as f64 / time.as_secs_f64();
        if round.is_idle {
            // It shows that the link is at least so fast, and lets no older sample go.
            if self.rate().is_some_and(|best| rate <= best) {
                return;
            }
        } else {
            self.number += 1;
        }
        while self.samples.back().is_some_and(|last| last.rate <= rate) {
            self.samples.pop_back();
        }
        self.samples.push_back(Sample { number: self.number, at: now, rate });
        let is_old = |sample: &Sample| {
            sample.number + KEPT_ROUNDS <= self.number && sample.at + KEPT_FOR <= now
        };
        while self.samples.len() > 1
            && (self.samples.front().is_some_and(is_old) || self.samples.len() > SAMPLES_MAX)
        {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
impl Rounds {
    pub(super) fn kept(&self) -> usize {
        self.samples.len()
    }
}
