//! Moves the session's frames over quinn: connect, run, back off (box); accept, run (space).
//!
//! Both ends are handed a `quinn::Endpoint`, so that a simulator can pass one over its own socket and
//! runtime. Time is tokio's. Each session is one task that owns everything of it: no locks, and queues
//! form a line (spool, box, space, store), while the way back carries cursors only.
//!
//! Never here: decisions of the protocol (those are in [`crate::Sender`] and [`crate::Receiver`]), files,
//! the system's clock.

mod inbox;
mod source;
mod tuning;

pub use inbox::{Inbox, InboxFault, Receipt, Refusal, Settled};
pub use source::{BatchSource, ReadFault};
pub use tuning::{LinkTuning, TuningFault};
