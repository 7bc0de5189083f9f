//! Which contracts ask for deletion, read from the sets of the boxes.

use super::Retention;
use super::key::{Deletion, KeyName};
use crate::sets::{SetFault, Sets};
use guan_model::{BoxId, ContractId, Digest};
use guan_policy::roster::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What the contracts ask that each box has now.
#[derive(Default)]
pub(super) struct Duties {
    boxes: BTreeMap<BoxId, OfBox>,
    /// How many readings of a set have begun.
    begun: u64,
}

#[derive(Default)]
pub(super) struct OfBox {
    /// Which reading this is of: what began later has seen more.
    pub(super) reading: u64,
    pub(super) asked: BTreeMap<ContractId, Asked>,
    /// Versions of its set that cannot be read, which was said.
    pub(super) unread: BTreeSet<Digest>,
}

/// What a contract of a box asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// By the version with this digest.
    Deletion(Digest, Deletion),
    /// Nobody can tell: its document cannot be read.
    Unread,
}

/// One entry of a set, and what its contract asks.
type Found = (Entry, Result<Option<Deletion>, SetFault>);

impl Duties {
    pub(super) fn of(&self, (box_id, contract): (&BoxId, &ContractId)) -> Option<&Asked> {
        self.boxes.get(box_id)?.asked.get(contract)
    }

    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Two may read the set of one box at a time; the older view does not undo the newer. Gives what cannot be
    /// read and was not said yet.
    pub(super) fn take(
        &mut self,
        box_id: &BoxId,
        reading: u64,
        found: Vec<Found>,
    ) -> Vec<(Entry, SetFault)> {
        let known = self.boxes.entry(box_id.clone()).or_default();
        if reading <= known.reading {
            return Vec::new();
        }
        let (mut new, mut unsaid) = (OfBox { reading, ..OfBox::default() }, Vec::new());
        for (entry, asked) in found {
            match asked {
                Ok(None) => {}
                Ok(Some(asked)) => {
                    new.asked.insert(entry.contract, Asked::Deletion(entry.digest, asked));
                }
                Err(fault) => {
                    // What another version asked is better than nothing; without one nothing is stored.
                    let asked = known.asked.remove(&entry.contract).unwrap_or(Asked::Unread);
                    new.asked.insert(entry.contract.clone(), asked);
                    new.unread.insert(entry.digest);
                    if !known.unread.contains(&entry.digest) {
                        unsaid.push((entry, fault));
                    }
                }
            }
        }
        *known = new;
        unsaid
    }

    #[cfg(test)]
    pub(super) fn of_box(&mut self, box_id: &BoxId) -> &mut OfBox {
        self.boxes.entry(box_id.clone()).or_default()
    }
}

impl Retention {
    /// Looks again which contracts of all boxes ask for deletion. Contracts that have ended still do.
    pub fn read_duties(&self, sets: &Sets) {
        let known: Vec<BoxId> = self.state().duties.boxes.keys().cloned().collect();
        let boxes: BTreeSet<BoxId> = sets.boxes().into_iter().chain(known).collect();
        for box_id in &boxes {
            if let Err(fault) = self.read_duties_of(sets, box_id) {
                let fault = guan_link::driver::describe(&fault);
                tracing::error!(%box_id, %fault, "a contract set cannot be read; its duties stay as they were");
            }
        }
        self.read_unbound(sets, &boxes);
    }

    /// The same of one box. It comes before a box is told of a set: its batches may come right after.
    pub fn read_duties_of(&self, sets: &Sets, box_id: &BoxId) -> Result<(), SetFault> {
        let reading = self.state().duties.begin();
        let entries = sets.roster(box_id)?.into_iter().flat_map(|roster| roster.entries);
        let found = entries.map(|entry| {
            let contract = sets.contract(box_id, &entry.digest);
            (entry, contract.map(|contract| Deletion::of(&contract)))
        });
        let found = found.collect();
        let unsaid = self.state().duties.take(box_id, reading, found);
        for (Entry { contract, state, .. }, fault) in unsaid {
            let fault = guan_link::driver::describe(&fault).replace('\n', " ");
            let text =
                format!("whether data of contract {contract} is to be deleted is unknown: {fault}");
            // Of what is over nobody issues a newer version.
            match state.is_final() {
                true => tracing::error!(%box_id, "{text}"),
                false => self.alarms.raise(box_id, &text),
            }
        }
        Ok(())
    }

    /// For keys that do not say what was asked. Versions never go, so what was known of them stays.
    fn read_unbound(&self, sets: &Sets, boxes: &BTreeSet<BoxId>) {
        let contracts: BTreeSet<ContractId> = {
            let state = self.state();
            let slices = state.keys.keys().filter_map(|name| match name {
                KeyName::Slice(contract, _) => Some(contract.clone()),
                KeyName::Random(_) => None,
            });
            slices.collect()
        };
        if contracts.is_empty() {
            return;
        }
        for box_id in boxes {
            let versions = sets.versions(box_id);
            for contract in versions.iter().filter(|version| contracts.contains(version.id())) {
                let Some(asked) = Deletion::of(contract) else { continue };
                self.state().ask_unbound(contract.id(), asked);
            }
        }
    }
}
