//! Wills that wait for their delay (MQTT 5, 3.1.3.2.2), and those that are due.

use super::Exchange;
use crate::mqtt::limits::WAITING_WILLS_MAX;
use crate::mqtt::message::Message;
use crate::mqtt::packet::Will;
use guan_model::WallTime;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Wills {
    waiting: BTreeMap<Arc<str>, (WallTime, Message)>,
    due: VecDeque<(Arc<str>, Message)>,
}

impl Wills {
    /// A client is back: its will is void, unless its session has ended, which is when a will is due.
    pub(super) fn handle_opened(&mut self, client: &str, is_present: bool) {
        if let Some((client, (_, message))) = self.waiting.remove_entry(client)
            && !is_present
        {
            self.due.push_back((client, message));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: WallTime) {
        let due: Vec<Arc<str>> = self
            .waiting
            .iter()
            .filter(|(_, (due, _))| *due <= now)
            .map(|(client, _)| client.clone())
            .collect();
        for client in due {
            if let Some((client, (_, message))) = self.waiting.remove_entry(&client) {
                self.due.push_back((client, message));
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<WallTime> {
        self.waiting.values().map(|(due, _)| *due).min()
    }
}

impl Exchange {
    /// A client has vanished, and its session lives on for `expiry_s`. A will is never later than that.
    pub(crate) fn leave_will(
        &mut self,
        client: &Arc<str>,
        will: Will,
        expiry_s: u32,
        now: WallTime,
    ) {
        let delay_s = will.delay_s.min(expiry_s);
        if delay_s == 0 || self.wills.waiting.len() >= WAITING_WILLS_MAX {
            return self.wills.due.push_back((client.clone(), will.message));
        }
        let due = now.saturating_add(Duration::from_secs(delay_s.into()));
        self.wills.waiting.insert(client.clone(), (due, will.message));
    }

    /// A will to be published, and whose it is.
    pub(crate) fn poll_will(&mut self) -> Option<(Arc<str>, Message)> {
        self.wills.due.pop_front()
    }
}
