//! Moves the session's frames over quinn, or TLS and TCP: connect, run, back off (box); accept, run (space).
//!
//! Both ends are handed a `quinn::Endpoint`, so that a simulator can pass one over its own socket and
//! runtime. Time is tokio's. Each session is one task that owns everything of it: no locks, and queues
//! form a line (spool, box, space, store), while the way back carries cursors only.
//!
//! Never here: decisions of the protocol (those are in [`crate::Sender`] and [`crate::Receiver`]), files,
//! the system's clock.
#![expect(
    clippy::disallowed_methods,
    reason = "the driver waits and starts tasks, on tokio's clock; the core does neither"
)]

mod attest;
mod box_link;
mod box_session;
mod carried;
mod congestion;
mod fault;
mod handshakes;
mod inbox;
mod permit;
mod pipe;
mod source;
mod space_link;
mod space_session;
mod status;
mod transport;
mod tuning;

pub use attest::{Appraisal, Appraise, Attest, Bound, Proof, Underway, Wish};
pub use box_link::{
    ADDRESSES_MAX, BoxInputs, BoxLink, BoxOutputs, ClientTls, Credentials, HostPort, LinkEvent,
    Locate, Paths, Released,
};
pub use carried::{CarriedFault, CarriedOutcome, CarriedRefusal, CarriedSession};
pub use congestion::Congestion;
pub use fault::{LinkFault, describe};
pub use handshakes::{HANDSHAKES_MAX, TCP_HANDSHAKES_PER_ADDRESS_MAX};
pub use inbox::{Inbox, InboxFault, Receipt, Refusal, Settled};
pub use permit::Permit;
pub use source::{BatchSource, ReadFault};
pub use space_link::{Admit, PEERS_MAX, Peers, RECHECK_INTERVAL, Review, SpaceLink, TcpListen};
pub use space_session::ROSTER_INTERVAL;
pub use status::{DATASETS_MAX, LinkState, LinkStatus, PeerStatus};
pub use tuning::{LinkTuning, TuningFault};

use crate::Letter;
use std::future::pending;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Longest wait for QUIC while the box comes in by TCP and only looks whether QUIC gets through again.
pub const PROBE_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for a connection, and for the answer of a name server.
pub const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a goodbye may take to arrive before the connection is closed over it.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Waits for a new value; for ever once the other half is gone, so that a loop does not spin.
async fn changed<T>(input: &mut watch::Receiver<T>) {
    if input.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Waits for a letter; for ever once nobody writes any more.
async fn written(letters: &mut mpsc::Receiver<Letter>) -> Letter {
    match letters.recv().await {
        Some(letter) => letter,
        None => pending().await,
    }
}

/// Waits for what is underway and takes it away; for ever when nothing is.
async fn underway<T>(slot: &mut Option<Underway<T>>) -> T {
    let done = match slot {
        Some(future) => future.await,
        None => pending().await,
    };
    *slot = None;
    done
}

/// Waits until someone says stop, or nobody is left who could.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until `due` after `start`; for ever without a deadline.
async fn wait_until(start: Instant, due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep_until(start + due).await,
        None => pending().await,
    }
}
