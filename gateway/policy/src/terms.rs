//! What must hold when a batch leaves: the second decision, carried with the batch itself.
//!
//! The first decision answers everything about reading and collecting; what asks for the moment of
//! leaving is left over and kept here. Terms need neither the contract's text nor the plan: a batch
//! that waits for weeks is judged by what it was kept under, whatever was compiled since.

mod wire;

use crate::plan::{Live, Program, Reading};
use crate::situation::Situation;
use crate::truth::Truth;
use guan_model::{BootNumber, ClockQuality, Digest, Now};
use std::sync::Arc;
use std::time::Duration;

pub use wire::{TERMS_BYTES_MAX, TermsFault};

/// A batch must not leave before so much time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    pub span: Duration,
    pub boot: BootNumber,
    pub kept_at: Now,
}

/// Everything that is asked of the moment in which a batch leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    pub(crate) permission: Arc<str>,
    /// Must be true.
    pub(crate) require: Program,
    /// Must all be false.
    pub(crate) forbid: Vec<(Arc<str>, Program)>,
    pub(crate) delay: Option<Delay>,
}

/// The answer of the second decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Now,
    /// Not at this moment; the rule that holds it back.
    Hold(Arc<str>),
    /// At no moment from here on.
    Never(Arc<str>),
}

impl Terms {
    /// Whether nothing is asked.
    pub fn is_free(&self) -> bool {
        self.require == Program::Known(Truth::True)
            && self.forbid.is_empty()
            && self.delay.is_none()
    }

    /// Whether the batch has to wait, whatever the link does.
    pub fn is_delayed(&self) -> bool {
        self.delay.is_some()
    }

    /// The permission under which the batch was kept.
    pub fn permission(&self) -> &Arc<str> {
        &self.permission
    }

    /// The same for all batches that can only leave together: everything but the moment of keeping.
    pub fn conditions(&self) -> Digest {
        let delay = self.delay.map(|delay| delay.span.as_nanos().to_le_bytes());
        let bare = Self { delay: None, ..self.clone() };
        Digest::of_parts(&[&bare.encode(), delay.as_ref().map_or(&[], |span| &span[..])])
    }

    /// Asks again, at the moment of leaving.
    pub fn judge(&self, situation: &Situation, boot: BootNumber) -> Leave {
        // Tests of this phase never look at a reading.
        let live = Live { situation, reading: &Reading::NONE, counted: None };
        let permission = || self.permission.clone();
        let now = &situation.now;
        if self.require.truth(live) != Truth::True {
            return match self.require.can_become(Truth::True, now) {
                true => Leave::Hold(permission()),
                false => Leave::Never(permission()),
            };
        }
        for (rule, program) in &self.forbid {
            if program.truth(live) != Truth::False {
                return match program.can_become(Truth::False, now) {
                    true => Leave::Hold(rule.clone()),
                    false => Leave::Never(rule.clone()),
                };
            }
        }
        match self.delay {
            Some(delay) if !delay.is_over(now, boot) => Leave::Hold(permission()),
            _ => Leave::Now,
        }
    }
}

impl Delay {
    /// In the same boot the monotonic clock tells. After another start both wall clocks must be good,
    /// else the time since the start must be long enough alone.
    fn is_over(&self, now: &Now, boot: BootNumber) -> bool {
        if boot == self.boot {
            return now.monotonic.saturating_sub(self.kept_at.monotonic) >= self.span;
        }
        let is_set = |now: &Now| now.quality != ClockQuality::Unset;
        let by_wall = is_set(now) && is_set(&self.kept_at);
        (by_wall && now.wall.since(self.kept_at.wall) >= self.span) || now.monotonic >= self.span
    }
}

impl Program {
    /// Whether an answer is possible at some later moment. Only time runs one way; everything else may
    /// change.
    fn can_become(&self, wanted: Truth, now: &Now) -> bool {
        match (self, wanted) {
            (Self::Known(truth), _) => *truth == wanted,
            // A clock that is only carried on may be wrong in both directions.
            (Self::DateTime(_), _) if now.quality == ClockQuality::Unset => true,
            (Self::DateTime(set), Truth::True) => set.next_from(now.wall.0).is_some(),
            (Self::DateTime(set), _) => set.next_without(now.wall.0).is_some(),
            (Self::And(parts), Truth::True) | (Self::Or(parts), Truth::False) => {
                parts.iter().all(|part| part.can_become(wanted, now))
            }
            (Self::And(parts), _) | (Self::Or(parts), _) => {
                parts.iter().any(|part| part.can_become(wanted, now))
            }
            (Self::Xone(_) | Self::Test(_) | Self::EventTime(_), _) => true,
        }
    }
}

#[cfg(test)]
mod tests;
