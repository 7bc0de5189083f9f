//! From a socket to CONNACK: version, identity, rights, the engine's view of the session.

use super::auth::Rights;
use super::codec::{Advertised, Malformed, PacketCodec, no_client_id, unknown_level, version};
use super::connection::{Connection, FLUSH_WAIT};
use super::exchange::{Opened, Opening as OpeningSession};
use super::filter::is_topic_name;
use super::limits::{
    CLIENT_ID_BYTES_MAX, CONNECT_WAIT, TOPIC_ALIASES_MAX, TURNED_AWAY_WAIT, WILL_BYTES_MAX,
};
use super::listener::{Shared, count};
use super::message::Message;
use super::packet::{Connect, ConnectRefusal, Inbound, Outbound, Version, Will};
use super::session::{Session, SessionConfig};
use super::wire::{WireFault, WireReader};
use crate::submission::{SessionState, Submission, outcomes};
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

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
        say(&mut writer, &out).await?;
        Ok::<(), WireFault>(())
    };
    // It is turned away in any case.
    let _ = timeout(TURNED_AWAY_WAIT, words).await;
}

pub(super) fn advertised(shared: &Shared) -> Advertised {
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
    let (reader, mut writer) = tokio::io::split(stream);
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
            if let WireFault::Answered { answer, .. } = fault {
                // It is turned away in any case.
                let _ = timeout(FLUSH_WAIT, say(&mut writer, answer)).await;
            }
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
    let packet = reader.read().await?;
    let version = match (version(&packet.bytes), unknown_level(&packet.bytes)) {
        (Ok(version), _) => version,
        (Err(_), Some(answer)) => {
            return Err(WireFault::Answered { answer, why: "an MQTT version not spoken here" });
        }
        (Err(fault), None) => return Err(fault.into()),
    };
    let mut codec = PacketCodec::new(version);
    match codec.decode(&packet.bytes) {
        Err(Malformed::NoClientId(version)) => {
            let why = "a client without id asks for a session that outlives its connection";
            Err(WireFault::Answered { answer: no_client_id(version), why })
        }
        Err(fault) => Err(fault.into()),
        Ok(Inbound::Connect(connect)) => Ok((codec, version, *connect)),
        Ok(_) => Err(Malformed::Packet("the first packet must be CONNECT".to_owned()).into()),
    }
}

async fn say<W: AsyncWrite + Unpin>(writer: &mut W, words: &[u8]) -> io::Result<()> {
    writer.write_all(words).await?;
    writer.shutdown().await
}

/// A client that may come in.
struct Welcome {
    client: Arc<str>,
    /// We made its id.
    is_assigned: bool,
    rights: Arc<Rights>,
    will: Option<Will>,
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
    async fn run(mut self, mut connect: Connect) {
        let Welcome { client, is_assigned, rights, will } = match self.welcome(&mut connect) {
            Ok(welcome) => welcome,
            Err((refusal, because)) => return self.turn_away(refusal, because).await,
        };
        let Some(hold) = self.shared.hold(&client, self.number).await else {
            return self.turn_away(ConnectRefusal::Busy, "a session that does not end").await;
        };
        let is_clean = connect.clean || self.shared.hub.has_ended(&client);
        let Some(state) = open_session(self.shared, &client, is_clean).await else {
            return self.turn_away(ConnectRefusal::Busy, "an engine that does not answer").await;
        };
        let news = Arc::new(Notify::new());
        let opening = OpeningSession {
            connection: self.number,
            rights: rights.clone(),
            expiry_s: connect.session_expiry_s,
            window: connect.receive_maximum,
            news: news.clone(),
            held: state.held.iter().copied().collect(),
        };
        let mut committed = self.shared.hub.committed();
        let opened =
            resume_session(self.shared, &client, state.present, opening, &mut committed).await;
        let Some(opened) = opened else {
            self.shared.hub.close(&client, self.number, connect.session_expiry_s, None);
            return self.turn_away(ConnectRefusal::Busy, "no room for another session").await;
        };
        if let Some(limit) = connect.packet_bytes_max {
            self.codec.set_packet_bytes_max(limit);
        }
        let (session, announced) = self.session(&connect, rights, state.held, opened);
        let started = Instant::now();
        let accepted = Outbound::Accepted {
            session_present: state.present,
            keep_alive_s: announced,
            assigned_id: is_assigned.then(|| client.clone()),
        };
        let mut out = BytesMut::new();
        self.codec.encode(accepted, advertised(self.shared), &mut out);
        tracing::debug!(address = %self.address, %client, "an MQTT client connected");
        let (outcomes_out, outcomes) = outcomes();
        let connection = Connection {
            shared: self.shared,
            number: self.number,
            hold,
            client,
            reader: self.reader,
            writer: self.writer,
            codec: self.codec,
            session,
            started,
            out,
            answered: 0,
            unwritten_since: None,
            outcomes_out,
            outcomes,
            has_more: false,
            news,
            committed,
            session_expiry_s: connect.session_expiry_s,
        };
        connection.live(will, self.address).await;
    }

    /// Who it is and what it may, or why it is turned away.
    fn welcome(&self, connect: &mut Connect) -> Result<Welcome, (ConnectRefusal, &'static str)> {
        let id = self.client_id(connect);
        let (client, is_assigned) = id.ok_or((ConnectRefusal::ClientId, "its client id"))?;
        if connect.wants_extended_auth {
            return Err((ConnectRefusal::ExtendedAuth, "extended authentication"));
        }
        let password = connect.password.as_ref().map(|password| password.as_slice());
        let (certificate, user) = (self.certificate.as_deref(), connect.user.as_deref());
        let rights = self.shared.config.authenticator.rights(certificate, user, password);
        let rights = rights.ok_or((ConnectRefusal::Credentials, "its name or password"))?;
        let will = self.will(connect.will.take(), &client, &rights);
        let will = will.map_err(|refusal| (refusal, "its will"))?;
        Ok(Welcome { client, is_assigned, rights, will })
    }

    /// The session's rules, and the keep-alive that the client must be told.
    fn session(
        &self,
        connect: &Connect,
        rights: Arc<Rights>,
        held: Vec<NonZeroU16>,
        opened: Opened,
    ) -> (Session, Option<u16>) {
        let (keep_alive, announced) = self.keep_alive(connect.keep_alive_s);
        let limits = &self.shared.config.limits;
        let config = SessionConfig {
            version: self.version,
            rights,
            receive_maximum: limits.receive_maximum,
            keep_alive,
            held,
            opened,
            waiting_bytes_max: limits.client_bytes_max(),
            out_aliases_max: connect.topic_aliases_max,
        };
        (Session::new(Duration::ZERO, config), announced)
    }

    /// The will that is kept; one without the right to be published is left out, counted and logged.
    fn will(
        &self,
        will: Option<Will>,
        client: &str,
        rights: &Rights,
    ) -> Result<Option<Will>, ConnectRefusal> {
        let Some(Will { message, delay_s }) = will else { return Ok(None) };
        if !is_topic_name(&message.topic) {
            return Err(ConnectRefusal::WillTopic);
        }
        if message.cost() - message.topic.len() > WILL_BYTES_MAX {
            return Err(ConnectRefusal::WillTooLarge);
        }
        if !rights.may_publish(&message.topic) {
            count(&self.shared.stats.messages_denied);
            tracing::warn!(client, topic = %message.topic, "a will is ignored: no right to publish");
            return Ok(None);
        }
        // A copy, so that the will does not keep the whole CONNECT in memory.
        let payload = Bytes::copy_from_slice(&message.payload);
        Ok(Some(Will { message: Message { payload, ..message }, delay_s }))
    }

    /// What is in force, and what a version 5 client must be told because it asked for more.
    fn keep_alive(&self, wanted_s: u16) -> (Option<Duration>, Option<u16>) {
        let limit_s = self.shared.config.limits.keep_alive_max_s;
        let announced = (self.version == Version::V5 && wanted_s > limit_s).then_some(limit_s);
        let seconds = announced.unwrap_or(wanted_s);
        ((seconds > 0).then(|| Duration::from_secs(seconds.into())), announced)
    }

    /// The client's id, and whether we made it.
    fn client_id(&self, connect: &Connect) -> Option<(Arc<str>, bool)> {
        let id = connect.client_id.as_str();
        if id.is_empty() {
            let may = connect.clean || self.version == Version::V5;
            // Unique over restarts too: a client may come back with the id that it was given.
            let started = (self.shared.config.clock)().0;
            let made = format!("guan-{started:x}-{}", self.number);
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
        // It is turned away in any case.
        let _ = timeout(FLUSH_WAIT, say(&mut self.writer, &out)).await;
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

/// The session, once its record is durable; `None` when there is no room or no store.
async fn resume_session(
    shared: &Shared,
    client: &Arc<str>,
    is_present: bool,
    opening: OpeningSession,
    committed: &mut watch::Receiver<u64>,
) -> Option<Opened> {
    let (opened, record) = shared.hub.open(client, is_present, opening).ok()?;
    let record = record.unwrap_or(0);
    let durable = timeout(CONNECT_WAIT, committed.wait_for(|number| *number >= record)).await;
    durable.is_ok_and(|durable| durable.is_ok()).then_some(opened)
}
