//! One connection after CONNACK: the loop around its session.

use super::auth::Rights;
use super::codec::PacketCodec;
use super::limits::{DRAIN_WAIT, OUT_BYTES_FULL, SUBMITTED_AT_ONCE, WRITE_WAIT};
use super::listener::{Hold, Shared, add, count};
use super::opening::advertised;
use super::packet::{Goodbye, Inbound, Outbound, Will};
use super::session::{Request, Session};
use super::tap::Tap;
use super::wire::{Packet, WireFault, WireReader};
use crate::submission::{Outcome, Publication, QoS, ReplyHandle, Submission};
use bytes::BytesMut;
use guan_model::WallTime;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the last words may take.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// A connection after CONNACK.
pub(super) struct Connection<'a, S> {
    pub(super) shared: &'a Shared,
    pub(super) number: u64,
    pub(super) hold: Hold<'a>,
    pub(super) client: Arc<str>,
    pub(super) rights: Arc<Rights>,
    pub(super) reader: WireReader<ReadHalf<S>>,
    pub(super) writer: WriteHalf<S>,
    pub(super) codec: PacketCodec,
    pub(super) session: Session,
    pub(super) started: Instant,
    pub(super) out: BytesMut,
    /// Bytes of answers put into `out` since it was last empty; the rest are copies for the tap.
    pub(super) answered: usize,
    pub(super) unwritten_since: Option<Instant>,
    pub(super) outcomes_out: mpsc::UnboundedSender<(u64, Outcome)>,
    pub(super) outcomes: mpsc::UnboundedReceiver<(u64, Outcome)>,
    pub(super) tap: Arc<Tap>,
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
}

enum Step {
    Kicked,
    Stopped,
    Outcome(u64, Outcome),
    Wrote(io::Result<usize>),
    Deadline,
    Tapped,
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
                return End { why: ended.why.clone(), with_will: ended.with_will };
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
        let written_by = self.unwritten_since.map(|since| since + WRITE_WAIT);
        let silent_by = self.session.poll_timeout().map(|due| self.started + due);
        let deadlines = [written_by, silent_by, self.reader.deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        tokio::select! {
            biased;
            () = self.hold.kick.notified() => Step::Kicked,
            _ = stop.wait_for(|stop| *stop) => Step::Stopped,
            Some((ticket, outcome)) = self.outcomes.recv() => Step::Outcome(ticket, outcome),
            wrote = self.writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                Step::Wrote(wrote)
            }
            () = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            } => Step::Deadline,
            () = self.tap.wait(), if self.out.is_empty() => Step::Tapped,
            packet = self.reader.read(), if is_reading => {
                Step::Read(packet)
            }
        }
    }

    fn handle(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Kicked => self.session.end(Goodbye::TakenOver, "the client connected again"),
            Step::Stopped => self.session.end(Goodbye::Stopping, "guan stops"),
            Step::Outcome(ticket, outcome) => {
                self.session.handle_outcome(ticket, outcome);
                // Outcomes come in groups: answer them with one write.
                while let Ok((ticket, outcome)) = self.outcomes.try_recv() {
                    self.session.handle_outcome(ticket, outcome);
                }
                self.pass_on();
            }
            Step::Wrote(Ok(0)) => return Err(failed("the client closed the connection")),
            Step::Wrote(Ok(_)) => {
                self.unwritten_since = (!self.out.is_empty()).then(Instant::now);
                if self.out.is_empty() {
                    self.answered = 0;
                    self.copy_tapped();
                }
            }
            Step::Wrote(Err(fault)) => return Err(failed(&fault.to_string())),
            Step::Deadline => self.handle_deadline()?,
            Step::Tapped => self.copy_tapped(),
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
        self.answered < OUT_BYTES_FULL && self.session.has_room()
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
        let inbound = match self.codec.decode(&mut packet.bytes) {
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
        self.session.handle_packet(moment.elapsed, inbound);
        self.count_tally();
        if let Some(filters) = self.session.poll_subscriptions() {
            let (rights, tap) = (self.rights.clone(), self.tap.clone());
            self.shared.taps.subscribe(self.number, filters, rights, tap);
        }
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
        add(&stats.retain_ignored, tally.retain_ignored);
        if tally.denied > 0 {
            add(&stats.messages_denied, tally.denied);
            let topic = self.session.last_topic();
            tracing::warn!(client = %self.client, topic, "a message was denied: no right to publish");
        }
    }

    /// Hands what is durable to the taps.
    fn pass_on(&mut self) {
        while let Some((topic, payload)) = self.session.poll_durable() {
            self.shared.taps.publish(&topic, &payload);
        }
        self.count_tally();
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
            Request::Publish { ticket, topic, payload, qos, held } => {
                count(&self.shared.stats.messages);
                add(&self.shared.stats.payload_bytes, payload.len() as u64);
                let reply = ReplyHandle::new(ticket, outcomes);
                Submission::Publish(Publication {
                    client,
                    topic,
                    payload,
                    qos,
                    held,
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

    /// Only when nothing waits to be written, so that answers never queue behind many copies.
    fn copy_tapped(&mut self) {
        while self.out.len() < OUT_BYTES_FULL
            && let Some(((topic, payload), dropped)) = self.tap.pop()
        {
            if dropped > 0 {
                add(&self.shared.stats.taps_dropped, dropped);
                tracing::warn!(client = %self.client, dropped, "a subscriber reads too slowly");
            }
            let message = Outbound::Message { topic, payload };
            self.codec.encode(message, advertised(self.shared), &mut self.out);
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
        self.shared.taps.forget(self.number);
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
        if let Some(Will { topic, payload, .. }) = will.filter(|_| end.with_will) {
            let (nobody, _) = mpsc::unbounded_channel();
            let publication = Publication {
                client: self.client.clone(),
                topic,
                payload,
                qos: QoS::AtMostOnce,
                held: None,
                received: (self.shared.config.clock)(),
                reply: ReplyHandle::new(0, nobody),
                permit: None,
            };
            // When the engine is gone, so is everything that the will could tell.
            let _ = self.shared.config.submissions.send(Submission::Publish(publication)).await;
        }
        if self.session_expiry_s == 0 {
            let client = self.client.clone();
            let forgotten = Submission::SessionForgotten { client };
            let _ = self.shared.config.submissions.send(forgotten).await;
        }
        self.drain().await;
    }

    /// Waits for outcomes that the client did not wait for: its messages may become durable, and the
    /// taps are to see them. The client id is free meanwhile.
    async fn drain(self) {
        let Self { shared, hold, mut session, mut outcomes, outcomes_out, reader, writer, .. } =
            self;
        drop((hold, outcomes_out, reader, writer));
        let mut stop = shared.stop.clone();
        let drained = async {
            while session.is_waiting()
                && let Some((ticket, outcome)) = outcomes.recv().await
            {
                session.handle_outcome(ticket, outcome);
                while let Some((topic, payload)) = session.poll_durable() {
                    shared.taps.publish(&topic, &payload);
                }
            }
        };
        tokio::select! {
            // What is not settled in time misses the taps only.
            _ = timeout(DRAIN_WAIT, drained) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

fn failed(why: &str) -> End {
    End { why: why.to_owned(), with_will: true }
}
