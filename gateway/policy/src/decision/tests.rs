//! Decisions with memory: quotas, rates, samples, windows, noise, pseudonyms, and what is left for leaving.

use super::*;
use crate::contract::odrl::tests::{agreement, signed};
use crate::terms::Leave;
use crate::usage::CellKey;
use crate::windows::Ended;
use guan_model::descriptor::PointDescriptor;
use guan_model::{
    BootNumber, Class, ClockQuality, DatasetId, DescriptorTable, Now, PointName, Quality, Row,
    Severity, Unit, Value, WallTime,
};
use serde_json::{Value as Json, json};
use std::time::Duration;

mod groups;

const SPEED: PointId = PointId(1);
/// 2027-01-15T08:00:00Z.
const START_S: i64 = 1_800_000_000;

fn table() -> DescriptorTable {
    let point = PointDescriptor {
        id: SPEED,
        name: PointName::parse("Vessel.Speed").unwrap(),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        class: Class::General,
        tags: std::collections::BTreeSet::new(),
    };
    DescriptorTable::new(vec![point]).unwrap()
}

fn at(second: i64) -> Situation {
    let monotonic = Duration::from_secs(second.unsigned_abs());
    let wall = WallTime::from_seconds(START_S + second);
    Situation::at(Now { wall, monotonic, quality: ClockQuality::Ntp })
}

fn header() -> BatchHeader {
    BatchHeader {
        dataset: DatasetId::parse("vessel-bus").unwrap(),
        contract: None,
        descriptors: table().digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Ntp,
    }
}

/// Rows that were measured at some seconds and came in order of the list.
fn batch(rows: &[(i64, f64)]) -> Batch {
    let row = |(second, value): &(i64, f64)| Row {
        point: SPEED,
        source_time: Some(WallTime::from_seconds(START_S + second)),
        gateway_time: WallTime::from_seconds(START_S + second.max(&0)),
        quality: Quality::GOOD,
        value: Some(Value::F64(*value)),
    };
    Batch::from_rows(header(), rows.iter().map(row)).unwrap()
}

fn contract(id: &str, change: impl FnOnce(&mut Json)) -> crate::Contract {
    let mut object = agreement();
    object["@id"] = json!(format!("urn:contract:{id}"));
    object["permission"] = json!([{"uid": "p", "action": "deliver"}]);
    object.as_object_mut().unwrap().remove("prohibition");
    change(&mut object);
    signed(&object)
}

fn with_constraint(constraint: Json) -> crate::Contract {
    contract("C", |object| object["permission"][0]["constraint"] = json!([constraint]))
}

fn with_duties(duties: &[(&str, Json)]) -> crate::Contract {
    let duty = |(action, parameters): &(&str, Json)| {
        let refinement = parameters.as_object().unwrap().iter().map(
            |(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        );
        json!({"action": action, "refinement": refinement.collect::<Vec<_>>()})
    };
    let duties: Vec<Json> = duties
        .iter()
        .map(|one| match one.1.as_object().unwrap().is_empty() {
            true => json!({"action": one.0}),
            false => duty(one),
        })
        .collect();
    contract("C", |object| object["permission"][0]["duty"] = json!(duties))
}

/// A plan with its memory.
struct Box1 {
    plan: Plan,
    usage: Usage,
    dice: u64,
    key: Option<[u8; 32]>,
}

impl Box1 {
    fn new(contracts: &[crate::Contract]) -> Self {
        let plan = Plan::compile(contracts, &table());
        assert_eq!(plan.warnings(), []);
        Self { plan, usage: Usage::default(), dice: 1, key: Some([9; 32]) }
    }

    fn with_means<T>(&mut self, act: impl FnOnce(&Plan, &mut Means<'_>) -> T) -> T {
        let Self { plan, usage, dice, key } = self;
        let mut entropy = || {
            *dice = dice.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            *dice ^ (*dice >> 31)
        };
        let key = |_: &ContractId| *key;
        let boot = BootNumber(1);
        let mut means = Means { usage, entropy: &mut entropy, pseudonym_key: &key, boot };
        act(plan, &mut means)
    }

    fn decide(&mut self, second: i64, rows: &[(i64, f64)]) -> Decision {
        self.with_means(|plan, means| plan.decide(&at(second), means, batch(rows)))
    }

    fn flush(&mut self, second: i64) -> Vec<Permitted> {
        let ended = self.with_means(|plan, means| plan.flush(&at(second), means, |_| header()));
        assert!(ended.dropped.is_empty());
        ended.permitted
    }

    /// After kill -9: what was committed is there, what was not is not.
    fn restart(&mut self) {
        self.usage.handle_committed();
        let mut again = Usage::default();
        again.replay(&self.usage.snapshot()).unwrap();
        self.usage = again;
    }
}

/// Permitted rows, and refused rows by reason.
fn counts(decision: &Decision) -> (u64, Vec<(&'static str, u64)>) {
    let refused = decision.refused.iter().map(|one| (one.reason.name(), one.rows));
    (decision.permitted_rows(), refused.collect())
}

fn rows(count: i64) -> Vec<(i64, f64)> {
    (0..count).map(|second| (second, 1.5)).collect()
}

fn values(permitted: &[Permitted]) -> Vec<Option<Value>> {
    permitted.iter().flat_map(|one| one.batch.iter_rows().map(|row| row.value)).collect()
}

#[test]
fn quotas_count_what_is_permitted_and_no_more() {
    let quota =
        json!({"leftOperand": "count", "operator": "lteq", "rightOperand": 5, "unit": "1/d"});
    let mut one = Box1::new(&[with_constraint(quota)]);
    assert_eq!(counts(&one.decide(0, &rows(3))), (3, vec![]));
    one.restart();
    assert_eq!(counts(&one.decide(1, &rows(4))), (2, vec![("not-permitted", 2)]));
    assert_eq!(counts(&one.decide(2, &rows(1))), (0, vec![("not-permitted", 1)]));
    // The commit that used it up is undone: the room is there again.
    one.restart();
    assert_eq!(counts(&one.decide(86_400, &rows(5))), (5, vec![]));
    one.usage.rollback();
    assert_eq!(counts(&one.decide(86_401, &rows(6))), (5, vec![("not-permitted", 1)]));
    // Bytes: a decimal and its time are 16.
    let size = json!({"leftOperand": "dataSize", "operator": "lteq", "rightOperand": 40});
    let mut one = Box1::new(&[with_constraint(size)]);
    assert_eq!(counts(&one.decide(0, &rows(3))), (2, vec![("not-permitted", 1)]));
}

#[test]
fn a_period_is_unknown_without_a_clock() {
    let check = |unit: Json, expect: u64| {
        let quota =
            json!({"leftOperand": "count", "operator": "lteq", "rightOperand": 5, "unit": unit});
        let mut one = Box1::new(&[with_constraint(quota)]);
        let mut situation = at(0);
        situation.now.quality = ClockQuality::Unset;
        let decision =
            one.with_means(|plan, means| plan.decide(&situation, means, batch(&rows(2))));
        assert_eq!(decision.permitted_rows(), expect);
    };
    check(json!("1/d"), 0);
    check(json!("1"), 2);
}

#[test]
fn rates_let_through_what_they_say() {
    let rate =
        json!({"leftOperand": "rate", "operator": "lteq", "rightOperand": 2, "unit": "1/min"});
    let mut one = Box1::new(&[with_constraint(rate)]);
    let seconds: Vec<(i64, f64)> = (0..180).map(|second| (second, 1.0)).collect();
    // Two at once, and one each half minute.
    assert_eq!(counts(&one.decide(180, &seconds)), (7, vec![("not-permitted", 173)]));
}

/// A burst in a second and a limit for the day do not use up each other's room.
#[test]
fn each_rate_of_a_rule_has_room_of_its_own() {
    let rate = |readings: u64, unit: &str| json!({"leftOperand": "rate", "operator": "lteq", "rightOperand": readings, "unit": unit});
    let both = contract("C", |object| {
        object["permission"][0]["constraint"] =
            json!([rate(3, "1/s"), rate(5, "1/d"), rate(5, "1/d")]);
    });
    let mut one = Box1::new(&[both]);
    let kept = [0, 1, 2].map(|second| {
        let rows: Vec<(i64, f64)> = vec![(second, 1.0); 4];
        let kept = counts(&one.decide(second, &rows)).0;
        one.restart();
        kept
    });
    assert_eq!(kept, [3, 2, 0]);
}

#[test]
fn samples_go_on_over_batches() {
    let mut one = Box1::new(&[with_duties(&[("sample", json!({"oneOf": 4}))])]);
    let kept: Vec<u64> = [3, 3, 3, 3].iter().map(|n| counts(&one.decide(0, &rows(*n))).0).collect();
    assert_eq!(kept, [1, 1, 1, 0]);
    assert_eq!(counts(&one.decide(0, &rows(4))), (1, vec![("dropped", 3)]));
    // A counter at its end, as only a damaged record has it, stops nothing.
    let contract = ContractId::parse("C").unwrap();
    let key = CellKey::Sample { contract, rule: "p".into(), point: SPEED };
    one.usage.charge(&key, 0, u64::MAX).unwrap();
    one.decide(3, &rows(5));
}

fn mean_of_a_minute(contributors: u64) -> crate::Contract {
    let mean = json!({"window": "PT1M", "statistic": "mean", "contributors": contributors});
    with_duties(&[("aggregate", mean)])
}

#[test]
fn windows_leave_as_one_row_each() {
    let mut one = Box1::new(&[mean_of_a_minute(2)]);
    assert_eq!(counts(&one.decide(5, &[(0, 1.0), (5, 4.0)])), (0, vec![("absorbed", 2)]));
    one.restart();
    // 59 belongs to the first window, 60 ends it; -1 is late.
    let decision = one.decide(61, &[(59, 4.0), (60, 9.0), (-1, 7.0)]);
    assert_eq!(counts(&decision), (1, vec![("dropped", 1), ("absorbed", 2)]));
    let row = decision.permitted[0].batch.iter_rows().next().unwrap();
    assert_eq!(row.value, Some(Value::F64(3.0)));
    assert_eq!(row.source_time, Some(WallTime::from_seconds(START_S)), "the window's start");
    assert_eq!(row.quality.severity(), Severity::Uncertain);
    // One reading is not enough for the second window, so nothing of it leaves.
    assert_eq!(one.decide(130, &[(125, 2.0), (126, 3.0)]).permitted_rows(), 0);
    assert!(one.flush(239).is_empty());
    assert_eq!(values(&one.flush(240)), [Some(Value::F64(2.5))]);
    assert!(one.flush(999).is_empty());
    // What comes for a window that has left is late.
    assert_eq!(counts(&one.decide(300, &[(130, 9.0)])), (0, vec![("dropped", 1)]));
}

/// A contract of the consumer that only forbids.
fn ceiling(id: &str, constraint: &Json) -> crate::Contract {
    contract(id, |object| {
        object.as_object_mut().unwrap().remove("permission");
        object["prohibition"] =
            json!([{"uid": format!("f-{id}"), "action": "deliver", "constraint": constraint}]);
    })
}

fn link(class: &str) -> Json {
    json!({"leftOperand": "link", "operator": "eq", "rightOperand": class})
}

fn mean_of_version(version: u64, change: impl FnOnce(&mut Json)) -> crate::Contract {
    contract("C", |object| {
        let mean = [("window", json!("PT1M")), ("statistic", json!("mean"))];
        let refinement = mean.map(
            |(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        );
        object["version"] = json!(version);
        object["permission"][0]["duty"] =
            json!([{"action": "aggregate", "refinement": refinement}]);
        change(object);
    })
}

/// What of three readings leaves when the plan changes, the version that it leaves under, and how many
/// readings are dropped; then what leaves later.
#[test]
fn windows_end_on_their_own_terms_when_the_plan_changes() {
    let old = || mean_of_version(1, |_| {});
    let new = |change: fn(&mut Json)| mean_of_version(2, change);
    let hot = || json!({"leftOperand": "value", "operator": "gt", "rightOperand": 50});
    let check = |before: &[crate::Contract], after: &[crate::Contract], may_leave, expect| {
        let mut one = Box1::new(before);
        one.decide(5, &[(0, 1.0), (1, 2.0), (2, 6.0)]);
        one.restart();
        let next = Plan::compile(after, &table());
        let hand_over = |plan: &Plan, means: &mut Means<'_>| {
            plan.hand_over(&next, |_| may_leave, &at(6), means, |_| header())
        };
        let Ended { permitted, dropped } = one.with_means(hand_over);
        let digest = before[0].digest();
        assert!(permitted.iter().all(|one| one.contract_digest == digest));
        one.plan = next;
        one.restart();
        let found = (values(&permitted).len(), dropped.values().sum::<u64>(), one.flush(999).len());
        assert_eq!(found, expect);
        permitted
    };
    let same = |_: &mut Json| {};
    check(&[old()], &[old()], true, (0, 0, 1));
    let left = check(&[old()], &[new(same)], true, (1, 0, 0));
    assert_eq!(values(&left), [Some(Value::F64(3.0))]);
    check(
        &[old()],
        &[new(|object| object["permission"][0]["duty"] = json!([{"action": "log"}]))],
        true,
        (1, 0, 0),
    );
    check(&[old()], &[new(same)], false, (0, 3, 0));
    check(&[old()], &[], true, (1, 0, 0));
    check(&[old()], &[], false, (0, 3, 0));
    // Too few readings now, whatever would have come.
    let few = mean_of_version(1, |object| {
        let refinement = &mut object["permission"][0]["duty"][0]["refinement"];
        let minimum = json!({"leftOperand": "contributors", "operator": "eq", "rightOperand": 4});
        refinement.as_array_mut().unwrap().push(minimum);
    });
    check(&[few], &[new(same)], true, (0, 3, 0));

    // Prohibitions that came since, of the contract or of another one of its consumer.
    let forbidding = |constraint: Json| {
        mean_of_version(2, |object| {
            object["prohibition"] =
                json!([{"uid": "f", "action": "deliver", "constraint": constraint}]);
        })
    };
    check(&[old()], &[forbidding(hot())], true, (0, 3, 0));
    check(&[old()], &[old(), ceiling("Z", &hot())], true, (0, 3, 0));
    check(&[old()], &[ceiling("Z", &hot())], true, (0, 3, 0));
    check(&[old(), ceiling("Z", &hot())], &[ceiling("Z", &hot())], true, (1, 0, 0));
    check(&[old(), ceiling("Z", &hot())], &[old(), ceiling("Y", &hot())], true, (1, 0, 0));
    let bare = new(|object| {
        object["permission"][0]["constraint"] =
            json!({"leftOperand": "point", "operator": "eq", "rightOperand": "Other.Point"});
    });
    check(&[old()], &[bare], true, (1, 0, 0));
    let left = check(&[old()], &[forbidding(link("metered"))], true, (1, 0, 0));
    check_links(&left[0], &["unmetered"]);
    // A prohibition is itself, whatever place another one takes.
    let (z, a) = (ceiling("Z", &link("metered")), ceiling("A", &link("unmetered")));
    let left = check(&[old(), z.clone()], &[old(), a.clone(), z.clone()], true, (1, 0, 0));
    check_links(&left[0], &[]);
    let left = check(&[old(), a.clone(), z.clone()], &[old(), z], true, (1, 0, 0));
    check_links(&left[0], &[]);
    let mut one = Box1::new(&[old(), a]);
    one.decide(5, &[(0, 1.0)]);
    check_links(&one.flush(999)[0], &["metered"]);
}

fn check_links(permitted: &Permitted, expect: &[&str]) {
    use crate::situation::LinkClass;
    let leaves = |class: &LinkClass| {
        let mut situation = at(7);
        situation.link = Some(*class);
        permitted.terms.judge(&situation, BootNumber(1)) == Leave::Now
    };
    let words = LinkClass::WORDS.iter().filter(|(_, class)| leaves(class));
    assert_eq!(words.map(|(word, _)| *word).collect::<Vec<_>>(), expect);
}

/// A permission that lapsed lets no result go, and readings of a window that no plan knows are told.
#[test]
fn flushed_windows_of_lapsed_permissions_and_of_no_contract_are_counted() {
    let check = |plan: &Plan, lapsed: bool| {
        let mut one = Box1::new(&[mean_of_a_minute(1)]);
        one.decide(0, &rows(3));
        let mut later = at(999);
        if lapsed {
            later.violated.insert((ContractId::parse("C").unwrap(), "p".into()));
        }
        one.plan = plan.clone();
        let ended = one.with_means(|plan, means| plan.flush(&later, means, |_| header()));
        assert_eq!(ended.dropped, [(SPEED, 3)].into());
        assert!(ended.permitted.is_empty() && one.usage.is_empty());
    };
    check(&Plan::compile(&[], &table()), false);
    check(&Plan::compile(&[mean_of_a_minute(1)], &table()), true);
}

fn noise(budget: &str) -> Vec<(&'static str, Json)> {
    vec![
        ("noise", json!({"mechanism": "laplace", "epsilon": "0.5", "budget": budget})),
        ("clamp", json!({"low": 0, "high": 10})),
    ]
}

#[test]
fn noise_ends_with_its_budget() {
    let mut one = Box1::new(&[with_duties(&noise("2"))]);
    let left = |decision: Decision| {
        let values = values(&decision.permitted);
        let noisy = values.iter().flatten().count() as u64;
        assert_eq!(decision.masked_rows(), values.len() as u64 - noisy);
        assert!(values.iter().flatten().all(|value| *value != Value::F64(1.5)));
        noisy
    };
    assert_eq!(left(one.decide(0, &rows(3))), 3);
    one.restart();
    assert_eq!(left(one.decide(1, &rows(3))), 1);
    assert_eq!(left(one.decide(99_999_999, &rows(3))), 0, "a total budget never comes back");
}

#[test]
fn pseudonyms_are_equal_for_equal_values() {
    let mut one = Box1::new(&[with_duties(&[("pseudonymise", json!({}))])]);
    let names = values(&one.decide(0, &[(0, 1.5), (1, 2.5), (2, 1.5)]).permitted);
    assert!(matches!(&names[0], Some(Value::Text(name)) if name.len() == 32));
    assert!(names[0] == names[2] && names[0] != names[1]);
    one.key = Some([8; 32]);
    assert_ne!(values(&one.decide(0, &rows(1)).permitted)[0], names[0]);
    one.key = None;
    assert_eq!(values(&one.decide(0, &rows(1)).permitted), [None]);
}

/// Steps run in their order, whatever order the contract lists them in.
#[test]
fn the_order_of_duties_in_a_contract_changes_nothing() {
    let steps = [
        ("round", json!({"step": 1})),
        ("clamp", json!({"low": 0, "high": 5})),
        ("sample", json!({"oneOf": 2})),
        ("aggregate", json!({"window": "PT1M", "statistic": "max"})),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for turn in 0..steps.len() {
        for reversed in [false, true] {
            let mut order = steps.to_vec();
            order.rotate_left(turn);
            if reversed {
                order.reverse();
            }
            let mut one = Box1::new(&[with_duties(&order)]);
            let rows: Vec<(i64, f64)> = vec![(0, 1.4), (1, 99.0), (2, 3.3), (61, 0.0)];
            one.decide(61, &rows);
            one.decide(62, &[(62, 0.1)]);
            seen.insert(format!("{:?}", values(&one.flush(999))));
        }
    }
    // Of 1.4, 99, 3.3 every second is left out first, then the others are clamped: 3.3, rounded.
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn what_belongs_to_leaving_is_left_for_leaving() {
    let unmetered = json!({"leftOperand": "link", "operator": "eq", "rightOperand": "unmetered"});
    let both = contract("C", |object| {
        object["permission"] = json!([
            {"uid": "cheap", "action": "deliver", "constraint": [
                unmetered, {"leftOperand": "value", "operator": "gt", "rightOperand": 10}]},
            {"uid": "late", "action": "deliver", "duty": [{"action": "delay", "refinement": [
                {"leftOperand": "span", "operator": "eq", "rightOperand": "PT1H"}]}]},
        ]);
    });
    let mut one = Box1::new(&[both]);
    let decision = one.decide(0, &[(0, 99.0), (1, 1.0)]);
    let terms: Vec<(&str, u64)> = decision
        .permitted
        .iter()
        .map(|one| (&**one.terms.permission(), one.batch.rows() as u64))
        .collect();
    assert_eq!(terms, [("cheap", 1), ("late", 1)]);
    let leaves = |place: usize, situation: &Situation| {
        decision.permitted[place].terms.judge(situation, BootNumber(1)) == Leave::Now
    };
    let mut cheap = at(0);
    assert!(!leaves(0, &cheap));
    cheap.link = Some(crate::situation::LinkClass::Unmetered);
    assert!(leaves(0, &cheap));
    assert!(!leaves(1, &at(3599)) && leaves(1, &at(3600)));
}

#[test]
fn prohibitions_bind_across_the_contracts_of_a_consumer() {
    let ceiling = |consumer: &str| {
        contract("Z", |object| {
            object["assignee"] = json!(consumer);
            object.as_object_mut().unwrap().remove("permission");
            object["prohibition"] = json!([{"uid": "hot", "action": "deliver", "constraint":
                {"leftOperand": "value", "operator": "gt", "rightOperand": 50}}]);
        })
    };
    let check = |consumer: &str, expect: (u64, Vec<(&'static str, u64)>)| {
        let mut one = Box1::new(&[contract("C", |_| {}), ceiling(consumer)]);
        let decision = one.decide(0, &[(0, 1.0), (1, 99.0)]);
        assert_eq!(counts(&decision), expect, "{consumer}");
        for refusal in decision.refused {
            assert_eq!(refusal.reason.contract().unwrap().as_str(), "Z");
        }
    };
    check("insurer-1", (1, vec![("prohibited", 1)]));
    check("insurer-2", (2, vec![]));
}
