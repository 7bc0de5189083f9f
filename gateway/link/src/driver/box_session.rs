//! One session of the box over one connection.

use super::attest::{Attest, Bound, Underway, Wish};
use super::box_link::{BoxInputs, BoxOutputs, LinkEvent};
use super::fault::{LinkFault, describe};
use super::permit::Permit;
use super::pipe::{Incoming, Outgoing};
use super::source::BatchSource;
use super::status::LinkState;
use super::transport::Connection;
use super::{changed, underway, wait_until, written};
use crate::VERSIONS;
use crate::backoff::Backoff;
use crate::bucket::Bucket;
use crate::frame::{
    ASK_BYTES_MAX, BoxFrame, BoxNote, CloseCode, EVIDENCE_BYTES_MAX, Letter, Offer, Question,
    SpaceFrame, SpaceNote, StreamKind, WANTED_MAX,
};
use crate::gate::GateOutcome;
use crate::hold::{BATCH_HOLD, Hold, PACKET_BYTES};
use crate::sender::{Pipe, Sender, SenderEvent};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// What the transport holds beside what may be on the way, so that it never runs dry: a live batch waits behind it.
const AHEAD_BYTES: u64 = 4 << 10;
/// With longer round trips a live batch would wait longer behind what fills the holes than the link gains by it.
const HOLE_RTT_MAX: Duration = Duration::from_millis(400);
/// Most that it holds: memory of the box.
const HELD_BYTES_MAX: u64 = 2 << 20;

/// A link is slow below 10 Mbit/s: there a core squeezes faster than the link takes.
const SLOW_BYTES_PER_S: f64 = 1.25e6;

/// The control stream goes first, then the live stream, then the data stream.
const CONTROL_PRIORITY: i32 = 2;
const LIVE_PRIORITY: i32 = 1;

/// Owns the connection and closes it when it is dropped.
pub(super) struct BoxSession<'a, S> {
    closing: Closing,
    started: Instant,
    sender: Sender,
    data_out: Outgoing,
    /// Small batches on the data stream share packets.
    hold: Hold,
    data_in: Incoming<SpaceFrame>,
    live_out: Live,
    control_out: Outgoing,
    control_in: Incoming<SpaceNote>,
    source: &'a mut S,
    inputs: &'a mut BoxInputs,
    outputs: &'a BoxOutputs,
    attest: Option<&'a dyn Attest>,
    /// Evidence that is being made.
    evidence: Option<Underway<Result<Bytes, String>>>,
    /// From when on the space knows this box.
    wish: Option<Underway<Wish>>,
    reported: Reported,
    /// Bytes that the transport may hold; as configured at first.
    held_bytes_max: u64,
    /// A link on which bytes are dearer than time, if it holds the box up.
    is_slow: bool,
    /// Keeps a capped rate.
    bucket: Option<Bucket>,
}

/// How the box divides the link.
pub(super) struct Shares {
    pub(super) backlog_percent: u8,
    pub(super) rate_bytes_per_s_max: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

/// What of this connection is already in the status.
#[derive(Default)]
struct Reported {
    stream_sent: u64,
    stream_received: u64,
    path_sent: u64,
    path_received: u64,
}

/// A session that is dropped (stop) still says why it is gone.
struct Closing {
    connection: Connection,
    code: CloseCode,
    text: String,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.connection.close(self.code, &self.text);
    }
}

/// The live stream, which begins when it is first needed.
struct Live {
    /// `None`: the space allows no such stream.
    out: Option<Outgoing>,
    has_begun: bool,
}

impl Live {
    /// Where frames of the pipe go, if it is not the data stream.
    fn get(&mut self, pipe: Pipe) -> Option<&mut Outgoing> {
        let out = self.out.as_mut().filter(|_| pipe == Pipe::Live)?;
        if !std::mem::replace(&mut self.has_begun, true) {
            out.push_bytes(Bytes::copy_from_slice(&[StreamKind::Live as u8]));
        }
        Some(out)
    }

    fn queued_bytes(&self) -> usize {
        self.out.as_ref().map_or(0, Outgoing::queued_bytes)
    }

    fn sent_bytes(&self) -> u64 {
        self.out.as_ref().map_or(0, Outgoing::sent_bytes)
    }

    async fn write(&mut self) -> Result<(), LinkFault> {
        match &mut self.out {
            Some(out) => out.write().await,
            None => std::future::pending().await,
        }
    }
}

enum Step {
    Data,
    Control,
    Committed,
    Checkpoint,
    Report,
    Wanted,
    Permit,
    Letter(Letter),
    Wrote,
    WroteData,
    Deadline,
    Evidence(Result<Bytes, String>),
    Wish(Wish),
}

impl<'a, S: BatchSource> BoxSession<'a, S> {
    /// Opens both streams and says hello.
    pub(super) async fn open(
        connection: Connection,
        source: &'a mut S,
        inputs: &'a mut BoxInputs,
        outputs: &'a BoxOutputs,
        attest: Option<&'a dyn Attest>,
        shares: Shares,
    ) -> Result<Self, LinkFault> {
        let text = "the box has stopped".to_owned();
        let closing = Closing { connection: connection.clone(), code: CloseCode::Done, text };
        let offer = Offer::new(source.spool(), source.streams()?)?;
        let (data_out, data_in) = connection.open_bi().await?;
        let (control_out, control_in) = connection.open_bi().await?;
        control_out.set_priority(CONTROL_PRIORITY);
        inputs.begin_session();
        let kind = |kind: StreamKind| Bytes::copy_from_slice(&[kind as u8]);
        let (mut data_out, mut control_out) = (Outgoing::new(data_out), Outgoing::new(control_out));
        // A space that allows two streams only gets everything on the data stream.
        let live = tokio::time::timeout(Duration::ZERO, connection.open_bi()).await;
        let live_out = match live {
            Ok(Ok((out, _))) => {
                out.set_priority(LIVE_PRIORITY);
                Live { out: Some(Outgoing::new(out)), has_begun: false }
            }
            _ => Live { out: None, has_begun: false },
        };
        let sender = Sender::new(Duration::ZERO, VERSIONS, offer)
            .with_backlog_percent(shares.backlog_percent);
        let sender = if live_out.out.is_some() { sender } else { sender.with_one_pipe() };
        data_out.push_bytes(kind(StreamKind::Data));
        control_out.push_bytes(kind(StreamKind::Control));
        Ok(Self {
            closing,
            started: Instant::now(),
            sender,
            data_out,
            hold: Hold::new(BATCH_HOLD),
            data_in: Incoming::new(data_in),
            live_out,
            control_out,
            control_in: Incoming::new(control_in),
            source,
            inputs,
            outputs,
            attest,
            evidence: None,
            wish: None,
            reported: Reported::default(),
            held_bytes_max: 0,
            is_slow: false,
            bucket: shares.rate_bytes_per_s_max.map(Bucket::new),
        })
    }

    /// Before it runs.
    pub(super) fn without_chains(self) -> Self {
        Self { sender: self.sender.without_chains(), ..self }
    }

    /// Runs to the end of the session, which is always a fault; dropping it stops it.
    pub(super) async fn run(mut self, backoff: &mut Backoff) -> LinkFault {
        let fault = loop {
            if let Err(fault) = self.turn(backoff).await {
                break fault;
            }
        };
        self.count();
        self.closing.code = fault.close_code();
        self.closing.text = describe(&fault);
        fault
    }

    /// Hands on what the rules have decided.
    async fn tell(&mut self, backoff: &mut Backoff) -> Result<(), LinkFault> {
        while let Some(event) = self.sender.poll_event() {
            let event = match event {
                SenderEvent::Released { stream, through } => {
                    backoff.handle_progress();
                    self.outputs.released.send_modify(|released| {
                        released.insert(stream, through);
                    });
                    continue;
                }
                SenderEvent::Welcomed { version } => {
                    self.begin_wishing()?;
                    self.source.kept().into_iter().for_each(|kept| self.sender.handle_kept(kept));
                    let transport = self.closing.connection.transport();
                    for table in self.source.descriptors()? {
                        self.data_out.push(&BoxFrame::Descriptors(table));
                    }
                    self.outputs.status.send_modify(|status| {
                        status.state = LinkState::Connected;
                        status.connected_since = Some(Instant::now());
                        status.sessions += 1;
                        status.transport = Some(transport);
                    });
                    let address = self.closing.connection.address();
                    LinkEvent::Connected { version, address, transport }
                }
                SenderEvent::Sent { dataset, bytes } => {
                    self.outputs.status.send_modify(|status| status.count_batch(&dataset, bytes));
                    continue;
                }
                SenderEvent::SpaceBehind { stream, space, ours } => {
                    LinkEvent::SpaceBehind { stream, space, ours }
                }
                SenderEvent::Refused { stream, seq, rows, reason, text } => {
                    LinkEvent::Refused { stream, seq, rows, reason, text }
                }
                SenderEvent::Missing { stream, from, through } => {
                    LinkEvent::Missing { stream, from, through }
                }
            };
            // Nobody listens any more: the loop around this session ends it.
            let _ = self.outputs.events.send(event).await;
        }
        self.notes().await
    }

    /// What came on the control stream.
    async fn notes(&mut self) -> Result<(), LinkFault> {
        while let Some(note) = self.control_in.poll()? {
            match note {
                SpaceNote::CheckpointSeen { size } => {
                    let _ = self.outputs.events.send(LinkEvent::CheckpointSeen { size }).await;
                }
                SpaceNote::Goodbye(goodbye) => return Err(goodbye.into()),
                SpaceNote::Challenge(question) => self.prove(question)?,
                SpaceNote::Verdict { outcome, document } => {
                    if let Some(attest) = self.attest {
                        attest.verdict(outcome, document);
                    }
                    if outcome != GateOutcome::Refuse {
                        self.begin_wishing()?;
                    }
                }
                SpaceNote::Roster(bytes) => {
                    let session = self.source.session();
                    let _ = self.outputs.events.send(LinkEvent::Roster { session, bytes }).await;
                }
                SpaceNote::Document(bytes) => {
                    let _ = self.outputs.events.send(LinkEvent::Document(bytes)).await;
                }
                SpaceNote::Letter(letter) => {
                    let _ = self.outputs.events.send(LinkEvent::Letter(letter)).await;
                }
                SpaceNote::Answer(answer) => {
                    if let Some(attest) = self.attest {
                        attest.answered(answer);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_wishing(&mut self) -> Result<(), LinkFault> {
        if let (Some(attest), None) = (self.attest, &self.wish) {
            let bound = Bound::without_nonce(&self.closing.connection)?;
            self.wish = Some(attest.wish(bound));
        }
        Ok(())
    }

    /// Starts to make evidence; a challenge that came before is forgotten.
    fn prove(&mut self, question: Question) -> Result<(), LinkFault> {
        let attest = self.attest.ok_or_else(|| LinkFault::Attest {
            detail: "the space asks for a TPM's quote; set identity.tier and identity.tpm"
                .to_owned(),
        })?;
        let bound = Bound::new(&self.closing.connection, question.nonce)?;
        self.evidence = Some(attest.attest(bound, question));
        // The space answers the hello after its verdict.
        self.sender.handle_challenge(self.started.elapsed());
        Ok(())
    }

    /// Fills the way out from the spool, as far as there is room.
    fn fetch(&mut self) -> Result<(), LinkFault> {
        loop {
            while let Some((pipe, frame)) = self.sender.poll_piped() {
                match self.live_out.get(pipe) {
                    Some(live) => live.push(&frame),
                    None => self.data_out.push(&frame),
                }
            }
            // What waits here, too, goes before what comes next.
            let is_full = |queued: usize| queued as u64 > self.held_bytes_max / 8;
            if is_full(self.live_out.queued_bytes()) || *self.inputs.permit.borrow() != Permit::Open
            {
                return Ok(());
            }
            let is_held_up = is_full(self.data_out.queued_bytes());
            self.sender.handle_scarcity(is_held_up && self.is_slow);
            let want = match is_held_up {
                true if self.live_out.out.is_some() => self.sender.poll_live_want(),
                true => None,
                false => self.sender.poll_want(),
            };
            let Some(want) = want else { return Ok(()) };
            match self.source.next(want.stream, want.after)? {
                Some(item) => self.sender.handle_item(self.started.elapsed(), want, item)?,
                None => self.sender.handle_nothing(want),
            }
        }
    }

    /// Lets the transport hold what the link takes in a round trip and little more: what it holds is sent in the
    /// order in which it came. Where packets are lost, it keeps all that comes behind a lost one until that has come,
    /// which takes a round trip more.
    fn bound_transport(&mut self, congestion_window: u64, has_holes: bool) {
        let behind_loss = if has_holes { congestion_window } else { 0 };
        let bytes = congestion_window + congestion_window / 8 + AHEAD_BYTES + behind_loss;
        let bytes = bytes.min(HELD_BYTES_MAX);
        if bytes.abs_diff(self.held_bytes_max) > self.held_bytes_max / 8 {
            self.held_bytes_max = bytes;
            self.closing.connection.set_send_window(bytes);
        }
    }

    /// Brings the counters of the status up to date.
    fn count(&mut self) {
        let stats = self.closing.connection.stats();
        let is_quick = stats.rtt.is_some_and(|rtt| rtt < HOLE_RTT_MAX);
        self.bound_transport(stats.window_bytes, stats.is_lossy && is_quick);
        let takes = |rtt: Duration| SLOW_BYTES_PER_S * rtt.as_secs_f64();
        self.is_slow = stats.rtt.is_some_and(|rtt| precise(stats.window_bytes) < takes(rtt));
        let new = Reported {
            stream_sent: self.data_out.sent_bytes()
                + self.live_out.sent_bytes()
                + self.control_out.sent_bytes(),
            stream_received: self.data_in.received_bytes() + self.control_in.received_bytes(),
            path_sent: stats.bytes_sent,
            path_received: stats.bytes_received,
        };
        let old = std::mem::replace(&mut self.reported, new);
        let new = &self.reported;
        if let Some(bucket) = &mut self.bucket {
            bucket.handle_sent(self.started.elapsed(), new.path_sent - old.path_sent);
        }
        self.outputs.status.send_modify(|status| {
            status.rtt = stats.rtt;
            status.stream_bytes_sent += new.stream_sent - old.stream_sent;
            status.stream_bytes_received += new.stream_received - old.stream_received;
            status.path_bytes_sent += new.path_sent - old.path_sent;
            status.path_bytes_received += new.path_received - old.path_received;
        });
    }

    /// Does what can be done, then waits for one thing to happen.
    async fn turn(&mut self, backoff: &mut Backoff) -> Result<(), LinkFault> {
        self.tell(backoff).await?;
        self.fetch()?;
        self.count();
        let quiet = self.sender.is_streaming() && self.control_out.is_empty();
        let now = self.started.elapsed();
        let paid_at = self.bucket.as_ref().and_then(|bucket| bucket.poll_timeout(now));
        let may_write = paid_at.is_none();
        let is_small = self.data_out.queued_bytes() < PACKET_BYTES;
        let held = self.hold.poll_timeout(now).filter(|_| is_small && !self.data_out.is_empty());
        let due = self.sender.poll_timeout().into_iter().chain(paid_at).chain(held).min();
        let step = tokio::select! {
            biased;
            read = self.data_in.read() => read.map(|()| Step::Data)?,
            read = self.control_in.read() => read.map(|()| Step::Control)?,
            () = wait_until(self.started, due) => Step::Deadline,
            wrote = self.control_out.write(), if !self.control_out.is_empty() => {
                wrote.map(|()| Step::Wrote)?
            }
            wrote = self.live_out.write(), if may_write && self.live_out.queued_bytes() > 0 => {
                wrote.map(|()| Step::Wrote)?
            }
            wrote = self.data_out.write(),
                if may_write && held.is_none() && !self.data_out.is_empty() =>
            {
                wrote.map(|()| Step::WroteData)?
            }
            made = underway(&mut self.evidence) => Step::Evidence(made),
            wish = underway(&mut self.wish) => Step::Wish(wish),
            () = changed(&mut self.inputs.committed) => Step::Committed,
            () = changed(&mut self.inputs.checkpoint), if quiet => Step::Checkpoint,
            () = changed(&mut self.inputs.report), if quiet => Step::Report,
            () = changed(&mut self.inputs.wanted) => Step::Wanted,
            () = changed(&mut self.inputs.permit) => Step::Permit,
            letter = written(&mut self.inputs.letters), if quiet => Step::Letter(letter),
        };
        self.handle(step)
    }

    fn handle(&mut self, step: Step) -> Result<(), LinkFault> {
        let now = self.started.elapsed();
        match step {
            Step::Data => {
                while let Some(frame) = self.data_in.poll()? {
                    self.sender.handle_frame(now, frame)?;
                }
            }
            // Notes are read at the next turn, where the owner can be waited for.
            Step::Control | Step::Wrote | Step::Permit => {}
            Step::WroteData => self.hold.handle_left(now),
            Step::Committed if self.source.is_outgrown() => return Err(LinkFault::Renewed),
            Step::Committed => {
                self.source.kept().into_iter().for_each(|kept| self.sender.handle_kept(kept));
                self.sender.handle_available_all();
            }
            Step::Checkpoint => {
                let checkpoint = self.inputs.checkpoint.borrow_and_update().clone();
                if let Some(text) = checkpoint {
                    self.control_out.push(&BoxNote::Checkpoint(text));
                }
            }
            Step::Report => {
                let report = self.inputs.report.borrow_and_update().clone();
                if let Some(json) = report {
                    self.control_out.push(&BoxNote::Report(json));
                }
            }
            Step::Wanted => {
                let mut wanted = self.inputs.wanted.borrow_and_update().clone();
                wanted.truncate(WANTED_MAX);
                if !wanted.is_empty() {
                    self.control_out.push(&BoxNote::Want(wanted));
                }
            }
            Step::Letter(letter) => self.control_out.push(&BoxNote::Letter(letter)),
            Step::Deadline => self.sender.handle_timeout(now)?,
            Step::Evidence(made) => {
                let bytes = made.map_err(|detail| LinkFault::Attest { detail })?;
                if bytes.len() > EVIDENCE_BYTES_MAX {
                    let detail = format!(
                        "{} bytes of evidence; the limit is {EVIDENCE_BYTES_MAX}",
                        bytes.len()
                    );
                    return Err(LinkFault::Attest { detail });
                }
                self.control_out.push(&BoxNote::Evidence(bytes));
            }
            Step::Wish(Wish::Reconnect) => return Err(LinkFault::Renewed),
            Step::Wish(Wish::Ask(bytes)) => {
                assert!(bytes.len() <= ASK_BYTES_MAX, "questions are short");
                self.control_out.push(&BoxNote::Ask(bytes));
                self.begin_wishing()?;
            }
        }
        Ok(())
    }
}
