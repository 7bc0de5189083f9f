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
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            packet_bytes_max: 256 << 10,
            receive_maximum: 1024,
            ingest_bytes_max: 32 << 20,
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
/// Longest keep-alive; clients of version 5 are told.
pub(super) const KEEP_ALIVE_MAX_S: u16 = 3600;
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
/// Messages, and bytes, that wait for one local subscriber; then the oldest are dropped and counted.
pub(super) const TAP_MESSAGES_MAX: usize = 1024;
pub(super) const TAP_BYTES_MAX: usize = 1 << 20;
