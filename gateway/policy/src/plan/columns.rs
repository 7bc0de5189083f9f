//! Programs answered for up to 64 readings at once: columns in, one bit a reading out.
//!
//! Says of each reading what `Program::truth` says; `tests/reference` holds both to the rules. Never asks a
//! counter: what one reading uses up changes the answer for the next.

use super::program::{Live, Program, Reading, answer};
use crate::constraint::Test;
use crate::interval::Comparison;
use crate::situation::Situation;
use crate::transform::{bytes, number};
use crate::truth::Truth;
use guan_model::{ClockQuality, Column, Quality, Series, Severity, WallTime};
use std::time::Duration;

/// Readings of a block.
pub(super) const BLOCK_ROWS: usize = 64;

/// Some neighbouring rows of a series, at most [`BLOCK_ROWS`].
#[derive(Clone, Copy)]
pub(super) struct Block<'b> {
    situation: &'b Situation,
    series: &'b Series,
    from: usize,
    until: usize,
}

/// For each reading, whether the answer is true and whether it is false; where it is neither, it is
/// unknown. Bits past the block's end mean nothing.
#[derive(Clone, Copy)]
pub(super) struct Answers {
    pub(super) is_true: u64,
    pub(super) is_false: u64,
}

impl Answers {
    const UNKNOWN: Self = Self { is_true: 0, is_false: 0 };

    fn all(truth: Truth) -> Self {
        let all = |is: bool| if is { u64::MAX } else { 0 };
        Self { is_true: all(truth == Truth::True), is_false: all(truth == Truth::False) }
    }

    fn known(is_true: u64) -> Self {
        Self { is_true, is_false: !is_true }
    }
}

/// What tests may ask of a row.
pub(crate) fn reading(series: &Series, row: usize) -> Reading {
    let gateway_time = series.gateway_times[row];
    Reading {
        event_time: series.source_times[row].unwrap_or(gateway_time),
        gateway_time,
        quality: series.qualities[row],
        value: number(&series.values, row),
        bytes: bytes(&series.values, row),
    }
}

impl<'b> Block<'b> {
    /// The block that begins at a row of a series.
    pub(super) fn at(situation: &'b Situation, series: &'b Series, from: usize) -> Self {
        let until = series.rows().min(from + BLOCK_ROWS);
        Self { situation, series, from, until }
    }

    /// A bit for each of its readings.
    pub(super) fn rows(&self) -> u64 {
        u64::MAX >> (BLOCK_ROWS - (self.until - self.from))
    }

    fn qualities(&self) -> &[Quality] {
        &self.series.qualities[self.from..self.until]
    }

    /// When each reading was measured and when it came.
    fn times(&self) -> impl Iterator<Item = (WallTime, WallTime)> {
        let source_times = &self.series.source_times[self.from..self.until];
        let gateway_times = &self.series.gateway_times[self.from..self.until];
        let pairs = source_times.iter().zip(gateway_times);
        pairs.map(|(source, gateway)| (source.unwrap_or(*gateway), *gateway))
    }

    /// The answer to each row alone, for tests that have no columns of their own.
    fn row_by_row(&self, test: &Test) -> Answers {
        let mut answers = Answers::UNKNOWN;
        for row in self.from..self.until {
            let reading = reading(self.series, row);
            let live = Live { situation: self.situation, reading: &reading, counted: None };
            let bit = 1 << (row - self.from);
            match answer(test, live) {
                Truth::True => answers.is_true |= bit,
                Truth::False => answers.is_false |= bit,
                Truth::Unknown => {}
            }
        }
        answers
    }

    /// The answer to the first row, for what is the same for all.
    fn first_row(&self, program: &Program) -> Answers {
        let reading = reading(self.series, self.from);
        let live = Live { situation: self.situation, reading: &reading, counted: None };
        Answers::all(program.truth(live))
    }

    fn value(&self, comparison: Comparison, limit: f64) -> Answers {
        let rows = self.from..self.until;
        #[allow(clippy::cast_precision_loss, reason = "as `number` does")]
        Answers::known(match &self.series.values {
            Column::F64(values) => compare(values[rows].iter().copied(), comparison, limit),
            Column::F32(values) => {
                compare(values[rows].iter().map(|value| f64::from(*value)), comparison, limit)
            }
            Column::I64(values) => {
                compare(values[rows].iter().map(|value| *value as f64), comparison, limit)
            }
            Column::U64(values) => {
                compare(values[rows].iter().map(|value| *value as f64), comparison, limit)
            }
            Column::Bool(values) => {
                let values = values[rows].iter().map(|value| f64::from(u8::from(*value)));
                compare(values, comparison, limit)
            }
            Column::Absent | Column::Text(_) | Column::Bytes(_) => return Answers::UNKNOWN,
        })
    }

    fn age(&self, comparison: Comparison, limit: Duration) -> Answers {
        if self.situation.now.quality == ClockQuality::Unset {
            return Answers::UNKNOWN;
        }
        // As `WallTime::since`, in whole nanoseconds: contracts name no more than a hundred years.
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let ages = self.times().map(|(measured, came)| match measured < came {
            true => came.0.abs_diff(measured.0),
            false => 0,
        });
        Answers::known(compare(ages, comparison, limit))
    }

    fn quality(&self, comparison: Comparison, severity: Severity) -> Answers {
        let all = [Severity::Good, Severity::Uncertain, Severity::Bad];
        let holds = all.map(|one| comparison.holds(&one, &severity));
        Answers::known(bits(
            self.qualities().iter().map(|quality| holds[quality.severity() as usize]),
        ))
    }
}

impl Program {
    pub(super) fn answers(&self, block: &Block<'_>) -> Answers {
        match self {
            Self::Known(truth) => Answers::all(*truth),
            Self::DateTime(_) => block.first_row(self),
            Self::EventTime(set) => {
                Answers::known(bits(block.times().map(|(measured, _)| set.contains(measured.0))))
            }
            Self::Test(test) => match test {
                Test::Value(comparison, limit) => block.value(*comparison, *limit),
                Test::Quality(comparison, severity) => block.quality(*comparison, *severity),
                Test::Age(comparison, limit) => block.age(*comparison, *limit),
                Test::Place { .. } => block.row_by_row(test),
                _ => block.first_row(self),
            },
            Self::And(parts) => {
                let mut all = Answers::all(Truth::True);
                for part in parts {
                    let part = part.answers(block);
                    all.is_true &= part.is_true;
                    all.is_false |= part.is_false;
                    if block.rows() & !all.is_false == 0 {
                        break;
                    }
                }
                all
            }
            Self::Or(parts) => {
                let mut any = Answers::all(Truth::False);
                for part in parts {
                    let part = part.answers(block);
                    any.is_true |= part.is_true;
                    any.is_false &= part.is_false;
                    if block.rows() & !any.is_true == 0 {
                        break;
                    }
                }
                any
            }
            Self::Xone(parts) => exactly_one(parts.iter().map(|part| part.answers(block))),
        }
    }
}

/// As [`crate::truth::ExactlyOne`], for each reading.
fn exactly_one(parts: impl Iterator<Item = Answers>) -> Answers {
    let (mut once, mut twice, mut unknown) = (0, 0, 0);
    for part in parts {
        twice |= once & part.is_true;
        once |= part.is_true;
        unknown |= !(part.is_true | part.is_false);
    }
    let open = unknown & !twice;
    let is_true = once & !twice & !open;
    Answers { is_true, is_false: !(is_true | open) }
}

/// One loop for each operator, so that the operator is not asked again for each value.
fn compare<T: PartialOrd>(
    values: impl Iterator<Item = T>,
    comparison: Comparison,
    limit: T,
) -> u64 {
    match comparison {
        Comparison::Eq => bits(values.map(|value| value == limit)),
        Comparison::Neq => bits(values.map(|value| value != limit)),
        Comparison::Lt => bits(values.map(|value| value < limit)),
        Comparison::Lteq => bits(values.map(|value| value <= limit)),
        Comparison::Gt => bits(values.map(|value| value > limit)),
        Comparison::Gteq => bits(values.map(|value| value >= limit)),
    }
}

/// The first answer in the lowest bit.
fn bits(answers: impl Iterator<Item = bool>) -> u64 {
    let mut bits = 0;
    let mut next = 1_u64;
    for is in answers {
        bits |= if is { next } else { 0 };
        next = next.rotate_left(1);
    }
    bits
}
