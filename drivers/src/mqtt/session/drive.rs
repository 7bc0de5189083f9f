//! A whole connection in memory: bytes in, bytes out, an engine that takes everything.

use super::{Durable, Request, Session, SessionConfig};
use crate::mqtt::auth::Rights;
use crate::mqtt::codec::{Advertised, Frame, PacketCodec, frame, version};
use crate::mqtt::exchange::{Exchange, Opened, Opening, Reply};
use crate::mqtt::filter::TopicFilter;
use crate::mqtt::limits::TOPIC_ALIASES_MAX;
use crate::mqtt::packet::Version;
use crate::submission::Outcome;
use bytes::BytesMut;
use guan_model::WallTime;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const NOW: WallTime = WallTime(0);

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
    let (mut exchange, client) = (Exchange::default(), Arc::from("one"));
    while let Ok(Frame::Length { head, body }) = frame(bytes)
        && body <= limit.packet_bytes_max
        && head + body <= bytes.len()
    {
        let (packet, rest) = bytes.split_at(head + body);
        bytes = rest;
        let Some((codec, session)) = &mut connected else {
            let Ok(version) = version(packet) else { break };
            let mut codec = PacketCodec::new(version);
            if codec.decode(packet).is_err() {
                break;
            }
            let (config, opening) = configs(version, &rights, limit);
            if exchange.open(&client, false, opening).is_err() {
                break;
            }
            connected = Some((codec, Session::new(Duration::ZERO, config)));
            continue;
        };
        let Ok(inbound) = codec.decode(packet) else { break };
        session.handle_packet(Duration::ZERO, inbound);
        while let Some(request) = session.poll_request() {
            let (Request::Publish { ticket, .. } | Request::Release { ticket, .. }) = request;
            submitted += 1;
            session.handle_outcome(ticket, Outcome::Durable);
        }
        while let Some(Durable { message, held }) = session.poll_durable() {
            exchange.publish(&client, held, &message, NOW);
            session.handle_passed_on(None);
        }
        while let Some(ask) = session.poll_ask() {
            match exchange.handle(&client, ask, NOW) {
                Reply::Packet(packet) => session.handle_answer(packet, None),
                Reply::Unmarked(id) => session.handle_unmarked(id, None),
                Reply::News => {}
            }
        }
        while let Some(packet) = session.poll_packet() {
            codec.encode(packet, limit, &mut out);
            out.clear();
        }
        while let Some(mut packet) = exchange.next(&client, NOW) {
            session.shorten(&mut packet);
            codec.encode(packet, limit, &mut out);
            out.clear();
        }
        if session.ended().is_some() {
            break;
        }
    }
    let recovered = Exchange::recover(&[exchange.snapshot()], NOW);
    assert_eq!(recovered.err(), None, "what was accepted can be stored");
    submitted
}

fn configs(version: Version, rights: &Arc<Rights>, limit: Advertised) -> (SessionConfig, Opening) {
    let config = SessionConfig {
        version,
        rights: rights.clone(),
        receive_maximum: limit.receive_maximum,
        keep_alive: None,
        held: Vec::new(),
        opened: Opened::default(),
        waiting_bytes_max: limit.packet_bytes_max,
        out_aliases_max: u16::MAX,
    };
    let opening = Opening {
        connection: 1,
        rights: rights.clone(),
        expiry_s: u32::MAX,
        window: limit.receive_maximum,
        news: Arc::default(),
        held: BTreeSet::new(),
    };
    (config, opening)
}
