//! What a device outside the box knows: what it sent, what was acknowledged. It survives every crash.

use guan_model::{PointId, Quality, Row, Value, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

/// Points of the simulated box.
pub(crate) const GRANTED: PointId = PointId(1);
pub(crate) const DENIED: PointId = PointId(2);

/// A QoS 2 message; each of its values exists once in the whole run.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) point: PointId,
    pub(crate) values: Vec<i64>,
    pub(crate) is_acknowledged: bool,
}

/// The device's memory.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next_value: i64,
    next_id: u16,
    /// Messages that are not released, by packet id.
    pub(crate) open: BTreeMap<NonZeroU16, Sent>,
    /// Values that the box has acknowledged.
    pub(crate) acknowledged: BTreeSet<i64>,
    pub(crate) denied: u64,
    /// Everything that was ever sent to the granted dataset.
    pub(crate) sent: BTreeSet<i64>,
    /// A promise that the device itself saw broken.
    pub(crate) violation: Option<String>,
    /// The device sends nothing new any more.
    pub(crate) is_done: bool,
}

impl Ledger {
    /// Makes a new message and remembers it before it is sent.
    pub(crate) fn make(&mut self, point: PointId, count: u64) -> NonZeroU16 {
        let values: Vec<i64> =
            (0..i64::try_from(count).unwrap()).map(|index| self.next_value + index).collect();
        self.next_value += i64::try_from(count).unwrap();
        if point == GRANTED {
            self.sent.extend(&values);
        }
        let id = loop {
            self.next_id = self.next_id % 60_000 + 1;
            let id = NonZeroU16::new(self.next_id).unwrap();
            if !self.open.contains_key(&id) {
                break id;
            }
        };
        self.open.insert(id, Sent { point, values, is_acknowledged: false });
        id
    }

    pub(crate) fn acknowledge(&mut self, id: NonZeroU16) {
        let sent = self.open.get_mut(&id).expect("only open messages are answered");
        if sent.is_acknowledged {
            return;
        }
        sent.is_acknowledged = true;
        match sent.point {
            GRANTED => self.acknowledged.extend(&sent.values),
            _ => self.denied += sent.values.len() as u64,
        }
    }

    pub(crate) fn rows(&self, id: NonZeroU16, now: WallTime) -> Vec<Row> {
        let sent = &self.open[&id];
        let row = |value: &i64| Row {
            point: sent.point,
            source_time: None,
            gateway_time: now,
            quality: Quality::GOOD,
            value: Some(Value::I64(*value)),
        };
        sent.values.iter().map(row).collect()
    }
}
