//! The journal against the simulated disk: every cut, flips, crashes, full and failing disks.

use super::*;
use crate::disk::SimDisk;
use proptest::prelude::*;

const CONFIG: JournalConfig = JournalConfig { segment_bytes_max: 400 };
const ID: [u8; 16] = [7; 16];

type Frames = Vec<(u64, Vec<u8>)>;

fn open(disk: &SimDisk) -> (Journal<SimDisk>, Frames, Salvage) {
    let mut frames = Vec::new();
    let mut visit = |seen: Visit<'_>| match seen {
        Visit::Frame { number, payload, .. } => frames.push((number, payload.to_vec())),
        Visit::Sealed { number, summary } => frames.push((number, summary.to_vec())),
        Visit::Segment { .. } => {}
    };
    let (journal, salvage) = Journal::open(disk.clone(), CONFIG, ID, &mut visit).unwrap();
    (journal, frames, salvage)
}

/// Commits `texts` together; the segment's summary is "sealed".
fn commit(journal: &mut Journal<SimDisk>, texts: &[String]) -> Result<(), JournalError> {
    if journal.needs_segment() {
        journal.begin(b"sealed", b"snapshot".to_vec())?;
    }
    for text in texts {
        journal.append(1, &[text.as_bytes()])?;
    }
    journal.commit()
}

/// All frames as a survey sees them, footers apart.
fn survey_texts(disk: &SimDisk) -> Vec<String> {
    let mut texts = Vec::new();
    survey(disk, &mut |seen| {
        if let Visit::Frame { payload, .. } = seen {
            texts.push(String::from_utf8(payload.to_vec()).unwrap());
        }
    })
    .unwrap();
    texts
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("frame {number:04}")).collect()
}

#[test]
fn every_truncation_recovers_the_longest_whole_prefix() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    let mut ends = Vec::new();
    for first in (0..9).step_by(3) {
        commit(&mut journal, &texts(first..first + 3)).unwrap();
        ends.push(disk.contents(&segment_name(1)).unwrap().len());
    }
    let whole = disk.contents(&segment_name(1)).unwrap();
    for cut in 0..=whole.len() {
        for zeros in [0, 37] {
            let torn = SimDisk::new();
            let mut bytes = whole[..cut].to_vec();
            bytes.extend(vec![0; zeros]);
            torn.put(&segment_name(1), &bytes);
            // Zeros after the cut may be the very bytes that were cut off.
            let is_whole = |end: &&usize| bytes.get(..**end) == Some(&whole[..**end]);
            let commits = ends.iter().filter(is_whole).count();
            let (mut journal, frames, salvage) = open(&torn);
            assert_eq!(frames.len(), commits * 3, "cut at {cut}");
            assert_eq!(salvage.damaged_places, 0, "a torn tail is no damage, cut at {cut}");
            commit(&mut journal, &texts(90..91)).unwrap();
            assert_eq!(survey_texts(&torn).len(), commits * 3 + 1, "goes on after cut at {cut}");
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    for first in (0..9).step_by(3) {
        commit(&mut journal, &texts(first..first + 3)).unwrap();
    }
    let whole = disk.contents(&segment_name(1)).unwrap();
    for bit in 0..whole.len() * 8 {
        let flipped = SimDisk::new();
        flipped.put(&segment_name(1), &whole);
        flipped.flip_bit(&segment_name(1), bit);
        if frame::Header::is_of_other_version(&flipped.contents(&segment_name(1)).unwrap()) {
            assert_eq!(bit / 8, 7, "the version is refused, never destroyed");
            let opened = Journal::open(flipped.clone(), CONFIG, ID, &mut |_| {});
            assert!(matches!(opened, Err(JournalError::Version { .. })));
            continue;
        }
        let (_, frames, salvage) = open(&flipped);
        let kept: Vec<String> =
            frames.into_iter().map(|(_, text)| String::from_utf8(text).unwrap()).collect();
        assert!(kept.iter().all(|text| texts(0..9).contains(text)), "bit {bit} made a new frame");
        let noticed = salvage.damaged_places > 0 || salvage.torn_bytes > 0;
        assert!(noticed, "bit {bit} was not noticed");
        assert!(kept.len() >= 6, "bit {bit} cost more than the commit that it stands in");
    }
}

#[test]
fn sealed_segments_are_opened_by_their_summary() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    for first in 0..60 {
        commit(&mut journal, &texts(first..first + 1)).unwrap();
    }
    let last = journal.segment().unwrap();
    assert!(last > 3);
    drop(journal);
    let (_, frames, salvage) = open(&disk);
    assert_eq!(salvage, Salvage::default());
    assert!(frames.iter().filter(|(number, _)| *number < last).all(|(_, text)| text == b"sealed"));
    assert_eq!(survey_texts(&disk), texts(0..60));
}

#[test]
fn a_full_disk_undoes_the_commit() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    commit(&mut journal, &texts(0..2)).unwrap();
    let used = disk.contents(&segment_name(1)).unwrap().len() as u64;
    disk.set_capacity(Some(used + 10));
    let fault = commit(&mut journal, &texts(2..4)).unwrap_err();
    assert!(matches!(fault, JournalError::NoSpace));
    assert_eq!(survey_texts(&disk), texts(0..2));
    disk.set_capacity(None);
    commit(&mut journal, &texts(4..5)).unwrap();
    assert_eq!(survey_texts(&disk).last().unwrap(), "frame 0004");
}

#[test]
fn a_failed_flush_poisons() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    commit(&mut journal, &texts(0..1)).unwrap();
    disk.fail_next_sync();
    assert!(matches!(commit(&mut journal, &texts(1..2)), Err(JournalError::Io { .. })));
    assert!(matches!(commit(&mut journal, &texts(2..3)), Err(JournalError::Poisoned)));
}

#[test]
fn a_reader_sees_committed_frames_only() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    commit(&mut journal, &texts(0..1)).unwrap();
    let mut reader = journal.reader();
    journal.append(1, &[b"not yet"]).unwrap();
    let first = reader.next(1, reader.first_offset(1).unwrap()).unwrap().unwrap();
    assert_eq!(&first.payload[..], b"frame 0000");
    assert!(reader.next(1, first.next).unwrap().is_none());
    journal.commit().unwrap();
    assert_eq!(&reader.next(1, first.next).unwrap().unwrap().payload[..], b"not yet");
}

#[test]
fn limits_are_exact() {
    let disk = SimDisk::new();
    let (mut journal, ..) = open(&disk);
    journal.begin(b"", Vec::new()).unwrap();
    let largest = vec![0; FRAME_BYTES_MAX];
    journal.append(1, &[&largest]).unwrap();
    assert!(matches!(journal.append(1, &[&largest, b"x"]), Err(JournalError::TooLarge { .. })));
    let snapshot = vec![0; SNAPSHOT_BYTES_MAX + 1];
    journal.rollback();
    assert!(matches!(journal.begin(b"", snapshot), Err(JournalError::TooLarge { .. })));
    journal.begin(b"", vec![0; SNAPSHOT_BYTES_MAX]).unwrap();
}

/// Commits until a power cut, opens, checks, goes on: what was committed is there, in order, once.
fn survives_crashes(seeds: &[u64], ignore_directory_sync: bool) -> Result<(), String> {
    let disk = SimDisk::new();
    disk.ignore_directory_sync(ignore_directory_sync);
    let mut promised = Vec::new();
    let mut next = 0;
    for seed in seeds {
        let (mut journal, ..) = open(&disk);
        for step in 0..(seed % 23) as usize {
            let batch = texts(next..next + 1 + step % 4);
            next += batch.len();
            commit(&mut journal, &batch).unwrap();
            promised.extend(batch);
        }
        // Written, but never committed: it may vanish and must not hurt.
        if !journal.needs_segment() {
            journal.append(1, &[b"unpromised"]).unwrap();
        }
        disk.crash(*seed);
        drop(open(&disk));
        if survey_texts(&disk) != promised {
            return Err(format!("seed {seed}: {} promised", promised.len()));
        }
    }
    Ok(())
}

#[test]
fn a_skipped_directory_sync_is_seen() {
    let lost = (0..50).filter(|seed| survives_crashes(&[17, *seed + 5, 22], true).is_err()).count();
    assert!(lost > 10, "the checker must be able to fail, it failed {lost} times of 50");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn committed_frames_survive_power_cuts(seeds in prop::collection::vec(any::<u64>(), 1..8)) {
        prop_assert_eq!(survives_crashes(&seeds, false), Ok(()));
    }

    #[test]
    fn any_file_gives_an_answer(bytes: Vec<u8>, prefix in 0_usize..60) {
        let disk = SimDisk::new();
        let header = frame::Header { number: 1, id: ID, snapshot: Vec::new() }.encode();
        let mut file = header[..prefix.min(header.len())].to_vec();
        file.extend(bytes);
        disk.put(&segment_name(1), &file);
        let _ = Journal::open(disk, CONFIG, ID, &mut |_| {});
    }
}
