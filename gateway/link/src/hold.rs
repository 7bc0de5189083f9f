//! Small writes that follow each other closely share a packet: the first goes at once, the others wait until a packet
//! is full or the time since the last write is over. What comes rarely never waits.

use std::time::Duration;

/// Longest that batches are held back at the box.
pub const BATCH_HOLD: Duration = Duration::from_millis(10);
/// Longest that acks are held back at the space.
pub const ACK_HOLD: Duration = Duration::from_millis(20);
/// What fills a packet on every path (RFC 9000, 14).
pub const PACKET_BYTES: usize = 1200;

/// When something last left.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    longest: Duration,
    left_at: Option<Duration>,
}

impl Hold {
    pub fn new(longest: Duration) -> Self {
        Self { longest, left_at: None }
    }

    /// From when on what is small may leave; `None`: now.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        self.left_at.map(|at| at + self.longest).filter(|due| now < *due)
    }

    /// Something leaves.
    pub fn handle_left(&mut self, now: Duration) {
        self.left_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_next_after_the_hold() {
        let ms = Duration::from_millis;
        let mut hold = Hold::new(ms(5));
        let check = |hold: &Hold, now, due: Option<u64>| {
            assert_eq!(hold.poll_timeout(ms(now)), due.map(ms), "at {now} ms");
        };
        check(&hold, 7, None);
        hold.handle_left(ms(7));
        check(&hold, 7, Some(12));
        check(&hold, 11, Some(12));
        check(&hold, 12, None);
        check(&hold, 1000, None);
    }
}
