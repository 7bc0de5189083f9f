//! Copies of accepted messages for local subscribers. A tap never holds intake up.

use super::auth::Rights;
use super::filter::TopicFilter;
use super::limits::{TAP_BYTES_MAX, TAP_MESSAGES_MAX};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A message for a subscriber.
pub(super) type Tapped = (Arc<str>, Bytes);

#[derive(Default)]
struct Queue {
    messages: VecDeque<Tapped>,
    bytes: usize,
    dropped: u64,
}

/// One subscriber's queue; the oldest is dropped and counted when it is full.
pub(super) struct Tap {
    queue: Mutex<Queue>,
    news: Notify,
}

struct Subscriber {
    filters: Vec<TopicFilter>,
    rights: Arc<Rights>,
    tap: Arc<Tap>,
}

/// All subscribers of the listener.
#[derive(Default)]
pub(super) struct TapHub {
    /// By number of connection.
    subscribers: Mutex<BTreeMap<u64, Subscriber>>,
    /// So that without subscribers nobody takes the lock.
    count: AtomicUsize,
}

impl TapHub {
    /// Replaces the filters of a connection.
    pub(super) fn subscribe(
        &self,
        connection: u64,
        filters: Vec<TopicFilter>,
        rights: Arc<Rights>,
        tap: Arc<Tap>,
    ) {
        let mut subscribers = self.subscribers.lock().expect("nobody panics while holding it");
        match filters.is_empty() {
            true => drop(subscribers.remove(&connection)),
            false => drop(subscribers.insert(connection, Subscriber { filters, rights, tap })),
        }
        self.count.store(subscribers.len(), Ordering::Release);
    }

    pub(super) fn forget(&self, connection: u64) {
        let mut subscribers = self.subscribers.lock().expect("nobody panics while holding it");
        subscribers.remove(&connection);
        self.count.store(subscribers.len(), Ordering::Release);
    }

    pub(super) fn publish(&self, topic: &Arc<str>, payload: &Bytes) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let subscribers = self.subscribers.lock().expect("nobody panics while holding it");
        for subscriber in subscribers.values() {
            if subscriber.filters.iter().any(|filter| filter.matches(topic))
                && subscriber.rights.may_read(topic)
            {
                subscriber.tap.push(topic.clone(), payload.clone());
            }
        }
    }
}

impl Tap {
    pub(super) fn new() -> Self {
        Self { queue: Mutex::default(), news: Notify::new() }
    }

    fn push(&self, topic: Arc<str>, payload: Bytes) {
        let cost = |(topic, payload): &Tapped| topic.len() + payload.len();
        let mut queue = self.queue.lock().expect("nobody panics while holding it");
        let message = (topic, payload);
        queue.bytes += cost(&message);
        queue.messages.push_back(message);
        while queue.messages.len() > TAP_MESSAGES_MAX
            || (queue.bytes > TAP_BYTES_MAX && queue.messages.len() > 1)
        {
            let oldest = queue.messages.pop_front().expect("it is not empty");
            queue.bytes -= cost(&oldest);
            queue.dropped += 1;
        }
        drop(queue);
        self.news.notify_one();
    }

    /// Waits until there may be messages.
    pub(super) async fn wait(&self) {
        self.news.notified().await;
    }

    /// The oldest message, and how many were dropped before it.
    pub(super) fn pop(&self) -> Option<(Tapped, u64)> {
        let mut queue = self.queue.lock().expect("nobody panics while holding it");
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.0.len() + message.1.len();
        Some((message, std::mem::take(&mut queue.dropped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights() -> Arc<Rights> {
        let subscribe = vec![TopicFilter::parse("open/#").unwrap()];
        Arc::new(Rights { publish: Vec::new(), subscribe })
    }

    fn taps(hub: &TapHub, filter: &str) -> Arc<Tap> {
        let tap = Arc::new(Tap::new());
        hub.subscribe(1, vec![TopicFilter::parse(filter).unwrap()], rights(), tap.clone());
        tap
    }

    #[test]
    fn a_tap_gets_what_it_asked_for_and_may_read() {
        let check = |filter: &str, topic: &str, expect: bool| {
            let hub = TapHub::default();
            let tap = taps(&hub, filter);
            hub.publish(&Arc::from(topic), &Bytes::from_static(b"x"));
            assert_eq!(tap.pop().is_some(), expect, "{filter} {topic}");
            hub.forget(1);
            hub.publish(&Arc::from(topic), &Bytes::from_static(b"x"));
            assert!(tap.pop().is_none());
        };
        check("open/a", "open/a", true);
        check("open/a", "open/b", false);
        check("#", "open/b", true);
        check("#", "closed", false);
    }

    #[test]
    fn a_slow_subscriber_loses_the_oldest_and_is_counted() {
        let hub = TapHub::default();
        let tap = taps(&hub, "open/#");
        let topic: Arc<str> = Arc::from("open/a");
        for number in 0..TAP_MESSAGES_MAX + 3 {
            hub.publish(&topic, &Bytes::from(number.to_string()));
        }
        let ((_, first), dropped) = tap.pop().unwrap();
        assert_eq!((first, dropped), (Bytes::from_static(b"3"), 3));
        let large = Bytes::from(vec![0; TAP_BYTES_MAX / 2]);
        for _ in 0..3 {
            hub.publish(&topic, &large);
        }
        let held: Vec<_> = std::iter::from_fn(|| tap.pop()).collect();
        assert_eq!(held.len(), 1, "two halves and their topics are too much");
    }
}
