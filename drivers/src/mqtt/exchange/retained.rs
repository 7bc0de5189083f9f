//! The last retained message of each topic (MQTT 5, 3.3.1.3).
//!
//! Never here: who is told.

use crate::mqtt::filter::TopicFilter;
use crate::mqtt::limits::{ENTRY_COST, RETAINED_BYTES_MAX, RETAINED_MESSAGES_MAX};
use crate::mqtt::message::Message;
use guan_model::WallTime;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A retained message and the moment at which its life is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) expires: Option<WallTime>,
}

/// What became of a message with the retain flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Stored,
    Removed,
    Nothing,
    /// The limits are reached: what the topic had before is gone too, since it is no longer the last.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Retained {
    by_topic: BTreeMap<Arc<str>, Kept>,
    bytes: usize,
}

fn cost(message: &Message) -> usize {
    ENTRY_COST + message.cost()
}

impl Retained {
    /// An empty payload removes.
    pub(super) fn put(&mut self, message: Message, expires: Option<WallTime>) -> Change {
        let before = self.remove(&message.topic.clone());
        if message.payload.is_empty() {
            return if before { Change::Removed } else { Change::Nothing };
        }
        let cost = cost(&message);
        if self.by_topic.len() >= RETAINED_MESSAGES_MAX || self.bytes + cost > RETAINED_BYTES_MAX {
            return Change::Refused;
        }
        self.bytes += cost;
        self.by_topic.insert(message.topic.clone(), Kept { message, expires });
        Change::Stored
    }

    pub(super) fn remove(&mut self, topic: &str) -> bool {
        let removed = self.by_topic.remove(topic);
        self.bytes -= removed.as_ref().map_or(0, |kept| cost(&kept.message));
        removed.is_some()
    }

    /// Those that a filter matches; what is over is forgotten on the way.
    pub(super) fn matching(&mut self, filter: &TopicFilter, now: WallTime) -> Vec<Kept> {
        let is_over = |kept: &Kept| kept.expires.is_some_and(|expires| expires <= now);
        let over: Vec<Arc<str>> = self
            .by_topic
            .values()
            .filter(|kept| is_over(kept))
            .map(|kept| kept.message.topic.clone())
            .collect();
        over.iter().for_each(|topic| {
            self.remove(topic);
        });
        self.by_topic.values().filter(|kept| filter.matches(&kept.message.topic)).cloned().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.by_topic.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::QoS;
    use bytes::Bytes;

    fn message(topic: &str, payload: impl Into<Bytes>) -> Message {
        let (topic, payload) = (topic.into(), payload.into());
        let qos = QoS::AtLeastOnce;
        Message { topic, payload, qos, retain: true, properties: None, expiry_s: None }
    }

    fn payloads(retained: &mut Retained, filter: &str, now: i64) -> Vec<Bytes> {
        let filter = TopicFilter::parse(filter).unwrap();
        let kept = retained.matching(&filter, WallTime(now)).into_iter();
        kept.map(|kept| kept.message.payload).collect()
    }

    #[test]
    fn the_last_message_of_a_topic_stays_until_it_is_removed_or_over() {
        let mut retained = Retained::default();
        assert_eq!(retained.put(message("a/b", "1"), None), Change::Stored);
        assert_eq!(retained.put(message("a/b", "2"), None), Change::Stored);
        assert_eq!(retained.put(message("a/c", "3"), Some(WallTime(9))), Change::Stored);
        assert_eq!(payloads(&mut retained, "a/+", 8), ["2", "3"]);
        assert_eq!(payloads(&mut retained, "a/c", 9), Vec::<Bytes>::new());
        assert_eq!(retained.put(message("a/b", ""), None), Change::Removed);
        assert_eq!(retained.put(message("a/b", ""), None), Change::Nothing);
        assert_eq!((retained.by_topic.len(), retained.bytes), (0, 0));
    }

    #[test]
    fn messages_and_bytes_are_limited() {
        let mut retained = Retained::default();
        for number in 0..RETAINED_MESSAGES_MAX {
            assert_eq!(retained.put(message(&number.to_string(), "x"), None), Change::Stored);
        }
        assert_eq!(retained.put(message("new", "x"), None), Change::Refused);
        assert_eq!(retained.put(message("7", "y"), None), Change::Stored, "it replaces one");
        let mut retained = Retained::default();
        let fits = vec![0; RETAINED_BYTES_MAX - ENTRY_COST - 1];
        assert_eq!(retained.put(message("a", [&fits[..], &[0]].concat()), None), Change::Refused);
        assert_eq!(retained.put(message("a", fits), None), Change::Stored);
        assert_eq!(retained.put(message("b", "x"), None), Change::Refused);
    }
}
