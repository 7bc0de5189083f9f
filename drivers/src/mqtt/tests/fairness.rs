//! One client that floods the box does not starve another, and nobody loses a message.

use super::*;
use crate::mqtt::limits::{CLIENT_SHARE, MESSAGE_COST_MIN};

const PAYLOAD: usize = 1000;
const FLOOD: usize = 600;

/// Sends without ever waiting for the box: bytes stay in the socket when they are not read.
fn flood(stream: TcpStream, level: u8) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut client = Client { stream };
        for _ in 0..FLOOD {
            client.send(&publish(level, 0, 0, &[b'f'; PAYLOAD])).await;
        }
        // Stays until the test is over.
        std::future::pending::<()>().await;
    })
}

#[tokio::test]
async fn a_flood_holds_its_share_and_leaves_the_rest_to_others() {
    for level in [4, 5] {
        let share = 16 * 1024;
        let limits = ListenerLimits {
            ingest_bytes_max: CLIENT_SHARE * share,
            packet_bytes_max: 4096,
            ..ListenerLimits::default()
        };
        let mut bench = bench(limits).await;
        let mut polite = bench.connect(4, "polite").await;
        let flooder = bench.connect(level, "flood").await;
        let flood = flood(flooder.stream, level);
        // The engine takes messages and settles none: the share is all that can come.
        let mut held = Vec::new();
        let mut bytes = 0;
        while bytes < share {
            let publication = bench.publication().await;
            bytes += publication.topic.len() + publication.payload.len();
            held.push(publication);
        }
        polite.send(&publish(4, 1, 1, b"polite")).await;
        let next = bench.publication().await;
        assert_eq!(&*next.client, "polite", "the flood goes beyond its share");
        next.reply.settle(Outcome::Durable);
        check_answer(&polite.packet().await, 0x40, 1);
        // Nothing of the flood is lost: all of it comes when there is room again.
        let mut count = held.len();
        drop(next.permit);
        for publication in held {
            publication.reply.settle(Outcome::Durable);
        }
        while count < FLOOD {
            bench.publication().await.reply.settle(Outcome::Durable);
            count += 1;
        }
        flood.abort();
    }
}

/// The engine is slower than either client: they come through in turn, whatever the one has in store.
#[tokio::test]
async fn clients_that_wait_take_turns() {
    let limits = ListenerLimits {
        // Room for two messages: who waits stands in line.
        ingest_bytes_max: 2 * (PAYLOAD + MESSAGE_COST_MIN),
        packet_bytes_max: PAYLOAD + MESSAGE_COST_MIN,
        ..ListenerLimits::default()
    };
    let mut bench = bench(limits).await;
    let flooder = bench.connect(4, "flood").await;
    let polite = bench.connect(4, "polite").await;
    let flood = flood(flooder.stream, 4);
    let mut first = bench.publication().await;
    let polite = tokio::spawn(async move {
        let mut client = polite;
        let all = (0..20_u8).map(|number| publish(4, 0, 0, &[number; PAYLOAD]));
        // In one piece, or TCP holds the second message back until it has heard of the first.
        client.send(&all.collect::<Vec<_>>().concat()).await;
        client
    });
    let (mut since, mut numbers) = (0, Vec::new());
    while numbers.len() < 20 {
        match &*first.client {
            "polite" => {
                numbers.push(first.payload[0]);
                since = 0;
            }
            _ => since += 1,
        }
        assert!(numbers.is_empty() || since <= TURNS_MAX, "{since} in a row, {numbers:?}");
        first.reply.settle(Outcome::Durable);
        drop(first.permit);
        first = bench.publication().await;
    }
    assert!(numbers.is_sorted(), "in order: {numbers:?}");
    drop(polite.await.unwrap());
    flood.abort();
}

/// Messages of another client that may come between two of one that has more to send.
const TURNS_MAX: usize = 3;
