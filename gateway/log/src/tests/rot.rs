//! Bit rot and torn files: what comes back is a true prefix of the log, or the damage is told.

use super::*;
use guan_evidence::Tree;
use guan_model::{ContractId, DatasetId, Digest, SpoolId, StreamId};
use guan_spool::{
    BatchMeta, Recovered, Salvage, Spool, SpoolConfig, SpoolError, StreamConfig, WhenFull,
};

/// Damaged states of the journal, and of the bundles.
const CASES: u64 = 100_000;
const SEGMENT: &str = "seg-0000000000000001.gks";
const DATA: StreamId = StreamId(1);

/// SplitMix64.
fn roll(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Each bit alone first, then pairs.
fn bits(case: u64, length: usize) -> Vec<usize> {
    let bits = length as u64 * 8;
    let place = |number: u64| usize::try_from(number % bits).unwrap();
    match case < bits {
        true => vec![place(case)],
        false => vec![place(roll(case)), place(roll(case + CASES))],
    }
}

fn open_spool(disk: &SimDisk) -> Result<(Spool<SimDisk>, Recovered), SpoolError> {
    let stream = StreamConfig {
        id: DATA,
        name: "data".to_owned(),
        bytes_max: 1 << 20,
        age_max: None,
        when_full: WhenFull::Refuse,
    };
    let config =
        SpoolConfig { segment_bytes_max: 1 << 20, total_bytes_max: 1 << 30, streams: vec![stream] };
    Spool::open(disk.clone(), config, SpoolId([3; 16]))
}

/// A journal of batches and their leaves as a box writes it, and the log of which it holds all leaves.
fn journal() -> (Rig, Vec<u8>) {
    let (mut rig, disk) = (Rig::new(), SimDisk::new());
    let (mut spool, _) = open_spool(&disk).unwrap();
    let mut log = rig.open();
    for number in 0..12 {
        let meta = BatchMeta {
            terms: Vec::new(),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse("c").unwrap(),
            rows: 2,
            digest: Digest([1; 32]),
        };
        spool.push_batch(DATA, now(number).wall, &meta, b"some rows").unwrap();
        rig.append(&mut log, 2);
        for (place, leaf) in &rig.journal[rig.journal.len() - 2..] {
            spool.push_leaf(*place, leaf).unwrap();
        }
        spool.commit().unwrap();
    }
    log.sign_checkpoint(&now(90)).unwrap();
    let bytes = disk.contents(SEGMENT).unwrap();
    assert_eq!(disk.list().unwrap(), [SEGMENT]);
    (rig, bytes)
}

/// Opens the log on this journal. What it took is a true prefix, and anything short of all is told.
fn check_log(rig: &Rig, tail: Vec<(u64, Bytes)>) {
    let mut roots = vec![Tree::new().root()];
    let mut tree = Tree::new();
    for (_, leaf) in &rig.journal {
        tree.append(leaf_hash(leaf));
        roots.push(tree.root());
    }
    let all = rig.journal.len() as u64;
    let prefix = tail.iter().zip(&rig.journal).take_while(|(one, other)| one == other).count();
    let log = EvidenceLog::open(rig.disk.clone(), BASE, rig.key.clone(), tail).unwrap();
    match log.begun() {
        None => assert_eq!(log.head(), LogHead { size: all, root: tree.root() }),
        Some(begun) => {
            let size = usize::try_from(begun.size).unwrap();
            assert_eq!((begun.root, begun.signed), (roots[size], all));
            assert_eq!(size, prefix, "the longest prefix");
        }
    }
}

#[test]
fn a_torn_journal_gives_the_longest_prefix() {
    let (rig, whole) = journal();
    for cut in 0..=whole.len() {
        let disk = SimDisk::new();
        disk.put(SEGMENT, &whole[..cut]);
        let (spool, _) = open_spool(&disk).unwrap();
        let tail = spool.reader().leaves_from(0).unwrap();
        assert!(tail.len() == rig.journal.len() || cut < whole.len());
        assert_eq!(tail[..], rig.journal[..tail.len()], "cut at {cut}");
        check_log(&rig, tail);
    }
}

/// No leaf out of a rotten journal is another one, and none is missing without a word.
#[test]
fn flipped_bits_of_the_journal_are_told() {
    let (rig, whole) = journal();
    let (mut versions, mut short) = (0, 0);
    for case in 0..CASES {
        let disk = SimDisk::new();
        disk.put(SEGMENT, &whole);
        let flipped = bits(case, whole.len());
        flipped.iter().for_each(|bit| disk.flip_bit(SEGMENT, *bit));
        let Ok((spool, recovered)) = open_spool(&disk) else {
            versions += 1;
            assert!(flipped.iter().any(|bit| bit / 8 == 7), "only the version is refused: {case}");
            continue;
        };
        let tail = spool.reader().leaves_from(0).unwrap();
        let mut known = rig.journal.iter();
        assert!(tail.iter().all(|leaf| known.any(|one| one == leaf)), "case {case}");
        if tail.len() < rig.journal.len() {
            short += 1;
            assert_ne!(recovered.salvage, Salvage::default(), "case {case}");
        }
        if case % 50 == 0 {
            check_log(&rig, tail);
        }
    }
    assert!(versions > 0 && short > CASES / 2, "{versions} refused, {short} short");
}

/// Every flipped bit of a bundle or of the hashes is told, or the leaves are what they were.
#[test]
fn flipped_bits_of_bundles_are_told() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    rig.append(&mut log, 600);
    log.seal().unwrap();
    let bundles = Bundles::of(rig.disk.clone(), Epoch::FIRST);
    let leaves = bundles.bundle(1).unwrap();
    let (mut seen, mut unseen) = (0, 0);
    let newest = "entries-0000000000000001";
    let sealed = rig.disk.contents(newest).unwrap();
    // Older logs have bundles without a checksum.
    let plain = guan_evidence::bundle::encode(&leaves).unwrap();
    let hashes = rig.disk.contents("subtrees").unwrap();
    let files = [(newest, sealed, CASES), (newest, plain, 5000), ("subtrees", hashes, 1000)];
    for (name, whole, cases) in files {
        rig.disk.put(name, &whole);
        for case in 0..cases {
            let flipped = bits(case, whole.len());
            flipped.iter().for_each(|bit| rig.disk.flip_bit(name, *bit));
            match bundles.bundle(1) {
                Ok(read) => {
                    unseen += u64::from(name != "subtrees");
                    assert!(read == leaves, "bits {flipped:?} of {name} change leaves");
                }
                Err(LogFileFault::Bundle { .. } | LogFileFault::Unfit { .. }) => seen += 1,
                Err(fault) => panic!("{fault}"),
            }
            flipped.iter().for_each(|bit| rig.disk.flip_bit(name, *bit));
        }
        for cut in 0..whole.len() {
            rig.disk.put(name, &whole[..cut]);
            match bundles.bundle(1) {
                Ok(read) => assert!(name == "subtrees" && read == leaves, "{name} cut at {cut}"),
                Err(fault) => assert!(matches!(fault, LogFileFault::Bundle { .. }), "{fault}"),
            }
        }
        rig.disk.put(name, &whole);
    }
    // Some bits of a compressed frame mean nothing; then nothing is changed either.
    assert!(seen > CASES / 2 && unseen * 100 < seen, "{seen} told, {unseen} without effect");
}
