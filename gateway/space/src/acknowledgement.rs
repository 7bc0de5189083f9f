//! Acknowledgement of use (使用回执): how much a consumer got in each period of a contract that asks for it, and
//! what the consumer has acknowledged under its signature.
//!
//! Periods begin with the contract and have the length of its shortest `acknowledgeUse`. What was delivered
//! in a period is due when the period is over, and overdue when as much time again has passed, a week at
//! most. It is over a minute after its end (a short one after its own length), so that what came in its last
//! moment is stored and counted. A period in which nothing came needs no acknowledgement. The counts are
//! those of the store.

mod lines;
mod periods;

pub use lines::{Acknowledged, KnownLines, Seal, acknowledge, read, read_known};
pub use periods::{Asked, Counted, Covered, PERIODS_MAX, Period, Uses, asked, count};

use crate::store::StoreError;
use guan_evidence::account::Sum;
use guan_model::{ContractId, WallTime};
use guan_policy::Contract;
use guan_policy::duty::Duty;
use guan_policy::fault::ContractError;
use guan_spool::Disk;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;

/// Signed lines, in `space.state_dir`.
pub const ACKNOWLEDGED_FILE: &str = "acknowledged.jsonl";
/// Why uses cannot be counted or acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum UseFault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "more than {PERIODS_MAX} periods wait for their acknowledgement, and the others are not counted: \
         have consumers acknowledge (`guan-space contract acknowledge`), or agree on longer periods"
    )]
    Full,
    #[error("{ACKNOWLEDGED_FILE} cannot be read: check the disk and its rights")]
    Lines(#[source] io::Error),
    #[error("the acknowledgement cannot be signed")]
    Sign(#[source] ContractError),
}

/// A period that waits for its acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due {
    pub contract: String,
    pub consumer: String,
    #[serde(flatten)]
    pub period: Period,
    #[serde(flatten)]
    pub sum: Sum,
    pub is_overdue: bool,
}

/// What is due: periods that are over, in which something came, and of which not every moment is acknowledged by
/// the consumer.
pub fn due(
    asked: &BTreeMap<ContractId, Asked>,
    uses: &Uses,
    covered: &Covered,
    now: WallTime,
) -> Vec<Due> {
    let now_s = now.0.div_euclid(1_000_000_000);
    let mut all = Vec::new();
    for (contract, one) in asked {
        for (period, sum) in uses.get(contract).into_iter().flatten() {
            if one.over_s(*period) <= now_s && !covered.covers(contract, *period) {
                all.push(Due {
                    contract: contract.to_string(),
                    consumer: one.consumer.clone(),
                    period: *period,
                    sum: *sum,
                    is_overdue: one.overdue_s(*period) <= now_s,
                });
            }
        }
    }
    all
}

/// What an operator should look at: one line for each contract.
pub fn alarms(due: &[Due]) -> Vec<String> {
    let mut late: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for one in due.iter().filter(|one| one.is_overdue) {
        *late.entry((&one.contract, &one.consumer)).or_default() += 1;
    }
    let lines = late.into_iter().map(|((contract, consumer), periods)| {
        format!(
            "{consumer} has not acknowledged its use under contract {contract} for {periods} periods: \
             `guan-space contract acknowledge {contract}`"
        )
    });
    lines.collect()
}

/// Looks at uses while the space runs. Reads the store again only when a period is over, a contract asks for
/// something else, or something was acknowledged.
pub struct UseWatch {
    asked: BTreeMap<ContractId, Asked>,
    covered: Covered,
    counted: Counted,
    /// When the next period is over; `None`: nothing was counted yet.
    counted_until_s: Option<i64>,
}

impl UseWatch {
    pub fn new() -> Self {
        let (asked, covered) = (BTreeMap::new(), Covered::default());
        Self { asked, covered, counted: Counted::default(), counted_until_s: None }
    }

    /// What is due now. The lines are looked at only when a contract asks for them.
    pub fn look(
        &mut self,
        now: WallTime,
        asked: BTreeMap<ContractId, Asked>,
        store: &impl Disk,
        known: &mut KnownLines,
    ) -> Result<Vec<Due>, UseFault> {
        if asked.is_empty() {
            *self = Self::new();
            return Ok(Vec::new());
        }
        let now_s = now.0.div_euclid(1_000_000_000);
        let has_changed = known.refresh().map_err(UseFault::Lines)?;
        let is_stale = self.counted_until_s.is_none_or(|until_s| now_s >= until_s);
        if is_stale || has_changed || asked != self.asked {
            // Should it fail, the next look counts.
            self.counted_until_s = None;
            self.covered = Covered::new(&asked, known.lines());
            self.counted = count(store, &asked, &self.covered)?;
            self.counted_until_s = asked.values().map(|one| one.next_over_s(now)).min();
            self.asked = asked;
        }
        Ok(due(&self.asked, &self.counted.uses, &self.covered, now))
    }

    /// Why not all that is due was found.
    pub fn fault(&self) -> Option<UseFault> {
        self.counted.fault()
    }
}

impl Default for UseWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// What is to be paid by the contract's own terms: nobody here interprets them, and no money moves.
pub fn compensation(contract: &Contract) -> Option<Value> {
    let is_paid = contract.duties_of_use().any(|duty| *duty == Duty::Compensate);
    is_paid.then(|| contract.terms().cloned().unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests;
