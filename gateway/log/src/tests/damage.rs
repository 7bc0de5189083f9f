//! A log of which something cannot be read: it opens, says so, and what is left is judged.

use super::*;
use crate::Known;
use guan_evidence::verify::{Fault, Trust};
use guan_evidence::{Lineage, VerifierKey};

const HEAD_FILE: &str = "checkpoint";

fn key(rig: &Rig) -> VerifierKey {
    VerifierKey::of(rig.key.as_ref()).unwrap()
}

fn faults(rig: &Rig) -> Vec<Fault> {
    let trust = Trust::of_key(BASE, key(rig));
    let mut seen = Vec::new();
    let report = rig.reader(None).judge(trust, &mut |index, _| seen.push(index)).unwrap();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    report.faults
}

fn open(rig: &Rig, spare_head: Option<&str>) -> Result<EvidenceLog<SimDisk>, EvidenceLogError> {
    let from = EvidenceLog::tail_from(rig.disk.clone()).unwrap();
    let tail = rig.journal.iter().filter(|(place, _)| *place >= from).cloned().collect();
    let lineage = Lineage::new(key(rig));
    let known = Known { lineage: &lineage, spare_head };
    EvidenceLog::open_after(rig.disk.clone(), BASE, rig.key.clone(), known, tail)
}

#[test]
fn a_bundle_that_cannot_be_read_is_a_fault_with_its_range() {
    let (rig, head) = signed_rig();
    let twin = faults(&rig);
    assert!(twin.iter().all(|one| !matches!(one, Fault::Unreadable { .. })), "{twin:?}");
    for (number, name) in [(0, "entries-0000000000000000"), (1, "entries-0000000000000001")] {
        let kept = rig.disk.contents(name).unwrap();
        rig.disk.put(name, &kept[..kept.len() / 2]);
        let (from, through) = (256 * number, 256 * number + 255);
        let found = faults(&rig);
        assert!(found.contains(&Fault::Unreadable { from, through }), "{found:?}");
        // The head still fits what the hashes say, so nothing else is blamed for it.
        let is_about_heads =
            |one: &Fault| matches!(one, Fault::Altered { .. } | Fault::Truncated { .. });
        assert!(!found.iter().any(is_about_heads), "{found:?}");
        rig.disk.put(name, &kept);
    }
    assert_eq!(faults(&rig), twin);
    assert!(head.size > 512);
}

/// Every bit of the head's file, and every length of it: the log opens, or says that the key is another one.
#[test]
fn a_damaged_head_keeps_no_log_from_opening() {
    let (rig, head) = signed_rig();
    let whole = rig.disk.contents(HEAD_FILE).unwrap();
    let mut damaged: Vec<Vec<u8>> =
        (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    damaged.extend((0..whole.len() * 8).step_by(3).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    }));
    let (mut set_aside, mut refused) = (0, 0);
    for bytes in damaged {
        rig.disk.put(HEAD_FILE, &bytes);
        match open(&rig, None) {
            Ok(log) => {
                assert!(log.is_head_damaged() && log.lost().is_none());
                assert_eq!((log.head().size, log.head().root), (head.size, head.root));
                assert_eq!(rig.disk.contents("checkpoint.damaged").unwrap(), bytes);
                set_aside += 1;
            }
            Err(fault) => {
                assert!(matches!(fault, EvidenceLogError::Checkpoint(_)), "{fault}");
                refused += 1;
            }
        }
    }
    assert!(set_aside > 10 * refused, "{set_aside} {refused}");
    rig.disk.put(HEAD_FILE, &whole);
    assert!(!open(&rig, None).unwrap().is_head_damaged(), "the twin");
}

/// Without its own head a log that lost leaves would not know it; the head that a witness cosigned tells.
#[test]
fn a_spare_head_tells_of_lost_leaves() {
    let (rig, head) = signed_rig();
    let spare = String::from_utf8(rig.disk.contents(HEAD_FILE).unwrap()).unwrap();
    let cut = |rig: &Rig| {
        rig.disk.put(HEAD_FILE, b"nothing");
        let kept = usize::try_from(head.size - 5).unwrap();
        Rig { journal: rig.journal[..kept].to_vec(), disk: rig.disk.clone(), key: rig.key.clone() }
    };
    let log = open(&cut(&rig), Some(&spare)).unwrap();
    let lost = log.lost().unwrap();
    assert_eq!((lost.have, lost.promised), (head.size - 5, head.size));
    // One of another log says nothing.
    let other = Rig::new();
    assert!(open(&cut(&rig), Some("nonsense")).unwrap().lost().is_none());
    drop(other);
}
