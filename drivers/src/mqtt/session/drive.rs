//! A whole connection in memory: bytes in, bytes out, an engine that takes everything.

use super::{Request, Session, SessionConfig};
use crate::mqtt::auth::Rights;
use crate::mqtt::codec::{Advertised, Frame, PacketCodec, frame, version};
use crate::mqtt::filter::TopicFilter;
use crate::mqtt::limits::TOPIC_ALIASES_MAX;
use crate::submission::Outcome;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;

/// Feeds bytes as one client would send them; returns how many messages were submitted. For fuzzing:
/// it must return, whatever the bytes are.
pub fn drive(mut bytes: &[u8]) -> usize {
    let all = || vec![TopicFilter::parse("#").expect("a valid filter")];
    let rights = Arc::new(Rights { publish: all(), subscribe: all() });
    let mut connected: Option<(PacketCodec, Session)> = None;
    let limit = Advertised {
        receive_maximum: 8,
        packet_bytes_max: 1 << 16,
        topic_aliases_max: TOPIC_ALIASES_MAX,
    };
    let (mut submitted, mut out) = (0, BytesMut::new());
    while let Ok(Frame::Length { head, body }) = frame(bytes)
        && body <= limit.packet_bytes_max
        && head + body <= bytes.len()
    {
        let (packet, rest) = bytes.split_at(head + body);
        bytes = rest;
        let Some((codec, session)) = &mut connected else {
            let Ok(version) = version(packet) else { break };
            let mut codec = PacketCodec::new(version);
            if codec.decode(&mut BytesMut::from(packet)).is_err() {
                break;
            }
            let config = SessionConfig {
                version,
                rights: rights.clone(),
                receive_maximum: limit.receive_maximum,
                keep_alive: None,
                held: Vec::new(),
            };
            connected = Some((codec, Session::new(Duration::ZERO, config)));
            continue;
        };
        let Ok(inbound) = codec.decode(&mut BytesMut::from(packet)) else { break };
        session.handle_packet(Duration::ZERO, inbound);
        while let Some(request) = session.poll_request() {
            let (Request::Publish { ticket, .. } | Request::Release { ticket, .. }) = request;
            submitted += 1;
            session.handle_outcome(ticket, Outcome::Durable);
        }
        while let Some(packet) = session.poll_packet() {
            codec.encode(packet, limit, &mut out);
            out.clear();
        }
        if session.ended().is_some() {
            break;
        }
    }
    submitted
}
