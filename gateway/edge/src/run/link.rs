//! The link's endpoint, its certificates, and what its events mean for the operator.

use super::Board;
use super::contracts::Word;
use super::negotiations::Negotiator;
use super::publishing::Publisher;
use crate::box_identity::{self, BoxKeyFault};
use crate::credentials::{Candidate, Credentials};
use crate::leaving::Door;
use crate::negotiating::NegotiatingFault;
use crate::prover::{self, Facts, Prover, Told};
use crate::sealing;
use crate::status::EngineStatus;
use crate::upkeep::{Surroundings, Upkeep, next_certificate};
use crate::watchdog::Watchdog;
use crate::wiring::{self, WiringFault};
use guan_configs::EdgeConfig;
use guan_configs::edge::{CongestionName, LinkConfig, TransportName};
use guan_identity::tpm::Tpm;
use guan_identity::{CertFault, Tier, TimeCell, TlsFault, peer_identity};
use guan_link::driver::{
    Attest, BatchSource, BoxInputs, BoxLink, BoxOutputs, ClientTls, Congestion, HostPort,
    LinkEvent, LinkTuning, Paths, TuningFault,
};
use guan_link::text::ReportJson;
use guan_link::{LETTERS_MAX, Letter, Topic};
use guan_link::{Route, TransportChoice};
use guan_model::{BootNumber, BoxId, Digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// So much of an alarm goes into a report; the box has the rest.
const ALARM_CHARS_MAX: usize = 160;
/// Longest list of alarms in a report, as JSON; the rest of a report is short.
const ALARMS_BYTES_MAX: usize = 12 << 10;
/// Most events that wait to be logged.
const EVENTS_MAX: usize = 256;
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Why the link cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkSetupFault {
    #[error(transparent)]
    Wiring(#[from] WiringFault),
    #[error(transparent)]
    Key(#[from] BoxKeyFault),
    #[error("a certificate cannot be used; get it from the space again")]
    Certificate(#[from] CertFault),
    #[error(
        "the certificate is for box {found}, the configuration says {configured}: enrol this box, or \
         correct box.id"
    )]
    OtherBox { found: BoxId, configured: BoxId },
    #[error(
        "the certificate says tier {certified} and identity.tier says {named}: a box never falls to another tier \
         by itself; join the space again, or correct identity.tier"
    )]
    OtherTier { certified: Tier, named: Tier },
    #[error("the certificate file holds no certificate; `guan-space box enrol` writes it")]
    NoCertificate,
    #[error(transparent)]
    Tls(#[from] TlsFault),
    #[error(transparent)]
    Tuning(#[from] TuningFault),
    #[error("no UDP socket can be opened")]
    Socket(#[source] io::Error),
}

/// Letters of the space, and letters to it.
pub(super) struct Mail {
    negotiations: mpsc::Sender<Letter>,
    receipts: mpsc::Sender<Letter>,
    evidence: mpsc::Sender<Letter>,
    refills: mpsc::Sender<Letter>,
    sent: mpsc::Receiver<Letter>,
}

/// Letters out, and the letters of one reader in.
pub(super) type Desk = (mpsc::Sender<Letter>, mpsc::Receiver<Letter>);

/// For those who look after the log.
pub(super) struct LogDesks {
    pub(super) evidence: Desk,
    /// Leaves that the mirror gives back.
    pub(super) refills: Desk,
}

/// Who reads and writes letters, and the link's ends of their mail.
pub(super) fn post_office(
    config: &EdgeConfig,
    board: &Board,
) -> Result<(Negotiator, Publisher, LogDesks, Mail), NegotiatingFault> {
    let (out, sent) = mpsc::channel(LETTERS_MAX);
    let (negotiations, letters) = mpsc::channel(LETTERS_MAX);
    let (receipts, answers) = mpsc::channel(LETTERS_MAX);
    let (evidence, about_logs) = mpsc::channel(LETTERS_MAX);
    let (refills, leaves) = mpsc::channel(LETTERS_MAX);
    let negotiator = Negotiator::open(config, board, out.clone(), letters)?;
    let publisher = Publisher::new(config, board, out.clone(), answers);
    let mail = Mail { negotiations, receipts, evidence, refills, sent };
    let desks = LogDesks { evidence: (out.clone(), about_logs), refills: (out, leaves) };
    Ok((negotiator, publisher, desks, mail))
}

impl Mail {
    /// Nobody writes, and what comes is not read.
    pub(super) fn nobody() -> Self {
        let nobody = || mpsc::channel(1).0;
        let (negotiations, receipts, evidence) = (nobody(), nobody(), nobody());
        Self { negotiations, receipts, evidence, refills: nobody(), sent: mpsc::channel(1).1 }
    }
}

/// A link that is ready to run.
pub(super) struct Uplink<S> {
    endpoint: quinn::Endpoint,
    credentials: Credentials,
    locate: HostPort,
    paths: Paths,
    server_name: String,
    source: S,
    time: Arc<TimeCell>,
    attest: Option<Arc<dyn Attest>>,
    upkeep: Option<Upkeep>,
    tpm: Option<Tpm>,
    backlog_percent: u8,
    rate_bytes_per_s_max: Option<u64>,
}

/// `None` when the link is off.
pub(super) fn prepare<S: BatchSource>(
    config: &EdgeConfig,
    source: S,
    (boot, door): (BootNumber, Door),
    board: &Board,
    tpm: Option<Tpm>,
) -> Result<Option<Uplink<S>>, LinkSetupFault> {
    if !config.link.is_enabled {
        tracing::info!("link.enabled is false: everything stays in the spool");
        return Ok(None);
    }
    let identity = &config.identity;
    let certificate = wiring::read_text(&identity.certificate_file)?;
    let time = Arc::new(TimeCell::new(board.clock.read().wall));
    let maker = CandidateMaker {
        config: config.clone(),
        tpm: tpm.clone(),
        roots: guan_identity::read_certificates(&wiring::read_text(&identity.space_ca_file)?)?,
        time: time.clone(),
    };
    let current = maker.make(&certificate)?;
    let next = next_certificate(&identity.certificate_file);
    let next = wiring::read_text(&next).ok().and_then(|pem| match maker.make(&pem) {
        Ok(next) => Some(next),
        Err(fault) => {
            tracing::warn!(%fault, "the renewed certificate is left aside");
            None
        }
    });
    let credentials = Credentials::new(current, next);
    let watched = tpm.clone();
    let proof = tpm.map(|tpm| prover(tpm, (boot, door), board, credentials.clone(), maker));
    let (attest, upkeep) = proof.unzip();
    let local = match config.link.host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    Ok(Some(Uplink {
        endpoint: quinn::Endpoint::client(local).map_err(LinkSetupFault::Socket)?,
        credentials,
        locate: HostPort { host: config.link.host.clone(), port: config.link.port },
        paths: paths(&config.link),
        server_name: config.link.server_name.clone(),
        source,
        time,
        attest,
        upkeep,
        tpm: watched,
        backlog_percent: config.link.use_of_link.backlog_percent,
        rate_bytes_per_s_max: rate_bytes_per_s_max(&config.link),
    }))
}

/// The certificate is this box's, and of the tier that the operator named.
fn check_name<'a>(
    chain: &'a [CertificateDer<'static>],
    config: &EdgeConfig,
) -> Result<&'a CertificateDer<'static>, LinkSetupFault> {
    let first = chain.first().ok_or(LinkSetupFault::NoCertificate)?;
    let (found, certified) = peer_identity(first)?;
    let (configured, named) = (config.box_id.clone(), box_identity::tier(&config.identity));
    if found != configured {
        return Err(LinkSetupFault::OtherBox { found, configured });
    }
    match certified == named {
        true => Ok(first),
        false => Err(LinkSetupFault::OtherTier { certified, named }),
    }
}

/// Makes a certificate of this box usable.
struct CandidateMaker {
    config: EdgeConfig,
    tpm: Option<Tpm>,
    roots: Vec<CertificateDer<'static>>,
    time: Arc<TimeCell>,
}

impl CandidateMaker {
    fn make(&self, pem: &str) -> Result<Candidate, LinkSetupFault> {
        let config = &self.config;
        let chain = guan_identity::read_certificates(pem)?;
        let leaf = check_name(&chain, config)?.clone();
        let key = box_identity::signer(config, self.tpm.as_ref(), &leaf)?;
        let (roots, time) = (self.roots.clone(), self.time.clone());
        let tls = guan_identity::client_config(chain, key, roots, guan_link::ALPN, time)?;
        let tuning = tuning(&config.link);
        let tcp = Some(tuning.tcp_client(tls.clone()));
        let tls = ClientTls { quic: tuning.client(tls)?, tcp };
        Ok(Candidate { tls, leaf: Digest::of(&leaf) })
    }
}

fn rate_bytes_per_s_max(config: &LinkConfig) -> Option<u64> {
    config.use_of_link.rate_bits_per_s_max.map(|bits| bits / 8)
}

fn paths(config: &LinkConfig) -> Paths {
    let choice = match config.transport {
        TransportName::Auto => TransportChoice::Auto,
        TransportName::Quic => TransportChoice::Quic,
        TransportName::Tcp => TransportChoice::Tcp,
    };
    let (route, tcp_port) = (Route::new(choice), config.tcp_port);
    Paths { route, tcp_port, tuning: tuning(config), ..Paths::default() }
}

fn tuning(config: &LinkConfig) -> LinkTuning {
    let wanted = &config.use_of_link;
    let rate_bytes_per_s_max = rate_bytes_per_s_max(config);
    LinkTuning {
        keep_alive: config.keep_alive,
        idle_timeout: config.idle_timeout,
        congestion: match wanted.congestion {
            CongestionName::Guan => Congestion::Guan { rate_bytes_per_s_max },
            CongestionName::Cubic => Congestion::Cubic,
        },
        // Longer packets do not pay on connections that are short.
        is_probing_size: wanted.sleep_after.is_none(),
        ..LinkTuning::default()
    }
}

fn prover(
    tpm: Tpm,
    (boot, door): (BootNumber, Door),
    board: &Board,
    credentials: Credentials,
    maker: CandidateMaker,
) -> (Arc<dyn Attest>, Upkeep) {
    let config = maker.config.clone();
    let facts = Facts {
        tier: box_identity::tier(&config.identity),
        release: config.identity.release.clone(),
        boot: boot.0,
    };
    let tpm_dir = config.identity.tpm.as_ref().map(|tpm| tpm.folder.clone()).unwrap_or_default();
    prover::keep_attestation_key(&tpm_dir, &config.state_dir);
    let engine = board.engine.subscribe();
    let queue = board.engine.subscribe();
    let head = move || {
        let none = (0, Digest([0; 32]));
        engine.borrow().as_ref().map_or(none, |engine| (engine.log.size, engine.log.root))
    };
    let log_head: prover::LogHeadSource = Arc::new(head);
    let (alarms, halted) = (board.clone(), board.halted.clone());
    let (seal, policy) = (config.identity.seal.clone(), board.policy.clone());
    let alarm: prover::Alarm = Arc::new(move |text| alarms.alarm(text));
    let secure_boot: prover::SecureBoot =
        Arc::new(move |is_on| door.set_situation(|situation| situation.secure_boot = is_on));
    let upkeep = Upkeep::new(Surroundings {
        tpm: tpm.clone(),
        tpm_dir,
        state_dir: config.state_dir.clone(),
        certificate_file: config.identity.certificate_file.clone(),
        box_id: config.box_id.clone(),
        clock: board.clock.clone(),
        credentials: credentials.clone(),
        prepare: Box::new(move |pem| {
            maker.make(pem).map_err(|fault| guan_link::driver::describe(&fault))
        }),
        log_head: log_head.clone(),
        queued: Box::new(move || {
            let streams = |engine: &EngineStatus| {
                engine.spool.streams.iter().map(|stream| stream.queued_batches).sum()
            };
            queue.borrow().as_ref().map_or(0, streams)
        }),
        alarm: alarm.clone(),
        halt: Box::new(move || {
            halted.send_replace(true);
        }),
        take_policy: Box::new(move |text| {
            let Some(seal) = &seal else { return Err("nothing is sealed here".to_owned()) };
            if sealing::take_policy(seal, text)? {
                policy.send_replace(true);
            }
            Ok(())
        }),
    });
    let kept = upkeep.clone();
    let dir = &config.state_dir;
    let told = Told { alarm, verdicts: board.verdict.clone(), secure_boot };
    (Arc::new(Prover::new(tpm, facts, log_head, dir, told, credentials, kept)), upkeep)
}

impl<S: BatchSource> Uplink<S> {
    /// Over the TPM, when there is one.
    pub(super) fn watchdog(&self, config: &EdgeConfig, board: &Board) -> Option<Watchdog> {
        let (clock, alarms) = (board.clock.clone(), board.clone());
        Some(Watchdog {
            tpm: self.tpm.clone()?,
            state_dir: config.state_dir.clone(),
            now_s: Box::new(move || clock.read().wall.millis() / 1000),
            alarm: Arc::new(move |text| alarms.alarm(text)),
        })
    }

    pub(super) fn spawn(
        self,
        stop: &watch::Receiver<bool>,
        board: &Board,
        words: mpsc::Sender<Word>,
        mail: Mail,
    ) -> JoinHandle<()> {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let (report_out, report) = watch::channel(None);
        let random = SystemRandom::new();
        let link = BoxLink {
            endpoint: self.endpoint,
            credentials: {
                let credentials = self.credentials;
                Box::new(move || credentials.next_attempt())
            },
            locate: self.locate,
            paths: self.paths,
            server_name: self.server_name,
            source: self.source,
            inputs: BoxInputs {
                committed: board.committed.subscribe(),
                checkpoint: board.checkpoint.subscribe(),
                report,
                wanted: board.wanted.subscribe(),
                letters: mail.sent,
                permit: board.permit.subscribe(),
                stop: stop.clone(),
            },
            outputs: BoxOutputs {
                released: board.released.clone(),
                events,
                status: board.link.clone(),
            },
            attest: self.attest,
            backlog_percent: self.backlog_percent,
            rate_bytes_per_s_max: self.rate_bytes_per_s_max,
            random: Box::new(move || {
                let mut bytes = [0; 8];
                // Without randomness the waits are only less spread.
                let _ = random.fill(&mut bytes);
                u64::from_le_bytes(bytes)
            }),
        };
        let readers = Readers {
            negotiations: mail.negotiations,
            receipts: mail.receipts,
            evidence: mail.evidence,
            refills: mail.refills,
        };
        tokio::spawn(handle_events(received, board.clone(), self.upkeep, words, readers));
        tokio::spawn(tell(report_out, self.time, board.clone(), stop.clone()));
        tokio::spawn(link.run())
    }
}

/// What the space should show of this box: its alarms, then what contracts want told, the newest first.
fn alarms(board: &Board) -> Vec<String> {
    let mut texts = board.alarms.lock().expect("nobody panics while holding it").clone();
    texts.extend(board.notices().into_iter().rev());
    fitting(texts)
}

/// Short enough that a report always fits.
fn fitting(texts: Vec<String>) -> Vec<String> {
    let (count, mut room) = (texts.len(), ALARMS_BYTES_MAX);
    let cut = texts.into_iter().map(|text| text.chars().take(ALARM_CHARS_MAX).collect::<String>());
    let mut shown: Vec<String> = cut
        .take_while(|text| {
            // As JSON: quotes and what is escaped.
            let needed = serde_json::json!(text).to_string().len() + 1;
            let fits = needed <= room;
            room = room.saturating_sub(needed);
            fits
        })
        .collect();
    if shown.len() < count {
        shown.push(format!("and {} more, see `guan status` on the box", count - shown.len()));
    }
    shown
}

/// Keeps the time of certificate checks and the report to the space up to date.
async fn tell(
    report: watch::Sender<Option<ReportJson>>,
    time: Arc<TimeCell>,
    board: Board,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        time.set(board.clock.read().wall);
        let engine = board.engine.borrow().clone();
        if let Some(engine) = engine {
            let queued: u64 = engine.spool.streams.iter().map(|stream| stream.queued_batches).sum();
            let json = serde_json::json!({
                "schema": 1,
                "program": concat!("guan ", env!("CARGO_PKG_VERSION")),
                "queued_batches": queued,
                "spool_bytes": engine.spool.disk_bytes.0,
                "log_entries": engine.log.size,
                "evidence": board.evidence.borrow().clone(),
                "rows_permitted": engine.counters.rows_permitted,
                "rows_refused": engine.counters.rows_refused,
                "alarms": alarms(&board),
            });
            // What says nothing new is not sent: it would be most of what an idle link costs.
            let json = ReportJson::parse(&json.to_string()).ok();
            report.send_if_modified(|known| {
                let is_news = *known != json;
                *known = json;
                is_news
            });
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(REPORT_INTERVAL) => {}
        }
    }
}

/// Who reads which letters.
struct Readers {
    negotiations: mpsc::Sender<Letter>,
    receipts: mpsc::Sender<Letter>,
    evidence: mpsc::Sender<Letter>,
    refills: mpsc::Sender<Letter>,
}

impl Readers {
    async fn hand_out(&self, letter: Letter) {
        let reader = match letter.topic {
            Topic::Negotiation | Topic::NegotiationAnswer => &self.negotiations,
            Topic::CatalogueReceipt => &self.receipts,
            Topic::WitnessAnswer | Topic::MirrorAnswer | Topic::LogKeys | Topic::Received => {
                // Its reader waits for the disk. All of this comes again; a revocation behind it must not wait.
                if self.evidence.try_send(letter).is_err() {
                    tracing::debug!("the log is behind with what the space says of it");
                }
                return;
            }
            Topic::MirrorLeaves => {
                if self.refills.try_send(letter).is_err() {
                    tracing::debug!("leaves come faster than they are written");
                }
                return;
            }
            Topic::Catalogue | Topic::Witness | Topic::Mirror | Topic::MirrorAsk => {
                return tracing::warn!(topic = ?letter.topic, "the space sends what boxes do");
            }
        };
        // A reader that is gone reads nothing.
        let _ = reader.send(letter).await;
    }
}

async fn handle_events(
    mut events: mpsc::Receiver<LinkEvent>,
    board: Board,
    upkeep: Option<Upkeep>,
    words: mpsc::Sender<Word>,
    readers: Readers,
) {
    while let Some(event) = events.recv().await {
        match event {
            LinkEvent::Connected { version, address, transport } => {
                let transport = transport.as_str();
                tracing::info!(%address, version, transport, "the space welcomed this box");
                if let Some(upkeep) = &upkeep {
                    upkeep.handle_welcome();
                }
            }
            // The link has logged it with its reason.
            LinkEvent::Disconnected { .. } => {}
            LinkEvent::Roster { session, bytes } => {
                let _ = words.send(Word::Roster { session, bytes }).await;
            }
            LinkEvent::Letter(letter) => readers.hand_out(letter).await,
            LinkEvent::Document(bytes) => drop(words.send(Word::Document(bytes)).await),
            LinkEvent::CheckpointSeen { size } => {
                tracing::debug!(size, "the space keeps a signed head of the log");
            }
            LinkEvent::SpaceBehind { stream, space, ours } => board.alarm(format!(
                "stream {stream}: the space forgot batches {} to {ours}, which it had acknowledged; \
                 ask its operator for the backup",
                space.next()
            )),
            LinkEvent::Refused { stream, seq, rows, text, .. } => board.alarm(format!(
                "stream {stream}: the space refuses batch {seq} ({rows} rows): {text}"
            )),
            LinkEvent::Missing { stream, from, through } => board.alarm(format!(
                "stream {stream}: batches {from} to {through} are missing in the spool; the space \
                 was told of the gap"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_all_alarms_fits() {
        let long = "\u{754c}\"".repeat(ALARM_CHARS_MAX);
        let all = vec![long; crate::status::ALARMS_SHOWN + crate::status::NOTICES_SHOWN];
        let shown = fitting(all);
        assert!(serde_json::json!(shown).to_string().len() <= ALARMS_BYTES_MAX + 64);
        assert!(shown.len() > 16 && shown.last().unwrap().starts_with("and "), "{}", shown.len());
        let few = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(fitting(few.clone()), few);
    }
}
