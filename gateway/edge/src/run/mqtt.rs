//! Starts the drivers: our listener, and a client for each broker of the site.

use super::Board;
use crate::session_files;
use crate::wiring::{self, WiringFault};
use guan_configs::EdgeConfig;
use guan_configs::edge::{BrokerConfig as BrokerSettings, MqttTlsConfig};
use guan_drivers::broker_client::{BrokerClient, BrokerConfig};
use guan_drivers::mqtt::{ListenFault, Listener, ListenerConfig, ListenerStats, SessionStore};
use guan_drivers::{Submission, raise_descriptors};
use guan_identity::common_name;
use guan_model::WallTime;
use guan_spool::{JournalError, OsDisk, Salvage};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Longest packet from a broker of the site.
const BROKER_PACKET_BYTES_MAX: usize = 1 << 20;
/// Folder of MQTT sessions and retained messages, under the state.
const SESSIONS_DIR: &str = "mqtt";
/// Spool, log, metadata, sockets to space and brokers, and clients that are being turned away.
const DESCRIPTORS_OF_OUR_OWN: u64 = 256;

/// Why the drivers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MqttSetupFault {
    #[error(transparent)]
    Wiring(#[from] WiringFault),
    #[error("MQTT cannot listen on {address}: check mqtt.listen, and that no other program does")]
    Listen { address: SocketAddr, source: ListenFault },
    #[error(
        "{path} cannot be opened: check the disk, and that no other guan runs on this state_dir"
    )]
    Folder { path: PathBuf, source: io::Error },
    #[error("the MQTT sessions in {path} cannot be read")]
    Sessions { path: PathBuf, source: JournalError },
    #[error(
        "mqtt.connections_max = {connections_max} needs {wanted} file descriptors and this process may \
         have {limit}: raise its hard limit (LimitNOFILE= in the unit, ulimit -Hn in a shell) or lower \
         mqtt.connections_max"
    )]
    Descriptors { connections_max: usize, wanted: u64, limit: u64 },
    #[error("{path} is no PEM file of the kind that is needed there")]
    Pem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("the TLS files of [mqtt.tls] do not fit together: {detail}")]
    Tls { detail: String },
}

/// Drivers that are ready to run.
pub(super) struct Intake {
    listener: Option<Listener>,
    brokers: Vec<BrokerClient>,
    /// Closed when sessions can be kept no more.
    kept: Option<watch::Receiver<u64>>,
    board: Board,
}

/// Says so when the files of the sessions have failed. A listener that stops lets go of them, too.
async fn watch_sessions(
    mut kept: watch::Receiver<u64>,
    mut stop: watch::Receiver<bool>,
    board: Board,
) {
    let failed = async { while kept.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = failed => board.alarm(
            "MQTT sessions and retained messages cannot be kept any more: check the disk under \
             box.state_dir, then restart guan"
                .to_owned(),
        ),
    }
}

pub(super) async fn prepare(
    config: &EdgeConfig,
    submissions: mpsc::Sender<Submission>,
    board: &Board,
) -> Result<Intake, MqttSetupFault> {
    let clock = board.clock.clone();
    let clock: Arc<dyn Fn() -> WallTime + Send + Sync> = Arc::new(move || clock.read().wall);
    let mut kept = None;
    let listener = match &config.mqtt {
        None => None,
        Some(mqtt) => {
            let (files, records) = open_sessions(&config.state_dir)?;
            kept = Some(files.committed());
            let listener = ListenerConfig {
                limits: wiring::listener_limits(mqtt),
                tls: mqtt.tls.as_ref().map(server_tls).transpose()?,
                certificate_name: Arc::new(common_name),
                authenticator: wiring::authenticator(mqtt)?,
                submissions: submissions.clone(),
                clock: clock.clone(),
                store: Arc::new(files),
                records,
            };
            let address = mqtt.listen;
            let listen = |source| MqttSetupFault::Listen { address, source };
            Some(Listener::bind(address, listener).await.map_err(listen)?)
        }
    };
    let brokers = config.brokers.iter();
    let brokers: Result<Vec<_>, MqttSetupFault> =
        brokers.map(|broker| client(broker, &submissions, &clock)).collect();
    Ok(Intake { listener, brokers: brokers?, kept, board: board.clone() })
}

fn open_sessions(
    state_dir: &Path,
) -> Result<(session_files::SessionFiles, Vec<Vec<u8>>), MqttSetupFault> {
    let path = state_dir.join(SESSIONS_DIR);
    let folder = |source| MqttSetupFault::Folder { path: path.clone(), source };
    let disk = OsDisk::open_exclusive(&path).map_err(folder)?;
    let sessions = |source| MqttSetupFault::Sessions { path: path.clone(), source };
    let opened = session_files::open(disk).map_err(sessions)?;
    if opened.salvage.damaged_places > 0 {
        let Salvage { damaged_places, damaged_bytes, .. } = opened.salvage;
        tracing::error!(
            damaged_places, damaged_bytes, path = %path.display(),
            "a part of the MQTT sessions cannot be read any more; subscribers may miss messages"
        );
    }
    // Its thread ends with the listener, after the last record.
    Ok((opened.files, opened.records))
}

/// Sees to it that as many clients can connect as the configuration promises.
pub(super) fn provide_descriptors(config: &EdgeConfig) -> Result<(), MqttSetupFault> {
    let connections_max = config.mqtt.as_ref().map_or(0, |mqtt| mqtt.connections_max);
    let wanted = connections_max as u64 + DESCRIPTORS_OF_OUR_OWN;
    let limit = raise_descriptors(wanted);
    match limit >= wanted {
        true => Ok(()),
        false => Err(MqttSetupFault::Descriptors { connections_max, wanted, limit }),
    }
}

fn client(
    broker: &BrokerSettings,
    submissions: &mpsc::Sender<Submission>,
    clock: &Arc<dyn Fn() -> WallTime + Send + Sync>,
) -> Result<BrokerClient, MqttSetupFault> {
    let password = broker.password_file.as_deref().map(wiring::password).transpose()?;
    let authority = broker.ca_file.as_deref().map(wiring::read_text).transpose()?;
    Ok(BrokerClient::new(BrokerConfig {
        name: broker.name.clone(),
        host: broker.host.clone(),
        port: broker.port,
        client_id: broker.client_id.clone(),
        topics: broker.topics.clone(),
        credentials: broker.username.clone().map(|name| (name, password.unwrap_or_default())),
        authority: authority.map(String::into_bytes),
        packet_bytes_max: BROKER_PACKET_BYTES_MAX,
        submissions: submissions.clone(),
        clock: clock.clone(),
    }))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MqttSetupFault> {
    let pem = |source| MqttSetupFault::Pem { path: path.to_path_buf(), source };
    CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<_, _>>().map_err(pem)
}

fn server_tls(config: &MqttTlsConfig) -> Result<Arc<rustls::ServerConfig>, MqttSetupFault> {
    let tls = |detail: String| MqttSetupFault::Tls { detail };
    let chain = certificates(&config.certificate_file)?;
    let path = &config.key_file;
    let key = PrivateKeyDer::from_pem_file(path)
        .map_err(|source| MqttSetupFault::Pem { path: path.clone(), source })?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(ring.clone())
        .with_safe_default_protocol_versions()
        .map_err(|fault| tls(fault.to_string()))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|fault| tls(fault.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring).build();
            builder.with_client_cert_verifier(verifier.map_err(|fault| tls(fault.to_string()))?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|fault| tls(fault.to_string()))?;
    Ok(Arc::new(config))
}

impl Intake {
    pub(super) fn address(&self) -> Option<String> {
        let address = self.listener.as_ref()?.local_addr().ok()?;
        Some(address.to_string())
    }

    pub(super) fn stats(&self) -> Option<Arc<ListenerStats>> {
        self.listener.as_ref().map(Listener::stats)
    }

    pub(super) fn spawn(self, tasks: &mut JoinSet<()>, stop: &watch::Receiver<bool>) {
        for broker in self.brokers {
            tasks.spawn(broker.run(stop.clone()));
        }
        if let Some(listener) = self.listener {
            tasks.spawn(listener.run(stop.clone()));
        }
        if let Some(kept) = self.kept {
            tasks.spawn(watch_sessions(kept, stop.clone(), self.board));
        }
    }
}
