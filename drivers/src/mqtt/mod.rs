//! The MQTT listener: 3.1.1 and 5, QoS 0 to 2, on rmqtt-codec.
//!
//! - `packet`: what both versions say, as one set of values; `codec`: from and to bytes.
//! - `session`: the rules of one connection, without I/O.
//! - `listener`, `opening`, `connection`, `wire`: tasks and sockets. `tap`: copies for local subscribers.
//! - `auth`: who may do what; `filter`: topics.
//!
//! Invariants: an acknowledgement follows its durable outcome; acknowledgements go out in the order of the
//! messages; memory is bounded by [`ListenerLimits`], whatever clients send.

mod auth;
mod codec;
mod connection;
mod filter;
mod limits;
mod listener;
mod opening;
mod packet;
mod session;
mod tap;
#[cfg(test)]
mod tests;
mod wire;

pub use auth::{Authenticator, Rights, User};
pub use filter::{FilterFault, TopicFilter};
pub use limits::ListenerLimits;
pub use listener::{CertificateName, Listener, ListenerConfig, ListenerStats};

/// For fuzzing and mutation tests: one connection's bytes through codec and session.
pub mod hostile {
    pub use super::session::drive;
}
