//! Times: divided by the largest unit that they all are whole multiples of, then differences along each
//! series, or differences of differences, or pco, whatever is cheapest.

use super::{cheapest, number, quality};
use crate::DecodeFault;
use guan_model::WallTime;
use guan_model::bytes_io::{Reader, Writer};

const UNITS_NS: [i64; 4] = [1_000_000_000, 1_000_000, 1_000, 1];
const DELTA: u8 = 0;
const DELTA_OF_DELTA: u8 = 1;
const PCO: u8 = 2;

pub(crate) fn write_optional(times: &[Option<WallTime>], runs: &[usize], out: &mut Writer) {
    let missing: Vec<bool> = times.iter().map(Option::is_none).collect();
    quality::write_flags(&missing, out);
    let present: Vec<WallTime> = times.iter().copied().flatten().collect();
    write(&present, &present_runs(&missing, runs), out);
}

pub(crate) fn read_optional(
    rows: usize,
    runs: &[usize],
    reader: &mut Reader<'_>,
) -> Result<Vec<Option<WallTime>>, DecodeFault> {
    let missing = quality::read_flags(rows, reader)?;
    let count = missing.iter().filter(|missing| !**missing).count();
    let mut present = read(count, &present_runs(&missing, runs), reader)?.into_iter();
    Ok(missing.into_iter().map(|gone| if gone { None } else { present.next() }).collect())
}

/// Lengths of the series without their rows that have no time.
fn present_runs(missing: &[bool], runs: &[usize]) -> Vec<usize> {
    let mut at = 0;
    let count = |run: &usize| {
        let rows = &missing[at..at + run];
        at += run;
        rows.iter().filter(|missing| !**missing).count()
    };
    runs.iter().map(count).collect()
}

pub(crate) fn write(times: &[WallTime], runs: &[usize], out: &mut Writer) {
    if times.is_empty() {
        return;
    }
    let divides = |unit: &&i64| times.iter().all(|time| time.0 % **unit == 0);
    let unit = UNITS_NS.iter().find(divides).copied().unwrap_or(1);
    let scaled: Vec<i64> = times.iter().map(|time| time.0 / unit).collect();
    let mut candidates =
        vec![(DELTA, deltas(&scaled, runs, false)), (DELTA_OF_DELTA, deltas(&scaled, runs, true))];
    if scaled.len() >= number::PCO_VALUES_MIN {
        candidates.push((PCO, number::pco_bytes(&scaled)));
    }
    let (tag, bytes) = cheapest(candidates);
    out.u8(tag);
    out.varint(unit.unsigned_abs());
    out.bytes(&bytes);
}

pub(crate) fn read(
    rows: usize,
    runs: &[usize],
    reader: &mut Reader<'_>,
) -> Result<Vec<WallTime>, DecodeFault> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let tag = reader.u8()?;
    let unit = i64::try_from(reader.varint()?).ok().filter(|unit| UNITS_NS.contains(unit));
    let unit = unit.ok_or(DecodeFault::Value { what: "unit of time" })?;
    let bytes = reader.bytes()?;
    let scaled = match tag {
        DELTA => undo_deltas(bytes, rows, runs, false)?,
        DELTA_OF_DELTA => undo_deltas(bytes, rows, runs, true)?,
        PCO => number::pco_values(bytes, rows)?,
        code => return Err(DecodeFault::Encoding { column: "time", code }),
    };
    let time = |value: i64| value.checked_mul(unit).map(WallTime);
    let times: Option<Vec<WallTime>> = scaled.into_iter().map(time).collect();
    times.ok_or(DecodeFault::Value { what: "time" })
}

/// A series begins where the one before began, not where it ended: they run side by side.
fn deltas(values: &[i64], runs: &[usize], twice: bool) -> Vec<u8> {
    let mut out = Writer::new();
    let (mut at, mut start) = (0, 0_i64);
    for run in runs {
        let (mut last, mut slope) = (start, 0_i64);
        for (index, value) in values[at..at + run].iter().enumerate() {
            let delta = value.wrapping_sub(last);
            out.signed(if twice { delta.wrapping_sub(slope) } else { delta });
            slope = if index == 0 { 0 } else { delta };
            last = *value;
        }
        start = values[at..at + run].first().copied().unwrap_or(start);
        at += run;
    }
    out.finish()
}

fn undo_deltas(
    bytes: &[u8],
    rows: usize,
    runs: &[usize],
    twice: bool,
) -> Result<Vec<i64>, DecodeFault> {
    let mut reader = Reader::new(bytes);
    let mut values = Vec::with_capacity(rows);
    let mut start = 0_i64;
    for run in runs {
        let (mut last, mut slope) = (start, 0_i64);
        for index in 0..*run {
            let coded = reader.signed()?;
            let delta = if twice { coded.wrapping_add(slope) } else { coded };
            slope = if index == 0 { 0 } else { delta };
            last = last.wrapping_add(delta);
            if index == 0 {
                start = last;
            }
            values.push(last);
        }
    }
    reader.end()?;
    if values.len() == rows { Ok(values) } else { Err(DecodeFault::Count) }
}
