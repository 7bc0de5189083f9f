//! Usage through commits, rollbacks and restarts.

use super::*;
use crate::constraint::{QuotaKind, Rate};
use crate::duty::Statistic;
use proptest::prelude::*;
use std::time::Duration;

fn contract(name: &str) -> ContractId {
    ContractId::parse(name).unwrap()
}

fn quota(name: &str, period: Period) -> CellKey {
    CellKey::Quota { contract: contract(name), key: QuotaKey { kind: QuotaKind::Count, period } }
}

#[test]
fn counters_start_anew_with_the_period_and_never_with_a_clock_that_went_back() {
    let mut usage = Usage::default();
    let key = quota("A", Period::Day);
    usage.charge(&key, 5, 10).unwrap();
    assert_eq!((usage.used(&key, 5), usage.used(&key, 6)), (10, 0));
    usage.charge(&key, 6, 3).unwrap();
    usage.charge(&key, 4, 1).unwrap();
    assert_eq!((usage.used(&key, 4), usage.used(&key, 6)), (4, 4));
}

#[test]
fn rates_refill_evenly() {
    let mut usage = Usage::default();
    let rate = Rate { readings: 2, per_s: 10 };
    let key = CellKey::Rate { contract: contract("A"), rule: "r".into(), rate: Some(rate) };
    let at = WallTime::from_seconds;
    for _ in 0..2 {
        assert!(usage.has_room(&key, rate, at(100)));
        usage.take_one(&key, rate, at(100)).unwrap();
    }
    assert!(!usage.has_room(&key, rate, at(104)) && usage.has_room(&key, rate, at(105)));
    usage.take_one(&key, rate, at(105)).unwrap();
    // Back in time nothing is filled, and coming back fills only once.
    assert!(!usage.has_room(&key, rate, at(50)) && !usage.has_room(&key, rate, at(109)));
    assert!(usage.has_room(&key, rate, at(110)));
}

/// Whatever the cells are, their record stays within the limit, and nothing stops at it.
#[test]
fn cells_are_limited() {
    let long = "x".repeat(64);
    let check = |statistic: Option<Statistic>, least: usize| {
        let mut usage = Usage::default();
        let mut count = 0;
        loop {
            let point = PointId(count);
            let (contract, rule): (_, Arc<str>) = (contract(&long), long.as_str().into());
            let full = match statistic {
                None => usage.charge(&CellKey::Sample { contract, rule, point }, 0, u64::MAX),
                Some(statistic) => {
                    let key = CellKey::Window {
                        contract,
                        rules: Digest([255; 32]),
                        rule,
                        forbids: vec![700; 256],
                        point,
                    };
                    let start = WallTime::from_seconds(1_800_000_000);
                    let window =
                        Window::around(start, Duration::from_secs(60), statistic, u64::MAX);
                    let opened = usage.open_window(&key, window);
                    if let Some(window) = usage.window_mut(&key) {
                        (0..500).for_each(|value| window.add(f64::from(value)));
                    }
                    opened
                }
            };
            if full.is_err() {
                break;
            }
            count += 1;
        }
        let bytes = usage.snapshot().len();
        assert!(bytes <= CELLS_BYTES_MAX, "{bytes} bytes of {count} cells");
        assert!(usize::try_from(count).unwrap() >= least, "{count} cells");
        usage.handle_committed();
        assert!(
            usage
                .close_window(&CellKey::Window {
                    contract: contract(&long),
                    rules: Digest([255; 32]),
                    rule: long.as_str().into(),
                    forbids: vec![700; 256],
                    point: PointId(0),
                })
                .is_some()
                == statistic.is_some()
        );
    };
    check(None, 6000);
    check(Some(Statistic::Mean), 1700);
    check(Some(Statistic::Percentile(95)), 270);
}

/// A name may look like a rate; records of earlier programs have names alone.
#[test]
fn rates_keep_their_names_through_records() {
    let check = |rule: &str, rate: Option<Rate>| {
        let key = CellKey::Rate { contract: contract("A"), rule: rule.into(), rate };
        let mut usage = Usage::default();
        usage.take_one(&key, Rate { readings: 2, per_s: 1 }, WallTime(0)).unwrap();
        usage.handle_committed();
        let mut again = Usage::default();
        again.replay(&usage.snapshot()).unwrap();
        assert_eq!(again, usage);
    };
    for rate in [None, Some(Rate { readings: 1_000_000_000, per_s: 86_400 })] {
        for rule in ["p", "", "p/1", "p\u{1f}", "p\u{1f}2", "p\u{1f}02/1", "p\u{1f}+2/1"] {
            check(rule, rate);
        }
    }
}

/// A window as the program wrote it that bound none to a version: it belongs to no rules, and the first plan
/// ends it. Its name may look like one that does.
#[test]
fn windows_of_earlier_programs_are_read_and_belong_to_no_version() {
    let record = [
        &b"\x05\x01A\x01r\x09\0\0\0\x02\x01\0\xbc\x02\x03"[..],
        &b"\0\0\0\0\0\0\0\0\0\x58\x47\xf8\x0d\0\0\0\x83\x01\x01"[..],
        &b"\0\0\0\0\0\0\x10\x40\0\0\0\0\0\0\x10\x40\0\0\0\0\0\0\x10\x40"[..],
        &b"\0\0\0\0\0\0\0\0\0\x80"[..],
    ]
    .concat();
    let key = |rules| CellKey::Window {
        contract: contract("A"),
        rules,
        rule: "r".into(),
        forbids: vec![1, 700],
        point: PointId(9),
    };
    let mut usage = Usage::default();
    usage.replay(&record).unwrap();
    assert_eq!(usage.windows(), [key(Digest([0; 32]))]);
    assert_eq!(usage.snapshot(), record);
    for rules in [Digest([0; 32]), Digest([0xAB; 32])] {
        for rule in ["r", "", "r\u{1f}", "r\u{1f}00", &format!("r\u{1f}{}", "AB".repeat(32))] {
            let mut key = key(rules);
            let CellKey::Window { rule: name, .. } = &mut key else { unreachable!() };
            *name = rule.into();
            let minute = Duration::from_secs(60);
            let mut usage = Usage::default();
            let window = Window::around(WallTime(0), minute, Statistic::Mean, 1);
            usage.open_window(&key, window).unwrap();
            let mut again = Usage::default();
            again.replay(&usage.snapshot()).unwrap();
            assert_eq!(again.windows(), [key]);
        }
    }
}

#[test]
fn what_was_used_up_outlives_its_contract() {
    let mut usage = Usage::default();
    let kept = quota("A", Period::Total);
    let gone = CellKey::Sample { contract: contract("A"), rule: "r".into(), point: PointId(1) };
    usage.charge(&kept, 0, 1).unwrap();
    usage.charge(&gone, 0, 1).unwrap();
    usage.retain(|_| false);
    assert_eq!((usage.used(&kept, 0), usage.used(&gone, 0)), (1, 0));
}

fn step(usage: &mut Usage, what: u8, number: u32) {
    let (name, point) = (["A", "B"][number as usize % 2], PointId(number));
    let window = CellKey::Window {
        contract: contract(name),
        rules: Digest([7; 32]),
        rule: "r".into(),
        forbids: vec![1, 700],
        point,
    };
    let at = WallTime::from_seconds(i64::from(number) * 7);
    match what {
        0 => usage.charge(&quota(name, Period::Hour), i64::from(number), 3).unwrap(),
        1 => {
            let rate = Rate { readings: 5, per_s: 60 };
            let (contract, rule) = (contract(name), "rule".into());
            let key = CellKey::Rate { contract, rule, rate: Some(rate) };
            usage.take_one(&key, rate, at).unwrap();
        }
        2 => {
            let key = CellKey::Budget { contract: contract(name), point, period: Period::Month };
            usage.charge(&key, 1, 100_000).unwrap();
        }
        3 => {
            let statistic = Statistic::Percentile(90);
            let new = Window::around(at, Duration::from_secs(60), statistic, 3);
            usage.open_window(&window, new).unwrap();
        }
        4 => {
            if let Some(open) = usage.window_mut(&window) {
                open.add(f64::from(number) * 1.5);
            }
        }
        _ => drop(usage.close_window(&window)),
    }
}

proptest! {
    #[test]
    fn restarts_lose_and_repeat_nothing(
        commits in prop::collection::vec(
            (prop::collection::vec((0_u8..6, 0_u32..4), 0..6), any::<bool>()), 0..12),
        cut in 0_usize..12,
    ) {
        let mut usage = Usage::default();
        let mut again = Usage::default();
        for (place, (steps, is_durable)) in commits.into_iter().enumerate() {
            if place == cut {
                again = Usage::default();
                again.replay(&usage.snapshot()).unwrap();
            }
            let before = usage.clone();
            steps.into_iter().for_each(|(what, number)| step(&mut usage, what, number));
            match is_durable {
                true => {
                    // Twice, as after a crash between write and trim.
                    again.replay(&usage.delta()).unwrap();
                    again.replay(&usage.delta()).unwrap();
                    usage.handle_committed();
                }
                false => {
                    usage.rollback();
                    prop_assert_eq!(&usage, &before);
                }
            }
            prop_assert_eq!(&again.cells, &usage.cells);
        }
    }

    #[test]
    fn any_record_gives_an_answer(record in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Usage::default().replay(&record);
    }
}
