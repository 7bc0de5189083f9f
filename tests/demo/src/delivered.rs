//! What arrived, read back from the exported Parquet.

use crate::data::Reading;
use anyhow::{Context, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Readings of a file with how often each is there.
pub fn read(path: &Path) -> Result<BTreeMap<Reading, i64>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut readings = BTreeMap::new();
    for row in SerializedFileReader::new(file)?.get_row_iter(None)? {
        *readings.entry(reading(&row?)?).or_insert(0) += 1;
    }
    Ok(readings)
}

fn reading(row: &Row) -> Result<Reading> {
    let mut point = None;
    let mut source_time = None;
    let mut value = None;
    for (name, field) in row.get_column_iter() {
        match (name.as_str(), field) {
            ("point_name", Field::Str(text)) => point = Some(text.clone()),
            // The row reader has no type for nanoseconds and gives the plain number.
            ("source_time", Field::Long(nanos)) => source_time = Some(*nanos),
            ("value_f64", Field::Double(number)) => {
                value = Some(number.to_bits().to_be_bytes().to_vec());
            }
            ("value_bytes", Field::Bytes(bytes)) => value = Some(bytes.data().to_vec()),
            _ => {}
        }
    }
    let point = point.context("a row without a point")?;
    let value = value.with_context(|| format!("a row of {point} without a value: {row}"))?;
    Ok(Reading { point, source_time, value })
}

/// Readings that are missing, and readings that are there too often.
pub fn compare(
    published: &BTreeMap<Reading, i64>,
    delivered: &BTreeMap<Reading, i64>,
) -> (i64, i64) {
    let (mut lost, mut duplicated) = (0, 0);
    let all: std::collections::BTreeSet<_> = published.keys().chain(delivered.keys()).collect();
    for reading in all {
        let count = |side: &BTreeMap<Reading, i64>| side.get(reading).copied().unwrap_or(0);
        let difference = count(delivered) - count(published);
        lost += (-difference).max(0);
        duplicated += difference.max(0);
    }
    (lost, duplicated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_both_ways() {
        let readings = |list: &[(&str, i64)]| {
            let reading = |point: &str| Reading {
                point: point.to_owned(),
                source_time: None,
                value: Vec::new(),
            };
            list.iter().map(|(point, count)| (reading(point), *count)).collect()
        };
        let check = |published: &[(&str, i64)], delivered: &[(&str, i64)], expect| {
            assert_eq!(compare(&readings(published), &readings(delivered)), expect);
        };
        check(&[("a", 2)], &[("a", 2)], (0, 0));
        check(&[("a", 2)], &[("a", 1)], (1, 0));
        check(&[("a", 1)], &[("a", 3)], (0, 2));
        check(&[("a", 1)], &[("b", 1)], (1, 1));
    }
}
