//! Batches: readings of one dataset as columns, one series a point and type.
//!
//! A batch never mixes datasets, so that a contract can decide, seal, count and delete it whole. Rows
//! of a point keep the order in which they came; order between points is carried by their times.

use crate::{
    BootNumber, ClockQuality, ContractId, DatasetId, Digest, PointId, Quality, Value, ValueType,
    WallTime,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most rows in one batch.
pub const ROWS_PER_BATCH_MAX: usize = 8192;

/// One reading before it joins a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub point: PointId,
    /// When the source says it was; never overwritten. `None` when the source gave no time.
    pub source_time: Option<WallTime>,
    /// When the gateway received it, in steps of a millisecond.
    pub gateway_time: WallTime,
    pub quality: Quality,
    /// `None`: there is no value, and the quality says why.
    pub value: Option<Value>,
}

/// Values of one series.
#[derive(Debug, Clone)]
pub enum Column {
    /// Rows without a value (missing, or masked by a contract).
    Absent,
    Bool(Vec<bool>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Text(Vec<String>),
    Bytes(Vec<Bytes>),
}

impl Column {
    /// An empty column for values of a type; `None` is the column of absent values.
    pub fn of(value_type: Option<ValueType>) -> Self {
        match value_type {
            None => Self::Absent,
            Some(ValueType::Bool) => Self::Bool(Vec::new()),
            Some(ValueType::I64) => Self::I64(Vec::new()),
            Some(ValueType::U64) => Self::U64(Vec::new()),
            Some(ValueType::F32) => Self::F32(Vec::new()),
            Some(ValueType::F64) => Self::F64(Vec::new()),
            Some(ValueType::Text) => Self::Text(Vec::new()),
            Some(ValueType::Bytes) => Self::Bytes(Vec::new()),
        }
    }

    pub fn value_type(&self) -> Option<ValueType> {
        match self {
            Self::Absent => None,
            Self::Bool(_) => Some(ValueType::Bool),
            Self::I64(_) => Some(ValueType::I64),
            Self::U64(_) => Some(ValueType::U64),
            Self::F32(_) => Some(ValueType::F32),
            Self::F64(_) => Some(ValueType::F64),
            Self::Text(_) => Some(ValueType::Text),
            Self::Bytes(_) => Some(ValueType::Bytes),
        }
    }

    /// `None` for `Absent`, which has no length of its own.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Absent => None,
            Self::Bool(values) => Some(values.len()),
            Self::I64(values) => Some(values.len()),
            Self::U64(values) => Some(values.len()),
            Self::F32(values) => Some(values.len()),
            Self::F64(values) => Some(values.len()),
            Self::Text(values) => Some(values.len()),
            Self::Bytes(values) => Some(values.len()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    fn push(&mut self, value: Option<Value>) {
        match (self, value) {
            (Self::Absent, None) => {}
            (Self::Bool(values), Some(Value::Bool(value))) => values.push(value),
            (Self::I64(values), Some(Value::I64(value))) => values.push(value),
            (Self::U64(values), Some(Value::U64(value))) => values.push(value),
            (Self::F32(values), Some(Value::F32(value))) => values.push(value),
            (Self::F64(values), Some(Value::F64(value))) => values.push(value),
            (Self::Text(values), Some(Value::Text(value))) => values.push(value),
            (Self::Bytes(values), Some(Value::Bytes(value))) => values.push(value),
            _ => unreachable!("a series is looked up by the type of the value"),
        }
    }

    /// The values of some rows, in their order.
    fn select(&self, rows: &[usize]) -> Self {
        fn pick<T: Clone>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|row| values[*row].clone()).collect()
        }
        match self {
            Self::Absent => Self::Absent,
            Self::Bool(values) => Self::Bool(pick(values, rows)),
            Self::I64(values) => Self::I64(pick(values, rows)),
            Self::U64(values) => Self::U64(pick(values, rows)),
            Self::F32(values) => Self::F32(pick(values, rows)),
            Self::F64(values) => Self::F64(pick(values, rows)),
            Self::Text(values) => Self::Text(pick(values, rows)),
            Self::Bytes(values) => Self::Bytes(pick(values, rows)),
        }
    }

    /// Moves the values of another column of the same type behind these.
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Absent, Self::Absent) => {}
            (Self::Bool(values), Self::Bool(mut more)) => values.append(&mut more),
            (Self::I64(values), Self::I64(mut more)) => values.append(&mut more),
            (Self::U64(values), Self::U64(mut more)) => values.append(&mut more),
            (Self::F32(values), Self::F32(mut more)) => values.append(&mut more),
            (Self::F64(values), Self::F64(mut more)) => values.append(&mut more),
            (Self::Text(values), Self::Text(mut more)) => values.append(&mut more),
            (Self::Bytes(values), Self::Bytes(mut more)) => values.append(&mut more),
            _ => unreachable!("series are joined by point and type"),
        }
    }

    /// The value of a row; panics past the end, as a slice does.
    pub fn value(&self, row: usize) -> Option<Value> {
        match self {
            Self::Absent => None,
            Self::Bool(values) => Some(Value::Bool(values[row])),
            Self::I64(values) => Some(Value::I64(values[row])),
            Self::U64(values) => Some(Value::U64(values[row])),
            Self::F32(values) => Some(Value::F32(values[row])),
            Self::F64(values) => Some(Value::F64(values[row])),
            Self::Text(values) => Some(Value::Text(values[row].clone())),
            Self::Bytes(values) => Some(Value::Bytes(values[row].clone())),
        }
    }
}

/// Rows of one point with one type. All columns have the same length.
#[derive(Debug, Clone)]
pub struct Series {
    pub point: PointId,
    pub source_times: Vec<Option<WallTime>>,
    pub gateway_times: Vec<WallTime>,
    pub qualities: Vec<Quality>,
    pub values: Column,
}

impl Series {
    pub fn rows(&self) -> usize {
        self.qualities.len()
    }

    /// Some rows, in their order; panics past the end, as a slice does.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            point: self.point,
            source_times: rows.iter().map(|row| self.source_times[*row]).collect(),
            gateway_times: rows.iter().map(|row| self.gateway_times[*row]).collect(),
            qualities: rows.iter().map(|row| self.qualities[*row]).collect(),
            values: self.values.select(rows),
        }
    }

    /// Puts the rows of another series of the same point and type behind these.
    pub fn append(&mut self, mut other: Self) {
        assert_eq!(self.point, other.point, "series of one point are joined");
        self.source_times.append(&mut other.source_times);
        self.gateway_times.append(&mut other.gateway_times);
        self.qualities.append(&mut other.qualities);
        self.values.append(other.values);
    }

    pub fn row(&self, index: usize) -> Row {
        Row {
            point: self.point,
            source_time: self.source_times[index],
            gateway_time: self.gateway_times[index],
            quality: self.qualities[index],
            value: self.values.value(index),
        }
    }
}

/// What a batch says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    pub dataset: DatasetId,
    /// The contract under which the batch may leave; `None` before the decision.
    pub contract: Option<ContractId>,
    /// Digest of the descriptor table that its point ids refer to.
    pub descriptors: Digest,
    pub boot: BootNumber,
    /// When the batch was closed, since boot.
    pub monotonic: Duration,
    pub clock_quality: ClockQuality,
}

/// Readings of one dataset. Series are sorted by point, then by type (absent first).
#[derive(Debug, Clone)]
pub struct Batch {
    pub header: BatchHeader,
    pub series: Vec<Series>,
}

/// Why parts do not make a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    #[error("the batch has {rows} rows; the limit is {ROWS_PER_BATCH_MAX}")]
    TooManyRows { rows: usize },
    #[error("the columns of point {point} differ in length")]
    Ragged { point: PointId },
    #[error("the series of point {point} stands out of order or twice")]
    Order { point: PointId },
    #[error("the series of point {point} has no rows")]
    Empty { point: PointId },
    #[error("a value of point {point} is longer than its type allows")]
    TooLong { point: PointId },
}

impl Batch {
    /// Sorts rows into series. Rows of a point keep their order.
    pub fn from_rows(
        header: BatchHeader,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<Self, BatchFault> {
        type Key = (PointId, Option<ValueType>);
        let (mut series, mut places) = (Vec::new(), BTreeMap::<Key, usize>::new());
        // Rows of a series come in runs: the place of the last one is asked first.
        let mut last: Option<(Key, usize)> = None;
        for row in rows {
            let key = (row.point, row.value.as_ref().map(Value::value_type));
            let place = match last {
                Some((known, place)) if known == key => place,
                _ => *places.entry(key).or_insert_with(|| {
                    series.push(Series {
                        point: row.point,
                        source_times: Vec::new(),
                        gateway_times: Vec::new(),
                        qualities: Vec::new(),
                        values: Column::of(key.1),
                    });
                    series.len() - 1
                }),
            };
            last = Some((key, place));
            let entry: &mut Series = &mut series[place];
            entry.source_times.push(row.source_time);
            entry.gateway_times.push(row.gateway_time);
            entry.qualities.push(row.quality);
            entry.values.push(row.value);
        }
        series.sort_by_key(|one| (one.point, one.values.value_type()));
        Self::from_series(header, series)
    }

    /// Checks order, lengths and limits.
    pub fn from_series(header: BatchHeader, series: Vec<Series>) -> Result<Self, BatchFault> {
        let mut last: Option<(PointId, Option<ValueType>)> = None;
        let mut rows = 0;
        for one in &series {
            let key = (one.point, one.values.value_type());
            if last.is_some_and(|last| last >= key) {
                return Err(BatchFault::Order { point: one.point });
            }
            last = Some(key);
            let count = one.rows();
            if count == 0 {
                return Err(BatchFault::Empty { point: one.point });
            }
            let same = one.source_times.len() == count
                && one.gateway_times.len() == count
                && one.values.len().is_none_or(|len| len == count);
            if !same {
                return Err(BatchFault::Ragged { point: one.point });
            }
            let fits = match &one.values {
                Column::Text(texts) => {
                    texts.iter().all(|t| t.len() <= crate::value::TEXT_BYTES_MAX)
                }
                Column::Bytes(all) => all.iter().all(|b| b.len() <= crate::value::BYTES_BYTES_MAX),
                _ => true,
            };
            if !fits {
                return Err(BatchFault::TooLong { point: one.point });
            }
            rows += count;
        }
        if rows > ROWS_PER_BATCH_MAX {
            return Err(BatchFault::TooManyRows { rows });
        }
        Ok(Self { header, series })
    }

    pub fn rows(&self) -> usize {
        self.series.iter().map(Series::rows).sum()
    }

    pub fn iter_rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.series.iter().flat_map(|series| (0..series.rows()).map(|index| series.row(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            dataset: DatasetId::parse("d").unwrap(),
            contract: None,
            descriptors: Digest([0; 32]),
            boot: BootNumber(1),
            monotonic: Duration::ZERO,
            clock_quality: ClockQuality::Rtc,
        }
    }

    fn row(point: u32, value: Option<Value>) -> Row {
        Row {
            point: PointId(point),
            source_time: None,
            gateway_time: WallTime(5),
            quality: Quality::GOOD,
            value,
        }
    }

    #[test]
    fn rows_become_sorted_series() {
        let rows = vec![
            row(2, Some(Value::I64(1))),
            row(1, None),
            row(2, Some(Value::I64(2))),
            row(1, Some(Value::Bool(true))),
        ];
        let batch = Batch::from_rows(header(), rows).unwrap();
        let keys: Vec<_> =
            batch.series.iter().map(|s| (s.point.0, s.values.value_type(), s.rows())).collect();
        assert_eq!(
            keys,
            [(1, None, 1), (1, Some(ValueType::Bool), 1), (2, Some(ValueType::I64), 2)]
        );
        assert_eq!(batch.rows(), 4);
    }

    #[test]
    fn limit_is_exact() {
        let full = (0..ROWS_PER_BATCH_MAX).map(|_| row(1, None));
        assert_eq!(Batch::from_rows(header(), full).unwrap().rows(), ROWS_PER_BATCH_MAX);
        let over = (0..=ROWS_PER_BATCH_MAX).map(|_| row(1, None));
        assert_eq!(
            Batch::from_rows(header(), over).unwrap_err(),
            BatchFault::TooManyRows { rows: ROWS_PER_BATCH_MAX + 1 }
        );
    }

    #[test]
    fn ragged_columns_are_refused() {
        let series = Series {
            point: PointId(1),
            source_times: vec![None],
            gateway_times: vec![WallTime(0)],
            qualities: vec![Quality::GOOD],
            values: Column::I64(vec![1, 2]),
        };
        let fault = Batch::from_series(header(), vec![series]).unwrap_err();
        assert_eq!(fault, BatchFault::Ragged { point: PointId(1) });
    }
}
