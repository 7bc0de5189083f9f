//! What no well-meaning client sends.

use super::*;
use crate::mqtt::limits::{CLIENT_ID_BYTES_MAX, WILL_BYTES_MAX};

/// Bytes after CONNECT, and the reason of version 5's DISCONNECT.
fn hostile() -> Vec<(&'static str, u8, Vec<u8>, u8)> {
    let both =
        |name, bytes: &[u8], code| [4, 5].map(|level| (name, level, bytes.to_vec(), code)).to_vec();
    let new = |name, bytes: Vec<u8>, code| vec![(name, 5, bytes, code)];
    let topic = |level: u8, topic: &[u8]| {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        packet(0x30, &[&text(topic), properties, b"x"].concat())
    };
    let topics = |name, bytes: &[u8], code| {
        [4, 5].map(|level| (name, level, topic(level, bytes), code)).to_vec()
    };
    [
        both("a length without end", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], 0x81),
        both("200 MB announced", &[0x30, 0x80, 0x80, 0x80, 0x64], 0x95),
        both("the longest length announced", &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
        both("type 0", &[0x00, 0], 0x81),
        both("QoS 3", &[0x36, 6, 0, 1, b'a', 0, 1, 0], 0x81),
        both("packet id 0", &[0x32, 6, 0, 1, b'a', 0, 0, 0], 0x81),
        both("a topic longer than its packet", &[0x30, 3, 0, 9, b'a'], 0x81),
        both("SUBSCRIBE with wrong flags", &[0x80, 6, 0, 1, 0, 1, b'a', 0], 0x81),
        both("PUBREL with wrong flags", &[0x60, 2, 0, 1], 0x81),
        both("PUBREL of packet id 0", &[0x62, 2, 0, 0], 0x81),
        vec![("a server's CONNACK", 4, vec![0x20, 2, 0, 0], 0)],
        new("a server's CONNACK", vec![0x20, 3, 0, 0, 0], 0x82),
        both("a PUBACK of packet id 0", &[0x40, 2, 0, 0], 0x81),
        both("a PUBCOMP that is cut off", &[0x70, 1, 0], 0x81),
        topics("invalid UTF-8", b"a/\xC3\x28", 0x81),
        topics("a wildcard", b"a/+", 0x90),
        topics("a NUL", b"a/\0", 0x90),
        topics("a long topic", &[b'a'; 1025], 0x90),
        vec![("a second CONNECT", 4, connect(4, "x", true), 0)],
        new("a second CONNECT", connect(5, "x", true), 0x82),
        new("no topic and no alias", topic(5, b""), 0x90),
        new("alias 0", packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 0]), 0x81),
        new("alias 17", packet(0x30, &[0, 1, b'a', 3, 0x23, 0, 17]), 0x94),
        new("properties past the end", packet(0x30, &[0, 1, b'a', 99]), 0x81),
        new("an unknown property", packet(0x30, &[0, 1, b'a', 2, 0x7F, 0]), 0x81),
        new(
            "two response topics",
            packet(0x30, &[0, 1, b'a', 8, 8, 0, 1, b'b', 8, 0, 1, b'b']),
            0x81,
        ),
        new("a life of zero seconds", packet(0x30, &[0, 1, b'a', 5, 2, 0, 0, 0, 0]), 0x81),
        new("subscription identifier 0", packet(0x82, &[0, 1, 2, 11, 0, 0, 1, b'a', 0]), 0x81),
        new("retain handling 3", packet(0x82, &[0, 1, 0, 0, 1, b'a', 0x30]), 0x81),
        new("QoS 3 wanted", packet(0x82, &[0, 1, 0, 0, 1, b'a', 3]), 0x81),
        new("AUTH", packet(0xF0, &[0x18, 0]), 0x82),
    ]
    .concat()
}

#[tokio::test]
async fn each_fault_has_its_answer() {
    let mut bench = bench(ListenerLimits::default()).await;
    for (name, level, bytes, code) in hostile() {
        let mut client = bench.connect(level, "press").await;
        client.send(&bytes).await;
        let words = client.last_words().await;
        match level {
            4 => assert!(words.is_empty(), "{name}, 3.1.1: {words:?}"),
            _ => assert_eq!((words[0], words[2]), (0xE0, code), "{name}, 5: {words:X?}"),
        }
        if level == 4 {
            bench.forgotten("press").await;
        }
    }
    assert!(bench.submissions.try_recv().is_err(), "nothing of it reached the engine");
    let faults = u64::try_from(hostile().len()).unwrap();
    assert_eq!(value(&bench.stats.clients_misbehaved), faults);
}

#[tokio::test]
async fn a_session_that_was_to_end_cannot_be_kept() {
    let mut bench = bench(ListenerLimits::default()).await;
    let mut client = bench.dial().await;
    let head = [&text(b"MQTT")[..], &[5, 0b10, 0, 10, 0]].concat();
    client.send(&packet(0x10, &[&head[..], &text(b"press")].concat())).await;
    bench.open_session("press", true, SessionState::default()).await;
    client.accepted(5).await;
    client.send(&packet(0xE0, &[0, 5, 0x11, 0, 0, 0, 60])).await;
    let words = client.last_words().await;
    assert_eq!((words[0], words[2]), (0xE0, 0x82));
    bench.forgotten("press").await;
}

#[tokio::test]
async fn each_bad_connect_has_its_answer() {
    let served = bench(ListenerLimits::default()).await.take_all();
    let with_will = |level: u8, flags: u8, topic: &[u8], payload: &[u8]| {
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let head = [&text(b"MQTT")[..], &[level, flags, 0, 10], properties].concat();
        let rest = [&text(b"press")[..], properties, &text(topic), &text(payload)].concat();
        packet(0x10, &[head, rest].concat())
    };
    let (fits, long) = (vec![0; WILL_BYTES_MAX], vec![0; WILL_BYTES_MAX + 1]);
    let (id, long_id) = ("x".repeat(CLIENT_ID_BYTES_MAX), "x".repeat(CLIENT_ID_BYTES_MAX + 1));
    let check = async |name: &str, bytes: &[u8], expect: &[u8]| {
        let mut client = Client { stream: TcpStream::connect(served.address).await.unwrap() };
        client.send(bytes).await;
        client.stream.shutdown().await.unwrap();
        let words = client.last_words().await;
        match expect {
            [] => assert!(words.is_empty(), "{name}: {words:X?}"),
            _ => assert_eq!(words[..1], [0x20], "{name}: {words:X?}"),
        }
        if let Some((code, at)) = expect.first().zip(words.get(3)) {
            assert_eq!(code, at, "{name}: {words:X?}");
        }
    };
    check("no MQTT", b"GET / HTTP/1.1\r\n\r\n", &[]).await;
    check("PUBLISH first", &publish(4, 0, 0, b"x"), &[]).await;
    check("another protocol", &packet(0x10, &[0, 4, b'M', b'Q', b'X', b'X', 4, 2, 0, 0]), &[])
        .await;
    check("cut off", &connect(4, "press", true)[..9], &[]).await;
    let old = packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x0a\0\x01x");
    check("3.1", &old, &[1]).await;
    check("level 3", &connect(3, "press", true), &[1]).await;
    check("level 6", &connect(6, "press", true), &[0x84]).await;
    check("no id, 3.1.1", &connect(4, "", false), &[2]).await;
    check("no id, 5", &connect(5, "", false), &[0x85]).await;
    check("no id, clean", &connect(4, "", true), &[0]).await;
    check("a long id", &connect(4, &long_id, true), &[2]).await;
    check("an id at the limit", &connect(4, &id, true), &[0]).await;
    check("a control character", &connect(4, "a\u{7}", true), &[2]).await;
    check("a will at the limit", &with_will(4, 0b110, b"a/w", &fits), &[0]).await;
    check("a long will, 3.1.1", &with_will(4, 0b110, b"a/w", &long), &[5]).await;
    check("a long will, 5", &with_will(5, 0b110, b"a/w", &long), &[0x95]).await;
    check("a wildcard will", &with_will(5, 0b110, b"a/+", b"x"), &[0x90]).await;
    check("a retained will", &with_will(5, 0b10_0110, b"a/w", b"x"), &[0]).await;
    check("a will without the right", &with_will(4, 0b110, b"b", b"x"), &[0]).await;
    assert_eq!(value(&served.stats.messages_denied), 1);
    let named =
        packet(0x10, &[&text(b"MQTT")[..], &[4, 0x82, 0, 10], &text(b"x"), &text(b"eve")].concat());
    check("an unknown name", &named, &[4]).await;
}
