//! Whether the space takes a box's data: asks for evidence, waits, lets verdicts expire. Without I/O.
//!
//! Feed with `handle_*`; ask [`Gate::is_open`] before each read. Invariants:
//! - A box that must prove itself is not heard before a verdict allows it, nor after that has expired.
//! - Evidence that nobody asked for ends the session.

use std::time::Duration;

/// Longest wait for evidence: a TPM on a slow bus needs seconds.
pub const EVIDENCE_WAIT: Duration = Duration::from_secs(30);
/// From one verdict to the next question, less up to [`ASK_SPREAD`].
pub const ASK_INTERVAL: Duration = Duration::from_secs(600);
/// Boxes that came together are not asked together for ever.
pub const ASK_SPREAD: Duration = Duration::from_secs(60);

/// What an appraisal led to. The numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateOutcome {
    Allow,
    /// Connected, and no data is taken.
    Restrict,
    Refuse,
}

impl GateOutcome {
    pub fn code(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Restrict => 1,
            Self::Refuse => 2,
        }
    }

    /// What is unknown restricts.
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Allow,
            2 => Self::Refuse,
            _ => Self::Restrict,
        }
    }
}

/// Why the gate ends a session; the box is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateFault {
    #[error("the box sent no evidence within {} s; see its TPM with `guan check`", EVIDENCE_WAIT.as_secs())]
    NoEvidence,
    #[error("the box sent evidence that nobody had asked for")]
    Unasked,
    #[error("the last verdict has expired, and no new evidence came")]
    Expired,
    #[error("the box is refused: {text}")]
    Refused { text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is asked of this box.
    Free,
    /// To be asked as soon as possible.
    Asking,
    Asked {
        deadline: Duration,
    },
    Judging,
    Resting {
        ask_at: Duration,
    },
}

/// One session's gate.
#[derive(Debug)]
pub struct Gate {
    phase: Phase,
    allowed_until: Option<Duration>,
    is_known: bool,
}

impl Gate {
    /// `must_prove`: closed until a verdict opens it.
    pub fn new(must_prove: bool) -> Self {
        let phase = if must_prove { Phase::Asking } else { Phase::Free };
        Self { phase, allowed_until: None, is_known: !must_prove }
    }

    /// Whether a question is due; the caller then sends it.
    pub fn poll_question(&mut self, now: Duration) -> bool {
        let is_due = match self.phase {
            Phase::Asking => true,
            Phase::Resting { ask_at } => now >= ask_at,
            Phase::Free | Phase::Asked { .. } | Phase::Judging => false,
        };
        if is_due {
            self.phase = Phase::Asked { deadline: now + EVIDENCE_WAIT };
        }
        is_due
    }

    /// Evidence came; the caller has it appraised.
    pub fn handle_evidence(&mut self) -> Result<(), GateFault> {
        match self.phase {
            Phase::Asked { .. } => {
                self.phase = Phase::Judging;
                Ok(())
            }
            _ => Err(GateFault::Unasked),
        }
    }

    /// The appraisal is done; `random` spreads the next question.
    pub fn handle_verdict(
        &mut self,
        now: Duration,
        outcome: GateOutcome,
        holds_for: Duration,
        text: &str,
        random: u64,
    ) -> Result<(), GateFault> {
        assert_eq!(self.phase, Phase::Judging, "a verdict follows evidence");
        let spread_ms = u64::try_from(ASK_SPREAD.as_millis()).expect("a minute");
        let spread = Duration::from_millis(random % spread_ms);
        self.phase = Phase::Resting { ask_at: now + ASK_INTERVAL - spread };
        self.is_known = true;
        self.allowed_until = match outcome {
            GateOutcome::Allow => Some(now + holds_for),
            GateOutcome::Restrict => None,
            GateOutcome::Refuse => return Err(GateFault::Refused { text: text.to_owned() }),
        };
        Ok(())
    }

    /// Somebody wants a verdict now.
    pub fn handle_demand(&mut self, now: Duration) {
        if let Phase::Resting { ask_at } = &mut self.phase {
            *ask_at = now;
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), GateFault> {
        match (self.phase, self.allowed_until) {
            (_, Some(until)) if now >= until => Err(GateFault::Expired),
            // While the last verdict holds, a late answer costs nothing yet.
            (Phase::Asked { deadline }, None) if now >= deadline => Err(GateFault::NoEvidence),
            _ => Ok(()),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_question`](Self::poll_question) is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let due = match self.phase {
            Phase::Resting { ask_at } => Some(ask_at),
            Phase::Asked { deadline } if self.allowed_until.is_none() => Some(deadline),
            _ => None,
        };
        due.into_iter().chain(self.allowed_until).min()
    }

    /// Whether the box has shown what it is, though its data may not be taken.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Free || self.allowed_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: Duration = Duration::from_secs(900);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn judged(outcome: GateOutcome) -> Gate {
        let mut gate = Gate::new(true);
        assert!(gate.poll_question(at(0)) && !gate.poll_question(at(0)));
        gate.handle_evidence().unwrap();
        assert!(!gate.is_open());
        gate.handle_verdict(at(1), outcome, HOLDS, "", 0).unwrap();
        gate
    }

    #[test]
    fn who_need_not_prove_anything_is_heard() {
        let mut gate = Gate::new(false);
        assert!(gate.is_open() && !gate.poll_question(at(0)));
        assert_eq!((gate.poll_timeout(), gate.handle_timeout(at(9999))), (None, Ok(())));
        assert_eq!(gate.handle_evidence(), Err(GateFault::Unasked));
    }

    #[test]
    fn opens_for_as_long_as_the_verdict_holds() {
        let mut gate = judged(GateOutcome::Allow);
        assert!(gate.is_open());
        assert_eq!(gate.poll_timeout(), Some(at(601)));
        assert!(!gate.poll_question(at(600)) && gate.poll_question(at(601)));
        // The next evidence is late: what was allowed stays so until it expires.
        assert_eq!(gate.poll_timeout(), Some(at(901)));
        assert_eq!(gate.handle_timeout(at(900)), Ok(()));
        assert_eq!(gate.handle_timeout(at(901)), Err(GateFault::Expired));
        gate.handle_evidence().unwrap();
        gate.handle_verdict(at(700), GateOutcome::Allow, HOLDS, "", u64::MAX).unwrap();
        assert_eq!(gate.handle_timeout(at(901)), Ok(()));
        assert!(gate.poll_timeout() > Some(at(700) + ASK_INTERVAL - ASK_SPREAD));
    }

    #[test]
    fn restricted_and_refused_boxes_are_not_heard() {
        assert!(!judged(GateOutcome::Restrict).is_open());
        let mut gate = Gate::new(true);
        assert!(gate.poll_question(at(0)));
        gate.handle_evidence().unwrap();
        let fault = gate.handle_verdict(at(1), GateOutcome::Refuse, HOLDS, "why", 0);
        assert_eq!(fault, Err(GateFault::Refused { text: "why".to_owned() }));
        assert!(!gate.is_open());
    }

    #[test]
    fn a_demand_asks_at_once_and_once() {
        let mut gate = judged(GateOutcome::Allow);
        assert!(gate.is_known() && !gate.poll_question(at(2)));
        gate.handle_demand(at(2));
        assert!(gate.poll_question(at(2)) && gate.is_open());
        gate.handle_demand(at(3));
        assert!(!gate.poll_question(at(3)), "the answer to the first is still awaited");
        let mut new = Gate::new(true);
        new.handle_demand(at(0));
        assert!(!new.is_known() && new.poll_question(at(0)) && !new.poll_question(at(0)));
    }

    #[test]
    fn silence_ends_at_its_limit() {
        let mut gate = Gate::new(true);
        assert!(gate.poll_question(at(5)));
        assert_eq!(gate.poll_timeout(), Some(at(35)));
        assert_eq!(gate.handle_timeout(at(34)), Ok(()));
        assert_eq!(gate.handle_timeout(at(35)), Err(GateFault::NoEvidence));
    }

    #[test]
    fn codes_survive() {
        for outcome in [GateOutcome::Allow, GateOutcome::Restrict, GateOutcome::Refuse] {
            assert_eq!(GateOutcome::from_code(outcome.code()), outcome);
        }
        assert_eq!(GateOutcome::from_code(9), GateOutcome::Restrict);
    }
}
