//! Metering (计量): what came in under each contract, day by day, beside what boxes say that they kept.

use crate::store::{StoreError, StoredRecord, read_all};
use guan_model::{BoxId, WallTime};
use guan_spool::Disk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Batches and readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub batches: u64,
    pub rows: u64,
}

impl Sum {
    pub fn add(&mut self, other: Self) {
        self.batches = self.batches.saturating_add(other.batches);
        self.rows = self.rows.saturating_add(other.rows);
    }
}

/// By contract and UTC day.
pub type Days = BTreeMap<String, BTreeMap<String, Sum>>;

/// What one box says, as `guan meter --json` prints it from its signed log.
#[derive(Debug, Clone, Deserialize)]
pub struct BoxMeter {
    pub schema: u32,
    #[serde(rename = "box")]
    pub box_id: String,
    pub contracts: Days,
    /// Kept, and given up before it was sent: shredded, or over a quota.
    pub given_up: BTreeMap<String, Sum>,
}

/// What the store holds of each box.
pub fn received(disk: &impl Disk) -> Result<BTreeMap<BoxId, Days>, StoreError> {
    let mut boxes: BTreeMap<BoxId, Days> = BTreeMap::new();
    read_all(disk, &mut |record| {
        if let StoredRecord::Batch(delivery) = record {
            let days = boxes.entry(delivery.box_id.clone()).or_default();
            let days = days.entry(delivery.contract.to_string()).or_default();
            let sum = days.entry(day(delivery.received)).or_default();
            sum.add(Sum { batches: 1, rows: u64::from(delivery.rows) });
        }
        Ok(())
    })?;
    Ok(boxes)
}

/// The day in UTC.
fn day(at: WallTime) -> String {
    let seconds = at.millis().div_euclid(1000);
    let at = time::OffsetDateTime::from_unix_timestamp(seconds);
    at.map_or_else(|_| "unknown".to_owned(), |at| at.date().to_string())
}

/// One contract, seen from both ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    pub contract: String,
    /// As the box's log says.
    pub kept: Sum,
    pub given_up: Sum,
    pub received: Sum,
    /// Readings that the log names and that are neither here nor given up: on their way, or lost.
    pub missing_rows: i64,
    /// The same in batches: fewer and larger ones with as many readings were not what the box kept.
    pub missing_batches: i64,
}

impl Compared {
    pub fn agrees(&self) -> bool {
        self.missing_rows == 0 && self.missing_batches == 0
    }
}

/// Both ends side by side. Days are of each end's own clock, so totals are compared.
pub fn compare(box_says: &BoxMeter, here: &Days) -> Vec<Compared> {
    let total = |days: Option<&BTreeMap<String, Sum>>| {
        let mut total = Sum::default();
        days.into_iter().flat_map(BTreeMap::values).for_each(|sum| total.add(*sum));
        total
    };
    let contracts: std::collections::BTreeSet<&String> =
        box_says.contracts.keys().chain(here.keys()).collect();
    let compared = contracts.into_iter().map(|contract| {
        let kept = total(box_says.contracts.get(contract));
        let given_up = box_says.given_up.get(contract).copied().unwrap_or_default();
        let received = total(here.get(contract));
        let left = |of: fn(Sum) -> u64| {
            let [kept, given_up, received] =
                [kept, given_up, received].map(|sum| i64::try_from(of(sum)).unwrap_or(i64::MAX));
            kept.saturating_sub(given_up).saturating_sub(received)
        };
        Compared {
            contract: contract.clone(),
            kept,
            given_up,
            received,
            missing_rows: left(|sum| sum.rows),
            missing_batches: left(|sum| sum.batches),
        }
    });
    compared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shown() {
        let sum = |rows| Sum { batches: 1, rows };
        let days = |rows: &[(&str, u64)]| -> Days {
            let days = rows.iter().map(|(contract, rows)| {
                let day = BTreeMap::from([("2026-11-24".to_owned(), sum(*rows))]);
                ((*contract).to_owned(), day)
            });
            days.collect()
        };
        let says = BoxMeter {
            schema: 1,
            box_id: "box-1".to_owned(),
            contracts: days(&[("A", 10), ("B", 7), ("C", 5)]),
            given_up: BTreeMap::from([("B".to_owned(), sum(3))]),
        };
        let compared = compare(&says, &days(&[("A", 10), ("B", 4), ("D", 2)]));
        let missing: Vec<(&str, i64, i64)> = compared
            .iter()
            .map(|one| (one.contract.as_str(), one.missing_rows, one.missing_batches))
            .collect();
        // Of B one batch is here and one was given up, and the box kept one: that does not add up.
        assert_eq!(missing, [("A", 0, 0), ("B", 0, -1), ("C", 5, 1), ("D", -2, -1)]);
        assert_eq!(compared.iter().filter(|one| one.agrees()).count(), 1);
    }
}
