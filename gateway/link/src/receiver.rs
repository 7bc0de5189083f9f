//! The space's side of a session: what to store, what to acknowledge.
//!
//! Call `poll_event` and `poll_frame` until they give nothing after each call of a `handle_*`. The owner
//! answers [`ReceiverEvent::Hello`] with [`Receiver::handle_cursors`] and each [`ReceiverEvent::Store`],
//! in order, with [`Receiver::handle_durable`] (a later place covers earlier ones) or
//! [`Receiver::handle_refused`]. After an error the session is over and every `poll_*` gives nothing.
//!
//! Invariants: each place of a stream is handed out once and in order; `durable <= received`; what was
//! handed out and is not durable costs at most [`RECEIVE_WINDOW_BYTES`].

use crate::RECEIVE_WINDOW_BYTES;
use crate::chain::{self, ChainIn, VERSION_MIN};
use crate::fault::{PeerFault, PeerIncompatible, PeerMisbehaved, PeerSilent};
use crate::frame::{
    Ack, BoxFrame, Chained, Cursor, DESCRIPTORS_PER_SESSION_MAX, Gap, Item, Offer, Pipe, Refuse,
    RefuseReason, SpaceFrame, Versions, Welcome,
};
use crate::hold::{ACK_HOLD, Hold};
use crate::text::Reason;
use bytes::Bytes;
use guan_model::{BatchSeq, StreamId};
use std::collections::VecDeque;
use std::time::Duration;

/// From connection to hello.
pub const HELLO_WAIT: Duration = Duration::from_secs(10);

/// Acks are not held back once so many bytes or items are durable and unsaid: an eighth of what a box may have on
/// the way.
pub const UNSAID_BYTES_MAX: u64 = 1 << 20;
pub const UNSAID_ITEMS_MAX: usize = 128;

/// What the owner must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverEvent {
    /// Look the cursors up and answer with [`Receiver::handle_cursors`].
    Hello(Offer),
    /// Keep the descriptor table; it must be durable before a batch that uses it.
    Describe(Bytes),
    /// Make it durable and answer with [`Receiver::handle_durable`].
    Store(StreamId, Item),
}

#[derive(Debug)]
enum State {
    AwaitHello { deadline: Duration },
    AwaitCursors { version: u16, streams: Vec<StreamId> },
    Streaming { version: u16 },
    Ended,
}

#[derive(Debug)]
struct Lane {
    id: StreamId,
    received: BatchSeq,
    durable: BatchSeq,
    /// A batch that was refused and whose place is still open.
    refused: Option<BatchSeq>,
    ack_due: bool,
    /// Last place and cost of what is handed out.
    pending: VecDeque<(BatchSeq, u64)>,
}

/// One session of the space.
#[derive(Debug)]
pub struct Receiver {
    state: State,
    versions: Versions,
    lanes: Vec<Lane>,
    frames: VecDeque<SpaceFrame>,
    events: VecDeque<ReceiverEvent>,
    /// Cost of all items of this session.
    used: u64,
    /// Cost of those that take no room any more.
    settled: u64,
    granted: u64,
    duplicates: u64,
    tables: usize,
    /// Of the data pipe and of the live pipe.
    chains: [ChainIn; 2],
    /// Acks that follow each other closely are said together.
    hold: Hold,
    is_saying: bool,
    unsaid_items: usize,
}

impl Receiver {
    pub fn new(now: Duration, versions: Versions) -> Self {
        Self {
            state: State::AwaitHello { deadline: now + HELLO_WAIT },
            versions,
            lanes: Vec::new(),
            frames: VecDeque::new(),
            events: VecDeque::new(),
            used: 0,
            settled: 0,
            granted: 0,
            duplicates: 0,
            tables: 0,
            chains: Default::default(),
            hold: Hold::new(ACK_HOLD),
            is_saying: false,
            unsaid_items: 0,
        }
    }

    /// Items that the space already had.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Cost of what is handed out and not yet durable.
    pub fn unstored_bytes(&self) -> u64 {
        self.used - self.settled
    }

    // Input

    pub fn handle_piped(&mut self, pipe: Pipe, frame: BoxFrame) -> Result<(), PeerFault> {
        let outcome = match (&self.state, frame) {
            (State::Ended, _) => return Ok(()),
            (State::AwaitHello { .. }, BoxFrame::Hello(hello)) => {
                self.handle_hello(hello.versions, hello.offer)
            }
            (_, BoxFrame::Hello(_)) => Err(PeerMisbehaved::HelloTwice.into()),
            (State::AwaitHello { .. }, _) => Err(PeerMisbehaved::BeforeHello.into()),
            (State::AwaitCursors { .. }, _) => Err(PeerMisbehaved::BeforeWelcome.into()),
            (State::Streaming { .. }, BoxFrame::Item(stream, item)) => {
                self.handle_item(stream, item)
            }
            (State::Streaming { version }, BoxFrame::Chained(stream, chained)) => {
                self.handle_chained(*version, pipe, stream, &chained)
            }
            (State::Streaming { .. }, BoxFrame::Descriptors(table)) => {
                self.handle_descriptors(table)
            }
        };
        self.conclude(outcome)
    }

    /// What the space already holds of the offered streams; one that is not named starts at zero,
    /// others are ignored. Gives the welcome.
    pub fn handle_cursors(&mut self, cursors: &[Cursor]) {
        let State::AwaitCursors { version, streams } = &self.state else { return };
        let version = *version;
        let through = |id| {
            let found = cursors.iter().find(|cursor| cursor.stream == id);
            found.map_or(BatchSeq::ZERO, |cursor| cursor.through)
        };
        let welcome: Vec<_> =
            streams.iter().map(|id| Cursor { stream: *id, through: through(*id) }).collect();
        self.lanes = welcome.iter().map(Lane::new).collect();
        self.granted = RECEIVE_WINDOW_BYTES;
        let credit_bytes = self.granted;
        let welcome = Welcome { version, cursors: welcome, credit_bytes };
        self.frames.push_back(SpaceFrame::Welcome(welcome));
        self.state = State::Streaming { version };
    }

    /// Everything of the stream through here is on disk.
    ///
    /// # Panics
    /// If that place was never handed out, or was refused since: an ack would be a lie.
    pub fn handle_durable(&mut self, stream: StreamId, through: BatchSeq) {
        if !matches!(self.state, State::Streaming { .. }) {
            return;
        }
        let lane = lane_of(&mut self.lanes, stream).expect("stored items have a known stream");
        assert!(through <= lane.received, "stream {stream}: {through} was not handed out");
        if through <= lane.durable {
            return;
        }
        lane.durable = through;
        lane.ack_due = true;
        while let Some((last, cost)) = lane.pending.front().copied()
            && last <= through
        {
            self.settled += cost;
            self.unsaid_items += 1;
            lane.pending.pop_front();
        }
    }

    /// The space does not take the batch at `seq`. Everything after it that was handed out is void:
    /// the owner must not store it.
    ///
    /// # Panics
    /// If that place is durable already, or was never handed out.
    pub fn handle_refused(
        &mut self,
        stream: StreamId,
        seq: BatchSeq,
        reason: RefuseReason,
        text: &str,
    ) {
        if !matches!(self.state, State::Streaming { .. }) {
            return;
        }
        let lane = lane_of(&mut self.lanes, stream).expect("refused items have a known stream");
        assert!(lane.durable < seq && seq <= lane.received, "stream {stream}: {seq} is not open");
        while let Some((last, cost)) = lane.pending.back().copied()
            && last >= seq
        {
            self.settled += cost;
            lane.pending.pop_back();
        }
        lane.received = BatchSeq(seq.0 - 1);
        lane.refused = Some(seq);
        lane.ack_due = true;
        let void = |event: &ReceiverEvent| match event {
            ReceiverEvent::Store(of, item) => *of == stream && item.through() >= seq,
            ReceiverEvent::Hello(_) | ReceiverEvent::Describe(_) => false,
        };
        self.events.retain(|event| !void(event));
        let text = Reason::cut(text);
        self.frames.push_back(SpaceFrame::Refuse(Refuse { stream, seq, reason, text }));
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), PeerFault> {
        let outcome = match self.state {
            State::AwaitHello { deadline } if now >= deadline => {
                Err(PeerSilent::Hello { limit: HELLO_WAIT }.into())
            }
            _ => Ok(()),
        };
        self.conclude(outcome)
    }

    // Output

    /// Welcome and refusals as they came, then, when it is time, one ack for each stream that has news.
    pub fn poll_frame(&mut self, now: Duration) -> Option<SpaceFrame> {
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        if !matches!(self.state, State::Streaming { .. }) {
            return None;
        }
        let is_held = !self.is_pressing() && self.hold.poll_timeout(now).is_some();
        if is_held && !self.is_saying {
            return None;
        }
        let due = self.lanes.iter_mut().find(|lane| lane.ack_due);
        self.is_saying = due.is_some();
        let lane = due?;
        lane.ack_due = false;
        self.hold.handle_left(now);
        self.unsaid_items = 0;
        self.granted = self.settled + RECEIVE_WINDOW_BYTES;
        let cursor = Cursor { stream: lane.id, through: lane.durable };
        Some(SpaceFrame::Ack(Ack { cursor, credit_bytes: self.granted }))
    }

    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, or an ack that was held back at `now`. A session that
    /// said hello may be quiet for as long as the connection lives.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::AwaitHello { deadline } => Some(deadline),
            State::Streaming { .. } if self.lanes.iter().any(|lane| lane.ack_due) => {
                self.hold.poll_timeout(now)
            }
            _ => None,
        }
    }

    // Inside

    /// The box may soon have to wait for acks.
    fn is_pressing(&self) -> bool {
        let unsaid_bytes = self.settled + RECEIVE_WINDOW_BYTES - self.granted;
        self.unsaid_items >= UNSAID_ITEMS_MAX || unsaid_bytes >= UNSAID_BYTES_MAX
    }

    fn conclude<E>(&mut self, outcome: Result<(), E>) -> Result<(), E> {
        if outcome.is_err() {
            self.state = State::Ended;
            self.frames.clear();
            self.events.clear();
        }
        outcome
    }

    fn handle_hello(&mut self, theirs: Versions, offer: Offer) -> Result<(), PeerFault> {
        let ours = self.versions;
        let common = ours.common(theirs);
        let version = common.ok_or(PeerIncompatible::NoCommonVersion { theirs, ours })?;
        let streams = offer.streams().iter().map(|stream| stream.id).collect();
        self.state = State::AwaitCursors { version, streams };
        self.events.push_back(ReceiverEvent::Hello(offer));
        Ok(())
    }

    fn handle_descriptors(&mut self, table: Bytes) -> Result<(), PeerFault> {
        let limit = DESCRIPTORS_PER_SESSION_MAX;
        if self.tables == limit {
            return Err(PeerMisbehaved::DescriptorTables { limit }.into());
        }
        self.tables += 1;
        self.events.push_back(ReceiverEvent::Describe(table));
        Ok(())
    }

    /// What is void or repeated is inflated, too, as the chain goes on from it; no more is done with it.
    fn handle_chained(
        &mut self,
        version: u16,
        pipe: Pipe,
        stream: StreamId,
        chained: &Chained,
    ) -> Result<(), PeerFault> {
        let (seq, cost) = (chained.seq, chained.cost());
        if version < VERSION_MIN {
            return Err(PeerMisbehaved::ChainUnknown { stream, seq, version }.into());
        }
        self.charge(cost)?;
        let unchained = |fault| PeerMisbehaved::Chain { stream, seq, fault };
        let message = self.chains[pipe as usize].read(chained).map_err(unchained)?;
        if self.place(stream, seq, seq, cost)?.is_some() {
            let batch = chain::unpack(chained, &message).map_err(unchained)?;
            self.hand_out(stream, Item::Batch(batch), cost)?;
        }
        Ok(())
    }

    fn handle_item(&mut self, stream: StreamId, item: Item) -> Result<(), PeerFault> {
        let cost = item.cost();
        self.charge(cost)?;
        let Some(expected) = self.place(stream, item.from(), item.through(), cost)? else {
            return Ok(());
        };
        let item = match item {
            Item::Gap(gap) => Item::Gap(Gap { from: expected, ..gap }),
            batch @ Item::Batch(_) => batch,
        };
        Ok(self.hand_out(stream, item, cost)?)
    }

    /// Takes the cost of an item from the credit.
    fn charge(&mut self, cost: u64) -> Result<(), PeerMisbehaved> {
        self.used = self.used.saturating_add(cost);
        let (used, granted) = (self.used, self.granted);
        match used > granted {
            true => Err(PeerMisbehaved::CreditExceeded { used, granted }),
            false => Ok(()),
        }
    }

    /// Where a new item begins; `None`: it is repeated or void, and settled with that.
    fn place(
        &mut self,
        stream: StreamId,
        from: BatchSeq,
        through: BatchSeq,
        cost: u64,
    ) -> Result<Option<BatchSeq>, PeerMisbehaved> {
        let lane = lane_of(&mut self.lanes, stream)?;
        let expected = lane.received.next();
        let repeated = through < expected;
        // On its way before the box knew of the refusal.
        let void = lane.refused.is_some_and(|refused| from > refused);
        if repeated || void {
            self.duplicates += u64::from(repeated);
            self.settled += cost;
            lane.ack_due = true;
            return Ok(None);
        }
        if from > expected {
            return Err(PeerMisbehaved::Hole { stream, seq: from, expected });
        }
        Ok(Some(expected))
    }

    /// An item that [has its place](Self::place).
    fn hand_out(&mut self, stream: StreamId, item: Item, cost: u64) -> Result<(), PeerMisbehaved> {
        let lane = lane_of(&mut self.lanes, stream)?;
        lane.received = item.through();
        lane.refused = None;
        lane.pending.push_back((item.through(), cost));
        self.events.push_back(ReceiverEvent::Store(stream, item));
        Ok(())
    }
}

impl Lane {
    fn new(cursor: &Cursor) -> Self {
        Self {
            id: cursor.stream,
            received: cursor.through,
            durable: cursor.through,
            refused: None,
            ack_due: false,
            pending: VecDeque::new(),
        }
    }
}

fn lane_of(lanes: &mut [Lane], stream: StreamId) -> Result<&mut Lane, PeerMisbehaved> {
    let lane = lanes.iter_mut().find(|lane| lane.id == stream);
    lane.ok_or(PeerMisbehaved::UnknownStream { stream })
}
