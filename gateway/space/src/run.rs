//! The running space: store, link, status; stops in order.

mod keepers;

use crate::admit::Admission;
use crate::alarms::{ALARMS_MAX, Alarms};
use crate::appraiser::{Appraiser, Common, Demands};
use crate::boot_logs::BootLogs;
use crate::care::Care;
use crate::carrying::Carrier;
use crate::catalogue_server;
use crate::catalogues::Catalogues;
use crate::inbox::StoreInbox;
use crate::joining::Joining;
use crate::logs::acting::Acting;
use crate::logs::deletions::{DELETIONS_DIR, Deletions};
use crate::logs::desk::Desk;
use crate::logs::folders::OsFolders;
use crate::logs::keys::{LogKeys, LogKeysFault};
use crate::logs::mirrors::Mirrors;
use crate::logs::witnesses::{Witnesses, WitnessesFault};
use crate::negotiating::{Mail, Negotiator};
use crate::parties::PartyKeys;
use crate::received::Tally;
use crate::registry::Registry;
use crate::retention::{DELETED_FILE, Retention, RetentionFault};
use crate::runner::{self, Clock, REQUESTS_MAX, Request, StoreStatus};
use crate::sets::{SetFault, Sets};
use crate::status;
use crate::store::{LogParts, Store, StoreError};
use bytes::Bytes;
use guan_configs::{MakerConfig, SpaceConfig, Tier as AcceptedTier};
use guan_evidence::Program;
use guan_identity::join::Maker;
use guan_identity::{
    CaFault, CertFault, KeyFault, KeyFile, LogKeyFile, SmallCa, Tier, TimeCell, TlsFault,
};
use guan_link::driver::{Appraise, LinkTuning, Peers, SpaceLink, TcpListen, TuningFault};
use guan_log::LeavesDamaged;
use guan_model::{ClockQuality, Digest, Now, Signer, WallTime};
use guan_spool::OsDisk;
use keepers::{Deleter, Deleting, keep, watch_uses};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Folder of the store in `space.state_dir`.
pub const STORE_DIR: &str = "store";
/// The same of the space's own log: what lies beside the store's journal.
pub const LOG_DIR: &str = "log";
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Why the space does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "{path} cannot be used: check rights and disk, and that no other guan-space runs on it"
    )]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the key of the server cannot be used")]
    Key(#[from] KeyFault),
    #[error("a certificate cannot be used")]
    Certificate(#[from] CertFault),
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error(transparent)]
    Tuning(#[from] TuningFault),
    #[error("{address} (UDP) cannot be listened on: check listen.address")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{address} (TCP) cannot be listened on: check catalogue.http_address")]
    Catalogue { address: SocketAddr, source: io::Error },
    #[error("the authority cannot be used; boxes cannot join without it")]
    Authority(#[from] CaFault),
    #[error("boxes cannot join: {0}")]
    Joining(String),
    #[error(transparent)]
    Sets(#[from] SetFault),
    #[error(transparent)]
    Retention(#[from] RetentionFault),
    #[error(transparent)]
    LogKeys(#[from] LogKeysFault),
    #[error(transparent)]
    Witnesses(#[from] WitnessesFault),
    #[error("the store stopped: {0}")]
    Stopped(String),
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
}

/// The system's clock.
fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn read(path: &Path) -> Result<String, RunError> {
    std::fs::read_to_string(path)
        .map_err(|source| RunError::Open { path: path.to_path_buf(), source })
}

/// Time for leaves: the monotonic part counts from the start of the program, which is their boot.
fn clock() -> Clock {
    let started = Instant::now();
    Arc::new(move || Now {
        wall: wall_time(),
        monotonic: started.elapsed(),
        quality: ClockQuality::Ntp,
    })
}

fn open_disk(config: &SpaceConfig, folder: &str) -> Result<OsDisk, RunError> {
    let path = config.state_dir.join(folder);
    let disk = OsDisk::open_exclusive(&path);
    disk.map_err(|source| RunError::Open { path, source })
}

fn open_store(config: &SpaceConfig, keys: &LogKeys) -> Result<Store<OsDisk>, RunError> {
    let (disk, log) = (open_disk(config, STORE_DIR)?, open_disk(config, LOG_DIR)?);
    let program = Program::parse(concat!("guan-space ", env!("CARGO_PKG_VERSION")));
    let program = program.expect("name and version are short and plain");
    let log = LogParts { disk: log, signer: keys.log.clone(), program };
    let (store, salvage) = Store::open(disk, config.segment_size_bytes, [0; 16], log)?;
    if salvage != guan_spool::Salvage::default() {
        tracing::warn!(?salvage, "the store was not closed in order; what was readable is kept");
    }
    for LeavesDamaged { from, through } in store.log_damaged() {
        tracing::error!(
            from,
            through,
            "entries of the log cannot be read any more; it goes on after them; keep the disk"
        );
    }
    Ok(store)
}

/// The server's chain and key.
struct Server {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn Signer>,
}

impl Server {
    fn load(config: &SpaceConfig) -> Result<Self, RunError> {
        let chain = guan_identity::read_certificates(&read(&config.certificate_file)?)?;
        let key: Arc<dyn Signer> = Arc::new(KeyFile::load(&config.key_file, "space server")?);
        Ok(Self { chain, key })
    }
}

/// Where boxes connect.
async fn listen(
    config: &SpaceConfig,
    server: &Server,
    time: Arc<TimeCell>,
) -> Result<(quinn::Endpoint, Option<TcpListen>), RunError> {
    let Server { chain, key } = server;
    let roots = guan_identity::read_certificates(&read(&config.ca_certificate_file)?)?;
    let (chain, key) = (chain.clone(), key.clone());
    let tls = guan_identity::server_config(chain, key, roots, guan_link::ALPN, time)?;
    let tuning = LinkTuning::default();
    let tcp = match config.tcp_listen {
        Some(address) => {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.map_err(|source| RunError::Listen { address, source })?;
            Some(TcpListen { listener, tls: tuning.tcp_server(tls.clone()), tuning })
        }
        None => None,
    };
    let (server, address) = (tuning.server(tls)?, config.listen);
    let endpoint = quinn::Endpoint::server(server, address);
    Ok((endpoint.map_err(|source| RunError::Listen { address, source })?, tcp))
}

/// The tiers that this space accepts.
pub fn accepted(config: &SpaceConfig) -> Vec<Tier> {
    config.accept_tiers.iter().map(|tier| known_tier(*tier)).collect()
}

/// A tier of the configuration in the words of the identity.
pub fn known_tier(tier: AcceptedTier) -> Tier {
    match tier {
        AcceptedTier::Unattested => Tier::Unattested,
        AcceptedTier::Emulated => Tier::Emulated,
        AcceptedTier::Hardware => Tier::Hardware,
    }
}

/// Issues certificates to boxes; `None` when they cannot join.
fn authority(config: &SpaceConfig) -> Result<Option<Arc<SmallCa>>, RunError> {
    if config.join_listen.is_none() {
        return Ok(None);
    }
    let key: Arc<dyn Signer> =
        Arc::new(KeyFile::load(&config.ca_key_file, "certificate authority")?);
    Ok(Some(Arc::new(SmallCa::load(&read(&config.ca_certificate_file)?, key)?)))
}

/// `None`: boxes cannot join.
fn joining(
    config: &SpaceConfig,
    server: &Server,
    authority: Option<Arc<SmallCa>>,
    time: Arc<TimeCell>,
    alarms: Alarms,
) -> Result<Option<Joining>, RunError> {
    let Some((address, authority)) = config.join_listen.zip(authority) else { return Ok(None) };
    let certificate = authority.certificate().clone();
    let (chain, key) = (server.chain.clone(), server.key.clone());
    let tls = guan_identity::join_server_config(chain, key, certificate, time)?;
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls)
        .map_err(|fault| RunError::Joining(fault.to_string()))?;
    let endpoint =
        quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), address)
            .map_err(|source| RunError::Listen { address, source })?;
    Ok(Some(Joining {
        endpoint,
        registry: Registry::new(&config.state_dir),
        authority,
        makers: config.makers.iter().map(maker).collect::<Result<_, _>>()?,
        accepted: accepted(config),
        clock: wall_time,
        alarms,
    }))
}

/// Self-signed certificates are roots, the others stand between.
fn maker(config: &MakerConfig) -> Result<Maker, RunError> {
    let all = guan_identity::read_certificates(&read(&config.certificates_file)?)?;
    let (roots, between): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|certificate| guan_identity::is_self_issued(certificate));
    Ok(Maker {
        name: config.name.clone(),
        tier: known_tier(config.tier),
        roots,
        intermediates: between.iter().map(|certificate| certificate.to_vec()).collect(),
    })
}

fn appraiser(
    config: &SpaceConfig,
    server: &Server,
    authority: Option<Arc<SmallCa>>,
    alarms: Alarms,
) -> Result<Arc<dyn Appraise>, RunError> {
    let signer = LogKeyFile::load(&config.contract_key_file, config.id.as_str())?;
    let attestation = &config.attestation;
    let demands = Demands {
        references_dir: attestation.references_dir.clone(),
        release_keys: attestation.release_keys.clone(),
        counter_min: attestation.counter_min,
        refused_firmware: attestation.refused_firmware.clone(),
    };
    let own_leaf = server.chain.first().map_or(Digest([0; 32]), |leaf| Digest::of(leaf));
    let registry = Registry::new(&config.state_dir);
    let care = Care { registry: registry.clone(), authority, clock: wall_time };
    let common = Common { care, boot_logs: BootLogs::new(&config.state_dir), alarms };
    let signer = Arc::new(signer);
    Ok(Appraiser::shared(registry, demands, own_leaf, signer, wall_time, common))
}

/// The contract sets of the boxes, signed with the key of this space's contracts.
pub fn open_sets(config: &SpaceConfig) -> Result<Sets, RunError> {
    Ok(Sets::open(&config.state_dir, config.id.as_str(), contract_signer(config)?)?)
}

fn contract_signer(config: &SpaceConfig) -> Result<Arc<LogKeyFile>, RunError> {
    Ok(Arc::new(LogKeyFile::load(&config.contract_key_file, config.id.as_str())?))
}

/// What it takes to watch the logs of boxes.
struct Logs {
    keys: LogKeys,
    requests: mpsc::Sender<Request>,
    tally: Tally,
    alarms: Alarms,
    clock: Clock,
}

impl Logs {
    fn new(
        keys: LogKeys,
        requests: &mpsc::Sender<Request>,
        tally: &Tally,
        alarms: &Alarms,
        clock: &Clock,
    ) -> Self {
        let (requests, tally) = (requests.clone(), tally.clone());
        Self { keys, requests, tally, alarms: alarms.clone(), clock: clock.clone() }
    }
}

/// The space watches the logs of the boxes, and tells them what its own says.
fn keep_logs(
    config: &SpaceConfig,
    mail: Mail,
    logs: Logs,
    keepers: &mut JoinSet<()>,
) -> Result<Mail, RunError> {
    let Logs { keys, requests, tally, alarms, clock } = logs;
    let (mail, letters) = mail.with_logs(Bytes::from(keys.letter()?));
    let folders = OsFolders::new(&config.state_dir);
    let registry = Registry::new(&config.state_dir);
    let attested = move |box_id: &guan_model::BoxId| {
        let enrolment = registry.find(box_id).map_err(|fault| fault.to_string())?;
        // Of a box that is gone nobody knows whether it has a TPM.
        let enrolment = enrolment.ok_or("this box is not enrolled")?;
        Ok(enrolment.tpm.map(|tpm| tpm.attestation_keys()).unwrap_or_default())
    };
    let witnesses = Witnesses::open(folders.clone(), keys.witness.clone(), Box::new(attested))?;
    let mirrors = Mirrors::new(folders, keys.mirror.clone());
    keepers.spawn(Acting::new(&config.state_dir, &alarms, requests.clone()).run());
    let desk = Desk { mail: mail.clone(), witnesses, mirrors, requests, tally, alarms, clock };
    keepers.spawn(desk.run(letters));
    Ok(mail)
}

/// What the space does about contracts beside the link: it keeps sets, negotiates and deletes.
async fn keep_contracts(
    config: &SpaceConfig,
    inbox: StoreInbox,
    logs: Logs,
    keepers: &mut JoinSet<()>,
    (alarms, overdue): (Alarms, watch::Sender<Vec<String>>),
) -> Result<StoreInbox, RunError> {
    let sets = open_sets(config)?;
    let (rosters_out, rosters) = watch::channel(0);
    let retention = Retention::open(&config.state_dir)?
        .with_alarms(alarms.clone())
        .with_boxes(config.peers_max);
    retention.read_duties(&sets);
    let deleter = Deleter {
        retention: retention.clone(),
        store: config.state_dir.join(STORE_DIR),
        space: config.id.to_string(),
        signer: contract_signer(config)?,
    };
    let disk = open_disk(config, DELETIONS_DIR)?;
    let deleting = Deleting {
        space: config.id.to_string(),
        turn: Arc::new(move || deleter.turn()),
        alarms,
        deletions: Deletions::new(config.state_dir.join(DELETED_FILE), disk),
        requests: logs.requests.clone(),
    };
    // What a crash left out comes before anything new.
    deleting.log().await;
    keep(keepers, (sets.clone(), retention.clone(), rosters_out), deleting);
    keepers.spawn(watch_uses(config.clone(), sets.clone(), overdue));
    let (mail, letters) = Mail::new();
    let (clock, tally) = (logs.clock.clone(), logs.tally.clone());
    let mail = keep_logs(config, mail, logs, keepers)?;
    let negotiator = Negotiator {
        mail: mail.clone(),
        state_dir: config.state_dir.clone(),
        keys: PartyKeys::new(config),
        sets: sets.clone(),
        clock: Arc::new(wall_time),
    };
    keepers.spawn(negotiator.run(letters));
    let inbox = inbox.with_sets(sets.clone(), rosters).with_retention(retention).with_mail(mail);
    let carrier = Carrier {
        space: config.id.clone(),
        state_dir: config.state_dir.clone(),
        registry: Registry::new(&config.state_dir),
        accepted: accepted(config),
        inbox: inbox.clone(),
        signer: contract_signer(config)?,
        clock,
        tally,
        sets,
    };
    keepers.spawn(carrier.run());
    Ok(inbox)
}

/// Catalogues over HTTP, if they are wanted.
async fn serve_catalogues(config: &SpaceConfig, keepers: &mut JoinSet<()>) -> Result<(), RunError> {
    let Some(address) = config.catalogue_listen else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|source| RunError::Catalogue { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "catalogues are served over HTTP");
    }
    keepers.spawn(catalogue_server::serve(listener, Catalogues::open(&config.state_dir)));
    Ok(())
}

/// Runs until SIGTERM or SIGINT, or until the disk can no longer be trusted.
pub async fn run(config: SpaceConfig) -> Result<(), RunError> {
    let keys = LogKeys::open_or_create(&config.state_dir, config.id.as_str())?;
    let store = open_store(&config, &keys)?;
    let time = Arc::new(TimeCell::new(wall_time()));
    let server = Server::load(&config)?;
    let (endpoint, tcp) = listen(&config, &server, time.clone()).await?;
    let authority = authority(&config)?;
    let alarms = Alarms::default();
    let joining = joining(&config, &server, authority.clone(), time.clone(), alarms.clone())?;
    let appraise = appraiser(&config, &server, authority, alarms.clone())?;
    let listen = endpoint.local_addr().map_or(config.listen, |address| address).to_string();
    let (requests_out, requests) = mpsc::channel(REQUESTS_MAX);
    let (status_out, store_status) = watch::channel(StoreStatus::default());
    let (clock, tally) = (clock(), Tally::default());
    let logs = Logs::new(keys, &requests_out, &tally, &alarms, &clock);
    let running = runner::run(store, requests, status_out, clock, tally);
    let mut runner = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let outcome = runtime.map_err(|fault| fault.to_string())?.block_on(running);
        outcome.map_err(|fault| guan_link::driver::describe(&fault))
    });
    let inbox = StoreInbox::new(requests_out, store_status.clone(), Arc::new(wall_time));
    let mut keepers = JoinSet::new();
    let (overdue_out, overdue) = watch::channel(Vec::new());
    let told = (alarms.clone(), overdue_out);
    let inbox = keep_contracts(&config, inbox, logs, &mut keepers, told).await?;
    serve_catalogues(&config, &mut keepers).await?;
    let tiers = accepted(&config);
    let (stop, stopping) = watch::channel(false);
    let (peers_out, peers) = watch::channel(Peers::new());
    let link = SpaceLink {
        endpoint,
        tcp,
        inbox: inbox.clone(),
        admit: Admission::new(Registry::new(&config.state_dir), &tiers, alarms.clone()),
        appraise: Some(appraise),
        peers_max: config.peers_max,
        peers: peers_out,
        stop: stopping.clone(),
    };
    if let Some(joining) = joining {
        tokio::spawn(joining.run(stopping));
    }
    let mut link = tokio::spawn(link.run());
    let inbox_seen = inbox.clone();
    let parts =
        StatusParts { store: store_status, peers, inbox: inbox_seen, time, alarms, overdue };
    let reporter = tokio::spawn(report(config.clone(), listen.clone(), parts));
    let signalled = signalled()?;
    tracing::info!(space = %config.id, %listen, "ready");
    let failed = tokio::select! {
        () = signalled => None,
        outcome = &mut runner => Some(outcome),
    };
    tracing::info!("stopping");
    let _ = stop.send(true);
    if tokio::time::timeout(STOP_WAIT, &mut link).await.is_err() {
        link.abort();
        let _ = link.await;
    }
    reporter.abort();
    keepers.shutdown().await;
    // The last senders go, so the store commits what is queued and comes to its end.
    drop(inbox);
    let _ = reporter.await;
    let outcome = match failed {
        Some(outcome) => outcome,
        None => runner.await,
    };
    outcome.unwrap_or_else(|_| Err("it panicked".to_owned())).map_err(RunError::Stopped)
}

/// Signals are caught from here on; the future ends with the first.
fn signalled() -> Result<impl Future<Output = ()>, RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

struct StatusParts {
    store: watch::Receiver<StoreStatus>,
    peers: watch::Receiver<Peers>,
    inbox: StoreInbox,
    time: Arc<TimeCell>,
    alarms: Alarms,
    overdue: watch::Receiver<Vec<String>>,
}

/// Writes the status file each second, and keeps the time of certificate checks.
async fn report(config: SpaceConfig, listen: String, parts: StatusParts) {
    let id = config.id.to_string();
    let mut has_failed = false;
    loop {
        let now = wall_time();
        parts.time.set(now);
        let reports = parts.inbox.reports();
        let mut status = status::compose(
            &id,
            &listen,
            now,
            &parts.store.borrow(),
            &parts.peers.borrow(),
            &reports,
        );
        status.alarms.extend(parts.alarms.list());
        status.alarms.extend(parts.overdue.borrow().iter().take(ALARMS_MAX).cloned());
        let written = status::write(&config.state_dir, &status);
        if let (Err(fault), false) = (&written, has_failed) {
            tracing::warn!(%fault, "the status cannot be written");
        }
        has_failed = written.is_err();
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}
