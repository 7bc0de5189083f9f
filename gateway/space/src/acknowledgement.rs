//! Acknowledgement of use (使用回执): how much a consumer got in each period of a contract that asks for it, and
//! what the consumer has acknowledged under its signature.
//!
//! Periods begin with the contract and have the length of its shortest `acknowledgeUse`. What was delivered
//! in a period is due when the period is over, and overdue when as much time again has passed, a week at
//! most. A period in which nothing came needs no acknowledgement. The counts are those of the store.

use crate::parties::PartyKeys;
use crate::sets::Sets;
use crate::signed_lines;
use crate::store::{StoreError, StoredRecord, read_all};
use guan_evidence::account::Sum;
use guan_model::{ContractId, Signer, WallTime};
use guan_policy::duty::Duty;
use guan_policy::envelope::Envelope;
use guan_policy::fault::{ContractError, Faults};
use guan_policy::{Contract, TrustedKeys};
use guan_spool::Disk;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Signed lines, in `space.state_dir`.
pub const ACKNOWLEDGED_FILE: &str = "acknowledged.jsonl";
/// Most periods in which something came, of all contracts together.
pub const PERIODS_MAX: usize = 100_000;
/// An acknowledgement is overdue so long after its period at the latest.
const OVERDUE_AFTER_MAX: Duration = Duration::from_secs(7 * 86_400);
const SCHEMA: u32 = 1;
const ENVELOPE: Envelope = Envelope {
    domain: b"guan-use-acknowledged/1\n",
    body: "acknowledged",
    schema: SCHEMA,
    bytes_max: signed_lines::LINE_BYTES_MAX,
};

/// Why uses cannot be counted or acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum UseFault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "something came in more than {PERIODS_MAX} periods; agree on longer ones, or split the space"
    )]
    Full,
    #[error("{ACKNOWLEDGED_FILE} cannot be read: check the disk and its rights")]
    Lines(#[source] io::Error),
    #[error("the acknowledgement cannot be signed")]
    Sign(#[source] ContractError),
}

/// What a contract asks of its consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub version: u64,
    pub consumer: String,
    every_s: i64,
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

    fn period_of(&self, at: WallTime) -> Period {
        let since_s = at.0.div_euclid(1_000_000_000) - self.from_s;
        let began = since_s.div_euclid(self.every_s).saturating_mul(self.every_s);
        let from_s = self.from_s.saturating_add(began);
        Period { from_s, until_s: from_s.saturating_add(self.every_s) }
    }

    fn overdue_s(&self, period: Period) -> i64 {
        let most_s = i64::try_from(OVERDUE_AFTER_MAX.as_secs()).expect("a week is short");
        period.until_s.saturating_add(self.every_s.min(most_s))
    }
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

#[derive(Default)]
struct Periods {
    uses: Uses,
    count: usize,
    is_full: bool,
}

impl Periods {
    fn add(&mut self, contract: &ContractId, asked: &Asked, at: WallTime, rows: u64) {
        let of_contract = self.uses.entry(contract.clone()).or_default();
        let period = asked.period_of(at);
        if !of_contract.contains_key(&period) {
            self.is_full |= self.count == PERIODS_MAX;
            if self.is_full {
                return;
            }
            self.count += 1;
        }
        let sum = of_contract.entry(period).or_default();
        sum.batches += 1;
        sum.rows += rows;
    }
}

/// Reads the whole store.
pub fn count(disk: &impl Disk, asked: &BTreeMap<ContractId, Asked>) -> Result<Uses, UseFault> {
    let mut periods = Periods::default();
    read_all(disk, &mut |record| {
        if let StoredRecord::Batch(delivery) = record
            && let Some(one) = asked.get(&delivery.contract)
        {
            periods.add(&delivery.contract, one, delivery.received, u64::from(delivery.rows));
        }
        Ok(())
    })?;
    if periods.is_full { Err(UseFault::Full) } else { Ok(periods.uses) }
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    pub contract: String,
    /// Who has acknowledged.
    pub party: String,
    pub space: String,
    pub from_s: i64,
    pub until_s: i64,
    pub batches: u64,
    pub rows: u64,
    pub at_s: i64,
}

/// Whether a signature was made by a key that is known to be the party's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    Good,
    /// No key of the party is known here.
    Unchecked,
    /// By another key than the party's, or changed since.
    Forged,
}

impl Seal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unchecked => "unchecked",
            Self::Forged => "FORGED",
        }
    }
}

/// Signs a line and makes it durable.
pub fn acknowledge(what: &Acknowledged, signer: &dyn Signer) -> Result<Vec<u8>, UseFault> {
    let body = serde_json::to_value(what).expect("a struct of plain fields is JSON");
    let mut line = ENVELOPE.seal(&body, &what.party, signer).map_err(UseFault::Sign)?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}

/// Every line that says something, and how many say nothing. `keys` gives those known of a party.
pub fn read(
    path: &Path,
    keys: &mut dyn FnMut(&str) -> TrustedKeys,
) -> io::Result<(Vec<(Acknowledged, Seal)>, u64)> {
    let (mut found, mut damaged) = (Vec::new(), 0);
    signed_lines::read(path, &mut |line| match line.and_then(|line| judge(line, keys)) {
        Some(one) => found.push(one),
        None => damaged += 1,
    })?;
    Ok((found, damaged))
}

/// As [`read`], with what the space knows of the parties.
pub fn read_known(
    state_dir: &Path,
    parties: &PartyKeys,
) -> io::Result<(Vec<(Acknowledged, Seal)>, u64)> {
    let mut known: BTreeMap<String, TrustedKeys> = BTreeMap::new();
    read(&state_dir.join(ACKNOWLEDGED_FILE), &mut |party| {
        let keys = known.entry(party.to_owned()).or_insert_with(|| {
            let keys = parties.trusted(&[party]);
            keys.inspect_err(|fault| tracing::warn!(%fault, "a key cannot be used"))
                .unwrap_or_default()
        });
        keys.clone()
    })
}

fn judge(line: &[u8], keys: &mut dyn FnMut(&str) -> TrustedKeys) -> Option<(Acknowledged, Seal)> {
    let mut faults = Faults::default();
    let opened = ENVELOPE.open(line, &mut faults).filter(|_| faults.is_empty())?;
    let what: Acknowledged = serde_json::from_value(opened.body.clone()).ok()?;
    let keys = keys(&what.party);
    opened.check(&what.party, &keys, &mut faults);
    let seal = match (keys.knows(&what.party), faults.is_empty()) {
        (false, _) => Seal::Unchecked,
        (true, true) => Seal::Good,
        (true, false) => Seal::Forged,
    };
    Some((what, seal))
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
    acknowledged: &[(Acknowledged, Seal)],
    now: WallTime,
) -> Vec<Due> {
    let now_s = now.0.div_euclid(1_000_000_000);
    let mut all = Vec::new();
    for (contract, one) in asked {
        let theirs = acknowledged.iter().filter(|(said, seal)| {
            *seal != Seal::Forged
                && said.contract == contract.as_str()
                && said.party == one.consumer
        });
        let theirs: Vec<Period> =
            theirs.map(|(said, _)| Period { from_s: said.from_s, until_s: said.until_s }).collect();
        for (period, sum) in uses.get(contract).into_iter().flatten() {
            if period.until_s <= now_s && !is_covered(*period, &theirs) {
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

/// Periods of an earlier version of the contract count for the moments that they cover.
fn is_covered(period: Period, by: &[Period]) -> bool {
    let mut from_s = period.from_s;
    let mut sorted = by.to_vec();
    sorted.sort();
    for one in sorted {
        if one.from_s <= from_s {
            from_s = from_s.max(one.until_s);
        }
    }
    from_s >= period.until_s
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

/// Looks at uses while the space runs. Reads the store again only when a period is over, or a contract asks
/// for something else.
pub struct UseWatch {
    asked: BTreeMap<ContractId, Asked>,
    uses: Uses,
    /// When the next period is over; `None`: nothing was counted yet.
    counted_until_s: Option<i64>,
}

impl UseWatch {
    pub fn new() -> Self {
        Self { asked: BTreeMap::new(), uses: Uses::new(), counted_until_s: None }
    }

    /// What is due now. `acknowledged` is asked only when there is something to compare.
    pub fn look(
        &mut self,
        now: WallTime,
        asked: BTreeMap<ContractId, Asked>,
        store: &impl Disk,
        acknowledged: impl FnOnce() -> io::Result<Vec<(Acknowledged, Seal)>>,
    ) -> Result<Vec<Due>, UseFault> {
        let now_s = now.0.div_euclid(1_000_000_000);
        let is_stale = self.counted_until_s.is_none_or(|until_s| now_s >= until_s);
        if is_stale || asked != self.asked {
            self.uses = count(store, &asked)?;
            let ends = asked.values().map(|one| one.period_of(now).until_s);
            self.counted_until_s = Some(ends.min().unwrap_or(i64::MAX));
            self.asked = asked;
        }
        if self.uses.is_empty() {
            return Ok(Vec::new());
        }
        let acknowledged = acknowledged().map_err(UseFault::Lines)?;
        Ok(due(&self.asked, &self.uses, &acknowledged, now))
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
