//! Keeps back what left the box under a contract that does not stand here any more: the box has it still, and does
//! with it what the next set says.
//!
//! What stands is looked up anew when the box's set changes, as taking a large file lasts.

use crate::runner::Clock;
use crate::sets::{SetFault, SetMark, Sets};
use guan_link::driver::CarriedRefusal;
use guan_link::{BoxFrame, Item};
use guan_model::{BoxId, ContractId, StreamId, WallTime};
use guan_policy::ContractState;
use guan_policy::contract::Fate;
use guan_policy::roster::Entry;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Sieve<'a> {
    sets: &'a Sets,
    box_id: &'a BoxId,
    clock: &'a Clock,
    mark: Option<SetMark>,
    stopped: BTreeMap<ContractId, &'static str>,
    streams: BTreeSet<StreamId>,
    pub(super) refused: Vec<CarriedRefusal>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(sets: &'a Sets, box_id: &'a BoxId, clock: &'a Clock) -> Self {
        Self {
            sets,
            box_id,
            clock,
            mark: None,
            stopped: BTreeMap::new(),
            streams: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// A stream ends with the first batch that does not pass: places are taken in order.
    pub(super) fn passes(&mut self, frame: &BoxFrame) -> Result<bool, SetFault> {
        let BoxFrame::Item(stream, item) = frame else { return Ok(true) };
        if self.streams.contains(stream) {
            return Ok(false);
        }
        let Item::Batch(batch) = item else { return Ok(true) };
        self.look()?;
        let Some(how) = self.stopped.get(&batch.contract) else { return Ok(true) };
        let text = format!("contract {} is {how} here", batch.contract);
        self.streams.insert(*stream);
        self.refused.push(CarriedRefusal { stream: *stream, seq: batch.seq, text });
        Ok(false)
    }

    fn look(&mut self) -> Result<(), SetFault> {
        // Before the set: one that comes meanwhile is then looked at again.
        let mark = self.sets.mark_of(self.box_id);
        if self.mark == Some(mark) {
            return Ok(());
        }
        let now = (self.clock)().wall;
        // Ends what is over by the space's clock.
        self.sets.current(self.box_id, now)?;
        let entries = self.sets.roster(self.box_id)?.map(|roster| roster.entries);
        let stopped = entries.unwrap_or_default().into_iter().filter_map(|entry| {
            let how = self.stopped_as(&entry, now)?;
            Some((entry.contract, how))
        });
        self.stopped = stopped.collect();
        self.mark = Some(mark);
        Ok(())
    }

    /// `None`: its batches may come.
    fn stopped_as(&self, entry: &Entry, now: WallTime) -> Option<&'static str> {
        match entry.state {
            ContractState::Active => None,
            ContractState::Suspended | ContractState::Revoked => Some(entry.state.name()),
            ContractState::Ended => {
                // As the box does it: within its grace, unless an early end shreds.
                let contract = self.sets.contract(self.box_id, &entry.digest).ok();
                let sends = contract.is_some_and(|contract| {
                    let lease = contract.lease();
                    let until = contract.not_after().saturating_add(lease.grace_delivery);
                    lease.on_early_end == Fate::Send && now < until
                });
                (!sends).then_some("over")
            }
        }
    }
}
