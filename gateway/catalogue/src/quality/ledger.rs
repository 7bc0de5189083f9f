//! All datasets of a box, day by day.

use super::figures::Figures;
use super::tally::{Tally, Yardstick};
use guan_model::{DatasetId, Row, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use time::macros::format_description;

/// Days that are remembered; the oldest goes when another begins.
pub const DAYS_KEPT: usize = 32;
const DAY_NANOS: i64 = 86_400_000_000_000;

/// A day in UTC, as the number of days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    pub fn of(at: WallTime) -> Self {
        Self(i32::try_from(at.0.div_euclid(DAY_NANOS)).expect("2^63 ns are 106,751 days"))
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        let number = i32::try_from(number).ok().map(Self)?;
        // What a WallTime can name.
        (-106_750..=106_750).contains(&number.0).then_some(number)
    }

    pub(super) fn number(self) -> i64 {
        i64::from(self.0)
    }

    pub fn begin(self) -> WallTime {
        WallTime(i64::from(self.0).saturating_mul(DAY_NANOS))
    }

    pub fn end(self) -> WallTime {
        WallTime(self.begin().0.saturating_add(DAY_NANOS))
    }

    /// `2026-11-24`.
    pub fn parse(text: &str) -> Option<Self> {
        let form = format_description!("[year]-[month]-[day]");
        let date = time::Date::parse(text, &form).ok()?;
        let seconds = date.midnight().assume_utc().unix_timestamp();
        Self::from_number(seconds.div_euclid(86_400))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = time::OffsetDateTime::from_unix_timestamp(i64::from(self.0) * 86_400);
        let date = moment.map_err(|_| fmt::Error)?.date();
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// One day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayTally {
    pub(super) from: WallTime,
    pub(super) until: WallTime,
    pub(super) tallies: BTreeMap<DatasetId, Tally>,
}

impl DayTally {
    fn new(from: WallTime) -> Self {
        Self { from, until: from, tallies: BTreeMap::new() }
    }

    /// Adds what was counted after this.
    pub fn merge(&mut self, later: &Self) {
        self.from = self.from.min(later.from);
        self.until = self.until.max(later.until);
        for (dataset, tally) in &later.tallies {
            self.tallies.entry(dataset.clone()).or_default().merge(tally);
        }
    }

    pub fn tally(&self, dataset: &DatasetId) -> Option<&Tally> {
        self.tallies.get(dataset)
    }
}

/// The last days of all datasets of a box.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    yardstick: Arc<Yardstick>,
    days: BTreeMap<Day, DayTally>,
    dirty: BTreeSet<Day>,
}

impl Ledger {
    pub fn new(yardstick: Arc<Yardstick>) -> Self {
        Self { yardstick, ..Self::default() }
    }

    /// Takes a day up again that was counted before; one that is there already is added to.
    pub fn restore(&mut self, day: Day, tally: DayTally) {
        match self.days.get_mut(&day) {
            Some(known) => known.merge(&tally),
            None => drop(self.days.insert(day, tally)),
        }
        self.forget_oldest();
    }

    /// Counts a reading that was accepted.
    pub fn observe(&mut self, row: &Row) {
        let yardstick = self.yardstick.clone();
        let Some(mark) = yardstick.mark(row.point) else { return };
        let dataset = &yardstick.datasets[mark.dataset];
        let day = self.day(row.gateway_time);
        if let Some(tally) = day.tallies.get_mut(dataset) {
            return tally.observe(mark, yardstick.timely_within[mark.dataset], row);
        }
        let tally = day.tallies.entry(dataset.clone()).or_default();
        tally.observe(mark, yardstick.timely_within[mark.dataset], row);
    }

    /// Counts a message that was refused whole.
    pub fn refuse(&mut self, now: WallTime, dataset: &DatasetId) {
        if self.yardstick.place(dataset).is_some() {
            self.day(now).tallies.entry(dataset.clone()).or_default().refuse();
        }
    }

    /// Time goes on: values are due whether or not they come.
    pub fn watch(&mut self, now: WallTime) {
        if !self.yardstick.datasets.is_empty() {
            self.day(now);
        }
    }

    fn day(&mut self, now: WallTime) -> &mut DayTally {
        let day = Day::of(now);
        if !self.days.contains_key(&day) {
            // Whoever watched the day before watched this one from its begin.
            let before = self.days.range_mut(..day).next_back();
            let from = match before {
                Some((previous, tally)) => {
                    tally.until = previous.end();
                    self.dirty.insert(*previous);
                    day.begin()
                }
                None => now,
            };
            self.days.insert(day, DayTally::new(from));
            self.forget_oldest();
        }
        self.dirty.insert(day);
        // A clock so far behind that the day is the oldest of all: it stands, alone.
        let tally = self.days.entry(day).or_insert_with(|| DayTally::new(now));
        tally.from = tally.from.min(now);
        tally.until = tally.until.max(now);
        tally
    }

    fn forget_oldest(&mut self) {
        while self.days.len() > DAYS_KEPT {
            let oldest = self.days.pop_first();
            oldest.map(|(day, _)| self.dirty.remove(&day));
        }
    }

    /// The days that changed since the last call, each as bytes to be kept.
    pub fn take_changed(&mut self) -> Vec<(Day, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let days = dirty.iter().filter_map(|day| Some((*day, self.days.get(day)?.encode(*day))));
        days.collect()
    }

    /// Days that are remembered, newest first.
    pub fn days(&self) -> impl Iterator<Item = Day> {
        self.days.keys().rev().copied()
    }

    /// What a dataset was like on a day; `None` when nothing was counted.
    pub fn figures(&self, day: Day, dataset: &DatasetId) -> Option<Figures> {
        let place = self.yardstick.place(dataset)?;
        let counted = self.days.get(&day)?;
        let due = self.yardstick.due_per_day[place];
        let empty = Tally::default();
        // A dataset that should have come and did not is a figure; one of which nothing is known is none.
        let tally = counted.tallies.get(dataset).or((due > 0).then_some(&empty))?;
        let watched = counted.until.since(counted.from);
        Some(tally.figures(due, self.yardstick.timely_within[place], watched))
    }
}
