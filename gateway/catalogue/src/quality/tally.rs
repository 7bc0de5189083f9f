//! Counts of one dataset on one day.

use super::delay::Delays;
use super::figures::{Figures, Share};
use guan_model::descriptor::POINTS_MAX;
use guan_model::{
    DatasetId, DescriptorTable, PointId, Reason, Row, Severity, Value, ValueType, WallTime,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// A reading that says it is from later than this after its receipt was not in time.
pub const AHEAD_MAX: Duration = Duration::from_secs(1);
const DAY_MS: u64 = 86_400_000;

/// What is expected of the values of one point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expectation {
    /// How often a value is due; at most a day.
    pub interval: Option<Duration>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

/// Why nothing can be measured with it; the operator is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YardstickFault {
    #[error("point {point}: an interval of {found:?} is not from 1 ms to a day; correct it")]
    Interval { point: PointId, found: Duration },
    #[error("point {point}: the range is empty or no number; low must not be above high")]
    Range { point: PointId },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) dataset: usize,
    value_type: ValueType,
    expectation: Expectation,
}

/// What all readings of a box are measured with. Immutable.
#[derive(Debug, Clone, Default)]
pub struct Yardstick {
    pub(super) datasets: Vec<DatasetId>,
    pub(super) timely_within: Vec<Duration>,
    /// Values that a day of each dataset should bring.
    pub(super) due_per_day: Vec<u64>,
    /// Sorted by point.
    marks: Vec<(PointId, Mark)>,
}

impl Yardstick {
    /// All faults are reported at once. Datasets without a limit of their own get `timely_within`.
    pub fn new(
        table: &DescriptorTable,
        expectations: &BTreeMap<PointId, Expectation>,
        limits: &BTreeMap<DatasetId, Duration>,
        timely_within: Duration,
    ) -> Result<Self, Vec<YardstickFault>> {
        let datasets: Vec<DatasetId> = table.datasets().into_iter().collect();
        let limit = |one| limits.get(one).copied().unwrap_or(timely_within);
        let mut faults = Vec::new();
        let mut yardstick = Self {
            timely_within: datasets.iter().map(limit).collect(),
            due_per_day: vec![0; datasets.len()],
            marks: Vec::new(),
            datasets,
        };
        for point in table.iter() {
            let place = yardstick.place(&point.dataset);
            let dataset = place.expect("datasets() names the dataset of each point");
            let expectation = expectations.get(&point.id).copied().unwrap_or_default();
            if let Err(fault) = check(point.id, &expectation) {
                faults.push(fault);
                continue;
            }
            if let Some(interval) = expectation.interval {
                yardstick.due_per_day[dataset] += DAY_MS / millis(interval);
            }
            let mark = Mark { dataset, value_type: point.value_type, expectation };
            yardstick.marks.push((point.id, mark));
        }
        debug_assert!(yardstick.marks.len() <= POINTS_MAX);
        if faults.is_empty() { Ok(yardstick) } else { Err(faults) }
    }

    pub fn datasets(&self) -> &[DatasetId] {
        &self.datasets
    }

    pub(super) fn place(&self, dataset: &DatasetId) -> Option<usize> {
        self.datasets.binary_search(dataset).ok()
    }

    pub(super) fn mark(&self, point: PointId) -> Option<&Mark> {
        let place = self.marks.binary_search_by_key(&point, |(id, _)| *id).ok()?;
        Some(&self.marks[place].1)
    }
}

fn check(point: PointId, expectation: &Expectation) -> Result<(), YardstickFault> {
    if let Some(found) = expectation.interval
        && !(1..=DAY_MS).contains(&millis(found))
    {
        return Err(YardstickFault::Interval { point, found });
    }
    let (low, high) = (expectation.low, expectation.high);
    let is_number = |bound: Option<f64>| bound.is_none_or(|bound| !bound.is_nan());
    let is_empty = low.zip(high).is_some_and(|(low, high)| low > high);
    match is_number(low) && is_number(high) && !is_empty {
        true => Ok(()),
        false => Err(YardstickFault::Range { point }),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// First and last reading of a point, so that the next tally can follow on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) first: WallTime,
    pub(super) last: WallTime,
    /// The first reading counts as consistent, as far as its own tally can see.
    pub(super) first_conforms: bool,
    /// Intervals into which the first and the last value fell.
    pub(super) slots: Option<(i64, i64)>,
}

/// Counts of one dataset on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) readings: u64,
    pub(super) refused: u64,
    pub(super) present: u64,
    /// Intervals with a value.
    pub(super) filled: u64,
    pub(super) accurate: u64,
    pub(super) timed: u64,
    pub(super) timely: u64,
    pub(super) inconsistent: u64,
    pub(super) delays: Delays,
    pub(super) edges: BTreeMap<PointId, Edge>,
}

impl Tally {
    pub(super) fn refuse(&mut self) {
        self.refused += 1;
    }

    pub(super) fn observe(&mut self, mark: &Mark, timely_within: Duration, row: &Row) {
        self.readings += 1;
        self.present += u64::from(row.value.is_some());
        self.accurate += u64::from(is_accurate(&mark.expectation, row));
        if let Some(source) = row.source_time {
            self.observe_delay(source, row.gateway_time, timely_within);
        }
        let time = row.source_time.unwrap_or(row.gateway_time);
        let slot = mark.expectation.interval.filter(|_| row.value.is_some());
        let slot = slot.map(|interval| slot_of(time, interval));
        let has_type = row.value.as_ref().is_none_or(|v| v.value_type() == mark.value_type)
            && row.quality.reason() != Some(Reason::Undecodable);
        let alone = Edge {
            first: time,
            last: time,
            first_conforms: has_type,
            slots: slot.map(|slot| (slot, slot)),
        };
        self.filled += u64::from(slot.is_some());
        self.inconsistent += u64::from(!has_type);
        self.follow(row.point, alone);
    }

    fn observe_delay(&mut self, source: WallTime, received: WallTime, within: Duration) {
        self.timed += 1;
        let delay = received.since(source);
        let is_ahead = source.since(received) > AHEAD_MAX;
        self.timely += u64::from(!is_ahead && delay <= within);
        if !is_ahead {
            self.delays.observe(delay);
        }
    }

    /// Sets what came later behind what is here. Its own counts must be in already.
    fn follow(&mut self, point: PointId, later: Edge) {
        let Some(edge) = self.edges.get_mut(&point) else {
            self.edges.insert(point, later);
            return;
        };
        // A reading that contradicts the type is counted already.
        if later.first < edge.last && later.first_conforms {
            self.inconsistent += 1;
        }
        edge.last = later.last;
        edge.slots = match (edge.slots, later.slots) {
            (Some((first, last)), Some((next, end))) => {
                self.filled -= u64::from(last == next);
                Some((first, end))
            }
            (known, None) | (None, known) => known,
        };
    }

    /// Adds what was counted after this.
    pub fn merge(&mut self, later: &Self) {
        let sums = [
            (&mut self.readings, later.readings),
            (&mut self.refused, later.refused),
            (&mut self.present, later.present),
            (&mut self.filled, later.filled),
            (&mut self.accurate, later.accurate),
            (&mut self.timed, later.timed),
            (&mut self.timely, later.timely),
            (&mut self.inconsistent, later.inconsistent),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.delays.merge(&later.delays);
        for (point, edge) in &later.edges {
            self.follow(*point, *edge);
        }
    }

    /// `watched`: for how long values were due.
    pub(super) fn figures(
        &self,
        due_per_day: u64,
        timely_within: Duration,
        watched: Duration,
    ) -> Figures {
        let all = self.readings.saturating_add(self.refused);
        let completeness = match due_per_day {
            0 => Share::of(self.present, all),
            _ => {
                let due = u128::from(due_per_day) * watched.as_millis() / u128::from(DAY_MS);
                Share::of(self.filled, u64::try_from(due).unwrap_or(u64::MAX))
            }
        };
        Figures {
            readings: self.readings,
            refused: self.refused,
            completeness,
            accuracy: Share::of(self.accurate, self.readings),
            timeliness: Share::of(self.timely, self.timed),
            consistency: Share::of(self.readings.saturating_sub(self.inconsistent), all),
            delay_p50_ms: self.delays.percentile(50),
            delay_p99_ms: self.delays.percentile(99),
            timely_within_ms: millis(timely_within),
        }
    }
}

fn is_accurate(expectation: &Expectation, row: &Row) -> bool {
    let Some(value) = &row.value else { return false };
    let in_range = number(value).is_none_or(|number| {
        // Written so that NaN is outside of any range.
        expectation.low.is_none_or(|low| number >= low)
            && expectation.high.is_none_or(|high| number <= high)
    });
    row.quality.severity() == Severity::Good && in_range
}

#[expect(clippy::cast_precision_loss, reason = "a bound is a double; 2^53 is beyond any sensor")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::I64(number) => Some(*number as f64),
        Value::U64(number) => Some(*number as f64),
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        Value::Bool(_) | Value::Text(_) | Value::Bytes(_) => None,
    }
}

fn slot_of(time: WallTime, interval: Duration) -> i64 {
    let nanos = i64::try_from(interval.as_nanos()).expect("an interval is at most a day");
    time.0.div_euclid(nanos)
}
