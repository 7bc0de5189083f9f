//! Numbers: decimal-scaled integers, pco or raw bytes, whatever is cheapest for the column.
//!
//! A double that was made from a decimal with few digits is that decimal: n / 10^p gives the very same
//! bits. Then n is a small integer with small differences. Noisy doubles go to pco.

use super::cheapest;
use crate::DecodeFault;
use guan_model::bytes_io::{Reader, Writer};
use pco::ChunkConfig;
use pco::data_types::Number;

/// pco's own headers cost more than short columns.
pub(super) const PCO_VALUES_MIN: usize = 24;
const DECIMALS_MAX: u8 = 12;
/// Beyond 2^53 an integer is no longer exact in a double.
const DECIMAL_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

const DELTA: u8 = 0;
const PCO: u8 = 1;
const RAW: u8 = 2;
const PLAIN: u8 = 3;
/// Tags from here on are decimal-scaled by the number above it.
const DECIMAL: u8 = 0x10;

pub(super) fn pco_bytes<T: Number>(values: &[T]) -> Vec<u8> {
    pco::standalone::simple_compress(values, &ChunkConfig::default())
        .expect("pco compresses any numbers with its default settings")
}

pub(super) fn pco_values<T: Number + Default>(
    bytes: &[u8],
    rows: usize,
) -> Result<Vec<T>, DecodeFault> {
    // Into a slice of known size, so that what the bytes announce cannot make memory grow.
    let mut values = vec![T::default(); rows];
    let progress = pco::standalone::simple_decompress_into(bytes, &mut values)
        .map_err(|_| DecodeFault::Value { what: "pco column" })?;
    match progress.finished && progress.n_processed == rows {
        true => Ok(values),
        false => Err(DecodeFault::Count),
    }
}

fn deltas(values: &[i64]) -> Vec<u8> {
    let (mut out, mut last) = (Writer::new(), 0_i64);
    for value in values {
        out.signed(value.wrapping_sub(last));
        last = *value;
    }
    out.finish()
}

fn undo_deltas(bytes: &[u8], rows: usize) -> Result<Vec<i64>, DecodeFault> {
    let (mut reader, mut last) = (Reader::new(bytes), 0_i64);
    let mut values = Vec::with_capacity(rows);
    for _ in 0..rows {
        last = last.wrapping_add(reader.signed()?);
        values.push(last);
    }
    reader.end()?;
    Ok(values)
}

fn plain(values: &[i64]) -> Vec<u8> {
    let mut out = Writer::new();
    values.iter().for_each(|value| out.signed(*value));
    out.finish()
}

fn undo_plain(bytes: &[u8], rows: usize) -> Result<Vec<i64>, DecodeFault> {
    let mut reader = Reader::new(bytes);
    let values: Result<Vec<i64>, _> = (0..rows).map(|_| reader.signed()).collect();
    reader.end()?;
    Ok(values?)
}

fn finish(candidates: Vec<(u8, Vec<u8>)>, out: &mut Writer) {
    let (tag, bytes) = cheapest(candidates);
    out.u8(tag);
    out.bytes(&bytes);
}

pub(crate) fn write_i64(values: &[i64], out: &mut Writer) {
    if values.is_empty() {
        return;
    }
    let mut candidates = vec![(DELTA, deltas(values)), (PLAIN, plain(values))];
    if values.len() >= PCO_VALUES_MIN {
        candidates.push((PCO, pco_bytes(values)));
    }
    finish(candidates, out);
}

pub(crate) fn read_i64(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<i64>, DecodeFault> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let (tag, bytes) = (reader.u8()?, reader.bytes()?);
    match tag {
        DELTA => undo_deltas(bytes, rows),
        PLAIN => undo_plain(bytes, rows),
        PCO => pco_values(bytes, rows),
        code => Err(DecodeFault::Encoding { column: "i64", code }),
    }
}

/// The same bits as signed numbers: differences wrap, so nothing is lost above `i64::MAX`.
pub(crate) fn write_u64(values: &[u64], out: &mut Writer) {
    let signed: Vec<i64> = values.iter().map(|value| value.cast_signed()).collect();
    write_i64(&signed, out);
}

pub(crate) fn read_u64(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<u64>, DecodeFault> {
    Ok(read_i64(rows, reader)?.into_iter().map(i64::cast_unsigned).collect())
}

pub(crate) fn write_f32(values: &[f32], out: &mut Writer) {
    if values.is_empty() {
        return;
    }
    let raw = shuffle(&values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let mut candidates = vec![(RAW, raw)];
    if values.len() >= PCO_VALUES_MIN {
        candidates.push((PCO, pco_bytes(values)));
    }
    finish(candidates, out);
}

pub(crate) fn read_f32(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<f32>, DecodeFault> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let (tag, bytes) = (reader.u8()?, reader.bytes()?);
    match tag {
        RAW => Ok(unshuffle(bytes, rows)?.into_iter().map(f32::from_le_bytes).collect()),
        PCO => pco_values(bytes, rows),
        code => Err(DecodeFault::Encoding { column: "f32", code }),
    }
}

pub(crate) fn write_f64(values: &[f64], out: &mut Writer) {
    if values.is_empty() {
        return;
    }
    let raw = shuffle(&values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let mut candidates = vec![(RAW, raw)];
    if let Some((decimals, integers)) = decimal(values) {
        let mut inner = Writer::new();
        write_i64(&integers, &mut inner);
        candidates.push((DECIMAL + decimals, inner.finish()));
    }
    if values.len() >= PCO_VALUES_MIN {
        candidates.push((PCO, pco_bytes(values)));
    }
    finish(candidates, out);
}

pub(crate) fn read_f64(rows: usize, reader: &mut Reader<'_>) -> Result<Vec<f64>, DecodeFault> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let (tag, bytes) = (reader.u8()?, reader.bytes()?);
    match tag {
        RAW => Ok(unshuffle(bytes, rows)?.into_iter().map(f64::from_le_bytes).collect()),
        PCO => pco_values(bytes, rows),
        tag if (DECIMAL..=DECIMAL + DECIMALS_MAX).contains(&tag) => {
            let mut inner = Reader::new(bytes);
            let integers = read_i64(rows, &mut inner)?;
            inner.end()?;
            Ok(integers.into_iter().map(|integer| undo_decimal(integer, tag - DECIMAL)).collect())
        }
        code => Err(DecodeFault::Encoding { column: "f64", code }),
    }
}

fn power(decimals: u8) -> f64 {
    10_f64.powi(i32::from(decimals))
}

#[expect(clippy::cast_precision_loss, reason = "write_f64 checked that the bits come back")]
fn undo_decimal(integer: i64, decimals: u8) -> f64 {
    integer as f64 / power(decimals)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked before the cast")]
fn scale(value: f64, decimals: u8) -> Option<i64> {
    let scaled = (value * power(decimals)).round();
    if scaled.is_nan() || scaled.abs() > DECIMAL_INTEGER_MAX {
        return None;
    }
    let integer = scaled as i64;
    (undo_decimal(integer, decimals).to_bits() == value.to_bits()).then_some(integer)
}

/// The fewest decimals with which every value comes back bit for bit.
fn decimal(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut decimals = 0;
    for value in values {
        // Digits that the columns so far need are enough for most values: this loop hardly turns.
        while scale(*value, decimals).is_none() {
            decimals += 1;
            if decimals > DECIMALS_MAX {
                return None;
            }
        }
    }
    let integers: Option<Vec<i64>> = values.iter().map(|value| scale(*value, decimals)).collect();
    integers.map(|integers| (decimals, integers))
}

/// All first bytes, then all second bytes: neighbours in a column share their high bytes.
fn shuffle<const N: usize>(values: &[[u8; N]]) -> Vec<u8> {
    (0..N).flat_map(|plane| values.iter().map(move |value| value[plane])).collect()
}

fn unshuffle<const N: usize>(bytes: &[u8], rows: usize) -> Result<Vec<[u8; N]>, DecodeFault> {
    if rows.checked_mul(N) != Some(bytes.len()) {
        return Err(DecodeFault::Count);
    }
    Ok((0..rows).map(|row| std::array::from_fn(|plane| bytes[plane * rows + row])).collect())
}
