//! Requests on their way, in the order in which they must be answered.

use crate::mqtt::message::Message;
use crate::submission::{Outcome, QoS};
use std::collections::VecDeque;
use std::num::NonZeroU16;

/// What an outcome is for.
#[derive(Debug)]
pub(super) enum Flight {
    /// `message` is taken out when it is handed on; `None` of one that was denied or that nobody listens for.
    Publish {
        qos: QoS,
        id: Option<NonZeroU16>,
        message: Option<Box<Message>>,
        /// Bytes that it holds of the client's share until it is settled.
        bytes: usize,
    },
    Release {
        packet_id: NonZeroU16,
    },
}

/// A queue whose members may be settled in any order and leave in theirs.
#[derive(Debug, Default)]
pub(super) struct Flights {
    first: u64,
    queue: VecDeque<(Flight, Option<Outcome>)>,
}

impl Flights {
    /// Returns the ticket of the new one.
    pub(super) fn push(&mut self, flight: Flight) -> u64 {
        self.queue.push_back((flight, None));
        self.first + self.queue.len() as u64 - 1
    }

    /// # Panics
    /// If there is no such ticket, or it was settled: the engine answered twice.
    pub(super) fn settle(&mut self, ticket: u64, outcome: Outcome) {
        let index = ticket.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.queue.get_mut(index));
        let (_, settled) = slot.expect("each ticket is settled once");
        assert!(settled.is_none(), "ticket {ticket} was settled before");
        *settled = Some(outcome);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn pop_settled(&mut self) -> Option<(Flight, Outcome)> {
        self.queue.front()?.1.as_ref()?;
        let (flight, outcome) = self.queue.pop_front()?;
        self.first += 1;
        Some((flight, outcome.expect("looked at above")))
    }
}
