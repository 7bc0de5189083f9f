//! A long outage: what a large backlog costs to write, to open after a kill, to look at, to read and to give up.
//!
//! `cargo bench -p guan-tests --bench backlog -- --gib 10 --folder /var/tmp`. The batches are random bytes, so that no
//! layer can make them smaller. Ends with one line of JSON.

use anyhow::{Context, Result, bail};
use guan_model::{BatchSeq, ByteCount, ContractId, DatasetId, Digest, SpoolId, StreamId, WallTime};
use guan_spool::spool::{Item, contents};
use guan_spool::{
    BatchMeta, GapReason, OsDisk, Spool, SpoolConfig, StreamConfig, WhenFull, create_folder,
};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// One commit: some seconds of a busy box.
const BATCH_BYTES: usize = 64 << 10;
const SEGMENT_BYTES: u64 = 64 << 20;
const STREAM: StreamId = StreamId(1);
const T0: WallTime = WallTime(1_800_000_000_000_000_000);

struct Options {
    gib: u64,
    folder: PathBuf,
}

/// Benchmarks are called with `--bench` beside their own options.
fn options() -> Result<Options> {
    let mut options = Options { gib: 1, folder: std::env::temp_dir() };
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--gib" => options.gib = value.parse().context("--gib is a number")?,
            "--folder" => options.folder = value.into(),
            _ => bail!("{name} is none of --gib and --folder"),
        }
    }
    Ok(options)
}

fn config(limit: u64) -> SpoolConfig {
    let (id, name, when_full) = (STREAM, "data".to_owned(), WhenFull::Refuse);
    let stream = StreamConfig { id, name, bytes_max: limit, age_max: None, when_full };
    SpoolConfig { segment_bytes_max: SEGMENT_BYTES, total_bytes_max: limit, streams: vec![stream] }
}

fn open(folder: &std::path::Path, limit: u64) -> Result<Spool<OsDisk>> {
    let disk = OsDisk::open_exclusive(folder)?;
    Ok(Spool::open(disk, config(limit), SpoolId([7; 16]))?.0)
}

fn fill(spool: &mut Spool<OsDisk>, batches: u64) -> Result<()> {
    let meta = BatchMeta {
        dataset: DatasetId::parse("bench")?,
        contract: ContractId::parse("C-1")?,
        rows: 1000,
        digest: Digest([1; 32]),
        terms: Vec::new(),
    };
    let mut bytes = vec![0; BATCH_BYTES];
    let mut state = 1_u64;
    for number in 0..batches {
        for chunk in bytes.chunks_exact_mut(8) {
            // xorshift64: nothing that a disk could compress.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let wall = T0.saturating_add(Duration::from_secs(number));
        spool.push_batch(STREAM, wall, &meta, &bytes)?;
        spool.commit()?;
    }
    Ok(())
}

/// Memory of this process now.
fn resident() -> Result<ByteCount> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(ByteCount(kib.parse::<u64>()? << 10))
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    let done = work().with_context(|| what.to_owned())?;
    let took = started.elapsed();
    println!("{what:<44} {:>10.1} ms", took.as_secs_f64() * 1e3);
    Ok((done, took))
}

fn drain(spool: &Spool<OsDisk>) -> Result<u64> {
    let mut reader = spool.reader();
    let (mut at, mut bytes) = (BatchSeq::ZERO, 0);
    while let Some(item) = reader.next(STREAM, at)? {
        match item {
            Item::Batch(batch) => {
                bytes += batch.bytes.len() as u64;
                at = batch.seq;
            }
            Item::Gap(gap) => bail!("a gap where there is none: {gap:?}"),
        }
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> Result<()> {
    let options = options()?;
    let folder = tempfile::tempdir_in(&options.folder)?;
    let spool_dir = folder.path().join("spool");
    create_folder(&spool_dir)?;
    let total = options.gib << 30;
    let batches = total / BATCH_BYTES as u64;
    let limit = total + (total >> 3) + (64 << 20);
    println!(
        "{} GiB in {batches} batches of {} KiB, each committed",
        options.gib,
        BATCH_BYTES >> 10
    );
    let mut spool = open(&spool_dir, limit)?;
    let ((), filled) = timed("written", || fill(&mut spool, batches))?;
    drop(spool);
    let before = resident()?;
    let (spool, opened) = timed("opened again", || open(&spool_dir, limit))?;
    let opening = ByteCount(resident()?.0.saturating_sub(before.0));
    let (seen, looked) = timed("looked at beside its owner (guan spool ls)", || {
        Ok(contents(&OsDisk::open_read_only(&spool_dir)?)?)
    })?;
    let waiting = seen.streams[&STREAM].waiting();
    let (bytes, drained) = timed("read to its end by the link's reader", || drain(&spool))?;
    assert_eq!((waiting, bytes), (batches, total), "all of it is there");
    let reading = ByteCount(resident()?.0.saturating_sub(before.0));
    let mut spool = spool;
    let (gap, dropped) = timed("half of it given up", || {
        let gap = spool.give_up(STREAM, BatchSeq(batches / 2), GapReason::Operator)?;
        spool.commit()?;
        Ok(gap)
    })?;
    assert_eq!(gap.map(|gap| gap.rows), Some(batches / 2 * 1000), "each reading is counted");
    let rate = |took: Duration| (total as f64 / took.as_secs_f64() / 1e6).round();
    let ms = |took: Duration| (took.as_secs_f64() * 1e4).round() / 10.0;
    println!("memory for opening {opening}, after reading all {reading}");
    println!(
        "{}",
        json!({
            "gib": options.gib, "write_mb_per_s": rate(filled), "open_ms": ms(opened),
            "open_rss_bytes": opening.0, "look_ms": ms(looked), "read_mb_per_s": rate(drained),
            "read_rss_bytes": reading.0, "drop_ms": ms(dropped),
        })
    );
    Ok(())
}
