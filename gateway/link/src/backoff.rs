//! When to try again: exponential, full jitter, reset by progress only.
//!
//! Full jitter spreads a fleet whose space restarted over the whole interval instead of letting it
//! come back as one wave. A call into the void costs some kilobytes of a line that may be paid for, so that a
//! box which nobody has answered for half an hour calls more rarely: about a megabyte a day.

use std::time::Duration;

/// First upper bound of the wait.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Last upper bound of the wait.
pub const BACKOFF_LAST: Duration = Duration::from_secs(60);
/// Failures in a row from which on the bound grows again: half an hour, on the mean.
pub const FAILURES_LONG: u32 = 60;
/// The last bound of all.
pub const BACKOFF_LONG: Duration = Duration::from_secs(900);
/// Never sooner, however the dice fall: a broken peer must not turn the box into a busy loop.
pub const BACKOFF_LEAST: Duration = Duration::from_millis(100);
/// The longest that a space may send a box away; beyond it, a box would look lost.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Counts failures in a row.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
    /// A session was begun anew since data last moved.
    is_renewed: bool,
}

impl Backoff {
    pub fn new() -> Self {
        Self::default()
    }

    /// Data moved: the next failure starts from the beginning. A connection alone does not count, or
    /// a space that accepts and then fails would be called without pause.
    pub fn handle_progress(&mut self) {
        *self = Self::default();
    }

    /// How long to wait before a session is begun anew of which nothing failed: not at all, unless no data moved since
    /// the last time. A reason that stays would turn the box into a busy loop.
    pub fn handle_renewal(&mut self, random: u64) -> Duration {
        match std::mem::replace(&mut self.is_renewed, true) {
            false => Duration::ZERO,
            true => self.handle_failure(random, Duration::ZERO),
        }
    }

    /// How long to wait after a failure. `random` is any 64 bits; `retry_after` is what the space
    /// asked for, and comes on top.
    pub fn handle_failure(&mut self, random: u64, retry_after: Duration) -> Duration {
        let soon = BACKOFF_LAST.min(BACKOFF_FIRST * 2_u32.pow(self.failures.min(6)));
        let late = self.failures.saturating_sub(FAILURES_LONG).min(4);
        let bound = BACKOFF_LONG.min(soon * 2_u32.pow(late));
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(bound.as_nanos()).expect("a minute of nanoseconds fits");
        let jitter = u64::try_from((u128::from(random) * u128::from(nanos)) >> 64)
            .expect("a share of 64 bits fits");
        Duration::from_nanos(jitter).max(BACKOFF_LEAST) + retry_after.min(RETRY_AFTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_to_a_minute_then_to_a_quarter_of_an_hour_and_start_again_after_progress() {
        let mut backoff = Backoff::new();
        for bound_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            let mut again = backoff.clone();
            let wait = backoff.handle_failure(u64::MAX, Duration::ZERO);
            assert!(wait < Duration::from_secs(bound_s), "{wait:?} of {bound_s} s");
            assert!(wait > Duration::from_millis(bound_s * 1000 - 1), "{wait:?} of {bound_s} s");
            assert_eq!(again.handle_failure(0, Duration::ZERO), BACKOFF_LEAST);
        }
        while backoff.failures <= FAILURES_LONG {
            assert!(backoff.handle_failure(u64::MAX, Duration::ZERO) <= BACKOFF_LAST);
        }
        for bound_s in [120, 240, 480, 900, 900] {
            let wait = backoff.handle_failure(u64::MAX, Duration::ZERO);
            assert!(wait > Duration::from_millis(bound_s * 1000 - 1), "{wait:?} of {bound_s} s");
            assert!(wait <= Duration::from_secs(bound_s), "{wait:?} of {bound_s} s");
        }
        backoff.handle_progress();
        assert!(backoff.handle_failure(u64::MAX, Duration::ZERO) <= BACKOFF_FIRST);
    }

    #[test]
    fn the_space_may_ask_for_an_hour_and_no_more() {
        let mut backoff = Backoff::new();
        let wait = |backoff: &mut Backoff, after| backoff.handle_failure(0, after);
        assert_eq!(wait(&mut backoff, RETRY_AFTER_MAX), RETRY_AFTER_MAX + BACKOFF_LEAST);
        assert_eq!(wait(&mut backoff, Duration::MAX), RETRY_AFTER_MAX + BACKOFF_LEAST);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff { failures: u32::MAX, ..Backoff::new() };
        assert!(backoff.handle_failure(u64::MAX, Duration::ZERO) <= BACKOFF_LONG);
    }

    #[test]
    fn sessions_that_move_nothing_are_not_begun_anew_at_once() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.handle_renewal(u64::MAX), Duration::ZERO);
        for bound_s in [1, 2, 4] {
            let wait = backoff.handle_renewal(u64::MAX);
            assert!(
                wait <= Duration::from_secs(bound_s) && wait > Duration::from_secs(bound_s) / 2
            );
        }
        assert_eq!(backoff.handle_renewal(0), BACKOFF_LEAST, "however the dice fall");
        backoff.handle_progress();
        assert_eq!(backoff.handle_renewal(u64::MAX), Duration::ZERO);
        backoff.handle_failure(u64::MAX, Duration::ZERO);
        assert!(backoff.handle_renewal(u64::MAX) > Duration::from_secs(1), "failures count, too");
    }
}
