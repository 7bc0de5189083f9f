//! rumqttc as a client of a broker that the site already has.
//!
//! Each message is acknowledged to the broker only when the engine has settled it, so a crash loses nothing:
//! the broker sends again. Rules that rumqttc's manual acknowledgements need (research/datapath.md, 5):
//! - The event loop has a task of its own, which waits for the engine only as back-pressure. A poll is never
//!   dropped half-way, except to end its connection.
//! - What belongs to an earlier connection is dropped with it, acknowledgements and packets that rumqttc has
//!   read but not handed out: their packet ids mean something else to the new one.
//! - A message that is not acknowledged comes again only at the next connection, and takes room in the
//!   broker's window until then. So a refusal that may pass ends the connection, after which we pause.
//! - Subscribes at QoS 1: with manual acknowledgement rumqttc answers a QoS 2 release before we could make it
//!   durable.

mod pump;
#[cfg(test)]
mod tests;

use crate::submission::{Submission, outcomes};
use guan_model::WallTime;
use pump::Pump;
use rumqttc::{AsyncClient, MqttOptions, TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use zeroize::Zeroizing;

/// Messages of one broker that wait for the engine.
pub const INFLIGHT_MAX: u16 = 1024;
/// Bytes of one broker's messages that wait for the engine.
pub const QUEUED_BYTES_MAX: usize = 8 << 20;
/// Acknowledgements that rumqttc has not sent: a broker has no more packet ids, so there is always room.
const ACKNOWLEDGEMENTS_MAX: usize = u16::MAX as usize;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A broker and what is wanted of it.
pub struct BrokerConfig {
    /// For logs.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub topics: Vec<String>,
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// PEM of the authority of the broker's certificate; TLS when set.
    pub authority: Option<Vec<u8>>,
    pub packet_bytes_max: usize,
    pub submissions: mpsc::Sender<Submission>,
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct BrokerStats {
    pub connections: AtomicU64,
    pub failures: AtomicU64,
    pub messages: AtomicU64,
    /// Messages that the engine refused for good; they are acknowledged.
    pub messages_refused: AtomicU64,
}

/// What makes a client impossible.
#[derive(Debug, thiserror::Error)]
enum SetupFault {
    #[error("broker.client_id is empty: a session that outlives its connection needs one")]
    NoClientId,
    #[error("broker.ca_file is not a PEM file of certificates")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("broker.ca_file cannot be used for TLS")]
    Tls(#[from] rustls::Error),
}

/// A client of one broker.
pub struct BrokerClient {
    config: BrokerConfig,
    stats: Arc<BrokerStats>,
}

impl BrokerClient {
    pub fn new(config: BrokerConfig) -> Self {
        Self { config, stats: Arc::default() }
    }

    pub fn stats(&self) -> Arc<BrokerStats> {
        self.stats.clone()
    }

    /// Runs until it is stopped, or the engine is gone.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let options = match self.options() {
            Ok(options) => options,
            Err(fault) => {
                count(&self.stats.failures);
                let source = std::error::Error::source(&fault).map(ToString::to_string);
                return tracing::error!(
                    broker = %self.config.name, %fault, source, "a broker is left out"
                );
            }
        };
        let requests_max = ACKNOWLEDGEMENTS_MAX + self.config.topics.len();
        let (client, events) = AsyncClient::new(options, requests_max);
        let (outcomes_out, outcomes) = outcomes();
        let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        let pump = Pump {
            config: &self.config,
            stats: &self.stats,
            client,
            outcomes_out,
            outcomes,
            room,
            waiting: VecDeque::new(),
            next_ticket: 0,
            connection: 0,
            connected: None,
            must_reconnect: false,
            backoff: BACKOFF_MIN,
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = pump.run(events) => {}
        }
    }

    fn options(&self) -> Result<MqttOptions, SetupFault> {
        let config = &self.config;
        if config.client_id.is_empty() {
            return Err(SetupFault::NoClientId);
        }
        let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
        options.set_keep_alive(Duration::from_secs(30));
        options.set_clean_session(false);
        options.set_manual_acks(true);
        options.set_inflight(INFLIGHT_MAX);
        options.set_max_packet_size(config.packet_bytes_max, config.packet_bytes_max);
        if let Some((name, password)) = &config.credentials {
            options.set_credentials(name, password.as_str());
        }
        if let Some(authority) = &config.authority {
            let tls = TlsConfiguration::Rustls(Arc::new(tls(authority)?));
            options.set_transport(Transport::Tls(tls));
        }
        Ok(options)
    }
}

/// With its own provider, so that the program need not install one for the whole process.
fn tls(authority: &[u8]) -> Result<rustls::ClientConfig, SetupFault> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.map_err(SetupFault::Pem)?)?;
    }
    if roots.is_empty() {
        return Err(SetupFault::Pem(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
