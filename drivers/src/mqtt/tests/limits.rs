//! Every bound, exactly at it and one above.

use super::*;
use crate::descriptors::raise_descriptors;
use tokio::task::JoinSet;

/// Fewer than the system queues for a listener: it forgets what comes above, and the client waits for a
/// minute until TCP has found out.
const AT_ONCE: usize = 500;

#[tokio::test]
async fn a_packet_at_the_limit_is_taken_and_one_above_is_not() {
    let limits = ListenerLimits { packet_bytes_max: 8192, ..ListenerLimits::default() };
    let mut bench = bench(limits).await;
    for level in [4, 5] {
        let around = publish(level, 1, 1, b"").len() - 2;
        let payload = vec![b'x'; 8192 - around];
        let mut client = bench.connect(level, "press").await;
        client.send(&publish(level, 1, 1, &payload)).await;
        let publication = bench.publication().await;
        assert_eq!(publication.payload.len(), payload.len());
        publication.reply.settle(Outcome::Durable);
        check_answer(&client.packet().await, 0x40, 1);
        client.send(&publish(level, 1, 2, &[&payload[..], b"x"].concat())).await;
        let words = client.last_words().await;
        match level {
            4 => assert!(words.is_empty()),
            _ => assert_eq!((words[0], words[2]), (0xE0, 0x95)),
        }
        if level == 4 {
            bench.forgotten("press").await;
        }
    }
}

#[tokio::test]
async fn version_5_is_told_and_3_1_1_is_held_back() {
    let limits = ListenerLimits { receive_maximum: 2, ..ListenerLimits::default() };
    let mut bench = bench(limits).await;
    let mut new = bench.connect(5, "new").await;
    let mut old = bench.connect(4, "old").await;
    for number in 1..=5 {
        old.send(&publish(4, 1, number, b"x")).await;
    }
    let (first, second) = (bench.publication().await, bench.publication().await);
    // The other connection is served meanwhile, and what it sends is the next thing to arrive.
    for number in 1..=3 {
        new.send(&publish(5, 1, number, b"y")).await;
    }
    let words = new.last_words().await;
    assert_eq!((words[0], words[2]), (0xE0, 0x93));
    for _ in 0..2 {
        assert_eq!(bench.publication().await.payload, "y");
    }
    assert!(bench.submissions.try_recv().is_err(), "the third message of 3.1.1 is not read");
    first.reply.settle(Outcome::Durable);
    second.reply.settle(Outcome::Durable);
    for _ in 3..=5 {
        bench.publication().await.reply.settle(Outcome::Durable);
    }
    for number in 1..=5 {
        assert_eq!(old.packet().await, [0x40, 2, 0, number]);
    }
    old.says_nothing().await;
}

#[tokio::test]
async fn the_budget_of_bytes_holds_intake_up_and_drops_nothing() {
    let limits = ListenerLimits { ingest_bytes_max: 10_000, ..ListenerLimits::default() };
    let mut bench = bench(limits).await;
    let mut client = bench.connect(4, "press").await;
    let mut other = bench.connect(4, "truck").await;
    for number in 0..4 {
        client.send(&publish(4, 0, 0, &[number; 6000])).await;
    }
    for number in 0..4 {
        let publication = bench.publication().await;
        assert_eq!(publication.payload, vec![number; 6000]);
        // A connection that needs no memory is served, and nothing came through beside the permit.
        other.says_nothing().await;
        assert!(bench.submissions.try_recv().is_err(), "two of them do not fit");
        publication.reply.settle(Outcome::Durable);
        drop(publication.permit);
    }
    client.says_nothing().await;
}

#[tokio::test]
async fn one_connection_above_the_limit_is_turned_away_until_another_leaves() {
    let limits = ListenerLimits { connections_max: 2, ..ListenerLimits::default() };
    let mut bench = bench(limits).await;
    let mut first = bench.connect(4, "one").await;
    let _second = bench.connect(5, "two").await;
    for (level, code) in [(4, 3), (5, 0x97)] {
        let mut third = bench.dial().await;
        third.send(&connect(level, "three", true)).await;
        let words = third.last_words().await;
        assert_eq!((words[0], words[3]), (0x20, code));
    }
    assert_eq!(value(&bench.stats.connections_turned_away), 2);
    first.send(&[0xE0, 0]).await;
    bench.forgotten("one").await;
    assert!(first.last_words().await.is_empty());
    while value(&bench.stats.connections) == 2 {
        tokio::task::yield_now().await;
    }
    bench.connect(4, "three").await;
}

/// `None` when the client was turned away.
async fn dial(address: SocketAddr, number: usize) -> Option<Client<TcpStream>> {
    let mut client = Client { stream: TcpStream::connect(address).await.ok()? };
    // Without keep-alive: on a slow machine the first would be closed before the last comes.
    let hello = connect_for(0, 4, &format!("client-{number}"), true);
    client.stream.write_all(&hello).await.ok()?;
    let mut connack = [0; 4];
    client.stream.read_exact(&mut connack).await.ok()?;
    (connack == [0x20, 2, 0, 0]).then_some(client)
}

#[tokio::test]
async fn two_thousand_connections_meet_a_limit_of_1024() {
    let wanted = 2 * 2000 + 200;
    if raise_descriptors(wanted) < wanted {
        return println!("SKIP: two thousand connections need {wanted} file descriptors");
    }
    let limits = ListenerLimits { connections_max: 1024, ..ListenerLimits::default() };
    let served = bench(limits).await.take_all();
    let mut accepted = Vec::new();
    for first in (0..2000).step_by(AT_ONCE) {
        let dials = (first..first + AT_ONCE).map(|number| dial(served.address, number));
        accepted.extend(dials.collect::<JoinSet<_>>().join_all().await.into_iter().flatten());
    }
    assert_eq!(accepted.len(), 1024);
    assert_eq!(value(&served.stats.connections), 1024);
    assert_eq!(value(&served.stats.connections_turned_away), 2000 - 1024);
    for client in &mut accepted {
        client.send(&publish(4, 1, 1, b"x")).await;
    }
    for client in &mut accepted {
        assert_eq!(client.packet().await, [0x40, 2, 0, 1]);
    }
    assert_eq!(value(&served.stats.messages), 1024);
}
