//! What the client publishes: from PUBLISH to its acknowledgement.

use super::{Ask, Flight, Request, Session};
use crate::mqtt::filter::is_topic_name;
use crate::mqtt::limits::TOPIC_ALIASES_MAX;
use crate::mqtt::message::Message;
use crate::mqtt::packet::{Goodbye, Outbound, Publish, Version};
use crate::submission::{Outcome, QoS, RefuseReason};
use std::num::NonZeroU16;
use std::sync::Arc;

fn message(publish: Publish, topic: Arc<str>) -> Message {
    Message {
        topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties: publish.properties,
        expiry_s: publish.expiry_s,
    }
}

impl Session {
    pub(super) fn handle_publish(&mut self, publish: Publish) {
        let Some(topic) = self.resolve(&publish) else { return };
        self.last_topic = topic.clone();
        let id = match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => None,
            (_, Some(id)) => Some(id),
            (_, None) => return self.end(Goodbye::Malformed, "a message without packet id"),
        };
        if let Some(id) = id {
            if self.is_repeated(&publish, id, &topic) {
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
        let (qos, is_retained) = (publish.qos, publish.retain);
        let message = message(publish, topic.clone());
        let bytes = message.cost();
        self.waiting_bytes += bytes;
        let (payload, message) = match is_retained || self.is_heard {
            true => (message.payload.clone(), Some(Box::new(message))),
            false => (message.payload, None),
        };
        let is_removal = is_retained && payload.is_empty();
        let ticket = self.flights.push(Flight::Publish { qos, id, message, bytes });
        if let Some(id) = id {
            self.pending.insert(id);
        }
        let held = id.filter(|_| qos == QoS::ExactlyOnce);
        self.requests.push_back(Request::Publish { ticket, topic, payload, qos, held, is_removal });
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
        if publish.alias.is_none() && publish.topic == self.last_topic && !publish.topic.is_empty()
        {
            return Some(self.last_topic.clone());
        }
        if !is_topic_name(&publish.topic) {
            self.end(Goodbye::TopicName, "a topic that is empty, too long or has a wildcard");
            return None;
        }
        let topic = publish.topic.clone();
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
    fn is_repeated(&mut self, publish: &Publish, id: NonZeroU16, topic: &Arc<str>) -> bool {
        if self.pending.contains(id) {
            return true;
        }
        let is_two = publish.qos == QoS::ExactlyOnce;
        if !is_two || !(self.held.contains(&id) || self.void.contains(&id)) {
            return false;
        }
        // Repeated on this connection, it counts there.
        self.inherited.remove(&id);
        if self.config.opened.doubtful.remove(&id) {
            // The engine has it, and a restart came before the subscribers had.
            let message = Some(Box::new(message(publish.clone(), topic.clone())));
            self.pending.insert(id);
            let flight = Flight::Publish { qos: QoS::ExactlyOnce, id: Some(id), message, bytes: 0 };
            self.settled.push_back((flight, Outcome::Durable));
            return true;
        }
        self.packets.push_back(Outbound::Received(id, None));
        true
    }

    fn deny(&mut self, qos: QoS, id: Option<NonZeroU16>) {
        self.tally.denied += 1;
        let Some(id) = id else { return };
        let text = "this client may not publish to the topic".to_owned();
        let outcome = Outcome::Refused { reason: RefuseReason::NotAuthorized, text };
        let ticket =
            self.flights.push(Flight::Publish { qos, id: Some(id), message: None, bytes: 0 });
        self.pending.insert(id);
        self.settle(ticket, outcome);
    }

    pub(super) fn handle_release(&mut self, packet_id: NonZeroU16) {
        if self.pending.contains(packet_id) {
            return self.end(Goodbye::Protocol, "a release of a message that was not answered");
        }
        if self.void.remove(&packet_id) {
            return self.packets.push_back(Outbound::Complete { packet_id, is_known: true });
        }
        if !self.held.contains(&packet_id) {
            return self.packets.push_back(Outbound::Complete { packet_id, is_known: false });
        }
        // A repeated release gets the answer of the first.
        if self.releasing.insert(packet_id, 0).is_none() {
            if self.config.opened.marked.contains(&packet_id) {
                self.asks.push_back(Ask::Released(packet_id));
            }
            let ticket = self.flights.push(Flight::Release { packet_id });
            self.requests.push_back(Request::Release { ticket, packet_id });
        }
    }

    pub(super) fn finish(&mut self, flight: &Flight, outcome: &Outcome) {
        match flight {
            Flight::Release { packet_id } => match outcome {
                Outcome::Durable => {
                    self.releasing.remove(packet_id);
                    self.held.remove(packet_id);
                    self.inherited.remove(packet_id);
                    let (packet_id, is_known) = (*packet_id, true);
                    self.packets.push_back(Outbound::Complete { packet_id, is_known });
                }
                _ => self.end(Goodbye::Busy, "a release could not be made durable"),
            },
            Flight::Publish { qos, id: Some(id), .. } => {
                self.pending.remove(*id);
                self.answer(*qos, *id, outcome);
            }
            Flight::Publish { .. } => {}
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
