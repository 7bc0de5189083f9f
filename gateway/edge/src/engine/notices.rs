//! Telling whom a contract wants told (notify): as an alarm of the box, which its report carries to the
//! space. At most once an hour for each contract and occasion, so that a steady refusal is one notice; of a quota
//! at four fifths and when it is used up, each once in its period. Nothing is told before it is durable.
//!
//! What was told is not kept over a restart.

use super::{Effect, Engine};
use guan_model::{ContractId, Now};
use guan_policy::duty::NotifyOn;
use guan_policy::{Decision, Ended, Permitted, Plan, Quota};
use guan_spool::Disk;
use std::collections::BTreeMap;
use std::time::Duration;

/// From one notice to the next about the same.
const NOTICE_INTERVAL: Duration = Duration::from_secs(3600);
/// Share of a quota of which somebody is told before it is used up.
const NEARLY_PERCENT: u64 = 80;

/// Something that somebody may want to be told, if the commit comes to be.
#[derive(Debug)]
pub(super) struct Occasion {
    contract: ContractId,
    what: What,
    rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Deny,
    Use,
    UsedUp(Quota),
}

/// When somebody was last told.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Since boot.
    told: BTreeMap<(ContractId, NotifyOn), Duration>,
    /// The period, and how full the quota was said to be.
    quotas: BTreeMap<(ContractId, Quota), (i64, u64)>,
}

impl Notices {
    /// Whether it is time again; notes it.
    fn is_due(&mut self, contract: &ContractId, on: NotifyOn, now: Duration) -> bool {
        let key = (contract.clone(), on);
        let is_due = self.told.get(&key).is_none_or(|last| now >= *last + NOTICE_INTERVAL);
        if is_due {
            self.told.insert(key, now);
        }
        is_due
    }

    /// The same for a share of a quota in a period.
    fn is_quota_due(
        &mut self,
        (contract, quota): (&ContractId, Quota),
        period: i64,
        percent: u64,
    ) -> bool {
        let key = (contract.clone(), quota);
        let is_due = self.quotas.get(&key).is_none_or(|last| *last < (period, percent));
        if is_due {
            self.quotas.insert(key, (period, percent));
        }
        is_due
    }

    /// Forgets contracts that are not in force.
    pub(super) fn retain(&mut self, plan: &Plan) {
        self.told.retain(|(contract, _), _| plan.contract(contract).is_some());
        self.quotas.retain(|(contract, _), _| plan.contract(contract).is_some());
    }
}

impl<D: Disk, T> Engine<D, T> {
    /// Notes what a decision gives to tell.
    pub(super) fn notice(&mut self, decision: &Decision) {
        for refusal in &decision.refused_by {
            let contract = &refusal.contract;
            self.note_occasion(contract, What::Deny, refusal.rows);
            for (quota, rows) in &refusal.by_quota {
                self.note_occasion(contract, What::UsedUp(*quota), *rows);
            }
        }
        self.notice_use(&decision.permitted);
    }

    /// The same of results of windows.
    pub(super) fn notice_results(&mut self, ended: &Ended) {
        self.notice_use(&ended.permitted);
    }

    fn notice_use(&mut self, permitted: &[Permitted]) {
        for one in permitted {
            self.note_occasion(&one.contract, What::Use, one.batch.rows() as u64);
        }
    }

    /// One entry for each contract and occasion, however many batches a commit has.
    fn note_occasion(&mut self, contract: &ContractId, what: What, rows: u64) {
        let in_force = self.plan.contract(contract);
        if in_force.is_none_or(|one| one.notify.is_empty()) {
            return;
        }
        let same = |one: &&mut Occasion| one.what == what && one.contract == *contract;
        match self.occasions.iter_mut().find(same) {
            Some(known) => known.rows += rows,
            None => self.occasions.push(Occasion { contract: contract.clone(), what, rows }),
        }
    }

    /// The commit is durable: tells what it gave to tell.
    pub(super) fn tell(&mut self, now: &Now) {
        for Occasion { contract, what, rows } in std::mem::take(&mut self.occasions) {
            let (on, text) = match what {
                What::Deny => (NotifyOn::Deny, format!("{rows} readings did not leave")),
                What::Use => (NotifyOn::Use, format!("{rows} readings leave")),
                What::UsedUp(quota) => {
                    self.tell_quota(&contract, quota, quota.key.period.number(now.wall), 100);
                    continue;
                }
            };
            if self.is_anybody_told(&contract, on)
                && self.notices.is_due(&contract, on, now.monotonic)
            {
                self.tell_whom(&contract, (on, ""), &text);
            }
        }
        let plan = self.plan.clone();
        for one in plan.contracts().iter().filter(|one| !one.quotas.is_empty()) {
            for (quota, period, used) in one.quotas_used(&self.memory.usage, now) {
                // Nothing of nothing is used up only when somebody asks for it.
                let percent = used.saturating_mul(100).checked_div(quota.limit).unwrap_or(0);
                match percent {
                    100.. => self.tell_quota(&one.contract, quota, period, 100),
                    NEARLY_PERCENT.. => {
                        self.tell_quota(&one.contract, quota, period, NEARLY_PERCENT);
                    }
                    _ => {}
                }
            }
        }
    }

    fn tell_quota(&mut self, contract: &ContractId, quota: Quota, period: i64, percent: u64) {
        if self.is_anybody_told(contract, NotifyOn::Quota)
            && self.notices.is_quota_due((contract, quota), period, percent)
        {
            let (kind, limit) = (quota.key.kind.unit(), quota.limit);
            let span = quota.key.period.name();
            let text = format!("{percent} % of {limit} {kind} {span} are used");
            self.tell_whom(contract, (NotifyOn::Quota, &format!("{limit} {kind} {span}")), &text);
        }
    }

    fn is_anybody_told(&self, contract: &ContractId, on: NotifyOn) -> bool {
        let in_force = self.plan.contract(contract);
        in_force.is_some_and(|one| one.notify.iter().any(|(when, _)| *when == on))
    }

    /// `what` tells quotas of a contract apart: the notice of one does not take the place of another's.
    fn tell_whom(&mut self, contract: &ContractId, (on, what): (NotifyOn, &str), text: &str) {
        let Some(one) = self.plan.contract(contract) else { return };
        let targets = one.notify.iter().filter(|(when, _)| *when == on);
        let targets: Vec<&str> = targets.map(|(_, who)| &**who).collect();
        let text = format!("for {}, contract {contract}: {text}", targets.join(", "));
        let kind = format!("{contract} {on:?} {what}");
        self.effects.push_back(Effect::Notice { kind, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_an_hour() {
        let mut notices = Notices::default();
        let contract = ContractId::parse("C").unwrap();
        let hour = Duration::from_secs(3600);
        assert!(notices.is_due(&contract, NotifyOn::Deny, hour));
        assert!(!notices.is_due(&contract, NotifyOn::Deny, hour * 2 - Duration::from_nanos(1)));
        assert!(notices.is_due(&contract, NotifyOn::Use, hour));
        assert!(notices.is_due(&contract, NotifyOn::Deny, hour * 2));
    }
}
