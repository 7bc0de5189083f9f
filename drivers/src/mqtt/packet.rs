//! What both versions of MQTT say, as one set of values.

use super::super::submission::{QoS, RefuseReason};
use bytes::Bytes;
use std::num::NonZeroU16;
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
    /// Seconds that the session outlives the connection.
    pub(super) session_expiry_s: u32,
    /// Longest packet that the client takes.
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) wants_extended_auth: bool,
}

/// What is published for a client that vanishes.
#[derive(Debug, Clone)]
pub(super) struct Will {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// PUBLISH from a client.
#[derive(Debug)]
pub(super) struct Publish {
    /// May be empty when an alias stands for it.
    pub(super) topic: String,
    pub(super) alias: Option<NonZeroU16>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) retain: bool,
}

/// What clients say.
pub(super) enum Inbound {
    Connect(Box<Connect>),
    Publish(Publish),
    Release(NonZeroU16),
    Subscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
        has_identifier: bool,
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
    WillRetain,
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
    Retain,
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
    /// SUBACK; `true` is granted at QoS 0.
    Subscribed(NonZeroU16, Vec<bool>),
    Unsubscribed(NonZeroU16, Vec<bool>),
    Pong,
    Message {
        topic: Arc<str>,
        payload: Bytes,
    },
    Goodbye(Goodbye),
}
