//! Bytes a reading, on the real data: our codec beside JSON lines under zstd, in batches of several sizes.
//!
//! `cargo bench -p guan-tests --bench sizes`. Ends with one line of JSON.

use guan_codec::encode;
use guan_demo::data::{self, Dataset};
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, ContractId, DatasetId, Digest, PointId, Quality,
    Row, Value, WallTime,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const BATCH_ROWS: [usize; 3] = [128, 1024, 4096];
/// The level that the codec uses.
const ZSTD_LEVEL: i32 = 3;
/// Median of so many runs.
const RUNS: usize = 5;

/// Messages arrive one after the other, a millisecond apart.
fn rows(dataset: &Dataset) -> Vec<Row> {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let mut rows = Vec::with_capacity(dataset.messages.len());
    for (index, message) in (0_i64..).zip(&dataset.messages) {
        let next = u32::try_from(ids.len()).expect("few points");
        let reading = &message.reading;
        let id = *ids.entry(reading.point.as_str()).or_insert(next);
        let value = match (dataset.id, <[u8; 8]>::try_from(reading.value.as_slice())) {
            ("machine-temperature" | "office-climate", Ok(bits)) => {
                Value::F64(f64::from_bits(u64::from_be_bytes(bits)))
            }
            _ => Value::Bytes(reading.value.clone().into()),
        };
        rows.push(Row {
            point: PointId(id),
            source_time: reading.source_time.map(WallTime),
            gateway_time: WallTime::from_millis(1_800_000_000_000 + index),
            quality: Quality::GOOD,
            value: Some(value),
        });
    }
    rows
}

fn batch(dataset: &Dataset, rows: &[Row]) -> Batch {
    let header = BatchHeader {
        dataset: DatasetId::parse(dataset.id).expect("a valid name"),
        contract: Some(ContractId::parse("C-2026-001").expect("a valid name")),
        descriptors: Digest([0; 32]),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    Batch::from_rows(header, rows.iter().cloned()).expect("within the limits")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(a: usize, b: usize) -> f64 {
    (a as f64 / b as f64 * 100.0).round() / 100.0
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let datasets = data::read(&folder).expect("the data is there");
    println!(
        "{:<20} {:>6} {:>10} {:>12} {:>10} {:>14}",
        "dataset", "rows", "ours B/rdg", "JSON+zstd", "JSON", "encode rdg/s"
    );
    let mut results = Vec::new();
    for dataset in &datasets {
        let rows = rows(dataset);
        for size in BATCH_ROWS {
            let batches: Vec<Batch> = rows.chunks(size).map(|rows| batch(dataset, rows)).collect();
            let ours: usize = batches.iter().map(|batch| encode(batch).bytes.len()).sum();
            let times = (0..RUNS).map(|_| {
                let start = Instant::now();
                batches.iter().for_each(|batch| drop(encode(batch)));
                start.elapsed()
            });
            let time = median(times.collect());
            let json: usize = dataset.messages.iter().map(|one| one.payload.len() + 1).sum();
            let squeezed: usize = dataset
                .messages
                .chunks(size)
                .map(|messages| {
                    let lines: Vec<u8> = messages
                        .iter()
                        .flat_map(|one| [&one.payload[..], b"\n"].concat())
                        .collect();
                    zstd::bulk::compress(&lines, ZSTD_LEVEL).expect("zstd compresses").len()
                })
                .sum();
            let count = rows.len();
            let rate = u128::try_from(count).unwrap_or(0) * 1_000_000 / time.as_micros().max(1);
            println!(
                "{:<20} {size:>6} {:>10.2} {:>12.2} {:>10.2} {rate:>14}",
                dataset.id,
                ratio(ours, count),
                ratio(squeezed, count),
                ratio(json, count)
            );
            results.push(json!({
                "dataset": dataset.id, "batch_rows": size, "ours_bytes_per_reading": ratio(ours, count),
                "json_zstd_bytes_per_reading": ratio(squeezed, count),
                "json_bytes_per_reading": ratio(json, count), "encode_readings_per_s": rate,
            }));
        }
    }
    println!("{}", json!({"sizes": results}));
}
