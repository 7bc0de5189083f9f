//! The box's loop: find the space, connect, run a session, wait, again.

use super::attest::Attest;
use super::box_session::{BoxSession, Shares};
use super::fault::{LinkFault, describe};
use super::permit::{Permit, permitted};
use super::source::BatchSource;
use super::status::{LinkState, LinkStatus};
use super::transport::{Connection, connect_tcp};
use super::tuning::LinkTuning;
use super::{CLOSE_WAIT, CONNECT_WAIT, PROBE_WAIT, stopped};
use crate::backoff::Backoff;
use crate::frame::{CloseCode, Letter, RefuseReason};
use crate::route::{Route, Transport};
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
        transport: Transport,
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

/// TLS of the next attempt.
#[derive(Clone)]
pub struct ClientTls {
    pub quic: quinn::ClientConfig,
    /// `None`: there is no other way.
    pub tcp: Option<Arc<rustls::ClientConfig>>,
}

impl From<quinn::ClientConfig> for ClientTls {
    fn from(quic: quinn::ClientConfig) -> Self {
        Self { quic, tcp: None }
    }
}

/// The ways to the space.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What was learnt of them, at first what the operator wants.
    pub route: Route,
    /// Where the space listens for TCP; `None`: at the number of its UDP port.
    pub tcp_port: Option<u16>,
    /// Tells when a silent TCP connection is dead.
    pub tuning: LinkTuning,
    /// Longest wait for a connection to one address.
    pub connect_wait: Duration,
}

impl Default for Paths {
    fn default() -> Self {
        let (route, tuning) = (Route::default(), LinkTuning::default());
        Self { route, tcp_port: None, tuning, connect_wait: CONNECT_WAIT }
    }
}

pub type Credentials = Box<dyn FnMut() -> ClientTls + Send>;

/// Everything that the box's link needs.
pub struct BoxLink<S, L> {
    /// Bound by the owner, in the address family of the space.
    pub endpoint: quinn::Endpoint,
    /// What the box shows of itself; asked before each attempt.
    pub credentials: Credentials,
    pub locate: L,
    pub paths: Paths,
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
        let mut has_chains = true;
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
                fault = attempt(&mut self, &mut backoff, &mut has_chains) => fault,
            };
            let random = (self.random)();
            if matches!(fault, LinkFault::Renewed) {
                let wait = backoff.handle_renewal(random);
                self.outputs.status.send_modify(|status| status.connected_since = None);
                if !wait.is_zero() {
                    self.outputs.status.send_modify(|status| status.state = LinkState::Waiting);
                }
                match rest(&mut stop, &events, wait).await {
                    true => continue,
                    false => break,
                }
            }
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
            if !rest(&mut stop, &events, retry_in).await {
                break;
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

/// `false`: it is stopped, or nobody listens any more.
async fn rest(
    stop: &mut watch::Receiver<bool>,
    events: &mpsc::Sender<LinkEvent>,
    wait: Duration,
) -> bool {
    tokio::select! {
        biased;
        () = stopped(stop) => false,
        () = events.closed() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// One connection from beginning to end. A session ends with a fault only: the owner's stop drops it.
async fn attempt<S: BatchSource, L: Locate>(
    link: &mut BoxLink<S, L>,
    backoff: &mut Backoff,
    has_chains: &mut bool,
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
    let session = match session.await {
        Ok(session) if *has_chains => session,
        Ok(session) => session.without_chains(),
        Err(fault) => return fault,
    };
    let released = outputs.released.borrow().clone();
    let fault = session.run(backoff).await;
    *has_chains = !is_stuck(&fault, *outputs.released.borrow() != released);
    fault
}

/// Whether the next session would end as this one did, with the same batches in the same chain. If the chain is what
/// the two ends make different things of, batches that go alone get past it.
fn is_stuck(fault: &LinkFault, has_released: bool) -> bool {
    matches!(fault, LinkFault::Closed { code: CloseCode::Misbehaved, .. }) && !has_released
}

/// By QUIC at all addresses, then, if that is to be tried, by TCP. What each failed of is told when both do.
async fn connect<S, L: Locate>(link: &mut BoxLink<S, L>) -> Result<Connection, LinkFault> {
    let addresses = timeout(CONNECT_WAIT, link.locate.addresses()).await;
    let addresses = addresses.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let addresses = addresses.map_err(LinkFault::Locate)?.into_iter().take(ADDRESSES_MAX);
    let addresses: Vec<SocketAddr> = addresses.collect();
    let tls = (link.credentials)();
    let mut faults: Option<LinkFault> = None;
    for transport in link.paths.route.poll_attempts() {
        let mut last = LinkFault::NoAddress;
        for address in &addresses {
            let connected = match (transport, &tls.tcp) {
                (Transport::Quic, _) => connect_by_quic(link, tls.quic.clone(), *address).await,
                (Transport::Tcp, Some(tls)) => connect_by_tcp(link, tls.clone(), *address).await,
                (Transport::Tcp, None) => Err(LinkFault::NoTcp),
            };
            match connected {
                Ok(connection) => {
                    link.paths.route.handle_connected(*transport);
                    return Ok(connection);
                }
                Err(fault) => last = fault,
            }
        }
        tracing::debug!(transport = transport.as_str(), fault = %describe(&last), "no connection");
        link.paths.route.handle_failure(*transport);
        faults = Some(match faults {
            Some(quic) => LinkFault::Both { quic: Box::new(quic), tcp: Box::new(last) },
            None => last,
        });
    }
    Err(faults.expect("a route has at least one transport"))
}

async fn connect_by_quic<S, L>(
    link: &mut BoxLink<S, L>,
    config: quinn::ClientConfig,
    address: SocketAddr,
) -> Result<Connection, LinkFault> {
    let longest = if link.paths.route.is_probing() { PROBE_WAIT } else { CONNECT_WAIT };
    let limit = longest.min(link.paths.connect_wait);
    let connecting = link.endpoint.connect_with(config, address, &link.server_name);
    let connecting = connecting.map_err(|source| LinkFault::Connect { address, source })?;
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok(Connection::Quic(connection)),
        Ok(Err(source)) => Err(LinkFault::Handshake { address, source }),
        Err(_) => Err(LinkFault::Unreachable { address, limit }),
    }
}

async fn connect_by_tcp<S, L>(
    link: &mut BoxLink<S, L>,
    tls: Arc<rustls::ClientConfig>,
    mut address: SocketAddr,
) -> Result<Connection, LinkFault> {
    address.set_port(link.paths.tcp_port.unwrap_or(address.port()));
    let connecting = connect_tcp(address, &link.server_name, tls, &link.paths.tuning);
    let limit = link.paths.connect_wait;
    match timeout(limit, connecting).await {
        Ok(Ok(connection)) => Ok(Connection::Tcp(connection)),
        Ok(Err(source)) => Err(LinkFault::Tcp { address, source }),
        Err(_) => Err(LinkFault::TcpUnreachable { address, limit }),
    }
}

impl BoxInputs {
    /// What was sent in an earlier session is sent again in this one.
    pub(super) fn begin_session(&mut self) {
        self.checkpoint.mark_changed();
        self.report.mark_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_rest_after_a_session_that_was_ended_over_them() {
        let check = |code, has_released, expected| {
            let fault =
                LinkFault::Closed { code, text: String::new(), retry_after: Duration::ZERO };
            assert_eq!(is_stuck(&fault, has_released), expected, "{code:?}, {has_released}");
        };
        check(CloseCode::Misbehaved, false, true);
        check(CloseCode::Misbehaved, true, false);
        check(CloseCode::Done, false, false);
        check(CloseCode::Storage, false, false);
    }
}
