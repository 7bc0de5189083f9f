//! Every bound of the listener.

use std::time::Duration;

/// Bounds that the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    pub connections_max: usize,
    /// Longest packet, without its fixed header.
    pub packet_bytes_max: usize,
    /// Messages of one client that wait for their acknowledgement.
    pub receive_maximum: u16,
    /// Bytes of all messages that wait for the engine.
    pub ingest_bytes_max: usize,
    /// Longest keep-alive; clients of version 5 are told.
    pub keep_alive_max_s: u16,
}

impl ListenerLimits {
    /// Bytes of one client that may wait for the engine; one message of any permitted size always may.
    pub(super) fn client_bytes_max(&self) -> usize {
        self.ingest_bytes_max / CLIENT_SHARE
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            packet_bytes_max: 256 << 10,
            receive_maximum: 1024,
            ingest_bytes_max: 32 << 20,
            keep_alive_max_s: 3600,
        }
    }
}

/// From the connection to a valid CONNECT.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// From the first byte of a packet to its last.
pub(super) const PACKET_WAIT: Duration = Duration::from_secs(30);
/// How long a client may leave what we say unread.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(30);
/// How long a session of the same client may take to end when it is taken over.
pub(super) const TAKEOVER_WAIT: Duration = Duration::from_secs(5);
/// How long the outcomes of messages are awaited for the taps after their client has left.
pub(super) const DRAIN_WAIT: Duration = Duration::from_secs(10);
/// Read buffer of a connection; a longer packet first gets its share of `ingest_bytes_max`.
pub(super) const READ_BYTES: usize = 4 << 10;
/// The same while a client sends faster than it is read.
pub(super) const READ_BYTES_BUSY: usize = 16 << 10;
/// Messages of one connection that are handed on together.
pub(super) const SUBMITTED_AT_ONCE: usize = 128;
/// What a message costs of `ingest_bytes_max` at least: names and numbers take memory too.
pub(super) const MESSAGE_COST_MIN: usize = 256;
/// Answers that a client has not read, from which on it is not read either; also what copies for its tap
/// are written in one go.
pub(super) const OUT_BYTES_FULL: usize = 64 << 10;
pub(super) const CLIENT_ID_BYTES_MAX: usize = 128;
/// A will is kept as long as its connection, outside of `ingest_bytes_max`: 4 MiB for 1024 connections.
pub(super) const WILL_BYTES_MAX: usize = 4 << 10;
pub(super) const TOPIC_BYTES_MAX: usize = 1024;
pub(super) const FILTER_LEVELS_MAX: usize = 32;
pub(super) const SUBSCRIPTIONS_MAX: usize = 64;
/// Names of topics that a version 5 client may shorten.
pub(super) const TOPIC_ALIASES_MAX: u16 = 16;
/// Connections above `connections_max` that are told so at the same time; others are just closed.
pub(super) const TURNED_AWAY_MAX: usize = 64;
/// How long one that is turned away may take to say what it is.
pub(super) const TURNED_AWAY_WAIT: Duration = Duration::from_secs(2);
/// Names of topics that are shortened towards one subscriber of version 5, if it takes so many.
pub(super) const OUT_ALIASES_MAX: u16 = 16;
/// Messages, and bytes, that wait for one subscriber. Above, the oldest of QoS 0 gives way; without one,
/// the new message does. Both are counted.
pub(super) const OUTBOX_MESSAGES_MAX: usize = 1024;
pub(super) const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// Messages of QoS 1 and 2 that a subscriber of version 3.1.1, which names no number, leaves unanswered.
pub(super) const OUT_WINDOW_DEFAULT: u16 = 256;
/// What a message for one subscriber costs at least: names and numbers take room too, in memory and in a
/// snapshot.
pub(super) const ENTRY_COST: usize = 192;
/// The same of a session or a subscription, beside its names.
pub(super) const SESSION_COST: usize = 24;
/// Bytes that wait in the outboxes of all subscribers together.
pub(super) const OUTBOXES_BYTES_MAX: usize = 32 << 20;
/// Of those, bytes that are kept on the disk because their session outlives its connection. With the two
/// below this fits the snapshot at the head of a file (8 MiB).
pub(super) const KEPT_BYTES_MAX: usize = 4 << 20;
/// Retained messages, and their bytes.
pub(super) const RETAINED_MESSAGES_MAX: usize = 1024;
pub(super) const RETAINED_BYTES_MAX: usize = 1 << 20;
/// Sessions that outlive their connection, and bytes of their names and filters.
pub(super) const KEPT_SESSIONS_MAX: usize = 4096;
pub(super) const KEPT_SESSION_BYTES_MAX: usize = 1 << 20;
/// Bytes handed to the store that are not durable yet; above, publishers are not read.
pub const STORE_BACKLOG_BYTES_MAX: usize = 8 << 20;
/// Wills that wait for their delay; one above is published at once.
pub(super) const WAITING_WILLS_MAX: usize = 1024;
/// How long a client whose connection we end may go on sending, unheard, until it has read why.
pub(super) const LINGER_WAIT: Duration = Duration::from_secs(5);
pub(super) const LINGER_BYTES_MAX: usize = 1 << 20;
/// Longest pause between two looks at what is due: the wall clock may be set.
pub(super) const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// One client's part of `ingest_bytes_max`, so that who floods the box leaves room for others.
pub(super) const CLIENT_SHARE: usize = 8;
