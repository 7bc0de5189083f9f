//! Days, windows, budgets and sleep, moment by moment.

use super::*;
use guan_model::ContractId;

const MINUTE: Duration = Duration::from_secs(60);
/// A Monday, 00:00 UTC: 23 November 2026.
const MONDAY_MS: i64 = 1_795_392_000_000;

fn wall(minutes: i64) -> WallTime {
    WallTime::from_millis(MONDAY_MS + minutes * 60_000)
}

#[test]
fn budgets_begin_anew_with_the_day_and_the_month_and_never_for_a_clock_set_back() {
    let budget = Budget { day_bytes_max: Some(100), month_bytes_max: Some(250) };
    let mut usage = Usage::default();
    usage.handle_time(wall(0));
    usage.handle_link(99);
    assert_eq!(usage.spent(&budget), None);
    usage.handle_link(1);
    assert_eq!(usage.spent(&budget), Some(Spent::Day));
    usage.handle_time(wall(-1440));
    assert_eq!(usage.spent(&budget), Some(Spent::Day));
    // A clock that was decades ahead for a moment: as soon as it is right again, days go on from there.
    let mut misled = usage.clone();
    misled.handle_time(wall(30 * 366 * 1440));
    misled.handle_link(100);
    misled.handle_time(wall(0));
    assert_eq!(misled.spent(&budget), Some(Spent::Day));
    misled.handle_time(wall(1440));
    assert_eq!(misled.spent(&budget), None);
    usage.handle_time(wall(0));
    usage.handle_time(wall(1440));
    assert_eq!(usage.spent(&budget), None);
    usage.handle_link(150);
    assert_eq!(usage.spent(&budget), Some(Spent::Month));
    // Until November is over.
    usage.handle_time(wall(7 * 1440));
    assert_eq!(usage.spent(&budget), Some(Spent::Month));
    usage.handle_time(wall(8 * 1440));
    assert_eq!((usage.spent(&budget), usage.link_bytes()), (None, (0, 0)));
}

#[test]
fn contracts_have_ledgers_of_their_own_that_survive() {
    let budget = Budget { day_bytes_max: None, month_bytes_max: Some(10) };
    let name = |number: usize| ContractId::parse(&format!("C-{number}")).unwrap();
    let mut usage = Usage::default();
    usage.handle_time(wall(0));
    for number in 0..=CONTRACTS_MAX {
        usage.handle_contract(&name(number), 10);
    }
    usage.handle_link(7);
    assert_eq!(usage.contract_spent(&name(0), &budget), Some(Spent::Month));
    assert_eq!(usage.contract_bytes(&name(CONTRACTS_MAX)), (0, 0));
    assert_eq!(Usage::decode(&usage.encode()).unwrap(), usage);
    assert!(Usage::decode(&usage.encode()[..30]).is_err());
}

fn rules() -> Rules {
    let night = WeekWindow::parse("mon-sun", "22:00", "06:00").unwrap();
    Rules {
        windows: vec![night],
        budget: Budget { day_bytes_max: Some(1000), month_bytes_max: None },
        sleep_after: None,
        check_in: 60 * MINUTE,
    }
}

fn facts(minutes: u32) -> Facts {
    Facts {
        now: MINUTE * minutes,
        wall: Some(wall(minutes.into())),
        is_waiting: false,
        is_connected: true,
        said_bytes: 0,
    }
}

#[test]
fn outside_its_windows_a_link_checks_in_for_control_only() {
    let (mut rota, usage) = (Rota::new(Duration::ZERO, rules()), Usage::default());
    assert_eq!(rota.poll(&facts(0), &usage), (Verdict::Open, None, None));
    let before = Facts { now: facts(360).now - CHECK_IN_QUIET / 2, ..facts(359) };
    assert_eq!(rota.poll(&before, &usage).0, Verdict::Open);
    // Six in the morning: what runs may end what it says, and batches wait.
    let why = Some(Why::OutsideWindows);
    let morning = Facts { is_waiting: true, ..facts(360) };
    let (verdict, seen, due) = rota.poll(&morning, &usage);
    assert_eq!((verdict, seen), (Verdict::Control, why));
    assert_eq!(due, Some(before.now + CHECK_IN_QUIET));
    assert_eq!(rota.poll(&Facts { is_waiting: true, ..facts(361) }, &usage).0, Verdict::Closed);
    assert_eq!(rota.poll(&Facts { is_waiting: true, ..facts(420) }, &usage).0, Verdict::Closed);
    let off = Facts { is_connected: false, ..facts(421) };
    assert_eq!(rota.poll(&off, &usage).0, Verdict::Control);
    // It lasts while something is said, and not for ever where nobody answers.
    let talking = Facts { said_bytes: 9, now: off.now + CHECK_IN_QUIET / 2, ..facts(421) };
    assert_eq!(rota.poll(&talking, &usage).2, Some(talking.now + CHECK_IN_QUIET));
    assert_eq!(rota.poll(&Facts { said_bytes: 9, ..facts(422) }, &usage).0, Verdict::Closed);
    assert_eq!(rota.poll(&Facts { is_connected: false, ..facts(482) }, &usage).0, Verdict::Control);
    assert_eq!(rota.poll(&Facts { is_connected: false, ..facts(483) }, &usage).0, Verdict::Control);
    assert_eq!(rota.poll(&Facts { is_connected: false, ..facts(484) }, &usage).0, Verdict::Closed);
    // In the evening it opens by itself; and who does not know the time has no windows.
    assert_eq!(rota.poll(&facts(22 * 60), &usage).0, Verdict::Open);
    assert_eq!(rota.poll(&Facts { wall: None, ..facts(12 * 60) }, &usage).0, Verdict::Open);
}

#[test]
fn a_spent_budget_leaves_control_only() {
    let (mut rota, mut usage) = (Rota::new(Duration::ZERO, rules()), Usage::default());
    usage.handle_time(wall(0));
    usage.handle_link(1000);
    let (verdict, why, _) = rota.poll(&facts(0), &usage);
    assert_eq!((verdict, why), (Verdict::Control, Some(Why::Spent(Spent::Day))));
    usage.handle_time(wall(1440));
    assert_eq!(rota.poll(&facts(1440), &usage).0, Verdict::Open);
}

#[test]
fn a_link_without_work_sleeps_wakes_for_work_and_checks_in() {
    let rules = Rules { windows: vec![], sleep_after: Some(MINUTE), ..rules() };
    let (mut rota, usage) = (Rota::new(Duration::ZERO, rules), Usage::default());
    assert_eq!(rota.poll(&facts(0), &usage), (Verdict::Open, None, Some(MINUTE)));
    assert_eq!(rota.poll(&Facts { said_bytes: 5, ..facts(1) }, &usage).0, Verdict::Open);
    let asleep = Facts { said_bytes: 5, ..facts(2) };
    let (verdict, why, due) = rota.poll(&asleep, &usage);
    assert_eq!((verdict, why), (Verdict::Closed, Some(Why::Asleep)));
    assert_eq!(due, Some(MINUTE * 62));
    let off = |minutes| Facts { said_bytes: 5, is_connected: false, ..facts(minutes) };
    assert_eq!(rota.poll(&off(30), &usage).0, Verdict::Closed);
    assert_eq!(rota.poll(&Facts { is_waiting: true, ..off(31) }, &usage).0, Verdict::Open);
    // What waits keeps it trying, however long that takes.
    assert_eq!(rota.poll(&Facts { is_waiting: true, ..off(60) }, &usage).0, Verdict::Open);
    assert_eq!(rota.poll(&off(62), &usage).0, Verdict::Closed);
    assert_eq!(rota.poll(&off(121), &usage).0, Verdict::Closed);
    assert_eq!(rota.poll(&off(122), &usage).0, Verdict::Open);
}
