//! What contracts have used up, kept as plain lists of everything that happened: no counters, no buckets.

use super::interpreter::number;
use guan_model::{ContractId, PointId, Quality, Reason, Row, Severity, Value, WallTime};
use guan_policy::constraint::{Period, QuotaKey, QuotaKind, Rate};
use guan_policy::duty::Statistic;
use std::collections::BTreeMap;
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
    windows: BTreeMap<Place, Open>,
}

/// One window of a point.
struct Open {
    start: i64,
    values: Vec<f64>,
    /// When the last reading came for it.
    touched: Option<WallTime>,
}

/// Length, statistic, and how many readings must stand behind a result.
pub(crate) type By = (Duration, Statistic, u64);

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

    /// Ends a window whose rules are no more: how many readings it has, and its result.
    pub(crate) fn end(&mut self, place: &Place, by: By, now: WallTime) -> (u64, Option<Row>) {
        let open = self.windows.remove(place).expect("a window that is open");
        (open.values.len() as u64, open.result(place.2, by, now))
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
        let length = i64::try_from(by.0.as_nanos()).unwrap();
        let moment = row.source_time.unwrap_or(row.gateway_time).0;
        if moment > row.gateway_time.0 + MINUTE {
            return None;
        }
        let open = self.windows.get(place);
        if open.is_some_and(|open| moment < open.start) {
            return None;
        }
        let mut result = None;
        if open.is_none_or(|open| moment >= open.start + length) {
            let ended = self.windows.remove(place);
            result = ended.and_then(|ended| ended.result(place.2, by, row.gateway_time));
            let start = moment.div_euclid(length) * length;
            self.windows.insert(place.clone(), Open { start, values: vec![], touched: None });
        }
        let open = self.windows.get_mut(place).unwrap();
        open.touched = open.touched.max(Some(row.gateway_time));
        let counts = row.quality.severity() != Severity::Bad;
        open.values.extend(number(row).filter(|value| counts && value.is_finite()));
        Some(result)
    }

    /// Ends a window that is quiet and over.
    pub(crate) fn flush(&mut self, place: &Place, by: By, now: WallTime) -> Option<Row> {
        let length = i64::try_from(by.0.as_nanos()).unwrap();
        let wait = length.min(MINUTE);
        let open = self.windows.get_mut(place)?;
        let touched = open.touched?;
        let end = open.start + length;
        if now.0 < end + wait || now.0 - touched.0 < wait {
            return None;
        }
        let next = Open { start: end, values: vec![], touched: None };
        std::mem::replace(open, next).result(place.2, by, now)
    }

    pub(crate) fn open_windows(&self) -> Vec<Place> {
        self.windows.keys().cloned().collect()
    }
}

impl Open {
    #[expect(clippy::cast_precision_loss, reason = "few readings")]
    fn result(&self, point: PointId, by: By, at: WallTime) -> Option<Row> {
        let (_, statistic, contributors_min) = by;
        let values = &self.values;
        if values.is_empty() || (values.len() as u64) < contributors_min {
            return None;
        }
        let value = match statistic {
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
