//! The space's loop: accept, learn who it is, run one session for each box.

use super::attest::{Appraise, Underway};
use super::handshakes::{HANDSHAKES_MAX, Handshakes};
use super::inbox::Inbox;
use super::space_session::SpaceSession;
use super::status::PeerStatus;
use super::transport::{Connection, secure_tcp};
use super::tuning::LinkTuning;
use super::{CLOSE_WAIT, stopped, underway};
use crate::frame::CloseCode;
use crate::route::Transport;
use guan_model::BoxId;
use quinn::VarInt;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};

/// Most boxes with a session at the same time.
pub const PEERS_MAX: usize = 4096;
/// Rest after a TCP connection could not be taken.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// From first packet to a known name.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// A box that is revoked loses its connection within this time.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Says whose certificate it is and whether that box may come in. TLS has verified the chain.
pub trait Admit: Clone + Send + Sync + 'static {
    /// The error is told to the box.
    fn admit(
        &self,
        chain: Vec<CertificateDer<'static>>,
    ) -> impl Future<Output = Result<BoxId, String>> + Send;

    /// A box has come while its last session was still up. Once is a reboot; often, two claim one name.
    fn superseded(&self, box_id: &BoxId) {
        let _ = box_id;
    }

    /// What has changed for these connected boxes. Asked every [`RECHECK_INTERVAL`].
    fn review(&self, connected: Vec<BoxId>) -> impl Future<Output = Vec<(BoxId, Review)>> + Send {
        drop(connected);
        std::future::ready(Vec::new())
    }
}

/// What is to be done about a connected box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Review {
    /// It may no longer be here.
    Expel,
    /// It must prove itself now.
    Ask,
}

/// The connected boxes, for status.
pub type Peers = BTreeMap<BoxId, PeerStatus>;

/// Everything that the space's link needs.
pub struct SpaceLink<I, A> {
    /// Bound by the owner, with a server configuration of `LinkTuning::server`.
    pub endpoint: quinn::Endpoint,
    /// `None`: QUIC only.
    pub tcp: Option<TcpListen>,
    pub inbox: I,
    pub admit: A,
    /// `None`: no box must prove anything beside its certificate.
    pub appraise: Option<Arc<dyn Appraise>>,
    pub peers_max: usize,
    pub peers: watch::Sender<Peers>,
    /// Set to `true` to end.
    pub stop: watch::Receiver<bool>,
}

/// Where boxes come whose network lets no UDP through.
pub struct TcpListen {
    pub listener: TcpListener,
    /// Of `LinkTuning::tcp_server`.
    pub tls: Arc<rustls::ServerConfig>,
    pub tuning: LinkTuning,
}

/// A box that has called and shown nothing yet.
enum Caller {
    Quic(Box<quinn::Incoming>),
    Tcp {
        socket: TcpStream,
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        tuning: LinkTuning,
    },
}

/// Never, where nobody listens. A socket that is gone before it was taken, or a process without room for one more, is
/// passed over.
async fn accept_tcp(tcp: &Option<TcpListen>) -> Caller {
    let Some(tcp) = tcp else { return std::future::pending().await };
    loop {
        match tcp.listener.accept().await {
            Ok((socket, address)) => {
                let (tls, tuning) = (tcp.tls.clone(), tcp.tuning);
                return Caller::Tcp { socket, address, tls, tuning };
            }
            Err(fault) => {
                tracing::warn!(%fault, "a TCP connection could not be taken");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

impl Caller {
    fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tcp { .. } => Transport::Tcp,
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(incoming) => incoming.remote_address(),
            Self::Tcp { address, .. } => *address,
        }
    }

    /// The error is for the operator.
    async fn connect(self) -> Result<Connection, String> {
        match self {
            Self::Quic(incoming) => match (*incoming).await {
                Ok(connection) => Ok(Connection::Quic(connection)),
                Err(fault) => Err(fault.to_string()),
            },
            Self::Tcp { socket, address, tls, tuning } => {
                match secure_tcp(socket, address, tls, &tuning).await {
                    Ok(connection) => Ok(Connection::Tcp(connection)),
                    Err(fault) => Err(fault.to_string()),
                }
            }
        }
    }
}

/// A box whose certificate is known to be its own.
struct Known {
    box_id: BoxId,
    connection: Connection,
}

struct Running {
    connection: Connection,
    demand: Arc<Notify>,
    task: JoinHandle<()>,
}

impl<I: Inbox, A: Admit> SpaceLink<I, A> {
    /// Runs until it is stopped; sessions say goodbye and what they queued is still stored.
    pub async fn run(mut self) {
        let mut stop = self.stop.clone();
        let (known_out, mut known_in) = mpsc::channel(HANDSHAKES_MAX);
        let handshakes = Handshakes::new();
        let mut greeting = JoinSet::new();
        let mut running: BTreeMap<BoxId, Running> = BTreeMap::new();
        let mut recheck = tokio::time::interval(RECHECK_INTERVAL);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rechecking: Option<Underway<Vec<(BoxId, Review)>>> = None;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(known) = known_in.recv() => self.begin(known, &mut running),
                Some(_) = greeting.join_next() => {}
                _ = recheck.tick(), if rechecking.is_none() && !running.is_empty() => {
                    let (admit, connected) = (self.admit.clone(), running.keys().cloned().collect());
                    rechecking = Some(Box::pin(async move { admit.review(connected).await }));
                }
                reviewed = underway(&mut rechecking) => act(&running, &reviewed),
                incoming = self.endpoint.accept() => {
                    let Some(incoming) = incoming else { break };
                    let caller = Caller::Quic(Box::new(incoming));
                    receive(caller, &handshakes, &self.admit, &known_out, &mut greeting);
                }
                caller = accept_tcp(&self.tcp) => {
                    receive(caller, &handshakes, &self.admit, &known_out, &mut greeting);
                }
            }
        }
        greeting.shutdown().await;
        for (_, session) in running {
            // A session that panicked has been reported by the runtime.
            let _ = timeout(CLOSE_WAIT * 2, session.task).await;
        }
        self.endpoint.close(VarInt::from_u32(CloseCode::Done.code().into()), b"the space stops");
        let _ = timeout(CLOSE_WAIT, self.endpoint.wait_idle()).await;
    }

    /// Starts the session of a box; one that is still running gives way and is waited for, so that
    /// the new one asks for the cursors after everything that the old one queued.
    fn begin(&mut self, known: Known, running: &mut BTreeMap<BoxId, Running>) {
        running.retain(|_, session| !session.task.is_finished());
        let Known { box_id, connection } = known;
        let previous = running.remove(&box_id).map(|session| {
            self.admit.superseded(&box_id);
            let text = "the same box has connected again";
            session.connection.close(CloseCode::Superseded, text);
            session.task
        });
        if running.len() >= self.peers_max.min(PEERS_MAX) {
            tracing::warn!(box_id = %box_id, limit = self.peers_max, "the space is full");
            let text = "the space serves as many boxes as listen.peers_max allows";
            return connection.close(CloseCode::Full, text);
        }
        let demand = Arc::new(Notify::new());
        let session = SpaceSession {
            demand: demand.clone(),
            box_id: box_id.clone(),
            connection: connection.clone(),
            inbox: self.inbox.clone(),
            appraise: self.appraise.clone(),
            peers: self.peers.clone(),
            stop: self.stop.clone(),
        };
        let task = tokio::spawn(async move {
            if let Some(previous) = previous {
                let _ = previous.await;
            }
            session.run().await;
        });
        running.insert(box_id, Running { connection, demand, task });
    }
}

/// The sessions end by themselves when their connection is gone.
fn act(running: &BTreeMap<BoxId, Running>, reviewed: &[(BoxId, Review)]) {
    for (box_id, review) in reviewed {
        let Some(session) = running.get(box_id) else { continue };
        match review {
            Review::Ask => session.demand.notify_one(),
            Review::Expel => {
                tracing::warn!(%box_id, "a connected box is expelled");
                session.connection.close(CloseCode::Unauthorized, "this box was revoked");
            }
        }
    }
}

/// Hears who it is, if there are not too many already.
fn receive<A: Admit>(
    caller: Caller,
    handshakes: &Handshakes,
    admit: &A,
    out: &mpsc::Sender<Known>,
    greeting: &mut JoinSet<()>,
) {
    let address = caller.address();
    match handshakes.begin(caller.transport(), address.ip()) {
        Ok(handshake) => {
            let (admit, out) = (admit.clone(), out.clone());
            greeting.spawn(async move {
                greet(caller, admit, out).await;
                drop(handshake);
            });
        }
        Err(fault) => {
            tracing::warn!(%address, %fault, "a caller is turned away");
            if let Caller::Quic(incoming) = caller {
                incoming.refuse();
            }
        }
    }
}

/// From the first packet to a known name; whoever is not admitted is told why.
async fn greet<A: Admit>(caller: Caller, admit: A, out: mpsc::Sender<Known>) {
    let address = caller.address();
    let connection = match timeout(HANDSHAKE_WAIT, caller.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(fault)) => {
            return tracing::warn!(%address, %fault, "a handshake failed");
        }
        Err(_) => return tracing::warn!(%address, "a handshake took too long"),
    };
    let verdict = match connection.chain() {
        Some(chain) => admit.admit(chain).await,
        None => Err("a box needs a certificate of this space".to_owned()),
    };
    match verdict {
        Ok(box_id) => {
            // The space has stopped if nobody takes it.
            let _ = out.send(Known { box_id, connection }).await;
        }
        Err(text) => {
            tracing::warn!(%address, reason = %text, "a box was turned away");
            connection.close(CloseCode::Unauthorized, &text);
        }
    }
}
