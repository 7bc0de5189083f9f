//! One connection's rules after CONNECT, without I/O.
//!
//! Feed packets and outcomes with `handle_*`; take what follows with `poll_*`. Invariants:
//! - PUBACK, PUBREC and PUBCOMP follow a durable outcome, in the order of the messages (MQTT 5, 4.6).
//! - A QoS 2 message whose id is held is never submitted again before it is released.
//! - Messages that wait for the engine never exceed the receive maximum: version 5 was told and is closed,
//!   version 3.1.1 has no such number and is not read meanwhile ([`Session::has_room`]).
//! - What becomes durable after the client has left is still handed on to subscribers.
//! - What must not be said before the store has a record waits for the number of that record.
//!
//! Version 3.1.1 cannot refuse a message. A refusal that may pass ends the connection, so that the client
//! sends again; a final one is acknowledged, or the client would send it for ever.

mod alias;
mod drive;
mod flight;
mod packet_ids;
mod publishing;
mod subscribing;
#[cfg(test)]
mod tests;

pub use drive::drive;

use super::auth::Rights;
use super::exchange::{Opened, Subscription};
use super::message::Message;
use super::packet::{Delivery, Goodbye, Inbound, Outbound, SubscribeRefusal, Version};
use crate::submission::{Outcome, QoS, RefuseReason, Settled};
use alias::OutAliases;
use bytes::Bytes;
use flight::{Flight, Flights};
use packet_ids::PacketIds;
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
        /// It only removes a retained message: there is nothing to decode.
        is_removal: bool,
    },
    Release {
        ticket: u64,
        packet_id: NonZeroU16,
    },
}

/// What the session asks of the exchange, about what its client receives.
#[derive(Debug)]
pub(super) enum Ask {
    /// Answered with [`Session::handle_answer`], as are the next two.
    Subscribe {
        packet_id: NonZeroU16,
        wanted: Vec<(Box<str>, Result<Subscription, SubscribeRefusal>)>,
    },
    Unsubscribe {
        packet_id: NonZeroU16,
        filters: Vec<String>,
    },
    Received(NonZeroU16),
    Acknowledged(NonZeroU16),
    Completed(NonZeroU16),
    /// The client does not want it.
    Discarded(NonZeroU16),
    /// A QoS 2 message that was handed on is released; answered with [`Session::handle_unmarked`].
    Released(NonZeroU16),
}

/// A message that is durable, for the exchange; answered with [`Session::handle_passed_on`].
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) message: Message,
    /// Packet id of QoS 2.
    pub(super) held: Option<NonZeroU16>,
}

/// What waits for a record of the store.
#[derive(Debug)]
enum Withheld {
    Packet(Outbound),
    Flight(Flight, Outcome),
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
    /// What became of the messages of `held`.
    pub(super) opened: Opened,
    /// Bytes of messages that may wait for the engine; one message always may.
    pub(super) waiting_bytes_max: usize,
    /// Topics that may be shortened towards the client.
    pub(super) out_aliases_max: u16,
}

/// What happened to messages, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Messages that the client had no right to publish.
    pub(super) denied: u64,
    pub(super) refused_quota: u64,
    pub(super) refused_payload: u64,
}

/// One connection's state.
pub(super) struct Session {
    config: SessionConfig,
    flights: Flights,
    /// Ids of QoS 1 and 2 messages that wait for their outcome.
    pending: PacketIds,
    /// Somebody may want what is published.
    is_heard: bool,
    /// Ids of QoS 2 messages that are durable and not released.
    held: BTreeSet<NonZeroU16>,
    /// Those of `held` from earlier connections: a client's quota starts anew with each (MQTT 5, 4.9).
    inherited: BTreeSet<NonZeroU16>,
    /// Ids of QoS 2 messages that were refused for good, which version 3.1.1 cannot be told.
    void: BTreeSet<NonZeroU16>,
    /// Ids that are being released; the number is of a record that must be durable before PUBCOMP.
    releasing: BTreeMap<NonZeroU16, u64>,
    aliases: BTreeMap<NonZeroU16, Arc<str>>,
    out_aliases: OutAliases,
    /// Bytes of messages that wait for the engine.
    waiting_bytes: usize,
    packets: VecDeque<Outbound>,
    requests: VecDeque<Request>,
    asks: VecDeque<Ask>,
    /// Settled by the engine, not yet handed on.
    settled: VecDeque<(Flight, Outcome)>,
    /// Handed on; the number is of the record that must be durable before.
    withheld: VecDeque<(u64, Withheld)>,
    committed: u64,
    ended: Option<Ended>,
    heard_at: Duration,
    tally: Tally,
    last_topic: Arc<str>,
}

impl Session {
    pub(super) fn new(now: Duration, config: SessionConfig) -> Self {
        let held: BTreeSet<_> = config.held.iter().copied().collect();
        Self {
            flights: Flights::default(),
            pending: PacketIds::default(),
            is_heard: true,
            inherited: held.clone(),
            held,
            void: BTreeSet::new(),
            releasing: BTreeMap::new(),
            aliases: BTreeMap::new(),
            out_aliases: OutAliases::new(config.out_aliases_max),
            waiting_bytes: 0,
            packets: VecDeque::new(),
            requests: VecDeque::new(),
            asks: VecDeque::new(),
            settled: VecDeque::new(),
            withheld: VecDeque::new(),
            committed: 0,
            ended: None,
            heard_at: now,
            tally: Tally::default(),
            last_topic: Arc::from(""),
            config,
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
            Inbound::Acknowledged(id) => self.asks.push_back(Ask::Acknowledged(id)),
            Inbound::Received(id, true) => self.asks.push_back(Ask::Received(id)),
            Inbound::Received(id, false) => self.asks.push_back(Ask::Discarded(id)),
            Inbound::Completed(id) => self.asks.push_back(Ask::Completed(id)),
            Inbound::Subscribe { packet_id, filters, identifier } => {
                self.handle_subscribe(packet_id, filters, identifier);
            }
            Inbound::Unsubscribe { packet_id, filters } => {
                self.asks.push_back(Ask::Unsubscribe { packet_id, filters });
            }
            Inbound::Ping => self.packets.push_back(Outbound::Pong),
            Inbound::Disconnect { with_will, .. } => {
                self.ended = Some(Ended { why: String::new(), with_will });
            }
            Inbound::Connect(_) => self.end(Goodbye::Protocol, "a second CONNECT"),
            Inbound::Unexpected(what) => self.end(Goodbye::Protocol, what),
        }
    }

    /// Whether there are subscribers: messages that come while there are none are not kept for them.
    pub(super) fn set_heard(&mut self, is_heard: bool) {
        self.is_heard = is_heard;
    }

    /// The engine has settled requests that had followed one another.
    pub(super) fn handle_settled(&mut self, settled: Settled) {
        for ticket in settled.tickets {
            self.handle_outcome(ticket, settled.outcome.clone());
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
            if let Flight::Publish { bytes, .. } = &flight {
                self.waiting_bytes -= bytes;
            }
            self.settled.push_back((flight, outcome));
        }
        self.skip_refused();
    }

    /// What is not handed on keeps its place among what is.
    fn skip_refused(&mut self) {
        while let Some((flight, outcome)) = self.settled.pop_front() {
            let is_message = matches!(flight, Flight::Publish { message: Some(_), .. });
            if is_message && outcome == Outcome::Durable {
                return self.settled.push_front((flight, outcome));
            }
            let record = match &flight {
                Flight::Release { packet_id } => self.releasing.get(packet_id).copied(),
                Flight::Publish { .. } => None,
            };
            self.withheld.push_back((record.unwrap_or(0), Withheld::Flight(flight, outcome)));
        }
        self.let_go();
    }

    /// The message of [`poll_durable`](Self::poll_durable) was handed on, under the number of a record
    /// if one must be durable first.
    pub(super) fn handle_passed_on(&mut self, record: Option<u64>) {
        if let Some((flight, outcome)) = self.settled.pop_front() {
            if let (Some(_), Flight::Publish { qos: QoS::ExactlyOnce, id, .. }) = (record, &flight)
            {
                self.config.opened.marked.extend(*id);
            }
            let record = record.unwrap_or(0);
            self.withheld.push_back((record, Withheld::Flight(flight, outcome)));
        }
        self.skip_refused();
        self.let_go();
    }

    /// An answer to an [`Ask`], not to be said before a record is durable.
    pub(super) fn handle_answer(&mut self, packet: Outbound, record: Option<u64>) {
        self.withheld.push_back((record.unwrap_or(0), Withheld::Packet(packet)));
        self.let_go();
    }

    /// The mark of a released message goes with this record.
    pub(super) fn handle_unmarked(&mut self, packet_id: NonZeroU16, record: Option<u64>) {
        self.config.opened.marked.remove(&packet_id);
        self.releasing.insert(packet_id, record.unwrap_or(0));
    }

    /// The store has everything up to this record.
    pub(super) fn handle_committed(&mut self, record: u64) {
        self.committed = record;
        self.let_go();
    }

    fn let_go(&mut self) {
        while self.withheld.front().is_some_and(|(record, _)| *record <= self.committed) {
            match self.withheld.pop_front() {
                Some((_, Withheld::Packet(packet))) if self.ended.is_none() => {
                    self.packets.push_back(packet);
                }
                Some((_, Withheld::Flight(flight, outcome))) if self.ended.is_none() => {
                    self.finish(&flight, &outcome);
                }
                _ => {}
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

    pub(super) fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// A message that is durable, for the exchange.
    pub(super) fn poll_durable(&mut self) -> Option<Durable> {
        let (flight, _) = self.settled.front_mut()?;
        let Flight::Publish { qos, id, message, .. } = flight else { return None };
        let held = id.filter(|_| *qos == QoS::ExactlyOnce);
        message.take().map(|message| Durable { message: *message, held })
    }

    /// Whether something waits for the store.
    pub(super) fn is_withholding(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Shortens the topic of a message to this client, where it lets us.
    pub(super) fn shorten(&mut self, packet: &mut Outbound) {
        if let Outbound::Message(delivery) = packet {
            delivery.alias = self.out_aliases.get(&delivery.message.topic);
        }
    }

    /// A message whose topic was shortened did not go out.
    pub(super) fn handle_unsent(&mut self, delivery: &Delivery) {
        if delivery.alias.is_some_and(|alias| !alias.is_known) {
            self.out_aliases.take_back(&delivery.message.topic);
        }
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

    /// Whether another message may be read. Only messages that wait for engine or store count, so that
    /// this becomes true again without the client.
    pub(super) fn has_room(&self) -> bool {
        let fits = self.config.version == Version::V5
            || self.pending.len() < usize::from(self.config.receive_maximum);
        fits && self.waiting_bytes < self.config.waiting_bytes_max
    }

    /// Whether outcomes are still to come.
    pub(super) fn is_waiting(&self) -> bool {
        !self.flights.is_empty() || !self.settled.is_empty()
    }

    /// Topic of the last message, for logs.
    pub(super) fn last_topic(&self) -> &str {
        &self.last_topic
    }
}
