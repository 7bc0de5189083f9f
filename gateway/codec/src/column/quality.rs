//! Run lengths: qualities and flags hardly ever change from row to row.

use crate::DecodeFault;
use guan_model::Quality;
use guan_model::bytes_io::{Reader, Writer};

fn runs<T: PartialEq + Copy>(values: &[T]) -> Vec<(T, usize)> {
    let mut runs: Vec<(T, usize)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if last == value => *count += 1,
            _ => runs.push((*value, 1)),
        }
    }
    runs
}

pub(crate) fn write(qualities: &[Quality], out: &mut Writer) {
    for (quality, count) in runs(qualities) {
        out.u16(quality.bits());
        out.varint(count as u64);
    }
}

pub(crate) fn read(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<Quality>, DecodeFault> {
    let mut qualities = Vec::with_capacity(rows);
    while qualities.len() < rows {
        let quality = Quality::from_bits(reader.u16()?);
        let quality = quality.ok_or(DecodeFault::Value { what: "quality" })?;
        let count = read_run(rows - qualities.len(), reader)?;
        qualities.resize(qualities.len() + count, quality);
    }
    Ok(qualities)
}

/// Lengths of runs of `false` and `true` in turn, `false` first.
pub(crate) fn write_flags(flags: &[bool], out: &mut Writer) {
    if flags.first() == Some(&true) {
        out.varint(0);
    }
    for (_, count) in runs(flags) {
        out.varint(count as u64);
    }
}

pub(crate) fn read_flags(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<bool>, DecodeFault> {
    let mut flags = Vec::with_capacity(rows);
    let mut value = false;
    while flags.len() < rows {
        let count = reader.varint()?;
        let count = usize::try_from(count).map_err(|_| DecodeFault::Count)?;
        // Only the first run may be empty, so that a flood of empty runs ends.
        if count > rows - flags.len() || (count == 0 && (value || !flags.is_empty())) {
            return Err(DecodeFault::Count);
        }
        flags.resize(flags.len() + count, value);
        value = !value;
    }
    Ok(flags)
}

fn read_run(left: usize, reader: &mut Reader<'_>) -> Result<usize, DecodeFault> {
    let count = usize::try_from(reader.varint()?).map_err(|_| DecodeFault::Count)?;
    if count == 0 || count > left { Err(DecodeFault::Count) } else { Ok(count) }
}
