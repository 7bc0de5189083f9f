//! The box's side of a session: what to send next, what may be released.
//!
//! Call `poll_event`, `poll_frame` and `poll_want` until they give nothing after each call of a
//! `handle_*`; call [`Sender::handle_timeout`] when the moment of [`Sender::poll_timeout`] has come. Time
//! is monotonic, from any origin. After an error the session is over and every `poll_*` gives nothing.
//!
//! Invariants: places of a stream leave in order and each once, apart from what the space refused;
//! `released <= acked <= sent` (`acked` may lie behind `released` only while the space is behind); what is
//! on the way stays within [`IN_FLIGHT_BYTES_MAX`], [`IN_FLIGHT_ITEMS_MAX`] and the credit. The payload
//! of a batch is not kept here once its frame is handed out: the spool still has it. What a chain refers to was
//! handed out before on the same pipe, and frames are handed out as they were made.

mod lane;
mod share;

use crate::BATCH_BYTES_MAX;
use crate::chain::{self, ChainOut, Message};
use crate::fault::{PeerFault, PeerIncompatible, PeerMisbehaved, PeerSilent, SourceFault};
use crate::frame::{
    Ack, BoxFrame, EncodedBatch, Gap, Hello, Item, Offer, Refuse, RefuseReason, SpaceFrame,
    Versions, Welcome, gap_reason,
};
use crate::text::Reason;
use guan_codec::Squeeze;
use guan_model::{BatchSeq, DatasetId, StreamId};
use lane::Lane;
use share::Share;
use std::collections::VecDeque;
use std::time::Duration;

pub use crate::frame::Pipe;
pub use share::{BACKLOG_PERCENT, BACKLOG_PERCENT_MAX};

/// Most bytes on the way; a single larger item may go alone.
pub const IN_FLIGHT_BYTES_MAX: u64 = 8 << 20;
/// Most batches and gaps on the way.
pub const IN_FLIGHT_ITEMS_MAX: usize = 1024;
/// From hello to welcome.
pub const WELCOME_WAIT: Duration = Duration::from_secs(10);
/// As [`WELCOME_WAIT`], when the space has asked for proof: a TPM and an appraisal lie between.
pub const PROOF_WAIT: Duration = Duration::from_secs(60);
/// Longest wait for an ack that gets further, beside the time that the bytes themselves take.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// Slowest link that is given time: 32 kbit/s. Without it a large batch on a slow link would time
/// out again and again and never arrive.
pub const LINK_BYTES_PER_S_MIN: u64 = 4096;
/// How long a stream rests after a refusal that may pass.
pub const REFUSED_REST: Duration = Duration::from_secs(60);

/// What the owner must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEvent {
    Welcomed {
        version: u16,
    },
    /// The space holds everything through here: the spool may forget it.
    Released {
        stream: StreamId,
        through: BatchSeq,
    },
    /// The space forgot what it had acknowledged (lost, or restored from a backup): an alarm. The
    /// session goes on from `ours` and records a gap in the space.
    SpaceBehind {
        stream: StreamId,
        space: BatchSeq,
        ours: BatchSeq,
    },
    /// The space does not take a batch. If the reason is final, a gap takes its place; otherwise
    /// the stream rests for [`REFUSED_REST`] and offers it again.
    Refused {
        stream: StreamId,
        seq: BatchSeq,
        rows: u64,
        reason: RefuseReason,
        text: Reason,
    },
    /// The spool went on behind a hole of its own; a gap takes its place.
    Missing {
        stream: StreamId,
        from: BatchSeq,
        through: BatchSeq,
    },
    /// A batch is among the frames, in so many bytes.
    Sent {
        dataset: DatasetId,
        bytes: u64,
    },
}

/// What waits for room.
#[derive(Debug)]
struct Outbound {
    lane: usize,
    item: Item,
    /// What is told of a batch that goes in the chain.
    message: Option<Message>,
}

impl Outbound {
    fn cost(&self) -> u64 {
        self.message.as_ref().map_or_else(|| self.item.cost(), Message::cost)
    }
}

/// The sender has room for what follows `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub stream: StreamId,
    pub after: BatchSeq,
}

/// What waits in a stream through a place is a backlog. It gives way to what comes now, and to what was kept later in
/// the stream that came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub stream: StreamId,
    pub through: BatchSeq,
    pub younger: Option<StreamId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitWelcome { deadline: Duration },
    Streaming,
    Ended,
}

/// One session of the box.
#[derive(Debug)]
pub struct Sender {
    state: State,
    versions: Versions,
    lanes: Vec<Lane>,
    /// Items without room yet: one that was wanted, and gaps that the sender made itself.
    waiting: VecDeque<Outbound>,
    frames: VecDeque<(Pipe, BoxFrame)>,
    events: VecDeque<SenderEvent>,
    credit_granted: u64,
    credit_used: u64,
    /// When an ack last got further, or something began to wait for one.
    progress_at: Duration,
    /// Items fetched in this session; says which lane of a class was served last.
    fetched: u64,
    share: Share,
    /// Something of this session was stored: what announces descriptors has been read.
    has_acked: bool,
    /// Of the session; below the first before the welcome.
    version: u16,
    has_live_pipe: bool,
    has_chains: bool,
    /// The link is what holds the box up.
    is_scarce: bool,
    /// Of the data pipe and of the live pipe.
    chains: [ChainOut; 2],
}

impl Sender {
    /// Starts the session: the first frame is the hello.
    pub fn new(now: Duration, versions: Versions, offer: Offer) -> Self {
        let lanes = offer.streams().iter().map(Lane::new).collect();
        Self {
            state: State::AwaitWelcome { deadline: now + WELCOME_WAIT },
            versions,
            lanes,
            waiting: VecDeque::new(),
            frames: VecDeque::from([(Pipe::Data, BoxFrame::Hello(Hello { versions, offer }))]),
            events: VecDeque::new(),
            credit_granted: 0,
            credit_used: 0,
            progress_at: now,
            fetched: 0,
            share: Share::new(BACKLOG_PERCENT),
            has_acked: false,
            version: 0,
            has_live_pipe: true,
            has_chains: true,
            is_scarce: false,
            chains: Default::default(),
        }
    }

    /// For an owner whose transport has a data pipe only.
    pub fn with_one_pipe(mut self) -> Self {
        self.has_live_pipe = false;
        self
    }

    /// For an owner whose space could not read what it was told last: each batch goes alone.
    pub fn without_chains(mut self) -> Self {
        self.has_chains = false;
        self
    }

    /// How much of the bytes is for what was kept from before this session, while there is something of both.
    pub fn with_backlog_percent(mut self, percent: u8) -> Self {
        self.share = Share::new(percent);
        self
    }

    pub fn is_streaming(&self) -> bool {
        self.state == State::Streaming
    }

    pub fn in_flight_bytes(&self) -> u64 {
        self.lanes.iter().map(Lane::in_flight_bytes).sum()
    }

    pub fn in_flight_items(&self) -> usize {
        self.lanes.iter().map(Lane::in_flight_items).sum()
    }

    // Input

    pub fn handle_frame(&mut self, now: Duration, frame: SpaceFrame) -> Result<(), PeerFault> {
        let outcome = match (self.state, frame) {
            (State::Ended, _) => return Ok(()),
            (State::AwaitWelcome { .. }, SpaceFrame::Welcome(w)) => self.handle_welcome(now, &w),
            (State::AwaitWelcome { .. }, _) => Err(PeerMisbehaved::BeforeWelcome.into()),
            (State::Streaming, SpaceFrame::Welcome(_)) => Err(PeerMisbehaved::WelcomeTwice.into()),
            (State::Streaming, SpaceFrame::Ack(ack)) => self.handle_ack(now, ack),
            (State::Streaming, SpaceFrame::Refuse(refuse)) => self.handle_refuse(now, refuse),
        };
        self.conclude(outcome)
    }

    /// More was committed to a stream. A stream that was not offered waits for the next session.
    pub fn handle_available(&mut self, stream: StreamId) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == stream) {
            lane.dry = false;
        }
    }

    /// More was committed, to any stream.
    pub fn handle_available_all(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.dry = false);
    }

    /// A stream is a backlog, though it may have come in this session.
    pub fn handle_kept(&mut self, kept: Kept) {
        let index = |stream| self.lanes.iter().position(|lane| lane.id == stream);
        if let (Some(lane), younger) = (index(kept.stream), kept.younger.and_then(index)) {
            self.lanes[lane].handle_kept(kept.through, younger);
        }
    }

    /// The answer to a [`Want`]. One that is no longer current (the space refused something since) is
    /// ignored; its place will be wanted again.
    pub fn handle_item(
        &mut self,
        now: Duration,
        want: Want,
        item: Item,
    ) -> Result<(), SourceFault> {
        if !self.is_wanted(want) {
            return Ok(());
        }
        let stream = want.stream;
        let index = self.lane_of(stream).expect("a want names a lane");
        let wanted = self.lanes[index].sent.next();
        let (from, through) = (item.from(), item.through());
        if let Item::Batch(batch) = &item
            && batch.bytes.len() > BATCH_BYTES_MAX
        {
            let (seq, length) = (batch.seq, batch.bytes.len());
            return Err(SourceFault::TooLong { stream, seq, length });
        }
        if through < wanted || through < from || (from < wanted && matches!(item, Item::Batch(_))) {
            return Err(SourceFault::Regressed { stream, from, through, wanted });
        }
        let message = self.message_of(&item);
        let cost = message.as_ref().map_or_else(|| item.cost(), Message::cost);
        self.count_served(index, cost);
        let (item, message) = match item {
            // The item itself is asked for again once the gap is on its way.
            _ if from > wanted => {
                let through = BatchSeq(from.0 - 1);
                self.events.push_back(SenderEvent::Missing { stream, from: wanted, through });
                let reason = gap_reason::MISSING;
                (Item::Gap(Gap { from: wanted, through, rows: 0, reason }), None)
            }
            Item::Gap(gap) => (Item::Gap(Gap { from: wanted, ..gap }), None),
            batch @ Item::Batch(_) => (batch, message),
        };
        self.enqueue(now, Outbound { lane: index, item, message });
        Ok(())
    }

    /// The answer to a [`Want`] when there is nothing; the stream is left alone until
    /// [`handle_available`](Self::handle_available).
    pub fn handle_nothing(&mut self, want: Want) {
        if self.is_wanted(want) {
            let index = self.lane_of(want.stream).expect("a want names a lane");
            self.lanes[index].dry = true;
        }
    }

    /// Whether the link is what holds the box up: then bytes are dearer than time.
    pub fn handle_scarcity(&mut self, is_scarce: bool) {
        self.is_scarce = is_scarce;
    }

    /// The space asks for proof before it answers the hello.
    pub fn handle_challenge(&mut self, now: Duration) {
        if let State::AwaitWelcome { deadline } = &mut self.state {
            *deadline = now + PROOF_WAIT;
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), PeerFault> {
        for lane in &mut self.lanes {
            lane.end_rest(now);
        }
        let outcome = match self.state {
            State::AwaitWelcome { deadline } if now >= deadline => {
                Err(PeerSilent::Welcome { limit: WELCOME_WAIT }.into())
            }
            State::Streaming if self.ack_deadline().is_some_and(|deadline| now >= deadline) => {
                let bytes = self.unacked_bytes();
                let limit = now.saturating_sub(self.progress_at);
                Err(PeerSilent::Ack { limit, bytes }.into())
            }
            _ => Ok(()),
        };
        self.conclude(outcome)
    }

    // Output

    /// The next frame and its pipe; frames of one pipe arrive in order, and of two in any.
    pub fn poll_piped(&mut self) -> Option<(Pipe, BoxFrame)> {
        self.frames.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// What to fetch from the spool: what came in this session before what was kept, apart from the share of the
    /// latter; of each the lowest class first, its lanes in turn. The same answer until the owner calls
    /// [`handle_item`](Self::handle_item) or [`handle_nothing`](Self::handle_nothing).
    pub fn poll_want(&self) -> Option<Want> {
        self.want_among(|_| true)
    }

    /// As [`poll_want`](Self::poll_want), for an owner whose data pipe is full: of lanes on the live pipe only.
    pub fn poll_live_want(&self) -> Option<Want> {
        let has_backlog = self.has_backlog();
        self.want_among(|lane| !lane.is_behind() && lane.next_pipe(has_backlog) == Pipe::Live)
    }

    fn is_wanted(&self, want: Want) -> bool {
        self.poll_want() == Some(want) || self.poll_live_want() == Some(want)
    }

    fn has_backlog(&self) -> bool {
        self.has_live_pipe && self.has_acked && self.lanes.iter().any(Lane::is_behind)
    }

    fn want_among(&self, fits: impl Fn(&Lane) -> bool) -> Option<Want> {
        let room = self.waiting.is_empty()
            && self.in_flight_items() < IN_FLIGHT_ITEMS_MAX
            && self.in_flight_bytes() < IN_FLIGHT_BYTES_MAX;
        if self.state != State::Streaming || !room {
            return None;
        }
        let gives_way = |lane: &Lane| {
            let younger = lane.younger.filter(|_| lane.is_behind()).map(|index| &self.lanes[index]);
            younger.is_some_and(|younger| younger.is_behind() && younger.is_ready())
        };
        let is_next =
            |lane: &&Lane| lane.is_ready() && fits(lane) && !gives_way(lane) && !lane.leaves_live();
        let ready = self.lanes.iter().filter(is_next);
        let backlog_first = self.share.is_backlog_first();
        let turn = |lane: &&Lane| {
            (lane.is_behind() != backlog_first, lane.id.class(), lane.served, lane.id)
        };
        let lane = ready.min_by_key(turn)?;
        Some(Want { stream: lane.id, after: lane.sent })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let rests = self.lanes.iter().filter_map(|lane| lane.rest_until);
        match self.state {
            State::AwaitWelcome { deadline } => Some(deadline),
            State::Streaming => rests.chain(self.ack_deadline()).min(),
            State::Ended => None,
        }
    }

    // Inside

    fn conclude<E>(&mut self, outcome: Result<(), E>) -> Result<(), E> {
        if outcome.is_err() {
            self.state = State::Ended;
            self.frames.clear();
            self.waiting.clear();
            self.events.clear();
        }
        outcome
    }

    fn handle_welcome(&mut self, now: Duration, welcome: &Welcome) -> Result<(), PeerFault> {
        let version = welcome.version;
        if !(self.versions.min..=self.versions.max).contains(&version) {
            return Err(PeerIncompatible::VersionNotOffered { version }.into());
        }
        let named = welcome.cursors.iter().map(|cursor| cursor.stream);
        if !named.eq(self.lanes.iter().map(|lane| lane.id)) {
            return Err(PeerMisbehaved::CursorStreams { offered: self.lanes.len() }.into());
        }
        for (lane, cursor) in self.lanes.iter().zip(&welcome.cursors) {
            if cursor.through > lane.sent {
                let (stream, space, newest) = (lane.id, cursor.through, lane.sent);
                return Err(PeerIncompatible::SpoolSetBack { stream, space, newest }.into());
            }
        }
        self.state = State::Streaming;
        self.version = version;
        self.credit_granted = welcome.credit_bytes;
        self.events.push_back(SenderEvent::Welcomed { version });
        for index in 0..self.lanes.len() {
            self.start_lane(now, index, welcome.cursors[index].through);
        }
        Ok(())
    }

    fn start_lane(&mut self, now: Duration, index: usize, space: BatchSeq) {
        let lane = &mut self.lanes[index];
        let (stream, ours) = (lane.id, lane.released);
        lane.start(space);
        if space > ours {
            self.release(index, space);
        }
        if space < ours {
            self.events.push_back(SenderEvent::SpaceBehind { stream, space, ours });
            let (from, through) = (space.next(), ours);
            let gap = Gap { from, through, rows: 0, reason: gap_reason::SPACE_BEHIND };
            self.enqueue(now, Outbound { lane: index, item: Item::Gap(gap), message: None });
        }
    }

    /// What the chain is told of a batch that goes in one.
    fn message_of(&self, item: &Item) -> Option<Message> {
        let bytes_max = match self.is_scarce {
            true => chain::CHAINED_BYTES_MAX_SCARCE,
            false => chain::CHAINED_BYTES_MAX,
        };
        match item {
            Item::Batch(batch) if self.has_chains && self.version >= chain::VERSION_MIN => {
                Message::of(batch, bytes_max)
            }
            _ => None,
        }
    }

    fn count_served(&mut self, index: usize, cost: u64) {
        let is_behind = self.lanes[index].is_behind();
        let other = |lane: &Lane| lane.is_ready() && lane.is_behind() != is_behind;
        let has_other = self.lanes.iter().any(other);
        self.share.handle_served(is_behind, cost, has_other);
        self.fetched += 1;
        self.lanes[index].served = self.fetched;
    }

    fn handle_ack(&mut self, now: Duration, ack: Ack) -> Result<(), PeerFault> {
        let (stream, through) = (ack.cursor.stream, ack.cursor.through);
        let index = self.lane_of(stream)?;
        let lane = &mut self.lanes[index];
        let (sent, acked) = (lane.sent, lane.acked);
        if through > sent {
            return Err(PeerMisbehaved::AckBeyondSent { stream, through, sent }.into());
        }
        if through < acked {
            return Err(PeerMisbehaved::AckRegressed { stream, through, acked }.into());
        }
        let (credit, granted) = (ack.credit_bytes, self.credit_granted);
        if credit < granted {
            return Err(PeerMisbehaved::CreditShrank { credit, granted }.into());
        }
        lane.handle_ack(through);
        self.credit_granted = credit;
        if through > acked {
            self.progress_at = now;
            self.has_acked = true;
            self.release(index, through);
        }
        self.send_waiting(now);
        Ok(())
    }

    fn handle_refuse(&mut self, now: Duration, refuse: Refuse) -> Result<(), PeerFault> {
        let Refuse { stream, seq, reason, text } = refuse;
        let index = self.lane_of(stream)?;
        let Some(rows) = self.lanes[index].rewind_to(seq) else {
            return Err(PeerMisbehaved::RefuseOutside { stream, seq }.into());
        };
        // What waits for room follows what was taken back, so it is fetched again in its turn.
        self.waiting.retain(|outbound| outbound.lane != index);
        self.events.push_back(SenderEvent::Refused { stream, seq, rows, reason, text });
        if reason.is_final() {
            let gap = Gap { from: seq, through: seq, rows, reason: gap_reason::REFUSED };
            self.enqueue(now, Outbound { lane: index, item: Item::Gap(gap), message: None });
        } else {
            self.lanes[index].rest_until = Some(now + REFUSED_REST);
        }
        self.lanes[index].dry = false;
        self.send_waiting(now);
        Ok(())
    }

    fn lane_of(&self, stream: StreamId) -> Result<usize, PeerMisbehaved> {
        let index = self.lanes.iter().position(|lane| lane.id == stream);
        index.ok_or(PeerMisbehaved::UnknownStream { stream })
    }

    fn release(&mut self, index: usize, through: BatchSeq) {
        let lane = &mut self.lanes[index];
        if through > lane.released {
            lane.released = through;
            self.events.push_back(SenderEvent::Released { stream: lane.id, through });
        }
    }

    fn enqueue(&mut self, now: Duration, outbound: Outbound) {
        if self.unacked_bytes() == 0 {
            self.progress_at = now;
        }
        self.waiting.push_back(outbound);
        self.send_waiting(now);
    }

    fn send_waiting(&mut self, now: Duration) {
        while let Some(outbound) = self.waiting.front() {
            let cost = outbound.cost();
            let (items, bytes) = (self.in_flight_items(), self.in_flight_bytes());
            let room =
                items < IN_FLIGHT_ITEMS_MAX && (items == 0 || bytes + cost <= IN_FLIGHT_BYTES_MAX);
            if !room || self.credit_used.saturating_add(cost) > self.credit_granted {
                return;
            }
            if items == 0 {
                self.progress_at = now;
            }
            let Outbound { lane, item, message } =
                self.waiting.pop_front().expect("the front was just seen");
            self.credit_used += cost;
            let has_backlog = self.has_backlog();
            let lane = &mut self.lanes[lane];
            let pipe = lane.next_pipe(has_backlog);
            lane.handle_sent(pipe, &item, cost);
            let stream = lane.id;
            self.push(pipe, stream, item, message);
        }
    }

    fn push(&mut self, pipe: Pipe, stream: StreamId, item: Item, message: Option<Message>) {
        let sent = |batch: &EncodedBatch, bytes: usize| SenderEvent::Sent {
            dataset: batch.dataset.clone(),
            bytes: bytes as u64,
        };
        let frame = match (item, message) {
            (Item::Batch(batch), Some(message)) => {
                let squeeze = if self.is_scarce { Squeeze::Hard } else { Squeeze::Usual };
                let chained = self.chains[pipe as usize].write(&batch, &message, squeeze);
                self.events.push_back(sent(&batch, chained.piece.len()));
                BoxFrame::Chained(stream, chained)
            }
            (item, _) => {
                if let Item::Batch(batch) = &item {
                    self.events.push_back(sent(batch, batch.bytes.len()));
                }
                BoxFrame::Item(stream, item)
            }
        };
        self.frames.push_back((pipe, frame));
    }

    fn unacked_bytes(&self) -> u64 {
        self.in_flight_bytes() + self.waiting.iter().map(Outbound::cost).sum::<u64>()
    }

    fn ack_deadline(&self) -> Option<Duration> {
        let bytes = self.unacked_bytes();
        let travel = Duration::from_secs(bytes / LINK_BYTES_PER_S_MIN);
        (bytes > 0).then(|| self.progress_at + ACK_WAIT + travel)
    }
}
