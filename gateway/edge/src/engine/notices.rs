//! Telling whom a contract wants told (notify): as an alarm of the box, which its report carries to the
//! space. At most once an hour for each contract and occasion, so that a steady refusal is one notice.

use super::{Effect, Engine};
use guan_model::{ContractId, Now};
use guan_policy::duty::NotifyOn;
use guan_policy::{Decision, DenyReason};
use guan_spool::Disk;
use std::collections::BTreeMap;
use std::time::Duration;

/// From one notice to the next about the same.
const NOTICE_INTERVAL: Duration = Duration::from_secs(3600);

/// When somebody was last told, since boot.
#[derive(Debug, Default)]
pub(super) struct Notices(BTreeMap<(ContractId, NotifyOn), Duration>);

impl Notices {
    /// Whether it is time again; notes it.
    fn is_due(&mut self, contract: &ContractId, on: NotifyOn, now: Duration) -> bool {
        let key = (contract.clone(), on);
        let is_due = self.0.get(&key).is_none_or(|last| now >= *last + NOTICE_INTERVAL);
        if is_due {
            self.0.insert(key, now);
        }
        is_due
    }
}

impl<D: Disk, T> Engine<D, T> {
    /// Tells whom the contracts want told about a decision.
    pub(super) fn notice(&mut self, now: &Now, decision: &Decision) {
        let mut occasions: Vec<(ContractId, NotifyOn, String)> = Vec::new();
        for refusal in &decision.refused {
            let Some(contract) = refusal.reason.contract() else { continue };
            let text =
                format!("{} readings did not leave: {}", refusal.rows, refusal.reason.name());
            let on = match refusal.reason {
                DenyReason::Prohibited { .. } => [NotifyOn::Deny, NotifyOn::Deny],
                // Of a contract with a quota this is where a used-up quota shows.
                DenyReason::NotPermitted { .. } => [NotifyOn::Deny, NotifyOn::Quota],
                _ => continue,
            };
            occasions.extend(on.map(|on| (contract.clone(), on, text.clone())));
        }
        for permitted in &decision.permitted {
            let text = format!("{} readings leave", permitted.batch.rows());
            occasions.push((permitted.contract.clone(), NotifyOn::Use, text));
        }
        let plan = self.plan.clone();
        for (contract, on, text) in occasions {
            let notify = plan.contract(&contract).map_or(&[][..], |one| &one.notify);
            let targets: Vec<&str> =
                notify.iter().filter(|(when, _)| *when == on).map(|(_, who)| &**who).collect();
            if !targets.is_empty() && self.notices.is_due(&contract, on, now.monotonic) {
                let targets = targets.join(", ");
                let alarm = format!("for {targets}, contract {contract}: {text}");
                self.effects.push_back(Effect::Alarm(alarm));
            }
        }
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
