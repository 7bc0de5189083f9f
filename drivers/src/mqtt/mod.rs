//! The MQTT listener: 3.1.1 and 5, QoS 0 to 2, on rmqtt-codec.
//!
//! - `packet`: what both versions say, as one set of values; `codec`: from and to bytes.
//! - `session`: the rules of one connection, without I/O.
//! - `exchange`: who gets which message, without I/O; `message`: one of them; `store`: the port to the disk.
//! - `listener`, `opening`, `connection`, `upkeep`, `hub`, `wire`: tasks, locks and sockets.
//! - `auth`: who may do what; `filter`: topics.
//!
//! Invariants: an acknowledgement follows its durable outcome; acknowledgements go out in the order of the
//! messages; memory is bounded by [`ListenerLimits`], whatever clients send.

mod auth;
mod codec;
mod connection;
mod exchange;
mod filter;
mod frequent;
mod hub;
mod limits;
mod listener;
mod message;
mod opening;
mod packet;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod wire;

pub use auth::{Authenticator, Rights, User};
pub use exchange::RecordFault;
pub use filter::{FilterFault, TopicFilter};
pub use limits::{ListenerLimits, STORE_BACKLOG_BYTES_MAX};
pub use listener::{CertificateName, ListenFault, Listener, ListenerConfig, ListenerStats};
pub use message::MessageFault;
pub use store::{NoStore, Record, SessionStore};

/// For fuzzing and mutation tests: one connection's bytes through codec and session.
pub mod hostile {
    pub use super::session::drive;
}
