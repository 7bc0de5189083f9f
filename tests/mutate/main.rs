//! Every fuzz target on its corpus and on seeded mutations of it: what fuzzing finds first, on stable Rust.
//!
//! `GUAN_MUTATIONS=1000000 cargo test -p guan-tests --test mutate` runs longer;
//! `GUAN_MUTATION_TARGETS=tpm,evidence` only these.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod bundle;
mod json;
mod stamps;

use guan_tests::targets;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MUTATIONS: usize = 10_000;
/// What a box that nobody knows yet can send to a space, and what anybody can hand to an auditor, is tried more often.
const MUTATIONS_OF_STRANGERS: usize = 1_000_000;
/// What anybody who has a space's public file can bring to it; sealing costs most of the time.
const MUTATIONS_OF_FILES: usize = 100_000;
const STRANGERS: [&str; 7] = ["boot_log", "ima_list", "tpm", "evidence", "draft", "log", "proof"];
/// Documents of TC609-6-2025-14, which are part of the corpus of contracts, are tried alone, too.
const MUTATIONS_OF_TDS: usize = 20_000;
/// What a box that the space knows can send to it, and costs more to read.
const MUTATIONS_OF_BOXES: usize = 30_000;
/// What a disk or the other party hands to the policy engine.
const MUTATIONS_OF_POLICY: usize = 100_000;
const POLICY: [&str; 7] = ["terms", "usage", "carrier", "roster", "message", "record", "mandate"];
/// Of these, half of the mutations are still JSON; of so many of a thousand something is read.
const DOCUMENTS: [(&str, usize); 6] = [
    ("draft", 10),
    ("catalogue", 1),
    ("roster", 10),
    ("carrier", 10),
    ("message", 10),
    ("mandate", 10),
];
/// As integers the ends of their ranges, as doubles infinity, none, and the largest.
const NUMBERS: [u64; 7] = [
    0,
    u64::MAX,
    u64::MAX >> 1,
    1 << 63,
    f64::INFINITY.to_bits(),
    f64::NAN.to_bits(),
    f64::MAX.to_bits(),
];
/// No input may take more of a core, whatever else the machine has to do.
const INPUT_MAX: Duration = Duration::from_secs(2);
/// The targets may not grow the process by more than this.
const MEMORY_KIB_MAX: u64 = 512 << 10;

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap()
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutate(dice: &mut Dice, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..=dice.below(4) {
        let length = bytes.len();
        let at = dice.below(length);
        match dice.below(7) {
            _ if length == 0 => bytes.push(0),
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][dice.below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + 1 + dice.below(8)).min(length))),
            4 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied().take(64));
            }
            5 => {
                let number = NUMBERS[dice.below(NUMBERS.len())].to_le_bytes();
                let until = (at + 8).min(length);
                bytes[at..until].copy_from_slice(&number[..until - at]);
            }
            _ => {
                let piece = bytes[at..(at + 16).min(length)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Contracts in the form of TC609-6-2025-14 give and take among themselves, and their own words.
#[test]
fn documents_of_the_other_form() {
    let corpus = corpus("draft");
    let documents = corpus.iter().map(|bytes| serde_json::from_slice(bytes).unwrap());
    let documents: Vec<serde_json::Value> =
        documents.filter(|one: &serde_json::Value| one.get("contractId").is_some()).collect();
    assert!(documents.len() >= 3, "only {} documents", documents.len());
    let more = std::env::var("GUAN_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let count = more.unwrap_or(MUTATIONS_OF_TDS);
    let (mut dice, mut survived, mut slowest) = (Dice(11), 0, Duration::ZERO);
    for _ in 0..count {
        let input = json::mutate(&mut dice, &documents);
        let began = spent();
        survived += usize::from(targets::draft(&input));
        slowest = slowest.max(spent().saturating_sub(began));
    }
    println!(
        "tds: {count} mutations, {survived} of them decode, {} us at most",
        slowest.as_micros()
    );
    assert!(slowest <= INPUT_MAX, "an input took {slowest:?}");
    assert!(survived * 50 > count, "too few contracts are accepted");
}

/// Time that this thread has had a core.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// Highest memory of this process so far.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Decodes mutations of a target's corpus.
fn run(target: &targets::Target, count: Option<usize>) {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "{}: no corpus", target.name);
    let decoded = corpus.iter().filter(|bytes| (target.run)(bytes)).count();
    assert!(decoded > 0, "{}: nothing of the corpus decodes", target.name);
    let usual = match target.name {
        name if STRANGERS.contains(&name) => MUTATIONS_OF_STRANGERS,
        name if POLICY.contains(&name) => MUTATIONS_OF_POLICY,
        "catalogue" => MUTATIONS_OF_BOXES,
        "carried" => MUTATIONS_OF_FILES,
        _ => MUTATIONS,
    };
    let document = DOCUMENTS.iter().find(|(name, _)| *name == target.name);
    let count = count.unwrap_or(usual);
    let documents: Vec<serde_json::Value> = match document.is_some() {
        true => corpus.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect(),
        false => Vec::new(),
    };
    let mut dice = Dice(7);
    let (mut survived, mut slowest) = (0, Duration::ZERO);
    let started = Instant::now();
    for number in 0..count {
        let input = match documents.is_empty() || number % 2 == 0 {
            true => mutate(&mut dice, &corpus),
            false => json::mutate(&mut dice, &documents),
        };
        let began = spent();
        survived += usize::from((target.run)(&input));
        slowest = slowest.max(spent().saturating_sub(began));
    }
    let (files, took) = (corpus.len(), started.elapsed());
    println!(
        "{}: {files} files, {count} mutations, {survived} of them decode, {} s, {} us at most",
        target.name,
        took.as_secs(),
        slowest.as_micros()
    );
    assert!(slowest <= INPUT_MAX, "{}: an input took {slowest:?}", target.name);
    assert!(
        document.is_none_or(|(_, least)| survived * 1000 > count * least),
        "{}: too few are accepted",
        target.name
    );
}

/// Each core takes the next target.
#[test]
fn no_decoder_panics_or_grows() {
    let count = std::env::var("GUAN_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let only = std::env::var("GUAN_MUTATION_TARGETS").unwrap_or_default();
    let is_wanted = |name: &str| only.is_empty() || only.split(',').any(|one| one == name);
    let before = peak_kib();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(target) = targets::ALL.get(next.fetch_add(1, Relaxed)) {
                    if is_wanted(target.name) {
                        run(target, count);
                    }
                }
            });
        }
    });
    let grown = peak_kib() - before;
    assert!(grown <= MEMORY_KIB_MAX, "the targets took {grown} KiB");
}
