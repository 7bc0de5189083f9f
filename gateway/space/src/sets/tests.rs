//! Sets through their changes.

use super::*;

fn sets(folder: &Path) -> Sets {
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    Sets::open(folder, "space-1", Arc::new(key)).unwrap()
}

fn contract(id: &str, version: u64) -> Vec<u8> {
    let object = serde_json::json!({
        "@type": "Agreement", "@id": format!("urn:contract:{id}"), "profile": "urn:guankou:odrl:1",
        "version": version, "conflict": "prohibit", "assigner": "depot-7",
        "assignee": "insurer-1", "target": ["d"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z"},
        "permission": [{"action": "deliver"}],
    });
    object.to_string().into_bytes()
}

fn signed(id: &str, version: u64) -> Signed {
    Signed::unseen(&contract(id, version))
}

const NOW: WallTime = WallTime(1_790_000_000_000_000_000);

#[test]
fn sets_grow_change_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    let box_id = BoxId::parse("box-1").unwrap();
    let id = ContractId::parse("C-1").unwrap();
    assert!(sets.roster(&box_id).unwrap().is_none() && sets.boxes().is_empty());
    let one = sets.issue(&box_id, &signed("C-1", 1), NOW).unwrap();
    assert_eq!((one.epoch, one.entries.len()), (1, 1));
    assert!(sets.document(&box_id, &one.entries[0].digest).unwrap().is_some());
    let again = sets.issue(&box_id, &signed("C-1", 1), NOW);
    assert!(matches!(again, Err(SetFault::Version { known: 1, found: 1, .. })));
    let two = sets.set_state(&box_id, &id, ContractState::Suspended, NOW).unwrap();
    let three = sets.issue(&box_id, &signed("C-1", 2), NOW).unwrap();
    assert_eq!((two.epoch, three.epoch), (2, 3));
    assert_eq!(three.entries[0].state, ContractState::Suspended, "a new version changes no state");
    assert_eq!(sets.roster(&box_id).unwrap().unwrap(), three);
    let other = ContractId::parse("C-9").unwrap();
    let unknown = sets.set_state(&box_id, &other, ContractState::Active, NOW);
    assert!(matches!(unknown, Err(SetFault::Unknown { .. })));
    sets.set_state(&box_id, &id, ContractState::Revoked, NOW).unwrap();
    let back = sets.set_state(&box_id, &id, ContractState::Active, NOW);
    assert!(matches!(back, Err(SetFault::Final { .. })));
    let back = sets.issue(&box_id, &signed("C-1", 9), NOW);
    assert!(matches!(back, Err(SetFault::Final { .. })));
    assert!(sets.renew(&box_id, NOW).unwrap().epoch > 1_000_000_000);
    assert_eq!(sets.boxes(), [box_id]);
}

#[test]
fn what_is_over_is_ended_by_the_clock_of_the_space() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    let box_id = BoxId::parse("box-1").unwrap();
    assert!(sets.current(&box_id, NOW).unwrap().is_none());
    sets.issue(&box_id, &signed("C-1", 1), NOW).unwrap();
    let state = |now| {
        sets.current(&box_id, now).unwrap();
        sets.roster(&box_id).unwrap().unwrap().entries[0].state
    };
    let end = WallTime::from_seconds(1_798_761_600);
    assert_eq!(state(end), ContractState::Active, "what was collected may still come for a day");
    let grace = std::time::Duration::from_secs(86_400);
    assert_eq!(state(end.saturating_add(grace)), ContractState::Ended);
}

#[test]
fn what_is_over_is_not_issued() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    let box_id = BoxId::parse("box-1").unwrap();
    let end = WallTime::from_seconds(1_798_761_600);
    let late = sets.issue(&box_id, &signed("C-1", 1), end);
    assert!(matches!(late, Err(SetFault::Over { until_s: 1_798_761_600, .. })), "{late:?}");
    assert!(sets.roster(&box_id).unwrap().is_none());
    sets.issue(&box_id, &signed("C-1", 1), WallTime(end.0 - 1)).unwrap();
}

#[test]
fn a_changed_file_is_no_set() {
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    let box_id = BoxId::parse("box-1").unwrap();
    let before = sets.mark();
    sets.issue(&box_id, &signed("C-1", 1), NOW).unwrap();
    assert_ne!(sets.mark(), before);
    let path = sets.path(&box_id);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("active", "revoked")).unwrap();
    assert!(matches!(sets.roster(&box_id), Err(SetFault::Set { .. })));
}

/// Commands and the daemon change a set at the same time; nothing of it is lost.
#[test]
fn changes_come_one_after_the_other() {
    const CHANGES: u64 = 25;
    let folder = tempfile::tempdir().unwrap();
    let sets = sets(folder.path());
    let box_id = BoxId::parse("box-1").unwrap();
    for id in ["C-1", "C-2"] {
        sets.issue(&box_id, &signed(id, 1), NOW).unwrap();
    }
    std::thread::scope(|scope| {
        for id in ["C-1", "C-2"] {
            let (sets, box_id) = (&sets, &box_id);
            scope.spawn(move || {
                let id = ContractId::parse(id).unwrap();
                for number in 0..CHANGES {
                    let state = match number % 2 {
                        0 => ContractState::Suspended,
                        _ => ContractState::Active,
                    };
                    sets.set_state(box_id, &id, state, NOW).unwrap();
                }
            });
        }
        scope.spawn(|| (0..CHANGES).for_each(|_| drop(sets.current(&box_id, NOW).unwrap())));
    });
    assert_eq!(sets.roster(&box_id).unwrap().unwrap().epoch, 2 + 2 * CHANGES);
}
