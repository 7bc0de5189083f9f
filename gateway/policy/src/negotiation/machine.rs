//! One end of one negotiation: its state, its timers and the message that is on its way.
//!
//! At most one message is on its way. A step of ours counts when the other end has acknowledged it,
//! or has sent what only can come after it; TERMINATED alone counts at once. So the provider is
//! FINALIZED only if the consumer is.

use super::limits::Limits;
use super::message::{
    ADDRESS_BYTES_MAX, Body, Envelope, Message, Pid, REASONS_MAX, check_text, cut,
};
use super::state::{MessageKind, Role, State, next_state};
use super::terms::{Signatures, Terms};
use super::{Ack, CommandFault};
use guan_model::{Digest, IdFault, Now};
use std::time::Duration;

/// Who negotiates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    pub(super) role: Role,
    pub(super) pid: Pid,
    pub(super) peer: String,
    pub(super) callback: String,
}

impl Parties {
    /// `role` and `pid` are of this end, a pid new for each negotiation; `peer` is the name under which
    /// the caller has authenticated the other end, `callback` where this end takes messages.
    pub fn new(role: Role, pid: Pid, peer: &str, callback: &str) -> Result<Self, IdFault> {
        check_text("peer", peer, ADDRESS_BYTES_MAX)?;
        check_text("callback address", callback, ADDRESS_BYTES_MAX)?;
        Ok(Self { role, pid, peer: peer.to_owned(), callback: callback.to_owned() })
    }
}

/// Why a negotiation is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// An agreement is in force.
    Concluded,
    TerminatedHere {
        code: Option<String>,
        reasons: Vec<String>,
    },
    TerminatedByPeer {
        code: Option<String>,
        reasons: Vec<String>,
    },
    /// Nothing happened for too long. `in_doubt`: the provider had sent that it is final, and does not
    /// know whether the consumer got it.
    Deadline {
        state: Option<State>,
        in_doubt: bool,
    },
    /// A message was sent as often as may be, and never answered.
    AttemptsSpent {
        message: MessageKind,
    },
    /// The other end refused a step that the rules allow: the two ends differ about the state.
    RefusedByPeer {
        message: MessageKind,
        reasons: Vec<String>,
    },
}

/// A message to send now.
#[derive(Debug, Clone, PartialEq)]
pub struct Transmit {
    /// Goes back with the answer.
    pub sequence: u32,
    /// Counted from 1.
    pub attempt: u32,
    pub message: Message,
    /// Where to; `None` until the other end has told, then the caller knows from its catalogue.
    pub callback: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct InFlight {
    pub(super) body: Body,
    pub(super) sequence: u32,
    pub(super) attempts: u32,
    /// When the next attempt is due, or, after the last one, when it has failed.
    pub(super) due: Duration,
}

/// One end of one negotiation.
#[derive(Debug, Clone, PartialEq)]
pub struct Negotiation {
    pub(super) parties: Parties,
    pub(super) limits: Limits,
    pub(super) peer_pid: Option<Pid>,
    pub(super) peer_callback: Option<String>,
    /// `None` until the first message is acknowledged.
    pub(super) state: Option<State>,
    pub(super) proposals: u32,
    /// The last proposal that both ends know.
    pub(super) proposal: Option<Terms>,
    pub(super) agreement: Option<Terms>,
    /// Of the provider and of the consumer, if they signed.
    pub(super) agreement_signatures: Signatures,
    pub(super) verification_signatures: Signatures,
    pub(super) sequence: u32,
    pub(super) in_flight: Option<InFlight>,
    /// Messages that were followed and the state that they led to; one a step, so bounded.
    pub(super) followed: Vec<(Digest, State)>,
    pub(super) deadline: Option<Duration>,
    pub(super) end: Option<EndCause>,
}

impl Negotiation {
    /// Opens a negotiation: a consumer with a request, a provider with an offer.
    pub fn open(
        now: Now,
        parties: Parties,
        proposal: Terms,
        limits: Limits,
    ) -> Result<Self, CommandFault> {
        let mut negotiation = Self::new(now, parties, limits);
        let body = match negotiation.role() {
            Role::Consumer => Body::Request(proposal),
            Role::Provider => Body::Offer(proposal),
        };
        negotiation.command(now, body)?;
        Ok(negotiation)
    }

    pub(super) fn new(now: Now, parties: Parties, limits: Limits) -> Self {
        let deadline = Some(now.monotonic.saturating_add(limits.deadline(None)));
        Self {
            parties,
            limits,
            peer_pid: None,
            peer_callback: None,
            state: None,
            proposals: 0,
            proposal: None,
            agreement: None,
            agreement_signatures: Signatures::none(),
            verification_signatures: Signatures::none(),
            sequence: 0,
            in_flight: None,
            followed: Vec::new(),
            deadline,
            end: None,
        }
    }

    pub fn role(&self) -> Role {
        self.parties.role
    }

    /// The name of the other end.
    pub fn peer(&self) -> &str {
        &self.parties.peer
    }

    /// `None` until the first message is acknowledged.
    pub fn state(&self) -> Option<State> {
        self.state
    }

    pub fn pid(&self, role: Role) -> Option<&Pid> {
        if role == self.role() { Some(&self.parties.pid) } else { self.peer_pid.as_ref() }
    }

    /// The last proposal that both ends know.
    pub fn proposal(&self) -> Option<&Terms> {
        self.proposal.as_ref()
    }

    /// What the provider agreed to, from AGREED on.
    pub fn agreement(&self) -> Option<&Terms> {
        self.agreement.as_ref()
    }

    /// The agreement as a contract file with all signatures that came, for `Contract::parse`.
    pub fn contract_file(&self) -> Option<Vec<u8>> {
        let agreement = self.agreement.as_ref()?;
        Some(self.agreement_signatures.file(&self.verification_signatures, agreement))
    }

    /// Requests and offers so far, of both ends.
    pub fn proposals(&self) -> u32 {
        self.proposals
    }

    /// Our message that the other end has not yet answered.
    pub fn in_flight(&self) -> Option<MessageKind> {
        self.in_flight.as_ref().map(|message| message.body.kind())
    }

    pub fn end(&self) -> Option<&EndCause> {
        self.end.as_ref()
    }

    /// It is over and nothing is left to be said.
    pub fn is_done(&self) -> bool {
        self.state.is_some_and(State::is_terminal) && self.in_flight.is_none()
    }

    /// The state as an answer to whoever asks; `None` until both ends have named the negotiation.
    pub fn ack(&self) -> Option<Ack> {
        self.state.and_then(|state| self.ack_with(state))
    }

    pub(super) fn ack_with(&self, state: State) -> Option<Ack> {
        let pid = |role| self.pid(role).cloned();
        let (consumer_pid, provider_pid) = (pid(Role::Consumer)?, pid(Role::Provider)?);
        Some(Ack { consumer_pid, provider_pid, state })
    }

    /// The message to send, if one is due. Only with a link at hand: each call that gives a message is an
    /// attempt. Store the record before the message leaves.
    pub fn poll_message(&mut self, now: Now) -> Option<Transmit> {
        let envelope = self.envelope();
        let in_flight = self.in_flight.as_mut()?;
        if in_flight.due > now.monotonic || in_flight.attempts >= self.limits.attempts_max() {
            return None;
        }
        in_flight.attempts += 1;
        in_flight.due = now.monotonic.saturating_add(self.limits.wait_after(in_flight.attempts));
        Some(Transmit {
            sequence: in_flight.sequence,
            attempt: in_flight.attempts,
            message: Message::new(envelope, in_flight.body.clone()),
            callback: self.peer_callback.clone(),
        })
    }

    /// When `poll_message` will next have something, by the monotonic clock.
    pub fn poll_attempt(&self) -> Option<Duration> {
        let in_flight = self.in_flight.as_ref()?;
        (in_flight.attempts < self.limits.attempts_max()).then_some(in_flight.due)
    }

    /// When `handle_timeout` has something to do, by the monotonic clock.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let in_flight = self.in_flight.as_ref();
        let failed = in_flight.filter(|m| m.attempts >= self.limits.attempts_max()).map(|m| m.due);
        [self.deadline, failed].into_iter().flatten().min()
    }

    /// Ends what has taken too long. Nothing happens before its moment.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_none_or(|moment| moment > now.monotonic) {
            return;
        }
        if self.state.is_some_and(State::is_terminal) {
            // The other end has its own deadline.
            self.in_flight = None;
            self.deadline = None;
            return;
        }
        let is_late = self.deadline.is_some_and(|deadline| deadline <= now.monotonic);
        let cause = match &self.in_flight {
            Some(message) if !is_late => EndCause::AttemptsSpent { message: message.body.kind() },
            in_flight => {
                let finalizing = |m: &InFlight| m.body == Body::Finalized && m.attempts > 0;
                let in_doubt = in_flight.as_ref().is_some_and(finalizing);
                EndCause::Deadline { state: self.state, in_doubt }
            }
        };
        let reason = match &cause {
            EndCause::AttemptsSpent { message } => format!("{message} was never answered"),
            _ => format!("too long in {}", super::answer::state_name(self.state)),
        };
        self.terminate_with(now, cause, Some("timeout".to_owned()), vec![reason]);
    }

    /// TERMINATED from here, and the other end is told if it can be.
    pub(super) fn terminate_with(
        &mut self,
        now: Now,
        cause: EndCause,
        code: Option<String>,
        reasons: Vec<String>,
    ) {
        let code = code.as_deref().map(cut);
        let reasons = reasons.iter().take(REASONS_MAX).map(|reason| cut(reason)).collect();
        let was_heard = self.peer_pid.is_some();
        self.enter(now, State::Terminated, cause.into());
        if was_heard {
            self.send(now, Body::Termination { code, reasons });
        }
    }

    /// Puts a message on its way in place of any other.
    pub(super) fn send(&mut self, now: Now, body: Body) {
        self.sequence += 1;
        let (sequence, due) = (self.sequence, now.monotonic);
        self.in_flight = Some(InFlight { body, sequence, attempts: 0, due });
        if self.state.is_some_and(State::is_terminal) {
            self.deadline = Some(due.saturating_add(self.limits.deadline(self.state)));
        }
    }

    /// Enters a state and sets its deadline; a terminal state has none.
    pub(super) fn enter(&mut self, now: Now, state: State, end: Option<EndCause>) {
        debug_assert!(
            !self.state.is_some_and(State::is_terminal),
            "terminal states are never left"
        );
        self.state = Some(state);
        self.end = end;
        if state.is_terminal() {
            self.in_flight = None;
            self.deadline = None;
        } else {
            let span = self.limits.deadline(Some(state));
            self.deadline = Some(now.monotonic.saturating_add(span));
        }
    }

    /// A message that both ends know of, ours or theirs, has its effect.
    pub(super) fn follow(&mut self, now: Now, sender: Role, body: Body) {
        let kind = body.kind();
        let to = next_state(self.state, sender, kind).expect("the caller has looked the step up");
        let mut end = None;
        match body {
            Body::Request(terms) | Body::Offer(terms) => self.proposal = Some(terms),
            Body::Agreement { terms, signatures } => {
                self.agreement = Some(terms);
                self.agreement_signatures = signatures;
            }
            Body::Verification(signatures) => self.verification_signatures = signatures,
            Body::Accepted => {}
            Body::Finalized => end = Some(EndCause::Concluded),
            Body::Termination { code, reasons } => {
                end = Some(EndCause::TerminatedByPeer { code, reasons });
            }
        }
        self.enter(now, to, end);
    }

    pub(super) fn envelope(&self) -> Envelope {
        let pid = |role| self.pid(role).cloned();
        let is_first = self.peer_pid.is_none();
        Envelope {
            // Part of a counted sequence, so that an equal proposal made later is another message.
            id: Some(format!("{}#{}", self.parties.pid, self.sequence)),
            consumer_pid: pid(Role::Consumer),
            provider_pid: pid(Role::Provider),
            callback: is_first.then(|| self.parties.callback.clone()),
        }
    }
}
