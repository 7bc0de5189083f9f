//! One connection: CONNECT, then the loop around its session.

use super::codec::{Advertised, Malformed, PacketCodec, version};
use super::limits::{
    CLIENT_ID_BYTES_MAX, CONNECT_WAIT, KEEP_ALIVE_MAX_S, OUT_BYTES_FULL, TOPIC_ALIASES_MAX,
    TURNED_AWAY_WAIT, WRITE_WAIT,
};
use super::listener::{Hold, Shared, count};
use super::packet::{Connect, ConnectRefusal, Goodbye, Inbound, Outbound, Version, Will};
use super::session::{Request, Session, SessionConfig};
use super::tap::Tap;
use super::wire::{Packet, WireFault, WireReader};
use crate::submission::{Outcome, Publication, QoS, ReplyHandle, SessionState, Submission};
use bytes::BytesMut;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long the last words may take.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

/// TLS, within the time that a CONNECT may take.
pub(super) async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let handshake = timeout(CONNECT_WAIT, acceptor.accept(stream)).await;
    handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Tells a client in its own version that there is no room.
pub(super) async fn turn_away(shared: Arc<Shared>, stream: TcpStream) {
    let words = async {
        let (reader, mut writer) = tokio::io::split(stream);
        let packet_bytes_max = shared.config.limits.packet_bytes_max;
        let mut reader = WireReader::new(reader, shared.ingest.clone(), packet_bytes_max);
        let packet = reader.read().await?;
        let mut codec = PacketCodec::new(version(&packet.bytes)?);
        let mut out = BytesMut::new();
        let refusal = Outbound::TurnedAway(ConnectRefusal::Full);
        codec.encode(refusal, advertised(&shared), &mut out);
        writer.write_all(&out).await?;
        writer.shutdown().await?;
        Ok::<(), WireFault>(())
    };
    // It is turned away in any case.
    let _ = timeout(TURNED_AWAY_WAIT, words).await;
}

fn advertised(shared: &Shared) -> Advertised {
    Advertised {
        receive_maximum: shared.config.limits.receive_maximum,
        packet_bytes_max: shared.config.limits.packet_bytes_max,
        topic_aliases_max: TOPIC_ALIASES_MAX,
    }
}

/// Runs a connection to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    number: u64,
    stream: S,
    address: SocketAddr,
    certificate: Option<String>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let limits = shared.config.limits;
    let mut reader = WireReader::new(reader, shared.ingest.clone(), limits.packet_bytes_max);
    let mut stop = shared.stop.clone();
    let connect = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return,
        connect = timeout(CONNECT_WAIT, read_connect(&mut reader)) => connect,
    };
    let (codec, version, connect) = match connect {
        Ok(Ok(connect)) => connect,
        Ok(Err(fault)) => {
            count(&shared.stats.clients_misbehaved);
            return tracing::warn!(%address, %fault, "a client did not connect");
        }
        Err(_) => {
            let wait_s = CONNECT_WAIT.as_secs();
            return tracing::warn!(%address, wait_s, "a client did not say CONNECT in time");
        }
    };
    let opening = Opening { shared, number, address, certificate, reader, writer, codec, version };
    opening.run(connect).await;
}

async fn read_connect<R: AsyncRead + Unpin>(
    reader: &mut WireReader<R>,
) -> Result<(PacketCodec, Version, Connect), WireFault> {
    let mut packet = reader.read().await?;
    let version = version(&packet.bytes)?;
    let mut codec = PacketCodec::new(version);
    match codec.decode(&mut packet.bytes)? {
        Inbound::Connect(connect) => Ok((codec, version, *connect)),
        _ => Err(Malformed("the first packet must be CONNECT".to_owned()).into()),
    }
}

/// From CONNECT to CONNACK.
struct Opening<'a, S> {
    shared: &'a Shared,
    number: u64,
    address: SocketAddr,
    certificate: Option<String>,
    reader: WireReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    codec: PacketCodec,
    version: Version,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Opening<'_, S> {
    async fn run(mut self, connect: Connect) {
        let (client, assigned) = match self.client_id(&connect) {
            Some(id) => id,
            None => return self.turn_away(ConnectRefusal::ClientId, "its client id").await,
        };
        if connect.wants_extended_auth {
            return self.turn_away(ConnectRefusal::ExtendedAuth, "extended authentication").await;
        }
        let password = connect.password.as_ref().map(|password| password.as_slice());
        let authenticator = &self.shared.config.authenticator;
        let certificate = self.certificate.as_deref();
        let Some(rights) = authenticator.rights(certificate, connect.user.as_deref(), password)
        else {
            return self.turn_away(ConnectRefusal::Credentials, "its name or password").await;
        };
        let Some(hold) = self.shared.hold(&client, self.number).await else {
            return self.turn_away(ConnectRefusal::Busy, "a session that does not end").await;
        };
        let clean = connect.clean;
        let Some(state) = open_session(self.shared, &client, clean).await else {
            return self.turn_away(ConnectRefusal::Busy, "an engine that does not answer").await;
        };
        if let Some(limit) = connect.packet_bytes_max {
            self.codec.set_packet_bytes_max(limit);
        }
        let (keep_alive, announced) = self.keep_alive(connect.keep_alive_s);
        let started = Instant::now();
        let session = Session::new(
            Duration::ZERO,
            SessionConfig {
                version: self.version,
                rights: rights.clone(),
                receive_maximum: self.shared.config.limits.receive_maximum,
                keep_alive,
                held: state.held,
            },
        );
        let accepted = Outbound::Accepted {
            session_present: state.present,
            keep_alive_s: announced,
            assigned_id: assigned.then(|| client.clone()),
        };
        let mut out = BytesMut::new();
        self.codec.encode(accepted, advertised(self.shared), &mut out);
        tracing::debug!(address = %self.address, %client, "an MQTT client connected");
        let (outcomes_out, outcomes) = mpsc::unbounded_channel();
        let will = connect.will.filter(|will| rights.may_publish(&will.topic));
        let connection = Connection {
            shared: self.shared,
            number: self.number,
            hold,
            client,
            rights,
            reader: self.reader,
            writer: self.writer,
            codec: self.codec,
            session,
            started,
            out,
            unwritten_since: None,
            outcomes_out,
            outcomes,
            tap: Arc::new(Tap::new()),
            session_expiry_s: connect.session_expiry_s,
        };
        connection.live(will, self.address).await;
    }

    /// What is in force, and what a version 5 client must be told because it asked for more.
    fn keep_alive(&self, wanted_s: u16) -> (Option<Duration>, Option<u16>) {
        let announced = (self.version == Version::V5 && wanted_s > KEEP_ALIVE_MAX_S)
            .then_some(KEEP_ALIVE_MAX_S);
        let seconds = announced.unwrap_or(wanted_s);
        ((seconds > 0).then(|| Duration::from_secs(seconds.into())), announced)
    }

    /// The client's id, and whether we made it.
    fn client_id(&self, connect: &Connect) -> Option<(Arc<str>, bool)> {
        let id = connect.client_id.as_str();
        if id.is_empty() {
            let may = connect.clean || self.version == Version::V5;
            // Unique among the connections of this run; its session does not outlive it.
            let made = format!("guan-{}-{}", std::process::id(), self.number);
            return may.then(|| (Arc::from(made.as_str()), true));
        }
        let fits = id.len() <= CLIENT_ID_BYTES_MAX && !id.chars().any(char::is_control);
        fits.then(|| (Arc::from(id), false))
    }

    async fn turn_away(mut self, refusal: ConnectRefusal, because: &str) {
        tracing::warn!(address = %self.address, because, "an MQTT client was turned away");
        count(&self.shared.stats.connections_turned_away);
        let mut out = BytesMut::new();
        self.codec.encode(Outbound::TurnedAway(refusal), advertised(self.shared), &mut out);
        let words = async {
            self.writer.write_all(&out).await?;
            self.writer.shutdown().await
        };
        // It is turned away in any case.
        let _ = timeout(FLUSH_WAIT, words).await;
    }
}

async fn open_session(shared: &Shared, client: &Arc<str>, clean: bool) -> Option<SessionState> {
    let (reply, answer) = oneshot::channel();
    let opened = Submission::SessionOpened { client: client.clone(), clean, reply };
    let exchange = async {
        shared.config.submissions.send(opened).await.ok()?;
        answer.await.ok()
    };
    timeout(CONNECT_WAIT, exchange).await.ok().flatten()
}

/// A connection after CONNACK.
struct Connection<'a, S> {
    shared: &'a Shared,
    number: u64,
    hold: Hold<'a>,
    client: Arc<str>,
    rights: Arc<super::auth::Rights>,
    reader: WireReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    codec: PacketCodec,
    session: Session,
    started: Instant,
    out: BytesMut,
    unwritten_since: Option<Instant>,
    outcomes_out: mpsc::UnboundedSender<(u64, Outcome)>,
    outcomes: mpsc::UnboundedReceiver<(u64, Outcome)>,
    tap: Arc<Tap>,
    session_expiry_s: u32,
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
    async fn live(mut self, will: Option<Will>, address: SocketAddr) {
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
                Step::Read(Ok(packet)) => self.handle_packet(packet).await,
                other => self.handle(other),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn wait(&mut self) -> Step {
        let mut stop = self.shared.stop.clone();
        let has_room = self.out.len() < OUT_BYTES_FULL;
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
            () = self.tap.wait(), if has_room => Step::Tapped,
            packet = self.reader.read(), if has_room => Step::Read(packet),
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
                while let Some((topic, payload)) = self.session.poll_durable() {
                    self.shared.taps.publish(&topic, &payload);
                }
            }
            Step::Wrote(Ok(0)) => return Err(failed("the client closed the connection")),
            Step::Wrote(Ok(_)) => {
                self.unwritten_since = (!self.out.is_empty()).then(Instant::now);
                // What found no room before has it now.
                self.copy_tapped();
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
        self.session.handle_timeout(now - self.started);
        Ok(())
    }

    fn handle_wire_fault(&mut self, fault: &WireFault) -> Result<(), End> {
        let goodbye = match fault {
            WireFault::Malformed(_) | WireFault::Slow => Goodbye::Malformed,
            WireFault::TooLarge { .. } => Goodbye::TooLarge,
            WireFault::Closed | WireFault::Io(_) => return Err(failed(&fault.to_string())),
        };
        self.session.end(goodbye, &fault.to_string());
        Ok(())
    }

    async fn handle_packet(&mut self, mut packet: Packet) -> Result<(), End> {
        let inbound = match self.codec.decode(&mut packet.bytes) {
            Ok(inbound) => inbound,
            Err(fault) => return self.handle_wire_fault(&fault.into()),
        };
        if let Inbound::Disconnect { session_expiry_s: Some(expiry), .. } = &inbound {
            self.session_expiry_s = *expiry;
        }
        let denied = self.session.denied();
        self.session.handle_packet(self.started.elapsed(), inbound);
        if self.session.denied() > denied {
            count(&self.shared.stats.messages_denied);
            let topic = self.session.last_topic();
            tracing::warn!(client = %self.client, topic, "a message was denied: no right to publish");
        }
        if let Some(filters) = self.session.poll_subscriptions() {
            let (rights, tap) = (self.rights.clone(), self.tap.clone());
            self.shared.taps.subscribe(self.number, filters, rights, tap);
        }
        // A packet asks for one thing at most.
        while let Some(request) = self.session.poll_request() {
            self.submit(request, packet.permit.take()).await?;
        }
        Ok(())
    }

    async fn submit(
        &mut self,
        request: Request,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), End> {
        let outcomes = self.outcomes_out.clone();
        let client = self.client.clone();
        let submission = match request {
            Request::Release { ticket, packet_id } => {
                let reply = ReplyHandle::new(ticket, outcomes);
                Submission::Release { client, packet_id, reply }
            }
            Request::Publish { ticket, topic, payload, qos, held } => {
                count(&self.shared.stats.messages);
                let received = (self.shared.config.clock)();
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
        };
        let mut stop = self.shared.stop.clone();
        // Waiting here is back-pressure: the client is not read meanwhile.
        tokio::select! {
            sent = self.shared.config.submissions.send(submission) => {
                sent.map_err(|_| failed("the engine has stopped"))
            }
            _ = stop.wait_for(|stop| *stop) => Err(failed("guan stops")),
        }
    }

    fn copy_tapped(&mut self) {
        while self.out.len() < OUT_BYTES_FULL
            && let Some(((topic, payload), dropped)) = self.tap.pop()
        {
            if dropped > 0 {
                self.shared.stats.taps_dropped.fetch_add(dropped, Ordering::Relaxed);
                tracing::warn!(client = %self.client, dropped, "a subscriber reads too slowly");
            }
            let message = Outbound::Message { topic, payload };
            self.codec.encode(message, advertised(self.shared), &mut self.out);
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
    }

    fn encode(&mut self) {
        while let Some(packet) = self.session.poll_packet() {
            self.codec.encode(packet, advertised(self.shared), &mut self.out);
        }
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
        if let Some(Will { topic, payload }) = will.filter(|_| end.with_will) {
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
    }
}

fn failed(why: &str) -> End {
    End { why: why.to_owned(), with_will: true }
}
