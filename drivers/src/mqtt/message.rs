//! A message on its way from one client to others, and its bytes in the store.
//!
//! Never here: who gets it, when it is sent.

use crate::submission::QoS;
use bytes::Bytes;
use guan_model::WallTime;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use std::sync::Arc;
use std::time::Duration;

/// What version 5 says about a message beside its payload; passed on unchanged (MQTT 5, 3.3.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Properties {
    pub(super) is_text: bool,
    pub(super) content_type: Option<Box<str>>,
    pub(super) response_topic: Option<Box<str>>,
    pub(super) correlation: Option<Bytes>,
    pub(super) user: Vec<(Box<str>, Box<str>)>,
}

/// A message as it was published. Copies share topic, payload and properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// `None` when there are none, which is the rule for readings.
    pub(super) properties: Option<Arc<Properties>>,
    pub(super) expiry_s: Option<u32>,
}

/// Why bytes of the store make no message: a bug, or another program wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    #[error("a message in the store cannot be read")]
    Read(#[from] ReadFault),
    #[error("a message in the store has QoS {code}; 0 to 2 exist")]
    QoS { code: u8 },
}

impl Properties {
    fn cost(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let user = self.user.iter().map(|(name, value)| name.len() + value.len());
        text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, Bytes::len)
            + user.sum::<usize>()
    }
}

impl Message {
    /// Bytes that its copies share.
    pub(super) fn cost(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |properties| properties.cost());
        self.topic.len() + self.payload.len() + properties
    }

    /// When it is over, if it came now.
    pub(super) fn expires(&self, now: WallTime) -> Option<WallTime> {
        self.expiry_s.map(|expiry| now.saturating_add(Duration::from_secs(expiry.into())))
    }

    /// Without payload and properties: what an acknowledgement is still owed for.
    pub(super) fn husk(&self) -> Self {
        Self { payload: Bytes::new(), properties: None, ..self.clone() }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.text(&self.topic);
        out.bytes(&self.payload);
        out.u8(code(self.qos));
        out.u8(u8::from(self.retain));
        match &self.properties {
            None => out.u8(0),
            Some(properties) => {
                out.u8(1);
                properties.write(out);
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, MessageFault> {
        Ok(Self {
            topic: Arc::from(reader.text()?),
            payload: Bytes::copy_from_slice(reader.bytes()?),
            qos: qos(reader.u8()?)?,
            retain: reader.u8()? != 0,
            properties: match reader.u8()? {
                0 => None,
                _ => Some(Arc::new(Properties::read(reader)?)),
            },
            expiry_s: None,
        })
    }
}

impl Properties {
    fn write(&self, out: &mut Writer) {
        out.u8(u8::from(self.is_text));
        let optional = |out: &mut Writer, bytes: Option<&[u8]>| match bytes {
            None => out.u8(0),
            Some(bytes) => {
                out.u8(1);
                out.bytes(bytes);
            }
        };
        optional(out, self.content_type.as_deref().map(str::as_bytes));
        optional(out, self.response_topic.as_deref().map(str::as_bytes));
        optional(out, self.correlation.as_deref());
        out.varint(self.user.len() as u64);
        for (name, value) in &self.user {
            out.text(name);
            out.text(value);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, ReadFault> {
        let is_text = reader.u8()? != 0;
        let text = |reader: &mut Reader<'_>| match reader.u8()? {
            0 => Ok(None),
            _ => reader.text().map(|text| Some(Box::from(text))),
        };
        let content_type = text(reader)?;
        let response_topic = text(reader)?;
        let correlation = match reader.u8()? {
            0 => None,
            _ => Some(Bytes::copy_from_slice(reader.bytes()?)),
        };
        let mut user = Vec::new();
        // Each takes bytes, so a false count ends with them and not with memory.
        for _ in 0..reader.varint()? {
            user.push((Box::from(reader.text()?), Box::from(reader.text()?)));
        }
        Ok(Self { is_text, content_type, response_topic, correlation, user })
    }
}

pub(super) fn code(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

pub(super) fn qos(code: u8) -> Result<QoS, MessageFault> {
    match code {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        code => Err(MessageFault::QoS { code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let mut out = Writer::new();
        message.write(&mut out);
        out.finish()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(topic in ".{0,9}", payload: Vec<u8>, level in 0_u8..3, retain: bool,
                                   named: Option<(bool, Option<String>, Option<Vec<u8>>)>,
                                   user: Vec<(String, String)>) {
            let properties = named.map(|(is_text, content_type, correlation)| {
                let content_type = content_type.map(String::into_boxed_str);
                let user = user.iter().map(|(a, b)| (a.as_str().into(), b.as_str().into())).collect();
                let response_topic = content_type.clone();
                let correlation = correlation.map(Bytes::from);
                Arc::new(Properties { is_text, content_type, response_topic, correlation, user })
            });
            let message = Message { topic: topic.into(), payload: payload.into(), qos: qos(level).unwrap(),
                                    retain, properties, expiry_s: None };
            let written = bytes(&message);
            let mut reader = Reader::new(&written);
            prop_assert_eq!(Message::read(&mut reader).unwrap(), message);
            prop_assert_eq!(reader.left(), 0);
        }

        #[test]
        fn any_bytes_give_an_answer(bytes: Vec<u8>) {
            let _ = Message::read(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn a_false_count_of_properties_ends_with_the_bytes() {
        let message = Message {
            topic: "a".into(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Some(Arc::default()),
            expiry_s: None,
        };
        let mut written = bytes(&message);
        *written.last_mut().unwrap() = 0xFF;
        written.extend([0xFF, 0xFF, 0xFF, 0x7F]);
        let fault = Message::read(&mut Reader::new(&written)).unwrap_err();
        assert!(matches!(fault, MessageFault::Read(ReadFault::Short { .. })), "{fault:?}");
    }
}
