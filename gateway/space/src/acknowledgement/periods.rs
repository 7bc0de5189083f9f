//! The periods of a contract, what came in them, and which are acknowledged.

use super::{Acknowledged, Seal, UseFault};
use crate::sets::Sets;
use crate::store::{StoredRecord, read_all};
use guan_evidence::account::Sum;
use guan_model::{ContractId, WallTime};
use guan_policy::Contract;
use guan_policy::duty::Duty;
use guan_spool::Disk;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most periods in which something came that wait for their acknowledgement, of all contracts together.
pub const PERIODS_MAX: usize = 100_000;
/// An acknowledgement is overdue so long after its period at the latest.
const OVERDUE_AFTER_MAX: Duration = Duration::from_secs(7 * 86_400);
/// A period is over so long after its end at the latest: until then what came in it is stored.
const SETTLING_MAX: Duration = Duration::from_secs(60);

/// What a contract asks of its consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub version: u64,
    pub consumer: String,
    pub(super) every_s: i64,
    from_s: i64,
}

impl Asked {
    /// `None`: nothing.
    pub fn of(contract: &Contract) -> Option<Self> {
        let every = contract.duties_of_use().filter_map(|duty| match duty {
            Duty::AcknowledgeUse { every } => Some(*every),
            _ => None,
        });
        let every_s = i64::try_from(every.min()?.as_secs()).unwrap_or(i64::MAX);
        Some(Self {
            version: contract.version(),
            consumer: contract.consumer().to_owned(),
            every_s: every_s.max(1),
            from_s: contract.not_before().0.div_euclid(1_000_000_000),
        })
    }

    pub(super) fn period_of(&self, at: WallTime) -> Period {
        let since_s = at.0.div_euclid(1_000_000_000) - self.from_s;
        let began = since_s.div_euclid(self.every_s).saturating_mul(self.every_s);
        let from_s = self.from_s.saturating_add(began);
        Period { from_s, until_s: from_s.saturating_add(self.every_s) }
    }

    /// How long after its end a period is over: a batch that was stamped before may be stored later.
    fn settling_s(&self) -> i64 {
        self.every_s.min(seconds(SETTLING_MAX))
    }

    /// From when on the period can be signed for: nothing more comes for it.
    pub(super) fn over_s(&self, period: Period) -> i64 {
        period.until_s.saturating_add(self.settling_s())
    }

    pub(super) fn overdue_s(&self, period: Period) -> i64 {
        self.over_s(period).saturating_add(self.every_s.min(seconds(OVERDUE_AFTER_MAX)))
    }

    /// When the next period is over.
    pub(super) fn next_over_s(&self, now: WallTime) -> i64 {
        let settling_s = self.settling_s();
        let now_s = now.0.div_euclid(1_000_000_000);
        self.over_s(self.period_of(WallTime::from_seconds(now_s.saturating_sub(settling_s))))
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).expect("a week at most")
}

/// From its first second to the one after its last, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Period {
    pub from_s: i64,
    pub until_s: i64,
}

/// Contracts of all boxes that ask for acknowledgement. The highest version counts.
pub fn asked(sets: &Sets) -> BTreeMap<ContractId, Asked> {
    let mut newest: BTreeMap<ContractId, (u64, Option<Asked>)> = BTreeMap::new();
    for contract in sets.contracts() {
        let known = newest.get(contract.id()).map_or(0, |(version, _)| *version);
        if contract.version() > known {
            newest.insert(contract.id().clone(), (contract.version(), Asked::of(&contract)));
        }
    }
    newest.into_iter().filter_map(|(id, (_, asked))| Some((id, asked?))).collect()
}

/// What came in each period.
pub type Uses = BTreeMap<ContractId, BTreeMap<Period, Sum>>;

/// What came in the periods that wait for their acknowledgement.
#[derive(Debug, Default)]
pub struct Counted {
    pub uses: Uses,
    periods: usize,
    is_full: bool,
}

impl Counted {
    /// `None`: nothing was left out. What is there is whole all the same, and once it is acknowledged there is
    /// room for the others.
    pub fn fault(&self) -> Option<UseFault> {
        self.is_full.then_some(UseFault::Full)
    }

    pub(super) fn add(&mut self, contract: &ContractId, period: Period, rows: u64) {
        let of_contract = self.uses.entry(contract.clone()).or_default();
        if !of_contract.contains_key(&period) {
            if self.periods == PERIODS_MAX {
                self.is_full = true;
                return;
            }
            self.periods += 1;
        }
        let sum = of_contract.entry(period).or_default();
        sum.batches += 1;
        sum.rows += rows;
    }
}

/// The moments of each contract whose use its consumer has acknowledged.
#[derive(Debug, Default)]
pub struct Covered(BTreeMap<ContractId, Vec<Period>>);

impl Covered {
    pub fn new(asked: &BTreeMap<ContractId, Asked>, acknowledged: &[(Acknowledged, Seal)]) -> Self {
        let mut all: BTreeMap<ContractId, Vec<Period>> = BTreeMap::new();
        for (said, seal) in acknowledged {
            let Ok(contract) = ContractId::parse(&said.contract) else { continue };
            let is_theirs = asked.get(&contract).is_some_and(|one| one.consumer == said.party);
            if is_theirs && *seal != Seal::Forged && said.from_s < said.until_s {
                let period = Period { from_s: said.from_s, until_s: said.until_s };
                all.entry(contract).or_default().push(period);
            }
        }
        all.values_mut().for_each(merge);
        Self(all)
    }

    /// Periods of an earlier version of the contract count for the moments that they cover.
    pub(super) fn covers(&self, contract: &ContractId, period: Period) -> bool {
        let Some(all) = self.0.get(contract) else { return false };
        let later = all.partition_point(|one| one.from_s <= period.from_s);
        all[..later].last().is_some_and(|one| one.until_s >= period.until_s)
    }
}

/// Puts in order, and makes one of those that touch.
fn merge(periods: &mut Vec<Period>) {
    periods.sort();
    periods.dedup_by(|later, earlier| {
        let touches = later.from_s <= earlier.until_s;
        if touches {
            earlier.until_s = earlier.until_s.max(later.until_s);
        }
        touches
    });
}

/// Reads the whole store. What is acknowledged takes no room.
pub fn count(
    disk: &impl Disk,
    asked: &BTreeMap<ContractId, Asked>,
    covered: &Covered,
) -> Result<Counted, UseFault> {
    let mut counted = Counted::default();
    read_all(disk, &mut |record| {
        if let StoredRecord::Batch(delivery) = record
            && let Some(one) = asked.get(&delivery.contract)
        {
            let period = one.period_of(delivery.received);
            if !covered.covers(&delivery.contract, period) {
                counted.add(&delivery.contract, period, u64::from(delivery.rows));
            }
        }
        Ok(())
    })?;
    Ok(counted)
}
