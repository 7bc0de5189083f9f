//! The session between box and space as a sans-IO core, and its quinn driver.
//!
//! One session is one connection, of QUIC or TCP, with two streams, both opened by the box, each starting with one
//! byte that names it ([`StreamKind`]). On the data stream the box says what it has, the space says what
//! it already holds, batches flow one way and cursors the other. On the control stream run checkpoints,
//! reports and the space's goodbye, so that bulk data cannot hold them up.
//!
//! - [`frame`]: what is said; [`wire`]: how it stands in bytes.
//! - [`Sender`] (box) and [`Receiver`] (space): the rules, as structs that are handed frames and moments
//!   (`handle_*`) and asked for frames, events and deadlines (`poll_*`).
//! - [`chain`]: small batches told by what they share with those before.
//! - [`Gate`]: whether the space listens to a box that must prove itself.
//! - [`hold`]: small writes share packets.
//! - [`Backoff`]: when to try again.
//! - [`rota`]: when the link is up, and for what.
//! - [`bucket`]: a cap on the rate.
//! - [`congestion`]: how much may be on the way.
//! - [`route`]: QUIC, or TCP where it does not get through; [`mux`]: the streams of a session over TCP.
//! - [`driver`]: moves the frames over quinn, or over TLS and TCP.
//!
//! Invariants: a batch is released only by an ack that the space sends after it is durable; the space
//! takes each place of a stream once and in order; what waits unstored is bounded by credit.
//!
//! Tidy: everything outside `driver/` is pure: no clock, socket, thread, task or randomness. The lint in
//! `.clippy.toml` bans the calls in the whole crate, and `driver/` alone lifts the ban for tokio's clock
//! and tasks. Nothing here touches a file, and the system's clock is read nowhere.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod bucket;
pub mod chain;
pub mod congestion;
pub mod driver;
pub mod fault;
pub mod frame;
pub mod gate;
pub mod hold;
pub mod mux;
pub mod receiver;
pub mod rota;
pub mod route;
pub mod sender;
pub mod text;
pub mod wire;

pub use backoff::Backoff;
pub use fault::{PeerFault, PeerIncompatible, PeerMisbehaved, PeerSilent, SourceFault};
pub use frame::{
    Ack, BoxFrame, BoxNote, Chained, CloseCode, Cursor, EncodedBatch, Gap, Goodbye, Hello, Item,
    LETTER_BYTES_MAX, LETTERS_MAX, Letter, Offer, OfferFault, Refuse, RefuseReason, SpaceFrame,
    SpaceNote, StreamKind, StreamRange, Topic, Versions, Welcome,
};
pub use gate::{Gate, GateFault, GateOutcome};
pub use receiver::{Receiver, ReceiverEvent};
pub use route::{Route, Transport, TransportChoice};
pub use sender::{Kept, Sender, SenderEvent, Want};
pub use wire::{FrameDecoder, FrameFault};

/// Versions that this program speaks. Version 2 has [`chain`]s.
pub const VERSIONS: Versions = Versions { min: 1, max: 2 };
/// Protocol name in the TLS handshake (RFC 7301).
pub const ALPN: &[u8] = b"guan/1";
/// Most streams of one box.
pub const STREAMS_MAX: usize = 1024;
/// Longest encoded batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Most that the space holds of one box before it is durable.
pub const RECEIVE_WINDOW_BYTES: u64 = 16 << 20;
