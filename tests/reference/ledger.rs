//! What contracts have used up, kept as plain lists of everything that happened: no counters, no buckets.

use super::interpreter::number;
use guan_model::{ContractId, PointId, Quality, Reason, Row, Severity, Value, WallTime};
use guan_policy::constraint::{Period, QuotaKey, QuotaKind, Rate};
use guan_policy::duty::Statistic;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;
/// The longest that a window waits, and that a source may be ahead.
const MINUTE: i64 = 60 * SECOND;

/// A contract, a rule and a point.
pub(crate) type Place = (ContractId, String, PointId);

#[derive(Default)]
pub(crate) struct Ledger {
    /// Each reading that was let go: when, by the clock of the box, and its bytes.
    charges: Vec<(ContractId, WallTime, u64, Vec<QuotaKey>)>,
    /// Each reading that was let go: of which rule, when it came, and which rates the rule then had.
    takes: Vec<(ContractId, String, WallTime, Vec<Rate>)>,
    seen: BTreeMap<Place, u64>,
    /// By the point on which results leave.
    windows: BTreeMap<Place, Windows>,
    /// Results of groups, and windows with enough readings of too few points.
    pub(crate) of_groups: u64,
    pub(crate) withheld: u64,
    /// Windows of groups that ended for want of room.
    pub(crate) crowded: u64,
}

/// Those of a point, of which one is open, or of a group.
#[derive(Default)]
struct Windows {
    /// What is before it is late.
    from: Option<i64>,
    open: Vec<Open>,
}

/// One window.
struct Open {
    start: i64,
    /// Each value, and whose it is.
    values: Vec<(PointId, f64)>,
    /// When the last reading came for it.
    touched: Option<WallTime>,
}

/// Windows of a group that are open at a time.
const OPEN_MAX: usize = 8;

/// How long a window is, what it gives, and what must stand behind a result.
#[derive(Clone, Copy)]
pub(crate) struct By {
    pub(crate) length: Duration,
    pub(crate) statistic: Statistic,
    pub(crate) readings_min: u64,
    /// Different points, of a group.
    pub(crate) points_min: Option<u64>,
}

/// Days since 1970 to months, by counting years and months one after the other.
fn month(day: i64) -> i64 {
    let (mut year, mut left) = (1970, day);
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        for (place, days) in (0..).zip(days) {
            if left < days {
                return year * 12 + place;
            }
            left -= days;
        }
        year += 1;
    }
}

fn period(period: Period, at: WallTime) -> i64 {
    match period {
        Period::Total => 0,
        Period::Minute => at.0 / MINUTE,
        Period::Hour => at.0 / (60 * MINUTE),
        Period::Day => at.0 / (24 * 60 * MINUTE),
        Period::Month => month(at.0 / (24 * 60 * MINUTE)),
    }
}

fn bytes(row: &Row) -> u64 {
    let value = match &row.value {
        None => 0,
        Some(Value::Bool(_)) => 1,
        Some(Value::F32(_)) => 4,
        Some(Value::Text(text)) => text.len(),
        Some(Value::Bytes(bytes)) => bytes.len(),
        Some(_) => 8,
    };
    value as u64 + 8
}

impl Ledger {
    pub(crate) fn cost(key: QuotaKey, row: &Row) -> u64 {
        if key.kind == QuotaKind::Count { 1 } else { bytes(row) }
    }

    /// Everything since the latest period began, if that is not over.
    pub(crate) fn used(&self, contract: &ContractId, key: QuotaKey, now: WallTime) -> u64 {
        // What a contract did not ask for then, was not counted.
        let own = self.charges.iter();
        let own = own.filter(|(of, _, _, keys)| of == contract && keys.contains(&key));
        let all: Vec<(i64, u64)> = own
            .map(|(_, at, bytes, _)| {
                let cost = if key.kind == QuotaKind::Count { 1 } else { *bytes };
                (period(key.period, *at), cost)
            })
            .collect();
        let Some(latest) = all.iter().map(|(period, _)| *period).max() else { return 0 };
        if latest < period(key.period, now) {
            return 0;
        }
        all.iter().skip_while(|(period, _)| *period != latest).map(|(_, cost)| cost).sum()
    }

    /// Over every span since a reading went: no more than the bucket holds and has got since then.
    pub(crate) fn has_room(
        &self,
        contract: &ContractId,
        rule: &str,
        rate: Rate,
        at: WallTime,
    ) -> bool {
        let cost = i128::from((rate.per_s * 1_000_000_000 / rate.readings).max(1));
        let full = cost * i128::from(rate.readings);
        let own = self
            .takes
            .iter()
            .filter(|(of, by, _, rates)| of == contract && by == rule && rates.contains(&rate));
        let mut latest = i64::MIN;
        let times: Vec<i64> = own
            .map(|(_, _, at, _)| {
                latest = latest.max(at.0);
                latest
            })
            .collect();
        let now = latest.max(at.0);
        let count = times.len();
        (0..count).all(|from| {
            let taken = cost * (count - from) as i128;
            taken - i128::from(now - times[from]) + cost <= full
        })
    }

    /// A reading was let go.
    pub(crate) fn note(
        &mut self,
        (contract, rule): (&ContractId, &str),
        (keys, rates): (Vec<QuotaKey>, Vec<Rate>),
        now: WallTime,
        row: &Row,
    ) {
        self.charges.push((contract.clone(), now, bytes(row), keys));
        self.takes.push((contract.clone(), rule.to_owned(), row.gateway_time, rates));
    }

    /// A contract is gone: what it used up stays, what it had begun does not.
    pub(crate) fn forget(&mut self, contract: &ContractId) {
        self.takes.retain(|(of, ..)| of != contract);
        self.seen.retain(|(of, ..), _| of != contract);
    }

    /// Ends windows whose rules are no more: how many readings each has, and its result.
    pub(crate) fn end(&mut self, place: &Place, by: By, now: WallTime) -> Vec<(u64, Option<Row>)> {
        let ended = self.windows.remove(place).expect("a window that is open");
        let results =
            ended.open.iter().map(|one| (one.values.len() as u64, one.result(place.2, by, now)));
        results.collect()
    }

    /// Whether the next reading of a point is one of those that stay.
    pub(crate) fn stays(&mut self, place: &Place, one_of: u64) -> bool {
        let seen = self.seen.entry(place.clone()).or_default();
        *seen += 1;
        (*seen - 1).is_multiple_of(one_of)
    }

    /// Takes a reading into its window; `None` when it came too late, else the result of the window that
    /// it ended, if any.
    pub(crate) fn absorb(&mut self, place: &Place, by: By, row: &Row) -> Option<Option<Row>> {
        let length = i64::try_from(by.length.as_nanos()).unwrap();
        let moment = row.source_time.unwrap_or(row.gateway_time).0;
        if moment > row.gateway_time.0 + MINUTE {
            return None;
        }
        let windows = self.windows.entry(place.clone()).or_default();
        if windows.from.is_some_and(|from| moment < from) {
            return None;
        }
        let start = moment.div_euclid(length) * length;
        let is_new = windows.open.iter().all(|one| one.start != start);
        let oldest = windows.open.iter().map(|one| one.start).min();
        let mut ended = None;
        let is_full = match by.points_min {
            // A point has one window, and what is before it is late.
            None => windows.open.len() == 1,
            Some(_) => windows.open.len() == OPEN_MAX,
        };
        if is_new && is_full {
            let oldest = oldest.expect("it is full");
            if start < oldest {
                return None;
            }
            let at = windows.open.iter().position(|one| one.start == oldest).unwrap();
            let one = windows.open.remove(at);
            ended = one.result(place.2, by, row.gateway_time);
            self.withheld += u64::from(one.is_of_too_few(by));
            self.of_groups += u64::from(by.points_min.is_some() && ended.is_some());
            self.crowded += u64::from(by.points_min.is_some());
            windows.from = Some(oldest + length);
        }
        if is_new {
            windows.open.push(Open { start, values: vec![], touched: None });
        }
        let open = windows.open.iter_mut().find(|one| one.start == start).unwrap();
        open.touched = open.touched.max(Some(row.gateway_time));
        let counts = row.quality.severity() != Severity::Bad;
        let value = number(row).filter(|value| counts && value.is_finite());
        open.values.extend(value.map(|value| (row.point, value)));
        Some(ended)
    }

    /// Ends the windows that are quiet and over, the first in time before the others.
    pub(crate) fn flush(&mut self, place: &Place, by: By, now: WallTime) -> Vec<Row> {
        let length = i64::try_from(by.length.as_nanos()).unwrap();
        let wait = length.min(MINUTE);
        let Some(windows) = self.windows.get_mut(place) else { return Vec::new() };
        let mut results = Vec::new();
        windows.open.sort_by_key(|one| one.start);
        while let Some(first) = windows.open.first() {
            let end = first.start + length;
            let is_quiet = first.touched.is_some_and(|touched| now.0 - touched.0 >= wait);
            if now.0 < end + wait || !is_quiet {
                break;
            }
            let first = windows.open.remove(0);
            self.withheld += u64::from(first.is_of_too_few(by));
            let result = first.result(place.2, by, now);
            self.of_groups += u64::from(by.points_min.is_some() && result.is_some());
            results.extend(result);
            windows.from = Some(end);
        }
        results
    }

    pub(crate) fn open_windows(&self) -> Vec<Place> {
        self.windows.keys().cloned().collect()
    }
}

impl Open {
    /// How many different points gave a value that counts.
    fn points(&self) -> u64 {
        let points: BTreeSet<PointId> = self.values.iter().map(|(point, _)| *point).collect();
        points.len() as u64
    }

    fn is_of_too_few(&self, by: By) -> bool {
        let is_enough = !self.values.is_empty() && self.values.len() as u64 >= by.readings_min;
        is_enough && by.points_min.is_some_and(|points| self.points() < points)
    }

    #[expect(clippy::cast_precision_loss, reason = "few readings")]
    fn result(&self, point: PointId, by: By, at: WallTime) -> Option<Row> {
        let values: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        let is_enough = !values.is_empty() && values.len() as u64 >= by.readings_min;
        if !is_enough || self.is_of_too_few(by) {
            return None;
        }
        let value = match by.statistic {
            Statistic::Count => values.len() as f64,
            Statistic::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
            Statistic::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Statistic::Mean => values.iter().sum::<f64>() / values.len() as f64,
            Statistic::Percentile(_) => unreachable!("a t-digest is no exact percentile"),
        };
        Some(Row {
            point,
            source_time: Some(WallTime(self.start)),
            gateway_time: at,
            quality: Quality::new(Severity::Uncertain, Reason::PolicyReduced),
            value: Some(Value::F64(value)),
        })
    }
}
