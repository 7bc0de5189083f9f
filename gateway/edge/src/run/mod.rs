//! The running program: opens what is on disk, starts one task for each line of the flow, stops in order.
//!
//! Drivers -> ingest -> writer -> spool -> link. On the way back run acknowledgements and cursors, which
//! take slots or fixed room, so that no circle of full queues can form.

mod acting;
mod anchoring;
mod carrying;
mod contracts;
mod dropping;
mod link;
mod mending;
mod mirroring;
mod mqtt;
mod negotiations;
mod notices;
mod publishing;
mod refilling;
mod report;
mod request;
mod rollover;
mod rota;
mod scribe;
mod scrubbing;
mod shut;
mod stamping;
mod state;
mod vouching;
mod witnessing;

pub use crate::standing::OfSpace;
pub use carrying::{CARRY_ANSWER_FILE, CARRY_REQUEST_FILE, CarryAnswer, CarryAsk, CarryRequest};
pub use dropping::{DROP_REQUEST_FILE, DropRequest};
pub use mending::SCRUB_REQUEST_FILE;
pub use rollover::{ROLLOVER_REQUEST_FILE, RolloverRequest};
pub use state::{KEYS_DIR, LOG_DIR, SPOOL_DIR, TABLES_DIR};

use crate::box_identity::{self, BoxKeyFault};
use crate::engine::{Effect, Event, Inspected, KeyRolled, RefillOutcome};
use crate::ingest::{self, SUBMISSIONS_MAX, Token};
use crate::log_keys::LogKeys;
use crate::negotiating::NegotiatingFault;
use crate::prover::LastVerdict;
use crate::status::{EngineStatus, EvidenceStatus, IntakeStatus, LinkUse};
use crate::system_clock::SharedClock;
use crate::watchdog::Watchdog;
use crate::wiring::{self, WiringFault};
use crate::writer::{self, Cursors, EVENT_QUEUE_MAX, Inputs};
use contracts::{Keeper, WORDS_MAX};
use guan_configs::{ConfigFaults, EdgeConfig};
use guan_drivers::DurableRun;
use guan_identity::tpm::Tpm;
use guan_link::driver::{LinkStatus, Permit, Released};
use guan_link::text::CheckpointText;
use guan_log::SignedHead;
use guan_model::{Digest, Now};
use guan_policy::TrustedKeys;
use notices::Notices;
use report::Reporter;
use state::{BoxEngine, Opened, StateFault};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
pub use witnessing::{COSIGNED_FILE, SPACE_KEYS_FILE};

/// How long drivers may take to say goodbye.
const STOP_WAIT: Duration = Duration::from_secs(5);
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Why guan does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    #[error(transparent)]
    Wiring(#[from] WiringFault),
    #[error(transparent)]
    State(#[from] StateFault),
    #[error(transparent)]
    Key(#[from] BoxKeyFault),
    #[error(transparent)]
    Link(#[from] link::LinkSetupFault),
    #[error(transparent)]
    Mqtt(#[from] mqtt::MqttSetupFault),
    #[error("the contracts cannot be read")]
    Contracts(#[source] crate::contracts::ContractFileError),
    #[error(transparent)]
    Standing(#[from] crate::standing::StandingFault),
    #[error(transparent)]
    Negotiating(#[from] NegotiatingFault),
    #[error("the writer stopped: {0}")]
    Writer(String),
    #[error(
        "this box was taken out of service ({}); `guan join` with a new token brings it back",
        marker.display()
    )]
    Decommissioned { marker: std::path::PathBuf },
    #[error("the TPM hangs; everything was kept, and the supervisor should start guan anew")]
    TpmHung,
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

/// What the tasks share.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) clock: SharedClock,
    pub(crate) committed: watch::Sender<u64>,
    pub(crate) checkpoint: watch::Sender<Option<CheckpointText>>,
    /// The newest signed head, with what a witness needs.
    pub(crate) head: watch::Sender<Option<SignedHead>>,
    /// The last ticket whose leaf is durable.
    pub(crate) noted: watch::Sender<u64>,
    pub(crate) evidence: watch::Sender<EvidenceStatus>,
    pub(crate) verdict: watch::Sender<LastVerdict>,
    pub(crate) engine: watch::Sender<Option<EngineStatus>>,
    pub(crate) intake: watch::Sender<IntakeStatus>,
    pub(crate) link: watch::Sender<LinkStatus>,
    /// Whether the link may be up, and what it has used.
    pub(crate) permit: watch::Sender<Permit>,
    pub(crate) link_use: watch::Sender<LinkUse>,
    pub(crate) released: watch::Sender<Released>,
    pub(crate) alarms: Arc<Mutex<Vec<String>>>,
    /// What contracts want told, by its kind.
    notices: Arc<Mutex<Notices>>,
    pub(crate) contracts: watch::Sender<Vec<String>>,
    /// Contracts of the space's set that are not here.
    pub(crate) wanted: watch::Sender<Vec<Digest>>,
    /// What can never leave; the writer gives it up.
    pub(crate) forfeits: watch::Sender<Cursors>,
    /// Set to `true`: a policy has come that may open the store.
    pub(crate) policy: watch::Sender<bool>,
    /// Set to `true`: the box is out of service.
    pub(crate) halted: watch::Sender<bool>,
    /// The log's keys; `None` while the store is shut.
    pub(crate) keys: watch::Sender<Option<LogKeys>>,
    /// How often the log's key was changed, or was to be.
    pub(crate) rolls: watch::Sender<u64>,
    /// What the writer saw of bundles last, and what became of the last leaves that came: for the one who asks.
    pub(crate) inspected: watch::Sender<Inspected>,
    pub(crate) refilled: watch::Sender<Option<RefillOutcome>>,
}

impl Board {
    fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            committed: watch::Sender::new(0),
            checkpoint: watch::Sender::new(None),
            head: watch::Sender::new(None),
            noted: watch::Sender::new(0),
            evidence: watch::Sender::new(EvidenceStatus::default()),
            verdict: watch::Sender::new(None),
            engine: watch::Sender::new(None),
            intake: watch::Sender::new(IntakeStatus::default()),
            link: watch::Sender::new(LinkStatus::default()),
            permit: watch::Sender::new(Permit::Open),
            link_use: watch::Sender::new(LinkUse::default()),
            released: watch::Sender::new(Released::new()),
            alarms: Arc::default(),
            notices: Arc::default(),
            contracts: watch::Sender::new(Vec::new()),
            wanted: watch::Sender::new(Vec::new()),
            forfeits: watch::Sender::new(Cursors::new()),
            policy: watch::Sender::new(false),
            halted: watch::Sender::new(false),
            keys: watch::Sender::new(None),
            rolls: watch::Sender::new(0),
            inspected: watch::Sender::new(Inspected::default()),
            refilled: watch::Sender::new(None),
        }
    }

    /// The log is not what it was, and everybody is told.
    pub(crate) fn suspect(&self, text: String) {
        self.evidence.send_modify(|status| status.suspect = Some(text.clone()));
        self.alarm(format!("the evidence log is suspect: {text}; keep the disk for examination"));
    }

    pub(crate) fn alarm(&self, text: String) {
        tracing::error!(alarm = %text, "an operator should look at this");
        let mut alarms = self.alarms.lock().expect("nobody panics while holding it");
        if !alarms.contains(&text) {
            if alarms.len() == crate::status::ALARMS_SHOWN {
                alarms.remove(0);
            }
            alarms.push(text);
        }
    }
}

impl Board {
    /// Beside the alarms, so that neither pushes out the other.
    pub(crate) fn notice(&self, kind: String, text: String) {
        tracing::info!(notice = %text, "a contract wants this told");
        self.notices.lock().expect("nobody panics while holding it").put(kind, text);
    }

    pub(crate) fn notices(&self) -> Vec<String> {
        self.notices.lock().expect("nobody panics while holding it").texts()
    }
}

/// Runs until SIGTERM or SIGINT, or until the disk can no longer be trusted.
pub async fn run(config: EdgeConfig, file: &str) -> Result<(), RunError> {
    check_in_service(&config)?;
    mqtt::provide_descriptors(&config)?;
    let decoder = Arc::new(wiring::decoder(&config, file)?);
    let keys = wiring::trusted_keys(&config)?;
    let tpm = box_identity::start_tpm(&config.identity)?;
    let Some(mut opened) = open_state(&config, &keys, tpm.as_ref()).await? else { return Ok(()) };
    let board = Board::new(opened.clock.clone());
    opened.show(&board);
    let (stop, stopping) = watch::channel(false);
    // Everything that can be refused is refused before anything runs.
    let source = opened.source(&board);
    let uplink = link::prepare(&config, source, opened.ours(), &board, tpm.clone())?;
    let (negotiator, publisher, desks, mail) = link::post_office(&config, &board)?;
    let vouching = opened.vouching(&config, tpm, keys);
    let (submissions_out, submissions) = mpsc::channel(SUBMISSIONS_MAX);
    let intake = mqtt::prepare(&config, submissions_out, &board).await?;
    let signals = Signals::new().map_err(RunError::Signals)?;

    let Opened { engine, boot, book, locks, ledger, .. } = opened;
    let (events_out, events) = mpsc::channel(EVENT_QUEUE_MAX);
    let mut writer = spawn_writer(engine, events, &board, config.state_dir.clone());
    // The engine starts with an empty plan: what is in force is recorded at each start.
    let keeper = Keeper::start(&config, book, events_out.clone(), board.clone()).await?;
    let ingest = tokio::spawn(ingest::run(
        submissions,
        decoder,
        board.clock.clone(),
        events_out.clone(),
        board.intake.clone(),
    ));
    let (listening, stats) = (intake.address(), intake.stats());
    let mut drivers = JoinSet::new();
    intake.spawn(&mut drivers, &stopping);
    let mut others = JoinSet::new();
    let (words_out, words) = mpsc::channel(WORDS_MAX);
    others.spawn(keeper.run(words));
    others.spawn(Reporter::new(&config, boot, listening.clone(), stats, board.clone()).run());
    stamping::spawn(&config, &board, ledger.clone(), &mut others);
    others.spawn(rota::run(config.link.use_of_link.clone(), ledger, board.clone()));
    others.spawn(negotiator.run());
    others.spawn(publisher.run());
    others.spawn(dropping::run(config.state_dir.clone(), board.clone(), events_out.clone()));
    let anchoring = vouching.spawn(&config, &board, &events_out, desks, &stopping, &mut others);
    let watchdog = uplink.as_ref().and_then(|uplink| uplink.watchdog(&config, &board));
    let link = uplink.map(|uplink| uplink.spawn(&stopping, &board, words_out, mail));

    let mqtt = listening.unwrap_or_else(|| "nothing".to_owned());
    tracing::info!(box_id = %config.box_id, %mqtt, boot = boot.0, "ready");
    let (failed, is_hung) = tokio::select! {
        () = ordered(signals, &board) => (None, false),
        () = hung(watchdog) => (None, true),
        outcome = &mut writer => (Some(outcome), false),
    };
    tracing::info!("stopping");
    let _ = stop.send(true);
    drain(drivers).await;
    // The last anchor is about what was signed before the end.
    let _ = tokio::time::timeout(STOP_WAIT, anchoring).await;
    others.shutdown().await;
    // All drivers are gone, so ingest comes to its end, then the writer gets its last event.
    let _ = tokio::time::timeout(STOP_WAIT, ingest).await;
    let outcome = match failed {
        Some(outcome) => outcome,
        None => {
            let _ = events_out.send(Event::Stop).await;
            writer.await
        }
    };
    if let Some(link) = link {
        let _ = tokio::time::timeout(STOP_WAIT, link).await;
    }
    drop(locks);
    outcome.unwrap_or_else(|_| Err("it panicked".to_owned())).map_err(RunError::Writer)?;
    if is_hung { Err(RunError::TpmHung) } else { Ok(()) }
}

/// Opens what is on disk, as soon as the TPM lets it; `None`: the program is to end before.
async fn open_state(
    config: &EdgeConfig,
    keys: &TrustedKeys,
    tpm: Option<&Tpm>,
) -> Result<Option<Opened>, RunError> {
    loop {
        match state::open(config, keys, tpm) {
            Ok(opened) => return Ok(Some(opened)),
            Err(fault) => {
                if !wait_for_policy(config, tpm, fault).await? {
                    return Ok(None);
                }
            }
        }
    }
}

/// The store is shut: whether a policy came that may open it. Any other fault ends the program.
async fn wait_for_policy(
    config: &EdgeConfig,
    tpm: Option<&Tpm>,
    fault: StateFault,
) -> Result<bool, RunError> {
    match (fault, tpm) {
        (StateFault::LogKey(shut), Some(tpm)) if shut.is_shut() => {
            shut::run(config, tpm.clone(), shut.to_string()).await
        }
        (fault, _) => Err(fault.into()),
    }
}

fn check_in_service(config: &EdgeConfig) -> Result<(), RunError> {
    let marker = config.state_dir.join(crate::upkeep::DECOMMISSIONED_FILE);
    if marker.exists() { Err(RunError::Decommissioned { marker }) } else { Ok(()) }
}

/// Clients are told goodbye, for as long as that may take.
async fn drain(mut drivers: JoinSet<()>) {
    let drained = async { while drivers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_WAIT, drained).await;
    drivers.shutdown().await;
}

/// Comes to an end when somebody wants the program to.
async fn ordered(mut signals: Signals, board: &Board) {
    let mut halted = board.halted.subscribe();
    tokio::select! {
        () = signals.wait() => {}
        _ = halted.wait_for(|halted| *halted) => {}
    }
}

/// Comes to an end when the program should, over its TPM.
async fn hung(watchdog: Option<Watchdog>) {
    match watchdog {
        Some(watchdog) => watchdog.run().await,
        None => std::future::pending().await,
    }
}

/// The writer blocks while the disk flushes, so it has a thread to itself.
fn spawn_writer(
    mut engine: BoxEngine,
    events: mpsc::Receiver<Event<Token>>,
    board: &Board,
    state_dir: PathBuf,
) -> tokio::task::JoinHandle<Result<(), String>> {
    let board = board.clone();
    let (cursors, forfeits) = (board.released.subscribe(), board.forfeits.subscribe());
    let inputs = Inputs { events, cursors, forfeits };
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|fault| fault.to_string())?;
        let mut clock = board.clock.clone();
        publish(&engine, &board);
        let mut durable = DurableRun::default();
        let outcome =
            runtime.block_on(writer::run(&mut engine, &mut clock, inputs, |engine, effect| {
                if let Some(effect) = ingest::answer(effect, &mut durable) {
                    handle_effect(engine, effect, &board, &state_dir);
                }
            }));
        publish(&engine, &board);
        outcome.map_err(|fault| guan_link::driver::describe(&fault))
    })
}

fn publish(engine: &BoxEngine, board: &Board) {
    board.engine.send_replace(Some(EngineStatus {
        counters: engine.counters().clone(),
        spool: engine.spool_status(),
        log: engine.log_head(),
        sessions: engine.sessions(),
        waiting: engine.waiting(),
    }));
}

fn handle_effect(engine: &BoxEngine, effect: Effect<Token>, board: &Board, state_dir: &Path) {
    match effect {
        Effect::Committed(_) => {
            board.committed.send_modify(|count| *count += 1);
            publish(engine, board);
        }
        Effect::Checkpoint(head) => {
            match CheckpointText::parse(&head.text) {
                Ok(text) => drop(board.checkpoint.send_replace(Some(text))),
                Err(fault) => {
                    board.alarm(format!("a signed head is too long for the link: {fault}"));
                }
            }
            board.evidence.send_modify(|status| status.signed = head.size);
            board.head.send_replace(Some(head));
        }
        Effect::KeyRolled(rolled) => {
            // Before the first head by the new key is shown to anybody.
            if let Some(KeyRolled { origin, leaf }) = rolled {
                board.keys.send_modify(|keys| {
                    let taken = keys.as_mut().map(|keys| keys.lineage.extend(&origin, &leaf).err());
                    if let Some(Some(fault)) = taken {
                        tracing::error!(%fault, "the log's new key does not follow");
                    }
                });
            }
            board.rolls.send_modify(|rolls| *rolls += 1);
        }
        Effect::Inspected(seen) => drop(board.inspected.send_replace(seen)),
        Effect::BundleRefilled(outcome) => drop(board.refilled.send_replace(Some(outcome))),
        Effect::Noted(ticket) => drop(board.noted.send_replace(ticket)),
        Effect::Look => {
            board.committed.send_modify(|count| *count += 1);
            publish(engine, board);
        }
        Effect::Quality(days) => {
            if let Err(fault) = crate::catalogue::keep_days(state_dir, &days) {
                board.alarm(format!("the quality figures are not kept: {fault}"));
            }
        }
        Effect::Alarm(text) => board.alarm(text),
        Effect::Notice { kind, text } => board.notice(kind, text),
        _ => {}
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The present moment of the box's clock in milliseconds, for status.
pub(crate) fn millis(now: Now) -> i64 {
    now.wall.millis()
}
