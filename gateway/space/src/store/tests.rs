//! The store on a simulated disk: what was acknowledged is there once.

use super::*;
use bytes::Bytes;
use guan_evidence::verify::LogVerifier;
use guan_evidence::{GapReason, Leaf, LeafBody, Program, VerifierKey, leaf_hash};
use guan_identity::LogKeyFile;
use guan_log::LogReader;
use guan_model::{
    Batch, BatchHeader, BootNumber, Class, ClockQuality, ContractId, DescriptorTable,
    PointDescriptor, PointId, PointName, Quality, Row, Unit, Value, ValueType, WallTime,
};
use guan_spool::disk::SimDisk;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Made once: the same key in all tests of a run.
static KEY: LazyLock<Arc<LogKeyFile>> =
    LazyLock::new(|| Arc::new(LogKeyFile::generate(&log_origin("space-1")).unwrap().0));

pub(crate) fn now(seconds: u64) -> Now {
    let wall = WallTime::from_seconds(1_800_000_000 + i64::try_from(seconds).unwrap());
    Now { wall, monotonic: Duration::from_secs(seconds), quality: ClockQuality::Ntp }
}

fn box_id() -> BoxId {
    BoxId::parse("box-1").unwrap()
}

pub(crate) fn announcement() -> Announcement {
    let point = PointDescriptor {
        id: PointId(1),
        name: PointName::parse("t").unwrap(),
        value_type: ValueType::I64,
        unit: Unit::one(),
        dataset: DatasetId::parse("d").unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    Announcement { box_id: box_id(), table: DescriptorTable::new(vec![point]).unwrap() }
}

fn delivery(seq: u64) -> Delivery {
    delivery_under("C-1", seq)
}

/// Batch `seq` has one reading, of second `seq`.
pub(crate) fn delivery_under(contract: &str, seq: u64) -> Delivery {
    let contract = ContractId::parse(contract).unwrap();
    let header = BatchHeader {
        dataset: DatasetId::parse("d").unwrap(),
        contract: Some(contract.clone()),
        descriptors: announcement().digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    let row = Row {
        point: PointId(1),
        source_time: None,
        gateway_time: WallTime::from_seconds(i64::try_from(seq).unwrap()),
        quality: Quality::GOOD,
        value: Some(Value::I64(i64::try_from(seq).unwrap())),
    };
    let encoded = guan_codec::encode(&Batch::from_rows(header, [row]).unwrap());
    Delivery {
        box_id: box_id(),
        spool: SpoolId([1; 16]),
        stream: StreamId(1),
        seq: BatchSeq(seq),
        received: WallTime(0),
        dataset: DatasetId::parse("d").unwrap(),
        contract,
        rows: encoded.rows,
        digest: encoded.digest,
        bytes: encoded.bytes.into(),
    }
}

fn judged(seq: u64) -> Judged {
    Judged::judge(delivery(seq)).unwrap()
}

/// Store and log share a disk here: a crash hits both.
fn try_open(disk: &SimDisk, log: &SimDisk) -> Result<Store<SimDisk>, StoreError> {
    let program = Program::parse("guan-space test").unwrap();
    let parts = LogParts { disk: log.clone(), signer: KEY.clone(), program };
    Store::open(disk.clone(), 4096, [9; 16], parts).map(|(store, _)| store)
}

pub(crate) fn open(disk: &SimDisk) -> Store<SimDisk> {
    try_open(disk, disk).unwrap()
}

fn leaves(disk: &SimDisk, log: &SimDisk) -> Vec<Leaf> {
    let reader =
        LogReader::open(log.clone(), None, read_leaves(disk, log.clone()).unwrap()).unwrap();
    let mut leaves = Vec::new();
    reader.for_each(&mut |_, leaf| leaves.push(Leaf::decode(leaf).unwrap())).unwrap();
    leaves
}

fn received(leaves: &[Leaf]) -> Vec<u64> {
    let of = |leaf: &Leaf| match &leaf.body {
        LeafBody::Received(one) => Some(one.seq.0),
        _ => None,
    };
    leaves.iter().filter_map(of).collect()
}

fn stored(disk: &SimDisk) -> Vec<u64> {
    let mut seqs = Vec::new();
    let read = read_all(disk, &mut |record| {
        if let StoredRecord::Batch(delivery) = record {
            seqs.push(delivery.seq.0);
        }
        Ok(())
    });
    read.unwrap();
    seqs
}

fn through(store: &Store<SimDisk>) -> BatchSeq {
    let cursors = store.cursors(&box_id(), SpoolId([1; 16]));
    cursors.get(&StreamId(1)).copied().unwrap_or(BatchSeq::ZERO)
}

#[test]
fn what_was_committed_survives_any_crash_once() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let mut store = open(&disk);
        store.announce(&announcement()).unwrap();
        store.commit().unwrap();
        for seq in 1..=seed % 13 + 20 {
            assert_eq!(store.deliver(&now(0), &judged(seq)).unwrap().unwrap(), Taken::New);
            if seq % 3 != 0 {
                store.commit().unwrap();
            }
        }
        let promised = through(&store);
        drop(store);
        disk.crash(seed);
        let mut store = open(&disk);
        let kept = through(&store);
        assert!(kept >= promised, "seed {seed}: {kept} of {promised}");
        // The box sends again what was not acknowledged, and a little more than that.
        for seq in promised.0.max(2) - 1..=50 {
            store.deliver(&now(0), &judged(seq)).unwrap().unwrap();
        }
        store.commit().unwrap();
        assert_eq!(stored(&disk), (1..=50).collect::<Vec<_>>(), "seed {seed}");
        let totals = store.totals()[&DatasetId::parse("d").unwrap()];
        assert_eq!((totals.batches, totals.rows), (50, 50));
        let log = leaves(&disk, &disk);
        assert_eq!(received(&log), (1..=50).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_batch_must_be_what_it_says() {
    let check = |spoil: fn(&mut Delivery), part: &str| {
        let mut delivery = delivery(1);
        spoil(&mut delivery);
        let refused = Judged::judge(delivery).unwrap_err().to_string();
        assert!(refused.contains(part), "{refused}");
    };
    check(|it| it.digest = Digest([0; 32]), "was announced");
    check(|it| it.bytes = Bytes::from_static(b"GKB1"), "cannot be decoded");
    check(|it| it.rows = 2, "rows");
    check(|it| it.dataset = DatasetId::parse("e").unwrap(), "dataset");
    check(|it| it.contract = ContractId::parse("C-2").unwrap(), "contract");
}

#[test]
fn holes_and_unknown_tables_are_refused() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    let refused = store.deliver(&now(0), &judged(1)).unwrap().unwrap_err();
    assert!(matches!(refused, Refused::Descriptors { .. }), "{refused}");
    store.announce(&announcement()).unwrap();
    let refused = store.deliver(&now(0), &judged(2)).unwrap().unwrap_err();
    assert!(matches!(refused, Refused::Hole { .. }), "{refused}");
    assert_eq!(store.deliver(&now(0), &judged(1)).unwrap().unwrap(), Taken::New);
    let gap = StoredGap {
        box_id: box_id(),
        spool: SpoolId([1; 16]),
        stream: StreamId(1),
        from: BatchSeq(2),
        through: BatchSeq(5),
        rows: 4,
        reason: 1,
    };
    assert_eq!(store.note_gap(&gap).unwrap().unwrap(), Taken::New);
    assert_eq!(store.note_gap(&gap).unwrap().unwrap(), Taken::Duplicate);
    assert_eq!(store.deliver(&now(0), &judged(5)).unwrap().unwrap(), Taken::Duplicate);
    assert_eq!(store.deliver(&now(0), &judged(6)).unwrap().unwrap(), Taken::New);
    assert_eq!(through(&store), BatchSeq::ZERO, "nothing counts before the commit");
    store.commit().unwrap();
    assert_eq!(through(&store), BatchSeq(6));
    assert_eq!((store.counters().refused, store.counters().duplicates), (2, 1));
}

#[test]
fn a_full_disk_undoes_the_commit() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    store.announce(&announcement()).unwrap();
    store.deliver(&now(0), &judged(1)).unwrap().unwrap();
    store.commit().unwrap();
    disk.set_capacity(Some(0));
    store.deliver(&now(0), &judged(2)).unwrap().unwrap();
    let fault = store.commit().unwrap_err();
    assert!(matches!(fault, StoreError::Journal(JournalError::NoSpace)), "{fault}");
    assert_eq!(through(&store), BatchSeq(1));
    disk.set_capacity(None);
    assert_eq!(store.deliver(&now(0), &judged(2)).unwrap().unwrap(), Taken::New);
    store.commit().unwrap();
    assert_eq!(stored(&disk), [1, 2]);
}

#[test]
fn heads_and_tables_survive() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    store.announce(&announcement()).unwrap();
    store.note_checkpoint(&box_id(), "head 1").unwrap();
    store.note_checkpoint(&box_id(), "head 2").unwrap();
    store.commit().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(store.checkpoints()[&box_id()], "head 2");
    assert!(store.tables().contains(&announcement().digest()));
}

/// However often it crashes: a leaf for each batch and none too many, each run begins with its start, and
/// no head that was signed is ever contradicted.
#[test]
fn batches_and_their_leaves_survive_together() {
    for seed in 0..30 {
        let (disk, log) = (SimDisk::new(), SimDisk::new());
        let (mut heads, mut next) = (Vec::new(), 1);
        for run in 0..4 {
            let mut store = try_open(&disk, &log).unwrap();
            store.start(&now(0)).unwrap();
            store.commit().unwrap();
            store.announce(&announcement()).unwrap();
            for step in 0..40 + seed % 7 {
                assert_eq!(store.deliver(&now(step), &judged(next)).unwrap().unwrap(), Taken::New);
                next += 1;
                if (step + seed).is_multiple_of(3) {
                    store.commit().unwrap();
                    let head = store.sign_due(&now(step)).unwrap();
                    heads.extend(head.map(|head| (head.size, head.root)));
                }
            }
            drop(store);
            disk.crash(seed + run);
            log.crash(seed + run);
            next = through(&try_open(&disk, &log).unwrap()).0 + 1;
        }
        let mut store = try_open(&disk, &log).unwrap();
        store.start(&now(0)).unwrap();
        store.commit().unwrap();
        heads.extend(store.sign(&now(0)).unwrap().map(|head| (head.size, head.root)));
        let all = leaves(&disk, &log);
        assert_eq!(received(&all), stored(&disk), "seed {seed}");
        assert!(all.len() > 150 && heads.len() > 8, "{} {}", all.len(), heads.len());
        let mut tree = guan_evidence::Tree::new();
        let mut verifier = LogVerifier::new();
        for leaf in &all {
            let known = heads.iter().find(|(size, _)| *size == tree.size());
            assert!(known.is_none_or(|(_, root)| *root == tree.root()), "seed {seed}");
            tree.append(leaf_hash(&leaf.encode()));
            verifier.handle_leaf(&leaf.encode());
        }
        let reader = LogReader::open(log.clone(), None, read_leaves(&disk, log).unwrap()).unwrap();
        let head = reader.checkpoint().unwrap().unwrap();
        let report = verifier.finish(&[&head], &VerifierKey::of(KEY.as_ref()).unwrap());
        assert!(report.is_valid(), "seed {seed}: {:?}", report.faults);
        assert_eq!(report.signed_entries, all.len() as u64);
    }
}

#[test]
fn a_full_disk_undoes_leaves_too() {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    store.announce(&announcement()).unwrap();
    store.commit().unwrap();
    disk.set_capacity(Some(0));
    let began = store.start(&now(0)).and_then(|()| store.commit());
    assert!(matches!(began, Err(StoreError::Journal(JournalError::NoSpace))), "{began:?}");
    store.rollback();
    disk.set_capacity(None);
    store.deliver(&now(0), &judged(1)).unwrap().unwrap();
    store.commit().unwrap();
    disk.set_capacity(Some(0));
    store.deliver(&now(1), &judged(2)).unwrap().unwrap();
    assert!(store.commit().is_err());
    assert!(matches!(store.sign(&now(1)), Err(StoreError::Journal(JournalError::NoSpace))));
    disk.set_capacity(None);
    store.deliver(&now(2), &judged(2)).unwrap().unwrap();
    store.commit().unwrap();
    let kinds: Vec<u8> = leaves(&disk, &disk).iter().map(|leaf| leaf.body.kind()).collect();
    assert_eq!(kinds, [1, 20, 20], "the start stands before what came after all");
    assert_eq!(store.take_logged().iter().map(|one| one.seq.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(store.take_logged(), []);
}

/// Bundles that find no room on the log's disk stop the store before its memory grows.
#[test]
fn a_full_disk_of_the_log_stops_the_store() {
    let (disk, log) = (SimDisk::new(), SimDisk::new());
    let mut store = try_open(&disk, &log).unwrap();
    log.set_capacity(Some(0));
    let note =
        |store: &mut Store<SimDisk>| (0..300).try_for_each(|_| store.note(&now(0), LeafBody::Stop));
    note(&mut store).unwrap();
    store.commit().unwrap();
    let full = note(&mut store);
    assert!(matches!(full, Err(StoreError::Journal(JournalError::NoSpace))), "{full:?}");
    store.rollback();
    log.set_capacity(None);
    note(&mut store).unwrap();
    store.commit().unwrap();
    drop(store);
    assert_eq!(leaves(&disk, &log).len(), 601);
    assert_eq!(try_open(&disk, &log).unwrap().log_head().size, 601);
    let fault = try_open(&disk, &SimDisk::new()).err().unwrap();
    assert!(matches!(fault, StoreError::LogFolder { have: 0, expected: 601 }), "{fault}");
}

fn put(disk: &SimDisk, golden: &str) {
    for line in golden.lines() {
        let (name, bytes) = line.split_once(' ').unwrap();
        disk.put(name, &hex::decode(bytes).unwrap());
    }
}

/// Segments, snapshots and leaves as the first program with a log wrote them.
#[test]
fn golden_store_with_a_log() {
    let disk = SimDisk::new();
    put(&disk, include_str!("../../tests/golden/store-with-log-v1.txt"));
    assert!(disk.list().unwrap().len() > 3, "the tail comes out of a snapshot");
    let store = open(&disk);
    assert_eq!(through(&store), BatchSeq(30));
    let head = store.log_head();
    let golden = include_str!("../../tests/golden/store-with-log-v1.root");
    assert_eq!(format!("{} {}\n", head.size, head.root), golden);
    assert_eq!(received(&leaves(&disk, &disk)), (1..=30).collect::<Vec<_>>());
}

/// A store of before there was a log: its folder, byte for byte as that program wrote it.
#[test]
fn folders_without_a_log_open() {
    let (disk, log) = (SimDisk::new(), SimDisk::new());
    put(&disk, include_str!("../../tests/golden/store-without-log-v1.txt"));
    let mut store = try_open(&disk, &log).unwrap();
    assert_eq!(through(&store), BatchSeq(30));
    assert_eq!(store.log_head().size, 0);
    store.start(&now(0)).unwrap();
    for seq in 31..=60 {
        store.deliver(&now(0), &judged(seq)).unwrap().unwrap();
        store.commit().unwrap();
    }
    drop(store);
    assert_eq!(stored(&disk), (1..=60).collect::<Vec<_>>());
    let store = try_open(&disk, &log).unwrap();
    assert_eq!((through(&store), store.log_head().size), (BatchSeq(60), 31));
    assert_eq!(received(&leaves(&disk, &log)), (31..=60).collect::<Vec<_>>());
}

/// A store that was put back to an older state must not sign another history: its log ends, and the next
/// epoch says so first.
#[test]
fn a_store_of_yesterday_begins_another_log() {
    let (disk, log) = (SimDisk::new(), SimDisk::new());
    let mut store = try_open(&disk, &log).unwrap();
    store.start(&now(0)).unwrap();
    store.announce(&announcement()).unwrap();
    store.deliver(&now(0), &judged(1)).unwrap().unwrap();
    store.commit().unwrap();
    let yesterday = SimDisk::new();
    for name in disk.list().unwrap() {
        yesterday.put(&name, &disk.contents(&name).unwrap());
    }
    store.deliver(&now(1), &judged(2)).unwrap().unwrap();
    store.commit().unwrap();
    assert_eq!(store.sign(&now(1)).unwrap().unwrap().size, 3);
    drop(store);
    let mut store = try_open(&yesterday, &log).unwrap();
    store.start(&now(2)).unwrap();
    store.deliver(&now(2), &judged(2)).unwrap().unwrap();
    store.commit().unwrap();
    let logged = store.take_logged().pop().unwrap();
    assert_eq!((logged.origin.as_str(), logged.index), ("guan-space/space-1/e2", 2));
    let signed = store.sign(&now(2)).unwrap().unwrap();
    assert!(signed.text.starts_with("guan-space/space-1/e2\n3\n"), "{}", signed.text);
    let leaves = leaves(&yesterday, &log);
    let LeafBody::EpochStart(epoch) = &leaves[0].body else { panic!("{:?}", leaves[0]) };
    assert_eq!((epoch.size, epoch.signed, epoch.previous.as_str()), (2, 3, "guan-space/space-1"));
    let mut verifier = LogVerifier::new();
    leaves.iter().for_each(|leaf| verifier.handle_leaf(&leaf.encode()));
    let report = verifier.finish(&[&signed.text], &VerifierKey::of(KEY.as_ref()).unwrap());
    assert!(report.is_valid(), "{:?}", report.faults);
}

/// Leaves that the disk lost stop no space; its log says once that they are gone, and boots go on rising.
#[test]
fn a_damaged_bundle_is_recorded_once() {
    let (disk, log) = (SimDisk::new(), SimDisk::new());
    let mut store = try_open(&disk, &log).unwrap();
    (0..255).try_for_each(|_| store.note(&now(0), LeafBody::Stop)).unwrap();
    store.commit().unwrap();
    store.sign(&now(0)).unwrap().unwrap();
    drop(store);
    log.flip_bit("entries-0000000000000000", 800);
    for run in 1..=2 {
        let mut store = try_open(&disk, &log).unwrap();
        store.start(&now(run)).unwrap();
        store.commit().unwrap();
    }
    let reader =
        LogReader::open(log.clone(), None, read_leaves(&disk, log.clone()).unwrap()).unwrap();
    let tail: Vec<Leaf> =
        reader.bundle(1).unwrap().iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect();
    let kinds: Vec<&str> = tail.iter().map(|leaf| leaf.body.kind_name()).collect();
    assert_eq!(kinds, ["start", "log.gap", "start"]);
    let expect =
        LeafBody::LogGap { from: 0, through: 255, reason: GapReason::Damage, refill: None };
    assert_eq!(tail[1].body, expect);
    assert!(tail[0].boot < tail[2].boot, "{tail:?}");
}
