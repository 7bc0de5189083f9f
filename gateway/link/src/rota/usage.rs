//! Bytes of this day and this month, of the link and of each contract that has a budget.

use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{ContractId, WallTime};
use std::collections::BTreeMap;

/// Most contracts that are counted on their own.
pub const CONTRACTS_MAX: usize = 256;
const MILLIS_PER_DAY: i64 = 86_400_000;
const JULIAN_DAY_OF_1970: i64 = 2_440_588;

/// Most bytes of a day and of a month, in UTC; `None`: any number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    pub day_bytes_max: Option<u64>,
    pub month_bytes_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    Day,
    Month,
}

/// What was kept is not a ledger; it begins anew.
#[derive(Debug, thiserror::Error)]
#[error("the ledger of the link's bytes cannot be read")]
pub struct UsageFault(#[from] ReadFault);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    day: u64,
    month: u64,
}

impl Count {
    fn spent(self, budget: &Budget) -> Option<Spent> {
        let over = |max: Option<u64>, bytes| max.is_some_and(|max| bytes >= max);
        match () {
            () if over(budget.month_bytes_max, self.month) => Some(Spent::Month),
            () if over(budget.day_bytes_max, self.day) => Some(Spent::Day),
            () => None,
        }
    }
}

/// The ledger. A clock that is set back does not open a budget anew: what was counted stays, until the day
/// after the one that is now. A day that a wrong clock once named must not hold a budget shut until it comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Days since 1970 in UTC.
    day: i64,
    link: Count,
    contracts: BTreeMap<ContractId, Count>,
}

impl Usage {
    /// The time is known; a new day or month begins with nothing.
    pub fn handle_time(&mut self, wall: WallTime) {
        let day = wall.millis().div_euclid(MILLIS_PER_DAY);
        if day <= self.day {
            self.day = day;
            return;
        }
        let is_new_month = month_of(day) != month_of(self.day);
        for count in self.contracts.values_mut().chain([&mut self.link]) {
            count.day = 0;
            if is_new_month {
                count.month = 0;
            }
        }
        self.day = day;
    }

    pub fn handle_link(&mut self, bytes: u64) {
        self.link.day = self.link.day.saturating_add(bytes);
        self.link.month = self.link.month.saturating_add(bytes);
    }

    pub fn handle_contract(&mut self, contract: &ContractId, bytes: u64) {
        if !self.contracts.contains_key(contract) && self.contracts.len() >= CONTRACTS_MAX {
            return;
        }
        let count = self.contracts.entry(contract.clone()).or_default();
        count.day = count.day.saturating_add(bytes);
        count.month = count.month.saturating_add(bytes);
    }

    pub fn spent(&self, budget: &Budget) -> Option<Spent> {
        self.link.spent(budget)
    }

    pub fn contract_spent(&self, contract: &ContractId, budget: &Budget) -> Option<Spent> {
        self.contracts.get(contract)?.spent(budget)
    }

    /// Days since 1970 that it counts.
    pub fn day(&self) -> i64 {
        self.day
    }

    /// Bytes of the day and of the month.
    pub fn link_bytes(&self) -> (u64, u64) {
        (self.link.day, self.link.month)
    }

    pub fn contract_bytes(&self, contract: &ContractId) -> (u64, u64) {
        self.contracts.get(contract).map_or((0, 0), |count| (count.day, count.month))
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u64(self.day.cast_unsigned());
        out.u64(self.link.day);
        out.u64(self.link.month);
        for (contract, count) in &self.contracts {
            out.text(contract.as_str());
            out.u64(count.day);
            out.u64(count.month);
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, UsageFault> {
        let mut reader = Reader::new(bytes);
        let day = reader.u64()?.cast_signed();
        let link = Count { day: reader.u64()?, month: reader.u64()? };
        let mut usage = Self { day, link, contracts: BTreeMap::new() };
        while reader.left() > 0 && usage.contracts.len() < CONTRACTS_MAX {
            let name = reader.text()?.to_owned();
            let count = Count { day: reader.u64()?, month: reader.u64()? };
            if let Ok(contract) = ContractId::parse(&name) {
                usage.contracts.insert(contract, count);
            }
        }
        Ok(usage)
    }
}

/// Year and month of a day since 1970 (UTC), to be compared.
fn month_of(day: i64) -> Option<(i32, time::Month)> {
    let days = i32::try_from(day.saturating_add(JULIAN_DAY_OF_1970)).ok()?;
    let date = time::Date::from_julian_day(days).ok()?;
    Some((date.year(), date.month()))
}
