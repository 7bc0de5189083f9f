//! One session of the space over one connection.

use super::attest::{Appraisal, Appraise, Bound, Proof, Underway, leaf};
use super::fault::{LinkFault, describe};
use super::inbox::{Inbox, InboxFault, Receipt, Settled};
use super::pipe::{Incoming, Outgoing};
use super::space_link::Peers;
use super::status::PeerStatus;
use super::transport::{Connection, SendStream};
use super::{CLOSE_WAIT, stopped, underway, wait_until, written};
use crate::VERSIONS;
use crate::fault::PeerMisbehaved;
use crate::frame::{
    BoxFrame, BoxNote, CloseCode, Goodbye, Item, Letter, NONCE_BYTES, Pipe, Question, SpaceNote,
    StreamKind,
};
use crate::gate::{Gate, GateFault};
use crate::receiver::{HELLO_WAIT, Receiver, ReceiverEvent};
use crate::text::Reason;
use bytes::Bytes;
use guan_model::{BoxId, SpoolId, StreamId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

/// How long a box is asked to stay away while the store is broken.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How long a box is asked to stay away while the space restarts.
const STOP_RETRY: Duration = Duration::from_secs(1);

/// How often a box is told anew which contracts stand, which renews their leases.
pub const ROSTER_INTERVAL: Duration = Duration::from_secs(600);

/// After so many bytes of contracts the box must ask again.
const DOCUMENTS_BYTES_MAX: usize = 1 << 20;

/// A box that was admitted.
pub(super) struct SpaceSession<I> {
    pub(super) box_id: BoxId,
    pub(super) connection: Connection,
    pub(super) inbox: I,
    pub(super) appraise: Option<Arc<dyn Appraise>>,
    pub(super) peers: watch::Sender<Peers>,
    /// Somebody wants a verdict now.
    pub(super) demand: Arc<Notify>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Never, where nobody keeps rosters.
async fn roster_changed(rosters: &mut Option<watch::Receiver<u64>>) {
    match rosters {
        Some(rosters) => {
            if rosters.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Never, where nobody writes letters.
async fn written_to_box(letters: &mut Option<mpsc::Receiver<Letter>>) -> Letter {
    match letters {
        Some(letters) => written(letters).await,
        None => std::future::pending().await,
    }
}

/// The stream of batches that overtake others, once the box has opened it.
struct LiveIn {
    frames: Incoming<BoxFrame>,
    /// Nothing is said on it; dropped, it would be closed.
    _out: SendStream,
}

/// Never, where there is none.
async fn read_live(live: &mut Option<LiveIn>) -> Result<(), LinkFault> {
    match live {
        Some(live) => live.frames.read().await,
        None => std::future::pending().await,
    }
}

/// Why the session ends.
enum End {
    Fault(LinkFault),
    Store(InboxFault),
    Stop,
}

impl From<LinkFault> for End {
    fn from(fault: LinkFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<PeerMisbehaved> for End {
    fn from(fault: PeerMisbehaved) -> Self {
        Self::Fault(fault.into())
    }
}

impl From<InboxFault> for End {
    fn from(fault: InboxFault) -> Self {
        Self::Store(fault)
    }
}

/// The session with both streams open.
struct Streaming<'a, I> {
    session: &'a SpaceSession<I>,
    started: Instant,
    receiver: Receiver,
    spool: Option<SpoolId>,
    data_out: Outgoing,
    data_in: Incoming<BoxFrame>,
    live_in: Option<LiveIn>,
    control_out: Outgoing,
    control_in: Incoming<BoxNote>,
    settled_out: mpsc::UnboundedSender<Settled>,
    settled_in: mpsc::UnboundedReceiver<Settled>,
    items_stored: u64,
    gate: Gate,
    /// Of the question that is open.
    nonce: [u8; NONCE_BYTES],
    appraisal: Option<Underway<Appraisal>>,
    answer: Option<Underway<Bytes>>,
    question: Option<Underway<Question>>,
    rosters: Option<watch::Receiver<u64>>,
    letters: Option<mpsc::Receiver<Letter>>,
    /// When the box was last told which contracts stand.
    roster_at: Option<Duration>,
}

impl<I: Inbox> SpaceSession<I> {
    pub(super) async fn run(self) {
        tracing::info!(box_id = %self.box_id, address = %self.connection.address(),
            transport = self.connection.transport().as_str(), "connected");
        let opened = timeout(HELLO_WAIT, Streaming::open(&self)).await;
        match opened {
            Ok(Ok(mut streaming)) => {
                let end = streaming.run().await;
                streaming.say_goodbye(end).await;
            }
            Ok(Err(fault)) => self.end(&fault),
            Err(_) => self.end(&PeerMisbehaved::StreamEnded.into()),
        }
        self.peers.send_modify(|peers| {
            peers.remove(&self.box_id);
        });
    }

    fn end(&self, fault: &LinkFault) {
        let text = describe(fault);
        tracing::warn!(box_id = %self.box_id, fault = %text, "a session ended");
        self.connection.close(fault.close_code(), &text);
    }
}

impl<'a, I: Inbox> Streaming<'a, I> {
    /// Takes the two streams that every box opens.
    async fn open(session: &'a SpaceSession<I>) -> Result<Self, LinkFault> {
        let (mut data, mut control) = (None, None);
        while data.is_none() || control.is_none() {
            let (out, mut incoming) = session.connection.accept_bi().await?;
            let first = incoming.read_chunk(1).await.ok().flatten();
            let code = first.and_then(|bytes| bytes.first().copied());
            let code = code.ok_or(PeerMisbehaved::StreamEnded)?;
            let slot = match StreamKind::from_code(code) {
                Some(StreamKind::Data) => &mut data,
                Some(StreamKind::Control) => &mut control,
                Some(StreamKind::Live) | None => {
                    return Err(PeerMisbehaved::StreamKind { code }.into());
                }
            };
            if slot.replace((out, incoming)).is_some() {
                return Err(PeerMisbehaved::StreamKind { code }.into());
            }
        }
        let (data_out, data_in) = data.expect("both are there");
        let (control_out, control_in) = control.expect("both are there");
        let (settled_out, settled_in) = mpsc::unbounded_channel();
        let leaf = leaf(&session.connection).ok_or(LinkFault::Unbound)?;
        let must_prove =
            session.appraise.as_ref().is_some_and(|appraise| appraise.must_prove(&leaf));
        Ok(Self {
            session,
            started: Instant::now(),
            receiver: Receiver::new(Duration::ZERO, VERSIONS),
            spool: None,
            data_out: Outgoing::new(data_out),
            data_in: Incoming::new(data_in),
            live_in: None,
            control_out: Outgoing::new(control_out),
            control_in: Incoming::new(control_in),
            settled_out,
            settled_in,
            items_stored: 0,
            gate: Gate::new(must_prove),
            nonce: [0; NONCE_BYTES],
            appraisal: None,
            answer: None,
            question: None,
            rosters: session.inbox.rosters_changed(),
            letters: None,
            roster_at: None,
        })
    }

    async fn run(&mut self) -> End {
        let mut stop = self.session.stop.clone();
        loop {
            let turn = tokio::select! {
                biased;
                () = stopped(&mut stop) => return End::Stop,
                turn = self.turn() => turn,
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    /// Does what can be done, then waits for one thing to happen. The stop may drop it anywhere.
    async fn turn(&mut self) -> Result<(), End> {
        let now = self.started.elapsed();
        self.say(now);
        self.ask();
        self.show();
        // A box that has yet to prove itself is not heard, so it cannot be late either.
        let heard = self.gate.is_open().then(|| self.receiver.poll_timeout(now)).flatten();
        let roster_due = self.roster_at.map(|at| at + ROSTER_INTERVAL);
        let due = heard.into_iter().chain(self.gate.poll_timeout()).chain(roster_due).min();
        // Reads wait until what is to be said has room: a box that does not listen is not heard.
        let has_room = !self.data_out.is_full() && !self.control_out.is_full();
        tokio::select! {
            biased;
            settled = self.settled_in.recv() => {
                self.handle_settled(settled.expect("this session holds a sender"))
            }
            () = wait_until(self.started, due) => {
                let now = self.started.elapsed();
                self.gate.handle_timeout(now).map_err(LinkFault::from)?;
                if self.gate.is_open() {
                    self.receiver.handle_timeout(now).map_err(LinkFault::from)?;
                }
                if roster_due.is_some_and(|due| now >= due) {
                    self.tell_roster();
                }
                Ok(())
            }
            appraisal = underway(&mut self.appraisal) => self.handle_appraisal(appraisal),
            question = underway(&mut self.question) => {
                self.nonce = question.nonce;
                self.control_out.push(&SpaceNote::Challenge(question));
                Ok(())
            }
            answer = underway(&mut self.answer) => {
                self.control_out.push(&SpaceNote::Answer(answer));
                Ok(())
            }
            () = roster_changed(&mut self.rosters), if self.roster_at.is_some() => {
                self.tell_roster();
                Ok(())
            }
            letter = written_to_box(&mut self.letters), if self.control_out.is_empty() => {
                self.control_out.push(&SpaceNote::Letter(letter));
                Ok(())
            }
            () = self.session.demand.notified() => {
                self.gate.handle_demand(self.started.elapsed());
                Ok(())
            }
            wrote = self.control_out.write(), if !self.control_out.is_empty() => Ok(wrote?),
            wrote = self.data_out.write(), if !self.data_out.is_empty() => Ok(wrote?),
            read = self.control_in.read(), if has_room => {
                read?;
                self.handle_notes().await
            }
            // Before the data stream, which it is to overtake.
            read = read_live(&mut self.live_in), if has_room && self.gate.is_open() => {
                read?;
                self.handle_frames().await
            }
            opened = self.session.connection.accept_bi(), if self.live_in.is_none() => {
                let (out, incoming) = opened?;
                let frames = Incoming::beginning(incoming, StreamKind::Live);
                self.live_in = Some(LiveIn { frames, _out: out });
                Ok(())
            }
            read = self.data_in.read(), if has_room && self.gate.is_open() => {
                read?;
                self.handle_frames().await
            }
        }
    }

    async fn handle_frames(&mut self) -> Result<(), End> {
        while let Some((pipe, frame)) = self.next_frame()? {
            self.receiver.handle_piped(pipe, frame).map_err(LinkFault::from)?;
            // One frame's events before the next frame, so that nothing piles up here.
            while let Some(event) = self.receiver.poll_event() {
                self.handle_event(event).await?;
            }
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<(Pipe, BoxFrame)>, LinkFault> {
        let live = self.live_in.as_mut().map(|live| live.frames.poll()).transpose()?.flatten();
        match live {
            Some(frame) => Ok(Some((Pipe::Live, frame))),
            None => Ok(self.data_in.poll()?.map(|frame| (Pipe::Data, frame))),
        }
    }

    async fn handle_event(&mut self, event: ReceiverEvent) -> Result<(), End> {
        let (box_id, inbox) = (&self.session.box_id, &self.session.inbox);
        match event {
            ReceiverEvent::Hello(offer) => {
                let cursors = inbox.cursors(box_id, &offer).await?;
                self.spool = Some(offer.spool());
                self.tell_roster();
                self.letters = inbox.letters(box_id);
                self.receiver.handle_cursors(&cursors);
            }
            ReceiverEvent::Describe(table) => {
                let verdict = inbox.describe(box_id, table).await?;
                verdict.map_err(|detail| PeerMisbehaved::DescriptorTable { detail })?;
            }
            ReceiverEvent::Store(stream, item) => self.store(stream, item).await?,
        }
        Ok(())
    }

    fn tell_roster(&mut self) {
        self.roster_at = Some(self.started.elapsed());
        let roster = self.session.inbox.roster(&self.session.box_id);
        self.control_out.push(&SpaceNote::Roster(roster));
    }

    async fn store(&mut self, stream: StreamId, item: Item) -> Result<(), End> {
        let (box_id, inbox) = (&self.session.box_id, &self.session.inbox);
        let spool = self.spool.expect("items come after the hello");
        let (from, through) = (item.from(), item.through());
        let receipt = Receipt::new(stream, through, self.settled_out.clone());
        if let Err(refusal) = inbox.store(box_id, spool, stream, item, receipt).await? {
            tracing::warn!(
                box_id = %box_id, %stream, seq = %from, reason = %refusal.text,
                "a batch was refused"
            );
            self.receiver.handle_refused(stream, from, refusal.reason, &refusal.text);
        }
        Ok(())
    }

    fn handle_settled(&mut self, settled: Settled) -> Result<(), End> {
        match settled {
            Settled::Durable(cursor) => {
                self.items_stored += 1;
                self.receiver.handle_durable(cursor.stream, cursor.through);
                Ok(())
            }
            Settled::Failed(fault) => Err(End::Store(fault)),
        }
    }

    async fn handle_notes(&mut self) -> Result<(), End> {
        let (box_id, inbox) = (&self.session.box_id, &self.session.inbox);
        while let Some(note) = self.control_in.poll()? {
            match note {
                BoxNote::Report(json) => inbox.report(box_id, json),
                BoxNote::Checkpoint(text) => {
                    let size = inbox.checkpoint(box_id, text).await?;
                    let size = size.map_err(|detail| PeerMisbehaved::Note { detail })?;
                    self.control_out.push(&SpaceNote::CheckpointSeen { size });
                }
                BoxNote::Letter(_) if !self.gate.is_open() => {
                    let detail = "a letter before the box was let in".to_owned();
                    return Err(PeerMisbehaved::Note { detail }.into());
                }
                BoxNote::Letter(letter) => {
                    let taken = inbox.letter(box_id, letter).await;
                    taken.map_err(|detail| PeerMisbehaved::Note { detail })?;
                }
                BoxNote::Want(digests) => {
                    // The box asks again for what does not fit.
                    let mut left = DOCUMENTS_BYTES_MAX;
                    for one in digests {
                        let Some(document) = inbox.contract(box_id, &one) else { continue };
                        left = left.saturating_sub(document.len());
                        self.control_out.push(&SpaceNote::Document(document));
                        if left == 0 {
                            break;
                        }
                    }
                }
                BoxNote::Evidence(_) if self.question.is_some() => {
                    // Nothing was asked yet, so this is bound to nothing.
                    return Err(LinkFault::from(GateFault::Unasked).into());
                }
                BoxNote::Evidence(evidence) => {
                    self.gate.handle_evidence().map_err(LinkFault::from)?;
                    let appraise = self.session.appraise.as_ref().expect("the gate has asked");
                    let bound = Bound::new(&self.session.connection, self.nonce)?;
                    let box_id = box_id.clone();
                    self.appraisal = Some(appraise.appraise(Proof { box_id, bound, evidence }));
                }
                BoxNote::Ask(evidence) => {
                    let detail = match &self.session.appraise {
                        Some(appraise) if self.gate.is_known() && self.answer.is_none() => {
                            let bound = Bound::without_nonce(&self.session.connection)?;
                            let box_id = box_id.clone();
                            self.answer = Some(appraise.answer(Proof { box_id, bound, evidence }));
                            continue;
                        }
                        Some(_) => "it asks out of turn",
                        None => "nobody answers questions here",
                    };
                    return Err(PeerMisbehaved::Note { detail: detail.to_owned() }.into());
                }
            }
        }
        Ok(())
    }

    /// Puts what is to be said of the data on its way.
    fn say(&mut self, now: Duration) {
        while let Some(frame) = self.receiver.poll_frame(now) {
            self.data_out.push(&frame);
        }
    }

    /// Asks for evidence when it is time.
    fn ask(&mut self) {
        let now = self.started.elapsed();
        if let Some(appraise) = &self.session.appraise
            && self.gate.poll_question(now)
        {
            self.question = Some(appraise.question(self.session.box_id.clone()));
        }
    }

    fn handle_appraisal(&mut self, appraisal: Appraisal) -> Result<(), End> {
        let Appraisal { outcome, holds_for, text, document } = appraisal;
        let (now, was_open) = (self.started.elapsed(), self.gate.is_open());
        let random = u64::from_le_bytes(self.nonce[..8].try_into().expect("eight bytes"));
        self.control_out.push(&SpaceNote::Verdict { outcome, document });
        let judged = self.gate.handle_verdict(now, outcome, holds_for, &text, random);
        judged.map_err(LinkFault::from)?;
        if !was_open && self.gate.is_open() {
            // Its time for the hello begins when it is heard.
            self.receiver = Receiver::new(now, VERSIONS);
        }
        Ok(())
    }

    fn show(&self) {
        let stats = self.session.connection.stats();
        let status = PeerStatus {
            address: self.session.connection.address(),
            connected_since: self.started,
            transport: self.session.connection.transport(),
            rtt: stats.rtt,
            stream_bytes_sent: self.data_out.sent_bytes() + self.control_out.sent_bytes(),
            stream_bytes_received: self.data_in.received_bytes()
                + self.live_in.as_ref().map_or(0, |live| live.frames.received_bytes())
                + self.control_in.received_bytes(),
            path_bytes_sent: stats.bytes_sent,
            path_bytes_received: stats.bytes_received,
            items_stored: self.items_stored,
            duplicates: self.receiver.duplicates(),
            unstored_bytes: self.receiver.unstored_bytes(),
        };
        self.session.peers.send_modify(|peers| {
            peers.insert(self.session.box_id.clone(), status);
        });
    }

    /// Tells the box why, if it still listens.
    async fn say_goodbye(&mut self, end: End) {
        let (code, text, retry_after) = match &end {
            End::Stop => (CloseCode::Done, "the space stops".to_owned(), STOP_RETRY),
            End::Store(fault) => (CloseCode::Storage, describe(fault), STORE_RETRY),
            End::Fault(fault) => (fault.close_code(), describe(fault), Duration::ZERO),
        };
        let (box_id, connection) = (&self.session.box_id, &self.session.connection);
        tracing::info!(%box_id, reason = %text, "a session ended");
        if !matches!(end, End::Fault(_)) {
            let goodbye = Goodbye { code, text: Reason::cut(&text), retry_after };
            self.control_out.push(&SpaceNote::Goodbye(goodbye));
            // The box closes when it has read it; what does not arrive in time is said by the close.
            let _ = timeout(CLOSE_WAIT, self.control_out.finish()).await;
            let _ = timeout(CLOSE_WAIT, connection.closed()).await;
        }
        connection.close(code, &text);
    }
}
