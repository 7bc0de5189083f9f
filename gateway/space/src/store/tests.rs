//! The store on a simulated disk: what was acknowledged is there once.

use super::*;
use bytes::Bytes;
use guan_model::{
    Batch, BatchHeader, BootNumber, Class, ClockQuality, ContractId, DescriptorTable,
    PointDescriptor, PointId, PointName, Quality, Row, Unit, Value, ValueType, WallTime,
};
use guan_spool::disk::SimDisk;
use std::time::Duration;

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
        gateway_time: WallTime(0),
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

fn open(disk: &SimDisk) -> Store<SimDisk> {
    Store::open(disk.clone(), 4096, [9; 16]).unwrap().0
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
            assert_eq!(store.deliver(&judged(seq)).unwrap().unwrap(), Taken::New);
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
            store.deliver(&judged(seq)).unwrap().unwrap();
        }
        store.commit().unwrap();
        assert_eq!(stored(&disk), (1..=50).collect::<Vec<_>>(), "seed {seed}");
        let totals = store.totals()[&DatasetId::parse("d").unwrap()];
        assert_eq!((totals.batches, totals.rows), (50, 50));
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
    let refused = store.deliver(&judged(1)).unwrap().unwrap_err();
    assert!(matches!(refused, Refused::Descriptors { .. }), "{refused}");
    store.announce(&announcement()).unwrap();
    let refused = store.deliver(&judged(2)).unwrap().unwrap_err();
    assert!(matches!(refused, Refused::Hole { .. }), "{refused}");
    assert_eq!(store.deliver(&judged(1)).unwrap().unwrap(), Taken::New);
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
    assert_eq!(store.deliver(&judged(5)).unwrap().unwrap(), Taken::Duplicate);
    assert_eq!(store.deliver(&judged(6)).unwrap().unwrap(), Taken::New);
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
    store.deliver(&judged(1)).unwrap().unwrap();
    store.commit().unwrap();
    disk.set_capacity(Some(0));
    store.deliver(&judged(2)).unwrap().unwrap();
    let fault = store.commit().unwrap_err();
    assert!(matches!(fault, StoreError::Journal(JournalError::NoSpace)), "{fault}");
    assert_eq!(through(&store), BatchSeq(1));
    disk.set_capacity(None);
    assert_eq!(store.deliver(&judged(2)).unwrap().unwrap(), Taken::New);
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
