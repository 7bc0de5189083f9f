//! What the evidence log costs: CPU and flash an event, a signed head, a year with pruning, verification.
//!
//! `cargo bench -p guan-tests --bench evidence`. Ends with one line of JSON. Times are medians; beside them stand
//! the machine's own limits, SHA-256 of as many bytes and fdatasync.

use guan_evidence::verify::LogVerifier;
use guan_evidence::{
    BatchAccepted, DecisionSummary, LeafBody, VerifierKey, leaf_hash, prove_inclusion,
    verify_inclusion,
};
use guan_identity::LogKeyFile;
use guan_log::{EvidenceLog, LogReader};
use guan_model::{
    BatchSeq, BootNumber, ClockQuality, ContractId, DatasetId, Digest, Now, SpoolId, StreamId,
    WallTime,
};
use guan_spool::{Disk, DiskFile, OsDisk};
use serde_json::json;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ORIGIN: &str = "guan/bench";
/// Events of one measurement.
const EVENTS: u64 = 200_000;
const RUNS: usize = 5;
/// Ten events a minute.
const YEAR_EVENTS: u64 = 10 * 60 * 24 * 365;
const LOG_BYTES_MAX: u64 = 64 << 20;

fn now(at: u64) -> Now {
    Now {
        wall: WallTime::from_millis(1_800_000_000_000 + i64::try_from(at).expect("small")),
        monotonic: Duration::from_millis(at),
        quality: ClockQuality::Ntp,
    }
}

/// A commit writes a decision and a batch; digests of batches are as good as random.
fn body(number: u64) -> LeafBody {
    let dataset = DatasetId::parse("machine-temperature").expect("a valid name");
    let plan = Digest([2; 32]);
    if number.is_multiple_of(2) {
        let denied = BTreeMap::new();
        return LeafBody::Decision(DecisionSummary {
            dataset,
            plan,
            permitted: 1024,
            masked: 0,
            denied,
        });
    }
    LeafBody::Batch(BatchAccepted {
        dataset,
        contract: ContractId::parse("C-2026-001").expect("a valid name"),
        contract_digest: Digest([1; 32]),
        plan,
        batch: Digest::of(&number.to_be_bytes()),
        rows: 1024,
        stream: StreamId(1),
        seq: BatchSeq(number / 2 + 1),
        permission: None,
    })
}

fn start() -> LeafBody {
    let program = guan_evidence::Program::parse("bench").expect("a valid name");
    LeafBody::Start { program, spool: SpoolId([1; 16]) }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn each(total: Duration, count: u64) -> f64 {
    total.as_secs_f64() * 1e9 / count as f64
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Leaves made, hashed and sealed; nanoseconds an event, with and without what the disk takes.
fn write_events(disk: &OsDisk, key: &Arc<LogKeyFile>) -> (f64, f64, f64) {
    let mut log = EvidenceLog::open(disk.clone(), ORIGIN, key.clone(), Vec::new()).expect("opens");
    let bodies: Vec<LeafBody> = (0..EVENTS).map(body).collect();
    log.append(&now(0), BootNumber(1), start());
    let (mut append, mut seal) = (Duration::ZERO, Duration::ZERO);
    let mut at = 0;
    for bodies in bodies.chunks(256) {
        let started = Instant::now();
        for body in bodies {
            at += 1;
            black_box(log.append(&now(at), BootNumber(1), body.clone()));
        }
        log.handle_committed();
        append += started.elapsed();
        let started = Instant::now();
        log.seal().expect("the disk takes it");
        seal += started.elapsed();
    }
    let started = Instant::now();
    for _ in 0..64 {
        black_box(log.sign_checkpoint(&now(at)).expect("signs"));
    }
    let head = each(started.elapsed(), 64) / 1e3;
    (each(append, EVENTS), each(seal, EVENTS), head)
}

/// What compressing alone costs of the seal, without the disk.
fn compress_ns(leaves: &[Vec<u8>]) -> (f64, f64) {
    let (mut bytes, mut times) = (0, Vec::new());
    for _ in 0..RUNS {
        let started = Instant::now();
        bytes = 0;
        for bundle in leaves.chunks_exact(256) {
            let plain = guan_evidence::bundle::encode(bundle).expect("within the limits");
            bytes += black_box(zstd::bulk::compress(&plain, 3).expect("into memory")).len();
        }
        times.push(started.elapsed());
    }
    let events = leaves.len() as u64 / 256 * 256;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let size = bytes as f64 / events as f64 + 32.0 / 256.0;
    (each(median(times), events), size)
}

fn verify_rate(leaves: &[Vec<u8>], checkpoint: &str, key: &VerifierKey) -> f64 {
    let times = (0..RUNS).map(|_| {
        let started = Instant::now();
        let mut verifier = LogVerifier::new();
        leaves.iter().for_each(|leaf| verifier.handle_leaf(leaf));
        assert!(verifier.finish(&[checkpoint], key).is_valid());
        started.elapsed()
    });
    1e3 / each(median(times.collect()), leaves.len() as u64)
}

fn sha_ns(leaves: &[Vec<u8>]) -> f64 {
    let times = (0..RUNS).map(|_| {
        let started = Instant::now();
        leaves.iter().for_each(|leaf| {
            black_box(leaf_hash(leaf));
        });
        started.elapsed()
    });
    each(median(times.collect()), leaves.len() as u64)
}

fn fsync_per_s(disk: &OsDisk) -> f64 {
    let mut file = disk.create_new("fsync").expect("a new file");
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < Duration::from_secs(1) {
        file.append(&[0; 512]).expect("the disk takes it");
        file.sync_data().expect("the disk takes it");
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}

/// A year of events in a log that may take 64 MiB; what is pruned still proves.
fn year(disk: &OsDisk, key: &Arc<LogKeyFile>) -> serde_json::Value {
    let mut log = EvidenceLog::open(disk.clone(), ORIGIN, key.clone(), Vec::new()).expect("opens");
    let mut sample = None;
    let mut largest = 0;
    for number in 0..YEAR_EVENTS {
        let (_, bytes) = log.append(&now(number), BootNumber(1), body(number));
        if number == 1000 {
            sample = Some(bytes);
        }
        if number % 1024 == 1023 {
            log.handle_committed();
            log.seal().expect("the disk takes it");
        }
        if number % (1 << 17) == 0 && number > 0 {
            log.handle_committed();
            log.seal().expect("the disk takes it");
            // The mirror has everything that is sealed.
            if let Some(first) = log.prunable(LOG_BYTES_MAX, number).expect("the disk answers") {
                log.prune(first).expect("the disk takes it");
            }
            largest = largest.max(disk_bytes(disk));
        }
    }
    log.handle_committed();
    let head = log.sign_checkpoint(&now(YEAR_EVENTS)).expect("signs");
    // Whoever has the bytes of a pruned entry and its neighbours from the mirror proves it.
    let reader = LogReader::open(disk.clone(), None, Vec::new()).expect("opens");
    let first = reader.first().expect("the disk answers");
    let index = first + 77;
    let leaf = &reader.bundle(index / 256).expect("it is here")[77];
    let sealed = reader.size().expect("the disk answers");
    let (proof, root) = reader.with_nodes(|nodes| {
        let proof = prove_inclusion(index, sealed, nodes).expect("it is here");
        (proof, guan_evidence::root_at(sealed, nodes).expect("hashes of all bundles are here"))
    });
    verify_inclusion(&leaf_hash(leaf), index, sealed, &proof, &root).expect("it is in the log");
    assert!(sample.is_some());
    json!({
        "events": YEAR_EVENTS, "pruned_before": first, "largest_bytes": largest,
        "bytes_at_the_end": disk_bytes(disk), "limit_bytes": LOG_BYTES_MAX, "head": head.size,
    })
}

fn disk_bytes(disk: &OsDisk) -> u64 {
    let names = disk.list().expect("the folder is there");
    names.iter().map(|name| disk.open(name).and_then(|file| file.len()).unwrap_or(0)).sum()
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        OsDisk::open_exclusive(&path).expect("opens")
    };
    let (key, _) = LogKeyFile::generate(ORIGIN).expect("random numbers");
    let key = Arc::new(key);
    let first = disk("events");
    let (append, seal, head) = write_events(&first, &key);
    let reader = LogReader::open(first.clone(), None, Vec::new()).expect("opens");
    let mut leaves = Vec::new();
    reader.for_each(&mut |_, leaf| leaves.push(leaf.to_vec())).expect("the disk answers");
    let size = leaves.len() as u64;
    let root = reader.with_nodes(|nodes| guan_evidence::root_at(size, nodes)).expect("all is here");
    let checkpoint = guan_evidence::Checkpoint::sign(ORIGIN, size, &root, key.as_ref());
    let verifier = VerifierKey::of(key.as_ref()).expect("an Ed25519 key");
    let (compress, flash) = compress_ns(&leaves);
    let rate = verify_rate(&leaves, &checkpoint.expect("signs"), &verifier);
    let sha = sha_ns(&leaves);
    let fsync = fsync_per_s(&disk("fsync"));
    println!("leaf made, hashed, in the tree   {append:8.0} ns an event (SHA-256 alone {sha:.0})");
    println!("bundle compressed                {compress:8.0} ns an event");
    println!(
        "bundle written, 2 fsync of 256   {seal:8.0} ns an event (the disk does {fsync:.0} fsync/s)"
    );
    println!("flash kept                       {flash:8.1} B an event");
    println!("head signed and made durable     {head:8.0} us");
    println!("verified                         {rate:8.2} million events/s");
    let year = year(&disk("year"), &key);
    println!("a year at 10 a minute            {year}");
    println!(
        "{}",
        json!({"evidence": {
            "append_ns": round(append), "compress_ns": round(compress), "seal_ns": round(seal),
            "sha256_ns": round(sha), "flash_bytes": round(flash), "head_us": round(head),
            "verify_million_per_s": round(rate), "fsync_per_s": round(fsync), "year": year,
        }})
    );
}
