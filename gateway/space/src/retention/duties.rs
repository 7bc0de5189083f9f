//! Which contracts ask for deletion, read from the sets of the boxes.

use super::Retention;
use super::key::{Deletion, KeyName};
use crate::sets::{SetFault, Sets};
use guan_model::{BoxId, ContractId, Digest};
use guan_policy::Contract;
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
    /// By the digest of the version.
    pub(super) asked: BTreeMap<ContractId, (Digest, Deletion)>,
}

impl Duties {
    pub(super) fn of(
        &self,
        (box_id, contract): (&BoxId, &ContractId),
    ) -> Option<(&Digest, &Deletion)> {
        self.boxes.get(box_id)?.asked.get(contract).map(|(digest, asked)| (digest, asked))
    }

    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Two may read the set of one box at a time; the older view does not undo the newer.
    pub(super) fn take(&mut self, box_id: &BoxId, new: OfBox) {
        let known = self.boxes.entry(box_id.clone()).or_default();
        if new.reading > known.reading {
            *known = new;
        }
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
        let mut new = OfBox { reading, ..OfBox::default() };
        for entry in sets.roster(box_id)?.into_iter().flat_map(|roster| roster.entries) {
            let document = sets.document(box_id, &entry.digest).ok().flatten();
            let contract = document.and_then(|bytes| Contract::draft(&bytes).ok());
            if let Some(contract) = contract
                && let Some(asked) = Deletion::of(&contract)
            {
                new.asked.insert(entry.contract, (contract.digest(), asked));
            }
        }
        self.state().duties.take(box_id, new);
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
                let mut state = self.state();
                let known = state.unbound.entry(contract.id().clone()).or_insert(asked);
                *known = known.and(asked);
            }
        }
    }
}
