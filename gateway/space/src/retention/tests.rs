//! Retention over hours, versions of contracts, restarts and power cuts.

use super::key::Held;
use super::*;
use crate::parties::Signed;
use crate::sets::Sets;
use crate::store::tests::{announcement, delivery_under, now, open};
use crate::store::{Judged, Store, StoredRecord, read_all};
use guan_identity::LogKeyFile;
use guan_model::{BatchSeq, BoxId, Digest};
use guan_policy::Contract;
use guan_spool::disk::SimDisk;
use serde_json::json;

use std::time::Duration;

/// The begin of an hour.
const NOON_S: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn id(contract: &str) -> ContractId {
    ContractId::parse(contract).unwrap()
}

fn at(second: i64) -> WallTime {
    WallTime::from_seconds(NOON_S + second)
}

fn after(seconds: u64) -> Deletion {
    Deletion { after: Some(Duration::from_secs(seconds)), ..Deletion::default() }
}

/// A space whose boxes deliver one batch after the other.
struct Space {
    folder: tempfile::TempDir,
    disk: SimDisk,
    store: Store<SimDisk>,
    key: LogKeyFile,
    retention: Retention,
    seq: u64,
}

impl Space {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = SimDisk::new();
        let mut store = open(&disk);
        store.announce(&announcement()).unwrap();
        let (key, _) = LogKeyFile::generate("space-1").unwrap();
        let retention = Retention::open(folder.path()).unwrap();
        Self { folder, disk, store, key, retention, seq: 0 }
    }

    /// What a version of a contract asks; `None`: nothing.
    fn agree(&self, box_id: &str, contract: &str, version: u8, asked: Option<Deletion>) {
        let mut state = self.retention.state();
        let of_box = state.duties.of_box(&BoxId::parse(box_id).unwrap());
        match asked {
            Some(asked) => {
                let asked = Asked::Deletion(Digest([version; 32]), asked);
                of_box.asked.insert(id(contract), asked)
            }
            None => of_box.asked.remove(&id(contract)),
        };
    }

    fn asked(&self, box_id: &str) -> BTreeMap<ContractId, Asked> {
        self.retention.state().duties.of_box(&BoxId::parse(box_id).unwrap()).asked.clone()
    }

    fn deliver(&mut self, box_id: &str, contract: &str, second: i64) -> Delivery {
        self.seq += 1;
        let mut delivery = delivery_under(contract, self.seq);
        delivery.box_id = BoxId::parse(box_id).unwrap();
        delivery.received = at(second);
        // A stream of its own for each box.
        delivery.seq = BatchSeq(1 + self.count_of(&delivery.box_id));
        let mut judged = Judged::judge(delivery).unwrap();
        judged.seal(&self.retention).unwrap();
        self.store.deliver(&now(0), &judged).unwrap().unwrap();
        self.store.commit().unwrap();
        self.stored().pop().unwrap()
    }

    fn stored(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        let read = read_all(&self.disk, &mut |record| {
            if let StoredRecord::Batch(delivery) = record {
                all.push(delivery);
            }
            Ok(())
        });
        read.unwrap();
        all
    }

    fn count_of(&self, box_id: &BoxId) -> u64 {
        self.stored().iter().filter(|one| one.box_id == *box_id).count() as u64
    }

    fn reads(&self, delivery: &Delivery) -> bool {
        self.retention.open_batch(delivery).unwrap().is_some()
    }

    fn delete(&self, second: i64) -> Vec<Value> {
        let by = ("space-1", &self.key as &dyn Signer);
        let (lines, faults) = self.retention.delete_due(at(second), by, &self.disk);
        assert!(faults.is_empty(), "{faults:?}");
        lines
    }

    fn restart(&mut self) {
        self.retention = Retention::open(self.folder.path()).unwrap();
    }

    fn findings(&self, key: &LogKeyFile) -> Vec<Finding> {
        let mut findings = Vec::new();
        let path = self.folder.path().join(DELETED_FILE);
        review(&path, &key.public_key(), &mut |_, finding| findings.push(finding)).unwrap();
        findings
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder.path().join(KEYS_DIR)).unwrap().count()
    }
}

#[test]
fn data_is_readable_until_its_hour_is_due_and_never_after() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(3 * 86_400)));
    let early = space.deliver("box-1", "C-1", 0);
    let late = space.deliver("box-1", "C-1", 3600);
    let other = space.deliver("box-1", "C-2", 0);
    guan_codec::decode(&other.bytes).expect("nobody asked for its deletion");
    guan_codec::decode(&early.bytes).expect_err("it is enciphered");
    // After a restart the keys are there.
    space.restart();
    guan_codec::decode(&space.retention.open_batch(&early).unwrap().unwrap()).unwrap();
    assert!(space.delete(3 * DAY_S - 1).is_empty());
    let lines = space.delete(3 * DAY_S);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["deleted"]["contract"], "C-1");
    assert!(space.delete(3 * DAY_S).is_empty(), "once is enough");
    assert_eq!([&early, &late, &other].map(|one| space.reads(one)), [false, true, true]);
    space.restart();
    assert!(!space.reads(&early));
    assert_eq!(space.findings(&space.key), [Finding::Good]);
    let mut changed = late.clone();
    let (last, rest) = late.bytes.split_last().unwrap();
    changed.bytes = [rest, &[last ^ 1]].concat().into();
    let opened = space.retention.open_batch(&changed);
    assert!(matches!(opened, Err(RetentionFault::Changed { .. })));
}

/// A later version changes what comes later, and nothing about what is here.
#[test]
fn what_was_asked_when_data_came_is_done() {
    let mut space = Space::new();
    let minute = Some(after(60));
    space.agree("box-1", "C-1", 1, minute);
    let first = space.deliver("box-1", "C-1", 0);
    space.agree("box-1", "C-1", 2, None);
    let second = space.deliver("box-1", "C-1", 1);
    space.agree("box-1", "C-1", 3, Some(after(600)));
    let third = space.deliver("box-1", "C-1", 2);
    // The contract of that name at another box asks for something else.
    space.agree("box-2", "C-1", 4, minute);
    let elsewhere = space.deliver("box-2", "C-1", 3);
    space.restart();
    let reads =
        |space: &Space| [&first, &second, &third, &elsewhere].map(|delivery| space.reads(delivery));
    assert_eq!(space.delete(59).len(), 0);
    assert_eq!(space.delete(60).len(), 2);
    assert_eq!(reads(&space), [false, true, true, false]);
    assert_eq!(space.delete(600).len(), 1);
    assert_eq!(reads(&space), [false, true, false, false]);
}

/// Data that comes when its slice is over already gets a key of its own.
#[test]
fn a_slice_that_was_deleted_spoils_nothing_that_comes_later() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(5)));
    let early = space.deliver("box-1", "C-1", 0);
    assert_eq!(space.delete(10).len(), 1);
    let late = space.deliver("box-1", "C-1", 11);
    assert_eq!((space.reads(&early), space.reads(&late)), (false, true));
    assert_eq!(space.delete(12).len(), 1);
    assert_eq!((space.reads(&early), space.reads(&late)), (false, false));
}

#[test]
fn nothing_is_deleted_before_it_was_kept_long_enough() {
    let check = |deletion: Deletion, due_s: i64| {
        assert_eq!(deletion.due_s((0, 3600)), due_s, "{deletion:?}");
    };
    let by = |second| Deletion { by: Some(WallTime::from_seconds(second)), ..Deletion::default() };
    let keep =
        |seconds| Deletion { keep: Some(Duration::from_secs(seconds)), ..Deletion::default() };
    check(after(7200), 7200);
    check(by(50), 50);
    check(after(7200).and(by(50)), 50);
    check(after(7200).and(keep(100)), 7200);
    check(after(7200).and(keep(7200)), 10_800);
    check(by(50).and(keep(60)).and(keep(30)), 3660);
    check(after(u64::MAX), i64::MAX);
    check(after(60).and(keep(u64::MAX)), i64::MAX);
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(60).and(keep(7200))));
    let kept = space.deliver("box-1", "C-1", 0);
    assert!(space.delete(7259).is_empty() && space.reads(&kept));
    assert_eq!(space.delete(7260).len(), 1);
}

#[test]
fn a_line_says_what_was_deleted() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 7, Some(after(60)));
    space.agree("box-2", "C-1", 7, Some(after(60)));
    let all = [space.deliver("box-1", "C-1", 0), space.deliver("box-1", "C-1", 59)];
    space.deliver("box-1", "C-1", 60);
    space.deliver("box-2", "C-1", 0);
    let lines = space.delete(60);
    let of_first = |line: &&Value| line["deleted"]["boxes"] == json!(["box-1"]);
    let said = &lines.iter().find(of_first).unwrap()["deleted"];
    let digests = [all[0].digest.0, all[1].digest.0].concat();
    let expected = json!({
        "event": "data.deleted", "schema": 2, "space": "space-1", "contract": "C-1",
        "contract_digest": Digest([7; 32]).to_string(), "boxes": ["box-1"],
        "received_from_s": NOON_S, "received_until_s": NOON_S + 60, "due_at_s": NOON_S + 60,
        "deleted_at_s": NOON_S + 60, "batches": 2, "rows": 2,
        "bytes": all[0].bytes.len() + all[1].bytes.len(),
        "batches_sha256": Digest::of(&digests).to_string(), "key": said["key"],
    });
    assert_eq!(*said, expected);
    assert_eq!(said["key"].as_str().map(str::len), Some(2 * ID_BYTES));
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_keys_are_limited() {
    let mut space = Space::new();
    let alarms = Alarms::default();
    space.retention = space.retention.clone().with_alarms(alarms.clone()).with_boxes(2);
    space.agree("box-1", "C-1", 1, Some(after(60)));
    let limit = 2 * KEYS_A_BOX;
    let fill = |space: &Space, until: usize| {
        let mut state = space.retention.state();
        while state.keys.len() < until {
            let second = i64::try_from(state.keys.len()).unwrap();
            let held = Held { bound: None, key: Key::new([0; 32]) };
            state.keys.insert(KeyName::Slice(id("C-2"), second), held);
        }
        assert_eq!(state.keys.len(), until);
    };
    let first = (limit * 80).div_ceil(100);
    fill(&space, first - 2);
    space.deliver("box-1", "C-1", 0);
    assert_eq!(alarms.list(), Vec::<String>::new());
    for second in [60, 120] {
        space.deliver("box-1", "C-1", second);
        let said = alarms.list();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&format!("80 % of the {limit} keys")), "{said:?}");
    }
    fill(&space, limit - 1);
    let last = space.deliver("box-1", "C-1", 180);
    assert!(space.reads(&last));
    let mut more = delivery_under("C-1", 2);
    more.received = at(240);
    let full = space.retention.seal(&mut more);
    assert!(
        matches!(full, Err(RetentionFault::Full { limit: found }) if found == limit),
        "{full:?}"
    );
    more.received = at(180);
    space.retention.seal(&mut more).expect("there is a key for it");
}

#[test]
fn a_key_that_is_due_before_all_others_is_not_overlooked() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(600)));
    space.agree("box-1", "C-2", 1, Some(after(120)));
    let late = space.deliver("box-1", "C-1", 0);
    assert!(space.delete(1).is_empty());
    let early = space.deliver("box-1", "C-2", 2);
    assert_eq!(space.delete(120).len(), 1);
    assert_eq!((space.reads(&early), space.reads(&late)), (false, true));
    assert_eq!(space.delete(600).len(), 1);
}

/// Whatever one contract asks of a box within four months has room.
#[test]
fn each_box_has_room_for_the_keys_of_its_data() {
    let most = |seconds: i64| {
        let asked = after(u64::try_from(seconds).unwrap());
        let (began_s, ends_s) = asked.slice_of(at(0));
        // The slice that is open, and those that are not due yet.
        1 + (asked.due_s((began_s, ends_s)) - began_s) / (ends_s - began_s)
    };
    assert_eq!(usize::try_from(most(2 * DAY_S - 60)).unwrap(), KEYS_A_BOX - 1);
    assert_eq!(usize::try_from(most(120 * DAY_S)).unwrap(), KEYS_A_BOX);
    assert!(usize::try_from(most(30 * DAY_S)).unwrap() < KEYS_A_BOX);
}

/// Between the order and its execution the space began anew, and data comes that belongs to the same slice.
#[test]
fn data_that_comes_after_an_order_gets_a_key_of_its_own() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(60)));
    let early = space.deliver("box-1", "C-1", 0);
    let due = space.retention.state().due(at(60));
    space.retention.order(&due, "space-1", &space.disk);
    space.restart();
    space.agree("box-1", "C-1", 1, Some(after(60)));
    let late = space.deliver("box-1", "C-1", 1);
    assert_eq!((space.reads(&early), space.reads(&late)), (false, true));
    assert_eq!(space.delete(60).len(), 2);
    assert_eq!(space.findings(&space.key), [Finding::Good; 2]);
}

/// Whenever the power goes, there is one line for each deletion.
#[test]
fn no_deletion_is_without_its_line() {
    let begun = || {
        let mut space = Space::new();
        space.agree("box-1", "C-1", 1, Some(after(60)));
        let delivery = space.deliver("box-1", "C-1", 0);
        let due = space.retention.state().due(at(60));
        assert_eq!(due.len(), 1);
        (space, delivery, due)
    };
    let check = |mut space: Space, delivery: &Delivery, lines: usize, what: &str| {
        space.restart();
        assert!(!space.reads(delivery), "{what}");
        let said = space.delete(61);
        assert_eq!(said.len(), lines, "{what}");
        assert_eq!(space.findings(&space.key), [Finding::Good], "{what}");
        let said = said.first().map(|line| line["deleted"]["rows"].clone());
        assert!(said.is_none_or(|rows| rows == 1), "{what}");
        assert_eq!(space.files(), 0, "{what}: neither key nor order is left");
        space.restart();
        assert!(space.delete(62).is_empty(), "{what}");
    };
    let (space, delivery, due) = begun();
    assert!(space.retention.order(&due, "space-1", &space.disk).is_empty());
    check(space, &delivery, 1, "ordered");
    let (space, delivery, due) = begun();
    space.retention.order(&due, "space-1", &space.disk);
    key::erase(&space.retention.folder, due.first().unwrap()).unwrap();
    check(space, &delivery, 1, "erased");
    let (space, delivery, due) = begun();
    space.retention.order(&due, "space-1", &space.disk);
    let order = space.retention.order_path(due.first().unwrap());
    let kept = fs::read(&order).unwrap();
    assert_eq!(space.delete(60).len(), 1);
    fs::write(&order, kept).unwrap();
    check(space, &delivery, 0, "said");
}

#[test]
fn a_line_that_cannot_be_written_is_written_later() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(60)));
    let delivery = space.deliver("box-1", "C-1", 0);
    let path = space.folder.path().join(DELETED_FILE);
    fs::create_dir(&path).unwrap();
    let by = ("space-1", &space.key as &dyn Signer);
    let (lines, faults) = space.retention.delete_due(at(60), by, &space.disk);
    assert_eq!((lines.len(), faults.len()), (0, 1));
    assert!(!space.reads(&delivery), "the duty does not wait for the line");
    fs::remove_dir(&path).unwrap();
    assert_eq!(space.delete(61).len(), 1);
    assert_eq!(space.findings(&space.key), [Finding::Good]);
}

#[test]
fn lines_are_worth_what_their_signatures_are() {
    let mut space = Space::new();
    space.agree("box-1", "C-1", 1, Some(after(60)));
    for second in [0, 60, 120] {
        space.deliver("box-1", "C-1", second);
    }
    assert_eq!(space.delete(180).len(), 3);
    let path = space.folder.path().join(DELETED_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[1] = lines[1].replace("\"rows\":1", "\"rows\":2");
    lines[2].truncate(40);
    lines.push("{\"deleted\":{}}".to_owned());
    fs::write(&path, lines.join("\n")).unwrap();
    use Finding::{Damaged, Forged, Good, Unknown};
    assert_eq!(space.findings(&space.key), [Good, Forged, Damaged, Forged]);
    let (stranger, _) = LogKeyFile::generate("space-2").unwrap();
    assert_eq!(space.findings(&stranger), [Unknown, Unknown, Damaged, Forged]);
}

/// Keys of the first release say nothing; the strictest version that ever was decides.
#[test]
fn keys_of_the_first_release_are_read_and_their_data_deleted() {
    let mut space = Space::new();
    let folder = space.folder.path().join(KEYS_DIR);
    fs::write(folder.join(format!("{NOON_S}.C-1.key")), [5; 32]).unwrap();
    space.restart();
    // As the first release enciphered: the second of the slice, the nonce, the batch.
    let mut body = b"the readings".to_vec();
    let mut delivery = delivery_under("C-1", 1);
    let cipher = cipher(&Key::new([5; 32]));
    let nonce = Nonce::assume_unique_for_key([3; NONCE_LEN]);
    cipher.seal_in_place_append_tag(nonce, Aad::from(delivery.digest.0), &mut body).unwrap();
    let sealed = [&b"guan-sealed-1\n"[..], &NOON_S.to_le_bytes(), &[3; NONCE_LEN], &body].concat();
    delivery.bytes = sealed.into();
    let opened = space.retention.open_batch(&delivery).unwrap();
    assert_eq!(opened.as_deref(), Some(&b"the readings"[..]));
    assert!(space.delete(9 * DAY_S).is_empty(), "no version is known");

    // The version that asked for it was replaced by one that does not.
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let sets = Sets::open(space.folder.path(), "space-1", Arc::new(key)).unwrap();
    let box_id = BoxId::parse("box-1").unwrap();
    for (version, duty) in [(1, after_json("P3D")), (2, json!([]))] {
        let file = contract(version, &duty).to_string();
        sets.issue(&box_id, &Signed::unseen(file.as_bytes()), at(0)).unwrap();
    }
    space.retention.read_duties(&sets);
    assert!(space.asked("box-1").is_empty());
    assert!(space.delete(3 * DAY_S - 1).is_empty());
    let lines = space.delete(3 * DAY_S);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["deleted"]["key"], format!("{NOON_S}.C-1"));
    assert!(!space.reads(&delivery));
    assert_eq!(space.files(), 0);
}

#[test]
fn a_damaged_set_takes_no_duty_away() {
    let space = Space::new();
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let sets = Sets::open(space.folder.path(), "space-1", Arc::new(key)).unwrap();
    let box_id = BoxId::parse("box-1").unwrap();
    let file = contract(1, &after_json("P3D")).to_string();
    sets.issue(&box_id, &Signed::unseen(file.as_bytes()), at(0)).unwrap();
    space.retention.read_duties(&sets);
    let known = space.asked("box-1");
    assert_eq!(known.len(), 1);
    let set = space.folder.path().join("contracts/box-1/set.json");
    fs::write(set, "{}").unwrap();
    space.retention.read_duties(&sets);
    assert_eq!(space.asked("box-1"), known);
}

/// A set names contracts by what they say; whatever else lies in their place is no reason to store in the clear.
#[test]
fn a_damaged_document_takes_no_duty_away() {
    let lenient = contract(1, &json!([])).to_string();
    let damages: [Option<&str>; 4] = [Some("{"), Some("{}"), Some(&lenient), None];
    for damage in damages {
        let alarms = Alarms::default();
        let mut space = Space::new();
        space.retention = space.retention.clone().with_alarms(alarms.clone());
        let (key, _) = LogKeyFile::generate("space-1").unwrap();
        let sets = Sets::open(space.folder.path(), "space-1", Arc::new(key)).unwrap();
        let box_id = BoxId::parse("box-1").unwrap();
        let file = contract(1, &after_json("P3D")).to_string();
        let set = sets.issue(&box_id, &Signed::unseen(file.as_bytes()), at(0)).unwrap();
        space.retention.read_duties(&sets);
        let known = space.asked("box-1");
        assert!(matches!(known[&id("C-1")], Asked::Deletion(..)));

        let path = format!("contracts/box-1/{}.json", set.entries[0].digest);
        let path = space.folder.path().join(path);
        match damage {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        space.retention.read_duties(&sets);
        space.retention.read_duties(&sets);
        assert_eq!(space.asked("box-1"), known, "{damage:?}: the duty that was known stands");
        let said = alarms.list();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("box-1") && said[0].contains("contract C-1"), "{said:?}");

        // After a restart nothing is known of it.
        space.restart();
        space.retention.read_duties(&sets);
        let mut delivery = delivery_under("C-1", 1);
        let refused = space.retention.seal(&mut delivery);
        assert!(matches!(refused, Err(RetentionFault::Unread { .. })), "{damage:?}: {refused:?}");
        let mut other = delivery_under("C-2", 1);
        space.retention.seal(&mut other).expect("other contracts go on");
        fs::write(&path, &file).unwrap();
        space.retention.read_duties(&sets);
        space.retention.seal(&mut delivery).unwrap();
        guan_codec::decode(&delivery.bytes).expect_err("it is enciphered");
    }
}

/// Who tells a box of a set, and who watches all sets, read at the same time.
#[test]
fn an_older_view_of_a_set_does_not_undo_a_newer() {
    let space = Space::new();
    let box_id = BoxId::parse("box-1").unwrap();
    let older = space.retention.state().duties.begin();
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let sets = Sets::open(space.folder.path(), "space-1", Arc::new(key)).unwrap();
    let file = contract(1, &after_json("P3D")).to_string();
    sets.issue(&box_id, &Signed::unseen(file.as_bytes()), at(0)).unwrap();
    space.retention.read_duties_of(&sets, &box_id).unwrap();
    space.retention.state().duties.take(&box_id, older, Vec::new());
    assert_eq!(space.asked("box-1").len(), 1);
    let mut state = space.retention.state();
    let newer = state.duties.begin();
    state.duties.take(&box_id, newer, Vec::new());
    drop(state);
    assert!(space.asked("box-1").is_empty());
}

fn after_json(span: &str) -> Value {
    json!([{"action": "delete", "refinement":
        {"leftOperand": "after", "operator": "eq", "rightOperand": span}}])
}

fn contract(version: u64, duty: &Value) -> Value {
    let mut object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": version, "conflict": "prohibit", "assigner": "a", "assignee": "b",
        "target": ["d"], "permission": [{"action": "deliver"}],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
    });
    if duty.as_array().is_some_and(|duties| !duties.is_empty()) {
        object["permission"][0]["duty"] = duty.clone();
    }
    object
}

#[test]
fn the_earliest_duty_counts() {
    let delete = |span: &str| {
        json!([{"action": "delete", "refinement":
            {"leftOperand": "after", "operator": "eq", "rightOperand": span}}])
    };
    // A remedy is due only once somebody has done what is forbidden.
    let object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": 1, "conflict": "prohibit", "assigner": "a", "assignee": "b", "target": ["d"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        "permission": [
            {"action": "deliver", "duty": delete("P30D")}, {"action": "deliver", "duty": delete("P7D")},
        ],
        "prohibition": [{"action": "distribute", "remedy": delete("PT1H")}],
    });
    let contract = Contract::draft(object.to_string().as_bytes()).unwrap();
    let deletion = Deletion::of(&contract).unwrap();
    assert_eq!(deletion.after, Some(Duration::from_secs(7 * 86_400)));
}
