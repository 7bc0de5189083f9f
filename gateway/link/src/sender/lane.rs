//! One stream of the box within a session.

use super::Pipe;
use crate::frame::{Item, StreamRange};
use guan_model::{BatchSeq, StreamId};
use std::collections::VecDeque;
use std::time::Duration;

/// What was sent and not yet acknowledged.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    from: BatchSeq,
    through: BatchSeq,
    rows: u64,
    cost: u64,
    is_batch: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: StreamId,
    /// Last place that left in this session; before the welcome, the newest that the spool has.
    pub(super) sent: BatchSeq,
    /// Last place that the space has named.
    pub(super) acked: BatchSeq,
    /// Last place that the spool may forget, or has forgotten.
    pub(super) released: BatchSeq,
    /// The spool has nothing more, as far as is known.
    pub(super) dry: bool,
    pub(super) rest_until: Option<Duration>,
    /// Which fetch of the session was the last for this lane; 0: none yet.
    pub(super) served: u64,
    /// Through here it is what was kept: before the session, or as the owner says.
    kept: BatchSeq,
    /// While both are behind, the lane that goes first.
    pub(super) younger: Option<usize>,
    pipe: Pipe,
    /// Something may still be underway that was taken back.
    is_pinned: bool,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
}

impl Lane {
    pub(super) fn new(range: &StreamRange) -> Self {
        let released = BatchSeq(range.oldest_unreleased.0 - 1);
        Self {
            id: range.id,
            sent: range.newest,
            acked: released,
            released,
            dry: false,
            rest_until: None,
            served: 0,
            kept: range.newest,
            younger: None,
            pipe: Pipe::Data,
            is_pinned: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    /// The space holds everything through `space`; the session goes on behind it.
    pub(super) fn start(&mut self, space: BatchSeq) {
        self.acked = space;
        self.sent = space;
    }

    /// Once it has caught up while others have not, a lane takes the live pipe, and once it is behind again the other
    /// one; either as soon as nothing of it is underway: its batches never overtake each other.
    pub(super) fn next_pipe(&self, has_backlog: bool) -> Pipe {
        match (self.is_pinned || !self.in_flight.is_empty(), self.is_behind()) {
            (true, _) => self.pipe,
            (false, true) => Pipe::Data,
            (false, false) if has_backlog => Pipe::Live,
            (false, false) => self.pipe,
        }
    }

    /// It is behind on the live pipe, where no backlog belongs, and waits until nothing of it is underway.
    pub(super) fn leaves_live(&self) -> bool {
        let is_underway = !self.in_flight.is_empty();
        self.pipe == Pipe::Live && self.is_behind() && !self.is_pinned && is_underway
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.dry && self.rest_until.is_none()
    }

    pub(super) fn handle_kept(&mut self, through: BatchSeq, younger: Option<usize>) {
        self.kept = self.kept.max(through);
        self.younger = younger;
    }

    /// What it would send next was kept before.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.kept
    }

    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub(super) fn in_flight_items(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn handle_sent(&mut self, pipe: Pipe, item: &Item, cost: u64) {
        self.pipe = pipe;
        assert_eq!(item.from(), self.sent.next(), "stream {}: places leave in order", self.id);
        let (from, through, rows) = (item.from(), item.through(), item.rows());
        let is_batch = matches!(item, Item::Batch(_));
        self.in_flight.push_back(InFlight { from, through, rows, cost, is_batch });
        self.in_flight_bytes += cost;
        self.sent = through;
    }

    pub(super) fn handle_ack(&mut self, through: BatchSeq) {
        assert!(self.acked <= through && through <= self.sent, "the ack was checked before");
        self.acked = through;
        while let Some(first) = self.in_flight.front()
            && first.through <= through
        {
            self.in_flight_bytes -= first.cost;
            self.in_flight.pop_front();
        }
    }

    /// Takes back the batch at `seq` and all after it; gives its rows. `None`: no batch waits there.
    pub(super) fn rewind_to(&mut self, seq: BatchSeq) -> Option<u64> {
        let index = self.in_flight.iter().position(|one| one.is_batch && one.from == seq)?;
        let rows = self.in_flight[index].rows;
        self.in_flight.truncate(index);
        self.in_flight_bytes = self.in_flight.iter().map(|one| one.cost).sum();
        self.sent = BatchSeq(seq.0 - 1);
        self.is_pinned = true;
        Some(rows)
    }

    pub(super) fn end_rest(&mut self, now: Duration) {
        if self.rest_until.is_some_and(|until| now >= until) {
            self.rest_until = None;
        }
    }
}
