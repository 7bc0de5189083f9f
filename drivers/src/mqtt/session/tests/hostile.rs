//! Damaged conversations, and any order of packets and outcomes.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;

/// CONNECT and a few packets of each kind, in both versions.
fn conversations() -> Vec<Vec<u8>> {
    let v3: &[&[u8]] = &[
        b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x0a\x00\x03abc",
        b"\x30\x06\x00\x03a/bh",
        b"\x32\x08\x00\x03a/b\x00\x01x",
        b"\x34\x08\x00\x03a/b\x00\x02y",
        b"\x62\x02\x00\x02",
        b"\x82\x08\x00\x03\x00\x03a/#\x02",
        b"\x31\x06\x00\x03a/bh",
        b"\x34\x08\x00\x03a/b\x00\x03z",
        b"\x40\x02\x00\x01",
        b"\x50\x02\x00\x01",
        b"\x70\x02\x00\x01",
        b"\xa2\x07\x00\x04\x00\x03a/#",
        b"\xc0\x00",
        b"\xe0\x00",
    ];
    let v5: &[&[u8]] = &[
        b"\x10\x15\x00\x04MQTT\x05\x02\x00\x0a\x05\x11\x00\x00\x00\x3c\x00\x03abc",
        b"\x32\x0c\x00\x03a/b\x00\x01\x03\x23\x00\x01x",
        b"\x34\x09\x00\x00\x00\x02\x03\x23\x00\x01y",
        b"\x62\x02\x00\x02",
        b"\x82\x0b\x00\x03\x02\x0b\x07\x00\x03a/#\x2e",
        b"\x82\x12\x00\x04\x00\x00\x0c$share/g/a/#\x01",
        b"\x35\x19\x00\x03a/b\x00\x05\x10\x02\x00\x00\x00\x09\x08\x00\x01r\x26\x00\x01k\x00\x01vx",
        b"\x40\x03\x00\x02\x00",
        b"\x50\x03\x00\x01\x00",
        b"\x70\x03\x00\x01\x00",
        b"\xc0\x00",
        b"\xe0\x00",
    ];
    vec![v3.concat(), v5.concat()]
}

#[test]
fn the_conversations_are_understood() {
    assert_eq!(drive(&conversations()[0]), 6, "five messages and a release");
    assert_eq!(drive(&conversations()[1]), 4, "the second message comes by its alias");
}

/// The packets of a conversation, without their lengths: (first byte, body).
fn split(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut packets = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (body, after) = rest.split_at(usize::from(*length));
        packets.push((*first, body.to_vec()));
        bytes = after;
    }
    packets
}

fn join(packets: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (first, body) in packets {
        bytes.push(*first);
        let length = u16::try_from(body.len()).unwrap();
        bytes.extend([u8::try_from(length & 0x7F).unwrap() | 0x80]);
        bytes.extend([u8::try_from(length >> 7).unwrap()]);
        bytes.extend_from_slice(body);
    }
    bytes
}

/// What damages one packet and leaves its frame whole.
#[derive(Debug, Clone)]
enum Damage {
    First(u8),
    Byte(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat,
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        any::<u8>().prop_map(Damage::First),
        (at(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        at().prop_map(Damage::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        Just(Damage::Repeat),
        Just(Damage::Remove),
    ]
}

fn apply(packets: &mut Vec<(u8, Vec<u8>)>, which: Index, damage: Damage) {
    if packets.is_empty() {
        return;
    }
    let which = which.index(packets.len());
    let (first, body) = &mut packets[which];
    match damage {
        Damage::First(value) => *first = value,
        Damage::Byte(at, value) if !body.is_empty() => {
            let at = at.index(body.len());
            body[at] = value;
        }
        Damage::Byte(..) => {}
        Damage::Cut(at) => body.truncate(at.index(body.len() + 1)),
        Damage::Insert(at, bytes) => {
            let at = at.index(body.len() + 1);
            body.splice(at..at, bytes);
        }
        Damage::Repeat => {
            let copy = packets[which].clone();
            packets.insert(which, copy);
        }
        Damage::Remove => drop(packets.remove(which)),
    }
}

#[test]
fn a_conversation_is_the_same_after_split_and_join() {
    for (conversation, submitted) in conversations().iter().zip([6, 4]) {
        assert_eq!(drive(&join(&split(conversation))), submitted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_end_without_a_panic(
        which in 0..2_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = conversations().swap_remove(which);
        for (at, value) in edits {
            let index = at.index(bytes.len());
            bytes[index] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        drive(&bytes);
    }

    #[test]
    fn damaged_packets_end_without_a_panic(
        which in 0..2_usize,
        damages in prop::collection::vec((any::<Index>(), damage()), 1..8),
    ) {
        let mut packets = split(&conversations().swap_remove(which));
        for (which, damage) in damages {
            apply(&mut packets, which, damage);
        }
        drive(&join(&packets));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u8, u16),
    Release(u16),
    /// One of the requests that wait, and whether it becomes durable.
    Settle(Index, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..3_u8, 1..5_u16).prop_map(|(qos, id)| Step::Publish(qos, id)),
        2 => (1..5_u16).prop_map(Step::Release),
        3 => (any::<Index>(), prop::bool::weighted(0.9))
            .prop_map(|(which, durable)| Step::Settle(which, durable)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// Whatever the order: an answer has its durable outcome, and a held message is not submitted again.
    #[test]
    fn answers_follow_what_is_durable(
        is_v5: bool,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let version = if is_v5 { Version::V5 } else { Version::V3 };
        let mut session = session_with(version, vec![]);
        let mut waiting: Vec<(u64, Request)> = Vec::new();
        // Durable releases whose PUBCOMP is still to come.
        let mut released: BTreeMap<u16, u32> = BTreeMap::new();
        let mut held: BTreeSet<u16> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Publish(qos, number) => {
                    let qos = if qos == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                    session.handle_packet(Duration::ZERO, publish("a/b", qos, Some(number)));
                }
                Step::Release(number) => {
                    session.handle_packet(Duration::ZERO, Inbound::Release(id(number)));
                }
                Step::Settle(which, durable) if !waiting.is_empty() => {
                    let (ticket, request) = waiting.remove(which.index(waiting.len()));
                    let outcome = if durable { Outcome::Durable } else { Outcome::Lost };
                    match request {
                        Request::Publish { payload, held: Some(number), .. } if durable => {
                            prop_assert_eq!(&payload[..], b"x");
                            prop_assert!(held.insert(number.get()), "{} stored twice", number);
                        }
                        Request::Release { packet_id, .. } if durable => {
                            *released.entry(packet_id.get()).or_default() += 1;
                        }
                        _ => {}
                    }
                    session.handle_outcome(ticket, outcome);
                }
                Step::Settle(..) => {}
            }
            while let Some(request) = session.poll_request() {
                let (Request::Publish { ticket, .. } | Request::Release { ticket, .. }) = request;
                if let Request::Publish { held: Some(number), .. } = &request {
                    prop_assert!(!held.contains(&number.get()), "{} submitted again", number);
                }
                waiting.push((ticket, request));
            }
            for packet in packets(&mut session) {
                match packet {
                    Outbound::Received(number, None) => {
                        prop_assert!(held.contains(&number.get()), "PUBREC {} too early", number);
                    }
                    Outbound::Complete { packet_id, is_known: true } => {
                        let left = released.entry(packet_id.get()).or_default();
                        prop_assert!(*left > 0, "PUBCOMP {} too early", packet_id);
                        *left -= 1;
                        // Only now may the client use the id again (MQTT 5, 4.3.3).
                        held.remove(&packet_id.get());
                    }
                    _ => {}
                }
            }
            if session.ended().is_some() {
                break;
            }
        }
    }
}
