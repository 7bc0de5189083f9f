//! Bytes a reading, on the real data: our codec, each batch alone and in a chain as on the link, beside the floors of
//! research/datapath.md (section 3) and JSON lines under zstd, in batches of several sizes.
//!
//! `cargo bench -p guan-tests --bench sizes`. Ends with one line of JSON.

use guan_codec::chain::{ChainReader, ChainWriter, PIECE_BYTES_MAX};
use guan_codec::{Squeeze, encode, plain};
use guan_demo::data::{self, Dataset};
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, ContractId, DatasetId, Digest, PointId, Quality,
    Row, Value, WallTime,
};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const BATCH_ROWS: [usize; 4] = [64, 1024, 4096, 8192];
/// What a batch alone and a kept stream took there, without names, quality, times of receipt and digests: data set,
/// rows, alone, kept. Its third set, the SKAB pump, may not be copied here (GPL).
const FLOORS: [(&str, usize, f64, f64); 6] = [
    ("machine-temperature", 64, 5.1, 4.3),
    ("machine-temperature", 1024, 3.86, 3.80),
    ("machine-temperature", 8192, 3.73, 3.72),
    ("vessel-bus", 64, 8.5, 3.9),
    ("vessel-bus", 1024, 3.5, 1.8),
    ("vessel-bus", 8192, 1.9, 1.26),
];
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
    let first = rows.first().map_or(0, |row| row.gateway_time.0 - 1_800_000_000_000_000_000);
    let header = BatchHeader {
        dataset: DatasetId::parse(dataset.id).expect("a valid name"),
        contract: Some(ContractId::parse("C-2026-001").expect("a valid name")),
        descriptors: Digest([0; 32]),
        boot: BootNumber(1),
        monotonic: Duration::from_nanos(u64::try_from(first).expect("after the first")),
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

/// All batches in one chain: its bytes, and how long it took to make it.
fn chained(plains: &[Vec<u8>], squeeze: Squeeze) -> (usize, Duration) {
    let started = Instant::now();
    let mut writer = ChainWriter::new(squeeze);
    let pieces: Vec<Vec<u8>> = plains.iter().map(|plain| writer.write(plain)).collect();
    let took = started.elapsed();
    let mut reader = ChainReader::new();
    for (piece, plain) in pieces.iter().zip(plains) {
        assert_eq!(&reader.read(piece, plain.len()).expect("our own"), plain);
    }
    (pieces.iter().map(Vec::len).sum(), took)
}

fn json_lines(dataset: &Dataset, size: usize) -> usize {
    let squeezed = dataset.messages.chunks(size).map(|messages| {
        let line = |message: &data::Message| [&message.payload[..], b"\n"].concat();
        let lines: Vec<u8> = messages.iter().flat_map(line).collect();
        zstd::bulk::compress(&lines, ZSTD_LEVEL).expect("zstd compresses").len()
    });
    squeezed.sum()
}

fn per_s(count: usize, time: Duration) -> u128 {
    u128::try_from(count).unwrap_or(0) * 1_000_000 / time.as_micros().max(1)
}

fn measure(dataset: &Dataset, rows: &[Row], size: usize) -> Json {
    let batches: Vec<Batch> = rows.chunks(size).map(|rows| batch(dataset, rows)).collect();
    let encoded: Vec<Vec<u8>> = batches.iter().map(|batch| encode(batch).bytes).collect();
    let plains: Vec<Vec<u8>> = encoded.iter().map(|bytes| plain(bytes).expect("our own")).collect();
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        batches.iter().for_each(|batch| drop(encode(batch)));
        start.elapsed()
    });
    let time = median(times.collect());
    let count = rows.len();
    let alone = ratio(encoded.iter().map(Vec::len).sum(), count);
    let fits = plains.iter().all(|plain| plain.len() <= PIECE_BYTES_MAX);
    let [usual, hard] = [Squeeze::Usual, Squeeze::Hard].map(|squeeze| {
        let (bytes, took) = if fits { chained(&plains, squeeze) } else { (0, Duration::ZERO) };
        (ratio(bytes, count), per_s(count, took))
    });
    let floor = FLOORS.iter().find(|floor| floor.0 == dataset.id && floor.1 == size);
    let floors = floor.map_or("-".to_owned(), |floor| format!("{} / {}", floor.2, floor.3));
    let json = ratio(json_lines(dataset, size), count);
    let rate = per_s(count, time);
    println!(
        "{:<20} {size:>5} {alone:>7.2} {:>8.2} {:>7.2} {floors:>12} {json:>10.2} {rate:>11} {:>10} {:>10}",
        dataset.id, usual.0, hard.0, usual.1, hard.1
    );
    json!({
        "dataset": dataset.id, "batch_rows": size, "ours_bytes_per_reading": alone,
        "chained_bytes_per_reading": usual.0, "chained_hard_bytes_per_reading": hard.0,
        "json_zstd_bytes_per_reading": json, "encode_readings_per_s": rate,
        "chain_readings_per_s": usual.1, "chain_hard_readings_per_s": hard.1,
    })
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let datasets = data::read(&folder).expect("the data is there");
    println!("bytes a reading; readings a second to encode, and to chain what is encoded");
    println!(
        "{:<20} {:>5} {:>7} {:>8} {:>7} {:>12} {:>10} {:>11} {:>10} {:>10}",
        "dataset",
        "rows",
        "alone",
        "chained",
        "hard",
        "floors",
        "JSON+zstd",
        "encode/s",
        "chain/s",
        "hard/s"
    );
    let mut results = Vec::new();
    for dataset in &datasets {
        let rows = rows(dataset);
        results.extend(BATCH_ROWS.map(|size| measure(dataset, &rows, size)));
    }
    println!("{}", json!({"sizes": results}));
}
