//! The seam to the engine: what came in, and how it is answered.

use bytes::Bytes;
use guan_model::WallTime;
use std::num::NonZeroU16;
use std::ops::Range;
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

/// How submissions of one connection ended that had followed one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub tickets: Range<u64>,
    pub outcome: Outcome,
}

/// Where the outcomes of one connection come together. Unbounded, and holds at most one for each message that
/// the session let in.
pub type Outcomes = Arc<mpsc::UnboundedSender<Settled>>;

/// A way for the outcomes of one connection.
pub fn outcomes() -> (Outcomes, mpsc::UnboundedReceiver<Settled>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(sender), receiver)
}

/// Settles one submission. Dropped without it, the outcome is [`Outcome::Lost`].
#[derive(Debug)]
pub struct ReplyHandle {
    ticket: u64,
    outcomes: Option<Outcomes>,
}

impl ReplyHandle {
    pub fn new(ticket: u64, outcomes: Outcomes) -> Self {
        Self { ticket, outcomes: Some(outcomes) }
    }

    pub fn settle(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        if let Some(outcomes) = self.outcomes.take() {
            send(&outcomes, self.ticket..self.ticket + 1, outcome);
        }
    }
}

impl Drop for ReplyHandle {
    fn drop(&mut self) {
        self.tell(Outcome::Lost);
    }
}

fn send(outcomes: &Outcomes, tickets: Range<u64>, outcome: Outcome) {
    // A connection that is gone needs no answer: its client sends again.
    let _ = outcomes.send(Settled { tickets, outcome });
}

/// Tells connections that submissions are durable, those of a run at once: one word and one wake-up for all.
///
/// What it was given is told at the latest with [`flush`](Self::flush), or when it is dropped.
#[derive(Debug, Default)]
pub struct DurableRun {
    run: Option<(Outcomes, Range<u64>)>,
    /// Memory of the messages of the run.
    permit: Option<OwnedSemaphorePermit>,
}

impl DurableRun {
    pub fn settle(&mut self, mut reply: ReplyHandle, permit: Option<OwnedSemaphorePermit>) {
        let Some(outcomes) = reply.outcomes.take() else { return };
        match &mut self.run {
            Some((of_run, tickets))
                if Arc::ptr_eq(of_run, &outcomes) && tickets.end == reply.ticket =>
            {
                tickets.end += 1;
            }
            _ => {
                self.flush();
                self.run = Some((outcomes, reply.ticket..reply.ticket + 1));
            }
        }
        match (&mut self.permit, permit) {
            (Some(held), Some(more)) if Arc::ptr_eq(held.semaphore(), more.semaphore()) => {
                held.merge(more);
            }
            (held, Some(more)) => drop(held.replace(more)),
            (_, None) => {}
        }
    }

    pub fn flush(&mut self) {
        if let Some((outcomes, tickets)) = self.run.take() {
            send(&outcomes, tickets, Outcome::Durable);
        }
        self.permit = None;
    }
}

impl Drop for DurableRun {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[test]
    fn a_run_is_told_at_once_and_ends_with_a_gap_or_another_connection() {
        let ((one, mut of_one), (two, mut of_two)) = (outcomes(), outcomes());
        let room = Arc::new(Semaphore::new(10));
        let mut run = DurableRun::default();
        for (ticket, line) in [(3, &one), (4, &one), (6, &one), (7, &two), (7, &one), (8, &one)] {
            let permit = room.clone().try_acquire_owned().ok();
            run.settle(ReplyHandle::new(ticket, line.clone()), permit);
        }
        run.flush();
        let tickets = |settled: Settled| (settled.outcome == Outcome::Durable, settled.tickets);
        let all = std::iter::from_fn(|| of_one.try_recv().ok()).map(tickets).collect::<Vec<_>>();
        assert_eq!(all, [(true, 3..5), (true, 6..7), (true, 7..9)]);
        assert_eq!(of_two.try_recv().map(tickets), Ok((true, 7..8)));
        assert_eq!(room.available_permits(), 10, "all memory is free again");
    }

    #[test]
    fn what_was_given_is_told_in_the_end_and_what_was_dropped_is_lost() {
        let (line, mut settled) = outcomes();
        DurableRun::default().settle(ReplyHandle::new(1, line.clone()), None);
        assert_eq!(settled.try_recv().unwrap().outcome, Outcome::Durable);
        drop(ReplyHandle::new(2, line));
        let lost = Settled { tickets: 2..3, outcome: Outcome::Lost };
        assert_eq!(settled.try_recv(), Ok(lost));
    }
}
