//! Deadlines and memory, with paused time, on connections in memory.

use super::*;
use crate::mqtt::exchange::Exchange;
use crate::mqtt::limits::{
    CONNECT_WAIT, OUT_BYTES_FULL, PACKET_WAIT, READ_BYTES, READ_BYTES_BUSY, WRITE_WAIT,
};
use crate::mqtt::listener::Shared;
use crate::mqtt::message::Message;
use crate::mqtt::opening::serve;
use crate::mqtt::session::Durable;
use crate::mqtt::wire::{WireFault, WireReader};
use crate::submission::QoS;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const PIPE_BYTES: usize = 1 << 20;

struct Pair {
    shared: Arc<Shared>,
    client: Client<DuplexStream>,
    submissions: mpsc::Receiver<Submission>,
    server: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

fn pair(limits: ListenerLimits) -> Pair {
    let (config, submissions) = config(limits);
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(config, Exchange::default(), Arc::default(), stopped));
    let serving = shared.clone();
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let server = tokio::spawn(async move {
        let address = "127.0.0.1:1".parse().unwrap();
        serve(&serving, 1, far, address, None).await;
    });
    Pair { shared, client: Client { stream: near }, submissions, server, _stop: stop }
}

impl Pair {
    async fn connect(&mut self, level: u8) {
        self.client.send(&connect(level, "press", true)).await;
        let Some(Submission::SessionOpened { reply, .. }) = self.submissions.recv().await else {
            panic!("no session");
        };
        reply.send(SessionState::default()).unwrap();
        self.client.accepted(level).await;
    }
}

/// Time until the server ends the connection, and its last words.
async fn end_of(pair: &mut Pair) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let words = pair.client.last_words().await;
    (started.elapsed(), words)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_connect_is_closed() {
    for bytes in [&[][..], &connect(4, "press", true)[..5]] {
        let mut pair = pair(ListenerLimits::default());
        pair.client.send(bytes).await;
        let (after, words) = end_of(&mut pair).await;
        assert!(words.is_empty() && after >= CONNECT_WAIT, "{after:?}");
        assert!(after < CONNECT_WAIT + Duration::from_secs(1));
        pair.server.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_packet_is_not_awaited_for_ever() {
    let mut pair = pair(ListenerLimits::default());
    pair.connect(5).await;
    let message = publish(5, 1, 1, &[0; 8000]);
    pair.client.send(&message[..5000]).await;
    // Kept alive by nothing but bytes of the same packet, one at a time.
    let started = Instant::now();
    let mut next = 5000;
    let code = loop {
        let word = tokio::time::timeout(Duration::from_secs(9), pair.client.stream.read_u8()).await;
        match word {
            Ok(word) => break word.unwrap(),
            Err(_) => pair.client.send(&message[next..=next]).await,
        }
        next += 1;
    };
    assert_eq!(code, 0xE0);
    assert!(started.elapsed() <= PACKET_WAIT + Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn silence_is_closed_after_one_and_a_half_keep_alives() {
    let mut pair = pair(ListenerLimits::default());
    pair.connect(5).await;
    let (after, words) = end_of(&mut pair).await;
    assert_eq!((words[0], words[2]), (0xE0, 0x8D));
    assert!((15.0..16.0).contains(&after.as_secs_f64()), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_engine_is_no_silence_of_the_client() {
    let limits = ListenerLimits { ingest_bytes_max: 10_000, ..ListenerLimits::default() };
    let mut pair = pair(limits);
    pair.connect(5).await;
    pair.client.send(&publish(5, 0, 0, &[1; 6000])).await;
    pair.client.send(&publish(5, 0, 0, &[2; 6000])).await;
    let Some(Submission::Publish(first)) = pair.submissions.recv().await else { panic!() };
    // Settled, so that its share is free, while its memory is not.
    first.reply.settle(Outcome::Durable);
    // Longer than every deadline of the client.
    tokio::time::sleep(PACKET_WAIT * 3).await;
    drop(first.permit);
    let Some(Submission::Publish(second)) = pair.submissions.recv().await else {
        panic!("the connection did not survive the wait");
    };
    assert_eq!(second.payload, vec![2; 6000]);
    second.reply.settle(Outcome::Durable);
    pair.client.says_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_closed() {
    let mut pair = pair(ListenerLimits::default());
    pair.connect(4).await;
    let (mut sent, started) = (0, Instant::now());
    while pair.client.stream.write_all(&PING.repeat(512)).await.is_ok() {
        sent += 1024;
    }
    // What the pipe holds in both directions, and our own two buffers.
    let bound = 2 * PIPE_BYTES + OUT_BYTES_FULL + 2 * READ_BYTES_BUSY;
    assert!(sent <= bound, "{sent} bytes were read though no answer was");
    assert!(started.elapsed() >= WRITE_WAIT, "{:?}", started.elapsed());
    pair.server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_is_slow_with_its_copies_is_still_heard() {
    let mut pair = pair(ListenerLimits::default());
    pair.connect(4).await;
    pair.client.send(&subscribe(4, "a/#")).await;
    pair.client.packet().await;
    let message = Message {
        topic: "a/b".into(),
        payload: vec![0; 64 << 10].into(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
        expiry_s: None,
    };
    let durable = Durable { message, held: None };
    let (mut copies, mut pongs) = (0, 0);
    // Twice as much as it reads, for six keep-alives.
    for second in 0..60 {
        for _ in 0..8 {
            pair.shared.hub.publish("press", &durable);
        }
        for _ in 0..4 {
            match pair.client.packet().await[0] {
                0x30 => copies += 1,
                _ => pongs += 1,
            }
        }
        if second % 5 == 0 {
            pair.client.send(PING).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!pair.server.is_finished());
    assert!(pongs >= 8 && copies > 200, "{pongs} pongs, {copies} copies");
    assert!(value(&pair.shared.stats.taps_dropped) > 0, "the test sent too little");
}

#[tokio::test(start_paused = true)]
async fn a_long_packet_gets_its_memory_before_it_is_buffered() {
    let ingest = Arc::new(Semaphore::new(10_000));
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let mut reader = WireReader::new(far, ingest.clone(), 1 << 20);
    let message = publish(4, 0, 0, &[7; 9000]);
    near.write_all(&message).await.unwrap();
    let held = ingest.clone().acquire_many_owned(2000).await.unwrap();
    let wait = Duration::from_secs(1);
    assert!(tokio::time::timeout(wait, reader.read()).await.is_err(), "there is no room");
    assert!(reader.buffered() <= READ_BYTES, "{} bytes", reader.buffered());
    assert!(reader.waits_for_room() && reader.deadline().is_none());
    drop(held);
    let packet = reader.read().await.unwrap();
    assert_eq!(packet.bytes, message);
    assert_eq!(packet.permit.unwrap().num_permits(), message.len());
    let limit_above = [0x30, 0x81, 0x80, 0x40];
    near.write_all(&limit_above).await.unwrap();
    let fault = reader.read().await.map(|_| ()).unwrap_err();
    let expect = (1 << 20) + 1;
    assert!(matches!(fault, WireFault::TooLarge { length, .. } if length == expect), "{fault}");
    assert!(reader.buffered() <= READ_BYTES);
    assert_eq!(ingest.available_permits(), 10_000);
}
