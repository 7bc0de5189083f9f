//! The port to the disk: where the records of sessions and retained messages go.
//!
//! Never here: files; the program has them.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// A change, to be made durable in the order of its numbers.
#[derive(Debug)]
pub struct Record {
    pub bytes: Vec<u8>,
    /// Everything with this change in it, when the store has asked for it.
    pub snapshot: Option<Vec<u8>>,
}

/// Makes records durable, one after the other, and tells how far it has come.
pub trait SessionStore: Send + Sync {
    /// Whether the next record should bring a snapshot, so that older files can go.
    fn wants_snapshot(&self) -> bool;

    /// Takes a record and returns its number, which is higher than any before. Does not wait for the
    /// disk. The caller sees to it that no other record comes between.
    fn submit(&self, record: Record) -> u64;

    /// Number of the last record that is durable, from 0. Closed when the store has failed for good.
    fn committed(&self) -> watch::Receiver<u64>;

    /// Bytes of records that are not durable yet.
    fn backlog_bytes(&self) -> usize;
}

/// Keeps nothing: for a listener whose sessions need not outlive it.
#[derive(Debug)]
pub struct NoStore {
    number: AtomicU64,
    committed: watch::Sender<u64>,
}

impl Default for NoStore {
    fn default() -> Self {
        Self { number: AtomicU64::new(0), committed: watch::Sender::new(0) }
    }
}

impl SessionStore for NoStore {
    fn wants_snapshot(&self) -> bool {
        false
    }

    fn submit(&self, _: Record) -> u64 {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.committed.send_replace(number);
        number
    }

    fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    fn backlog_bytes(&self) -> usize {
        0
    }
}
