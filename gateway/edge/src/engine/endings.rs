//! What changes beside the flow of rows: contracts that come, change and end, lanes that are over, keys that
//! nobody needs any more, windows that are due.
//!
//! A lane is shredded in one commit, its gap and its leaf together; the key goes afterwards, when no lane
//! and no contract in force needs it. A crash between the two is made good at the next tick.

use super::{Effect, Engine, EngineError};
use crate::lanes::Lane;
use crate::leaving::Standing;
use crate::vault::{Named, VaultFault};
use guan_evidence::{ContractOutcome, DecisionSummary, Denial, LeafBody};
use guan_model::{
    BatchHeader, BatchSeq, ClockQuality, ContractId, DatasetId, Digest, Now, StreamId,
};
use guan_policy::contract::Fate;
use guan_policy::{Ended, InForce, Means, Plan};
use guan_spool::{Disk, GapReason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a destruction that failed waits before it is tried again: the writer waits for the TPM.
const DESTRUCTION_PAUSE: Duration = Duration::from_secs(60);

/// A plan that is about to come into force.
pub(super) struct HandOver {
    plan: Arc<Plan>,
    /// Contracts whose windows leave with what they have.
    may_leave: BTreeSet<ContractId>,
}

impl<D: Disk, T> Engine<D, T> {
    pub(super) fn change_plan(
        &mut self,
        now: Now,
        plan: Arc<Plan>,
        standing: Standing,
    ) -> Result<(), EngineError> {
        self.give_up_unreadable(now)?;
        if let Err(fault) = self.provide_keys(&plan) {
            return self.postpone_plan(fault, plan, standing);
        }
        self.end_windows(now, &plan, &standing)?;
        for body in changes((&self.plan, &self.standing), (&plan, &standing)) {
            self.note(now, body);
        }
        // A contract whose file is not whole for a moment must not find its rate's bucket full again.
        let is_kept = |id: &ContractId| standing.is_uncertain || plan.contract(id).is_some();
        self.memory.usage.retain(is_kept);
        self.notices.retain(&plan);
        self.plan = plan;
        self.standing = standing.clone();
        self.door.set_standing(standing);
        self.has_plan = true;
        self.commit(now)?;
        self.end_lanes(now)
    }

    /// Nothing may be kept under a contract before its key is durable.
    pub(super) fn provide_keys(&self, plan: &Plan) -> Result<(), VaultFault> {
        let needed = plan.contracts().iter().map(|one| {
            (one.digest, Named { contract: one.contract.clone(), version: one.version })
        });
        self.vault.provide(needed)
    }

    /// A disk without room for a key must not stop the box: what leaves makes room. The old plan stays until
    /// then; the door knows already what the new one forbids.
    fn postpone_plan(
        &mut self,
        fault: VaultFault,
        plan: Arc<Plan>,
        standing: Standing,
    ) -> Result<(), EngineError> {
        if !matches!(fault, VaultFault::Root(_) | VaultFault::File { .. }) {
            return Err(fault.into());
        }
        let text = format!("new contracts wait for their keys: {fault}");
        self.effects.push_back(Effect::Alarm(text));
        self.waiting_plan = Some((plan, standing));
        Ok(())
    }

    /// Lanes whose key went with a cleared TPM or a damaged file: nobody reads them any more, and a new key of
    /// the same contract must not seem to have spoiled them.
    fn give_up_unreadable(&mut self, now: Now) -> Result<(), EngineError> {
        let lanes = self.memory.lanes.iter();
        let lost = lanes.filter(|(_, lane)| !self.vault.has(&lane.digest));
        let lost: Vec<u16> = lost.map(|(number, _)| number).collect();
        for number in lost {
            if !self.spool.is_lane_empty(number) {
                let text = "the key of a contract is gone; what was kept under it is shredded";
                self.effects.push_back(Effect::Alarm(text.to_owned()));
            }
            self.shred(now, number)?;
        }
        Ok(())
    }

    /// Shreds the lanes that are over, closes those that are empty, destroys keys without use.
    pub(super) fn end_lanes(&mut self, now: Now) -> Result<(), EngineError> {
        // Before the first plan nobody knows which contracts stand.
        if !self.has_plan {
            return Ok(());
        }
        let over: Vec<u16> = {
            let lanes = self.memory.lanes.iter();
            lanes.filter(|(_, lane)| self.is_over(lane, &now)).map(|(number, _)| number).collect()
        };
        for number in over {
            self.shred(now, number)?;
        }
        self.close_drained(now)?;
        let is_idle = |(number, lane): &(u16, &Lane)| {
            !self.is_in_force(&lane.digest) && self.spool.is_lane_empty(*number)
        };
        let idle: Vec<u16> =
            self.memory.lanes.iter().filter(is_idle).map(|(number, _)| number).collect();
        if !idle.is_empty() {
            idle.into_iter().for_each(|number| self.memory.lanes.close(number));
            self.commit(now)?;
        }
        self.destroy_keys(now)
    }

    fn is_in_force(&self, digest: &Digest) -> bool {
        self.plan.contracts().iter().any(|one| one.digest == *digest)
    }

    fn is_over(&self, lane: &Lane, now: &Now) -> bool {
        if self.standing.revoked.contains(&lane.contract) {
            return true;
        }
        if now.quality != ClockQuality::Unset && now.wall >= lane.ends() {
            return true;
        }
        // What was kept under a version that a newer one replaced still leaves on its old terms.
        let is_known = self.plan.contract(&lane.contract).is_some();
        !is_known
            && self.standing.has_ended(&lane.contract)
            && lane.lease.on_early_end == Fate::Shred
    }

    /// On a full disk the lane stays, for the next tick.
    fn shred(&mut self, now: Now, number: u16) -> Result<(), EngineError> {
        for class in 0..StreamId::CLASSES {
            if !self.shred_stream(now, StreamId::of(class, number))? {
                return Ok(());
            }
        }
        self.memory.lanes.close(number);
        self.commit(now)
    }

    /// `false`: the disk is full.
    fn shred_stream(&mut self, now: Now, stream: StreamId) -> Result<bool, EngineError> {
        self.give_up(now, stream, self.spool.newest(stream), (GapReason::Shredded, None))
    }

    /// The gap and its leaf in one commit. `false`: the disk is full.
    fn give_up(
        &mut self,
        now: Now,
        stream: StreamId,
        through: BatchSeq,
        (reason, actor): (GapReason, Option<Digest>),
    ) -> Result<bool, EngineError> {
        let gap = match self.spool.give_up(stream, through, reason) {
            Ok(Some(gap)) => gap,
            Ok(None) => return Ok(true),
            Err(fault) if fault.is_no_space() => {
                self.spool.rollback();
                return Ok(false);
            }
            Err(fault) => return Err(fault.into()),
        };
        let noted = self.notes.len();
        self.note_gap(now, actor, &gap);
        let is_done = self.commit_with(now, noted)?;
        if is_done {
            self.tell_gap(&gap);
        }
        Ok(is_done)
    }

    /// The reader found that batches can never leave: all of a lane wait for the same.
    pub(super) fn forfeit(
        &mut self,
        now: Now,
        stream: StreamId,
        through: BatchSeq,
    ) -> Result<(), EngineError> {
        if self.spool.released(stream) < through {
            self.shred_stream(now, stream)?;
        }
        Ok(())
    }

    /// What an operator does not want sent. On a full disk it stays, and he is told.
    pub(super) fn give_up_for_operator(
        &mut self,
        now: Now,
        (stream, through): (StreamId, BatchSeq),
        actor: Option<Digest>,
    ) -> Result<(), EngineError> {
        if !self.give_up(now, stream, through, (GapReason::Operator, actor))? {
            let text = "the disk is too full to record that batches are dropped; they stay";
            self.effects.push_back(Effect::Alarm(text.to_owned()));
        }
        Ok(())
    }

    fn destroy_keys(&mut self, now: Now) -> Result<(), EngineError> {
        let in_use: BTreeSet<Digest> =
            self.memory.lanes.iter().map(|(_, lane)| lane.digest).collect();
        let mut idle = self.vault.contracts();
        idle.retain(|digest| {
            let is_final = |named: Named| self.standing.is_final(&named.contract);
            let is_sure =
                !self.standing.is_uncertain || self.vault.name_of(digest).is_some_and(is_final);
            is_sure && !in_use.contains(digest) && !self.is_in_force(digest)
        });
        if idle.is_empty() || self.destruction_waits.is_some_and(|until| now.monotonic < until) {
            return Ok(());
        }
        let destroyed = match self.vault.destroy(&idle) {
            Ok(destroyed) => destroyed,
            // A TPM that does not answer, or a full disk, costs the proof its time, and not the collection.
            Err(fault @ (VaultFault::Root(_) | VaultFault::File { .. })) => {
                self.destruction_waits = Some(now.monotonic + DESTRUCTION_PAUSE);
                let text =
                    format!("keys of contracts that have ended wait for destruction: {fault}");
                self.effects.push_back(Effect::Alarm(text));
                return Ok(());
            }
            Err(fault) => return Err(fault.into()),
        };
        for (digest, known) in destroyed {
            self.note(
                now,
                LeafBody::ContractChange {
                    contract: known.contract,
                    version: known.version,
                    digest,
                    plan: self.plan.digest(),
                    outcome: ContractOutcome::Destroyed,
                },
            );
            self.commit(now)?;
        }
        Ok(())
    }

    /// Has the next commit end the windows for which nothing more is waited.
    pub(super) fn flush_windows(&mut self, now: Now) -> Result<(), EngineError> {
        // Before the first plan every window seems to belong to nobody.
        let is_due = self.has_plan && now.quality != ClockQuality::Unset;
        if is_due && self.memory.usage.is_overdue(now.wall) {
            self.windows_due = true;
            self.commit(now)?;
        }
        Ok(())
    }

    /// Ends the windows that do not go on under the plan that comes, while their own is still in force.
    fn end_windows(
        &mut self,
        now: Now,
        plan: &Arc<Plan>,
        standing: &Standing,
    ) -> Result<(), EngineError> {
        if self.memory.usage.has_windows() {
            let may_leave = self.may_leave(plan, standing);
            self.hand_over = Some(HandOver { plan: plan.clone(), may_leave });
            let ended = self.commit(now);
            self.hand_over = None;
            ended?;
        }
        Ok(())
    }

    /// Contracts of which results still leave: replaced by a new version, or ended with leave to send what
    /// is there.
    fn may_leave(&self, plan: &Plan, standing: &Standing) -> BTreeSet<ContractId> {
        let may_leave = |one: &&InForce| {
            let has_ended = plan.contract(&one.contract).is_none()
                && standing.has_ended(&one.contract)
                && one.lease.on_early_end == Fate::Shred;
            !has_ended && !standing.revoked.contains(&one.contract)
        };
        let contracts = self.plan.contracts().iter().filter(may_leave);
        contracts.map(|one| one.contract.clone()).collect()
    }

    /// The results of windows that are due, or of those that end with the plan.
    pub(super) fn results(&mut self, now: &Now) -> Ended {
        let situation = self.door.situation(*now);
        let (plan, vault) = (self.plan.clone(), self.vault.clone());
        let key = |id: &ContractId| vault.pseudonym_key(&plan.contract(id)?.digest);
        let (descriptors, boot) = (self.descriptors.digest(), self.config.boot);
        let header = |dataset: &DatasetId| BatchHeader {
            dataset: dataset.clone(),
            contract: None,
            descriptors,
            boot,
            monotonic: now.monotonic,
            clock_quality: now.quality,
        };
        let mut means = Means {
            usage: &mut self.memory.usage,
            entropy: &mut self.entropy,
            pseudonym_key: &key,
            boot,
        };
        match &self.hand_over {
            None => plan.flush(&situation, &mut means, header),
            Some(HandOver { plan: next, may_leave }) => {
                let may_leave = |contract: &ContractId| may_leave.contains(contract);
                plan.hand_over(next, may_leave, &situation, &mut means, header)
            }
        }
    }

    /// Says of each dataset how many results leave, and how many readings are dropped with their windows. It
    /// stands before the batches, as each decision does.
    pub(super) fn note_ended(&mut self, now: &Now, ended: &Ended) -> Result<(), EngineError> {
        let plan = self.plan.digest();
        let mut datasets: BTreeMap<DatasetId, DecisionSummary> = BTreeMap::new();
        let mut change = |dataset: &DatasetId, change: &dyn Fn(&mut DecisionSummary)| {
            let (dataset, denied) = (dataset.clone(), BTreeMap::new());
            let summary = datasets.entry(dataset.clone());
            let new = DecisionSummary { dataset, plan, permitted: 0, masked: 0, denied };
            change(summary.or_insert(new));
        };
        for one in &ended.permitted {
            change(&one.batch.header.dataset, &|summary| {
                summary.permitted += one.batch.rows() as u64;
                summary.masked += one.masked_rows;
            });
        }
        for (point, readings) in &ended.dropped {
            match self.descriptors.point(*point) {
                Some(point) => change(&point.dataset, &|summary| {
                    *summary.denied.entry(Denial::Dropped).or_default() += readings;
                }),
                None => tracing::warn!(%readings, "a window of a point that is no more is dropped"),
            }
        }
        for summary in datasets.into_values() {
            self.append_leaf(now, LeafBody::Decision(summary))?;
        }
        Ok(())
    }

    /// Tells the reader which lanes there are.
    pub(super) fn show_lanes(&self) {
        let lanes = self.memory.lanes.iter().map(|(number, lane)| (number, lane.clone()));
        self.door.set_lanes(lanes);
    }

    /// The windows wait for the next tick; publications do not suffer for them. Those that end with the plan
    /// cannot wait.
    pub(super) fn postpone_windows(&mut self, reason: &str) {
        if let Some(hand_over) = &mut self.hand_over {
            hand_over.may_leave.clear();
            let text = format!("results of windows of old contracts are dropped: {reason}");
            self.effects.push_back(Effect::Alarm(text));
            return;
        }
        self.windows_due = false;
        self.effects.push_back(Effect::Alarm(format!("results of windows must wait: {reason}")));
    }
}

/// What came into force, what ended, and how those stand that were there before.
fn changes(before: (&Plan, &Standing), after: (&Plan, &Standing)) -> Vec<LeafBody> {
    let change = |one: &InForce, outcome| LeafBody::ContractChange {
        contract: one.contract.clone(),
        version: one.version,
        digest: one.digest,
        plan: after.0.digest(),
        outcome,
    };
    let is_revoked = |one: &&InForce| after.1.revoked.contains(&one.contract);
    let ended = before.0.contracts().iter().filter(|one| !after.0.contracts().contains(one));
    let ended = ended.map(|one| match is_revoked(&one) {
        true => change(one, ContractOutcome::Revoked),
        false => change(one, ContractOutcome::Ended),
    });
    let begun = after.0.contracts().iter().filter(|one| !before.0.contracts().contains(one));
    let begun = begun.map(|one| change(one, ContractOutcome::Accepted));
    let stands = after.0.contracts().iter().filter_map(|one| {
        let suspended = |standing: &Standing| standing.suspended.contains(&one.contract);
        match (suspended(before.1), suspended(after.1)) {
            (false, true) => Some(change(one, ContractOutcome::Suspended)),
            (true, false) => Some(change(one, ContractOutcome::Resumed)),
            _ => None,
        }
    });
    ended.chain(begun).chain(stands).collect()
}
