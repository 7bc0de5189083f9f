//! The exchange, shared by all connections, and its store.
//!
//! Every change is handed to the store under the same lock that made it, so that the order of the records
//! is the order of the changes. Publishers without subscribers take no lock.

use super::exchange::{Exchange, Full, Opened, Opening, Reply};
use super::limits::STORE_BACKLOG_BYTES_MAX;
use super::listener::{ListenerStats, add};
use super::message::Message;
use super::packet::{Outbound, Will};
use super::session::{Ask, Durable};
use super::store::{Record, SessionStore};
use guan_model::WallTime;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

/// What one connection shares with the others about messages.
pub(super) struct Hub {
    exchange: Mutex<Exchange>,
    /// Clients with subscriptions, so that without them nobody takes the lock.
    listeners: AtomicUsize,
    store: Arc<dyn SessionStore>,
    clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    stats: Arc<ListenerStats>,
    /// Told when something has become due, or is due at another time.
    pub(super) upkeep: Notify,
}

impl Hub {
    pub(super) fn new(
        exchange: Exchange,
        store: Arc<dyn SessionStore>,
        clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
        stats: Arc<ListenerStats>,
    ) -> Self {
        let listeners = AtomicUsize::new(exchange.listeners());
        let exchange = Mutex::new(exchange);
        Self { exchange, listeners, store, clock, stats, upkeep: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().expect("nobody panics while holding it")
    }

    fn now(&self) -> WallTime {
        (self.clock)()
    }

    /// Hands what has changed to the store; the number of its record, if there is one.
    fn submit(&self, exchange: &mut Exchange) -> Option<u64> {
        self.listeners.store(exchange.listeners(), Ordering::Release);
        let losses = exchange.take_losses();
        add(&self.stats.taps_dropped, losses.loose);
        add(&self.stats.copies_dropped, losses.firm);
        add(&self.stats.retained_refused, losses.retained);
        if losses.firm + losses.retained > 0 {
            let (copies, retained) = (losses.firm, losses.retained);
            tracing::warn!(copies, retained, "messages for local subscribers found no room");
        }
        let bytes = exchange.poll_record()?;
        let snapshot = self.store.wants_snapshot().then(|| exchange.snapshot());
        Some(self.store.submit(Record { bytes, snapshot }))
    }

    pub(super) fn committed(&self) -> watch::Receiver<u64> {
        self.store.committed()
    }

    /// Whether the store is so far behind that publishers must not be read.
    pub(super) fn is_behind(&self) -> bool {
        self.store.backlog_bytes() > STORE_BACKLOG_BYTES_MAX
    }

    /// Whether the client's session is over, although nobody has noticed yet.
    pub(super) fn has_ended(&self, client: &str) -> bool {
        let mut exchange = self.lock();
        let has_ended = exchange.has_ended(client, self.now());
        self.submit(&mut exchange);
        has_ended
    }

    /// A connection begins; it must not be told so before the record is durable.
    pub(super) fn open(
        &self,
        client: &Arc<str>,
        is_present: bool,
        opening: Opening,
    ) -> Result<(Opened, Option<u64>), Full> {
        let mut exchange = self.lock();
        let opened = exchange.open(client, is_present, opening);
        let record = self.submit(&mut exchange);
        drop(exchange);
        self.upkeep.notify_one();
        opened.map(|opened| (opened, record))
    }

    /// A connection has ended, and leaves a will if it vanished.
    pub(super) fn close(
        &self,
        client: &Arc<str>,
        connection: u64,
        expiry_s: u32,
        will: Option<Will>,
    ) {
        let now = self.now();
        let mut exchange = self.lock();
        exchange.close(client, connection, expiry_s, now);
        if let Some(will) = will {
            exchange.leave_will(client, will, expiry_s, now);
        }
        self.submit(&mut exchange);
        drop(exchange);
        self.upkeep.notify_one();
    }

    /// Whether anybody has subscriptions.
    pub(super) fn is_heard(&self) -> bool {
        self.listeners.load(Ordering::Acquire) > 0
    }

    /// A message is durable. Its acknowledgement must wait for the record, if there is one.
    pub(super) fn publish(&self, from: &str, durable: &Durable) -> Option<u64> {
        let Durable { message, held } = durable;
        if !message.retain && !self.is_heard() {
            return None;
        }
        let now = self.now();
        let mut exchange = self.lock();
        exchange.publish(from, *held, message, now);
        self.submit(&mut exchange)
    }

    /// Does what a session asks; what is to be answered, and after which record.
    pub(super) fn handle(&self, client: &Arc<str>, ask: Ask) -> Answer {
        let now = self.now();
        let mut exchange = self.lock();
        let reply = exchange.handle(client, ask, now);
        Answer { reply, record: self.submit(&mut exchange) }
    }

    /// What the client is to be told next.
    pub(super) fn next(&self, client: &str) -> Option<Outbound> {
        let now = self.now();
        let mut exchange = self.lock();
        let next = exchange.next(client, now);
        self.submit(&mut exchange);
        next
    }

    /// Lets time pass; when to come again, and what has become due.
    pub(super) fn look(&self) -> Due {
        let now = self.now();
        let mut exchange = self.lock();
        exchange.handle_timeout(now);
        let ended = std::iter::from_fn(|| exchange.poll_ended()).collect();
        let wills = std::iter::from_fn(|| exchange.poll_will()).collect();
        self.submit(&mut exchange);
        Due { next: exchange.poll_timeout().map(|due| due.since(now)), ended, wills }
    }
}

pub(super) struct Answer {
    pub(super) reply: Reply,
    /// Not to be said before it is durable.
    pub(super) record: Option<u64>,
}

/// What has become due.
pub(super) struct Due {
    pub(super) next: Option<std::time::Duration>,
    /// Sessions that the engine must forget.
    pub(super) ended: Vec<Arc<str>>,
    pub(super) wills: Vec<(Arc<str>, Message)>,
}
