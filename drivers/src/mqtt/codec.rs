//! From and to bytes. rmqtt-codec reads and writes bodies; the frame around them is cut here.
//!
//! The codec's own framing reserves memory for a length that was only announced, so it is handed whole
//! packets whose length was checked.

use super::frequent;
use super::limits::OUT_WINDOW_DEFAULT;
use super::message::{Message, Properties};
use super::packet::{
    Connect, ConnectRefusal, Delivery, Goodbye, Inbound, Outbound, Publish, RetainHandling,
    SubscribeRefusal, SubscriptionOptions, Version, Will, Wish,
};
use crate::submission::{QoS, RefuseReason};
use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::{DecodeError, EncodeError};
use rmqtt_codec::{types, v3, v5};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use tokio_util::codec::{Decoder, Encoder};
use zeroize::Zeroizing;

const CONNECT_BYTE: u8 = 0x10;
/// Reason codes from this one on are errors (MQTT 5, 2.4).
const FIRST_ERROR: u8 = 0x80;
/// Longest text that we put into a packet.
const REASON_BYTES_MAX: usize = 256;

impl Outbound {
    /// The same without its explanation; `None` when it has none.
    fn without_reason(&self) -> Option<v5::Packet> {
        let bare = |packet_id, reason| (packet_id, Some((reason, String::new())));
        let (is_puback, (packet_id, refusal)) = match self {
            Self::Acknowledge(packet_id, Some((reason, _))) => (true, bare(*packet_id, *reason)),
            Self::Received(packet_id, Some((reason, _))) => (false, bare(*packet_id, *reason)),
            _ => return None,
        };
        let ack = v5::PublishAck { reason_string: None, ..acknowledgement(packet_id, refusal) };
        Some(match is_puback {
            true => v5::Packet::PublishAck(ack),
            false => v5::Packet::PublishReceived(ack),
        })
    }
}

/// Where a packet ends, as far as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The length is not there yet.
    Incomplete,
    /// Bytes of the fixed header, and of what follows.
    Length { head: usize, body: usize },
}

/// The peer sent what is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("malformed packet: {0}")]
    Packet(String),
    /// Well-formed, but the standard wants it refused (MQTT 3.1.1, 3.1.3-8).
    #[error("a client without id asks for a session that outlives its connection")]
    NoClientId(Version),
}

/// Reads the fixed header (MQTT 5, section 2.1).
pub(super) fn frame(bytes: &[u8]) -> Result<Frame, Malformed> {
    let mut body = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        body |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Frame::Length { head: index + 2, body });
        }
    }
    match bytes.len() {
        0..=4 => Ok(Frame::Incomplete),
        _ => Err(Malformed::Packet("a length of more than four bytes".to_owned())),
    }
}

/// The version that a whole CONNECT packet asks for.
pub(super) fn version(packet: &[u8]) -> Result<Version, Malformed> {
    let bad = |why: &str| Malformed::Packet(why.to_owned());
    let Frame::Length { head, .. } = frame(packet)? else { return Err(bad("too short")) };
    if packet[0] != CONNECT_BYTE {
        return Err(bad("the first packet must be CONNECT"));
    }
    match packet.get(head..head + 7) {
        Some([0, 4, b'M', b'Q', b'T', b'T', 4]) => Ok(Version::V3),
        Some([0, 4, b'M', b'Q', b'T', b'T', 5]) => Ok(Version::V5),
        _ => Err(bad("this listener speaks MQTT 3.1.1 and 5")),
    }
}

/// What to say to a CONNECT of a protocol level that is not spoken here (MQTT 3.1.1, 3.1.2.2; 5, 3.1.2.2).
pub(super) fn unknown_level(packet: &[u8]) -> Option<&'static [u8]> {
    let Ok(Frame::Length { head, .. }) = frame(packet) else { return None };
    let rest = packet.get(head..).filter(|_| packet[0] == CONNECT_BYTE)?;
    match rest {
        [0, 4, b'M', b'Q', b'T', b'T', 4 | 5, ..] => None,
        // Later versions may understand the reason code of version 5.
        [0, 4, b'M', b'Q', b'T', b'T', 6..=255, ..] => Some(b"\x20\x03\x00\x84\x00"),
        [0, 4, b'M', b'Q', b'T', b'T', ..] | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            Some(b"\x20\x02\x00\x01")
        }
        _ => None,
    }
}

/// CONNACK for a client that gave no id and may not go without.
pub(super) fn no_client_id(version: Version) -> &'static [u8] {
    match version {
        Version::V3 => b"\x20\x02\x00\x02",
        Version::V5 => b"\x20\x03\x00\x85\x00",
    }
}

/// Codec of one connection, once its version is known.
pub(super) struct PacketCodec {
    of_version: OfVersion,
    /// Topic of the last plain PUBLISH.
    topic: Arc<str>,
}

enum OfVersion {
    V3(v3::Codec),
    V5(v5::Codec),
}

impl PacketCodec {
    pub(super) fn new(version: Version) -> Self {
        let of_version = match version {
            Version::V3 => OfVersion::V3(v3::Codec::new(0)),
            Version::V5 => OfVersion::V5(v5::Codec::new(0, 0)),
        };
        Self { of_version, topic: Arc::from("") }
    }

    fn version(&self) -> Version {
        match self.of_version {
            OfVersion::V3(_) => Version::V3,
            OfVersion::V5(_) => Version::V5,
        }
    }

    /// Reads one whole packet. Keeps nothing of its memory.
    pub(super) fn decode(&mut self, packet: &[u8]) -> Result<Inbound, Malformed> {
        match frequent::publish(packet, self.version(), &mut self.topic) {
            Some(publish) => Ok(Inbound::Publish(publish)),
            None => self.decode_any(packet),
        }
    }

    pub(super) fn decode_any(&mut self, packet: &[u8]) -> Result<Inbound, Malformed> {
        let version = self.version();
        let bad = |fault: DecodeError| match fault {
            DecodeError::InvalidClientId => Malformed::NoClientId(version),
            fault => Malformed::Packet(fault.to_string()),
        };
        let missing = || Malformed::Packet("the packet is not whole".to_owned());
        let mut packet = BytesMut::from(packet);
        match &mut self.of_version {
            OfVersion::V3(codec) => {
                let (packet, _) = codec.decode(&mut packet).map_err(bad)?.ok_or_else(missing)?;
                Ok(from_v3(packet))
            }
            OfVersion::V5(codec) => {
                let (packet, _) = codec.decode(&mut packet).map_err(bad)?.ok_or_else(missing)?;
                Ok(from_v5(packet))
            }
        }
    }

    /// Writes one packet; one that its version does not have is left out. `false` when the client does
    /// not take it because of its length.
    pub(super) fn encode(
        &mut self,
        packet: Outbound,
        limit: Advertised,
        out: &mut BytesMut,
    ) -> bool {
        if let Outbound::Acknowledge(packet_id, None) = packet {
            frequent::puback(packet_id, out);
            return true;
        }
        let before = out.len();
        let written = match &mut self.of_version {
            OfVersion::V3(codec) => match to_v3(packet) {
                Some(packet) => codec.encode(packet, out),
                None => Ok(()),
            },
            OfVersion::V5(codec) => {
                let short = packet.without_reason();
                match (codec.encode(to_v5(packet, limit), out), short) {
                    // An explanation that does not fit is left out (MQTT 5, 3.4.2.2.2).
                    (Err(EncodeError::OverMaxPacketSize { .. }), Some(short)) => {
                        out.truncate(before);
                        codec.encode(short, out)
                    }
                    (written, _) => written,
                }
            }
        };
        match written {
            Ok(()) => return true,
            Err(EncodeError::OverMaxPacketSize { size, max }) => {
                tracing::debug!(size, max, "a packet is longer than its client takes");
            }
            Err(fault) => tracing::warn!(%fault, "a packet could not be written"),
        }
        out.truncate(before);
        false
    }

    pub(super) fn set_packet_bytes_max(&mut self, limit: u32) {
        if let OfVersion::V5(codec) = &mut self.of_version {
            codec.set_max_outbound_size(limit);
        }
    }
}

/// What CONNACK tells a version 5 client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Advertised {
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: usize,
    pub(super) topic_aliases_max: u16,
}

fn qos(qos: types::QoS) -> QoS {
    match qos {
        types::QoS::AtMostOnce => QoS::AtMostOnce,
        types::QoS::AtLeastOnce => QoS::AtLeastOnce,
        types::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn publish(publish: types::Publish) -> Inbound {
    let (alias, expiry_s, properties) = match publish.properties {
        None => (None, None, None),
        Some(properties) => (
            properties.topic_alias,
            properties.message_expiry_interval.map(NonZeroU32::get),
            shared(Properties {
                is_text: properties.is_utf8_payload,
                content_type: properties.content_type.map(boxed),
                response_topic: properties.response_topic.map(boxed),
                correlation: properties.correlation_data,
                user: user(properties.user_properties),
            }),
        ),
    };
    Inbound::Publish(Publish {
        topic: Arc::from(&*publish.topic),
        alias,
        payload: publish.payload,
        qos: qos(publish.qos),
        packet_id: publish.packet_id,
        retain: publish.retain,
        properties,
        expiry_s,
    })
}

fn boxed(text: impl AsRef<str>) -> Box<str> {
    text.as_ref().into()
}

fn user(properties: v5::UserProperties) -> Vec<(Box<str>, Box<str>)> {
    properties.into_iter().map(|(name, value)| (boxed(&*name), boxed(&*value))).collect()
}

/// Nothing to be shared costs nothing.
fn shared(properties: Properties) -> Option<Arc<Properties>> {
    (properties != Properties::default()).then(|| Arc::new(properties))
}

fn will_v3(will: v3::LastWill) -> Will {
    let message = Message {
        topic: Arc::from(&*will.topic),
        payload: will.message,
        qos: qos(will.qos),
        retain: will.retain,
        properties: None,
        expiry_s: None,
    };
    Will { message, delay_s: 0 }
}

fn will_v5(will: v5::LastWill) -> Will {
    let message = Message {
        topic: Arc::from(&*will.topic),
        payload: will.message,
        qos: qos(will.qos),
        retain: will.retain,
        properties: shared(Properties {
            is_text: will.is_utf8_payload.unwrap_or(false),
            content_type: will.content_type.map(boxed),
            response_topic: will.response_topic.map(boxed),
            correlation: will.correlation_data,
            user: user(will.user_properties),
        }),
        expiry_s: will.message_expiry_interval.map(NonZeroU32::get),
    };
    Will { message, delay_s: will.will_delay_interval_sec.unwrap_or(0) }
}

fn wish_v3(filter: &str, level: types::QoS) -> Wish {
    let options = SubscriptionOptions {
        qos: qos(level),
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    };
    Wish { filter: filter.to_string(), options }
}

fn wish_v5(filter: &str, options: v5::SubscriptionOptions) -> Wish {
    let retain_handling = match options.retain_handling {
        v5::RetainHandling::AtSubscribe => RetainHandling::Always,
        v5::RetainHandling::AtSubscribeNew => RetainHandling::OnlyNew,
        v5::RetainHandling::NoAtSubscribe => RetainHandling::Never,
    };
    let options = SubscriptionOptions {
        qos: qos(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling,
    };
    Wish { filter: filter.to_string(), options }
}

fn password(bytes: Option<Bytes>) -> Option<Zeroizing<Vec<u8>>> {
    bytes.map(|bytes| Zeroizing::new(bytes.to_vec()))
}

fn from_v3(packet: v3::Packet) -> Inbound {
    use v3::Packet as P;
    match packet {
        P::Connect(connect) => Inbound::Connect(Box::new(Connect {
            client_id: connect.client_id.to_string(),
            clean: connect.clean_session,
            keep_alive_s: connect.keep_alive,
            user: connect.username.map(|name| name.to_string()),
            password: password(connect.password),
            will: connect.last_will.map(will_v3),
            receive_maximum: OUT_WINDOW_DEFAULT,
            topic_aliases_max: 0,
            session_expiry_s: if connect.clean_session { 0 } else { u32::MAX },
            packet_bytes_max: None,
            wants_extended_auth: false,
        })),
        P::Publish(message) => publish(*message),
        P::PublishRelease { packet_id } => Inbound::Release(packet_id),
        P::Subscribe { packet_id, topic_filters } => Inbound::Subscribe {
            packet_id,
            filters: topic_filters.iter().map(|(filter, level)| wish_v3(filter, *level)).collect(),
            identifier: None,
        },
        P::Unsubscribe { packet_id, topic_filters } => Inbound::Unsubscribe {
            packet_id,
            filters: topic_filters.iter().map(ToString::to_string).collect(),
        },
        P::PingRequest => Inbound::Ping,
        P::Disconnect => Inbound::Disconnect { with_will: false, session_expiry_s: None },
        P::PublishAck { packet_id } => Inbound::Acknowledged(packet_id),
        P::PublishReceived { packet_id } => Inbound::Received(packet_id, true),
        P::PublishComplete { packet_id } => Inbound::Completed(packet_id),
        _ => Inbound::Unexpected("a packet that only servers send"),
    }
}

fn from_v5(packet: v5::Packet) -> Inbound {
    use v5::Packet as P;
    match packet {
        P::Connect(connect) => Inbound::Connect(Box::new(Connect {
            client_id: connect.client_id.to_string(),
            clean: connect.clean_start,
            keep_alive_s: connect.keep_alive,
            user: connect.username.map(|name| name.to_string()),
            password: password(connect.password),
            will: connect.last_will.map(will_v5),
            receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
            topic_aliases_max: connect.topic_alias_max,
            session_expiry_s: connect.session_expiry_interval_secs,
            packet_bytes_max: connect.max_packet_size.map(|limit| limit.get()),
            wants_extended_auth: connect.auth_method.is_some(),
        })),
        P::Publish(message) => publish(*message),
        P::PublishRelease(release) => Inbound::Release(release.packet_id),
        P::Subscribe(subscribe) => Inbound::Subscribe {
            packet_id: subscribe.packet_id,
            identifier: subscribe.id,
            filters: subscribe
                .topic_filters
                .iter()
                .map(|(filter, options)| wish_v5(filter, *options))
                .collect(),
        },
        P::Unsubscribe(unsubscribe) => Inbound::Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters.iter().map(ToString::to_string).collect(),
        },
        P::PingRequest => Inbound::Ping,
        P::Disconnect(disconnect) => Inbound::Disconnect {
            with_will: disconnect.reason_code
                == v5::DisconnectReasonCode::DisconnectWithWillMessage,
            session_expiry_s: disconnect.session_expiry_interval_secs,
        },
        P::Auth(_) => Inbound::Unexpected("AUTH, which was not agreed on"),
        // What the client refuses is as finished as what it takes.
        P::PublishAck(ack) => Inbound::Acknowledged(ack.packet_id),
        P::PublishReceived(ack) => {
            Inbound::Received(ack.packet_id, u8::from(ack.reason_code) < FIRST_ERROR)
        }
        P::PublishComplete(ack) => Inbound::Completed(ack.packet_id),
        _ => Inbound::Unexpected("a packet that only servers send"),
    }
}

fn codec_qos(qos: QoS) -> types::QoS {
    match qos {
        QoS::AtMostOnce => types::QoS::AtMostOnce,
        QoS::AtLeastOnce => types::QoS::AtLeastOnce,
        QoS::ExactlyOnce => types::QoS::ExactlyOnce,
    }
}

fn message(delivery: Delivery, has_properties: bool) -> types::Publish {
    let Delivery { message, qos, packet_id, retain, is_repeated, alias, .. } = &delivery;
    let is_known = has_properties && alias.is_some_and(|alias| alias.is_known);
    let topic = if is_known { "" } else { &message.topic };
    types::Publish {
        dup: *is_repeated,
        retain: *retain,
        qos: codec_qos(*qos),
        topic: topic.into(),
        packet_id: *packet_id,
        payload: message.payload.clone(),
        properties: has_properties.then(|| properties(&delivery)),
    }
}

fn properties(delivery: &Delivery) -> v5::PublishProperties {
    let none = Properties::default();
    let given = delivery.message.properties.as_deref().unwrap_or(&none);
    v5::PublishProperties {
        topic_alias: delivery.alias.map(|alias| alias.number),
        correlation_data: given.correlation.clone(),
        message_expiry_interval: delivery.expiry_s.and_then(NonZeroU32::new),
        content_type: given.content_type.as_deref().map(Into::into),
        user_properties: given
            .user
            .iter()
            .map(|(name, value)| ((&**name).into(), (&**value).into()))
            .collect(),
        is_utf8_payload: given.is_text,
        response_topic: given.response_topic.as_deref().map(Into::into),
        subscription_ids: delivery.identifiers.clone(),
    }
}

/// `None`: version 3.1.1 has no such packet; the connection is just closed.
fn to_v3(packet: Outbound) -> Option<v3::Packet> {
    use v3::Packet as P;
    Some(match packet {
        Outbound::Accepted { session_present, .. } => P::ConnectAck(v3::ConnectAck {
            return_code: v3::ConnectAckReason::ConnectionAccepted,
            session_present,
        }),
        Outbound::TurnedAway(refusal) => {
            let return_code = match refusal {
                ConnectRefusal::ClientId => v3::ConnectAckReason::IdentifierRejected,
                ConnectRefusal::Credentials => v3::ConnectAckReason::BadUserNameOrPassword,
                ConnectRefusal::ExtendedAuth
                | ConnectRefusal::WillTooLarge
                | ConnectRefusal::WillTopic => v3::ConnectAckReason::NotAuthorized,
                ConnectRefusal::Busy | ConnectRefusal::Full => {
                    v3::ConnectAckReason::ServiceUnavailable
                }
            };
            P::ConnectAck(v3::ConnectAck { return_code, session_present: false })
        }
        // The version has no refusal: the session decides whether to acknowledge or to close.
        Outbound::Acknowledge(packet_id, _) => P::PublishAck { packet_id },
        Outbound::Received(packet_id, _) => P::PublishReceived { packet_id },
        Outbound::Complete { packet_id, .. } => P::PublishComplete { packet_id },
        Outbound::Subscribed(packet_id, granted) => {
            let status = granted.into_iter().map(|granted| match granted {
                Ok(qos) => v3::SubscribeReturnCode::Success(codec_qos(qos)),
                Err(_) => v3::SubscribeReturnCode::Failure,
            });
            P::SubscribeAck { packet_id, status: status.collect() }
        }
        Outbound::Unsubscribed(packet_id, _) => P::UnsubscribeAck { packet_id },
        Outbound::Pong => P::PingResponse,
        Outbound::Release { packet_id, .. } => P::PublishRelease { packet_id },
        Outbound::Message(delivery) => P::Publish(Box::new(message(*delivery, false))),
        Outbound::Goodbye(_) => return None,
    })
}

fn acknowledgement(
    packet_id: NonZeroU16,
    refusal: Option<(RefuseReason, String)>,
) -> v5::PublishAck {
    let mut ack = v5::PublishAck { packet_id, ..v5::PublishAck::default() };
    if let Some((reason, mut text)) = refusal {
        ack.reason_code = match reason {
            RefuseReason::Quota => v5::PublishAckReason::QuotaExceeded,
            RefuseReason::NotAuthorized => v5::PublishAckReason::NotAuthorized,
            RefuseReason::PayloadInvalid => v5::PublishAckReason::PayloadFormatInvalid,
        };
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
        ack.reason_string = Some(text.into());
    }
    ack
}

fn second_half(packet_id: NonZeroU16, is_known: bool) -> v5::PublishAck2 {
    let reason_code = match is_known {
        true => v5::PublishAck2Reason::Success,
        false => v5::PublishAck2Reason::PacketIdNotFound,
    };
    v5::PublishAck2 { packet_id, reason_code, ..v5::PublishAck2::default() }
}

fn accepted(
    session_present: bool,
    keep_alive_s: Option<u16>,
    assigned_id: Option<&Arc<str>>,
    limit: Advertised,
) -> v5::Packet {
    v5::Packet::ConnectAck(Box::new(v5::ConnectAck {
        session_present,
        receive_max: NonZeroU16::new(limit.receive_maximum).unwrap_or(NonZeroU16::MIN),
        max_packet_size: u32::try_from(limit.packet_bytes_max).ok(),
        topic_alias_max: limit.topic_aliases_max,
        server_keepalive_sec: keep_alive_s,
        assigned_client_id: assigned_id.map(|id| id.to_string().into()),
        ..v5::ConnectAck::default()
    }))
}

fn to_v5(packet: Outbound, limit: Advertised) -> v5::Packet {
    use v5::Packet as P;
    match packet {
        Outbound::Accepted { session_present, keep_alive_s, assigned_id } => {
            accepted(session_present, keep_alive_s, assigned_id.as_ref(), limit)
        }
        Outbound::TurnedAway(refusal) => {
            let reason_code = match refusal {
                ConnectRefusal::ClientId => v5::ConnectAckReason::ClientIdentifierNotValid,
                ConnectRefusal::Credentials => v5::ConnectAckReason::BadUserNameOrPassword,
                ConnectRefusal::ExtendedAuth => v5::ConnectAckReason::BadAuthenticationMethod,
                ConnectRefusal::WillTooLarge => v5::ConnectAckReason::PacketTooLarge,
                ConnectRefusal::WillTopic => v5::ConnectAckReason::TopicNameInvalid,
                ConnectRefusal::Busy => v5::ConnectAckReason::ServerBusy,
                ConnectRefusal::Full => v5::ConnectAckReason::QuotaExceeded,
            };
            P::ConnectAck(Box::new(v5::ConnectAck { reason_code, ..v5::ConnectAck::default() }))
        }
        Outbound::Acknowledge(packet_id, refusal) => {
            P::PublishAck(acknowledgement(packet_id, refusal))
        }
        Outbound::Received(packet_id, refusal) => {
            P::PublishReceived(acknowledgement(packet_id, refusal))
        }
        Outbound::Complete { packet_id, is_known } => {
            P::PublishComplete(second_half(packet_id, is_known))
        }
        Outbound::Release { packet_id, is_known } => {
            P::PublishRelease(second_half(packet_id, is_known))
        }
        Outbound::Subscribed(packet_id, granted) => P::SubscribeAck(v5::SubscribeAck {
            packet_id,
            properties: Vec::default(),
            reason_string: None,
            status: granted
                .into_iter()
                .map(|granted| match granted {
                    Ok(QoS::AtMostOnce) => v5::SubscribeAckReason::GrantedQos0,
                    Ok(QoS::AtLeastOnce) => v5::SubscribeAckReason::GrantedQos1,
                    Ok(QoS::ExactlyOnce) => v5::SubscribeAckReason::GrantedQos2,
                    // 0x80, as for 3.1.1: no more is told about topics that are not for this client.
                    Err(SubscribeRefusal::NotAuthorized) => {
                        v5::SubscribeAckReason::UnspecifiedError
                    }
                    Err(SubscribeRefusal::Filter) => v5::SubscribeAckReason::TopicFilterInvalid,
                    Err(SubscribeRefusal::Quota) => v5::SubscribeAckReason::QuotaExceeded,
                })
                .collect(),
        }),
        Outbound::Unsubscribed(packet_id, known) => P::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id,
            properties: Vec::default(),
            reason_string: None,
            status: known
                .into_iter()
                .map(|known| match known {
                    true => v5::UnsubscribeAckReason::Success,
                    false => v5::UnsubscribeAckReason::NoSubscriptionExisted,
                })
                .collect(),
        }),
        Outbound::Pong => P::PingResponse,
        Outbound::Message(delivery) => P::Publish(Box::new(message(*delivery, true))),
        Outbound::Goodbye(goodbye) => P::Disconnect(v5::Disconnect {
            reason_code: goodbye_code(goodbye),
            ..v5::Disconnect::default()
        }),
    }
}

fn goodbye_code(goodbye: Goodbye) -> v5::DisconnectReasonCode {
    use v5::DisconnectReasonCode as Code;
    match goodbye {
        Goodbye::Malformed => Code::MalformedPacket,
        Goodbye::Protocol => Code::ProtocolError,
        Goodbye::TooLarge => Code::PacketTooLarge,
        Goodbye::TopicName => Code::TopicNameInvalid,
        Goodbye::TopicAlias => Code::TopicAliasInvalid,
        Goodbye::ReceiveMaximum => Code::ReceiveMaximumExceeded,
        Goodbye::KeepAlive => Code::KeepAliveTimeout,
        Goodbye::TakenOver => Code::SessionTakenOver,
        Goodbye::Stopping => Code::ServerShuttingDown,
        Goodbye::Busy => Code::ServerBusy,
    }
}
