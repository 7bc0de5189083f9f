//! The two packets that come by the thousand: a plain PUBLISH in, a plain PUBACK out.
//!
//! What is out of the ordinary (properties, an alias, a fault) is left to the codec crate, whose answer is
//! the same for all that is read here; a property test compares them. Keeps nothing of the bytes that it is given.

use super::codec::{Frame, frame};
use super::packet::{Publish, Version};
use crate::submission::QoS;
use bytes::{BufMut, Bytes, BytesMut};
use std::num::NonZeroU16;
use std::sync::Arc;

/// Packet type of PUBLISH in the first byte's upper half.
pub(super) const PUBLISH: u8 = 3;
const PUBACK_BYTE: u8 = 0x40;

/// Reads a whole packet; `None` sends it to the codec crate. `last`: the topic of the packet before, which most
/// clients stay with.
pub(super) fn publish(packet: &[u8], version: Version, last: &mut Arc<str>) -> Option<Publish> {
    let first = *packet.first().filter(|first| **first >> 4 == PUBLISH)?;
    let Ok(Frame::Length { head, body }) = frame(packet) else { return None };
    let rest = packet.get(head..).filter(|rest| rest.len() == body)?;
    let qos = match (first >> 1) & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        _ => return None,
    };
    let (length, rest) = rest.split_first_chunk()?;
    let (topic, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    if topic.is_empty() {
        return None;
    }
    let mut packet_id = None;
    if qos != QoS::AtMostOnce {
        let (id, after) = rest.split_first_chunk()?;
        (packet_id, rest) = (Some(NonZeroU16::new(u16::from_be_bytes(*id))?), after);
    }
    if version == Version::V5 {
        let (properties, after) = rest.split_first()?;
        if *properties != 0 {
            return None;
        }
        rest = after;
    }
    if topic != last.as_bytes() {
        *last = Arc::from(std::str::from_utf8(topic).ok()?);
    }
    Some(Publish {
        topic: last.clone(),
        alias: None,
        // A copy of its own, so that a small message does not keep a large buffer alive.
        payload: Bytes::copy_from_slice(rest),
        qos,
        packet_id,
        retain: first & 1 != 0,
        properties: None,
        expiry_s: None,
    })
}

/// Writes a PUBACK that says success, which both versions write alike (MQTT 5, 3.4.2.1).
pub(super) fn puback(packet_id: NonZeroU16, out: &mut BytesMut) {
    let [high, low] = packet_id.get().to_be_bytes();
    out.put_slice(&[PUBACK_BYTE, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::PacketCodec;
    use crate::mqtt::packet::Inbound;
    use proptest::prelude::*;

    fn check(packet: &[u8], version: Version, last: &str) -> bool {
        let mut last = Arc::from(last);
        let Some(ours) = publish(packet, version, &mut last) else { return false };
        let theirs = PacketCodec::new(version).decode_any(packet);
        let Ok(Inbound::Publish(theirs)) = theirs else {
            panic!("the codec crate does not take {packet:?}")
        };
        assert_eq!(ours, theirs);
        assert_eq!(last, ours.topic);
        true
    }

    #[test]
    fn plain_messages_are_read_here() {
        let both = [Version::V3, Version::V5];
        for (version, none) in both.into_iter().zip([&[][..], &[0]]) {
            for (first, id) in [(0x30, &[][..]), (0x31, &[]), (0x3a, &[0, 7]), (0x34, &[1, 0])] {
                let body = [&[0, 3][..], b"a/b", id, none, b"payload"].concat();
                let length = u8::try_from(body.len()).unwrap();
                let packet = [&[first, length][..], &body].concat();
                assert!(check(&packet, version, "a/b") && check(&packet, version, "else"));
            }
        }
    }

    #[test]
    fn all_else_is_left_to_the_codec_crate() {
        let check = |version, packet: &[u8]| {
            assert!(publish(packet, version, &mut Arc::from("a")).is_none(), "{packet:?}");
        };
        let both = [Version::V3, Version::V5];
        for version in both {
            check(version, &[]);
            check(version, &[0xc0, 0]);
            check(version, &[0x36, 5, 0, 1, b'a', 0, 1]);
            check(version, &[0x32, 5, 0, 1, b'a', 0, 0]);
            check(version, &[0x30, 2, 0, 0]);
            check(version, &[0x30, 3, 0, 9, b'a']);
            check(version, &[0x30, 4, 0, 1, b'a']);
        }
        check(Version::V5, &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 1]);
        check(Version::V3, &[0x30, 3, 0, 1, 0xff]);
    }

    #[test]
    fn a_plain_puback_is_read_as_success() {
        let mut out = BytesMut::new();
        puback(NonZeroU16::new(0x1234).unwrap(), &mut out);
        assert_eq!(out[..], [0x40, 2, 0x12, 0x34]);
    }

    proptest! {
        #[test]
        fn what_is_read_here_the_codec_crate_reads_alike(
            flags in 0_u8..16,
            topic in prop::collection::vec(prop_oneof![Just(b'a'), Just(b'/'), any::<u8>()], 0..5),
            rest in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..8),
            is_v5 in any::<bool>(),
        ) {
            let body = [&[0, u8::try_from(topic.len()).unwrap()][..], &topic, &rest].concat();
            let head = [PUBLISH << 4 | flags, u8::try_from(body.len()).unwrap()];
            let version = if is_v5 { Version::V5 } else { Version::V3 };
            check(&[&head[..], &body].concat(), version, "a");
        }
    }
}
