//! One connection's rules after CONNECT, without I/O.
//!
//! Feed packets and outcomes with `handle_*`; take what follows with `poll_*`. Invariants:
//! - PUBACK, PUBREC and PUBCOMP follow a durable outcome, in the order of the messages (MQTT 5, 4.6).
//! - A QoS 2 message whose id is held is never submitted again before it is released.
//! - Messages that wait for the engine never exceed the receive maximum: version 5 was told and is closed,
//!   version 3.1.1 has no such number and is not read meanwhile ([`Session::has_room`]).
//! - What becomes durable after the client has left is still handed to the taps.
//!
//! Version 3.1.1 cannot refuse a message. A refusal that may pass ends the connection, so that the client
//! sends again; a final one is acknowledged, or the client would send it for ever.

mod flight;
#[cfg(test)]
mod tests;

pub use drive::drive;

mod drive;

use super::auth::Rights;
use super::filter::{TopicFilter, is_topic_name};
use super::limits::{SUBSCRIPTIONS_MAX, TOPIC_ALIASES_MAX};
use super::packet::{Goodbye, Inbound, Outbound, Publish, Version};
use crate::submission::{Outcome, QoS, RefuseReason};
use bytes::Bytes;
use flight::{Flight, Flights};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// What the session asks of the engine; answered with [`Session::handle_outcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Publish {
        ticket: u64,
        topic: Arc<str>,
        payload: Bytes,
        qos: QoS,
        /// Packet id of a QoS 2 message.
        held: Option<NonZeroU16>,
    },
    Release {
        ticket: u64,
        packet_id: NonZeroU16,
    },
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// For the log; empty when the client said goodbye itself.
    pub(super) why: String,
    pub(super) with_will: bool,
}

/// What the session is told at its beginning.
pub(super) struct SessionConfig {
    pub(super) version: Version,
    pub(super) rights: Arc<Rights>,
    pub(super) receive_maximum: u16,
    /// `None`: the client may be silent for ever.
    pub(super) keep_alive: Option<Duration>,
    /// QoS 2 ids that the engine still holds for this client.
    pub(super) held: Vec<NonZeroU16>,
}

/// What happened to messages, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Messages that the client had no right to publish.
    pub(super) denied: u64,
    pub(super) refused_quota: u64,
    pub(super) refused_payload: u64,
    /// Retain flags of version 3.1.1 that were ignored.
    pub(super) retain_ignored: u64,
}

/// One connection's state.
pub(super) struct Session {
    config: SessionConfig,
    flights: Flights,
    /// Ids of QoS 1 and 2 messages that wait for their outcome.
    pending: BTreeSet<NonZeroU16>,
    /// Ids of QoS 2 messages that are durable and not released.
    held: BTreeSet<NonZeroU16>,
    /// Those of `held` from earlier connections: a client's quota starts anew with each (MQTT 5, 4.9).
    inherited: BTreeSet<NonZeroU16>,
    /// Ids of QoS 2 messages that were refused for good, which version 3.1.1 cannot be told.
    void: BTreeSet<NonZeroU16>,
    releasing: BTreeSet<NonZeroU16>,
    aliases: BTreeMap<NonZeroU16, Arc<str>>,
    subscriptions: BTreeMap<String, TopicFilter>,
    subscriptions_changed: bool,
    packets: VecDeque<Outbound>,
    requests: VecDeque<Request>,
    durable: VecDeque<(Arc<str>, Bytes)>,
    ended: Option<Ended>,
    heard_at: Duration,
    tally: Tally,
    last_topic: Arc<str>,
}

impl Session {
    pub(super) fn new(now: Duration, config: SessionConfig) -> Self {
        let held: BTreeSet<_> = config.held.iter().copied().collect();
        Self {
            config,
            flights: Flights::default(),
            pending: BTreeSet::new(),
            inherited: held.clone(),
            held,
            void: BTreeSet::new(),
            releasing: BTreeSet::new(),
            aliases: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            subscriptions_changed: false,
            packets: VecDeque::new(),
            requests: VecDeque::new(),
            durable: VecDeque::new(),
            ended: None,
            heard_at: now,
            tally: Tally::default(),
            last_topic: Arc::from(""),
        }
    }

    // Input

    pub(super) fn handle_packet(&mut self, now: Duration, packet: Inbound) {
        if self.ended.is_some() {
            return;
        }
        self.heard_at = now;
        match packet {
            Inbound::Publish(publish) => self.handle_publish(publish),
            Inbound::Release(packet_id) => self.handle_release(packet_id),
            Inbound::Subscribe { packet_id, filters, has_identifier } => {
                self.handle_subscribe(packet_id, filters, has_identifier);
            }
            Inbound::Unsubscribe { packet_id, filters } => {
                let known =
                    filters.iter().map(|filter| self.subscriptions.remove(filter).is_some());
                let known = known.collect();
                self.subscriptions_changed = true;
                self.packets.push_back(Outbound::Unsubscribed(packet_id, known));
            }
            Inbound::Ping => self.packets.push_back(Outbound::Pong),
            Inbound::Disconnect { with_will, .. } => {
                self.ended = Some(Ended { why: String::new(), with_will });
            }
            Inbound::Connect(_) => self.end(Goodbye::Protocol, "a second CONNECT"),
            Inbound::Unexpected(what) => self.end(Goodbye::Protocol, what),
        }
    }

    /// The engine has settled a request.
    pub(super) fn handle_outcome(&mut self, ticket: u64, outcome: Outcome) {
        match &outcome {
            Outcome::Refused { reason: RefuseReason::Quota, .. } => self.tally.refused_quota += 1,
            Outcome::Refused { reason: RefuseReason::PayloadInvalid, .. } => {
                self.tally.refused_payload += 1;
            }
            Outcome::Refused { reason: RefuseReason::NotAuthorized, .. } => self.tally.denied += 1,
            Outcome::Durable | Outcome::Lost => {}
        }
        self.settle(ticket, outcome);
    }

    fn settle(&mut self, ticket: u64, outcome: Outcome) {
        self.flights.settle(ticket, outcome);
        while let Some((flight, outcome)) = self.flights.pop_settled() {
            match (self.ended.is_none(), flight) {
                (true, flight) => self.finish(flight, outcome),
                // Nobody waits for the answer, but the message is there.
                (false, Flight::Publish { topic, payload, .. }) if outcome == Outcome::Durable => {
                    self.durable.push_back((topic, payload));
                }
                (false, _) => {}
            }
        }
    }

    /// The client was not read for a while, which is no silence of its own.
    pub(super) fn handle_pause(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// A deadline may have passed.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        if self.poll_timeout().is_some_and(|deadline| now >= deadline) {
            self.end(Goodbye::KeepAlive, "nothing came for one and a half keep-alives");
        }
    }

    /// Ends the session from outside.
    pub(super) fn end(&mut self, goodbye: Goodbye, why: &str) {
        if self.ended.is_none() {
            self.packets.push_back(Outbound::Goodbye(goodbye));
            self.ended = Some(Ended { why: why.to_owned(), with_will: true });
        }
    }

    // Output

    pub(super) fn poll_packet(&mut self) -> Option<Outbound> {
        self.packets.pop_front()
    }

    pub(super) fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// A message that is durable, for taps.
    pub(super) fn poll_durable(&mut self) -> Option<(Arc<str>, Bytes)> {
        self.durable.pop_front()
    }

    /// The filters, when they have changed.
    pub(super) fn poll_subscriptions(&mut self) -> Option<Vec<TopicFilter>> {
        let changed = std::mem::take(&mut self.subscriptions_changed);
        changed.then(|| self.subscriptions.values().cloned().collect())
    }

    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.config.keep_alive.map(|keep_alive| self.heard_at + keep_alive + keep_alive / 2)
    }

    /// What was counted since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether another message may be read. Only messages that wait for the engine count, so that this
    /// becomes true again without the client.
    pub(super) fn has_room(&self) -> bool {
        self.config.version == Version::V5
            || self.pending.len() < usize::from(self.config.receive_maximum)
    }

    /// Whether outcomes are still to come.
    pub(super) fn is_waiting(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Topic of the last message, for logs.
    pub(super) fn last_topic(&self) -> &str {
        &self.last_topic
    }
}

impl Session {
    fn handle_publish(&mut self, publish: Publish) {
        let Some(topic) = self.resolve(&publish) else { return };
        self.last_topic = topic.clone();
        match (publish.retain, self.config.version) {
            (true, Version::V5) => {
                return self.end(Goodbye::Retain, "a retained message; this listener keeps none");
            }
            (true, Version::V3) => self.tally.retain_ignored += 1,
            (false, _) => {}
        }
        let id = match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => None,
            (_, Some(id)) => Some(id),
            (_, None) => return self.end(Goodbye::Malformed, "a message without packet id"),
        };
        if let Some(id) = id {
            if self.is_repeated(publish.qos, id) {
                return;
            }
            if self.config.version == Version::V5
                && self.unfinished() >= usize::from(self.config.receive_maximum)
            {
                return self.end(Goodbye::ReceiveMaximum, "more messages than the receive maximum");
            }
        }
        if !self.config.rights.may_publish(&topic) {
            return self.deny(publish.qos, id);
        }
        let qos = publish.qos;
        let flight =
            Flight::Publish { qos, id, topic: topic.clone(), payload: publish.payload.clone() };
        let ticket = self.flights.push(flight);
        self.pending.extend(id);
        let held = id.filter(|_| qos == QoS::ExactlyOnce);
        let payload = publish.payload;
        self.requests.push_back(Request::Publish { ticket, topic, payload, qos, held });
    }

    /// The topic's full name; `None` has ended the session.
    fn resolve(&mut self, publish: &Publish) -> Option<Arc<str>> {
        if let Some(alias) = publish.alias
            && alias.get() > TOPIC_ALIASES_MAX
        {
            self.end(Goodbye::TopicAlias, "a topic alias above the maximum");
            return None;
        }
        if publish.topic.is_empty()
            && let Some(alias) = publish.alias
        {
            let known = self.aliases.get(&alias).cloned();
            if known.is_none() {
                self.end(Goodbye::TopicAlias, "a topic alias that was not set");
            }
            return known;
        }
        // Most clients stay with one topic.
        if publish.alias.is_none() && publish.topic == *self.last_topic && !publish.topic.is_empty()
        {
            return Some(self.last_topic.clone());
        }
        if !is_topic_name(&publish.topic) {
            self.end(Goodbye::TopicName, "a topic that is empty, too long or has a wildcard");
            return None;
        }
        let topic: Arc<str> = Arc::from(publish.topic.as_str());
        if let Some(alias) = publish.alias {
            self.aliases.insert(alias, topic.clone());
        }
        Some(topic)
    }

    /// Messages of this connection that the client must count as unfinished (MQTT 5, 4.9).
    fn unfinished(&self) -> usize {
        self.pending.len() + self.held.len() + self.void.len() - self.inherited.len()
    }

    /// Whether the message has been seen; then its answer is given or will come.
    fn is_repeated(&mut self, qos: QoS, id: NonZeroU16) -> bool {
        if self.pending.contains(&id) {
            return true;
        }
        let is_known =
            qos == QoS::ExactlyOnce && (self.held.contains(&id) || self.void.contains(&id));
        if is_known {
            // Repeated on this connection, it counts there.
            self.inherited.remove(&id);
            self.packets.push_back(Outbound::Received(id, None));
        }
        is_known
    }

    fn deny(&mut self, qos: QoS, id: Option<NonZeroU16>) {
        self.tally.denied += 1;
        let Some(id) = id else { return };
        let text = "this client may not publish to the topic".to_owned();
        let outcome = Outcome::Refused { reason: RefuseReason::NotAuthorized, text };
        let (topic, payload) = (Arc::from(""), Bytes::new());
        let ticket = self.flights.push(Flight::Publish { qos, id: Some(id), topic, payload });
        self.pending.insert(id);
        self.settle(ticket, outcome);
    }

    fn handle_release(&mut self, packet_id: NonZeroU16) {
        if self.pending.contains(&packet_id) {
            return self.end(Goodbye::Protocol, "a release of a message that was not answered");
        }
        if self.void.remove(&packet_id) {
            return self.packets.push_back(Outbound::Complete { packet_id, is_known: true });
        }
        if !self.held.contains(&packet_id) {
            return self.packets.push_back(Outbound::Complete { packet_id, is_known: false });
        }
        // A repeated release gets the answer of the first.
        if self.releasing.insert(packet_id) {
            let ticket = self.flights.push(Flight::Release { packet_id });
            self.requests.push_back(Request::Release { ticket, packet_id });
        }
    }

    fn handle_subscribe(
        &mut self,
        packet_id: NonZeroU16,
        filters: Vec<String>,
        has_identifier: bool,
    ) {
        if has_identifier {
            return self.end(Goodbye::Protocol, "a subscription identifier; none were offered");
        }
        if filters.is_empty() {
            return self.end(Goodbye::Protocol, "a subscription to nothing");
        }
        let may_subscribe = self.config.rights.may_subscribe();
        let mut granted = Vec::with_capacity(filters.len());
        for filter in filters {
            // Shared subscriptions would read as topics of the server.
            let parsed = match filter.starts_with("$share/") {
                true => None,
                false => TopicFilter::parse(&filter).ok(),
            };
            let fits = may_subscribe
                && (self.subscriptions.len() < SUBSCRIPTIONS_MAX
                    || self.subscriptions.contains_key(&filter));
            granted.push(match parsed {
                Some(parsed) if fits => {
                    self.subscriptions.insert(filter, parsed);
                    true
                }
                _ => false,
            });
        }
        self.subscriptions_changed = true;
        self.packets.push_back(Outbound::Subscribed(packet_id, granted));
    }

    fn finish(&mut self, flight: Flight, outcome: Outcome) {
        match flight {
            Flight::Release { packet_id } => match outcome {
                Outcome::Durable => {
                    self.releasing.remove(&packet_id);
                    self.held.remove(&packet_id);
                    self.inherited.remove(&packet_id);
                    self.packets.push_back(Outbound::Complete { packet_id, is_known: true });
                }
                _ => self.end(Goodbye::Busy, "a release could not be made durable"),
            },
            Flight::Publish { qos, id, topic, payload } => {
                if let Some(id) = id {
                    self.pending.remove(&id);
                    self.answer(qos, id, &outcome);
                }
                if outcome == Outcome::Durable {
                    self.durable.push_back((topic, payload));
                }
            }
        }
    }

    fn answer(&mut self, qos: QoS, id: NonZeroU16, outcome: &Outcome) {
        let is_v5 = self.config.version == Version::V5;
        let refusal = match outcome {
            Outcome::Durable => None,
            Outcome::Lost => return self.end(Goodbye::Busy, "the engine does not take messages"),
            Outcome::Refused { reason, text } if is_v5 || reason.is_final() => {
                Some((*reason, text.clone()))
            }
            Outcome::Refused { text, .. } => return self.end(Goodbye::Busy, text),
        };
        if qos != QoS::ExactlyOnce {
            return self.packets.push_back(Outbound::Acknowledge(id, refusal));
        }
        match (&refusal, is_v5) {
            (None, _) => drop(self.held.insert(id)),
            (Some(_), false) => drop(self.void.insert(id)),
            // Version 5: an error in PUBREC ends the message (4.3.3).
            (Some(_), true) => {}
        }
        self.packets.push_back(Outbound::Received(id, refusal));
    }
}
