//! Accepts connections, up to a limit, and knows who is connected.

use super::auth::Authenticator;
use super::exchange::{Exchange, RecordFault};
use super::hub::Hub;
use super::limits::{ListenerLimits, TAKEOVER_WAIT, TURNED_AWAY_MAX};
use super::store::SessionStore;
use super::{opening, upkeep};
use crate::submission::Submission;
use guan_model::WallTime;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Pause after the system could not accept (no file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads the name out of a client certificate that TLS has verified.
pub type CertificateName = Arc<dyn Fn(&[u8]) -> Option<String> + Send + Sync>;

/// Everything that the listener needs.
pub struct ListenerConfig {
    pub limits: ListenerLimits,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub certificate_name: CertificateName,
    pub authenticator: Authenticator,
    pub submissions: mpsc::Sender<Submission>,
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    /// Where sessions and retained messages are kept.
    pub store: Arc<dyn SessionStore>,
    /// What the store had at the start, oldest first.
    pub records: Vec<Vec<u8>>,
}

/// Why the listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ListenFault {
    #[error("the address cannot be listened on")]
    Io(#[from] io::Error),
    #[error("the store of MQTT sessions has a record that this program did not write")]
    Record(#[from] RecordFault),
}

/// Counts since the start; the first is of the moment.
#[derive(Debug, Default)]
pub struct ListenerStats {
    pub connections: AtomicU64,
    pub connections_accepted: AtomicU64,
    pub connections_turned_away: AtomicU64,
    pub messages: AtomicU64,
    /// Payloads of those messages.
    pub payload_bytes: AtomicU64,
    /// Messages, and wills, that their client had no right to publish.
    pub messages_denied: AtomicU64,
    /// Messages that the engine refused because there was no room.
    pub messages_refused_quota: AtomicU64,
    /// Messages that the engine refused because of what they say. Version 3.1.1 has no negative
    /// acknowledgement: such a message is acknowledged, and seen here and in the engine's log.
    pub messages_refused_payload: AtomicU64,
    /// Connections that ended because of what the client sent.
    pub clients_misbehaved: AtomicU64,
    /// Copies of QoS 0 that slow local subscribers missed.
    pub taps_dropped: AtomicU64,
    /// Copies of QoS 1 and 2 for which a subscriber's queue had no room.
    pub copies_dropped: AtomicU64,
    /// Retained messages for which there was no room.
    pub retained_refused: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts a connection as long as it lives, also when its task panics.
struct Present(Arc<ListenerStats>);

impl Present {
    fn new(stats: Arc<ListenerStats>) -> Self {
        count(&stats.connections);
        Self(stats)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) config: ListenerConfig,
    pub(super) ingest: Arc<Semaphore>,
    pub(super) hub: Hub,
    pub(super) stats: Arc<ListenerStats>,
    pub(super) stop: watch::Receiver<bool>,
    clients: Mutex<BTreeMap<Arc<str>, Holder>>,
}

struct Holder {
    connection: u64,
    kick: Arc<Notify>,
    gone: watch::Receiver<()>,
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    config: ListenerConfig,
    exchange: Exchange,
    stats: Arc<ListenerStats>,
}

impl Listener {
    pub async fn bind(
        address: SocketAddr,
        mut config: ListenerConfig,
    ) -> Result<Self, ListenFault> {
        let records = std::mem::take(&mut config.records);
        let exchange = Exchange::recover(&records, (config.clock)())?;
        let socket = TcpListener::bind(address).await?;
        Ok(Self { socket, config, exchange, stats: Arc::default() })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn stats(&self) -> Arc<ListenerStats> {
        self.stats.clone()
    }

    /// Runs until it is stopped; connections say goodbye.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let limits = self.config.limits;
        let tls = self.config.tls.clone().map(TlsAcceptor::from);
        let shared = Shared::new(self.config, self.exchange, self.stats, stop.clone());
        let shared = Arc::new(shared);
        let upkeep = tokio::spawn(upkeep::run(shared.clone()));
        let mut stopping = stop;
        let mut connections = JoinSet::new();
        let mut turned_away = JoinSet::new();
        for number in 0.. {
            let accepted = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => break,
                accepted = self.socket.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            while turned_away.try_join_next().is_some() {}
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::warn!(%fault, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Small packets go out at once; a failure costs latency only.
            let _ = stream.set_nodelay(true);
            if connections.len() < limits.connections_max {
                let (shared, tls) = (shared.clone(), tls.clone());
                connections.spawn(run_connection(shared, number, stream, address, tls));
                continue;
            }
            count(&shared.stats.connections_turned_away);
            tracing::warn!(
                %address, limit = limits.connections_max,
                "a connection is turned away; raise mqtt.connections_max if it is wanted"
            );
            if turned_away.len() < TURNED_AWAY_MAX && tls.is_none() {
                turned_away.spawn(opening::turn_away(shared.clone(), stream));
            }
        }
        turned_away.shutdown().await;
        while connections.join_next().await.is_some() {}
        upkeep.abort();
        upkeep::finish(&shared).await;
    }
}

async fn run_connection(
    shared: Arc<Shared>,
    number: u64,
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    count(&shared.stats.connections_accepted);
    let _present = Present::new(shared.stats.clone());
    match tls {
        None => opening::serve(&shared, number, stream, address, None).await,
        Some(acceptor) => match opening::handshake(acceptor, stream).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates();
                let name = chain
                    .and_then(<[_]>::first)
                    .and_then(|certificate| (shared.config.certificate_name)(certificate.as_ref()));
                opening::serve(&shared, number, stream, address, name).await;
            }
            Err(fault) => tracing::warn!(%address, %fault, "a TLS handshake failed"),
        },
    }
}

/// A connection's hold on its client id; ends with it.
pub(super) struct Hold<'a> {
    shared: &'a Shared,
    client: Arc<str>,
    connection: u64,
    /// Told when another connection takes the client id.
    pub(super) kick: Arc<Notify>,
    _gone: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(
        config: ListenerConfig,
        exchange: Exchange,
        stats: Arc<ListenerStats>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let ingest = Arc::new(Semaphore::new(config.limits.ingest_bytes_max));
        let (store, clock) = (config.store.clone(), config.clock.clone());
        let hub = Hub::new(exchange, store, clock, stats.clone());
        Self { config, ingest, hub, stats, stop, clients: Mutex::default() }
    }

    /// Takes a client id; a connection that has it gives way first. `None` when it does not.
    pub(super) async fn hold(&self, client: &Arc<str>, connection: u64) -> Option<Hold<'_>> {
        let (gone_out, gone) = watch::channel(());
        let kick = Arc::new(Notify::new());
        let holder = Holder { connection, kick: kick.clone(), gone };
        let previous = {
            let mut clients = self.clients.lock().expect("nobody panics while holding it");
            clients.insert(client.clone(), holder)
        };
        let hold = Hold { shared: self, client: client.clone(), connection, kick, _gone: gone_out };
        if let Some(mut previous) = previous {
            previous.kick.notify_one();
            // The sender is dropped when the other connection has ended.
            let ended = tokio::time::timeout(TAKEOVER_WAIT, async {
                while previous.gone.changed().await.is_ok() {}
            });
            ended.await.ok()?;
        }
        Some(hold)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut clients = self.shared.clients.lock().expect("nobody panics while holding it");
        if clients.get(&self.client).is_some_and(|holder| holder.connection == self.connection) {
            clients.remove(&self.client);
        }
    }
}
