//! Terms through their bytes, and what they answer as time goes on.

use super::*;
use crate::constraint::{ReleaseVersion, Test, TimeWindow};
use crate::interval::{Comparison, IntervalSet};
use crate::situation::LinkClass;
use guan_model::WallTime;
use proptest::prelude::*;

const BOOT: BootNumber = BootNumber(3);

fn now(seconds: i64, quality: ClockQuality) -> Now {
    let monotonic = Duration::from_secs(seconds.unsigned_abs());
    Now { wall: WallTime::from_seconds(seconds), monotonic, quality }
}

fn terms(require: Program, forbid: Vec<Program>, delay: Option<Delay>) -> Terms {
    let forbid = forbid.into_iter().map(|program| (Arc::from("no"), program)).collect();
    Terms { permission: Arc::from("may"), require, forbid, delay }
}

fn yes() -> Program {
    Program::Known(Truth::True)
}

fn until(seconds: i64) -> Program {
    let moment = WallTime::from_seconds(seconds).0;
    Program::DateTime(IntervalSet::of(Comparison::Lt, moment))
}

#[test]
fn time_runs_one_way() {
    let check = |terms: Terms, seconds: i64, quality, expect: Leave| {
        let situation = Situation::at(now(seconds, quality));
        assert_eq!(terms.judge(&situation, BOOT), expect, "{terms:?} at {seconds}");
    };
    use ClockQuality::{Ntp, Unset};
    let (may, no) = (|| Arc::from("may"), || Arc::from("no"));
    check(terms(until(100), vec![], None), 99, Ntp, Leave::Now);
    check(terms(until(100), vec![], None), 100, Ntp, Leave::Never(may()));
    // Without a clock nothing leaves, and nothing is given up either.
    check(terms(until(100), vec![], None), 99, Unset, Leave::Hold(may()));
    check(terms(until(100), vec![], None), 101, Unset, Leave::Hold(may()));
    check(terms(yes(), vec![until(100)], None), 99, Ntp, Leave::Hold(no()));
    check(terms(yes(), vec![until(100)], None), 100, Ntp, Leave::Now);
    let since = Program::DateTime(IntervalSet::of(Comparison::Gteq, 100_000_000_000));
    check(terms(since.clone(), vec![], None), 99, Ntp, Leave::Hold(may()));
    check(terms(yes(), vec![since], None), 100, Ntp, Leave::Never(no()));
    // What is not known holds back: a permission needs true, a prohibition fires on unknown.
    let metered = Program::Test(Test::Link(LinkClass::Metered, true));
    check(terms(metered.clone(), vec![], None), 5, Ntp, Leave::Hold(may()));
    check(terms(yes(), vec![metered], None), 5, Ntp, Leave::Hold(no()));
}

#[test]
fn delays_are_over_by_the_clock_that_can_tell() {
    use ClockQuality::{Ntp, Unset};
    let check = |kept: (i64, ClockQuality), boot: u32, at: Now, expect: bool| {
        let kept_at = now(kept.0, kept.1);
        let delay = Delay { span: Duration::from_secs(60), boot: BOOT, kept_at };
        assert_eq!(delay.is_over(&at, BootNumber(boot)), expect, "{kept:?} {boot} {at:?}");
    };
    check((100, Unset), 3, now(159, Unset), false);
    check((100, Unset), 3, now(160, Unset), true);
    // A wall clock that was set forward in the same boot does not shorten the wait.
    let jumped = Now { wall: WallTime::from_seconds(9999), ..now(101, Ntp) };
    check((100, Ntp), 3, jumped, false);
    let restarted = |seconds: i64, up: u64, quality| Now {
        monotonic: Duration::from_secs(up),
        ..now(seconds, quality)
    };
    check((100, Ntp), 4, restarted(160, 1, Ntp), true);
    check((100, Unset), 4, restarted(160, 59, Ntp), false);
    check((100, Unset), 4, restarted(160, 60, Ntp), true);
    check((100, Ntp), 4, restarted(160, 1, Unset), false);
}

fn any_program() -> impl Strategy<Value = Program> {
    let comparison = prop::sample::select(vec![Comparison::Eq, Comparison::Lteq, Comparison::Neq]);
    let zone = prop::sample::select(vec!["Asia/Shanghai", "UTC", "Europe/Berlin"]);
    let leaf = prop_oneof![
        prop::sample::select(Truth::ALL.to_vec()).prop_map(Program::Known),
        (comparison.clone(), any::<i64>())
            .prop_map(|(comparison, at)| Program::DateTime(IntervalSet::of(comparison, at))),
        (1_u8..128, zone, any::<bool>()).prop_map(|(days, zone, inside)| {
            let zone = TimeWindow::zone(zone).unwrap();
            let window = TimeWindow::new(days, "22:00", "06:30", zone).unwrap();
            Program::Test(Test::Window { window, inside })
        }),
        any::<bool>().prop_map(|is| Program::Test(Test::Link(LinkClass::Unmetered, is))),
        (comparison.clone(), 0_u8..3).prop_map(|(c, tier)| Program::Test(Test::Attested(c, tier))),
        any::<bool>().prop_map(|on| Program::Test(Test::SecureBoot(on))),
        (comparison.clone(), any::<[u32; 4]>())
            .prop_map(|(c, v)| Program::Test(Test::Release(c, ReleaseVersion(v)))),
        comparison.prop_map(|c| Program::Test(Test::Clock(c, ClockQuality::Ntp))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let parts = prop::collection::vec(inner, 0..4);
        prop_oneof![
            parts.clone().prop_map(Program::And),
            parts.clone().prop_map(Program::Or),
            parts.prop_map(Program::Xone),
        ]
    })
}

proptest! {
    #[test]
    fn terms_survive_their_bytes(
        require in any_program(),
        forbid in prop::collection::vec(any_program(), 0..3),
        span in prop::option::of(any::<u64>()),
    ) {
        let kept_at = now(1_800_000_000, ClockQuality::Rtc);
        let delay = span.map(|span| Delay { span: Duration::from_nanos(span), boot: BOOT, kept_at });
        let terms = terms(require, forbid, delay);
        let bytes = terms.encode();
        match terms.is_free() {
            true => prop_assert!(bytes.is_empty()),
            false => prop_assert_eq!(Terms::decode(&bytes).unwrap().unwrap(), terms.clone()),
        }
        // The moment of keeping is no condition; the span is.
        let later = delay.map(|delay| Delay { kept_at: now(9, ClockQuality::Ntp), ..delay });
        prop_assert_eq!(Terms { delay: later, ..terms.clone() }.conditions(), terms.conditions());
        let longer = delay.map(|delay| Delay { span: delay.span / 2, ..delay });
        let is_same = Terms { delay: longer, ..terms.clone() }.conditions() == terms.conditions();
        prop_assert_eq!(is_same, span.is_none_or(|span| span == 0));
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Terms::decode(&bytes);
        let mut versioned = vec![1, 0];
        versioned.extend(bytes);
        let _ = Terms::decode(&versioned);
    }
}

#[test]
fn nesting_and_length_are_limited() {
    let deep = |depth: usize| {
        let mut bytes = vec![1, 0];
        bytes.extend([3, 1].repeat(depth));
        bytes.extend([1, 1, 0, 0]);
        Terms::decode(&bytes).map(|_| ())
    };
    assert_eq!(deep(20), Ok(()));
    assert_eq!(deep(21), Err(TermsFault::Depth));
    let long = vec![0; TERMS_BYTES_MAX + 1];
    assert_eq!(Terms::decode(&long), Err(TermsFault::Length { length: TERMS_BYTES_MAX + 1 }));
    assert_eq!(Terms::decode(&[2]), Err(TermsFault::Version { version: 2 }));
}
