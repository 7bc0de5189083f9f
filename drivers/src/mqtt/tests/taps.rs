//! Local subscribers get what is durable, and hold nothing up.

use super::*;

/// PUBLISH at QoS 0 to a subscriber: its payload.
fn payload(level: u8, packet: &[u8]) -> Vec<u8> {
    assert_eq!(packet[0], 0x30);
    let head = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let properties = usize::from(level == 5);
    packet[head + 2 + 3 + properties..].to_vec()
}

#[tokio::test]
async fn a_tap_gets_what_is_durable() {
    for level in [4, 5] {
        let mut bench = bench(ListenerLimits::default()).await;
        let mut reader = bench.connect(level, "reader").await;
        reader.send(&subscribe(level, "a/#")).await;
        assert_eq!(*reader.packet().await.last().unwrap(), 0, "granted at QoS 0");
        let mut client = bench.connect(level, "press").await;
        client.send(&publish(level, 1, 1, b"x")).await;
        let publication = bench.publication().await;
        reader.says_nothing().await;
        publication.reply.settle(Outcome::Durable);
        assert_eq!(payload(level, &reader.packet().await), b"x");
        client.send(&publish(level, 1, 2, b"y")).await;
        let reason = crate::submission::RefuseReason::PayloadInvalid;
        let refused = Outcome::Refused { reason, text: String::new() };
        bench.publication().await.reply.settle(refused);
        client.packet().await;
        client.packet().await;
        reader.says_nothing().await;
    }
}

#[tokio::test]
async fn a_tap_gets_what_becomes_durable_after_its_sender_has_left() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut reader = bench.connect(4, "reader").await;
    reader.send(&subscribe(4, "a/#")).await;
    reader.packet().await;
    let mut client = bench.connect(4, "press").await;
    client.send(&[publish(4, 0, 0, b"x"), vec![0xE0, 0]].concat()).await;
    let publication = bench.publication().await;
    bench.forgotten("press").await;
    assert!(client.last_words().await.is_empty());
    publication.reply.settle(Outcome::Durable);
    assert_eq!(payload(4, &reader.packet().await), b"x");
}

#[tokio::test]
async fn a_bad_filter_is_refused_and_a_wide_one_is_not() {
    for (level, code) in [(4, 0x80), (5, 0x8F)] {
        let mut bench = bench(ListenerLimits::default()).await;
        let mut reader = bench.connect(level, "reader").await;
        reader.send(&subscribe(level, "a#")).await;
        assert_eq!(*reader.packet().await.last().unwrap(), code);
        // A filter may be wider than the rights: what cannot be read stays away.
        reader.send(&subscribe(level, "#")).await;
        assert_eq!(*reader.packet().await.last().unwrap(), 0);
    }
}

#[tokio::test]
async fn a_slow_reader_misses_messages_and_delays_nobody() {
    const MESSAGES: u32 = 3000;
    let served = bench(ListenerLimits::default()).await.take_all();
    let dial = async |id: &str| {
        let mut client = Client { stream: TcpStream::connect(served.address).await.unwrap() };
        client.send(&connect(4, id, true)).await;
        client.accepted(4).await;
        client
    };
    let mut reader = dial("reader").await;
    reader.send(&subscribe(4, "a/#")).await;
    reader.packet().await;
    let mut client = dial("press").await;
    // 48 MB, which no socket buffer takes; the reader reads nothing of it meanwhile.
    for number in 0..MESSAGES {
        let mut payload = vec![b'x'; 16 << 10];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        client.send(&publish(4, 1, 1, &payload)).await;
        assert_eq!(client.packet().await, [0x40, 2, 0, 1], "message {number}");
    }
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(MESSAGES - 1)) {
        let payload = payload(4, &reader.packet().await);
        numbers.push(u32::from_be_bytes(payload[..4].try_into().unwrap()));
    }
    assert!(numbers.is_sorted(), "what arrives is in order");
    let missed = u64::from(MESSAGES) - u64::try_from(numbers.len()).unwrap();
    assert!(missed > 0, "the test sent too little");
    assert_eq!(value(&served.stats.taps_dropped), missed, "each missed message is counted");
}
