//! The keys in memory, and which of them are due.

use super::duties::Duties;
use super::key::{Bound, Deletion, Held, KeyName, SLICE_S};
use guan_model::{ContractId, WallTime};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct State {
    pub(super) duties: Duties,
    /// The strictest that any version has asked, for keys that do not say.
    unbound: BTreeMap<ContractId, Deletion>,
    pub(super) keys: BTreeMap<KeyName, Held>,
    /// Which key new data gets.
    pub(super) open: BTreeMap<Arc<Bound>, KeyName>,
    /// What is ordered deleted and not yet said to be.
    pub(super) orders: BTreeMap<KeyName, Order>,
    /// No key is due before, so that a look need not go through all; `None`: nobody has looked.
    next_due_s: Option<i64>,
    /// That the limit is near was said.
    pub(super) is_nearly_full: bool,
}

pub(super) struct Order {
    pub(super) event: Value,
    /// Begun before: its line may be there.
    pub(super) is_again: bool,
}

impl State {
    pub(super) fn count(&self) -> usize {
        self.keys.len() + self.orders.len()
    }

    pub(super) fn keep(&mut self, name: KeyName, held: Held) {
        if let Some(bound) = &held.bound {
            self.open.insert(bound.clone(), name.clone());
            self.next_due_s = self.next_due_s.map(|next_s| next_s.min(bound.due_s));
        }
        self.keys.insert(name, held);
    }

    /// A version of a contract whose keys do not say what was asked.
    pub(super) fn ask_unbound(&mut self, contract: &ContractId, asked: Deletion) {
        let known = self.unbound.entry(contract.clone()).or_insert(asked);
        *known = known.and(asked);
        self.next_due_s = None;
    }

    pub(super) fn due(&mut self, now: WallTime) -> BTreeSet<KeyName> {
        let now_s = now.0.div_euclid(1_000_000_000);
        if self.next_due_s.is_some_and(|next_s| now_s < next_s) {
            return BTreeSet::new();
        }
        let (mut due, mut next_s) = (BTreeSet::new(), i64::MAX);
        for (name, held) in &self.keys {
            let due_s = self.due_s(name, held);
            if now_s >= due_s {
                due.insert(name.clone());
            }
            next_s = next_s.min(due_s);
        }
        self.next_due_s = Some(next_s);
        due
    }

    fn due_s(&self, name: &KeyName, held: &Held) -> i64 {
        match (&held.bound, name) {
            (Some(bound), _) => bound.due_s,
            (None, KeyName::Slice(contract, began_s)) => {
                let slice = (*began_s, began_s.saturating_add(SLICE_S));
                let asked = self.unbound.get(contract);
                asked.map_or(i64::MAX, |deletion| deletion.due_s(slice))
            }
            (None, KeyName::Random(_)) => unreachable!("keys of version 2 say what they are for"),
        }
    }

    /// What will be said about the deletion of a key.
    pub(super) fn event(&self, name: &KeyName, space: &str) -> Value {
        let mut event = json!({
            "event": "data.deleted", "schema": 2, "space": space, "key": name.to_string(),
        });
        match (self.keys.get(name).and_then(|held| held.bound.as_ref()), name) {
            (Some(bound), _) => {
                event["contract"] = bound.contract.as_str().into();
                event["contract_digest"] = bound.contract_digest.as_str().into();
                event["boxes"] = json!([bound.box_id]);
                event["received_from_s"] = bound.received_from_s.into();
                event["received_until_s"] = bound.received_until_s.into();
                event["due_at_s"] = bound.due_s.into();
            }
            (None, KeyName::Slice(contract, began_s)) => {
                event["contract"] = contract.as_str().into();
                event["received_from_s"] = (*began_s).into();
            }
            (None, KeyName::Random(_)) => unreachable!("keys of version 2 say what they are for"),
        }
        event
    }

    /// Nothing is enciphered with the key any more.
    pub(super) fn close(&mut self, name: &KeyName) {
        let bound = self.keys.get(name).and_then(|held| held.bound.as_ref());
        if let Some(bound) = bound
            && self.open.get(bound) == Some(name)
        {
            self.open.remove(bound);
        }
    }

    /// Nothing is read with it, either.
    pub(super) fn forget(&mut self, name: &KeyName) {
        self.close(name);
        self.keys.remove(name);
    }
}
