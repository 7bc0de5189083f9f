//! Touch the world: the MQTT listener and the MQTT client.
//!
//! Everything that comes in becomes a [`Submission`] on one bounded channel, and nothing is acknowledged to
//! a client before the other end of that channel has settled it.
//!
//! Never here: what a payload means, who may use it, disks.
#![forbid(unsafe_code)]

pub mod broker_client;
mod descriptors;
pub mod mqtt;
mod submission;

pub use descriptors::raise_descriptors;
pub use submission::{
    DurableRun, Outcome, Outcomes, Publication, QoS, RefuseReason, ReplyHandle, SessionState,
    Settled, Submission, outcomes,
};
