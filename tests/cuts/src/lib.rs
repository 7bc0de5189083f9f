//! Real programs on a disk that forgets: what was acknowledged must be in the space, once and in order.
//!
//! - `disk`: a file system whose power can be cut; what was not flushed is then lost, in part or torn.
//! - `clients`: MQTT clients that number their messages, and finish them across all crashes (QoS 2).
//! - `plant`: what is struck: box and space, or the peer, mosquitto and its bridge.
//! - `rig`: cuts and kills at random moments; `oracle`: what must hold afterwards.
//!
//! Never here: the product's own code. It is used as its users do, by commands and sockets.
#![forbid(unsafe_code)]

pub mod clients;
pub mod disk;
pub mod oracle;
pub mod plant;
pub mod rig;
