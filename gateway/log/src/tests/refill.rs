//! Leaves that come back: as they were, or not at all.

use super::*;
use crate::{
    BEYOND_KEPT_MAX, DAMAGED_KEPT_MAX, ENDED_LEAVES_MAX, Ended, Known, RefillFault, SetAside,
};
use guan_evidence::verify::{Report, Trust};
use guan_evidence::{Checkpoint, LEAF_BYTES_MAX, Lineage};
use std::collections::BTreeSet;

const FIRST: &str = "entries-0000000000000000";

fn lineage(rig: &Rig) -> Lineage {
    Lineage::new(VerifierKey::of(rig.key.as_ref()).unwrap())
}

fn judge(rig: &Rig, epoch: Option<Epoch>) -> Report {
    let trust = Trust::of_key(BASE, VerifierKey::of(rig.key.as_ref()).unwrap());
    rig.reader(epoch).judge(trust, &mut |_, _| {}).unwrap()
}

/// Whether all leaves are here and under a signed head.
fn is_whole(rig: &Rig, epoch: Option<Epoch>) -> bool {
    let report = judge(rig, epoch);
    // The rigs' leaves begin no boot; nothing else may be wrong with them.
    let others = report.faults.iter().filter(|one| !one.to_string().contains("begin with a start"));
    others.count() == 0
}

fn leaves(rig: &Rig, range: std::ops::Range<usize>) -> Vec<Bytes> {
    rig.journal[range].iter().map(|(_, leaf)| leaf.clone()).collect()
}

#[test]
fn a_bundle_comes_back_only_as_it_was() {
    let (rig, head) = signed_rig();
    assert!(is_whole(&rig, None) && head.size == 600);
    let kept = rig.disk.contents(FIRST).unwrap();
    let good = leaves(&rig, 0..256);
    let mut log = rig.open();
    assert_eq!(log.refill(0, &good).unwrap(), None, "the twin: it is not damaged");
    rig.disk.flip_bit(FIRST, 700);
    let damaged = rig.disk.contents(FIRST).unwrap();
    assert!(!is_whole(&rig, None));
    let refuse = |log: &mut EvidenceLog<SimDisk>, leaves: &[Bytes], expect: &str| {
        let fault = log.refill(0, leaves).unwrap_err().to_string();
        assert!(fault.contains(expect), "{fault}");
        assert_eq!(rig.disk.contents(FIRST).unwrap(), damaged, "nothing is written");
        assert!(!rig.disk.list().unwrap().iter().any(|name| name.contains("damaged")));
    };
    let mut other = good.clone();
    other[255] = leaves(&rig, 256..257).remove(0);
    refuse(&mut log, &other, "whoever sent them is to blame");
    other.swap(3, 4);
    refuse(&mut log, &other, "not those that were written");
    refuse(&mut log, &good[..255], "255 leaves came for 256");
    refuse(&mut log, &leaves(&rig, 0..257), "257 leaves came for 256");
    other[7] = Bytes::from(vec![0; LEAF_BYTES_MAX + 1]);
    refuse(&mut log, &other, "leaf 7 of those that came has 2049 bytes");
    other[7] = Bytes::from(vec![0; LEAF_BYTES_MAX]);
    refuse(&mut log, &other, "not those that were written");
    let refilled = log.refill(0, &good).unwrap().unwrap();
    assert_eq!((refilled.from, refilled.through), (0, 255));
    assert_eq!(refilled.set_aside, SetAside::Kept);
    assert_eq!(rig.disk.contents(FIRST).unwrap(), kept);
    assert_eq!(rig.disk.contents("damaged-0000000000000000").unwrap(), damaged);
    assert!(is_whole(&rig, None));
    assert!(matches!(
        log.refill(2, &good).unwrap_err(),
        RefillFault::Unsealed { number: 2, bundles: 2 }
    ));
    // A bundle that is gone comes back, too, and a hash that rotted beside it; one that was dropped does not.
    rig.disk.flip_bit("subtrees", 256 + 5);
    rig.disk.put("entries-0000000000000001", b"");
    let again = log.refill(1, &leaves(&rig, 256..512)).unwrap().unwrap();
    assert_eq!(again.set_aside, SetAside::Kept);
    assert!(is_whole(&rig, None) && rig.open().head() == head);
    log.prune(256).unwrap();
    assert!(matches!(log.refill(0, &good).unwrap_err(), RefillFault::Pruned { number: 0 }));
}

/// The first damaged files stay, and those beyond the limit are replaced without a copy.
#[test]
fn damaged_files_are_kept_up_to_a_limit() {
    let mut rig = Rig::new();
    let mut log = rig.open();
    let count = DAMAGED_KEPT_MAX as u64 + 1;
    rig.append(&mut log, count * 256);
    log.seal().unwrap();
    let kept: Vec<SetAside> = (0..count)
        .map(|number| {
            rig.disk.flip_bit(&format!("entries-{number:016}"), 900);
            let from = usize::try_from(number * 256).unwrap();
            let good = leaves(&rig, from..from + 256);
            log.refill(number, &good).unwrap().unwrap().set_aside
        })
        .collect();
    let (first, last) = kept.split_at(DAMAGED_KEPT_MAX);
    assert!(first.iter().all(|one| *one == SetAside::Kept));
    assert_eq!(last, [SetAside::Full]);
    let bundles = Bundles::of(rig.disk.clone(), Epoch::FIRST);
    assert_eq!(bundles.damaged_kept().unwrap(), DAMAGED_KEPT_MAX);
}

/// A bundle that rots more than once leaves a file each time; the same file once more, after a stop, is no other.
#[test]
fn no_damaged_file_takes_the_place_of_another() {
    let (rig, _) = signed_rig();
    let good = leaves(&rig, 0..256);
    let mut log = rig.open();
    let mut expect = Vec::new();
    for copy in 1..=DAMAGED_KEPT_MAX {
        rig.disk.flip_bit(FIRST, 700 + copy);
        let name = match copy {
            1 => "damaged-0000000000000000".to_owned(),
            _ => format!("damaged-0000000000000000.{copy}"),
        };
        let damaged = rig.disk.contents(FIRST).unwrap();
        expect.push((name, damaged.clone()));
        for _ in 0..2 {
            rig.disk.put(FIRST, &damaged);
            let refilled = log.refill(0, &good).unwrap().unwrap();
            assert_eq!(refilled.set_aside, SetAside::Kept, "{copy}");
        }
    }
    rig.disk.flip_bit(FIRST, 900);
    assert_eq!(log.refill(0, &good).unwrap().unwrap().set_aside, SetAside::Full);
    for (name, damaged) in expect {
        assert_eq!(rig.disk.contents(&name), Some(damaged), "{name}");
    }
    assert_eq!(log_bundles(&rig).damaged_kept().unwrap(), DAMAGED_KEPT_MAX);
}

fn log_bundles(rig: &Rig) -> Bundles<SimDisk> {
    Bundles::of(rig.disk.clone(), Epoch::FIRST)
}

/// What lies beyond the cosigned head may be nowhere else: it stays, or nothing is done.
#[test]
fn what_lies_beyond_the_cosigned_head_is_never_destroyed() {
    let second = Epoch::new(2).unwrap();
    // Three bundles and a tail.
    for room in [4, 3] {
        let (mut rig, _) = signed_rig();
        let good = leaves(&rig, 0..600);
        let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
        let mut log = rig.open();
        rig.append(&mut log, 3 * 256);
        log.seal().unwrap();
        let bundles = log_bundles(&rig);
        assert_eq!(bundles.count().unwrap(), 5);
        // Bundle 1 and the hashes are gone: nothing after the first is proven.
        rig.disk.remove("entries-0000000000000001").unwrap();
        let hashes = rig.disk.contents("subtrees").unwrap();
        rig.disk.put("subtrees", &hashes[..32]);
        (0..BEYOND_KEPT_MAX - room)
            .for_each(|copy| rig.disk.put(&format!("beyond-9{copy:015}"), b"other"));
        assert!(open_with(&rig, &cosigned).begun().is_some());
        rig.journal.clear();
        rig.disk.put("tail", b"leaves beyond");
        let old = [
            "entries-0000000000000002",
            "entries-0000000000000003",
            "entries-0000000000000004",
            "tail",
        ];
        let old = old.map(|name| rig.disk.contents(name).unwrap());
        let files = || {
            let names = rig.disk.list().unwrap().into_iter();
            names.map(|name| (rig.disk.contents(&name), name)).collect::<BTreeSet<_>>()
        };
        let before = files();
        let ended = lacking(&rig, second).pop().unwrap();
        let returned = ended.refill(&good[256..]);
        if room < 4 {
            let fault = returned.unwrap_err();
            assert!(matches!(fault, RefillFault::Beyond { kept: 1021, more: 4 }), "{fault:?}");
            assert_eq!(files(), before, "nothing goes");
            // One that somebody took away makes the room.
            rig.disk.remove("beyond-9000000000000000").unwrap();
            ended.refill(&good[256..]).unwrap();
        } else {
            assert_eq!(returned.unwrap().not_kept, 0);
        }
        assert_eq!(
            (bundles.beyond_kept().unwrap(), bundles.count().unwrap()),
            (BEYOND_KEPT_MAX, 2)
        );
        let kept = ["0000000000000002", "0000000000000003", "0000000000000004", "tail"];
        let kept = kept.map(|what| rig.disk.contents(&format!("beyond-{what}")).unwrap());
        assert_eq!(kept, old);
        assert_eq!(bundles.damaged_kept().unwrap(), 0, "they are not damaged");
        assert!(lacking(&rig, second).is_empty());
    }
}

/// Once more, and with a name that is taken: what was kept first stays as well.
#[test]
fn an_older_tail_does_not_take_the_place_of_another() {
    let (mut rig, _) = signed_rig();
    let good = leaves(&rig, 512..600);
    let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
    rig.journal.truncate(590);
    assert!(open_with(&rig, &cosigned).begun().is_some());
    rig.journal.clear();
    let tail = rig.disk.contents("tail").unwrap();
    rig.disk.put("beyond-tail", b"first");
    lacking(&rig, Epoch::new(2).unwrap()).pop().unwrap().refill(&good).unwrap();
    assert_eq!(rig.disk.contents("beyond-tail").unwrap(), b"first");
    assert_eq!(rig.disk.contents("beyond-tail.2").unwrap(), tail);
}

/// A damaged file that goes without a copy is told even where a later step fails.
#[test]
fn what_was_not_kept_is_told_with_a_fault() {
    let (mut rig, _) = signed_rig();
    let good = leaves(&rig, 256..600);
    let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
    rig.disk.put("entries-0000000000000001", b"nothing");
    let hashes = rig.disk.contents("subtrees").unwrap();
    rig.disk.put("subtrees", &hashes[..32]);
    (0..DAMAGED_KEPT_MAX).for_each(|copy| rig.disk.put(&format!("damaged-{copy:016}.16"), b""));
    assert!(open_with(&rig, &cosigned).begun().is_some());
    rig.journal.clear();
    let ended = lacking(&rig, Epoch::new(2).unwrap()).pop().unwrap();
    rig.disk.fail_next_sync();
    let fault = ended.refill(&good).unwrap_err();
    assert!(matches!(fault, RefillFault::Stopped { not_kept: 1, .. }), "{fault:?}");
    assert!(fault.to_string().contains("1 damaged files may be gone without a copy"), "{fault}");
    assert_eq!(ended.refill(&good).unwrap().not_kept, 1);
}

/// Wherever the power goes while the newest bundle is refilled, the log opens as long as it was.
#[test]
fn a_stop_while_refilling_shortens_no_log() {
    for seed in 0..200 {
        let (mut rig, _) = signed_rig();
        rig.journal.truncate(512);
        let mut log = rig.open();
        assert!(log.begun().is_some(), "its head covers more");
        rig.disk.remove("checkpoint").unwrap();
        rig.disk.sync_directory().unwrap();
        log = rig.open();
        let head = log.head();
        rig.disk.flip_bit("entries-0000000000000001", 300);
        let good = leaves(&rig, 256..512);
        if seed % 2 == 0 {
            rig.disk.fail_next_sync();
            log.refill(1, &good).unwrap_err();
        } else {
            log.refill(1, &good).unwrap();
        }
        rig.disk.crash(seed);
        let mut log = rig.open();
        assert_eq!((log.head(), log.begun()), (head, None), "{seed}");
        log.refill(1, &good).unwrap();
        assert_eq!(rig.open().damaged(), [], "{seed}");
    }
}

/// Opens with the cosigned head beside the log, as a box does.
fn open_with(rig: &Rig, spare: &str) -> EvidenceLog<SimDisk> {
    let from = EvidenceLog::tail_from(rig.disk.clone()).unwrap();
    let tail = rig.journal.iter().filter(|(place, _)| *place >= from).cloned().collect();
    let lineage = lineage(rig);
    let known = Known { lineage: &lineage, spare_head: Some(spare) };
    EvidenceLog::open_after(rig.disk.clone(), BASE, rig.key.clone(), known, tail).unwrap()
}

fn lacking(rig: &Rig, newest: Epoch) -> Vec<Ended<SimDisk>> {
    Ended::all(&rig.disk, BASE, newest, &lineage(rig)).unwrap()
}

#[test]
fn lost_leaves_come_back_into_the_epoch_that_lost_them() {
    let second = Epoch::new(2).unwrap();
    type Harm = fn(&mut Rig);
    let harms: [(Harm, u64); 4] = [
        (|rig| rig.journal.truncate(590), 512),
        (|rig| rig.journal.clear(), 512),
        // Bundle and hash gone: nothing after the first bundle is proven.
        (
            |rig| {
                rig.disk.put("entries-0000000000000001", b"nothing");
                let hashes = rig.disk.contents("subtrees").unwrap();
                rig.disk.put("subtrees", &hashes[..32]);
            },
            256,
        ),
        // The folder is gone as a whole.
        (
            |rig| {
                rig.disk = SimDisk::new();
                rig.journal.clear();
            },
            0,
        ),
    ];
    for (harm, from) in harms {
        let (mut rig, head) = signed_rig();
        let good = leaves(&rig, usize::try_from(from).unwrap()..600);
        let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
        assert!(open_with(&rig, &cosigned).begun().is_none(), "the twin");
        assert!(lacking(&rig, second).is_empty(), "the twin");
        harm(&mut rig);
        let log = open_with(&rig, &cosigned);
        let begun = log.begun().unwrap();
        assert_eq!((begun.previous.as_str(), begun.signed, log.epoch()), (BASE, 600, second));
        // The journal forgets what is of an epoch that has ended.
        rig.journal.clear();
        let ended = lacking(&rig, second).pop().unwrap();
        assert_eq!((ended.wanted(), ended.root()), ((from, 600), head.root));
        let mut other = good.clone();
        let last = other.len() - 1;
        other.swap(last, last - 1);
        let before = rig.disk.list().unwrap().len();
        assert!(matches!(ended.refill(&other), Err(RefillFault::Root { .. })));
        assert!(matches!(ended.refill(&good[1..]), Err(RefillFault::Count { .. })));
        assert_eq!(rig.disk.list().unwrap().len(), before, "nothing is written");
        let short = judge(&rig, Some(Epoch::FIRST)).entries < 600;
        assert!(short || !is_whole(&rig, Some(Epoch::FIRST)));
        assert_eq!(ended.refill(&good).unwrap().root, head.root);
        assert!(lacking(&rig, second).is_empty());
        rig.disk.put("checkpoint", cosigned.as_bytes());
        let report = judge(&rig, Some(Epoch::FIRST));
        assert_eq!((report.entries, report.root), (600, head.root), "from {from}");
        assert!(is_whole(&rig, Some(Epoch::FIRST)), "from {from}: {:?}", report.faults);
    }
}

/// A stop between the files of an epoch that comes back: it asks for the same again.
#[test]
fn a_stop_while_an_epoch_comes_back_loses_nothing() {
    let second = Epoch::new(2).unwrap();
    for seed in 0..100 {
        let (mut rig, head) = signed_rig();
        let good = leaves(&rig, 0..600);
        let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
        (rig.disk, rig.journal) = (SimDisk::new(), Vec::new());
        assert!(open_with(&rig, &cosigned).begun().is_some());
        for _ in 0..seed % 4 {
            rig.disk.fail_next_sync();
            let _ = lacking(&rig, second).pop().unwrap().refill(&good);
            rig.disk.crash(seed);
        }
        let Some(ended) = lacking(&rig, second).pop() else { continue };
        let from = usize::try_from(ended.wanted().0).unwrap();
        assert_eq!(ended.refill(&good[from..]).unwrap().root, head.root);
        rig.disk.crash(seed);
        assert!(lacking(&rig, second).is_empty());
        assert_eq!(judge(&rig, Some(Epoch::FIRST)).root, head.root);
    }
}

#[test]
fn what_comes_back_of_an_epoch_is_bounded() {
    for (size, is_too_much) in [(ENDED_LEAVES_MAX, false), (ENDED_LEAVES_MAX + 1, true)] {
        let rig = Rig::new();
        let root = Digest([7; 32]);
        let cosigned = Checkpoint::sign(BASE, size, &root, rig.key.as_ref()).unwrap();
        assert_eq!(open_with(&rig, &cosigned).begun().unwrap().signed, size);
        let ended = lacking(&rig, Epoch::new(2).unwrap()).pop().unwrap();
        assert_eq!((ended.wanted(), ended.is_too_much()), ((0, size), is_too_much));
    }
    // A head that is not this log's says nothing.
    let (rig, other) = (Rig::new(), Rig::new());
    let foreign = Checkpoint::sign(BASE, 5, &Digest([7; 32]), other.key.as_ref()).unwrap();
    assert!(open_with(&rig, &foreign).begun().is_none());
}

/// A head of its own that went back does not hide what a witness has seen.
#[test]
fn an_older_head_beside_a_cosigned_one_hides_no_loss() {
    let (mut rig, _) = signed_rig();
    let cosigned = String::from_utf8(rig.disk.contents("checkpoint").unwrap()).unwrap();
    let older = {
        let root = rig.open().root_at(300).unwrap();
        Checkpoint::sign(BASE, 300, &root, rig.key.as_ref()).unwrap()
    };
    rig.disk.put("checkpoint", older.as_bytes());
    assert!(open_with(&rig, &cosigned).begun().is_none(), "nothing is lost");
    rig.journal.truncate(590);
    assert_eq!(rig.open().lost(), None, "by its own head alone");
    let lost = open_with(&rig, &cosigned).lost().unwrap();
    assert_eq!((lost.have, lost.promised), (590, 600));
}
