//! A modelled link in virtual time, for what the transport does with rate, loss and other addresses.
//!
//! [`Line`] is one direction of a bottleneck, without I/O. [`Net`] puts quinn on two of them, at quinn's own socket
//! and runtime traits; a paused tokio clock jumps over the waits, so that minutes on a slow link take moments and
//! a busy machine changes nothing. Real here: quinn, TLS, our session. Modelled: queue, rate, loss, delay.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "only tests and benchmarks use it, and may stop at the first surprise"
)]

mod ends;
mod model;
mod net;
mod session;

pub use ends::{BOX, Pair, SPACE, Tls, Transfer, transfer};
pub use model::{Counts, Dice, HEADERS, Line, Shape};
pub use net::{Net, Socket, VirtualTime, in_virtual_time};
pub use session::Running;
