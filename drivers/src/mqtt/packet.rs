//! What both versions of MQTT say, as one set of values.

use super::super::submission::{QoS, RefuseReason};
use super::message::{Message, Properties};
use bytes::Bytes;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Protocol level of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1.1.
    V3,
    V5,
}

/// CONNECT.
pub(super) struct Connect {
    pub(super) client_id: String,
    pub(super) clean: bool,
    pub(super) keep_alive_s: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Zeroizing<Vec<u8>>>,
    pub(super) will: Option<Will>,
    /// Messages of QoS 1 and 2 that the client takes without answering.
    pub(super) receive_maximum: u16,
    /// Names of topics that it lets us shorten.
    pub(super) topic_aliases_max: u16,
    /// Seconds that the session outlives the connection.
    pub(super) session_expiry_s: u32,
    /// Longest packet that the client takes.
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) wants_extended_auth: bool,
}

/// What is published for a client that vanishes.
#[derive(Debug, Clone)]
pub(super) struct Will {
    pub(super) message: Message,
    /// Seconds after the connection's end.
    pub(super) delay_s: u32,
}

/// PUBLISH from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publish {
    /// May be empty when an alias stands for it.
    pub(super) topic: Arc<str>,
    pub(super) alias: Option<NonZeroU16>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) retain: bool,
    pub(super) properties: Option<Arc<Properties>>,
    pub(super) expiry_s: Option<u32>,
}

/// One filter of SUBSCRIBE.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) filter: String,
    pub(super) options: SubscriptionOptions,
}

/// How a subscription wants its messages (MQTT 5, 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubscriptionOptions {
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: RetainHandling,
}

/// Whether a new subscription gets what is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetainHandling {
    Always,
    OnlyNew,
    Never,
}

/// Why a subscription is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscribeRefusal {
    /// No topic that it could match may be read by this client.
    NotAuthorized,
    Filter,
    Quota,
}

/// A message on its way to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) message: Message,
    /// The lower of the message's and the subscription's.
    pub(super) qos: QoS,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) retain: bool,
    pub(super) is_repeated: bool,
    pub(super) identifiers: Vec<NonZeroU32>,
    /// What is left of the message's life.
    pub(super) expiry_s: Option<u32>,
    pub(super) alias: Option<Alias>,
}

/// A number for a topic's name on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) number: NonZeroU16,
    /// The subscriber knows it already, so the name is left out.
    pub(super) is_known: bool,
}

/// What clients say.
pub(super) enum Inbound {
    Connect(Box<Connect>),
    Publish(Publish),
    Release(NonZeroU16),
    /// PUBACK.
    Acknowledged(NonZeroU16),
    /// PUBREC; an error ends the message.
    Received(NonZeroU16, bool),
    /// PUBCOMP.
    Completed(NonZeroU16),
    Subscribe {
        packet_id: NonZeroU16,
        filters: Vec<Wish>,
        identifier: Option<NonZeroU32>,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
    },
    Ping,
    /// `with_will`: the client wants its will published all the same.
    Disconnect {
        with_will: bool,
        session_expiry_s: Option<u32>,
    },
    /// A packet that a client of this server never sends.
    Unexpected(&'static str),
}

/// Why a client is turned away at CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectRefusal {
    ClientId,
    Credentials,
    ExtendedAuth,
    /// Its will is longer than [`WILL_BYTES_MAX`](super::limits::WILL_BYTES_MAX).
    WillTooLarge,
    /// Its will goes to what is no topic name.
    WillTopic,
    Busy,
    Full,
}

/// Why we end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    Malformed,
    Protocol,
    TooLarge,
    TopicName,
    TopicAlias,
    ReceiveMaximum,
    KeepAlive,
    TakenOver,
    Stopping,
    Busy,
}

/// What we say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outbound {
    Accepted {
        session_present: bool,
        keep_alive_s: Option<u16>,
        assigned_id: Option<Arc<str>>,
    },
    TurnedAway(ConnectRefusal),
    /// PUBACK; `None` is success.
    Acknowledge(NonZeroU16, Option<(RefuseReason, String)>),
    /// PUBREC; `None` is success.
    Received(NonZeroU16, Option<(RefuseReason, String)>),
    /// PUBCOMP.
    Complete {
        packet_id: NonZeroU16,
        is_known: bool,
    },
    /// PUBREL.
    Release {
        packet_id: NonZeroU16,
        is_known: bool,
    },
    /// SUBACK.
    Subscribed(NonZeroU16, Vec<Result<QoS, SubscribeRefusal>>),
    Unsubscribed(NonZeroU16, Vec<bool>),
    Pong,
    Message(Box<Delivery>),
    Goodbye(Goodbye),
}
