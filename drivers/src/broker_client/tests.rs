//! Against a broker of raw bytes, on loopback.

use super::*;
use crate::submission::{Outcome, Publication, RefuseReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONNACK_NEW: &[u8] = &[0x20, 2, 0, 0];
const CONNACK_PRESENT: &[u8] = &[0x20, 2, 1, 0];

struct Site {
    broker: TcpListener,
    submissions: mpsc::Receiver<Submission>,
    stats: Arc<BrokerStats>,
    _stop: watch::Sender<bool>,
}

async fn site() -> Site {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (submissions_in, submissions) = mpsc::channel(4096);
    let client = BrokerClient::new(BrokerConfig {
        name: "hall".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: broker.local_addr().unwrap().port(),
        client_id: "guan".to_owned(),
        topics: vec!["a/#".to_owned()],
        credentials: None,
        authority: None,
        packet_bytes_max: 1 << 16,
        submissions: submissions_in,
        clock: Arc::new(|| WallTime(1)),
    });
    let (stop, stopped) = watch::channel(false);
    let stats = client.stats();
    tokio::spawn(client.run(stopped));
    Site { broker, submissions, stats, _stop: stop }
}

impl Site {
    /// Accepts the client up to its subscription.
    async fn accept(&self, connack: &[u8]) -> TcpStream {
        let (mut stream, _) = self.broker.accept().await.unwrap();
        assert_eq!(packet(&mut stream).await[0], 0x10, "CONNECT");
        stream.write_all(connack).await.unwrap();
        let subscribe = packet(&mut stream).await;
        assert_eq!(subscribe[0], 0x82);
        assert_eq!(subscribe.last(), Some(&1), "QoS 1 at most");
        let suback = [0x90, 3, subscribe[2], subscribe[3], 1];
        stream.write_all(&suback).await.unwrap();
        stream
    }

    async fn publication(&mut self) -> Publication {
        match self.submissions.recv().await.unwrap() {
            Submission::Publish(publication) => publication,
            other => panic!("{other:?}"),
        }
    }
}

/// A packet below 128 bytes.
async fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).await.unwrap();
    packet.resize(2 + usize::from(packet[1]), 0);
    stream.read_exact(&mut packet[2..]).await.unwrap();
    packet
}

fn publish(id: u8, payload: u8) -> [u8; 10] {
    [0x32, 8, 0, 3, b'a', b'/', b'b', 0, id, payload]
}

fn puback(id: u8) -> Vec<u8> {
    vec![0x40, 2, 0, id]
}

#[tokio::test]
async fn acknowledges_what_is_durable_in_order() {
    let mut site = site().await;
    let mut stream = site.accept(CONNACK_NEW).await;
    for id in 1..=3 {
        stream.write_all(&publish(id, id)).await.unwrap();
    }
    let mut publications = Vec::new();
    for id in 1..=3 {
        let publication = site.publication().await;
        assert_eq!((&*publication.topic, &publication.payload[..]), ("a/b", &[id][..]));
        publications.push(publication);
    }
    let (third, second) = (publications.pop().unwrap(), publications.pop().unwrap());
    third.reply.settle(Outcome::Durable);
    second
        .reply
        .settle(Outcome::Refused { reason: RefuseReason::PayloadInvalid, text: "no".to_owned() });
    // A later message overtakes nothing: the first bytes after it are the first acknowledgement.
    stream.write_all(&publish(4, 4)).await.unwrap();
    let fourth = site.publication().await;
    let nothing = stream.try_read(&mut [0; 1]);
    assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    publications.pop().unwrap().reply.settle(Outcome::Durable);
    fourth.reply.settle(Outcome::Durable);
    for id in 1..=4 {
        assert_eq!(packet(&mut stream).await, puback(id));
    }
    assert_eq!(site.stats.messages_refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_earlier_connection_is_not_acknowledged_to_the_next() {
    let mut site = site().await;
    let mut stream = site.accept(CONNACK_NEW).await;
    stream.write_all(&publish(7, 1)).await.unwrap();
    let early = site.publication().await;
    drop(stream);
    // Settled while there is no connection: its packet id will mean something else.
    while site.stats.failures.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    early.reply.settle(Outcome::Durable);
    let mut stream = site.accept(CONNACK_PRESENT).await;
    stream.write_all(&publish(7, 2)).await.unwrap();
    let late = site.publication().await;
    stream.write_all(&publish(8, 3)).await.unwrap();
    let last = site.publication().await;
    last.reply.settle(Outcome::Durable);
    late.reply.settle(Outcome::Durable);
    assert_eq!(packet(&mut stream).await, puback(7));
    assert_eq!(packet(&mut stream).await, puback(8), "each is acknowledged once");
}

#[tokio::test]
async fn a_message_that_is_not_taken_comes_again() {
    let check = async |outcome: Option<Outcome>| {
        let mut site = site().await;
        let mut stream = site.accept(CONNACK_NEW).await;
        stream.write_all(&publish(1, 1)).await.unwrap();
        let reply = site.publication().await.reply;
        match outcome {
            Some(outcome) => reply.settle(outcome),
            None => drop(reply),
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "no acknowledgement, just the end: {rest:?}");
        let mut stream = site.accept(CONNACK_PRESENT).await;
        stream.write_all(&publish(1, 1)).await.unwrap();
        site.publication().await.reply.settle(Outcome::Durable);
        assert_eq!(packet(&mut stream).await, puback(1));
    };
    let quota = Outcome::Refused { reason: RefuseReason::Quota, text: "full".to_owned() };
    check(Some(quota)).await;
    check(Some(Outcome::Lost)).await;
    check(None).await;
}

#[tokio::test]
async fn more_than_the_window_waits_and_is_acknowledged() {
    let mut site = site().await;
    let mut stream = site.accept(CONNACK_NEW).await;
    let many = INFLIGHT_MAX + 3;
    for id in 1..=many {
        let [high, low] = id.to_be_bytes();
        let bytes = [0x32, 8, 0, 3, b'a', b'/', b'b', high, low, 0];
        stream.write_all(&bytes).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..INFLIGHT_MAX {
        held.push(site.publication().await);
    }
    // The client has the next message in hand, and must not pass it on.
    while site.stats.messages.load(Ordering::Relaxed) <= u64::from(INFLIGHT_MAX) {
        tokio::task::yield_now().await;
    }
    assert!(site.submissions.try_recv().is_err(), "the window is full");
    for publication in held {
        publication.reply.settle(Outcome::Durable);
    }
    for _ in 0..3 {
        site.publication().await.reply.settle(Outcome::Durable);
    }
    for id in 1..=many {
        let [high, low] = id.to_be_bytes();
        assert_eq!(packet(&mut stream).await, [0x40, 2, high, low]);
    }
}

#[tokio::test]
async fn a_client_that_cannot_be_is_left_out() {
    let check = async |client_id: &str, authority: Option<&[u8]>| {
        let (submissions, _kept) = mpsc::channel(1);
        let client = BrokerClient::new(BrokerConfig {
            name: "hall".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            client_id: client_id.to_owned(),
            topics: Vec::new(),
            credentials: None,
            authority: authority.map(<[u8]>::to_vec),
            packet_bytes_max: 1 << 16,
            submissions,
            clock: Arc::new(|| WallTime(1)),
        });
        let stats = client.stats();
        let (_stop, stopped) = watch::channel(false);
        client.run(stopped).await;
        assert_eq!(stats.failures.load(Ordering::Relaxed), 1);
    };
    check("", None).await;
    check("guan", Some(b"")).await;
    check("guan", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")).await;
}
