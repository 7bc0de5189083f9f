use super::*;
use guan_model::{
    Class, DatasetId, DescriptorTable, PointDescriptor, PointId, PointName, Quality, Reason, Row,
    Severity, Unit, Value, ValueType, WallTime,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const DAY: i64 = 20_781;

fn point(id: u32, dataset: &str) -> PointDescriptor {
    PointDescriptor {
        id: PointId(id),
        name: PointName::parse(&format!("p{id}")).unwrap(),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse(dataset).unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    }
}

/// Point 1 has a range, points 2 and 3 an interval of a minute and of ten.
fn yardstick() -> Arc<Yardstick> {
    let table =
        DescriptorTable::new(vec![point(1, "free"), point(2, "due"), point(3, "due")]).unwrap();
    let ranged = Expectation { low: Some(-1.0), high: Some(1.0), interval: None };
    let due = |seconds| Expectation {
        interval: Some(Duration::from_secs(seconds)),
        ..Expectation::default()
    };
    let expectations =
        BTreeMap::from([(PointId(1), ranged), (PointId(2), due(60)), (PointId(3), due(600))]);
    let limit = Duration::from_secs(10);
    Arc::new(Yardstick::new(&table, &expectations, &BTreeMap::new(), limit).unwrap())
}

fn at(seconds: i64) -> WallTime {
    WallTime::from_seconds(DAY * 86_400 + seconds)
}

fn row(point: u32, source: Option<i64>, received: i64, value: Option<f64>) -> Row {
    Row {
        point: PointId(point),
        source_time: source.map(at),
        gateway_time: at(received),
        quality: Quality::GOOD,
        value: value.map(Value::F64),
    }
}

fn figures(rows: &[Row], dataset: &str, until: i64) -> Figures {
    let mut ledger = Ledger::new(yardstick());
    ledger.watch(at(0));
    rows.iter().for_each(|row| ledger.observe(row));
    ledger.watch(at(until));
    let dataset = DatasetId::parse(dataset).unwrap();
    ledger.figures(Day::of(at(0)), &dataset).unwrap()
}

fn shares(figures: &Figures) -> [String; 4] {
    Metric::ALL
        .map(|(_, metric)| figures.share(metric).map_or("-".to_owned(), |share| share.to_string()))
}

#[test]
fn each_figure_is_what_its_definition_says() {
    let check = |rows: &[Row], expect: [&str; 4]| {
        assert_eq!(shares(&figures(rows, "free", 100)), expect, "{rows:?}");
    };
    let good = |source, received| row(1, Some(source), received, Some(0.5));
    check(&[good(1, 1)], ["1.000000", "1.000000", "1.000000", "1.000000"]);
    // Without a value: neither complete nor accurate.
    check(&[row(1, Some(1), 1, None)], ["0.000000", "0.000000", "1.000000", "1.000000"]);
    check(&[row(1, None, 1, Some(0.0))], ["1.000000", "1.000000", "-", "1.000000"]);
    for (value, accurate) in
        [(-1.0, "1.000000"), (1.0, "1.000000"), (1.000001, "0.000000"), (f64::NAN, "0.000000")]
    {
        let found = figures(&[row(1, Some(1), 1, Some(value))], "free", 100);
        assert_eq!(shares(&found)[1], accurate, "{value}");
    }
    let bad = Quality::new(Severity::Uncertain, Reason::Stale);
    let stale = Row { quality: bad, ..good(1, 1) };
    check(&[stale], ["1.000000", "0.000000", "1.000000", "1.000000"]);
    // The limit of ten seconds is exact, and a second ahead is still in time.
    check(&[good(0, 10)], ["1.000000", "1.000000", "1.000000", "1.000000"]);
    check(&[good(0, 11)], ["1.000000", "1.000000", "0.000000", "1.000000"]);
    check(&[good(12, 11)], ["1.000000", "1.000000", "1.000000", "1.000000"]);
    check(&[good(13, 11)], ["1.000000", "1.000000", "0.000000", "1.000000"]);
    // Equal times are in order, earlier ones are not; each reading is compared with the one before.
    check(&[good(2, 3), good(2, 3)], ["1.000000", "1.000000", "1.000000", "1.000000"]);
    check(&[good(5, 5), good(3, 5), good(4, 5)], ["1.000000", "1.000000", "1.000000", "0.666666"]);
    let text = Row { value: Some(Value::Text("x".into())), ..good(1, 1) };
    check(&[text], ["1.000000", "1.000000", "1.000000", "0.000000"]);
    let opaque =
        Row { quality: Quality::new(Severity::Uncertain, Reason::Undecodable), ..good(1, 1) };
    check(&[opaque], ["1.000000", "0.000000", "1.000000", "0.000000"]);
}

#[test]
fn intervals_are_due_whether_or_not_values_come() {
    let check = |seconds: &[i64], until, expect: &str| {
        let rows: Vec<Row> = seconds.iter().map(|s| row(2, Some(*s), *s, Some(1.0))).collect();
        assert_eq!(shares(&figures(&rows, "due", until))[0], expect, "{seconds:?}");
    };
    // 1,440 + 144 values a day are 11 in ten minutes.
    check(&[], 600, "0.000000");
    check(&[0, 60, 120], 600, "0.272727");
    check(&[0, 1, 59, 60], 600, "0.181818");
    check(&[0, 60, 120, 180, 240, 300, 360, 420, 480, 540], 600, "0.909090");
    // More than was due is still all.
    check(&[0, 60, 120, 180, 240, 300, 360, 420, 480, 540], 60, "1.000000");
}

#[test]
fn refused_messages_and_unknown_points() {
    let mut ledger = Ledger::new(yardstick());
    let free = DatasetId::parse("free").unwrap();
    ledger.observe(&row(1, Some(1), 1, Some(0.0)));
    ledger.observe(&row(9, Some(1), 1, Some(0.0)));
    ledger.refuse(at(2), &free);
    ledger.refuse(at(2), &DatasetId::parse("nobody").unwrap());
    let found = ledger.figures(Day::of(at(0)), &free).unwrap();
    assert_eq!((found.readings, found.refused), (1, 1));
    assert_eq!(shares(&found), ["0.500000", "1.000000", "1.000000", "0.500000"]);
}

#[test]
fn days_begin_and_are_forgotten() {
    let mut ledger = Ledger::new(yardstick());
    let day = 86_400;
    ledger.watch(at(day / 2));
    ledger.watch(at(day + day / 2));
    let due = DatasetId::parse("due").unwrap();
    ledger.observe(&row(2, None, day + day / 2, Some(1.0)));
    // The first day was watched for half, the second from its begin to its middle.
    let first = ledger.take_changed();
    assert_eq!(first.len(), 2);
    let spans: Vec<i64> = first
        .iter()
        .map(|(_, bytes)| DayTally::decode(bytes).unwrap().1)
        .map(|tally| (tally.until.0 - tally.from.0) / 1_000_000_000)
        .collect();
    assert_eq!(spans, [day / 2, day / 2]);
    assert!(ledger.take_changed().is_empty());
    for later in 2..40 {
        ledger.watch(at(day * later));
    }
    assert_eq!(ledger.days().count(), DAYS_KEPT);
    assert_eq!(ledger.days().next(), Some(Day::of(at(day * 39))));
    assert_eq!(ledger.figures(Day::of(at(0)), &due), None);
    // A clock that falls back below all that is known.
    ledger.watch(at(-day * 99));
    assert!(ledger.days().count() <= DAYS_KEPT + 1);
}

#[test]
fn days_have_names() {
    assert_eq!(Day::of(at(0)).to_string(), "2026-11-24");
    assert_eq!(Day::parse("2026-11-24"), Some(Day::of(at(86_399))));
    for wrong in ["", "2026-11-31", "2026-1-1", "26-01-01", "2026-11-24T", "9999-01-01"] {
        assert_eq!(Day::parse(wrong), None, "{wrong:?}");
    }
    assert_eq!(Day::of(WallTime(-1)).to_string(), "1969-12-31");
}

#[test]
fn impossible_expectations_are_refused() {
    let table = DescriptorTable::new(vec![point(1, "d"), point(2, "d"), point(3, "d")]).unwrap();
    let interval = |span| Expectation { interval: Some(span), ..Expectation::default() };
    let expectations = BTreeMap::from([
        (PointId(1), interval(Duration::ZERO)),
        (PointId(2), interval(Duration::from_millis(86_400_001))),
        (PointId(3), Expectation { low: Some(2.0), high: Some(1.0), interval: None }),
    ]);
    let limit = Duration::from_secs(1);
    let faults = Yardstick::new(&table, &expectations, &BTreeMap::new(), limit).unwrap_err();
    assert_eq!(faults.len(), 3);
    let most = BTreeMap::from([(PointId(1), interval(Duration::from_secs(86_400)))]);
    assert!(Yardstick::new(&table, &most, &BTreeMap::new(), limit).is_ok());
}

/// The form on disk; never edited, only added to.
#[test]
fn the_kept_form_is_the_golden_one() {
    let mut ledger = Ledger::new(yardstick());
    ledger.observe(&row(1, Some(1), 3, Some(0.25)));
    ledger.observe(&row(2, Some(60), 61, Some(7.0)));
    ledger.refuse(at(70), &DatasetId::parse("free").unwrap());
    let (day, bytes) = ledger.take_changed().remove(0);
    let golden = include_bytes!("../../tests/golden/quality-day-v1.bin");
    assert_eq!(bytes, golden);
    let (read, tally) = DayTally::decode(golden).unwrap();
    assert_eq!((read, tally.encode(day)), (day, bytes));
}

#[test]
fn counting_does_not_allocate() {
    let mut ledger = Ledger::new(yardstick());
    ledger.observe(&row(2, Some(0), 0, Some(1.0)));
    let rows: Vec<Row> = (0..1000).map(|s| row(2, Some(s), s, Some(1.0))).collect();
    let found = allocation_counter::measure(|| rows.iter().for_each(|row| ledger.observe(row)));
    assert_eq!(found.count_total, 0);
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let one = (1_u32..=3, proptest::option::of(0_i64..4000), 0_i64..4000, 0_u8..8);
    let made = one.prop_map(|(point, source, received, kind)| {
        let mut made = row(point, source, received, (kind > 1).then_some(f64::from(kind) - 4.0));
        if kind == 7 {
            made.value = Some(Value::Bool(true));
        }
        if kind == 6 {
            made.quality = Quality::new(Severity::Bad, Reason::Undecodable);
        }
        made
    });
    proptest::collection::vec(made, 0..60)
}

proptest! {
    #[test]
    fn tallies_that_follow_each_other_merge(first in rows(), second in rows(), third in rows()) {
        let count = |parts: &[&Vec<Row>]| {
            let mut ledger = Ledger::new(yardstick());
            ledger.watch(at(0));
            parts.iter().flat_map(|rows| rows.iter()).for_each(|row| ledger.observe(row));
            let bytes = ledger.take_changed().remove(0).1;
            DayTally::decode(&bytes).unwrap().1
        };
        let mut merged = count(&[&first]);
        let mut behind = count(&[&second]);
        behind.merge(&count(&[&third]));
        merged.merge(&behind);
        prop_assert_eq!(merged, count(&[&first, &second, &third]));
    }

    #[test]
    fn any_bytes_give_an_answer(bytes: Vec<u8>, place: usize, with: u8) {
        let _ = DayTally::decode(&bytes);
        let mut golden = include_bytes!("../../tests/golden/quality-day-v1.bin").to_vec();
        let place = place % golden.len().max(1);
        golden[place] = with;
        if let Ok((_, mut tally)) = DayTally::decode(&golden) {
            let other = tally.clone();
            tally.merge(&other);
        }
    }
}
