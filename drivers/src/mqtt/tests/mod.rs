//! The listener on loopback, and in memory with paused time; the test is the engine.

mod clients;
mod deadlines;
mod durable;
mod fairness;
mod hostile;
mod limits;
mod sessions;
mod taps;

use super::auth::{Authenticator, Rights};
use super::filter::TopicFilter;
use super::limits::ListenerLimits;
use super::listener::{Listener, ListenerConfig, ListenerStats};
use super::store::NoStore;
use crate::submission::{Outcome, Publication, SessionState, Submission};
use guan_model::WallTime;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const PING: &[u8] = &[0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];

/// A listener and its engine's end.
struct Bench {
    address: SocketAddr,
    stats: Arc<ListenerStats>,
    submissions: mpsc::Receiver<Submission>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

fn config(limits: ListenerLimits) -> (ListenerConfig, mpsc::Receiver<Submission>) {
    let (submissions_in, submissions) = mpsc::channel(64);
    let filters = |texts: &[&str]| -> Vec<TopicFilter> {
        texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect()
    };
    let rights = Rights { publish: filters(&["a/#"]), subscribe: filters(&["a/#"]) };
    let config = ListenerConfig {
        limits,
        tls: None,
        certificate_name: Arc::new(|_| None),
        authenticator: Authenticator::new(Some(rights), BTreeMap::new()),
        submissions: submissions_in,
        clock: Arc::new(|| WallTime(7)),
        store: Arc::new(NoStore::default()),
        records: Vec::new(),
    };
    (config, submissions)
}

async fn bench(limits: ListenerLimits) -> Bench {
    let (config, submissions) = config(limits);
    start(config, submissions).await
}

async fn start(config: ListenerConfig, submissions: mpsc::Receiver<Submission>) -> Bench {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let (address, stats) = (listener.local_addr().unwrap(), listener.stats());
    let (stop, stopped) = watch::channel(false);
    let listener = tokio::spawn(listener.run(stopped));
    Bench { address, stats, submissions, stop, listener }
}

impl Bench {
    async fn dial(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        // Else TCP holds a second message back until it has heard of the first.
        stream.set_nodelay(true).unwrap();
        Client { stream }
    }

    /// A connected client of a version (4 or 5), with a new and clean session.
    async fn connect(&mut self, level: u8, id: &str) -> Client<TcpStream> {
        let mut client = self.dial().await;
        client.send(&connect(level, id, true)).await;
        self.open_session(id, true, SessionState::default()).await;
        client.accepted(level).await;
        client
    }

    async fn open_session(&mut self, expect_id: &str, expect_clean: bool, state: SessionState) {
        match self.submissions.recv().await.unwrap() {
            Submission::SessionOpened { client, clean, reply } => {
                assert_eq!((&*client, clean), (expect_id, expect_clean));
                reply.send(state).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    async fn publication(&mut self) -> Publication {
        match self.submissions.recv().await.unwrap() {
            Submission::Publish(publication) => publication,
            other => panic!("{other:?}"),
        }
    }

    async fn forgotten(&mut self, id: &str) {
        match self.submissions.recv().await.unwrap() {
            Submission::SessionForgotten { client } => assert_eq!(&*client, id),
            other => panic!("{other:?}"),
        }
    }

    /// From here on an engine that makes everything durable at once.
    fn take_all(self) -> Served {
        let Self { address, stats, mut submissions, stop, listener } = self;
        let engine = tokio::spawn(async move {
            while let Some(submission) = submissions.recv().await {
                match submission {
                    Submission::Publish(publication) => {
                        publication.reply.settle(Outcome::Durable);
                    }
                    Submission::Release { reply, .. } => reply.settle(Outcome::Durable),
                    Submission::SessionOpened { reply, .. } => {
                        // The client may be gone.
                        let _ = reply.send(SessionState::default());
                    }
                    Submission::SessionForgotten { .. } => {}
                }
            }
        });
        Served { address, stats, _stop: stop, _tasks: (listener, engine) }
    }
}

/// A listener with an engine of its own.
struct Served {
    address: SocketAddr,
    stats: Arc<ListenerStats>,
    _stop: watch::Sender<bool>,
    _tasks: (JoinHandle<()>, JoinHandle<()>),
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Raw bytes on a connection.
struct Client<S> {
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![self.stream.read_u8().await.unwrap()];
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.unwrap();
            packet.push(byte);
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let head = packet.len();
        packet.resize(head + length, 0);
        self.stream.read_exact(&mut packet[head..]).await.unwrap();
        packet
    }

    async fn accepted(&mut self, level: u8) {
        let connack = self.packet().await;
        let code_at = if level == 5 { 3 } else { 2 };
        assert_eq!((connack[0], connack[code_at + usize::from(level == 4)]), (0x20, 0));
    }

    /// A ping's answer comes next: nothing else was said before it.
    async fn says_nothing(&mut self) {
        self.send(PING).await;
        assert_eq!(self.packet().await, PONG, "nothing but the ping is answered");
    }

    /// Everything that is said up to the end of the connection.
    async fn last_words(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        // A reset tells as much as an orderly end: what was said is read before it.
        let _ = self.stream.read_to_end(&mut words).await;
        words
    }
}

/// An acknowledgement without a fault; version 5 may say so in a byte.
fn check_answer(packet: &[u8], first: u8, id: u16) {
    assert_eq!((packet[0], &packet[2..4]), (first, &id.to_be_bytes()[..]), "{packet:X?}");
    assert_eq!(packet.get(4).copied().unwrap_or(0), 0, "{packet:X?}");
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let byte = u8::try_from(rest & 0x7F).unwrap();
        rest >>= 7;
        packet.push(if rest > 0 { byte | 0x80 } else { byte });
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// CONNECT with a keep-alive of 10 s; version 5 keeps its session for a minute.
fn connect(level: u8, id: &str, clean: bool) -> Vec<u8> {
    connect_for(10, level, id, clean)
}

fn connect_for(keep_alive_s: u8, level: u8, id: &str, clean: bool) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[5, 0x11, 0, 0, 0, 60] } else { &[] };
    let head = [&text(b"MQTT")[..], &[level, u8::from(clean) << 1, 0, keep_alive_s]].concat();
    packet(0x10, &[&head[..], properties, &text(id.as_bytes())].concat())
}

fn publish(level: u8, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(b"a/b");
    if qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if level == 5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1, &body)
}

fn subscribe(level: u8, filter: &str) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x82, &[&[0, 9][..], properties, &text(filter.as_bytes()), &[0]].concat())
}
