//! Sessions come, stay behind without a connection, and end.

use super::{Connected, Exchange, Keep, Subscriber};
use crate::mqtt::auth::Rights;
use crate::mqtt::limits::{KEPT_SESSION_BYTES_MAX, KEPT_SESSIONS_MAX, SESSION_COST};
use guan_model::WallTime;
use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A connection that begins.
pub(crate) struct Opening {
    pub(crate) connection: u64,
    pub(crate) rights: Arc<Rights>,
    /// Seconds that the session outlives the connection.
    pub(crate) expiry_s: u32,
    /// Messages that the client takes without answering.
    pub(crate) window: u16,
    pub(crate) news: Arc<Notify>,
    /// QoS 2 ids from this client that the engine holds.
    pub(crate) held: BTreeSet<NonZeroU16>,
}

/// What a session is told about the QoS 2 messages that its client may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Held from before a restart, and perhaps not handed on: the repetition is what subscribers get.
    pub(crate) doubtful: BTreeSet<NonZeroU16>,
    /// Handed on, with a record in the store that ends with their release.
    pub(crate) marked: BTreeSet<NonZeroU16>,
}

/// The limits of kept sessions are reached, and each of them is connected or has messages waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What a session costs of `KEPT_SESSION_BYTES_MAX`.
fn cost(client: &str, subscriber: &Subscriber) -> usize {
    let names = subscriber.subscriptions.keys();
    SESSION_COST + client.len() + names.map(|name| subscription_cost(client, name)).sum::<usize>()
}

pub(super) fn subscription_cost(client: &str, name: &str) -> usize {
    SESSION_COST + client.len() + name.len()
}

impl Exchange {
    /// Whether a client's session has ended meanwhile, which the engine must then forget, too.
    pub(crate) fn has_ended(&mut self, client: &str, now: WallTime) -> bool {
        let keep = self.subscribers.get(client).filter(|one| one.connected.is_none());
        let is_over = keep.and_then(|one| one.keep?.ends).is_some_and(|ends| ends <= now);
        if is_over {
            self.forget(client);
        }
        is_over
    }

    /// A connection begins. `is_present`: it goes on with the session that is here.
    pub(crate) fn open(
        &mut self,
        client: &Arc<str>,
        is_present: bool,
        opening: Opening,
    ) -> Result<Opened, Full> {
        let is_kept = self.subscribers.get(client).is_some_and(|one| one.keep.is_some());
        // One that is not kept ends with its connection.
        if !is_present || !is_kept {
            self.forget(client);
        }
        let is_new = !self.subscribers.contains_key(client);
        self.wills.handle_opened(client, is_present);
        let keep =
            (opening.expiry_s > 0).then_some(Keep { expiry_s: opening.expiry_s, ends: None });
        self.uses += 1;
        let used = self.uses;
        let subscriber = self.subscribers.entry(client.clone()).or_insert_with(Subscriber::new);
        let before = subscriber.keep;
        subscriber.used = used;
        if subscriber.rights.replace(opening.rights).is_none() && !is_new {
            // The first connection since a restart.
            subscriber.doubtful = opening.held.difference(&subscriber.marks).copied().collect();
        }
        let stale: Vec<_> = subscriber.marks.difference(&opening.held).copied().collect();
        subscriber.doubtful.retain(|id| opening.held.contains(id));
        subscriber.connected = Some(Connected {
            number: opening.connection,
            window: opening.window.into(),
            news: opening.news.clone(),
        });
        subscriber.outbox.resume();
        let change = self.set_keep(client, keep);
        if change.is_err() && before.is_none() {
            self.forget(client);
            return Err(Full);
        }
        stale.into_iter().for_each(|id| self.unmark(client, id));
        // What waits from before is news to this connection.
        opening.news.notify_one();
        let subscriber = &self.subscribers[client];
        let (doubtful, marked) = (subscriber.doubtful.clone(), subscriber.marks.clone());
        Ok(Opened { doubtful, marked })
    }

    /// A connection has ended; its session stays for `expiry_s`.
    pub(crate) fn close(&mut self, client: &str, connection: u64, expiry_s: u32, now: WallTime) {
        let subscriber = self.subscribers.get_mut(client);
        let is_ours = |one: &&mut Subscriber| {
            one.connected.as_ref().is_some_and(|connected| connected.number == connection)
        };
        let Some(subscriber) = subscriber.filter(is_ours) else { return };
        subscriber.connected = None;
        let freed = subscriber.outbox.drop_loose();
        self.bytes -= freed;
        if expiry_s == 0 || subscriber.keep.is_none() {
            return self.forget(client);
        }
        let ends = (expiry_s != u32::MAX)
            .then(|| now.saturating_add(Duration::from_secs(expiry_s.into())));
        // It is kept already, so there is room.
        let _ = self.set_keep(client, Some(Keep { expiry_s, ends }));
    }

    /// Changes how long a session is kept, and what that costs.
    pub(super) fn set_keep(&mut self, client: &str, keep: Option<Keep>) -> Result<(), Full> {
        let subscriber = self.subscribers.get(client).expect("the caller has it");
        let before = subscriber.keep;
        let (cost, firm) = (cost(client, subscriber), subscriber.firm_bytes());
        match (before, keep) {
            (None, Some(_)) => {
                while self.kept_sessions >= KEPT_SESSIONS_MAX
                    || self.session_bytes + cost > KEPT_SESSION_BYTES_MAX
                {
                    self.evict()?;
                }
                self.kept_sessions += 1;
                self.session_bytes += cost;
                self.kept_bytes += firm;
            }
            (Some(_), None) => {
                self.kept_sessions -= 1;
                self.session_bytes -= cost;
                self.kept_bytes -= firm;
                self.note_forgotten(client);
            }
            _ => {}
        }
        let subscriber = self.subscribers.get_mut(client).expect("the caller has it");
        subscriber.keep = keep;
        if let Some(keep) = keep.filter(|_| before != keep) {
            self.note_session(client, keep);
        }
        Ok(())
    }

    /// The session that was unused for longest and owes nothing gives way.
    fn evict(&mut self) -> Result<(), Full> {
        let idle = self.subscribers.iter().filter(|(_, one)| {
            one.keep.is_some() && one.connected.is_none() && one.outbox.is_empty()
        });
        let oldest = idle.min_by_key(|(_, one)| one.used).map(|(client, _)| client.clone());
        let oldest = oldest.ok_or(Full)?;
        self.forget(&oldest);
        self.ended.push_back(oldest);
        Ok(())
    }

    /// Ends a session with all that waits for it.
    pub(crate) fn forget(&mut self, client: &str) {
        if !self.subscribers.contains_key(client) {
            return;
        }
        // Nothing is added, so there is nothing to refuse.
        let _ = self.set_keep(client, None);
        self.listening.remove(client);
        if let Some(subscriber) = self.subscribers.remove(client) {
            self.bytes -= subscriber.outbox.bytes();
        }
    }

    /// Ends sessions, and looks for wills, whose time has come.
    pub(crate) fn handle_timeout(&mut self, now: WallTime) {
        let is_over = |one: &Subscriber| {
            one.connected.is_none()
                && one.keep.and_then(|keep| keep.ends).is_some_and(|ends| ends <= now)
        };
        let over = self.subscribers.iter().filter(|(_, one)| is_over(one));
        let over: Vec<Arc<str>> = over.map(|(client, _)| client.clone()).collect();
        for client in over {
            self.forget(&client);
            self.ended.push_back(client);
        }
        self.wills.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<WallTime> {
        let away = self.subscribers.values().filter(|one| one.connected.is_none());
        let ends = away.filter_map(|one| one.keep?.ends).min();
        ends.into_iter().chain(self.wills.poll_timeout()).min()
    }

    /// A session that has ended by itself.
    pub(crate) fn poll_ended(&mut self) -> Option<Arc<str>> {
        self.ended.pop_front()
    }
}

impl Subscriber {
    pub(super) fn new() -> Self {
        Self {
            rights: None,
            subscriptions: std::collections::BTreeMap::new(),
            outbox: super::Outbox::default(),
            connected: None,
            keep: None,
            marks: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            used: 0,
        }
    }

    /// Bytes of QoS 1 and 2 in the outbox.
    fn firm_bytes(&self) -> usize {
        let firm = self.outbox.entries().filter(|entry| entry.packet_id.is_some());
        firm.map(super::Entry::cost).sum()
    }
}
