//! One connection after CONNACK: the loop around its session.

use super::codec::PacketCodec;
use super::exchange::Reply;
use super::limits::{DRAIN_WAIT, LINGER_WAIT, OUT_BYTES_FULL, SUBMITTED_AT_ONCE, WRITE_WAIT};
use super::listener::{Hold, Shared, add, count};
use super::opening::advertised;
use super::packet::{Goodbye, Inbound, Outbound, Will};
use super::session::{Ask, Request, Session};
use super::wire::{Packet, WireFault, WireReader};
use crate::submission::{Outcomes, Publication, ReplyHandle, Settled, Submission};
use bytes::BytesMut;
use guan_model::WallTime;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the last words may take.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// A connection after CONNACK.
pub(super) struct Connection<'a, S> {
    pub(super) shared: &'a Shared,
    pub(super) number: u64,
    pub(super) hold: Hold<'a>,
    pub(super) client: Arc<str>,
    pub(super) reader: WireReader<ReadHalf<S>>,
    pub(super) writer: WriteHalf<S>,
    pub(super) codec: PacketCodec,
    pub(super) session: Session,
    pub(super) started: Instant,
    pub(super) out: BytesMut,
    /// Bytes of answers put into `out` since it was last empty; the rest are messages to the client.
    pub(super) answered: usize,
    pub(super) unwritten_since: Option<Instant>,
    pub(super) outcomes_out: Outcomes,
    pub(super) outcomes: mpsc::UnboundedReceiver<Settled>,
    /// Messages may have been left over because enough waits to be written.
    pub(super) has_more: bool,
    /// Told when there may be messages for the client.
    pub(super) news: Arc<Notify>,
    pub(super) committed: watch::Receiver<u64>,
    pub(super) session_expiry_s: u32,
}

/// When packets came: since the connection began, and by the clock of the gateway.
#[derive(Clone, Copy)]
struct Moment {
    elapsed: Duration,
    received: WallTime,
}

/// How the loop ended: why, and whether the will is due.
struct End {
    why: String,
    with_will: bool,
    /// The client is told why, and should be able to read it.
    is_told: bool,
}

enum Step {
    Kicked,
    Stopped,
    Outcome(Settled),
    Wrote(io::Result<usize>),
    Deadline,
    News,
    Committed,
    StoreFailed,
    Read(Result<Packet, WireFault>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    pub(super) async fn live(mut self, will: Option<Will>, address: SocketAddr) {
        let end = self.run().await;
        self.close(end, will, address).await;
    }

    async fn run(&mut self) -> End {
        loop {
            self.encode();
            if let Some(ended) = self.session.ended() {
                let (why, with_will) = (ended.why.clone(), ended.with_will);
                return End { is_told: !why.is_empty(), why, with_will };
            }
            let step = self.wait().await;
            let handled = match step {
                Step::Read(Ok(packet)) => self.handle_packets(packet).await,
                other => self.handle(other),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn wait(&mut self) -> Step {
        let mut stop = self.shared.stop.clone();
        let is_reading = self.is_reading();
        let waits_for_store = self.session.is_withholding() || self.shared.hub.is_behind();
        let written_by = self.unwritten_since.map(|since| since + WRITE_WAIT);
        let silent_by = self.session.poll_timeout().map(|due| self.started + due);
        let deadlines = [written_by, silent_by, self.reader.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        tokio::select! {
            biased;
            () = self.hold.kick.notified() => Step::Kicked,
            _ = stop.wait_for(|stop| *stop) => Step::Stopped,
            Some(settled) = self.outcomes.recv() => Step::Outcome(settled),
            wrote = self.writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                Step::Wrote(wrote)
            }
            () = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            } => Step::Deadline,
            committed = self.committed.changed(), if waits_for_store => match committed {
                Ok(()) => Step::Committed,
                Err(_) => Step::StoreFailed,
            },
            () = self.news.notified(), if self.out.is_empty() => Step::News,
            packet = self.reader.read(), if is_reading => {
                Step::Read(packet)
            }
        }
    }

    fn handle(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Kicked => self.session.end(Goodbye::TakenOver, "the client connected again"),
            Step::Stopped => self.session.end(Goodbye::Stopping, "guan stops"),
            Step::Outcome(settled) => {
                self.session.handle_settled(settled);
                // Outcomes come in groups: answer them with one write.
                while let Ok(settled) = self.outcomes.try_recv() {
                    self.session.handle_settled(settled);
                }
                self.pass_on();
            }
            Step::Wrote(Ok(0)) => return Err(failed("the client closed the connection")),
            Step::Wrote(Ok(_)) => {
                self.unwritten_since = (!self.out.is_empty()).then(Instant::now);
                if self.out.is_empty() {
                    self.answered = 0;
                    // Who only publishes takes no lock here.
                    if self.has_more {
                        self.deliver();
                    }
                }
            }
            Step::Wrote(Err(fault)) => return Err(failed(&fault.to_string())),
            Step::Deadline => self.handle_deadline()?,
            Step::News => self.deliver(),
            Step::Committed => {
                let committed = *self.committed.borrow_and_update();
                self.session.handle_committed(committed);
            }
            Step::StoreFailed => {
                self.session.end(Goodbye::Busy, "the store of the sessions has failed");
            }
            Step::Read(Ok(_)) => unreachable!("handled by the caller, which may wait"),
            Step::Read(Err(fault)) => return self.handle_wire_fault(&fault),
        }
        Ok(())
    }

    fn handle_deadline(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.unwritten_since.is_some_and(|since| now >= since + WRITE_WAIT) {
            return Err(failed("the client does not read"));
        }
        if self.reader.deadline().is_some_and(|deadline| now >= deadline) {
            return self.handle_wire_fault(&WireFault::Slow);
        }
        match self.reader.waits_for_room() || !self.is_reading() {
            true => self.session.handle_pause(now - self.started),
            false => self.session.handle_timeout(now - self.started),
        }
        Ok(())
    }

    /// Answers count and copies do not: a subscriber that is slow with its copies can still be heard.
    fn is_reading(&self) -> bool {
        self.answered < OUT_BYTES_FULL && self.session.has_room() && !self.shared.hub.is_behind()
    }

    fn handle_wire_fault(&mut self, fault: &WireFault) -> Result<(), End> {
        let goodbye = match fault {
            WireFault::Malformed(_) | WireFault::Answered { .. } | WireFault::Slow => {
                Goodbye::Malformed
            }
            WireFault::TooLarge { .. } => Goodbye::TooLarge,
            WireFault::Closed | WireFault::Io(_) => return Err(failed(&fault.to_string())),
        };
        self.session.end(goodbye, &fault.to_string());
        Ok(())
    }

    /// A packet, and those that came with it: what they ask for is handed on together.
    async fn handle_packets(&mut self, first: Packet) -> Result<(), End> {
        let mut submissions = Vec::new();
        let mut next = Some(first);
        let mut handled = Ok(());
        // What was read at once came at once.
        let moment =
            Moment { elapsed: self.started.elapsed(), received: (self.shared.config.clock)() };
        while let Some(packet) = next {
            handled = self.handle_packet(packet, moment, &mut submissions);
            let goes_on = handled.is_ok()
                && submissions.len() < SUBMITTED_AT_ONCE
                && self.session.ended().is_none()
                && self.is_reading();
            next = if goes_on { self.reader.read_more() } else { None };
        }
        if !submissions.is_empty() {
            self.submit(submissions).await?;
            // The client was not read while the engine was waited for.
            self.session.handle_pause(self.started.elapsed());
        }
        handled
    }

    fn handle_packet(
        &mut self,
        mut packet: Packet,
        moment: Moment,
        submissions: &mut Vec<Submission>,
    ) -> Result<(), End> {
        let inbound = match self.codec.decode(&packet.bytes) {
            Ok(inbound) => inbound,
            Err(fault) => return self.handle_wire_fault(&fault.into()),
        };
        if let Inbound::Disconnect { session_expiry_s: Some(expiry), .. } = &inbound {
            if self.session_expiry_s == 0 && *expiry > 0 {
                // MQTT 5, 3.14.2.2.2.
                self.session.end(Goodbye::Protocol, "a session that was to end may not be kept");
                return Ok(());
            }
            self.session_expiry_s = *expiry;
        }
        // Asked for each packet: a SUBSCRIBE that came before it counts.
        self.session.set_heard(self.shared.hub.is_heard());
        self.session.handle_packet(moment.elapsed, inbound);
        self.count_tally();
        self.ask();
        self.pass_on();
        // A packet asks for one thing at most.
        while let Some(request) = self.session.poll_request() {
            submissions.push(self.submission(request, moment.received, packet.permit.take()));
        }
        Ok(())
    }

    fn count_tally(&mut self) {
        let (tally, stats) = (self.session.take_tally(), &self.shared.stats);
        add(&stats.messages_refused_quota, tally.refused_quota);
        add(&stats.messages_refused_payload, tally.refused_payload);
        if tally.denied > 0 {
            add(&stats.messages_denied, tally.denied);
            let topic = self.session.last_topic();
            tracing::warn!(client = %self.client, topic, "a message was denied: no right to publish");
        }
    }

    /// Hands what is durable to the subscribers.
    fn pass_on(&mut self) {
        while let Some(durable) = self.session.poll_durable() {
            let record = self.shared.hub.publish(&self.client, &durable);
            self.session.handle_passed_on(record);
        }
        self.count_tally();
    }

    /// Asks the exchange what the session wants of it.
    fn ask(&mut self) {
        while let Some(ask) = self.session.poll_ask() {
            let answer = self.shared.hub.handle(&self.client, ask);
            match answer.reply {
                Reply::Packet(packet) => self.session.handle_answer(packet, answer.record),
                Reply::Unmarked(id) => self.session.handle_unmarked(id, answer.record),
                Reply::News => self.news.notify_one(),
            }
        }
    }

    fn submission(
        &self,
        request: Request,
        received: WallTime,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Submission {
        let outcomes = self.outcomes_out.clone();
        let client = self.client.clone();
        match request {
            Request::Release { ticket, packet_id } => {
                let reply = ReplyHandle::new(ticket, outcomes);
                Submission::Release { client, packet_id, reply }
            }
            Request::Publish { ticket, topic, payload, qos, held, is_removal } => {
                count(&self.shared.stats.messages);
                add(&self.shared.stats.payload_bytes, payload.len() as u64);
                let reply = ReplyHandle::new(ticket, outcomes);
                Submission::Publish(Publication {
                    client,
                    topic,
                    payload,
                    qos,
                    held,
                    is_removal,
                    received,
                    reply,
                    permit,
                })
            }
        }
    }

    /// Hands submissions on in their order. Waiting here is back-pressure: the client is not read meanwhile.
    async fn submit(&mut self, submissions: Vec<Submission>) -> Result<(), End> {
        let queue = &self.shared.config.submissions;
        let mut left = submissions.into_iter();
        let send = async {
            while left.len() > 0 {
                let room = queue.reserve_many(left.len().min(queue.max_capacity())).await;
                let room = room.map_err(|_| failed("the engine has stopped"))?;
                room.zip(left.by_ref()).for_each(|(place, submission)| place.send(submission));
            }
            Ok(())
        };
        let mut stop = self.shared.stop.clone();
        tokio::select! {
            sent = send => sent,
            _ = stop.wait_for(|stop| *stop) => Err(failed("guan stops")),
            () = self.hold.kick.notified() => Err(failed("the client connected again")),
        }
    }

    /// Only when nothing waits to be written, so that answers never queue behind many messages.
    fn deliver(&mut self) {
        self.has_more = true;
        while self.out.len() < OUT_BYTES_FULL {
            let Some(packet) = self.shared.hub.next(&self.client) else {
                self.has_more = false;
                break;
            };
            self.say(packet);
        }
    }

    fn say(&mut self, mut packet: Outbound) {
        self.session.shorten(&mut packet);
        let said = packet.clone();
        let is_said = self.codec.encode(packet, advertised(self.shared), &mut self.out);
        if let Outbound::Message(delivery) = said
            && !is_said
        {
            // As if it had been sent and answered (MQTT 5, 3.1.2.11.4).
            self.session.handle_unsent(&delivery);
            if let Some(id) = delivery.packet_id {
                self.shared.hub.handle(&self.client, Ask::Discarded(id));
            }
        }
        if !self.out.is_empty() {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
    }

    fn encode(&mut self) {
        let before = self.out.len();
        while let Some(packet) = self.session.poll_packet() {
            self.codec.encode(packet, advertised(self.shared), &mut self.out);
        }
        self.answered += self.out.len() - before;
        if !self.out.is_empty() {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
    }

    async fn close(mut self, end: End, will: Option<Will>, address: SocketAddr) {
        let client = &self.client;
        match end.why.is_empty() {
            true => tracing::debug!(%address, %client, "an MQTT client left"),
            false => {
                count(&self.shared.stats.clients_misbehaved);
                tracing::warn!(%address, %client, why = %end.why, "an MQTT connection ended");
            }
        }
        let words = async {
            self.writer.write_all(&self.out).await?;
            self.writer.shutdown().await
        };
        // The client may be gone already.
        let _ = timeout(FLUSH_WAIT, words).await;
        let will = will.filter(|_| end.with_will);
        self.shared.hub.close(&self.client, self.number, self.session_expiry_s, will);
        if self.session_expiry_s == 0 {
            let client = self.client.clone();
            let forgotten = Submission::SessionForgotten { client };
            let _ = self.shared.config.submissions.send(forgotten).await;
        }
        self.drain(end.is_told).await;
    }

    /// Waits for outcomes that the client did not wait for: its messages may become durable, and
    /// subscribers are to see them. The client id is free meanwhile.
    async fn drain(self, lingers: bool) {
        let Self { shared, hold, client, mut session, mut outcomes, outcomes_out, .. } = self;
        let mut reader = self.reader;
        drop((hold, outcomes_out, self.writer));
        let mut stop = shared.stop.clone();
        let drained = async {
            while session.is_waiting()
                && let Some(settled) = outcomes.recv().await
            {
                session.handle_settled(settled);
                while let Some(durable) = session.poll_durable() {
                    session.handle_passed_on(shared.hub.publish(&client, &durable));
                }
            }
        };
        // Closing while bytes of the client are unread would take our last words back from it.
        let silent = async {
            if lingers {
                let _ = timeout(LINGER_WAIT, reader.discard()).await;
            }
            drop(reader);
        };
        tokio::select! {
            // What is not settled in time misses the subscribers only.
            _ = async { tokio::join!(timeout(DRAIN_WAIT, drained), silent) } => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

fn failed(why: &str) -> End {
    End { why: why.to_owned(), with_will: true, is_told: false }
}
