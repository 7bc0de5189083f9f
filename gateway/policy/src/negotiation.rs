//! Contract negotiation of the Dataspace Protocol 2025-1: how two ends come from an offer to an agreement.
//!
//! [`Negotiation`] is one end of one negotiation as a machine: messages, commands and moments go in;
//! messages to send and the next deadline come out. A [`Mandate`] says what a box may agree to alone.
//! Every state has a deadline, every message a bounded number of attempts, every negotiation a bounded
//! number of proposals; the provider is FINALIZED only when the consumer is.
//!
//! Never here: sockets, HTTP, clocks, files, and who the other end is: the caller has authenticated it.
//! Nor does it judge terms: that is `Contract::draft`, `Contract::parse` and the mandate.

mod answer;
mod command;
mod limits;
mod machine;
mod mandate;
mod message;
mod reader;
mod receive;
mod record;
mod state;
mod terms;

pub use answer::{Ack, Answer, Refusal, Rejection};
pub use command::CommandFault;
pub use limits::{ATTEMPTS_MAX, Deadlines, LimitFault, LimitSettings, Limits, PROPOSALS_MAX};
pub use machine::{EndCause, Negotiation, Parties, Transmit};
pub use mandate::{
    MANDATE_BYTES_MAX, MANDATE_CONSUMERS_MAX, MANDATE_DATASETS_MAX, Mandate, Reason, Verdict,
};
pub use message::{Body, CONTEXT, MESSAGE_BYTES_MAX, Message, MessageError, Pid};
pub use receive::AnswerFault;
pub use record::{RECORD_BYTES_MAX, RecordFault};
pub use state::{MessageKind, Role, State, allowed, next_state};
pub use terms::{Signatures, Terms};

#[cfg(test)]
mod tests;
