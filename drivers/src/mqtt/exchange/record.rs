//! What outlives the process: records of changes, and a snapshot of everything, in the same words.
//!
//! ```text
//! 1 session       client | expiry u32 | optional end
//! 2 forgotten     client
//! 3 subscribed    client | name | QoS u8 | flags u8 | identifier varint (0: none)
//! 4 unsubscribed  client | name
//! 5 message       message | optional expiry | count varint | that many targets:
//!                 client | packet id u16 | QoS u8 | retain u8 | count varint | identifiers varint
//! 6 done          client | packet id u16
//! 7 received      client | packet id u16
//! 8 retained      message | optional expiry
//! 9 unretained    topic
//! 10 marks        client | count varint | that many packet ids u16
//! 11 unmark       client | packet id u16
//! ```
//! Texts and payloads have their length before them; an optional moment is u8 and nanoseconds.
//!
//! Replaying never trusts a record: what makes no sense is a fault, and no length is believed.

use super::opening::subscription_cost;
use super::outbox::{Entry, Stage};
use super::{Exchange, Keep, Subscriber, Subscription};
use crate::mqtt::filter::TopicFilter;
use crate::mqtt::limits::CLIENT_ID_BYTES_MAX;
use crate::mqtt::message::{Message, MessageFault, code, qos};
use crate::mqtt::packet::{RetainHandling, SubscriptionOptions};
use guan_model::WallTime;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

const SESSION: u8 = 1;
const FORGOTTEN: u8 = 2;
const SUBSCRIBED: u8 = 3;
const UNSUBSCRIBED: u8 = 4;
const MESSAGE: u8 = 5;
const DONE: u8 = 6;
const RECEIVED: u8 = 7;
const RETAINED: u8 = 8;
const UNRETAINED: u8 = 9;
const MARKS: u8 = 10;
const UNMARK: u8 = 11;

/// Why a record of the store makes no sense: a bug, a damaged disk, or another program wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    #[error("a record of MQTT sessions cannot be read")]
    Read(#[from] ReadFault),
    #[error(transparent)]
    Message(#[from] MessageFault),
    #[error("a record of MQTT sessions has the unknown operation {code}")]
    Operation { code: u8 },
    #[error("a record of MQTT sessions has {what} that cannot be")]
    Value { what: &'static str },
}

fn moment(out: &mut Writer, moment: Option<WallTime>) {
    match moment {
        None => out.u8(0),
        Some(moment) => {
            out.u8(1);
            out.u64(moment.0.cast_unsigned());
        }
    }
}

fn read_moment(reader: &mut Reader<'_>) -> Result<Option<WallTime>, ReadFault> {
    match reader.u8()? {
        0 => Ok(None),
        _ => Ok(Some(WallTime(reader.u64()?.cast_signed()))),
    }
}

impl Exchange {
    /// What changed since the last call, to be handed to the store.
    pub(crate) fn poll_record(&mut self) -> Option<Vec<u8>> {
        let record = std::mem::take(&mut self.record);
        (!record.is_empty()).then_some(record)
    }

    fn note(&mut self, operation: u8, write: impl FnOnce(&mut Writer)) {
        let mut out = Writer::new();
        out.u8(operation);
        write(&mut out);
        self.record.extend_from_slice(&out.finish());
    }

    fn note_id(&mut self, operation: u8, client: &str, id: NonZeroU16) {
        self.note(operation, |out| {
            out.text(client);
            out.u16(id.get());
        });
    }

    pub(super) fn note_session(&mut self, client: &str, keep: Keep) {
        self.note(SESSION, |out| {
            out.text(client);
            out.u32(keep.expiry_s);
            moment(out, keep.ends);
        });
    }

    pub(super) fn note_forgotten(&mut self, client: &str) {
        self.note(FORGOTTEN, |out| out.text(client));
    }

    pub(super) fn note_subscribed(&mut self, client: &str, name: &str, one: &Subscription) {
        self.note(SUBSCRIBED, |out| {
            out.text(client);
            out.text(name);
            out.u8(code(one.options.qos));
            let handling = match one.options.retain_handling {
                RetainHandling::Always => 0,
                RetainHandling::OnlyNew => 4,
                RetainHandling::Never => 8,
            };
            let flags = u8::from(one.options.no_local)
                | u8::from(one.options.retain_as_published) << 1
                | handling;
            out.u8(flags);
            out.varint(one.identifier.map_or(0, |id| id.get().into()));
        });
    }

    pub(super) fn note_unsubscribed(&mut self, client: &str, name: &str) {
        self.note(UNSUBSCRIBED, |out| {
            out.text(client);
            out.text(name);
        });
    }

    pub(super) fn note_message(
        &mut self,
        message: &Message,
        expires: Option<WallTime>,
        targets: &[(Arc<str>, Entry)],
    ) {
        if targets.is_empty() {
            return;
        }
        self.note(MESSAGE, |out| {
            message.write(out);
            moment(out, expires);
            out.varint(targets.len() as u64);
            for (client, entry) in targets {
                out.text(client);
                out.u16(entry.packet_id.map_or(0, NonZeroU16::get));
                out.u8(code(entry.qos));
                out.u8(u8::from(entry.retain));
                out.varint(entry.identifiers.len() as u64);
                entry.identifiers.iter().for_each(|id| out.varint(id.get().into()));
            }
        });
    }

    pub(super) fn note_done(&mut self, client: &str, id: NonZeroU16) {
        self.note_id(DONE, client, id);
    }

    pub(super) fn note_received(&mut self, client: &str, id: NonZeroU16) {
        self.note_id(RECEIVED, client, id);
    }

    pub(super) fn note_mark(&mut self, client: &str, id: NonZeroU16, is_set: bool) {
        match is_set {
            true => self.note_marks(client, std::iter::once(id)),
            false => self.note_id(UNMARK, client, id),
        }
    }

    fn note_marks(&mut self, client: &str, ids: impl ExactSizeIterator<Item = NonZeroU16>) {
        self.note(MARKS, |out| {
            out.text(client);
            out.varint(ids.len() as u64);
            ids.for_each(|id| out.u16(id.get()));
        });
    }

    pub(super) fn note_retained(&mut self, message: &Message, expires: Option<WallTime>) {
        self.note(RETAINED, |out| {
            message.write(out);
            moment(out, expires);
        });
    }

    pub(super) fn note_unretained(&mut self, topic: &str) {
        self.note(UNRETAINED, |out| out.text(topic));
    }

    /// Everything that is kept, as one record against nothing.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut whole = Self::default();
        let mut order: Vec<_> = self.subscribers.iter().collect();
        order.sort_by_key(|(_, subscriber)| subscriber.used);
        for (client, subscriber) in order {
            let Some(keep) = subscriber.keep else { continue };
            whole.note_session(client, keep);
            for (name, one) in &subscriber.subscriptions {
                whole.note_subscribed(client, name, one);
            }
            for entry in subscriber.outbox.entries() {
                let Some(id) = entry.packet_id else { continue };
                let target = [(client.clone(), entry.clone())];
                whole.note_message(&entry.message, entry.expires, &target);
                if entry.stage == Stage::Released {
                    whole.note_received(client, id);
                }
            }
            if !subscriber.marks.is_empty() {
                whole.note_marks(client, subscriber.marks.iter().copied());
            }
        }
        for kept in self.retained.iter() {
            whole.note_retained(&kept.message, kept.expires);
        }
        whole.record
    }

    /// From what the store has, oldest first. Sessions that were connected end as if they had left now.
    pub(crate) fn recover(records: &[Vec<u8>], now: WallTime) -> Result<Self, RecordFault> {
        let mut exchange = Self::default();
        for record in records {
            let mut reader = Reader::new(record);
            while reader.left() > 0 {
                let operation = reader.u8()?;
                exchange.replay(operation, &mut reader)?;
            }
        }
        for subscriber in exchange.subscribers.values_mut() {
            subscriber.outbox.resume();
            if let Some(keep) = &mut subscriber.keep
                && keep.expiry_s != u32::MAX
            {
                let ends = now.saturating_add(Duration::from_secs(keep.expiry_s.into()));
                keep.ends.get_or_insert(ends);
            }
        }
        exchange.record.clear();
        Ok(exchange)
    }

    fn replay(&mut self, operation: u8, reader: &mut Reader<'_>) -> Result<(), RecordFault> {
        match operation {
            SESSION => self.replay_session(reader)?,
            FORGOTTEN => self.forget(reader.text()?),
            SUBSCRIBED => self.replay_subscribed(reader)?,
            UNSUBSCRIBED => {
                let (client, name) = (reader.text()?, reader.text()?);
                self.unsubscribe(client, &[name.to_owned()]);
            }
            MESSAGE => self.replay_message(reader)?,
            DONE => {
                let (client, id) = read_id(reader)?;
                let done = self.outbox(client).and_then(|outbox| outbox.replay_done(id));
                done.iter().for_each(|entry| self.handle_gone(client, entry));
            }
            RECEIVED => {
                let (client, id) = read_id(reader)?;
                let freed = self.outbox(client).map_or(0, |outbox| outbox.replay_received(id));
                self.bytes -= freed;
                self.kept_bytes -= freed;
            }
            RETAINED => {
                let message = Message::read(reader)?;
                let expires = read_moment(reader)?;
                self.retained.put(message, expires);
            }
            UNRETAINED => {
                self.retained.remove(reader.text()?);
            }
            MARKS => {
                let client = reader.text()?;
                for _ in 0..reader.varint()? {
                    let id = NonZeroU16::new(reader.u16()?);
                    self.mark(client, id.ok_or(RecordFault::Value { what: "packet id 0" })?);
                }
            }
            UNMARK => {
                let (client, id) = read_id(reader)?;
                self.unmark(client, id);
            }
            code => return Err(RecordFault::Operation { code }),
        }
        Ok(())
    }

    fn replay_session(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordFault> {
        let client: Arc<str> = Arc::from(reader.text()?);
        let (expiry_s, ends) = (reader.u32()?, read_moment(reader)?);
        if client.len() > CLIENT_ID_BYTES_MAX || expiry_s == 0 {
            return Err(RecordFault::Value { what: "a client id or an expiry" });
        }
        self.uses += 1;
        let used = self.uses;
        let subscriber = self.subscribers.entry(client.clone()).or_insert_with(Subscriber::new);
        subscriber.used = used;
        // A record that this program wrote keeps the limits; of another one the rest is left out.
        let kept = self.set_keep(&client, Some(Keep { expiry_s, ends }));
        if kept.is_err() {
            self.forget(&client);
        }
        Ok(())
    }

    fn replay_subscribed(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordFault> {
        let client: Arc<str> = Arc::from(reader.text()?);
        let name = reader.text()?;
        let (level, flags) = (qos(reader.u8()?)?, reader.u8()?);
        let identifier = u32::try_from(reader.varint()?).ok().and_then(NonZeroU32::new);
        let fault = RecordFault::Value { what: "a subscription" };
        let retain_handling = match flags >> 2 {
            0 => RetainHandling::Always,
            1 => RetainHandling::OnlyNew,
            2 => RetainHandling::Never,
            _ => return Err(fault),
        };
        let options = SubscriptionOptions {
            qos: level,
            no_local: flags & 1 != 0,
            retain_as_published: flags & 2 != 0,
            retain_handling,
        };
        let (filter, group) = TopicFilter::parse_shared(name).map_err(|_| fault)?;
        let subscription = Subscription { filter, group, options, identifier, last_turn: 0 };
        let Some(subscriber) = self.subscribers.get_mut(&client) else { return Ok(()) };
        if subscriber.subscriptions.insert(name.into(), subscription).is_none() {
            self.session_bytes += subscription_cost(&client, name);
        }
        self.listening.insert(client);
        Ok(())
    }

    fn replay_message(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordFault> {
        let message = Message::read(reader)?;
        let expires = read_moment(reader)?;
        for _ in 0..reader.varint()? {
            let (client, id) = read_id(reader)?;
            let (level, retain) = (qos(reader.u8()?)?, reader.u8()? != 0);
            let mut identifiers = Vec::new();
            for _ in 0..reader.varint()? {
                let id = u32::try_from(reader.varint()?).ok().and_then(NonZeroU32::new);
                identifiers.push(id.ok_or(RecordFault::Value { what: "an identifier" })?);
            }
            let Some((client, subscriber)) = self.subscribers.get_key_value(client) else {
                continue;
            };
            if subscriber.outbox.has(id) || !subscriber.keeps(level) {
                return Err(RecordFault::Value { what: "a message" });
            }
            let entry = Entry {
                message: message.clone(),
                qos: level,
                retain,
                identifiers,
                expires,
                packet_id: Some(id),
                stage: Stage::Waiting,
                // It may have been sent before the restart.
                is_repeated: true,
            };
            let client = client.clone();
            self.enqueue(client.clone(), entry, &mut Vec::new());
            if let Some(outbox) = self.outbox(&client) {
                outbox.skip_to(id);
            }
        }
        Ok(())
    }
}

fn read_id<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, NonZeroU16), RecordFault> {
    let client = reader.text()?;
    let id = NonZeroU16::new(reader.u16()?);
    Ok((client, id.ok_or(RecordFault::Value { what: "packet id 0" })?))
}
