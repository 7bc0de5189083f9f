//! Periods, what is due in them, and what has been acknowledged.

use super::*;
use crate::store::Judged;
use crate::store::tests::{announcement, delivery_under, now, open};
use guan_identity::LogKeyFile;
use guan_spool::disk::SimDisk;
use serde_json::json;

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
    assert_eq!(one.overdue_s(period(0, 3600)), BEGIN_S + 7200);
    let long = Asked::of(&contract(1, "P30D")).unwrap();
    let month = period(0, 30 * 86_400);
    assert_eq!(long.overdue_s(month), BEGIN_S + 37 * 86_400);
}

#[test]
fn what_came_is_due_when_its_period_is_over() {
    let asked = asked("PT1H");
    let disk = stored(&[0, 10, 3599, 3600, 9000]);
    let uses = count(&disk, &asked).unwrap();
    assert_eq!(uses[&id()][&period(0, 3600)], Sum { batches: 3, rows: 3 });
    let check = |second: i64, acknowledged: &[(Acknowledged, Seal)], expect: &[(i64, bool)]| {
        let due = due(&asked, &uses, acknowledged, at(second));
        let found: Vec<(i64, bool)> =
            due.iter().map(|one| (one.period.from_s - BEGIN_S, one.is_overdue)).collect();
        assert_eq!(found, expect, "{second}");
        assert_eq!(alarms(&due).len(), usize::from(expect.iter().any(|(_, late)| *late)));
    };
    check(3599, &[], &[]);
    check(3600, &[], &[(0, false)]);
    check(7200, &[], &[(0, true), (3600, false)]);
    check(99_000, &[], &[(0, true), (3600, true), (7200, true)]);
    let first = (said(0, 3600), Seal::Unchecked);
    check(7200, std::slice::from_ref(&first), &[(3600, false)]);
    // Of a version with other periods: what is covered whole is done.
    check(99_000, &[(said(3000, 10_800), Seal::Good), first.clone()], &[]);
    check(99_000, &[(said(3000, 10_000), Seal::Good), first], &[(7200, true)]);
    check(7200, &[(said(0, 3600), Seal::Forged)], &[(0, true), (3600, false)]);
    let other = Acknowledged { party: "a".to_owned(), ..said(0, 3600) };
    check(7200, &[(other, Seal::Good)], &[(0, true), (3600, false)]);
}

#[test]
fn the_store_is_read_when_a_period_is_over() {
    let mut watch = UseWatch::new();
    let none = || Ok(Vec::new());
    let mut look = |second: i64, disk: &SimDisk, every: &str| {
        watch.look(at(second), asked(every), disk, none).unwrap().len()
    };
    let (empty, some) = (stored(&[]), stored(&[0, 3600]));
    assert_eq!(look(100, &empty, "PT1H"), 0);
    assert_eq!(look(3599, &some, "PT1H"), 0);
    assert_eq!(look(3600, &some, "PT1H"), 1);
    assert_eq!(look(3700, &empty, "PT1H"), 1, "nothing more can have come for it");
    assert_eq!(look(3700, &some, "PT30M"), 1, "another version counts otherwise");
}

#[test]
fn the_periods_are_limited() {
    let disk = stored(&[0, 5]);
    let mut short = asked("PT1S");
    assert_eq!(count(&disk, &short).unwrap()[&id()].len(), 2);
    short.get_mut(&id()).unwrap().every_s = 1;
    let seconds: Vec<i64> = (0..=i64::try_from(PERIODS_MAX).unwrap()).collect();
    let mut periods = Periods::default();
    let one = &short[&id()];
    for second in &seconds[..PERIODS_MAX] {
        periods.add(&id(), one, at(*second), 1);
    }
    periods.add(&id(), one, at(0), 1);
    assert!(!periods.is_full);
    periods.add(&id(), one, at(seconds[PERIODS_MAX]), 1);
    assert!(periods.is_full);
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
