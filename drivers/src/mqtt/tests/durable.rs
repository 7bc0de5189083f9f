//! Nothing is acknowledged before it is durable, and nothing is stored twice.

use super::*;
use crate::submission::{QoS, RefuseReason};
use std::num::NonZeroU16;

fn ids(numbers: &[u16]) -> Vec<NonZeroU16> {
    numbers.iter().map(|number| NonZeroU16::new(*number).unwrap()).collect()
}

#[tokio::test]
async fn puback_waits_for_the_disk() {
    for level in [4, 5] {
        let mut bench = bench(ListenerLimits::default()).await;
        let mut client = bench.connect(level, "press").await;
        client.send(&publish(level, 1, 1, b"one")).await;
        client.send(&publish(level, 1, 2, b"two")).await;
        let (first, second) = (bench.publication().await, bench.publication().await);
        assert_eq!(
            (&*first.topic, &first.payload[..], first.qos),
            ("a/b", &b"one"[..], { QoS::AtLeastOnce })
        );
        assert_eq!((first.received, first.held), (WallTime(7), None));
        client.says_nothing().await;
        second.reply.settle(Outcome::Durable);
        client.says_nothing().await;
        first.reply.settle(Outcome::Durable);
        check_answer(&client.packet().await, 0x40, 1);
        check_answer(&client.packet().await, 0x40, 2);
    }
}

#[tokio::test]
async fn exactly_once_waits_twice() {
    for level in [4, 5] {
        let mut bench = bench(ListenerLimits::default()).await;
        let mut client = bench.connect(level, "press").await;
        client.send(&publish(level, 2, 3, b"x")).await;
        let publication = bench.publication().await;
        assert_eq!(publication.held, NonZeroU16::new(3));
        client.says_nothing().await;
        publication.reply.settle(Outcome::Durable);
        check_answer(&client.packet().await, 0x50, 3);
        client.send(&publish(level, 2, 3, b"x")).await;
        check_answer(&client.packet().await, 0x50, 3);
        client.send(&[0x62, 2, 0, 3]).await;
        let Submission::Release { client: who, packet_id, reply } =
            bench.submissions.recv().await.unwrap()
        else {
            panic!("the repetition was submitted");
        };
        assert_eq!((&*who, packet_id.get()), ("press", 3));
        client.says_nothing().await;
        reply.settle(Outcome::Durable);
        check_answer(&client.packet().await, 0x70, 3);
        client.send(&[0x62, 2, 0, 3]).await;
        let unknown = client.packet().await;
        match level {
            4 => assert_eq!(unknown, [0x70, 2, 0, 3]),
            _ => assert_eq!(unknown[4], 0x92),
        }
    }
}

#[tokio::test]
async fn held_ids_survive_the_connection() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut client = bench.dial().await;
    client.send(&connect(4, "press", false)).await;
    bench.open_session("press", false, SessionState { present: true, held: ids(&[5]) }).await;
    assert_eq!(client.packet().await, [0x20, 2, 1, 0], "session present");
    client.send(&publish(4, 2, 5, b"x")).await;
    assert_eq!(client.packet().await, [0x50, 2, 0, 5]);
    client.send(&publish(4, 2, 6, b"y")).await;
    let publication = bench.publication().await;
    assert_eq!(publication.held, NonZeroU16::new(6), "the held one was not submitted");
}

#[tokio::test]
async fn a_refusal_reaches_the_client() {
    let mut bench = bench(ListenerLimits::default()).await;
    let refused =
        |reason| Outcome::Refused { reason, text: format!("because of {}", "x".repeat(400)) };
    let mut new = bench.connect(5, "new").await;
    let check = [(RefuseReason::Quota, 0x97), (RefuseReason::PayloadInvalid, 0x99)];
    for (reason, code) in check {
        new.send(&publish(5, 1, 1, b"x")).await;
        bench.publication().await.reply.settle(refused(reason));
        let puback = new.packet().await;
        assert_eq!((puback[0], puback[5]), (0x40, code), "{puback:?}");
        assert!(puback.windows(10).any(|window| window == b"because of"));
    }
    let mut old = bench.connect(4, "old").await;
    old.send(&publish(4, 1, 1, b"x")).await;
    bench.publication().await.reply.settle(refused(RefuseReason::PayloadInvalid));
    assert_eq!(old.packet().await, [0x40, 2, 0, 1], "it would come for ever");
    old.send(&publish(4, 1, 2, b"x")).await;
    bench.publication().await.reply.settle(refused(RefuseReason::Quota));
    assert!(old.last_words().await.is_empty(), "it comes again");
    bench.forgotten("old").await;
    assert_eq!(value(&bench.stats.messages_refused_quota), 2);
    assert_eq!(value(&bench.stats.messages_refused_payload), 2);
}

#[tokio::test]
async fn a_lost_reply_closes_the_connection_unacknowledged() {
    let mut bench = bench(ListenerLimits::default()).await;
    for level in [4, 5] {
        let mut client = bench.connect(level, "press").await;
        client.send(&publish(level, 1, 1, b"x")).await;
        drop(bench.publication().await);
        let words = client.last_words().await;
        match level {
            4 => assert!(words.is_empty(), "{words:?}"),
            _ => assert_eq!((words[0], words[2]), (0xE0, 0x89), "{words:?}"),
        }
        if level == 4 {
            bench.forgotten("press").await;
        }
    }
}

#[tokio::test]
async fn the_same_client_takes_over_after_the_first_has_ended() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut first = bench.connect(5, "press").await;
    first.send(&publish(5, 1, 1, b"x")).await;
    let publication = bench.publication().await;
    let mut second = bench.dial().await;
    second.send(&connect(4, "press", true)).await;
    let words = first.last_words().await;
    assert_eq!((words[0], words[2]), (0xE0, 0x8E));
    bench.open_session("press", true, SessionState::default()).await;
    second.accepted(4).await;
    // The outcome belongs to a connection that is gone.
    publication.reply.settle(Outcome::Durable);
    second.says_nothing().await;
    second.send(&[0xE0, 0]).await;
    bench.forgotten("press").await;
}

#[tokio::test]
async fn a_will_is_published_for_who_vanishes_and_not_for_who_leaves() {
    let will = |payload: &[u8]| {
        let head = [&text(b"MQTT")[..], &[4, 0b110, 0, 10]].concat();
        packet(0x10, &[&head[..], &text(b"press"), &text(b"a/will"), &text(payload)].concat())
    };
    let mut bench = bench(ListenerLimits::default()).await;
    for leaves in [true, false] {
        let mut client = bench.dial().await;
        client.send(&will(b"gone")).await;
        bench.open_session("press", true, SessionState::default()).await;
        client.accepted(4).await;
        if leaves {
            client.send(&[0xE0, 0]).await;
        }
        drop(client);
        // The session's end and the will come in either order.
        let mut will = None;
        for _ in 0..(if leaves { 1 } else { 2 }) {
            match bench.submissions.recv().await.unwrap() {
                Submission::SessionForgotten { client } => assert_eq!(&*client, "press"),
                Submission::Publish(publication) => {
                    will = Some((publication.topic.clone(), publication.payload.clone()));
                }
                other => panic!("{other:?}"),
            }
        }
        let expect = (!leaves).then(|| (Arc::from("a/will"), "gone".into()));
        assert_eq!(will, expect);
    }
}

#[tokio::test]
async fn stopping_says_goodbye_and_ends() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut client = bench.connect(5, "press").await;
    bench.stop.send(true).unwrap();
    let words = client.last_words().await;
    assert_eq!((words[0], words[2]), (0xE0, 0x8B));
    bench.listener.await.unwrap();
    assert_eq!(value(&bench.stats.connections), 0);
}
