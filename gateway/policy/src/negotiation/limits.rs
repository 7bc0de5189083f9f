//! How long, how often and how many: what keeps a negotiation from going on for ever.

use super::state::State;
use std::time::Duration;

/// Most proposals (requests and offers, of both ends) that a configuration may allow.
pub const PROPOSALS_MAX: u32 = 64;
/// Most attempts to send one message that a configuration may allow.
pub const ATTEMPTS_MAX: u32 = 32;
/// Longest deadline and longest wait that a configuration may set.
const SPAN_MAX: Duration = Duration::from_secs(366 * 86_400);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// How long a negotiation may stay where it is; then it is TERMINATED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Before the first message is acknowledged.
    pub opening: Duration,
    pub requested: Duration,
    pub offered: Duration,
    pub accepted: Duration,
    pub agreed: Duration,
    pub verified: Duration,
    /// After the end, until the other end has heard of it.
    pub notice: Duration,
}

impl Default for Deadlines {
    /// People decide in REQUESTED, OFFERED and AGREED, programs in the others; a box is offline for a day.
    fn default() -> Self {
        Self {
            opening: 3 * DAY,
            requested: 7 * DAY,
            offered: 7 * DAY,
            accepted: DAY,
            agreed: 7 * DAY,
            verified: DAY,
            notice: DAY,
        }
    }
}

impl Deadlines {
    fn of(&self, state: Option<State>) -> Duration {
        match state {
            None => self.opening,
            Some(State::Requested) => self.requested,
            Some(State::Offered) => self.offered,
            Some(State::Accepted) => self.accepted,
            Some(State::Agreed) => self.agreed,
            Some(State::Verified) => self.verified,
            Some(State::Finalized | State::Terminated) => self.notice,
        }
    }
}

/// Limits as they are configured, not yet checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests and offers of both ends together, the first one included.
    pub proposals_max: u32,
    /// How often one message is sent before the negotiation is given up. An attempt is counted only
    /// when there was a link to take it.
    pub attempts_max: u32,
    /// Wait after the first attempt; it doubles up to `retry_longest`.
    pub retry_first: Duration,
    pub retry_longest: Duration,
    pub deadlines: Deadlines,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            proposals_max: 16,
            attempts_max: 10,
            retry_first: Duration::from_secs(5),
            retry_longest: HOUR,
            deadlines: Deadlines::default(),
        }
    }
}

/// What is wrong with limits; whoever configured them is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitFault {
    #[error("{name} is {found}; give 1 to {limit}")]
    Count { name: &'static str, found: u32, limit: u32 },
    #[error("{name} is {found:?}; give more than nothing and at most {SPAN_MAX:?}")]
    Span { name: &'static str, found: Duration },
    #[error("retry_first {first:?} is longer than retry_longest {longest:?}; swap them")]
    Retry { first: Duration, longest: Duration },
}

/// The limits of one negotiation: every wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits(LimitSettings);

impl Limits {
    pub fn new(settings: LimitSettings) -> Result<Self, LimitFault> {
        settings.check().map(|()| Self(settings))
    }

    pub(super) fn proposals_max(&self) -> u32 {
        self.0.proposals_max
    }

    pub(super) fn attempts_max(&self) -> u32 {
        self.0.attempts_max
    }

    pub(super) fn deadline(&self, state: Option<State>) -> Duration {
        self.0.deadlines.of(state)
    }

    /// The wait after an attempt, counted from 1.
    pub(super) fn wait_after(&self, attempt: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.0.retry_first.saturating_mul(doubled).min(self.0.retry_longest)
    }
}

impl LimitSettings {
    fn check(&self) -> Result<(), LimitFault> {
        let counts = [
            ("proposals_max", self.proposals_max, PROPOSALS_MAX),
            ("attempts_max", self.attempts_max, ATTEMPTS_MAX),
        ];
        for (name, found, limit) in counts {
            if !(1..=limit).contains(&found) {
                return Err(LimitFault::Count { name, found, limit });
            }
        }
        let deadlines = &self.deadlines;
        let spans = [
            ("retry_first", self.retry_first),
            ("retry_longest", self.retry_longest),
            ("deadlines.opening", deadlines.opening),
            ("deadlines.requested", deadlines.requested),
            ("deadlines.offered", deadlines.offered),
            ("deadlines.accepted", deadlines.accepted),
            ("deadlines.agreed", deadlines.agreed),
            ("deadlines.verified", deadlines.verified),
            ("deadlines.notice", deadlines.notice),
        ];
        for (name, found) in spans {
            if found.is_zero() || found > SPAN_MAX {
                return Err(LimitFault::Span { name, found });
            }
        }
        let (first, longest) = (self.retry_first, self.retry_longest);
        if first > longest { Err(LimitFault::Retry { first, longest }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut LimitSettings), expect: Option<&str>) {
        let mut settings = LimitSettings::default();
        change(&mut settings);
        let fault = Limits::new(settings).err().map(|fault| fault.to_string());
        assert_eq!(fault.as_deref(), expect);
    }

    #[test]
    fn what_may_be_configured() {
        check(|_| (), None);
        check(|l| l.proposals_max = PROPOSALS_MAX, None);
        check(|l| l.proposals_max = PROPOSALS_MAX + 1, Some("proposals_max is 65; give 1 to 64"));
        check(|l| l.attempts_max = ATTEMPTS_MAX, None);
        check(|l| l.attempts_max = ATTEMPTS_MAX + 1, Some("attempts_max is 33; give 1 to 32"));
        check(|l| l.attempts_max = 0, Some("attempts_max is 0; give 1 to 32"));
        check(|l| l.deadlines.agreed = SPAN_MAX, None);
        let expect = "deadlines.agreed is 31622401s; give more than nothing and at most 31622400s";
        check(|l| l.deadlines.agreed = SPAN_MAX + Duration::from_secs(1), Some(expect));
        let expect = "deadlines.notice is 0ns; give more than nothing and at most 31622400s";
        check(|l| l.deadlines.notice = Duration::ZERO, Some(expect));
        let expect = "retry_first 3601s is longer than retry_longest 3600s; swap them";
        check(|l| l.retry_first = HOUR + Duration::from_secs(1), Some(expect));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = Limits::default();
        let check = |attempt, expect| assert_eq!(limits.wait_after(attempt).as_secs(), expect);
        check(1, 5);
        check(2, 10);
        check(10, 2560);
        check(11, 3600);
        check(ATTEMPTS_MAX + 1, 3600);
    }
}
