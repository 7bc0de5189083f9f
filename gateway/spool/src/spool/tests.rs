//! The spool against the simulated disk: random work, power cuts, quotas.

use super::*;
use crate::disk::SimDisk;
use bytes::Bytes;
use guan_model::{ContractId, DatasetId, Digest};
use proptest::prelude::*;
use std::collections::BTreeSet;

const DATA: StreamId = StreamId(1);
const ID: SpoolId = SpoolId([3; 16]);
const T0: WallTime = WallTime(1_800_000_000_000_000_000);

fn config(bytes_max: u64, when_full: WhenFull) -> SpoolConfig {
    let age_max = Some(Duration::from_secs(3600));
    let name = "data".to_owned();
    SpoolConfig {
        segment_bytes_max: 1000,
        total_bytes_max: 1 << 30,
        streams: vec![StreamConfig { id: DATA, name, bytes_max, age_max, when_full }],
    }
}

fn open(disk: &SimDisk, config: &SpoolConfig) -> (Spool<SimDisk>, Recovered) {
    Spool::open(disk.clone(), config.clone(), ID).unwrap()
}

fn copy_of(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new();
    disk.list().unwrap().iter().for_each(|name| copy.put(name, &disk.contents(name).unwrap()));
    copy
}

fn meta() -> BatchMeta {
    BatchMeta {
        terms: Vec::new(),
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse("c").unwrap(),
        rows: 2,
        digest: Digest([1; 32]),
    }
}

fn push(spool: &mut Spool<SimDisk>, wall: WallTime) -> Result<BatchSeq, PushError> {
    let text = format!("batch {}", wall.0);
    spool.push_batch(DATA, wall, &meta(), text.as_bytes())
}

#[test]
fn batches_are_shown_with_their_terms() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    for number in 1..=50 {
        let meta = BatchMeta { terms: vec![number], digest: Digest([number; 32]), ..meta() };
        spool.push_batch(DATA, T0, &meta, b"rows").unwrap();
        spool.commit().unwrap();
    }
    let mut seen = Vec::new();
    batches(&disk, &mut |stream, seq, _, meta| {
        seen.push((stream, seq.0, meta.terms.clone(), meta.digest));
    })
    .unwrap();
    let expect = (1..=50_u8).map(|n| (DATA, u64::from(n), vec![n], Digest([n; 32])));
    assert_eq!(seen, expect.collect::<Vec<_>>());
}

/// What the link would see after `after`: numbers of batches, and gaps as ranges.
fn drain(spool: &Spool<SimDisk>, after: BatchSeq) -> Vec<(u64, u64)> {
    let mut reader = spool.reader();
    let (mut at, mut seen) = (after, Vec::new());
    while let Some(item) = reader.next(DATA, at).unwrap() {
        let (from, through) = match item {
            Item::Batch(batch) => (batch.seq, batch.seq),
            Item::Gap(gap) => (gap.from, gap.through),
        };
        assert_eq!(from, at.next(), "no hole");
        seen.push((from.0, through.0));
        at = through;
    }
    seen
}

fn now(wall: WallTime, quality: ClockQuality) -> Now {
    Now { wall, monotonic: Duration::ZERO, quality }
}

#[test]
fn batches_come_back_in_order_and_are_trimmed() {
    let disk = SimDisk::new();
    let (mut spool, recovered) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    assert!(recovered.is_new);
    for number in 0..100 {
        assert_eq!(push(&mut spool, WallTime(T0.0 + number)).unwrap().0, number.unsigned_abs() + 1);
        spool.commit().unwrap();
    }
    assert_eq!(drain(&spool, BatchSeq::ZERO).len(), 100);
    assert_eq!(drain(&spool, BatchSeq(97)), [(98, 98), (99, 99), (100, 100)]);
    let before = spool.status().segments;
    spool.release(DATA, BatchSeq(60)).unwrap();
    assert_eq!(spool.status().segments, before, "the cursor must be durable before the unlink");
    spool.commit().unwrap();
    assert!(spool.status().segments < before);
    spool.release(DATA, BatchSeq(1000)).unwrap();
    spool.commit().unwrap();
    let status = &spool.status().streams[0];
    assert_eq!((status.queued_batches, status.queued_bytes.0), (0, 0));
    assert_eq!(status.acknowledged, BatchSeq(100), "never beyond the newest");
}

#[test]
fn a_full_stream_refuses_at_its_limit() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    push(&mut spool, T0).unwrap();
    let one = spool.used(DATA);
    drop(spool);
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(one * 5, WhenFull::Refuse));
    for _ in 0..5 {
        push(&mut spool, T0).unwrap();
    }
    let PushError::Full(full) = push(&mut spool, T0).unwrap_err() else { panic!("not full") };
    assert_eq!(full.used, ByteCount(one * 5));
    spool.commit().unwrap();
    spool.release(DATA, BatchSeq(5)).unwrap();
    push(&mut spool, T0).unwrap();
}

#[test]
fn the_oldest_make_room_as_a_recorded_gap() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(4000, WhenFull::DropOldest));
    let mut dropped = Vec::new();
    for number in 0..100 {
        push(&mut spool, WallTime(T0.0 + number)).unwrap();
        spool.commit().unwrap();
        dropped.extend(spool.take_gaps());
    }
    assert!(spool.used(DATA) <= 4000);
    let lost: u64 = dropped.iter().map(|gap| gap.through.0 - gap.from.0 + 1).sum();
    let rows: u64 = dropped.iter().map(|gap| gap.rows).sum();
    assert_eq!(rows, lost * 2, "every row that was dropped is counted");
    let seen = drain(&spool, BatchSeq::ZERO);
    assert_eq!(seen[0], (1, lost), "the space is told of the gap first");
    assert_eq!(seen.last(), Some(&(100, 100)));
    drop(spool);
    let (spool, _) = open(&disk, &config(4000, WhenFull::DropOldest));
    assert_eq!(drain(&spool, BatchSeq::ZERO), seen, "the same after a restart");
}

#[test]
fn old_data_goes_by_a_clock_that_can_be_trusted() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    for number in 0..20 {
        push(&mut spool, WallTime(T0.0 + number)).unwrap();
        spool.commit().unwrap();
    }
    let later = T0.saturating_add(Duration::from_secs(4000));
    let wrong = WallTime::from_seconds(2_208_988_800);
    let before = WallTime(0);
    assert!(spool.enforce(&now(wrong, ClockQuality::Unset)).unwrap().is_empty());
    assert!(spool.enforce(&now(before, ClockQuality::Rtc)).unwrap().is_empty());
    let gaps = spool.enforce(&now(later, ClockQuality::Rtc)).unwrap();
    assert_eq!(gaps.iter().map(|gap| gap.rows).sum::<u64>(), 40);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::QuotaAge));
    spool.commit().unwrap();
    assert_eq!(spool.status().streams[0].queued_batches, 0);
}

/// Two lanes of a class, as the sides of a contract are: the older goes first, whichever number it has, and whether or
/// not they share a segment.
#[test]
fn of_two_lanes_the_older_is_too_old_first() {
    for (older, younger) in [(1, 2), (2, 1)] {
        for (bytes, segments) in [(1, 1), (2000, 2)] {
            let disk = SimDisk::new();
            let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
            let [older, younger] = [older, younger].map(|lane| StreamId::of(DATA.class(), lane));
            let at = |seconds| T0.saturating_add(Duration::from_secs(seconds));
            for (stream, seconds) in [(older, 0), (older, 10), (younger, 3000)] {
                spool.push_batch(stream, at(seconds), &meta(), &vec![7; bytes]).unwrap();
                spool.commit().unwrap();
            }
            assert!(spool.status().segments >= segments);
            let mut enforce = |seconds| {
                let gaps = spool.enforce(&now(at(seconds), ClockQuality::Rtc)).unwrap();
                spool.commit().unwrap();
                gaps.into_iter().map(|gap| gap.stream).collect::<BTreeSet<_>>()
            };
            let case = format!("{older} before {younger}, {bytes} bytes");
            assert_eq!(enforce(3600), [].into(), "{case}: at the limit");
            assert_eq!(enforce(3611), [older].into(), "{case}");
            assert_eq!(enforce(6600), [].into(), "{case}");
            assert_eq!(enforce(6601), [younger].into(), "{case}");
        }
    }
}

#[test]
fn a_full_disk_undoes_numbers_too() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    push(&mut spool, T0).unwrap();
    spool.commit().unwrap();
    disk.set_capacity(Some(10));
    assert_eq!(push(&mut spool, T0).unwrap(), BatchSeq(2));
    assert!(spool.commit().unwrap_err().is_no_space());
    disk.set_capacity(None);
    assert_eq!(push(&mut spool, T0).unwrap(), BatchSeq(2), "the number was given back");
    spool.commit().unwrap();
    assert_eq!(drain(&spool, BatchSeq::ZERO), [(1, 1), (2, 2)]);
}

#[test]
fn leaves_keep_their_segment_until_they_are_sealed() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    for number in 0..40 {
        push(&mut spool, WallTime(T0.0 + number)).unwrap();
        spool.push_leaf(number.unsigned_abs(), b"leaf").unwrap();
        spool.commit().unwrap();
    }
    spool.release(DATA, BatchSeq(40)).unwrap();
    spool.commit().unwrap();
    let all = spool.status().segments;
    assert!(all > 2);
    spool.handle_leaves_sealed(40);
    spool.commit().unwrap();
    assert_eq!(spool.status().segments, 2, "the newest, and the one before it");
}

#[test]
fn damage_becomes_a_gap() {
    let disk = SimDisk::new();
    let config = config(1 << 20, WhenFull::Refuse);
    let (mut spool, _) = open(&disk, &config);
    for number in 0..30 {
        push(&mut spool, WallTime(T0.0 + number)).unwrap();
        spool.commit().unwrap();
    }
    drop(spool);
    let victim = crate::journal::segment_name(1);
    disk.flip_bit(&victim, 8 * 300);
    let (spool, _) = open(&disk, &config);
    let seen = drain(&spool, BatchSeq::ZERO);
    assert_eq!(seen.iter().map(|(from, through)| through - from + 1).sum::<u64>(), 30);
    let report = verify(&disk, &mut |_, _| {}).unwrap();
    assert!(!report.is_clean());
    assert!(report.batches < 30);
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Session(u8),
    Commit,
    Release(u8),
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Push),
        2 => any::<u8>().prop_map(Step::Session),
        4 => Just(Step::Commit),
        2 => any::<u8>().prop_map(Step::Release),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_committed_survives(steps in prop::collection::vec(step(), 1..120)) {
        let disk = SimDisk::new();
        let config = config(1 << 20, WhenFull::Refuse);
        let (mut spool, _) = open(&disk, &config);
        let (mut newest, mut durable, mut acked) = (0_u64, 0_u64, 0_u64);
        let (mut session, mut durable_session) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push => {
                    newest += 1;
                    prop_assert_eq!(push(&mut spool, T0).unwrap().0, newest);
                }
                Step::Session(byte) => {
                    session.push(byte);
                    spool.push_session(&[byte]).unwrap();
                }
                Step::Commit => {
                    spool.commit().unwrap();
                    durable = newest;
                    durable_session = session.clone();
                    spool.set_session_snapshot(session.clone());
                }
                Step::Release(part) => {
                    acked = acked.max(durable * u64::from(part) / 255);
                    spool.release(DATA, BatchSeq(acked)).unwrap();
                }
                Step::Crash(seed) => {
                    drop(spool);
                    disk.crash(seed);
                    let recovered;
                    (spool, recovered) = open(&disk, &config);
                    newest = spool.status().streams[0].newest.0;
                    // A commit that was not answered may be there or not, but whole.
                    prop_assert!(newest >= durable, "{} < {}", newest, durable);
                    durable = newest;
                    session = recovered.session_snapshot.clone();
                    session.extend(recovered.session_deltas.concat());
                    prop_assert!(session.starts_with(&durable_session));
                    durable_session = session.clone();
                }
            }
            let expect: Vec<_> = (acked + 1..=durable).map(|seq| (seq, seq)).collect();
            prop_assert_eq!(drain(&spool, BatchSeq(acked)), expect);
        }
    }
}

fn written() -> SimDisk {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    spool.push_leaf(0, b"leaf").unwrap();
    push(&mut spool, T0).unwrap();
    spool.push_session(b"session").unwrap();
    spool.commit().unwrap();
    push(&mut spool, WallTime(T0.0 + 1)).unwrap();
    spool.release(DATA, BatchSeq(1)).unwrap();
    spool.commit().unwrap();
    disk
}

/// Version 1 lies on disks in the field: its file is never written again, only read.
#[test]
fn version_one_stays_readable() {
    let golden = include_bytes!("../../tests/golden/segment-1.bin");
    let disk = written();
    let name = disk
        .list()
        .unwrap()
        .into_iter()
        .find(|name| disk.contents(name).is_some_and(|bytes| !bytes.is_empty()));
    let name = name.unwrap();
    assert_eq!(disk.contents(&name).unwrap(), golden);
    let old = SimDisk::new();
    old.put(&name, golden);
    let (spool, recovered) = open(&old, &config(1 << 20, WhenFull::Refuse));
    assert!(!recovered.is_new);
    assert_eq!((spool.id(), recovered.session_deltas), (ID, vec![b"session".to_vec()]));
    assert_eq!(spool.reader().leaves_from(0).unwrap(), [(0, Bytes::from_static(b"leaf"))]);
    assert_eq!(drain(&spool, spool.reader().acknowledged(DATA)), [(2, 2)]);
}

/// Lanes of a class share its quota and have orders of their own; a shredded lane leaves the others.
#[test]
fn lanes_share_a_quota_and_are_shredded_alone() {
    let disk = SimDisk::new();
    let config = config(1 << 20, WhenFull::Refuse);
    let (mut spool, _) = open(&disk, &config);
    let lane = |number| StreamId::of(DATA.class(), number);
    for number in [0, 1, 2, 1] {
        let terms = vec![7; usize::from(number)];
        let meta = BatchMeta { terms, ..meta() };
        spool.push_batch(lane(number), T0, &meta, b"batch").unwrap();
    }
    spool.commit().unwrap();
    let class = |spool: &Spool<SimDisk>| spool.status().streams[0].clone();
    assert_eq!((class(&spool).queued_batches, class(&spool).newest), (4, BatchSeq(4)));
    let gap = spool.shred(lane(1)).unwrap().unwrap();
    assert_eq!((gap.from, gap.through, gap.rows), (BatchSeq(1), BatchSeq(2), 4));
    assert_eq!(gap.reason, GapReason::Shredded);
    spool.commit().unwrap();
    assert_eq!(spool.shred(lane(1)).unwrap(), None);
    drop(spool);
    let (spool, _) = open(&disk, &config);
    let mut reader = spool.reader();
    assert_eq!(reader.streams(), [lane(0), lane(1), lane(2)]);
    let next = |reader: &mut SpoolReader<SimDisk>, number| {
        reader.next(lane(number), BatchSeq::ZERO).unwrap().unwrap()
    };
    assert!(matches!(next(&mut reader, 1), Item::Gap(found) if found == gap));
    assert!(matches!(next(&mut reader, 2), Item::Batch(batch) if batch.meta.terms == [7, 7]));
    assert_eq!(class(&spool).queued_batches, 2);
}

/// A lane that waits keeps its own segments, and not all that others have filled and freed since.
#[test]
fn one_that_waits_does_not_keep_what_others_have_freed() {
    let disk = SimDisk::new();
    let config = config(1 << 20, WhenFull::Refuse);
    let (mut spool, _) = open(&disk, &config);
    let lane = |number| StreamId::of(DATA.class(), number);
    let mut leaf = 0;
    for number in 1..=200 {
        if number % 100 == 1 {
            spool.push_batch(lane(1), T0, &meta(), b"waits").unwrap();
        }
        spool.push_batch(lane(2), T0, &meta(), &[7; 300]).unwrap();
        spool.push_leaf(leaf, &[8; 100]).unwrap();
        leaf += 1;
        spool.commit().unwrap();
        spool.release(lane(2), BatchSeq(number)).unwrap();
        spool.handle_leaves_sealed(leaf);
        spool.commit().unwrap();
    }
    assert!(spool.status().segments <= 4, "{:?}", spool.status());
    let total = spool.total();
    assert!((1000..6000).contains(&total), "{total} bytes are held");
    drop(spool);
    let report = verify(&disk, &mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let (spool, _) = open(&disk, &config);
    let mut reader = spool.reader();
    let mut at = BatchSeq::ZERO;
    while let Some(item) = reader.next(lane(1), at).unwrap() {
        let Item::Batch(batch) = item else { panic!("{item:?}") };
        assert_eq!(&batch.bytes[..], b"waits");
        at = batch.seq;
    }
    assert_eq!((at, spool.newest(lane(2))), (BatchSeq(2), BatchSeq(200)));
    assert!(reader.next(lane(2), spool.released(lane(2))).unwrap().is_none());
}

/// Whatever bit of the newest header turns: numbers, what waits and the sessions are known from the segment before.
#[test]
fn a_damaged_last_header_costs_nothing() {
    let disk = SimDisk::new();
    let config = config(1 << 20, WhenFull::Refuse);
    let (mut spool, _) = open(&disk, &config);
    let lane = |number| StreamId::of(DATA.class(), number);
    for number in 1..=60 {
        let to = if number <= 10 { lane(1) } else { lane(2) };
        spool.push_batch(to, T0, &meta(), &[7; 300]).unwrap();
        spool.push_session(&[number]).unwrap();
        spool.commit().unwrap();
    }
    spool.release(lane(1), BatchSeq(4)).unwrap();
    spool.release(lane(2), BatchSeq(49)).unwrap();
    spool.commit().unwrap();
    let id = spool.id();
    drop(spool);
    let last =
        disk.list().unwrap().into_iter().filter(|name| name.ends_with(".gks")).max().unwrap();
    let whole = disk.contents(&last).unwrap();
    for at in (0..60).chain([whole.len().min(100)]) {
        // The version, of which it says that it is newer.
        if at == 7 {
            continue;
        }
        let disk = copy_of(&disk);
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        disk.put(&last, &damaged);
        let (mut spool, recovered) =
            Spool::open(disk.clone(), config.clone(), SpoolId([9; 16])).unwrap();
        assert_eq!(
            (spool.id(), spool.newest(lane(1)), spool.newest(lane(2))),
            (id, BatchSeq(10), BatchSeq(50))
        );
        let sessions = [recovered.session_snapshot, recovered.session_deltas.concat()].concat();
        assert_eq!(sessions, (1..=60).collect::<Vec<u8>>(), "byte {at}");
        let mut reader = spool.reader();
        let Some(Item::Batch(batch)) = reader.next(lane(1), BatchSeq(4)).unwrap() else { panic!() };
        assert_eq!(batch.seq, BatchSeq(5));
        assert_eq!(spool.push_batch(lane(2), T0, &meta(), b"next").unwrap(), BatchSeq(51));
        spool.commit().unwrap();
    }
}

/// What another class holds stays on the disk, so nothing is given up for it.
#[test]
fn nothing_is_given_up_where_that_frees_nothing() {
    let disk = SimDisk::new();
    let bulk = config(1 << 30, WhenFull::DropOldest);
    let critical = StreamId(2);
    let mut streams = bulk.streams.clone();
    let when_full = WhenFull::Refuse;
    streams.push(StreamConfig {
        id: critical,
        name: "critical".to_owned(),
        when_full,
        ..streams[0].clone()
    });
    let total_bytes_max = RESERVE_BYTES + 60_000;
    let config = SpoolConfig { total_bytes_max, streams, ..bulk };
    let (mut spool, _) = open(&disk, &config);
    // One of the other class in each segment.
    let full = loop {
        spool.push_batch(critical, T0, &meta(), &[7; 10]).unwrap();
        spool.commit().unwrap();
        let pushed = (0..3).try_for_each(|_| {
            spool.push_batch(DATA, T0, &meta(), &[7; 300])?;
            spool.commit().map_err(PushError::from)
        });
        match pushed {
            Ok(()) => {}
            Err(PushError::Full(full)) => break full,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(full.what.contains("held by other streams"), "{full}");
    assert_eq!(spool.released(DATA), BatchSeq::ZERO, "nothing was given up");
    // Once the other class has gone, the oldest make room.
    spool.release(critical, spool.newest(critical)).unwrap();
    spool.commit().unwrap();
    spool.push_batch(DATA, T0, &meta(), &[7; 300]).unwrap();
    spool.commit().unwrap();
    assert!(spool.released(DATA) > BatchSeq::ZERO);
    assert!(verify(&disk, &mut |_, _| {}).unwrap().is_clean());
}

/// A segment that is gone, wherever it stood, is told.
#[test]
fn missing_segments_are_holes() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    for _ in 0..60 {
        spool.push_batch(DATA, T0, &meta(), &[7; 300]).unwrap();
        spool.commit().unwrap();
    }
    let names: Vec<String> =
        disk.list().unwrap().into_iter().filter(|name| name.ends_with(".gks")).collect();
    for name in &names[..names.len() - 1] {
        let disk = copy_of(&disk);
        disk.remove(name).unwrap();
        let report = verify(&disk, &mut |_, _| {}).unwrap();
        assert_eq!(report.holes, 60 - report.batches, "{name}");
        assert!(report.holes > 0);
    }
}

/// The limit is one of the disk: leaves and sessions between the batches count.
#[test]
fn what_lies_between_batches_counts() {
    let disk = SimDisk::new();
    let limit = RESERVE_BYTES + 20_000;
    let config = SpoolConfig { total_bytes_max: limit, ..config(1 << 20, WhenFull::Refuse) };
    let (mut spool, _) = open(&disk, &config);
    let mut leaf = 0;
    let full = loop {
        match push(&mut spool, T0) {
            Ok(_) => {}
            Err(PushError::Full(full)) => break full,
            Err(other) => panic!("{other}"),
        }
        for _ in 0..5 {
            spool.push_leaf(leaf, &[8; 100]).unwrap();
            leaf += 1;
        }
        spool.commit().unwrap();
        assert!(spool.status().disk_bytes.0 <= limit, "{:?}", spool.status());
    };
    assert_eq!(full.what, "the spool");
    assert!(leaf < 200, "{leaf} leaves");
}

/// What an operator gives up ends where he said, whether or not a segment ends there, and is counted row by row.
#[test]
fn a_part_is_given_up() {
    for through in 0..=60 {
        let disk = SimDisk::new();
        let config = config(1 << 20, WhenFull::Refuse);
        let (mut spool, _) = open(&disk, &config);
        for number in 0..50 {
            push(&mut spool, WallTime(T0.0 + number)).unwrap();
            spool.commit().unwrap();
        }
        spool.release(DATA, BatchSeq(3)).unwrap();
        spool.commit().unwrap();
        let gap = spool.give_up(DATA, BatchSeq(through), GapReason::Operator).unwrap();
        let last = through.min(50);
        let expect = (last > 3).then(|| GapRecord {
            stream: DATA,
            from: BatchSeq(4),
            through: BatchSeq(last),
            rows: 2 * (last - 3),
            reason: GapReason::Operator,
        });
        assert_eq!(gap, expect);
        spool.commit().unwrap();
        let expect: Vec<GapRecord> = expect.into_iter().collect();
        let seen = contents(&disk).unwrap();
        let stream = &seen.streams[&DATA];
        assert_eq!((stream.waiting(), &stream.gaps), (50 - last.max(3), &expect));
        let (again, _) = open(&disk, &config);
        assert_eq!(again.released(DATA), BatchSeq(last.max(3)));
    }
}

/// The files say the same to whoever looks beside the owner as to who opens them.
#[test]
fn contents_are_read_beside_the_owner() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 20, WhenFull::Refuse));
    assert!(contents(&disk).unwrap().streams.is_empty());
    for number in 0..50 {
        push(&mut spool, WallTime(T0.0 + number)).unwrap();
        spool.push_session(&[u8::try_from(number).unwrap()]).unwrap();
        spool.commit().unwrap();
    }
    spool.release(DATA, BatchSeq(20)).unwrap();
    spool.commit().unwrap();
    let seen = contents(&disk).unwrap();
    assert_eq!(seen.segments, spool.status().segments);
    let stream = &seen.streams[&DATA];
    assert_eq!((stream.newest, stream.released), (BatchSeq(50), BatchSeq(20)));
    let status = &spool.status().streams[0];
    assert_eq!((stream.bytes_max, stream.oldest), (status.queued_bytes, status.oldest));
    assert_eq!(stream.youngest, Some(WallTime(T0.0 + 49)));
    assert!((60..=100).contains(&stream.rows_max), "{}", stream.rows_max);
    let deltas = seen.session_deltas.concat();
    assert_eq!([seen.session_snapshot, deltas].concat(), (0..50).collect::<Vec<u8>>());
}

#[test]
fn lanes_are_limited() {
    let disk = SimDisk::new();
    let (mut spool, _) = open(&disk, &config(1 << 30, WhenFull::Refuse));
    let mut push = |number| {
        let lane = StreamId::of(DATA.class(), u16::try_from(number).unwrap());
        spool.push_batch(lane, T0, &meta(), b"")
    };
    for number in 0..LANES_MAX {
        assert_eq!(push(number).unwrap(), BatchSeq(1));
    }
    assert!(matches!(push(LANES_MAX), Err(PushError::Spool(SpoolError::Lanes))));
    assert_eq!(push(0).unwrap(), BatchSeq(2));
    spool.commit().unwrap();
}
