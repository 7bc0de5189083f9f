//! Windows that points share: through the plan, the clock, a change of contracts, and a restart.

use super::*;
use crate::plan::{GroupFault, PlanWarning};
use std::collections::BTreeSet;

const FLEET: PointId = PointId(9);

/// Three vehicles and their fleet; `other`: the name of the fourth point, its dataset and class.
fn fleet(other: (&str, &str, Class)) -> DescriptorTable {
    let point = |id: PointId, (name, dataset, class): (&str, &str, Class)| PointDescriptor {
        id,
        name: PointName::parse(name).unwrap(),
        dataset: DatasetId::parse(dataset).unwrap(),
        class,
        value_type: ValueType::F64,
        unit: Unit::one(),
        tags: BTreeSet::new(),
    };
    let names = ["A.1", "A.2", "A.3"].map(|name| (name, "vessel-bus", Class::General));
    let mut all: Vec<_> = (1..).zip(names).map(|(id, one)| point(PointId(id), one)).collect();
    all.push(point(FLEET, other));
    DescriptorTable::new(all).unwrap()
}

fn usual() -> DescriptorTable {
    fleet(("Fleet", "vessel-bus", Class::General))
}

/// Readings as point, second and value, series by series.
fn readings(table: &DescriptorTable, rows: &[(u32, i64, f64)]) -> Batch {
    let row = |(point, second, value): &(u32, i64, f64)| Row {
        point: PointId(*point),
        source_time: Some(WallTime::from_seconds(START_S + second)),
        gateway_time: WallTime::from_seconds(START_S + second.max(&0)),
        quality: Quality::GOOD,
        value: Some(Value::F64(*value)),
    };
    let header = BatchHeader { descriptors: table.digest(), ..header() };
    Batch::from_rows(header, rows.iter().map(row)).unwrap()
}

/// The mean of a minute over the vehicles, if two of them stand behind it.
fn means(change: impl FnOnce(&mut Json)) -> crate::Contract {
    contract("C", |object| {
        let parameters = [
            ("dataField", json!("A.*")),
            ("window", json!("PT1M")),
            ("statistic", json!("mean")),
            ("into", json!("Fleet")),
        ];
        let refinement = parameters.map(
            |(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        );
        object["permission"][0]["duty"] =
            json!([{"action": "aggregate", "refinement": refinement}]);
        change(object);
    })
}

fn new(contracts: &[crate::Contract], table: &DescriptorTable) -> Box1 {
    let plan = Plan::compile(contracts, table);
    Box1 { plan, usage: Usage::default(), dice: 1, key: Some([9; 32]) }
}

/// What leaves: the point, the second of the window's start, and the value.
fn lines(permitted: &[Permitted]) -> Vec<(PointId, i64, f64)> {
    let rows = permitted.iter().flat_map(|one| one.batch.iter_rows().collect::<Vec<_>>());
    rows.map(|row| {
        let Some(Value::F64(value)) = row.value else { panic!("{row:?} is no result") };
        let start = row.source_time.unwrap().0 / 1_000_000_000 - START_S;
        (row.point, start, value)
    })
    .collect()
}

impl Box1 {
    fn take(&mut self, second: i64, rows: &[(u32, i64, f64)]) -> Decision {
        let batch = readings(&usual(), rows);
        self.with_means(|plan, means| plan.decide(&at(second), means, batch))
    }
}

#[test]
fn a_window_of_many_leaves_on_the_point_of_the_group() {
    let mut one = new(&[means(|_| {})], &usual());
    assert_eq!(one.plan.warnings(), []);
    let decision =
        one.take(61, &[(1, 0, 1.0), (1, 60, 8.0), (2, 30, 4.0), (2, -61, 9.0), (9, 5, 7.0)]);
    // What comes on the point of the results itself is no result.
    assert_eq!(counts(&decision), (0, vec![("dropped", 1), ("absorbed", 4)]));
    one.restart();
    // Not before both minutes are over; of the one before and of the second one knows too little.
    assert_eq!(lines(&one.flush(119)), []);
    assert_eq!(lines(&one.flush(120)), [(FLEET, 0, 2.5)]);
    assert_eq!(
        counts(&one.take(121, &[(3, 59, 9.0), (3, 61, 9.0)])).1,
        [("dropped", 1), ("absorbed", 1)]
    );
    one.restart();
    assert_eq!(lines(&one.flush(999)), [(FLEET, 60, 8.5)]);
    assert!(one.flush(9999).is_empty() && one.usage.has_windows(), "what is late stays late");
}

/// One vehicle alone, however many readings it gives.
#[test]
fn a_window_of_one_never_leaves() {
    let mut one = new(&[means(|_| {})], &usual());
    for second in 0..200 {
        assert!(one.take(second, &[(1, second, 1.0)]).permitted.is_empty());
        assert_eq!(lines(&one.flush(second)), []);
    }
    assert_eq!(lines(&one.flush(9999)), []);
}

/// Steps that follow on the window are done to the result, and spend the budget of its point.
#[test]
fn results_take_the_steps_that_follow() {
    let refined = |action: &str, parameters: Json| {
        let refinement: Vec<Json> = parameters.as_object().unwrap().iter().map(
            |(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        ).collect();
        json!({"action": action, "refinement": refinement})
    };
    let with = |more: &[Json]| {
        means(|object| {
            object["permission"][0]["duty"].as_array_mut().unwrap().extend(more.iter().cloned());
        })
    };
    let rows = [(1, 0, 1.0), (2, 1, 4.0), (1, 600, 1.0), (2, 601, 4.0)];
    let mut one =
        new(&[with(&[refined("round", json!({"step": 2, "dataField": "A.*"}))])], &usual());
    one.take(601, &rows);
    assert_eq!(lines(&one.flush(9999)), [(FLEET, 0, 2.0), (FLEET, 600, 2.0)]);
    let noise = json!({"mechanism": "laplace", "epsilon": 1, "budget": 1, "dataField": "A.*"});
    let clamp = json!({"low": 0, "high": 10, "dataField": "*"});
    let mut one = new(&[with(&[refined("noise", noise), refined("clamp", clamp)])], &usual());
    one.take(601, &rows);
    let left = one.flush(9999);
    let masked: u64 = left.iter().map(|one| one.masked_rows).sum();
    let found = values(&left);
    assert_eq!((found.len(), masked), (2, 1), "the budget is for one result: {found:?}");
    let noisy = found.iter().flatten().next().unwrap();
    assert!(*noisy != Value::F64(2.5), "{noisy:?}");
    assert_eq!(one.usage.len(), 2, "one budget, and the windows");
}

#[test]
fn what_cannot_have_its_group_grants_nothing() {
    let check = |table: &DescriptorTable, contracts: &[crate::Contract], expect| {
        let mut one = new(contracts, table);
        let of_groups = one.plan.warnings().iter().filter_map(|warning| match warning {
            PlanWarning::Group { why, .. } => Some(*why),
            _ => None,
        });
        let found: Vec<GroupFault> = of_groups.collect();
        assert_eq!(
            found,
            Option::into_iter(expect).collect::<Vec<_>>(),
            "{:?}",
            one.plan.warnings()
        );
        let batch = readings(table, &[(1, 0, 1.0), (2, 1, 4.0)]);
        let decision = one.with_means(|plan, means| plan.decide(&at(1), means, batch));
        assert!(decision.permitted.is_empty());
        assert_eq!(lines(&one.flush(999)).len(), usize::from(expect.is_none()));
    };
    let named = |name| fleet((name, "vessel-bus", Class::General));
    let plain = || means(|_| {});
    check(&usual(), &[plain()], None);
    check(&named("fleet"), &[plain()], Some(GroupFault::NoPoint));
    check(&fleet(("Fleet", "cargo", Class::General)), &[plain()], Some(GroupFault::NoPoint));
    // The permission is about the vehicles only; about both; about both, and they leave on other terms.
    let of = |constraint: Json| means(|object| object["permission"][0]["constraint"] = constraint);
    let field = |names: Json| json!({"leftOperand": "dataField", "operator": "isAnyOf", "rightOperand": names});
    check(&usual(), &[of(field(json!(["A.*"])))], Some(GroupFault::NotPermitted));
    check(&usual(), &[of(field(json!(["A.*", "Fleet"])))], None);
    let not = json!({"leftOperand": "link", "operator": "neq", "rightOperand": "metered"});
    let either = json!({"or": [field(json!(["A.*"])), not]});
    check(&usual(), &[of(either)], Some(GroupFault::NotPermitted));
    // Prohibitions about the point of the results bind them; those about all points are asked of all.
    let grade = json!({"leftOperand": "grade", "operator": "gteq", "rightOperand": "important"});
    let important = fleet(("Fleet", "vessel-bus", Class::Important));
    check(&important, &[plain()], None);
    check(&important, &[plain(), ceiling("Z", &grade)], Some(GroupFault::Prohibited));
    check(&usual(), &[plain(), ceiling("Z", &grade)], None);
    check(
        &usual(),
        &[plain(), ceiling("Z", &field(json!(["Fleet"])))],
        Some(GroupFault::Prohibited),
    );
    let hot = json!({"leftOperand": "value", "operator": "gt", "rightOperand": 50});
    check(&usual(), &[plain(), ceiling("Z", &hot)], None);
    check(
        &usual(),
        &[plain(), ceiling("Z", &json!({"and": [hot, field(json!(["Fleet"]))]}))],
        Some(GroupFault::Prohibited),
    );
}

/// Readings that are asked different things when they leave do not meet in a window.
#[test]
fn readings_on_other_terms_stand_behind_other_windows() {
    let field = json!({"leftOperand": "dataField", "operator": "eq", "rightOperand": "A.1"});
    let of_one = json!({"and": [field, {"leftOperand": "value", "operator": "gt", "rightOperand": 50}, link("metered")]});
    let mut one = new(&[means(|_| {}), ceiling("Z", &of_one)], &usual());
    one.take(5, &[(1, 0, 1.0), (1, 60, 99.0), (2, 0, 4.0), (2, 60, 4.0), (3, 60, 6.0)]);
    let left = one.flush(999);
    assert_eq!(lines(&left), [(FLEET, 0, 2.5), (FLEET, 60, 5.0)]);
    left.iter().for_each(|one| check_links(one, &["metered", "unmetered"]));
    // Of all of them: then it is asked of the result.
    let of_all = json!({"and": [{"leftOperand": "value", "operator": "gt", "rightOperand": 50}, link("metered")]});
    let mut one = new(&[means(|_| {}), ceiling("Z", &of_all)], &usual());
    one.take(5, &[(1, 0, 98.0), (2, 0, 99.0), (1, 1, 1.0), (2, 2, 3.0)]);
    let mut left = one.flush(999);
    left.sort_by(|a, b| {
        lines(std::slice::from_ref(a))[0].2.total_cmp(&lines(std::slice::from_ref(b))[0].2)
    });
    assert_eq!(lines(&left), [(FLEET, 0, 2.0), (FLEET, 0, 98.5)]);
    check_links(&left[0], &["metered", "unmetered"]);
    check_links(&left[1], &["unmetered"]);
}

/// What leaves of a window of two when the plan changes, and how many readings are dropped.
#[test]
fn groups_end_on_their_own_terms_when_the_plan_changes() {
    let check = |after: &[crate::Contract], may_leave: bool, expect: (usize, u64, usize)| {
        let mut one = new(&[means(|_| {})], &usual());
        // Of the second minute too few are there whatever comes.
        one.take(65, &[(1, 0, 1.0), (1, 61, 1.0), (2, 2, 6.0)]);
        one.restart();
        let next = Plan::compile(after, &usual());
        let Ended { permitted, dropped } = one.with_means(|plan: &Plan, means: &mut Means<'_>| {
            plan.hand_over(&next, |_| may_leave, &at(66), means, |_| header())
        });
        assert!(dropped.keys().all(|point| *point == FLEET));
        one.plan = next;
        one.restart();
        let found =
            (lines(&permitted).len(), dropped.values().sum::<u64>(), lines(&one.flush(999)).len());
        assert_eq!(found, expect, "{after:?}");
    };
    let version = |change: fn(&mut Json)| {
        means(|object| {
            object["version"] = json!(2);
            change(object);
        })
    };
    check(&[means(|_| {})], true, (0, 0, 1));
    check(&[version(|_| {})], true, (1, 1, 0));
    check(&[version(|_| {})], false, (0, 3, 0));
    check(&[], true, (1, 1, 0));
    check(&[], false, (0, 3, 0));
    // A prohibition that came since, about one of the points, or about the one of the results.
    let forbid =
        |name: &str| json!({"leftOperand": "dataField", "operator": "eq", "rightOperand": name});
    check(&[means(|_| {}), ceiling("Z", &forbid("A.3"))], true, (0, 3, 0));
    check(&[means(|_| {}), ceiling("Z", &forbid("Fleet"))], true, (0, 3, 0));
    check(&[version(|_| {}), ceiling("Z", &forbid("B"))], true, (1, 1, 0));
}

/// A cell of another kind under the name of a window, as only a damaged record has it, stops nothing.
#[test]
fn cells_of_another_kind_are_begun_anew() {
    use crate::duty::{Aggregate, Statistic};
    use crate::usage::{GroupWindows, Window};
    let aggregate = Aggregate {
        window: Duration::from_secs(60),
        statistic: Statistic::Mean,
        readings_min: 1,
        group: None,
    };
    for (contract, is_group) in [(means(|_| {}), true), (mean_of_version(1, |_| {}), false)] {
        let mut one = new(&[contract], &usual());
        one.take(1, &[(1, 0, 1.0)]);
        let [key] = &one.usage.windows()[..] else { panic!("one window was begun") };
        assert_eq!(one.usage.give_up_windows(key), 1);
        match is_group {
            true => {
                let start = WallTime::from_seconds(START_S);
                let other = Window::around(start, aggregate.window, Statistic::Mean, 1);
                one.usage.open_window(key, other).unwrap();
            }
            false => one.usage.open_group(key, GroupWindows::new(&aggregate, 2)).unwrap(),
        }
        one.restart();
        assert!(lines(&one.flush(999)).is_empty());
        let decision = one.take(2, &[(1, 2, 1.0), (2, 3, 4.0)]);
        assert_eq!(counts(&decision).1, [("absorbed", 2)]);
        assert!(!one.flush(999).is_empty());
    }
}
