//! What the link tells about itself, for people and for `status`.

use crate::route::Transport;
use guan_model::DatasetId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Most datasets that are counted on their own; the bytes of others go to `other_bytes`.
pub const DATASETS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkState {
    #[default]
    Connecting,
    /// Connected, and welcomed by the space.
    Connected,
    /// Waits before it tries again.
    Waiting,
    /// May not be up now, or has nothing to say.
    Resting,
    Stopped,
}

/// The box's link. Counts run since the program's start.
#[derive(Debug, Clone, Default)]
pub struct LinkStatus {
    pub state: LinkState,
    /// When the space welcomed the box, on tokio's clock.
    pub connected_since: Option<Instant>,
    /// Sessions that the space welcomed.
    pub sessions: u64,
    /// Attempts and sessions that failed.
    pub failures: u64,
    /// The last failure with its causes; it stays when the link is up again.
    pub last_error: Option<String>,
    /// Of the session that is up, or was last.
    pub transport: Option<Transport>,
    pub rtt: Option<Duration>,
    /// Frames on the streams, without the transport's own overhead.
    pub stream_bytes_sent: u64,
    pub stream_bytes_received: u64,
    /// UDP payloads, repetitions and overhead included; of TCP what its sockets moved.
    pub path_bytes_sent: u64,
    pub path_bytes_received: u64,
    pub batches_sent: u64,
    /// Bytes of encoded batches handed to the transport, repetitions included.
    pub dataset_bytes: BTreeMap<DatasetId, u64>,
    pub other_bytes: u64,
}

impl LinkStatus {
    pub(super) fn count_batch(&mut self, dataset: &DatasetId, bytes: u64) {
        self.batches_sent += 1;
        if let Some(count) = self.dataset_bytes.get_mut(dataset) {
            *count += bytes;
        } else if self.dataset_bytes.len() < DATASETS_MAX {
            self.dataset_bytes.insert(dataset.clone(), bytes);
        } else {
            self.other_bytes += bytes;
        }
    }
}

/// One connected box, as the space sees it. Counts run since this connection began.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    pub address: SocketAddr,
    pub connected_since: Instant,
    pub transport: Transport,
    /// `None`: the transport does not tell.
    pub rtt: Option<Duration>,
    pub stream_bytes_sent: u64,
    pub stream_bytes_received: u64,
    pub path_bytes_sent: u64,
    pub path_bytes_received: u64,
    pub items_stored: u64,
    /// Items that the space already had.
    pub duplicates: u64,
    /// Handed to the store and not yet durable.
    pub unstored_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_counted_up_to_the_limit() {
        let mut status = LinkStatus::default();
        for index in 0..=DATASETS_MAX {
            let dataset = DatasetId::parse(&format!("d{index}")).unwrap();
            status.count_batch(&dataset, 2);
            status.count_batch(&dataset, 3);
        }
        assert_eq!(status.dataset_bytes.len(), DATASETS_MAX);
        assert!(status.dataset_bytes.values().all(|bytes| *bytes == 5));
        assert_eq!(status.other_bytes, 5);
        assert_eq!(status.batches_sent, 2 * (DATASETS_MAX as u64 + 1));
    }
}
