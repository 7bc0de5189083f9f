//! What guan is doing, as a file in the state folder: for `guan status` and for monitoring.
//!
//! Written each second by rename, so that a reader never sees half of it.

use crate::engine::Counters;
use crate::flash::FlashView;
use guan_link::driver::{LinkState, LinkStatus};
use guan_log::LogHead;
use guan_model::WallTime;
use guan_spool::SpoolStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the state folder.
pub const STATUS_FILE: &str = "status.json";
/// A file that is older comes from a program that no longer runs.
pub const STALE_AFTER: Duration = Duration::from_secs(10);
/// Most alarms that are shown; later ones push out earlier ones.
pub const ALARMS_SHOWN: usize = 16;
/// Most notices that are shown: four kinds of as many contracts as a box is likely to have.
pub const NOTICES_SHOWN: usize = 256;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("guan does not run here: {path} is missing; start `guan run`")]
    Missing { path: PathBuf },
    #[error("{path} cannot be read or written: check its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} was written by another version; start this one")]
    Format { path: PathBuf, source: serde_json::Error },
}

/// What the writer publishes after each commit.
#[derive(Debug, Clone)]
pub struct EngineStatus {
    pub counters: Counters,
    pub spool: SpoolStatus,
    pub log: LogHead,
    pub sessions: usize,
    /// What may not leave now, and why.
    pub waiting: Vec<String>,
}

/// How far others vouch for the log: sizes of its heads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EvidenceStatus {
    /// Name of the log.
    pub log: String,
    pub signed: u64,
    /// Quoted by the TPM, and in its chain over all boots, since this start.
    pub anchored: Option<u64>,
    pub chained: Option<u64>,
    /// Cosigned by the space, and when by its clock, in seconds since 1970.
    pub cosigned: Option<(u64, u64)>,
    pub mirrored: Option<u64>,
    /// Stamped by an authority of time stamps that is asked over HTTP, and when by its clock, in seconds since 1970.
    #[serde(default)]
    pub stamped: Option<(u64, i64)>,
    /// Why its last answer was none.
    #[serde(default)]
    pub stamp_fault: Option<String>,
    /// Why the log is not what it was, if it is not.
    pub suspect: Option<String>,
    /// Bundles of the log that are damaged now, and those that came back from the space's mirror since the start.
    #[serde(default)]
    pub damaged_bundles: u64,
    #[serde(default)]
    pub refilled_bundles: u64,
    /// When the newest scrub of the bundles began, and the last one ended, in milliseconds since 1970.
    #[serde(default)]
    pub scrub_began_ms: Option<i64>,
    #[serde(default)]
    pub scrub_ended_ms: Option<i64>,
    /// Damaged bundles that the newest one found.
    #[serde(default)]
    pub scrub_found: u64,
}

/// What intake has counted since the start.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct IntakeStatus {
    pub connections: u64,
    pub connections_refused: u64,
    pub publications: u64,
    /// Messages that were not taken, by reason; each is in the program's log with its text.
    pub refused: BTreeMap<String, u64>,
    /// What local subscribers did not get, or the next one will not, for want of room: `copies-qos-0`, `copies`,
    /// `retained`. The readings themselves were taken.
    #[serde(default)]
    pub missed: BTreeMap<String, u64>,
    pub last_refusal: Option<String>,
}

/// Version 1 of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuanStatus {
    pub schema: u32,
    #[serde(rename = "box")]
    pub box_id: String,
    /// Milliseconds since 1970.
    pub written_ms: i64,
    pub process: u32,
    pub boot: u32,
    pub tier: String,
    pub clock: String,
    pub mqtt_listen: Option<String>,
    pub intake: IntakeStatus,
    pub link: LinkView,
    #[serde(default)]
    pub link_use: LinkUse,
    /// Batches and bytes that the space does not have yet.
    pub queued_batches: u64,
    pub queued_bytes: u64,
    pub spool_bytes: u64,
    pub spool_bytes_max: u64,
    #[serde(default)]
    pub flash: FlashView,
    pub streams: Vec<StreamView>,
    pub datasets: BTreeMap<String, DatasetView>,
    pub commits: u64,
    pub log_entries: u64,
    #[serde(default)]
    pub evidence: EvidenceStatus,
    pub contracts: Vec<String>,
    /// What may not leave now, and why.
    #[serde(default)]
    pub waiting: Vec<String>,
    pub alarms: Vec<String>,
    /// What contracts want told, the newest of each kind.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// The link, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkView {
    pub state: String,
    pub sessions: u64,
    pub failures: u64,
    pub last_error: Option<String>,
    /// `quic` or `tcp`: of the session that is up, or was last.
    #[serde(default)]
    pub transport: Option<String>,
    pub rtt_ms: Option<f64>,
    pub udp_bytes_sent: u64,
    pub udp_bytes_received: u64,
}

/// What the link may do and has used, since the program's start or as kept for budgets. UDP payload, in UTC.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LinkUse {
    /// `open`, `control` or `closed`.
    pub permit: String,
    /// Why it is not open.
    pub why: Option<String>,
    pub bytes_today: u64,
    pub bytes_month: u64,
    /// Contracts with a budget of their own.
    pub contracts: Vec<ContractUse>,
}

/// Encoded batches of one contract.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContractUse {
    pub id: String,
    pub bytes_today: u64,
    pub bytes_month: u64,
    pub is_spent: bool,
}

/// One stream of the spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamView {
    pub name: String,
    pub newest: u64,
    pub acknowledged: u64,
    pub queued_batches: u64,
    pub queued_bytes: u64,
    pub size_bytes_max: u64,
    pub gaps: u64,
}

/// One dataset since the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatasetView {
    pub rows_in: u64,
    pub rows_permitted: u64,
    pub rows_refused: u64,
    pub batch_bytes: u64,
}

impl From<&LinkStatus> for LinkView {
    fn from(link: &LinkStatus) -> Self {
        let state = match link.state {
            LinkState::Connecting => "connecting",
            LinkState::Connected => "connected",
            LinkState::Waiting => "waiting",
            LinkState::Resting => "resting",
            LinkState::Stopped => "stopped",
        };
        Self {
            state: state.to_owned(),
            sessions: link.sessions,
            failures: link.failures,
            last_error: link.last_error.clone(),
            transport: link.transport.map(|transport| transport.as_str().to_owned()),
            rtt_ms: link.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            udp_bytes_sent: link.path_bytes_sent,
            udp_bytes_received: link.path_bytes_received,
        }
    }
}

impl GuanStatus {
    /// Fills in what the engine published.
    pub fn set_engine(&mut self, engine: &EngineStatus) {
        let spool = &engine.spool;
        self.streams = spool
            .streams
            .iter()
            .map(|stream| StreamView {
                name: stream.name.clone(),
                newest: stream.newest.0,
                acknowledged: stream.acknowledged.0,
                queued_batches: stream.queued_batches,
                queued_bytes: stream.queued_bytes.0,
                size_bytes_max: stream.limit.0,
                gaps: stream.gaps as u64,
            })
            .collect();
        self.queued_batches = spool.streams.iter().map(|stream| stream.queued_batches).sum();
        self.queued_bytes = spool.streams.iter().map(|stream| stream.queued_bytes.0).sum();
        self.spool_bytes = spool.disk_bytes.0;
        self.spool_bytes_max = spool.limit.0;
        let datasets = engine.counters.datasets.iter().map(|(id, counters)| {
            let view = DatasetView {
                rows_in: counters.rows_in,
                rows_permitted: counters.rows_permitted,
                rows_refused: counters.rows_refused,
                batch_bytes: counters.batch_bytes,
            };
            (id.to_string(), view)
        });
        self.datasets = datasets.collect();
        self.commits = engine.counters.commits;
        self.log_entries = engine.log.size;
        self.waiting.clone_from(&engine.waiting);
    }

    /// Whether the program that wrote it is gone or stuck.
    pub fn is_stale(&self, now: WallTime) -> bool {
        now.since(WallTime::from_millis(self.written_ms)) > STALE_AFTER
    }

    /// Replaces the file. Not flushed: it is worth nothing after a power cut.
    pub fn write(&self, folder: &Path) -> Result<(), StatusError> {
        let path = folder.join(STATUS_FILE);
        let temporary = folder.join("status.json.part");
        let json = serde_json::to_vec(self).expect("a struct of plain fields is JSON");
        std::fs::write(&temporary, json)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|source| StatusError::File { path, source })
    }

    /// Reads the file; whether it is stale is for the caller to say.
    pub fn read(folder: &Path) -> Result<Self, StatusError> {
        let path = folder.join(STATUS_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| StatusError::Format { path, source }),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                Err(StatusError::Missing { path })
            }
            Err(source) => Err(StatusError::File { path, source }),
        }
    }
}
