//! The box's loop: find the space, connect, run a session, wait, again.

use super::attest::Attest;
use super::box_session::{BoxSession, Shares};
use super::fault::{LinkFault, describe};
use super::permit::{Permit, permitted};
use super::source::BatchSource;
use super::status::{LinkState, LinkStatus};
use super::{CLOSE_WAIT, CONNECT_WAIT, stopped};
use crate::backoff::Backoff;
use crate::frame::{Letter, RefuseReason};
use crate::text::{CheckpointText, Reason, ReportJson};
use bytes::Bytes;
use guan_model::{BatchSeq, Digest, StreamId};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Most addresses of one name that are tried in a row.
pub const ADDRESSES_MAX: usize = 8;

/// Finds the space; asked before each attempt, as addresses change.
pub trait Locate: Send + 'static {
    fn addresses(&mut self) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// A name for the system's resolver, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl Locate for HostPort {
    async fn addresses(&mut self) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

/// For addresses that are known, and for simulators.
impl Locate for Vec<SocketAddr> {
    async fn addresses(&mut self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.clone())
    }
}

/// Last place of each stream that the spool may forget. A slot that is overwritten: only the newest
/// matters.
pub type Released = BTreeMap<StreamId, BatchSeq>;

/// What the owner must know beside releases and status. For evidence and for people.
#[derive(Debug, Clone)]
pub enum LinkEvent {
    Connected {
        version: u16,
        address: SocketAddr,
    },
    Disconnected {
        fault: Arc<LinkFault>,
        retry_in: Duration,
    },
    SpaceBehind {
        stream: StreamId,
        space: BatchSeq,
        ours: BatchSeq,
    },
    Refused {
        stream: StreamId,
        seq: BatchSeq,
        rows: u64,
        reason: RefuseReason,
        text: Reason,
    },
    Missing {
        stream: StreamId,
        from: BatchSeq,
        through: BatchSeq,
    },
    CheckpointSeen {
        size: u64,
    },
    /// Which contracts stand, as said in a session; empty when the space keeps none for this box.
    Roster {
        session: u64,
        bytes: Bytes,
    },
    /// A contract that was wanted.
    Document(Bytes),
    Letter(Letter),
}

/// What flows into the link. All but letters are slots, so that the owner never waits for the link.
pub struct BoxInputs {
    /// Changes whenever more was committed; the value itself does not matter.
    pub committed: watch::Receiver<u64>,
    /// The newest checkpoint; sent when it changes, and once in each session.
    pub checkpoint: watch::Receiver<Option<CheckpointText>>,
    /// The newest report, likewise.
    pub report: watch::Receiver<Option<ReportJson>>,
    /// Contracts that the box has not; asked for whenever it changes.
    pub wanted: watch::Receiver<Vec<Digest>>,
    /// At most [`crate::LETTERS_MAX`] that wait; sent in order, in whichever session there is.
    pub letters: mpsc::Receiver<Letter>,
    /// Whether the link may be up, and for what.
    pub permit: watch::Receiver<Permit>,
    /// Set to `true` to end.
    pub stop: watch::Receiver<bool>,
}

/// What flows out of the link.
pub struct BoxOutputs {
    pub released: watch::Sender<Released>,
    /// The session waits while it is full.
    pub events: mpsc::Sender<LinkEvent>,
    pub status: watch::Sender<LinkStatus>,
}

/// Configuration of the next attempt.
pub type Credentials = Box<dyn FnMut() -> quinn::ClientConfig + Send>;

/// Everything that the box's link needs.
pub struct BoxLink<S, L> {
    /// Bound by the owner, in the address family of the space.
    pub endpoint: quinn::Endpoint,
    /// What the box shows of itself; asked before each attempt.
    pub credentials: Credentials,
    pub locate: L,
    /// The name that the space's certificate must carry.
    pub server_name: String,
    pub source: S,
    pub inputs: BoxInputs,
    pub outputs: BoxOutputs,
    /// `None`: a box that has no TPM, and cannot answer a challenge.
    pub attest: Option<Arc<dyn Attest>>,
    /// Share of the bytes for what was kept from before a session, while there is new data, too.
    pub backlog_percent: u8,
    /// Most bytes a second to the space, UDP payload; `None`: any number.
    pub rate_bytes_per_s_max: Option<u64>,
    /// Any 64 bits, for the jitter of the waits.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

impl<S: BatchSource, L: Locate> BoxLink<S, L> {
    /// Runs until it is stopped, or nobody listens to the events any more.
    pub async fn run(mut self) {
        let mut stop = self.inputs.stop.clone();
        let events = self.outputs.events.clone();
        let mut backoff = Backoff::new();
        let mut permit = self.inputs.permit.clone();
        loop {
            if *permit.borrow_and_update() == Permit::Closed {
                self.outputs.status.send_modify(|status| status.state = LinkState::Resting);
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = events.closed() => break,
                () = permitted(&mut permit, |permit| permit != Permit::Closed) => {}
            }
            self.outputs.status.send_modify(|status| status.state = LinkState::Connecting);
            let mut closing = permit.clone();
            let fault = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = events.closed() => break,
                // The session is dropped, and says that it is done.
                () = permitted(&mut closing, |permit| permit == Permit::Closed) => {
                    self.outputs.status.send_modify(|status| status.connected_since = None);
                    continue;
                }
                fault = attempt(&mut self, &mut backoff) => fault,
            };
            if matches!(fault, LinkFault::Renewed) {
                continue;
            }
            let random = (self.random)();
            let retry_in = backoff.handle_failure(random, fault.retry_after());
            let line = describe(&fault);
            tracing::warn!(fault = %line, retry_in_ms = retry_in.as_millis(), "the link is down");
            self.outputs.status.send_modify(|status| {
                status.state = LinkState::Waiting;
                status.connected_since = None;
                status.failures += 1;
                status.last_error = Some(line);
            });
            let event = LinkEvent::Disconnected { fault: Arc::new(fault), retry_in };
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                sent = self.outputs.events.send(event) => if sent.is_err() { break },
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = self.outputs.events.closed() => break,
                () = tokio::time::sleep(retry_in) => {}
            }
        }
        self.outputs.status.send_modify(|status| {
            status.state = LinkState::Stopped;
            status.connected_since = None;
        });
        // The connection, if any, was closed when its session was dropped; let the words go out.
        let _ = timeout(CLOSE_WAIT, self.endpoint.wait_idle()).await;
    }
}

/// One connection from beginning to end. A session ends with a fault only: the owner's stop drops it.
async fn attempt<S: BatchSource, L: Locate>(
    link: &mut BoxLink<S, L>,
    backoff: &mut Backoff,
) -> LinkFault {
    let connection = match connect(link).await {
        Ok(connection) => connection,
        Err(fault) => return fault,
    };
    let BoxLink { source, inputs, outputs, attest, .. } = link;
    let share = Shares {
        backlog_percent: link.backlog_percent,
        rate_bytes_per_s_max: link.rate_bytes_per_s_max,
    };
    let session = BoxSession::open(connection, source, inputs, outputs, attest.as_deref(), share);
    match session.await {
        Ok(session) => session.run(backoff).await,
        Err(fault) => fault,
    }
}

async fn connect<S, L: Locate>(link: &mut BoxLink<S, L>) -> Result<quinn::Connection, LinkFault> {
    let addresses = timeout(CONNECT_WAIT, link.locate.addresses()).await;
    let addresses = addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut last = LinkFault::NoAddress;
    let config = (link.credentials)();
    for address in addresses.map_err(LinkFault::Locate)?.into_iter().take(ADDRESSES_MAX) {
        let config = config.clone();
        let connecting = match link.endpoint.connect_with(config, address, &link.server_name) {
            Ok(connecting) => connecting,
            Err(source) => {
                last = LinkFault::Connect { address, source };
                continue;
            }
        };
        last = match timeout(CONNECT_WAIT, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(source)) => LinkFault::Handshake { address, source },
            Err(_) => LinkFault::Unreachable { address, limit: CONNECT_WAIT },
        };
    }
    Err(last)
}

impl BoxInputs {
    /// What was sent in an earlier session is sent again in this one.
    pub(super) fn begin_session(&mut self) {
        self.checkpoint.mark_changed();
        self.report.mark_changed();
    }
}
