//! A cap on the rate by what has been sent: on paths so short that a window of packets cannot keep one. Without I/O.
//!
//! Invariant: over any time, no more than the rate times that time, [`BURST`] of it and one write.

use std::time::Duration;

/// What may be sent ahead.
pub const BURST: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct Bucket {
    bytes_per_s: u64,
    /// When what was sent is paid for.
    paid_at: Duration,
}

impl Bucket {
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), paid_at: Duration::ZERO }
    }

    pub fn handle_sent(&mut self, now: Duration, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let costs = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now).saturating_add(costs);
    }

    /// When more may be sent, if not now.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let due = self.paid_at.saturating_sub(BURST);
        (due > now).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_the_writes() {
        let check = |write: u64| {
            let (mut bucket, mut now, mut sent) = (Bucket::new(50_000), Duration::ZERO, 0);
            while now < Duration::from_secs(20) {
                match bucket.poll_timeout(now) {
                    Some(due) => now = due,
                    None => {
                        bucket.handle_sent(now, write);
                        sent += write;
                    }
                }
            }
            let most = 50_000 * 20 + 5_000 + write;
            assert!((950_000..=most).contains(&sent), "{sent} in writes of {write}");
        };
        [100, 1452, 9_000, 60_000].into_iter().for_each(check);
    }

    #[test]
    fn time_without_traffic_is_not_saved_up() {
        let mut bucket = Bucket::new(1000);
        bucket.handle_sent(Duration::from_secs(1000), 1000);
        assert_eq!(
            bucket.poll_timeout(Duration::from_secs(1000)),
            Some(Duration::from_millis(1_000_900))
        );
    }
}
