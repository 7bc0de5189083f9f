//! What comes from the other end: its messages, and its answers to ours.
//!
//! A message that was followed once is answered the same way for ever and followed no more. A refused
//! message changes nothing.

use super::answer::{Ack, Answer, Refusal};
use super::limits::Limits;
use super::machine::{EndCause, InFlight, Negotiation, Parties};
use super::message::{Body, Message, Pid};
use super::state::{MessageKind, Role, State, allowed, next_state};
use guan_model::Now;

/// Why an answer is not believed; the message stays on its way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    #[error(
        "the first answer does not name the negotiation of the other end; ask for a ContractNegotiation"
    )]
    NoPid,
    #[error("the answer is about the negotiation {found:?}, this one is {expected:?}")]
    OtherNegotiation { found: String, expected: String },
}

impl Negotiation {
    /// Begins with the first message of the other end. The caller looks up by peer and pid first: a
    /// repeated first message belongs to the negotiation that it began.
    pub fn begin(
        now: Now,
        parties: Parties,
        message: &Message,
        limits: Limits,
    ) -> Result<(Self, Ack), Refusal> {
        let mut negotiation = Self::new(now, parties, limits);
        let ack = negotiation.handle_message(now, message)?;
        Ok((negotiation, ack))
    }

    /// Follows a message of the other end, or refuses it. Store the record before the answer is sent.
    pub fn handle_message(&mut self, now: Now, message: &Message) -> Result<Ack, Refusal> {
        let sender = self.role().other();
        let kind = message.kind();
        self.check_pids(message)?;
        let digest = message.digest();
        if let Some((_, state)) = self.followed.iter().find(|(known, _)| *known == digest) {
            return Ok(self.ack_with(*state).expect("who was followed has named the negotiation"));
        }
        self.handle_timeout(now);
        // Only a first message may leave out how we name the negotiation.
        let is_first = self.state.is_none() && self.in_flight.is_none();
        let is_named = message.pid(self.role()).is_some() || is_first;
        let Some(confirms) = self.step(sender, kind).filter(|_| is_named) else {
            self.learn(now, message.pid(sender), None);
            return Err(self.illegal_message(sender, kind));
        };
        if kind.is_proposal() && self.proposals >= self.limits.proposals_max() {
            return Err(Refusal::TooManyProposals { limit: self.limits.proposals_max() });
        }
        self.learn(now, message.pid(sender), message.callback());
        if confirms {
            self.confirm(now);
        }
        self.proposals += u32::from(kind.is_proposal());
        self.follow(now, sender, message.body().clone());
        let state = self.state.expect("a followed message leads to a state");
        self.followed.push((digest, state));
        Ok(self.ack_with(state).expect("a followed message names its negotiation"))
    }

    /// What the other end answered to the message of that sequence. An answer to an older message means
    /// nothing.
    pub fn handle_answer(
        &mut self,
        now: Now,
        sequence: u32,
        answer: &Answer,
    ) -> Result<(), AnswerFault> {
        if let Answer::Accepted(Some(ack)) = answer {
            self.check_ack(ack)?;
            self.learn(now, Some(ack.pid(self.role().other())), None);
        }
        let is_current = |message: &&InFlight| message.sequence == sequence;
        let Some(in_flight) = self.in_flight.as_ref().filter(is_current) else { return Ok(()) };
        let kind = in_flight.body.kind();
        match answer {
            Answer::Accepted(_) if self.peer_pid.is_none() => return Err(AnswerFault::NoPid),
            Answer::Accepted(_) => self.confirm(now),
            Answer::Refused(_) if kind == MessageKind::Termination => self.drop_notice(),
            // The other end keeps its last proposal; this end may take another step.
            Answer::Refused(_) if kind.is_proposal() && self.state.is_some() => {
                self.in_flight = None;
            }
            Answer::Refused(rejection) => {
                let reasons = rejection.as_ref().map(|r| r.reasons.clone()).unwrap_or_default();
                let cause = EndCause::RefusedByPeer { message: kind, reasons };
                let reason = format!("{kind} was refused, so the two ends differ about the state");
                self.terminate_with(now, cause, Some("refused".to_owned()), vec![reason]);
            }
        }
        Ok(())
    }

    /// Whether a message may come now, and whether it shows that ours, still unanswered, has arrived.
    fn step(&self, sender: Role, kind: MessageKind) -> Option<bool> {
        let own = self.in_flight.as_ref().filter(|message| message.attempts > 0);
        let after_own = own.and_then(|m| next_state(self.state, self.role(), m.body.kind()));
        let is_next = |from| next_state(from, sender, kind).is_some();
        // A termination shows nothing, except that the first message has arrived.
        let shows = kind != MessageKind::Termination || self.state.is_none();
        if shows && after_own.is_some() && is_next(after_own) {
            return Some(true);
        }
        // With our first message on its way, theirs cannot be a first one, too.
        let is_open = self.state.is_some() || self.in_flight.is_none();
        (is_open && is_next(self.state)).then_some(false)
    }

    fn confirm(&mut self, now: Now) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match in_flight.body {
            Body::Termination { .. } => self.drop_notice(),
            body => self.follow(now, self.role(), body),
        }
    }

    fn drop_notice(&mut self) {
        self.in_flight = None;
        self.deadline = None;
    }

    /// The other end has named the negotiation. If this end gave up before, it can now say so.
    fn learn(&mut self, now: Now, pid: Option<&Pid>, callback: Option<&str>) {
        if self.peer_pid.is_none()
            && let Some(pid) = pid
        {
            self.peer_pid = Some(pid.clone());
            if self.state == Some(State::Terminated) {
                let reasons = vec!["given up before the first answer came".to_owned()];
                self.send(now, Body::Termination { code: None, reasons });
            }
        }
        if let Some(callback) = callback {
            self.peer_callback = Some(callback.to_owned());
        }
    }

    fn check_pids(&self, message: &Message) -> Result<(), Refusal> {
        for role in [self.role(), self.role().other()] {
            if let (Some(found), Some(expected)) = (message.pid(role), self.pid(role))
                && found != expected
            {
                let (found, expected) = (found.to_string(), expected.to_string());
                return Err(Refusal::OtherNegotiation { role, found, expected });
            }
        }
        Ok(())
    }

    fn check_ack(&self, ack: &Ack) -> Result<(), AnswerFault> {
        for role in [Role::Consumer, Role::Provider] {
            if let Some(expected) = self.pid(role)
                && ack.pid(role) != expected
            {
                let (found, expected) = (ack.pid(role).to_string(), expected.to_string());
                return Err(AnswerFault::OtherNegotiation { found, expected });
            }
        }
        Ok(())
    }

    fn illegal_message(&self, sender: Role, message: MessageKind) -> Refusal {
        let state = self.state;
        Refusal::IllegalTransition { state, sender, message, allowed: allowed(state, sender) }
    }
}
