//! How much may be on the way to the space, by how fast it answers: enough to keep the link busy, and no more, so
//! that what comes now does not wait behind megabytes that were handed to the transport before it.

use std::collections::VecDeque;
use std::time::Duration;

/// Always allowed: keeps a link of 1 Mbit/s busy, and takes it a quarter of a second.
pub(super) const FLOOR_BYTES: u64 = 32 << 10;
/// So much time of the rate is allowed, or so many times that an answer takes, whichever is more: stores
/// that need longer for once must not slow the link down.
const WORTH: Duration = Duration::from_millis(250);
const ANSWERS: u32 = 2;
/// The best of so many intervals is the rate.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVALS: usize = 5;

#[derive(Debug)]
pub(super) struct Flow {
    began: Duration,
    acked: u64,
    past: VecDeque<u64>,
    answer: Duration,
}

impl Flow {
    pub(super) fn new(now: Duration) -> Self {
        Self { began: now, acked: 0, past: VecDeque::new(), answer: Duration::ZERO }
    }

    /// Bytes were acknowledged; `took`: from being handed out to now, of the last of them.
    pub(super) fn handle_ack(&mut self, now: Duration, bytes: u64, took: Duration) {
        self.turn(now);
        self.acked += bytes;
        let is_first = self.answer.is_zero();
        self.answer = if is_first { took } else { self.answer.min(took) };
    }

    pub(super) fn limit(&self) -> u64 {
        let best = self.past.iter().copied().chain([self.acked]).max().unwrap_or(0);
        let worth = WORTH.max(self.answer * ANSWERS).as_millis();
        let bytes = u128::from(best) * worth / INTERVAL.as_millis();
        u64::try_from(bytes).unwrap_or(u64::MAX).max(FLOOR_BYTES)
    }

    /// An interval in which little was to be sent says nothing, so that the best of them counts.
    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.began) < INTERVAL {
            return;
        }
        self.past.push_back(self.acked);
        if self.past.len() > INTERVALS {
            self.past.pop_front();
        }
        (self.began, self.acked) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that answers each item after a time, at a rate; what the limit settles at, in milliseconds of it.
    fn check(bytes_per_s: u64, answer_ms: u64, settled_ms: std::ops::RangeInclusive<u64>) {
        let answer = Duration::from_millis(answer_ms);
        let mut flow = Flow::new(Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0_u64);
        while now < Duration::from_secs(20) {
            // In each time that an answer takes, what the limit lets out, as far as the link carries it.
            let carried = bytes_per_s * answer_ms / 1000;
            let bytes = flow.limit().min(carried);
            now += answer;
            sent += bytes;
            flow.handle_ack(now, bytes, answer);
        }
        assert!(
            sent * 10 >= bytes_per_s * 20 * 8,
            "the link stood still: {sent} of {bytes_per_s} * 20"
        );
        let settled = flow.limit() * 1000 / bytes_per_s;
        assert!(settled_ms.contains(&settled), "{bytes_per_s} B/s, {answer_ms} ms: {settled} ms");
    }

    #[test]
    fn links_are_kept_busy_and_queues_short() {
        check(125_000, 150, 250..=320);
        check(1_250_000, 120, 220..=300);
        check(100_000_000, 25, 240..=280);
        check(1_250_000, 700, 1200..=2100);
        check(16_000, 300, 500..=2200);
    }
}
