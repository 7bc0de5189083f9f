//! The seam to the engine: what came in, and how it is answered.

use bytes::Bytes;
use guan_model::WallTime;
use std::num::NonZeroU16;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// How surely a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// One thing that a driver asks of the engine.
#[derive(Debug)]
pub enum Submission {
    Publish(Publication),
    /// The client will not repeat this QoS 2 message.
    Release {
        client: Arc<str>,
        packet_id: NonZeroU16,
        reply: ReplyHandle,
    },
    /// A client connects. `clean` forgets what its session held. A dropped reply turns it away.
    SessionOpened {
        client: Arc<str>,
        clean: bool,
        reply: oneshot::Sender<SessionState>,
    },
    /// A session that must not outlive its connection has ended.
    SessionForgotten {
        client: Arc<str>,
    },
}

/// A message.
#[derive(Debug)]
pub struct Publication {
    pub client: Arc<str>,
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    /// To be remembered with the message (QoS 2), so that a repetition is known after a restart.
    pub held: Option<NonZeroU16>,
    /// It only removes a retained message: its empty payload is no data.
    pub is_removal: bool,
    pub received: WallTime,
    pub reply: ReplyHandle,
    /// Memory that the message takes; freed when it is dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// What the engine knows of a client's session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionState {
    pub present: bool,
    /// Packet ids of QoS 2 messages that are durable and not yet released.
    pub held: Vec<NonZeroU16>,
}

/// How a submission ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On disk, with everything that was settled before.
    Durable,
    Refused {
        reason: RefuseReason,
        text: String,
    },
    /// The engine dropped it, because it stops or failed. The client must send it again.
    Lost,
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefuseReason {
    /// No room now; the same message may be taken later.
    Quota,
    NotAuthorized,
    /// The payload is not what the mapping says, or there is no mapping.
    PayloadInvalid,
}

impl RefuseReason {
    /// Whether the same message would be refused again.
    pub fn is_final(self) -> bool {
        match self {
            Self::Quota => false,
            Self::NotAuthorized | Self::PayloadInvalid => true,
        }
    }
}

/// Settles one submission. Dropped without it, the outcome is [`Outcome::Lost`].
#[derive(Debug)]
pub struct ReplyHandle {
    ticket: u64,
    /// Unbounded, and holds at most one outcome for each message that the session let in.
    outcomes: Option<mpsc::UnboundedSender<(u64, Outcome)>>,
}

impl ReplyHandle {
    pub fn new(ticket: u64, outcomes: mpsc::UnboundedSender<(u64, Outcome)>) -> Self {
        Self { ticket, outcomes: Some(outcomes) }
    }

    pub fn settle(mut self, outcome: Outcome) {
        if let Some(outcomes) = self.outcomes.take() {
            // A connection that is gone needs no answer: its client sends again.
            let _ = outcomes.send((self.ticket, outcome));
        }
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        if let Some(outcomes) = self.outcomes.take() {
            let _ = outcomes.send((self.ticket, Outcome::Lost));
        }
    }
}
