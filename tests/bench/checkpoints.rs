//! What a TPM costs the log: extending a head, quoting, chaining, at injected delays of a request; and what
//! the writer of the log feels of it meanwhile.
//!
//! `cargo bench -p guan-tests --bench checkpoints`. Ends with one line of JSON. The TPM is swtpm.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

mod tpm;

use guan_demo::swtpm::Swtpm;
use guan_evidence::LeafBody;
use guan_identity::LogKeyFile;
use guan_identity::tpm::Tpm;
use guan_log::EvidenceLog;
use guan_model::{BootNumber, ClockQuality, Digest, Now, WallTime};
use guan_spool::OsDisk;
use serde_json::json;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tpm::{make_keys, median, millis, start};

const DELAYS_MS: [u64; 4] = [0, 50, 200, 1000];
const RUNS: usize = 9;
/// Events between two seals, as a busy box has them.
const BUNDLE: u64 = 256;

/// One head into the register, a quote over it, and the head into the chain.
fn anchor(tpm: &Tpm, runs: usize) -> [Duration; 3] {
    let mut times = [const { Vec::new() }; 3];
    let found = tpm.call("bench", |chip| chip.remembered()).unwrap();
    let (mut trail, mut chain) = (found.trail, found.chain);
    for run in 0..runs {
        let head = Digest::of(&run.to_be_bytes());
        let mut measure = |place: usize, started: Instant| times[place].push(started.elapsed());
        let started = Instant::now();
        trail = tpm.call("bench", move |chip| chip.extend_trail(&trail, &head)).unwrap();
        measure(0, started);
        let started = Instant::now();
        tpm.call("bench", move |chip| chip.anchor(&head)).unwrap();
        measure(1, started);
        let started = Instant::now();
        let chained = tpm.call("bench", move |chip| chip.chain(chain.as_ref(), &head)).unwrap();
        measure(2, started);
        assert!(chained.is_some(), "the chain is this benchmark's");
        chain = tpm.call("bench", |chip| chip.chained()).unwrap();
    }
    times.map(median)
}

/// Nanoseconds an event of the log's writer, and its longest stop at one event, until told to end.
fn write(folder: &Path, end: &AtomicBool) -> (f64, Duration) {
    std::fs::create_dir(folder).unwrap();
    let key = Arc::new(LogKeyFile::generate("guan/bench").unwrap().0);
    let disk = OsDisk::open_exclusive(folder).unwrap();
    let mut log = EvidenceLog::open(disk, "guan/bench", key, Vec::new()).unwrap();
    let (mut events, mut spent, mut worst) = (0_u64, Duration::ZERO, Duration::ZERO);
    let begun = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let wall = WallTime::from_seconds(1_800_000_000);
        let now = Now { wall, monotonic: begun.elapsed(), quality: ClockQuality::Ntp };
        let started = Instant::now();
        black_box(log.append(&now, BootNumber(1), LeafBody::Stop));
        let took = started.elapsed();
        (events, spent, worst) = (events + 1, spent + took, worst.max(took));
        if events % BUNDLE == 0 {
            log.handle_committed();
            log.seal().unwrap();
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let each = spent.as_secs_f64() * 1e9 / events.max(1) as f64;
    (each, worst)
}

/// Runs `work` while the log is written.
fn beside<T>(folder: &Path, work: impl FnOnce() -> T) -> (T, f64, Duration) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(folder, &end));
        let done = work();
        end.store(true, Ordering::Relaxed);
        let (each, worst) = writer.join().unwrap();
        (done, each, worst)
    })
}

fn main() {
    if !Swtpm::is_installed() {
        return println!("SKIP: swtpm is not installed; cargo verify does it");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let swtpm = Swtpm::make(&path.join("tpm"), &path.join("ca")).unwrap();
    let tpm = start(&swtpm, path, Duration::ZERO);
    make_keys(&tpm);
    drop(tpm);
    let idle = beside(&path.join("log-idle"), || std::thread::sleep(Duration::from_secs(1)));
    println!("delay ms  extend ms  quote ms  chain ms  writer ns/event  writer's longest ms");
    println!("no TPM    {:>47.0}  {:>19}", idle.1, millis(idle.2));
    let mut rows = Vec::new();
    for delay_ms in DELAYS_MS {
        let tpm = start(&swtpm, path, Duration::from_millis(delay_ms));
        let runs = if delay_ms == 0 { RUNS } else { 3 };
        let log = path.join(format!("log-{delay_ms}"));
        let ([extend, quote, chain], each, worst) = beside(&log, || anchor(&tpm, runs));
        println!(
            "{delay_ms:>8}  {:>9}  {:>8}  {:>8}  {each:>15.0}  {:>19}",
            millis(extend),
            millis(quote),
            millis(chain),
            millis(worst)
        );
        rows.push(json!({
            "delay_ms": delay_ms, "extend_ms": millis(extend), "quote_ms": millis(quote),
            "chain_ms": millis(chain), "writer_ns": each.round(), "writer_worst_ms": millis(worst),
        }));
    }
    println!("{}", json!({"checkpoints": rows, "writer_ns_without": idle.1.round()}));
}
