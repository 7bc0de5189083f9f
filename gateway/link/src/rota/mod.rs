//! When the link is up, and for what: connect windows, byte budgets, sleep. Without I/O.
//!
//! Ask [`Rota::poll`] whenever something changed and at the moment it names. Three states come out: up for all,
//! up for contracts and attestation only, down. A link that is down for whatever reason comes up every
//! [`Rules::check_in`], so that a revocation is known by then; and as nothing leaves while it is down, no byte
//! ever leaves under a contract that was revoked meanwhile.
//!
//! Invariants: batches leave only inside a window and within the budgets; who does not know the time has no
//! windows. Never here: what a contract may send, which is the ledger's ([`Usage`]).

#[cfg(test)]
mod tests;
mod usage;

pub use usage::{Budget, CONTRACTS_MAX, Spent, Usage, UsageFault};

use guan_model::{WallTime, WeekWindow};
use std::time::Duration;

/// A check-in ends when nothing was said for so long.
pub const CHECK_IN_QUIET: Duration = Duration::from_secs(10);
/// A check-in that finds no way to the space ends after this.
pub const CHECK_IN_WAIT: Duration = Duration::from_secs(120);

/// What the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// When batches may leave; none: at any time.
    pub windows: Vec<WeekWindow>,
    /// Of everything on the link, both directions.
    pub budget: Budget,
    /// A link that says nothing for so long is let go; `None`: it is kept.
    pub sleep_after: Option<Duration>,
    /// How often a link that is down comes up for contracts and attestation.
    pub check_in: Duration,
}

/// What is so now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Monotonic.
    pub now: Duration,
    /// `None`: nobody knows the time.
    pub wall: Option<WallTime>,
    /// Something waits to be sent that may leave.
    pub is_waiting: bool,
    pub is_connected: bool,
    /// Grows with each frame, in either direction; keep-alives do not count.
    pub said_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Open,
    Control,
    Closed,
}

/// Why the link is not up for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Asleep,
    OutsideWindows,
    Spent(Spent),
}

impl Why {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Asleep => "nothing to send (link.sleep_after_s)",
            Self::OutsideWindows => "outside link.window",
            Self::Spent(Spent::Day) => "link.bytes_per_day_max is reached",
            Self::Spent(Spent::Month) => "link.bytes_per_month_max is reached",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Up, or trying to be; `heard` when something was last said.
    Awake {
        since: Duration,
        heard: Duration,
    },
    Resting {
        until: Duration,
    },
}

#[derive(Debug)]
pub struct Rota {
    rules: Rules,
    state: State,
    said_bytes: u64,
}

impl Rota {
    /// Begins awake: whoever starts wants to know which contracts stand.
    pub fn new(now: Duration, rules: Rules) -> Self {
        Self { rules, state: State::Awake { since: now, heard: now }, said_bytes: 0 }
    }

    /// What holds now, why if it is not everything, and when to ask again at the latest.
    pub fn poll(
        &mut self,
        facts: &Facts,
        usage: &Usage,
    ) -> (Verdict, Option<Why>, Option<Duration>) {
        let barrier = self.barrier(facts, usage);
        let quiet = match (barrier, self.rules.sleep_after) {
            (None, None) => {
                self.state = State::Awake { since: facts.now, heard: facts.now };
                return (Verdict::Open, None, None);
            }
            (None, Some(quiet)) => quiet,
            (Some(_), _) => CHECK_IN_QUIET,
        };
        let has_work = barrier.is_none() && facts.is_waiting;
        self.listen(facts, has_work);
        match self.state {
            State::Awake { since, heard } => {
                let quiet_at = heard + quiet;
                let lost_at = since + CHECK_IN_WAIT.max(quiet);
                let ends = if facts.is_connected { quiet_at } else { lost_at };
                if !has_work && facts.now >= ends {
                    self.state = State::Resting { until: facts.now + self.rules.check_in };
                    return self.poll(facts, usage);
                }
                let verdict = if barrier.is_none() { Verdict::Open } else { Verdict::Control };
                (verdict, barrier, Some(ends))
            }
            State::Resting { until } => {
                (Verdict::Closed, barrier.or(Some(Why::Asleep)), Some(until))
            }
        }
    }

    /// What keeps batches from leaving.
    fn barrier(&self, facts: &Facts, usage: &Usage) -> Option<Why> {
        let windows = &self.rules.windows;
        if let Some(wall) = facts.wall
            && !windows.is_empty()
            && !windows.iter().any(|window| window.holds(wall))
        {
            return Some(Why::OutsideWindows);
        }
        usage.spent(&self.rules.budget).map(Why::Spent)
    }

    fn listen(&mut self, facts: &Facts, has_work: bool) {
        let now = facts.now;
        let is_news = std::mem::replace(&mut self.said_bytes, facts.said_bytes) != facts.said_bytes;
        match &mut self.state {
            State::Awake { heard, .. } if is_news || has_work => *heard = now,
            State::Awake { .. } => {}
            State::Resting { until } if has_work || now >= *until => {
                self.state = State::Awake { since: now, heard: now };
            }
            State::Resting { .. } => {}
        }
    }
}
