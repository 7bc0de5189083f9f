//! Shared windows: which are open, which points stand behind them, and their record.

use super::*;
use crate::duty::Statistic;
use crate::usage::{CELLS_BYTES_MAX, CellKey, Usage};
use guan_model::{ContractId, Digest};
use std::time::Duration;

fn aggregate(statistic: Statistic, readings_min: u64) -> Aggregate {
    Aggregate { window: Duration::from_secs(60), statistic, readings_min, group: None }
}

fn at(second: i64) -> WallTime {
    WallTime::from_seconds(second)
}

fn given(point: u32, second: i64, value: Option<f64>) -> Given {
    Given { point: PointId(point), moment: at(second), gateway_time: at(second), value }
}

fn through_its_bytes(windows: &GroupWindows) -> Option<GroupWindows> {
    let mut out = Writer::new();
    windows.write(&mut out);
    let bytes = out.finish();
    assert!(bytes.len() <= windows.bytes_max(), "{} bytes", bytes.len());
    let mut reader = Reader::new(&bytes);
    let read = GroupWindows::read(&mut reader).unwrap();
    assert!(read.is_none() || reader.left() == 0);
    read
}

/// The sum that leaves of the readings of one minute, given as points and values.
#[test]
fn a_result_needs_different_points() {
    let check = |minimum: u64, readings_min: u64, values: &[(u32, Option<f64>)], expect| {
        let mut windows = GroupWindows::new(&aggregate(Statistic::Mean, readings_min), minimum);
        for (point, value) in values {
            assert_eq!(windows.absorb(given(*point, 3, *value)), Absorbed::Taken(None));
        }
        assert_eq!(through_its_bytes(&windows).as_ref(), Some(&windows));
        assert!(windows.end_overdue(at(119)).is_empty());
        let ended = windows.end_overdue(at(120));
        let [one] = &ended[..] else { panic!("one window was begun") };
        let found = one.result(minimum).and_then(|mut window| window.result());
        assert_eq!(found, expect, "{minimum} of {values:?}");
        assert!(windows.end_overdue(at(9999)).is_empty());
    };
    check(2, 1, &[(1, Some(1.0)), (2, Some(4.0))], Some(2.5));
    check(2, 1, &[(1, Some(1.0)), (1, Some(4.0))], None);
    check(3, 1, &[(1, Some(1.0)), (2, Some(4.0))], None);
    check(3, 1, &[(9, Some(1.0)), (2, Some(4.0)), (5, Some(1.0)), (2, Some(4.0))], Some(2.5));
    // What does not count stands behind nothing.
    check(2, 1, &[(1, Some(1.0)), (2, None)], None);
    check(2, 3, &[(1, Some(1.0)), (2, Some(4.0))], None);
    check(2, 1, &[(1, None)], None);
}

/// Readings, by point and second; which come late, and the starts of the windows that end for them.
#[test]
fn windows_end_in_order_and_when_there_are_too_many() {
    let check = |readings: &[(u32, i64)], late: &[i64], ended: &[i64]| {
        let mut windows = GroupWindows::new(&aggregate(Statistic::Count, 1), 2);
        let (mut found_late, mut found_ended) = (Vec::new(), Vec::new());
        for (point, second) in readings {
            match windows.absorb(given(*point, *second, Some(1.0))) {
                Absorbed::Late => found_late.push(*second),
                Absorbed::Taken(one) => found_ended.extend(one.map(|one| one.window.start().0)),
            }
            assert_eq!(through_its_bytes(&windows).as_ref(), Some(&windows));
        }
        let ended: Vec<i64> = ended.iter().map(|second| at(*second).0).collect();
        assert_eq!((found_late, found_ended), (late.to_vec(), ended), "{readings:?}");
    };
    // Point by point, as a batch comes: what is of one window meets in it.
    check(&[(1, 0), (1, 60), (1, 120), (2, 0), (2, 60)], &[], &[]);
    let eight: Vec<(u32, i64)> = (1..9).map(|minute| (1, minute * 60)).collect();
    let then = |more: &[(u32, i64)]| [&eight, more].concat();
    check(&then(&[(2, 60), (2, 480)]), &[], &[]);
    // Older than all that are open, and no room.
    check(&then(&[(2, 59)]), &[59], &[]);
    check(&then(&[(2, 540)]), &[], &[60]);
    check(&then(&[(2, 540), (2, 119), (2, 120)]), &[119], &[60]);
    // Into a gap between others.
    check(&then(&[(2, 900), (2, 780), (2, 61), (2, 200)]), &[61], &[60, 120]);
    // At the ends of time windows would lie over each other.
    let (first, last) = (i64::MIN / 1_000_000_000, i64::MAX / 1_000_000_000);
    check(&[(1, first), (1, first + 30), (1, first + 61), (1, first + 121)], &[first + 61], &[]);
    check(&[(1, last), (2, last)], &[], &[]);
}

#[test]
fn times_at_both_ends_leave_a_record_that_can_be_read() {
    let mut windows = GroupWindows::new(&aggregate(Statistic::Max, 1), 2);
    let step = 7_000_000_011_i64;
    for edge in [i64::MIN, i64::MAX] {
        for place in 0..40 {
            let moment = WallTime(edge.saturating_add(step * place * -edge.signum()));
            let one = Given { point: PointId(1), moment, gateway_time: moment, value: Some(1.0) };
            windows.absorb(one);
            assert_eq!(through_its_bytes(&windows).as_ref(), Some(&windows), "{moment:?}");
        }
    }
}

/// An older window that readings still come for holds back those after it.
#[test]
fn windows_end_by_the_clock_one_after_the_other() {
    let mut windows = GroupWindows::new(&aggregate(Statistic::Count, 1), 2);
    for (moment, came) in [(0, 0), (60, 60), (5, 150)] {
        windows.absorb(Given { gateway_time: at(came), ..given(1, moment, Some(1.0)) });
    }
    assert!(!windows.is_overdue(at(209)) && windows.is_overdue(at(210)));
    assert_eq!(windows.end_overdue(at(210)).len(), 2);
    assert_eq!(windows.absorb(given(1, 119, Some(1.0))), Absorbed::Late);
    assert_eq!(windows.absorb(given(1, 120, Some(1.0))), Absorbed::Taken(None));
    assert_eq!((windows.count(), windows.end_all().len()), (1, 1));
}

/// Each would break a promise later: a result of nobody, windows that lie over each other, one too many.
#[test]
fn groups_that_no_program_writes_are_refused() {
    let check = |expect: bool, change: &dyn Fn(&mut GroupWindows)| {
        let mut windows = GroupWindows::new(&aggregate(Statistic::Percentile(50), 1), 3);
        for (point, second) in [(4, 60), (7, 60), (4, 130), (5, 130)] {
            windows.absorb(given(point, second, Some(1.0)));
        }
        change(&mut windows);
        let mut out = Writer::new();
        windows.write(&mut out);
        let read = GroupWindows::read(&mut Reader::new(&out.finish())).unwrap();
        assert_eq!(read.is_some(), expect, "{windows:?}");
    };
    check(true, &|_| {});
    check(true, &|one| one.open.clear());
    check(true, &|one| one.floor = at(60));
    check(false, &|one| one.floor = at(61));
    check(false, &|one| one.contributors_min = 1);
    check(false, &|one| one.contributors_min = CONTRIBUTORS_MAX + 1);
    check(false, &|one| one.open[0].contributors = vec![PointId(7), PointId(4)]);
    check(false, &|one| one.open[0].contributors = vec![PointId(4), PointId(4)]);
    check(false, &|one| one.open[0].contributors = [1, 2, 3].map(PointId).to_vec());
    check(false, &|one| one.open[0].contributors.clear());
    check(false, &|one| one.open.reverse());
    check(false, &|one| one.open[1] = one.open[0].clone());
    check(false, &|one| {
        let twelve = (0..12).map(|minute| Shared {
            window: one.open[0].window.around_moment(at(120 + 60 * minute)),
            contributors: Vec::new(),
        });
        one.open = twelve.collect();
    });
    check(false, &|one| one.open[0].window = one.blank.around_moment(at(60)));
    check(false, &|one| one.blank = one.open[0].window.clone());
    check(false, &|one| {
        let other = GroupWindows::new(&aggregate(Statistic::Max, 1), 3);
        one.blank = other.blank;
    });
}

/// Every window open, every contributor known, every percentile at its largest: the record stays within what
/// the cells may take, and nothing grows past it in its place.
#[test]
fn groups_are_limited() {
    let long = "x".repeat(64);
    let check = |statistic: Statistic, minimum: u64, least: u32| {
        let mut usage = Usage::default();
        let mut count = 0;
        loop {
            let key = CellKey::Window {
                contract: ContractId::parse(&long).unwrap(),
                rules: Digest([255; 32]),
                rule: long.as_str().into(),
                forbids: vec![700; 256],
                point: PointId(count),
            };
            let new = GroupWindows::new(&aggregate(statistic, u64::MAX), minimum);
            if usage.open_group(&key, new).is_err() {
                break;
            }
            let windows = usage.group_mut(&key).unwrap();
            for number in 0..8 * 1100 {
                let second = 1_800_000_000 + i64::from(number % 8) * 60;
                let absorbed = windows.absorb(given(number / 8, second, Some(f64::from(number))));
                assert_eq!(absorbed, Absorbed::Taken(None));
            }
            count += 1;
        }
        let bytes = usage.snapshot().len();
        assert!(bytes <= CELLS_BYTES_MAX, "{bytes} bytes of {count} cells");
        assert!(count >= least, "{count} cells");
        let mut again = Usage::default();
        again.replay(&usage.snapshot()).unwrap();
        assert_eq!(again.snapshot(), usage.snapshot());
        assert_eq!(
            again.bytes, usage.bytes,
            "what a cell costs does not change with what is in it"
        );
    };
    check(Statistic::Mean, 2, 900);
    check(Statistic::Mean, 1024, 40);
    check(Statistic::Percentile(95), 2, 30);
    check(Statistic::Percentile(95), 1024, 19);
}
