//! What waits for one subscriber, and what it has not answered yet (MQTT 5, 4.3 and 4.4).
//!
//! Invariants:
//! - Messages leave in the order in which they came; a packet id is of one entry from `push` to its end.
//! - No more than the client's receive maximum is unanswered.
//! - Never more than [`OUTBOX_MESSAGES_MAX`] entries, nor, beyond the first, [`OUTBOX_BYTES_MAX`].
//!
//! Never here: sockets, the disk, other subscribers.

use crate::mqtt::limits::{ENTRY_COST, OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};
use crate::mqtt::message::Message;
use crate::submission::QoS;
use guan_model::WallTime;
use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};

/// How far an entry has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Sent,
    /// QoS 2: the subscriber has the message, PUBCOMP is missing.
    Released,
}

/// A message for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) message: Message,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<NonZeroU32>,
    pub(super) expires: Option<WallTime>,
    /// `None` for QoS 0.
    pub(super) packet_id: Option<NonZeroU16>,
    pub(super) stage: Stage,
    pub(super) is_repeated: bool,
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        ENTRY_COST + self.message.cost()
    }
}

/// What is to be said next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Message(Entry),
    Release(NonZeroU16),
    /// Its life was over before it could be sent.
    Expired(Entry),
}

/// One subscriber's entries, by order of arrival.
#[derive(Debug)]
pub(super) struct Outbox {
    entries: BTreeMap<u64, Entry>,
    by_id: BTreeMap<NonZeroU16, u64>,
    /// Those of QoS 0: what gives way when it is full.
    loose: VecDeque<u64>,
    next_number: u64,
    next_id: NonZeroU16,
    /// Everything before it was said on this connection.
    cursor: u64,
    unanswered: usize,
    bytes: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_id: BTreeMap::new(),
            loose: VecDeque::new(),
            next_number: 0,
            next_id: NonZeroU16::MIN,
            cursor: 0,
            unanswered: 0,
            bytes: 0,
        }
    }
}

impl Outbox {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Makes room for an entry of this cost: entries of QoS 0 that gave way are returned, or `None` when
    /// there is no room all the same.
    pub(super) fn make_room(&mut self, cost: usize) -> Option<Vec<Entry>> {
        let mut gone = Vec::new();
        while self.entries.len() >= OUTBOX_MESSAGES_MAX
            || (self.bytes + cost > OUTBOX_BYTES_MAX && !self.entries.is_empty())
        {
            let oldest = self.loose.pop_front()?;
            gone.extend(self.remove(oldest));
        }
        Some(gone)
    }

    /// Adds an entry at the end and returns the packet id that it was given.
    pub(super) fn push(&mut self, mut entry: Entry) -> Option<NonZeroU16> {
        let number = self.next_number;
        self.next_number += 1;
        if entry.qos == QoS::AtMostOnce {
            self.loose.push_back(number);
        } else {
            let id = entry.packet_id.unwrap_or_else(|| self.free_id());
            entry.packet_id = Some(id);
            self.by_id.insert(id, number);
        }
        self.bytes += entry.cost();
        let id = entry.packet_id;
        self.entries.insert(number, entry);
        id
    }

    fn free_id(&mut self) -> NonZeroU16 {
        // Fewer entries than ids, so that there always is one.
        loop {
            let id = self.next_id;
            self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn has(&self, id: NonZeroU16) -> bool {
        self.by_id.contains_key(&id)
    }

    /// An id that was used up in the store's past is not given again before its turn.
    pub(super) fn skip_to(&mut self, id: NonZeroU16) {
        self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
    }

    /// What is to be said next, with so many unanswered messages at most.
    pub(super) fn next(&mut self, window: usize, now: WallTime) -> Option<Next> {
        loop {
            let (&number, entry) = self.entries.range_mut(self.cursor..).next()?;
            match entry.stage {
                Stage::Sent => self.cursor = number + 1,
                Stage::Released => {
                    self.cursor = number + 1;
                    return entry.packet_id.map(Next::Release);
                }
                Stage::Waiting => {
                    // One that may have arrived must be finished, however late it is.
                    let is_over = entry.expires.is_some_and(|expires| expires <= now);
                    if is_over && !entry.is_repeated {
                        self.cursor = number + 1;
                        return self.take(number).map(Next::Expired);
                    }
                    if entry.qos == QoS::AtMostOnce {
                        self.cursor = number + 1;
                        return self.take(number).map(Next::Message);
                    }
                    if self.unanswered >= window {
                        return None;
                    }
                    self.unanswered += 1;
                    self.cursor = number + 1;
                    entry.stage = Stage::Sent;
                    let said = entry.clone();
                    entry.is_repeated = true;
                    return Some(Next::Message(said));
                }
            }
        }
    }

    /// PUBACK, or an end by error: the entry that is done.
    pub(super) fn acknowledge(&mut self, id: NonZeroU16) -> Option<Entry> {
        self.finish(id, |entry| entry.stage == Stage::Sent && entry.qos == QoS::AtLeastOnce)
    }

    /// PUBCOMP.
    pub(super) fn complete(&mut self, id: NonZeroU16) -> Option<Entry> {
        self.finish(id, |entry| entry.stage == Stage::Released)
    }

    /// The subscriber will not have it: refused in PUBREC, or larger than it takes.
    pub(super) fn discard(&mut self, id: NonZeroU16) -> Option<Entry> {
        self.finish(id, |entry| entry.stage != Stage::Waiting)
    }

    /// PUBREC: bytes that are free now; `None` for an id that is not on its way.
    pub(super) fn receive(&mut self, id: NonZeroU16) -> Option<usize> {
        let entry = self.entries.get_mut(self.by_id.get(&id)?)?;
        if entry.qos != QoS::ExactlyOnce || entry.stage == Stage::Waiting {
            return None;
        }
        let before = entry.cost();
        entry.stage = Stage::Released;
        entry.message = entry.message.husk();
        let freed = before - entry.cost();
        self.bytes -= freed;
        Some(freed)
    }

    /// A new connection: what was not finished is said again, in order (MQTT 5, 4.4).
    pub(super) fn resume(&mut self) {
        self.cursor = 0;
        self.unanswered = 0;
        for entry in self.entries.values_mut() {
            match entry.stage {
                Stage::Sent => entry.stage = Stage::Waiting,
                Stage::Released => self.unanswered += 1,
                Stage::Waiting => {}
            }
        }
    }

    /// The connection is gone: what QoS 0 left over is not kept. Returns the bytes that are free now.
    pub(super) fn drop_loose(&mut self) -> usize {
        let loose = std::mem::take(&mut self.loose);
        loose.into_iter().filter_map(|number| self.remove(number)).map(|entry| entry.cost()).sum()
    }

    fn finish(&mut self, id: NonZeroU16, fits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let number = *self.by_id.get(&id)?;
        self.entries.get(&number).filter(|entry| fits(entry))?;
        self.unanswered -= 1;
        self.remove(number)
    }

    /// Removes an entry from the front of what waits.
    fn take(&mut self, number: u64) -> Option<Entry> {
        if self.loose.front() == Some(&number) {
            self.loose.pop_front();
        }
        self.remove(number)
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.cost();
        if let Some(id) = entry.packet_id {
            self.by_id.remove(&id);
        }
        Some(entry)
    }

    /// Replays the end of an entry out of the store.
    pub(super) fn replay_done(&mut self, id: NonZeroU16) -> Option<Entry> {
        let number = *self.by_id.get(&id)?;
        self.remove(number)
    }

    /// Replays PUBREC out of the store: bytes that are free now.
    pub(super) fn replay_received(&mut self, id: NonZeroU16) -> usize {
        if let Some(entry) = self.by_id.get(&id).and_then(|number| self.entries.get_mut(number))
            && entry.stage == Stage::Waiting
        {
            entry.stage = Stage::Sent;
        }
        self.receive(id).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const NOW: WallTime = WallTime(0);

    fn entry(qos: QoS, name: &str) -> Entry {
        Entry {
            message: Message {
                topic: "a".into(),
                payload: Bytes::copy_from_slice(name.as_bytes()),
                qos,
                retain: false,
                properties: None,
                expiry_s: None,
            },
            qos,
            retain: false,
            identifiers: Vec::new(),
            expires: None,
            packet_id: None,
            stage: Stage::Waiting,
            is_repeated: false,
        }
    }

    /// What is said until the window is full: its name, and an exclamation mark when it is said again.
    fn said(outbox: &mut Outbox, window: usize) -> Vec<String> {
        let next = || outbox.next(window, NOW);
        std::iter::from_fn(next)
            .map(|next| match next {
                Next::Message(entry) => {
                    let name = String::from_utf8(entry.message.payload.to_vec()).unwrap();
                    if entry.is_repeated { name + "!" } else { name }
                }
                Next::Release(id) => format!("release {id}"),
                Next::Expired(_) => "expired".to_owned(),
            })
            .collect()
    }

    fn id(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn the_window_is_exact_and_answers_open_it() {
        let mut outbox = Outbox::default();
        for name in ["1", "2", "3"] {
            outbox.push(entry(QoS::AtLeastOnce, name));
        }
        outbox.push(entry(QoS::ExactlyOnce, "4"));
        assert_eq!(said(&mut outbox, 2), ["1", "2"]);
        assert!(outbox.acknowledge(id(3)).is_none(), "it was not sent");
        assert!(outbox.complete(id(1)).is_none() && outbox.receive(id(1)).is_none());
        assert!(outbox.acknowledge(id(2)).is_some());
        assert_eq!(said(&mut outbox, 2), ["3"]);
        outbox.acknowledge(id(1)).unwrap();
        assert_eq!(said(&mut outbox, 2), ["4"]);
        assert!(outbox.acknowledge(id(4)).is_none(), "QoS 2 is not done by PUBACK");
        assert_eq!(outbox.receive(id(4)), Some(1));
        assert_eq!(outbox.receive(id(4)), Some(0));
        outbox.acknowledge(id(3)).unwrap();
        assert!(outbox.complete(id(4)).is_some() && outbox.is_empty());
        assert_eq!((outbox.bytes(), outbox.unanswered), (0, 0));
    }

    #[test]
    fn a_new_connection_hears_what_was_not_finished_in_order() {
        let mut outbox = Outbox::default();
        outbox.push(entry(QoS::AtLeastOnce, "1"));
        outbox.push(entry(QoS::AtMostOnce, "2"));
        outbox.push(entry(QoS::ExactlyOnce, "3"));
        outbox.push(entry(QoS::AtLeastOnce, "4"));
        assert_eq!(said(&mut outbox, 2), ["1", "2", "3"]);
        outbox.receive(id(2)).unwrap();
        outbox.push(entry(QoS::AtMostOnce, "5"));
        assert!(outbox.drop_loose() > 0);
        outbox.resume();
        assert_eq!(said(&mut outbox, 2), ["1!", "release 2"], "a released one is unanswered too");
        outbox.acknowledge(id(1)).unwrap();
        assert_eq!(said(&mut outbox, 2), ["4"]);
    }

    #[test]
    fn a_message_that_is_over_is_left_out_unless_it_was_sent() {
        let mut outbox = Outbox::default();
        for name in ["1", "2"] {
            outbox.push(Entry { expires: Some(WallTime(5)), ..entry(QoS::AtLeastOnce, name) });
        }
        assert!(matches!(outbox.next(1, WallTime(4)), Some(Next::Message(_))));
        outbox.resume();
        assert!(matches!(outbox.next(1, WallTime(9)), Some(Next::Message(_))));
        assert!(matches!(outbox.next(1, WallTime(9)), Some(Next::Expired(_))));
        assert_eq!(outbox.entries.len(), 1);
    }

    #[test]
    fn qos_0_gives_way_at_the_limit_and_others_do_not() {
        let mut outbox = Outbox::default();
        let check = |outbox: &mut Outbox, cost, expect: Option<&[&[u8]]>| {
            let gone = outbox.make_room(cost);
            let gone: Option<Vec<Bytes>> =
                gone.map(|gone| gone.into_iter().map(|entry| entry.message.payload).collect());
            let expect: Option<Vec<Bytes>> =
                expect.map(|names| names.iter().map(|name| Bytes::copy_from_slice(name)).collect());
            assert_eq!(gone, expect);
        };
        outbox.push(entry(QoS::AtMostOnce, "loose"));
        for _ in 1..OUTBOX_MESSAGES_MAX - 1 {
            outbox.push(entry(QoS::AtLeastOnce, "x"));
        }
        check(&mut outbox, 0, Some(&[]));
        outbox.push(entry(QoS::AtMostOnce, "last"));
        check(&mut outbox, 0, Some(&[b"loose"]));
        outbox.push(entry(QoS::AtLeastOnce, "x"));
        check(&mut outbox, 0, Some(&[b"last"]));
        outbox.push(entry(QoS::AtLeastOnce, "x"));
        check(&mut outbox, 0, None);
        let mut outbox = Outbox::default();
        check(&mut outbox, OUTBOX_BYTES_MAX + 1, Some(&[]));
        outbox.push(entry(QoS::AtLeastOnce, "x"));
        let rest = OUTBOX_BYTES_MAX - outbox.bytes();
        check(&mut outbox, rest, Some(&[]));
        check(&mut outbox, rest + 1, None);
    }

    #[test]
    fn ids_come_round_without_meeting_one_that_is_in_use() {
        let mut outbox = Outbox::default();
        outbox.push(entry(QoS::AtLeastOnce, "old"));
        outbox.skip_to(NonZeroU16::MAX);
        assert_eq!(outbox.push(entry(QoS::AtLeastOnce, "new")), Some(id(2)));
    }
}
