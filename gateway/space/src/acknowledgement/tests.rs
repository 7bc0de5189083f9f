//! Periods, what is due in them, and what has been acknowledged.

use super::*;
use crate::parties::PartyKeys;
use crate::signed_lines;
use crate::store::Judged;
use crate::store::tests::{announcement, delivery_under, now, open};
use guan_identity::{LogKeyFile, PartyAlgorithm, PartyKey};
use guan_model::Signer;
use guan_policy::TrustedKeys;
use guan_spool::disk::SimDisk;
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;

/// Begin of the contract.
const BEGIN_S: i64 = 1_767_225_600;

fn contract(version: u64, every: &str) -> Contract {
    let told = |name: &str, value: &str| json!({"leftOperand": name, "operator": "eq", "rightOperand": value});
    let object = json!({
        "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
        "version": version, "conflict": "prohibit", "assigner": "a", "assignee": "b",
        "target": ["d"], "price": {"amount": "5"},
        "permission": [{"action": "deliver", "duty": [{"action": "compensate"}]}],
        "obligation": [
            {"action": "acknowledgeUse", "refinement": told("every", every)},
            {"action": "acknowledgeUse", "refinement": told("every", "P300D")},
        ],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
    });
    Contract::draft(object.to_string().as_bytes()).unwrap()
}

fn id() -> ContractId {
    ContractId::parse("C-1").unwrap()
}

fn asked(every: &str) -> BTreeMap<ContractId, Asked> {
    BTreeMap::from([(id(), Asked::of(&contract(1, every)).unwrap())])
}

fn at(second: i64) -> WallTime {
    WallTime::from_seconds(BEGIN_S + second)
}

fn period(from: i64, until: i64) -> Period {
    Period { from_s: BEGIN_S + from, until_s: BEGIN_S + until }
}

fn stored(seconds: &[i64]) -> SimDisk {
    let disk = SimDisk::new();
    let mut store = open(&disk);
    store.announce(&announcement()).unwrap();
    for (seq, second) in (1..).zip(seconds) {
        let mut delivery = delivery_under("C-1", seq);
        delivery.received = at(*second);
        store.deliver(&now(0), &Judged::judge(delivery).unwrap()).unwrap().unwrap();
    }
    store.commit().unwrap();
    disk
}

fn said(from: i64, until: i64) -> Acknowledged {
    let Period { from_s, until_s } = period(from, until);
    let (contract, party, space) = ("C-1".to_owned(), "b".to_owned(), "s".to_owned());
    Acknowledged { contract, party, space, from_s, until_s, batches: 1, rows: 1, at_s: 0 }
}

#[test]
fn periods_begin_with_the_contract() {
    let one = Asked::of(&contract(1, "PT1H")).unwrap();
    let check = |second: i64, from: i64| {
        assert_eq!(one.period_of(at(second)), period(from, from + 3600), "{second}");
    };
    check(0, 0);
    check(3599, 0);
    check(3600, 3600);
    check(-1, -3600);
    assert_eq!(one.over_s(period(0, 3600)), BEGIN_S + 3660);
    assert_eq!(one.overdue_s(period(0, 3600)), BEGIN_S + 7260);
    assert_eq!(one.next_over_s(at(3659)), BEGIN_S + 3660);
    assert_eq!(one.next_over_s(at(3660)), BEGIN_S + 7260);
    let short = Asked::of(&contract(1, "PT2S")).unwrap();
    assert_eq!(short.over_s(period(0, 2)), BEGIN_S + 4, "a short one waits for its own length");
    assert_eq!(short.overdue_s(period(0, 2)), BEGIN_S + 6);
    let long = Asked::of(&contract(1, "P30D")).unwrap();
    let month = period(0, 30 * 86_400);
    assert_eq!(long.overdue_s(month), BEGIN_S + 37 * 86_400 + 60);
}

#[test]
fn what_came_is_due_when_its_period_is_over() {
    let asked = asked("PT1H");
    let disk = stored(&[0, 10, 3599, 3600, 9000]);
    let uses = count(&disk, &asked, &Covered::default()).unwrap().uses;
    assert_eq!(uses[&id()][&period(0, 3600)], Sum { batches: 3, rows: 3 });
    let check = |second: i64, acknowledged: &[(Acknowledged, Seal)], expect: &[(i64, bool)]| {
        let covered = Covered::new(&asked, acknowledged);
        let due = due(&asked, &uses, &covered, at(second));
        let left = count(&disk, &asked, &covered).unwrap();
        assert_eq!(super::due(&asked, &left.uses, &covered, at(second)), due, "{second}");
        let found: Vec<(i64, bool)> =
            due.iter().map(|one| (one.period.from_s - BEGIN_S, one.is_overdue)).collect();
        assert_eq!(found, expect, "{second}");
        assert_eq!(alarms(&due).len(), usize::from(expect.iter().any(|(_, late)| *late)));
    };
    // What was stamped in the last moment of a period may be stored a little later.
    check(3659, &[], &[]);
    check(3660, &[], &[(0, false)]);
    check(7259, &[], &[(0, false)]);
    check(7260, &[], &[(0, true), (3600, false)]);
    check(99_000, &[], &[(0, true), (3600, true), (7200, true)]);
    let first = (said(0, 3600), Seal::Unchecked);
    check(7260, std::slice::from_ref(&first), &[(3600, false)]);
    // Of a version with other periods: what is covered whole is done.
    check(99_000, &[(said(3000, 10_800), Seal::Good), first.clone()], &[]);
    check(99_000, &[(said(3000, 10_000), Seal::Good), first.clone()], &[(7200, true)]);
    // A hole of one second, and lines that say nothing.
    let second = (said(3601, 10_800), Seal::Good);
    check(99_000, &[second.clone(), first.clone()], &[(3600, true)]);
    check(99_000, &[second, (said(3601, 3600), Seal::Good), first], &[(3600, true)]);
    check(7260, &[(said(0, 3600), Seal::Forged)], &[(0, true), (3600, false)]);
    let other = Acknowledged { party: "a".to_owned(), ..said(0, 3600) };
    check(7260, &[(other, Seal::Good)], &[(0, true), (3600, false)]);
}

/// The lines of a space that knows the key of `b`.
struct Lines {
    folder: tempfile::TempDir,
    key: PartyKey,
    known: KnownLines,
}

impl Lines {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let parties = folder.path().join("parties");
        fs::create_dir(&parties).unwrap();
        let key = PartyKey::create(&parties.join("b.pem"), "b", PartyAlgorithm::Ed25519).unwrap();
        let known = KnownLines::new(folder.path().to_owned(), PartyKeys::of_folder(parties));
        Self { folder, key, known }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(ACKNOWLEDGED_FILE)
    }

    fn add(&self, what: &Acknowledged) {
        signed_lines::append(&self.path(), &acknowledge(what, &self.key).unwrap()).unwrap();
    }
}

#[test]
fn the_store_is_read_when_a_period_is_over() {
    let (mut watch, mut lines) = (UseWatch::new(), Lines::new());
    let mut look = |lines: &mut Lines, second: i64, disk: &SimDisk, every: &str| {
        watch.look(at(second), asked(every), disk, &mut lines.known).unwrap().len()
    };
    let (empty, some) = (stored(&[]), stored(&[0, 3600]));
    assert_eq!(look(&mut lines, 100, &empty, "PT1H"), 0);
    assert_eq!(look(&mut lines, 3659, &some, "PT1H"), 0);
    assert_eq!(look(&mut lines, 3660, &some, "PT1H"), 1);
    assert_eq!(look(&mut lines, 3700, &empty, "PT1H"), 1, "nothing more can have come for it");
    assert_eq!(look(&mut lines, 3700, &some, "PT30M"), 1, "another version counts otherwise");
    lines.add(&said(0, 1800));
    assert_eq!(look(&mut lines, 3700, &some, "PT30M"), 0);
    fs::remove_file(lines.path()).unwrap();
    assert_eq!(look(&mut lines, 3700, &some, "PT30M"), 1, "what is said no more waits again");
}

/// Each signature costs, and they are looked at every few seconds.
#[test]
fn lines_are_checked_again_only_when_the_file_or_the_keys_changed() {
    let mut lines = Lines::new();
    assert!(lines.known.refresh().unwrap(), "nothing was read yet");
    assert!(!lines.known.refresh().unwrap());
    lines.add(&said(0, 3600));
    assert!(lines.known.refresh().unwrap());
    assert_eq!(lines.known.lines(), [(said(0, 3600), Seal::Good)]);
    // Something else of the same length and time.
    let file = File::options().write(true).open(lines.path()).unwrap();
    let (bytes, written) = (fs::read(lines.path()).unwrap(), file.metadata().unwrap().modified());
    let changed = String::from_utf8(bytes).unwrap().replace("\"rows\":1", "\"rows\":2");
    fs::write(lines.path(), &changed).unwrap();
    file.set_modified(written.unwrap()).unwrap();
    assert!(!lines.known.refresh().unwrap(), "it was not read");
    fs::write(lines.path(), changed + "\n").unwrap();
    assert!(lines.known.refresh().unwrap());
    assert_eq!(lines.known.lines()[0].1, Seal::Forged);
    fs::remove_file(lines.folder.path().join("parties/b.pem")).unwrap();
    assert!(lines.known.refresh().unwrap(), "what is known of keys has changed");
    assert_eq!(lines.known.lines()[0].1, Seal::Unchecked);
}

#[test]
fn the_periods_are_limited() {
    let asked = asked("PT1S");
    let disk = stored(&[0, 5]);
    assert_eq!(count(&disk, &asked, &Covered::default()).unwrap().uses[&id()].len(), 2);
    let one = &asked[&id()];
    let mut counted = Counted::default();
    let most = i64::try_from(PERIODS_MAX).unwrap();
    (0..most).for_each(|second| counted.add(&id(), one.period_of(at(second)), 1));
    counted.add(&id(), period(0, 1), 1);
    assert!(counted.fault().is_none());
    counted.add(&id(), period(most, most + 1), 1);
    assert!(matches!(counted.fault(), Some(UseFault::Full)));
    // What is counted stays whole, so that it can be acknowledged and makes room.
    counted.add(&id(), period(0, 1), 1);
    assert_eq!(counted.uses[&id()][&period(0, 1)], Sum { batches: 3, rows: 3 });
    assert_eq!(counted.uses[&id()].len(), PERIODS_MAX);
}

/// A contract that runs for years has more periods than there is room for.
#[test]
fn what_is_acknowledged_takes_no_room() {
    let asked = asked("PT1S");
    let disk = stored(&[0, 5, 9]);
    let known = [(said(0, 6), Seal::Good)];
    let counted = count(&disk, &asked, &Covered::new(&asked, &known)).unwrap();
    assert_eq!(counted.uses[&id()].keys().collect::<Vec<_>>(), [&period(9, 10)]);
}

#[test]
fn lines_are_worth_what_their_signatures_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(ACKNOWLEDGED_FILE);
    let [key, other] = ["b", "x"].map(|name| LogKeyFile::generate(name).unwrap().0);
    let line = acknowledge(&said(0, 3600), &key).unwrap();
    let changed = String::from_utf8(line.clone()).unwrap().replace("\"rows\":1", "\"rows\":2");
    let strange = acknowledge(&said(0, 3600), &other).unwrap();
    for line in [&line[..], changed.as_bytes(), &strange, b"{}", b"{\"half"] {
        signed_lines::append(&path, line).unwrap();
    }
    let seals = |known: Vec<(String, guan_model::PublicKey)>| {
        let keys = TrustedKeys::new(known).unwrap();
        let (found, damaged) = read(&path, &mut |_| keys.clone()).unwrap();
        assert_eq!((&found[0].0, damaged), (&said(0, 3600), 2));
        found.iter().map(|(_, seal)| *seal).collect::<Vec<_>>()
    };
    let known = vec![("b".to_owned(), key.public_key())];
    assert_eq!(seals(known), [Seal::Good, Seal::Forged, Seal::Forged]);
    assert_eq!(seals(Vec::new()), [Seal::Unchecked; 3]);
}

#[test]
fn price_terms_are_shown_as_they_stand() {
    assert_eq!(compensation(&contract(1, "PT1H")), Some(json!({"price": {"amount": "5"}})));
}
