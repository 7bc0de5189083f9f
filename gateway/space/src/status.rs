//! What the daemon is doing, as a file beside its store: for `guan-space status` and for monitoring.
//!
//! The daemon writes it each second by rename, so that a reader never sees half of it.

use crate::inbox::Reports;
use crate::runner::StoreStatus;
use guan_link::driver::Peers;
use guan_model::WallTime;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the state folder.
pub const STATUS_FILE: &str = "status.json";
/// A file that is older comes from a daemon that no longer runs.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("guan-space does not run here: {path} is missing; start `guan-space run`")]
    Missing { path: PathBuf },
    #[error("{path} cannot be read or written: check its rights")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} was written by another version; start this one")]
    Format { path: PathBuf, source: serde_json::Error },
}

/// Version 1 of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpaceStatus {
    pub schema: u32,
    pub space: String,
    pub listen: String,
    /// Milliseconds since 1970.
    pub written_ms: i64,
    pub boxes: Vec<BoxStatus>,
    pub datasets: Vec<DatasetStatus>,
    pub batches_stored: u64,
    pub duplicates_dropped: u64,
    pub refused: u64,
    pub commits: u64,
    pub store_bytes: u64,
    pub store_is_full: bool,
    /// Entries of the space's own log.
    #[serde(default)]
    pub log_entries: u64,
    pub alarms: Vec<String>,
}

/// One box that the store or a session knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoxStatus {
    pub id: String,
    pub is_connected: bool,
    pub address: Option<String>,
    /// `quic` or `tcp`.
    #[serde(default)]
    pub transport: Option<String>,
    pub rtt_ms: Option<f64>,
    pub udp_bytes_sent: u64,
    pub udp_bytes_received: u64,
    /// Entries under the newest signed head of its log.
    pub log_size: Option<u64>,
    pub streams: Vec<StreamStatus>,
    /// What the box last said about itself.
    pub report: Option<serde_json::Value>,
}

/// One stream of one life of a spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamStatus {
    pub spool: String,
    pub stream: u16,
    pub through: u64,
}

/// Totals over the life of the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatasetStatus {
    pub id: String,
    pub rows: u64,
    pub batches: u64,
    pub batch_bytes: u64,
}

/// Puts together what the parts of the daemon know.
pub fn compose(
    space: &str,
    listen: &str,
    now: WallTime,
    store: &StoreStatus,
    peers: &Peers,
    reports: &Reports,
) -> SpaceStatus {
    let known = store.cursors.keys().map(|(box_id, ..)| box_id);
    let mut ids: Vec<_> = known.chain(peers.keys()).chain(store.checkpoints.keys()).collect();
    ids.sort();
    ids.dedup();
    let boxes = ids.into_iter().map(|id| {
        let peer = peers.get(id);
        let streams = store.cursors.iter().filter(|((box_id, ..), _)| box_id == id);
        let head = store.checkpoints.get(id);
        let head = head.and_then(|text| guan_evidence::Checkpoint::parse_unverified(text).ok());
        BoxStatus {
            id: id.to_string(),
            is_connected: peer.is_some(),
            address: peer.map(|peer| peer.address.to_string()),
            transport: peer.map(|peer| peer.transport.as_str().to_owned()),
            rtt_ms: peer.and_then(|peer| peer.rtt).map(|rtt| rtt.as_secs_f64() * 1e3),
            udp_bytes_sent: peer.map_or(0, |peer| peer.path_bytes_sent),
            udp_bytes_received: peer.map_or(0, |peer| peer.path_bytes_received),
            log_size: head.map(|head| head.size),
            streams: streams
                .map(|((_, spool, stream), through)| StreamStatus {
                    spool: hex::encode(spool.0),
                    stream: stream.0,
                    through: through.0,
                })
                .collect(),
            report: reports.get(id).and_then(|json| serde_json::from_str(json).ok()),
        }
    });
    let datasets = store.totals.iter().map(|(id, totals)| DatasetStatus {
        id: id.to_string(),
        rows: totals.rows,
        batches: totals.batches,
        batch_bytes: totals.batch_bytes,
    });
    SpaceStatus {
        schema: 1,
        space: space.to_owned(),
        listen: listen.to_owned(),
        written_ms: now.millis(),
        boxes: boxes.collect(),
        datasets: datasets.collect(),
        batches_stored: store.counters.batches,
        duplicates_dropped: store.counters.duplicates,
        refused: store.counters.refused,
        commits: store.counters.commits,
        store_bytes: store.disk_bytes,
        store_is_full: store.is_full,
        log_entries: store.log.map_or(0, |head| head.size),
        alarms: store.alarms.clone(),
    }
}

/// Replaces the file. Not flushed: it is worth nothing after a power cut.
pub fn write(folder: &Path, status: &SpaceStatus) -> Result<(), StatusError> {
    let path = folder.join(STATUS_FILE);
    let temporary = folder.join("status.json.part");
    let json = serde_json::to_vec(status).expect("a struct of plain fields is JSON");
    let written = std::fs::write(&temporary, json);
    written
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(|source| StatusError::File { path, source })
}

/// Reads the file; whether it is stale is for the caller to say.
pub fn read(folder: &Path) -> Result<SpaceStatus, StatusError> {
    let path = folder.join(STATUS_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| StatusError::Format { path, source })
        }
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Err(StatusError::Missing { path }),
        Err(source) => Err(StatusError::File { path, source }),
    }
}

impl SpaceStatus {
    /// Whether the daemon that wrote it is gone or stuck.
    pub fn is_stale(&self, now: WallTime) -> bool {
        now.since(WallTime::from_millis(self.written_ms)) > STALE_AFTER
    }
}
