//! Who gets which message: subscriptions, outboxes, retained messages, waiting wills. Without I/O.
//!
//! Feed it with the calls of connections and with the time; take records for the store, wills that are due
//! and sessions that have ended with `poll_*`. Invariants:
//! - What a session that outlives its connection owes its client is in a record before it is told anyone.
//! - Memory is bounded by the limits beside [`ListenerLimits`](super::ListenerLimits), whatever is
//!   published; what does not fit is counted, and never holds a publisher up.
//! - A client gets only what it may read.
//!
//! Never here: sockets, disks, clocks, the meaning of payloads.

mod opening;
mod outbox;
mod record;
mod retained;
#[cfg(test)]
mod tests;
mod wills;

pub use record::RecordFault;

pub(super) use opening::{Full, Opened, Opening};

use super::auth::Rights;
use super::filter::TopicFilter;
use super::limits::{
    KEPT_BYTES_MAX, KEPT_SESSION_BYTES_MAX, OUTBOXES_BYTES_MAX, SUBSCRIPTIONS_MAX,
};
use super::message::Message;
use super::packet::{Delivery, Outbound, RetainHandling, SubscribeRefusal, SubscriptionOptions};
use super::session::Ask;
use crate::submission::QoS;
use guan_model::WallTime;
use opening::subscription_cost;
use outbox::{Entry, Next, Outbox, Stage};
use retained::{Change, Retained};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use tokio::sync::Notify;
use wills::Wills;

/// A subscription that was found good: its filter and how it wants its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) filter: TopicFilter,
    /// Name of the group that shares it (MQTT 5, 4.8.2).
    pub(super) group: Option<Box<str>>,
    pub(super) options: SubscriptionOptions,
    pub(super) identifier: Option<NonZeroU32>,
    /// Of a group: its turn when it last got a message; who waited for longest is next.
    pub(super) last_turn: u64,
}

/// How long a session outlives its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keep {
    expiry_s: u32,
    /// When it ends; `None` while it is connected, or when it stays for ever.
    ends: Option<WallTime>,
}

struct Connected {
    number: u64,
    /// Messages that the client takes without answering.
    window: usize,
    news: Arc<Notify>,
}

/// One client's session, as far as it receives.
struct Subscriber {
    /// `None` after a restart, until it connects; what it may not read is left out when it is sent.
    rights: Option<Arc<Rights>>,
    subscriptions: BTreeMap<Box<str>, Subscription>,
    outbox: Outbox,
    connected: Option<Connected>,
    /// `None` when the session ends with its connection.
    keep: Option<Keep>,
    /// QoS 2 messages from this client that were handed on and are not released.
    marks: BTreeSet<NonZeroU16>,
    /// Held by the engine since before a restart, and not marked.
    doubtful: BTreeSet<NonZeroU16>,
    /// Larger is more recent; orders sessions that give way.
    used: u64,
}

/// How a message suits one subscriber.
struct Match {
    qos: QoS,
    retain: bool,
    identifiers: Vec<NonZeroU32>,
}

/// What a session is answered.
pub(super) enum Reply {
    Packet(Outbound),
    Unmarked(NonZeroU16),
    /// Nothing, but the client may have room for more.
    News,
}

/// What became of messages since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Losses {
    /// Copies of QoS 0 that gave way, or found no room.
    pub(super) loose: u64,
    /// Copies of QoS 1 and 2 that found no room.
    pub(super) firm: u64,
    /// Retained messages that found no room.
    pub(super) retained: u64,
}

/// All sessions of the listener.
#[derive(Default)]
pub(super) struct Exchange {
    subscribers: BTreeMap<Arc<str>, Subscriber>,
    /// Those with subscriptions.
    listening: BTreeSet<Arc<str>>,
    retained: Retained,
    wills: Wills,
    /// Sessions that have ended by themselves.
    ended: VecDeque<Arc<str>>,
    record: Vec<u8>,
    bytes: usize,
    kept_bytes: usize,
    /// Names and filters of kept sessions.
    session_bytes: usize,
    kept_sessions: usize,
    turns: u64,
    uses: u64,
    losses: Losses,
}

impl Subscriber {
    fn may_read(&self, topic: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_read(topic))
    }

    fn keeps(&self, qos: QoS) -> bool {
        self.keep.is_some() && qos != QoS::AtMostOnce
    }

    /// The plain subscriptions that match, taken together (MQTT 5, 3.3.4).
    fn matching(&self, message: &Message, is_own: bool) -> Option<Match> {
        let mut found: Option<Match> = None;
        let plain = self.subscriptions.values().filter(|one| one.group.is_none());
        for one in plain.filter(|one| one.filter.matches(&message.topic)) {
            if one.options.no_local && is_own {
                continue;
            }
            let fits = one.suits(message);
            match &mut found {
                None => found = Some(fits),
                Some(found) => {
                    found.qos = found.qos.max(fits.qos);
                    found.retain |= fits.retain;
                    found.identifiers.extend(fits.identifiers);
                }
            }
        }
        found
    }
}

impl Subscription {
    fn suits(&self, message: &Message) -> Match {
        Match {
            qos: self.options.qos.min(message.qos),
            retain: message.retain && self.options.retain_as_published,
            identifiers: self.identifier.into_iter().collect(),
        }
    }
}

impl Exchange {
    /// Whether nobody listens: then only retained messages need to be handed in.
    pub(super) fn listeners(&self) -> usize {
        self.listening.len()
    }

    pub(super) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// Does what a session asks.
    pub(super) fn handle(&mut self, client: &Arc<str>, ask: Ask, now: WallTime) -> Reply {
        match ask {
            Ask::Subscribe { packet_id, wanted } => {
                let granted = self.subscribe(client, wanted, now);
                Reply::Packet(Outbound::Subscribed(packet_id, granted))
            }
            Ask::Unsubscribe { packet_id, filters } => {
                let known = self.unsubscribe(client, &filters);
                Reply::Packet(Outbound::Unsubscribed(packet_id, known))
            }
            Ask::Received(packet_id) => {
                let is_known = self.receive(client, packet_id);
                Reply::Packet(Outbound::Release { packet_id, is_known })
            }
            Ask::Acknowledged(id) => {
                self.acknowledge(client, id);
                Reply::News
            }
            Ask::Completed(id) => {
                self.complete(client, id);
                Reply::News
            }
            Ask::Discarded(id) => {
                self.discard(client, id);
                Reply::News
            }
            Ask::Released(id) => {
                self.unmark(client, id);
                Reply::Unmarked(id)
            }
        }
    }

    /// A message is durable: its copies go into the outboxes. `held` is the packet id of QoS 2.
    pub(super) fn publish(
        &mut self,
        from: &str,
        held: Option<NonZeroU16>,
        message: &Message,
        now: WallTime,
    ) {
        let before = self.record.len();
        let expires = message.expires(now);
        if message.retain {
            self.retain(message, expires);
        }
        let mut chosen = self.plain(from, message);
        chosen.extend(self.shared(message));
        let mut targets = Vec::new();
        for (client, fits) in chosen {
            let entry = Entry {
                message: message.clone(),
                qos: fits.qos,
                retain: fits.retain,
                identifiers: fits.identifiers,
                expires,
                packet_id: None,
                stage: Stage::Waiting,
                is_repeated: false,
            };
            self.enqueue(client, entry, &mut targets);
        }
        self.note_message(message, expires, &targets);
        if let Some(id) = held
            && let Some(subscriber) = self.subscribers.get_mut(from)
        {
            subscriber.doubtful.remove(&id);
        }
        // Only what the store knows can be told apart after a restart.
        if let Some(id) = held.filter(|_| self.record.len() > before) {
            self.mark(from, id);
        }
    }

    fn plain(&self, from: &str, message: &Message) -> Vec<(Arc<str>, Match)> {
        let mut chosen = Vec::new();
        for client in &self.listening {
            let subscriber = &self.subscribers[client];
            if let Some(fits) = subscriber.matching(message, &**client == from)
                && subscriber.may_read(&message.topic)
            {
                chosen.push((client.clone(), fits));
            }
        }
        chosen
    }

    /// One member of each group, in turn; those that are connected come first.
    fn shared(&mut self, message: &Message) -> Vec<(Arc<str>, Match)> {
        let mut groups: BTreeMap<&str, Vec<(&Arc<str>, &Subscription)>> = BTreeMap::new();
        for client in &self.listening {
            let subscriber = &self.subscribers[client];
            for (name, one) in &subscriber.subscriptions {
                if one.group.is_some()
                    && one.filter.matches(&message.topic)
                    && subscriber.may_read(&message.topic)
                {
                    groups.entry(name).or_default().push((client, one));
                }
            }
        }
        let mut chosen: Vec<(Arc<str>, Box<str>, Match)> = Vec::new();
        for (name, members) in groups {
            let is_here = |client: &Arc<str>| self.subscribers[client].connected.is_some();
            let here: Vec<_> =
                members.iter().filter(|(client, _)| is_here(client)).copied().collect();
            let members = if here.is_empty() { members } else { here };
            let next = members.into_iter().min_by_key(|(_, one)| one.last_turn);
            let (client, one) = next.expect("a group has the member that made it");
            chosen.push((client.clone(), name.into(), one.suits(message)));
        }
        for (client, name, _) in &chosen {
            self.turns += 1;
            let subscriber = self.subscribers.get_mut(client);
            if let Some(one) = subscriber.and_then(|one| one.subscriptions.get_mut(name)) {
                one.last_turn = self.turns;
            }
        }
        chosen.into_iter().map(|(client, _, fits)| (client, fits)).collect()
    }

    /// Puts an entry into an outbox; one that must be kept is added to `targets` for the record.
    fn enqueue(&mut self, client: Arc<str>, entry: Entry, targets: &mut Vec<(Arc<str>, Entry)>) {
        let Some(subscriber) = self.subscribers.get_mut(&client) else { return };
        let is_kept = subscriber.keeps(entry.qos);
        if subscriber.connected.is_none() && !is_kept {
            return;
        }
        let cost = entry.cost();
        let fits = self.bytes + cost <= OUTBOXES_BYTES_MAX
            && (!is_kept || self.kept_bytes + cost <= KEPT_BYTES_MAX);
        let room = if fits { subscriber.outbox.make_room(cost) } else { None };
        let Some(gone) = room else {
            match entry.qos {
                QoS::AtMostOnce => self.losses.loose += 1,
                QoS::AtLeastOnce | QoS::ExactlyOnce => self.losses.firm += 1,
            }
            return;
        };
        self.losses.loose += gone.len() as u64;
        self.bytes -= gone.iter().map(Entry::cost).sum::<usize>();
        self.bytes += cost;
        let mut kept = is_kept.then(|| entry.clone());
        let id = subscriber.outbox.push(entry);
        if let Some(mut entry) = kept.take() {
            self.kept_bytes += cost;
            entry.packet_id = id;
            targets.push((client, entry));
        }
        if let Some(connected) = &subscriber.connected {
            connected.news.notify_one();
        }
    }

    fn retain(&mut self, message: &Message, expires: Option<WallTime>) {
        match self.retained.put(message.clone(), expires) {
            Change::Stored => self.note_retained(message, expires),
            Change::Removed => self.note_unretained(&message.topic),
            Change::Nothing => {}
            Change::Refused => {
                self.losses.retained += 1;
                self.note_unretained(&message.topic);
            }
        }
    }

    /// What the client is to be told next, if its window is open.
    pub(super) fn next(&mut self, client: &str, now: WallTime) -> Option<Outbound> {
        loop {
            let subscriber = self.subscribers.get_mut(client)?;
            let window = subscriber.connected.as_ref()?.window;
            let entry = match subscriber.outbox.next(window, now)? {
                Next::Release(packet_id) => {
                    return Some(Outbound::Release { packet_id, is_known: true });
                }
                Next::Expired(entry) => {
                    self.handle_gone(client, &entry);
                    continue;
                }
                Next::Message(entry) => entry,
            };
            let may_read = subscriber.may_read(&entry.message.topic);
            match entry.packet_id {
                None => self.bytes -= entry.cost(),
                Some(id) if !may_read => self.discard(client, id),
                Some(_) => {}
            }
            if may_read {
                return Some(Outbound::Message(Box::new(delivery(entry, now))));
            }
        }
    }

    /// PUBACK.
    pub(super) fn acknowledge(&mut self, client: &str, id: NonZeroU16) {
        let done = self.outbox(client).and_then(|outbox| outbox.acknowledge(id));
        done.iter().for_each(|entry| self.handle_gone(client, entry));
    }

    /// PUBREC. Whether the id is on its way; its PUBREL must not go out before the record is durable.
    pub(super) fn receive(&mut self, client: &str, id: NonZeroU16) -> bool {
        let Some(freed) = self.outbox(client).and_then(|outbox| outbox.receive(id)) else {
            return false;
        };
        self.bytes -= freed;
        if self.subscribers.get(client).is_some_and(|one| one.keep.is_some()) {
            self.kept_bytes -= freed;
            self.note_received(client, id);
        }
        true
    }

    /// PUBCOMP.
    pub(super) fn complete(&mut self, client: &str, id: NonZeroU16) {
        let done = self.outbox(client).and_then(|outbox| outbox.complete(id));
        done.iter().for_each(|entry| self.handle_gone(client, entry));
    }

    /// The client does not take it.
    pub(super) fn discard(&mut self, client: &str, id: NonZeroU16) {
        let done = self.outbox(client).and_then(|outbox| outbox.discard(id));
        done.iter().for_each(|entry| self.handle_gone(client, entry));
    }

    fn outbox(&mut self, client: &str) -> Option<&mut Outbox> {
        self.subscribers.get_mut(client).map(|subscriber| &mut subscriber.outbox)
    }

    /// An entry has left an outbox.
    fn handle_gone(&mut self, client: &str, entry: &Entry) {
        self.bytes -= entry.cost();
        let is_kept = self.subscribers.get(client).is_some_and(|one| one.keeps(entry.qos));
        if let Some(id) = entry.packet_id.filter(|_| is_kept) {
            self.kept_bytes -= entry.cost();
            self.note_done(client, id);
        }
    }

    /// Takes subscriptions, and sends what is retained for them.
    pub(super) fn subscribe(
        &mut self,
        client: &Arc<str>,
        wanted: Vec<(Box<str>, Result<Subscription, SubscribeRefusal>)>,
        now: WallTime,
    ) -> Vec<Result<QoS, SubscribeRefusal>> {
        let mut granted = Vec::with_capacity(wanted.len());
        for (name, wanted) in wanted {
            granted.push(wanted.and_then(|wanted| {
                let qos = wanted.options.qos;
                self.subscribe_one(client, name, wanted, now).map(|()| qos)
            }));
        }
        granted
    }

    fn subscribe_one(
        &mut self,
        client: &Arc<str>,
        name: Box<str>,
        wanted: Subscription,
        now: WallTime,
    ) -> Result<(), SubscribeRefusal> {
        let quota = Err(SubscribeRefusal::Quota);
        let Some(subscriber) = self.subscribers.get_mut(client) else { return quota };
        let is_new = !subscriber.subscriptions.contains_key(&name);
        let is_counted = is_new && subscriber.keep.is_some();
        let cost = if is_counted { subscription_cost(client, &name) } else { 0 };
        if (is_new && subscriber.subscriptions.len() >= SUBSCRIPTIONS_MAX)
            || self.session_bytes + cost > KEPT_SESSION_BYTES_MAX
        {
            return quota;
        }
        self.session_bytes += cost;
        let is_kept = subscriber.keep.is_some();
        subscriber.subscriptions.insert(name.clone(), wanted.clone());
        self.listening.insert(client.clone());
        if is_kept {
            self.note_subscribed(client, &name, &wanted);
        }
        let is_due = match wanted.options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::OnlyNew => is_new,
            RetainHandling::Never => false,
        };
        if is_due && wanted.group.is_none() {
            self.send_retained(client, &wanted, now);
        }
        Ok(())
    }

    fn send_retained(&mut self, client: &Arc<str>, wanted: &Subscription, now: WallTime) {
        for kept in self.retained.matching(&wanted.filter, now) {
            if !self.subscribers[client].may_read(&kept.message.topic) {
                continue;
            }
            let entry = Entry {
                qos: wanted.options.qos.min(kept.message.qos),
                retain: true,
                identifiers: wanted.identifier.into_iter().collect(),
                expires: kept.expires,
                packet_id: None,
                stage: Stage::Waiting,
                is_repeated: false,
                message: kept.message,
            };
            let (message, expires) = (entry.message.clone(), entry.expires);
            let mut targets = Vec::new();
            self.enqueue(client.clone(), entry, &mut targets);
            self.note_message(&message, expires, &targets);
        }
    }

    /// Ends subscriptions; whether each of them was there.
    pub(super) fn unsubscribe(&mut self, client: &str, filters: &[String]) -> Vec<bool> {
        let mut known = Vec::with_capacity(filters.len());
        for filter in filters {
            let Some(subscriber) = self.subscribers.get_mut(client) else { break };
            let was_there = subscriber.subscriptions.remove(filter.as_str()).is_some();
            let is_kept = subscriber.keep.is_some();
            if subscriber.subscriptions.is_empty() {
                self.listening.remove(client);
            }
            if was_there && is_kept {
                self.session_bytes -= subscription_cost(client, filter);
                self.note_unsubscribed(client, filter);
            }
            known.push(was_there);
        }
        known
    }

    fn mark(&mut self, client: &str, id: NonZeroU16) {
        if let Some(subscriber) = self.subscribers.get_mut(client)
            && subscriber.keep.is_some()
            && subscriber.marks.insert(id)
        {
            self.note_mark(client, id, true);
        }
    }

    /// A QoS 2 message from this client is released.
    pub(super) fn unmark(&mut self, client: &str, id: NonZeroU16) {
        let Some(subscriber) = self.subscribers.get_mut(client) else { return };
        subscriber.doubtful.remove(&id);
        if subscriber.marks.remove(&id) {
            self.note_mark(client, id, false);
        }
    }
}

fn delivery(entry: Entry, now: WallTime) -> Delivery {
    let left = entry.expires.map(|expires| expires.since(now).as_secs());
    Delivery {
        qos: entry.qos,
        packet_id: entry.packet_id,
        retain: entry.retain,
        is_repeated: entry.is_repeated,
        identifiers: entry.identifiers,
        // At least a second: zero is not a length of life.
        expiry_s: left.map(|left| u32::try_from(left).unwrap_or(u32::MAX).max(1)),
        alias: None,
        message: entry.message,
    }
}
