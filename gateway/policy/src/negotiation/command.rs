//! What this end can do: each command is one message, allowed in one turn of the negotiation.

use super::answer::{may_send, state_name};
use super::machine::{EndCause, Negotiation};
use super::message::{Body, Message, MessageError};
use super::state::{MessageKind, Role, State, allowed, next_state};
use super::terms::{Signatures, Terms};
use guan_model::Now;

/// Why a command is not carried out; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    #[error(
        "{message} cannot be sent in {}; {}",
        state_name(*.state), may_send(*.role, .allowed)
    )]
    Illegal { state: Option<State>, role: Role, message: MessageKind, allowed: Vec<MessageKind> },
    #[error("{message} is still on its way; wait for its answer")]
    InFlight { message: MessageKind },
    #[error("{limit} proposals were made, which is the limit; accept the last one or terminate")]
    TooManyProposals { limit: u32 },
    #[error(
        "the agreement grants something else than the last proposal; agree to that, or make a new \
         proposal, or terminate"
    )]
    OtherTerms,
    #[error(transparent)]
    Message(MessageError),
}

impl Negotiation {
    /// The consumer answers an offer with other terms.
    pub fn request(&mut self, now: Now, terms: Terms) -> Result<(), CommandFault> {
        self.command(now, Body::Request(terms))
    }

    /// The provider answers a request with other terms.
    pub fn offer(&mut self, now: Now, terms: Terms) -> Result<(), CommandFault> {
        self.command(now, Body::Offer(terms))
    }

    /// The consumer takes the last offer.
    pub fn accept(&mut self, now: Now) -> Result<(), CommandFault> {
        self.command(now, Body::Accepted)
    }

    /// The provider agrees to the last proposal, best with its signature.
    pub fn agree(
        &mut self,
        now: Now,
        terms: Terms,
        signatures: Signatures,
    ) -> Result<(), CommandFault> {
        self.command(now, Body::Agreement { terms, signatures })
    }

    /// The consumer confirms the agreement, best with its signature. Refused if the agreement is not what
    /// was proposed.
    pub fn verify(&mut self, now: Now, signatures: Signatures) -> Result<(), CommandFault> {
        self.command(now, Body::Verification(signatures))
    }

    /// The provider puts the agreement in force. Check the signatures of `contract_file` before.
    pub fn finalize(&mut self, now: Now) -> Result<(), CommandFault> {
        self.command(now, Body::Finalized)
    }

    /// Either end gives up. Not while a finalization may already have arrived: revoke the contract then.
    pub fn terminate(
        &mut self,
        now: Now,
        code: Option<String>,
        reasons: Vec<String>,
    ) -> Result<(), CommandFault> {
        self.handle_timeout(now);
        if self.state.is_some_and(State::is_terminal) {
            return Err(self.illegal(MessageKind::Termination));
        }
        let sent = self.in_flight.as_ref().filter(|message| message.attempts > 0);
        if sent.is_some_and(|message| message.body == Body::Finalized) {
            return Err(CommandFault::InFlight { message: MessageKind::Finalized });
        }
        let cause = EndCause::TerminatedHere { code: code.clone(), reasons: reasons.clone() };
        self.terminate_with(now, cause, code, reasons);
        Ok(())
    }

    pub(super) fn command(&mut self, now: Now, body: Body) -> Result<(), CommandFault> {
        self.handle_timeout(now);
        let kind = body.kind();
        if let Some(message) = self.in_flight() {
            return Err(CommandFault::InFlight { message });
        }
        if next_state(self.state, self.role(), kind).is_none() {
            return Err(self.illegal(kind));
        }
        if kind.is_proposal() && self.proposals >= self.limits.proposals_max() {
            return Err(CommandFault::TooManyProposals { limit: self.limits.proposals_max() });
        }
        self.check_terms(&body)?;
        // What the other end could not read must not become a step.
        let message = Message::new(self.envelope(), body.clone());
        Message::read(message.to_json()).map_err(CommandFault::Message)?;
        self.proposals += u32::from(kind.is_proposal());
        self.send(now, body);
        Ok(())
    }

    fn check_terms(&self, body: &Body) -> Result<(), CommandFault> {
        let agreement = match body {
            Body::Agreement { terms, .. } => Some(terms),
            Body::Verification(_) => self.agreement.as_ref(),
            _ => None,
        };
        let fits = |agreement: &Terms| {
            agreement.is_agreement()
                && self.proposal.as_ref().is_some_and(|offer| agreement.agree_with(offer))
        };
        if agreement.is_some_and(|terms| !fits(terms)) {
            return Err(CommandFault::OtherTerms);
        }
        Ok(())
    }

    fn illegal(&self, message: MessageKind) -> CommandFault {
        let (state, role) = (self.state, self.role());
        CommandFault::Illegal { state, role, message, allowed: allowed(state, role) }
    }
}
