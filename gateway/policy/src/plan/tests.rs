use super::*;
use crate::Situation;
use crate::contract::tests::{contract, object, with};
use crate::decision::{Decision, DenyReason, Permitted, Refusal};
use crate::duty::Transform;
use guan_model::descriptor::PointDescriptor;
use guan_model::{
    Batch, BatchHeader, BootNumber, Class, ClockQuality, Now, PointName, Quality, Reason, Row,
    Severity, Unit, Value, ValueType, WallTime,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::time::Duration;

const SPEED: PointId = PointId(1);
const POSITION: PointId = PointId(2);
const DEPTH: PointId = PointId(70);
const CARGO: PointId = PointId(3);

fn point(id: PointId, name: &str, dataset: &str) -> PointDescriptor {
    PointDescriptor {
        id,
        name: PointName::parse(name).unwrap(),
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse(dataset).unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    }
}

/// Three points of `vessel-bus`, one of `cargo`.
fn descriptors() -> DescriptorTable {
    DescriptorTable::new(vec![
        point(SPEED, "Vessel.Speed", "vessel-bus"),
        point(POSITION, "Vessel.Position", "vessel-bus"),
        point(DEPTH, "Vessel.Depth", "vessel-bus"),
        point(CARGO, "Cargo.Weight", "cargo"),
    ])
    .unwrap()
}

fn now(text: &str) -> Now {
    let wall = match text {
        "2025" => WallTime::from_seconds(1_735_689_600),
        "2027" => WallTime::from_seconds(1_798_761_600),
        "2031" => WallTime::from_seconds(1_924_992_000),
        other => panic!("{other} is not in the table"),
    };
    Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Rtc }
}

fn header(dataset: &str) -> BatchHeader {
    BatchHeader {
        dataset: DatasetId::parse(dataset).unwrap(),
        contract: None,
        descriptors: descriptors().digest(),
        boot: BootNumber(1),
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    }
}

fn row(point: PointId, value: Option<Value>) -> Row {
    let quality = Quality::new(Severity::Bad, Reason::OutOfRange).with_flags(Quality::MANUAL);
    Row { point, source_time: None, gateway_time: WallTime(i64::from(point.0)), quality, value }
}

/// Two rows of each point of the vessel.
fn batch() -> Batch {
    let points = [SPEED, POSITION, DEPTH];
    let rows = points
        .iter()
        .flat_map(|point| [row(*point, Some(Value::F64(1.5))), row(*point, Some(Value::I64(7)))]);
    Batch::from_rows(header("vessel-bus"), rows).unwrap()
}

/// The contract under another id, with members changed.
fn named(id: &str, changes: &[(&str, Json)]) -> Json {
    let base = with(object(), "id", json!(id));
    changes.iter().fold(base, |object, (key, value)| with(object, key, value.clone()))
}

fn everything(id: &str) -> Json {
    named(id, &[("points", json!("all")), ("mask", json!([]))])
}

fn compile(objects: &[Json]) -> Plan {
    let contracts: Vec<Contract> = objects.iter().map(contract).collect();
    Plan::compile(&contracts, &descriptors())
}

/// One line for each permitted batch and each refusal.
fn lines(decision: &Decision) -> Vec<String> {
    let permitted = decision.permitted.iter().map(|one| {
        let points: BTreeSet<u32> = one.batch.series.iter().map(|s| s.point.0).collect();
        format!("{} {points:?} {} rows, {} masked", one.contract, one.batch.rows(), one.masked_rows)
    });
    let refused = decision.refused.iter().map(|one| {
        let contract = one.reason.contract().map_or("-", |id| id.as_str());
        format!("{} {} {contract}", one.rows, one.reason.name())
    });
    permitted.chain(refused).collect()
}

fn check(contracts: &[Json], at: &str, expect: &[&str]) {
    let decision = compile(contracts).decide_afresh(&Situation::at(now(at)), batch());
    assert_eq!(lines(&decision), expect, "for {contracts:?} in {at}");
}

#[test]
fn decisions() {
    let some = || named("A", &[]);
    let other = || {
        named("B", &[("datasets", json!(["cargo"])), ("points", json!("all")), ("mask", json!([]))])
    };
    check(&[], "2027", &["6 no-contract -"]);
    check(&[other()], "2027", &["6 no-contract -"]);
    check(&[everything("A")], "2027", &["A {1, 2, 70} 6 rows, 0 masked"]);
    check(&[everything("A")], "2025", &["6 not-yet-valid A"]);
    check(&[everything("A")], "2031", &["6 expired A"]);
    check(&[some()], "2027", &["A {1, 2} 4 rows, 2 masked", "2 point-not-covered A"]);
    check(&[some()], "2031", &["4 expired A", "2 point-not-covered A"]);
    // One contract's mask takes nothing from another contract.
    let expect = ["A {1, 2} 4 rows, 2 masked", "B {1, 2, 70} 6 rows, 0 masked"];
    check(&[everything("B"), some()], "2027", &expect);
    // A valid contract for some points, an old one for all.
    let old = named(
        "B",
        &[
            ("points", json!("all")),
            ("mask", json!([])),
            ("not_after", json!("2026-06-01T00:00:00Z")),
        ],
    );
    check(&[some(), old], "2027", &["A {1, 2} 4 rows, 2 masked", "2 expired B"]);
}

#[test]
fn versions() {
    let v1 = || everything("A");
    let v2 = || with(named("A", &[]), "version", json!(2));
    let twin = || with(with(everything("A"), "version", json!(2)), "purpose", json!("other"));
    let newest = ["A {1, 2} 4 rows, 2 masked", "2 point-not-covered A"];
    check(&[v1(), v2()], "2027", &newest);
    check(&[v2(), v1(), v2()], "2027", &newest);
    // Neither form of version 2 counts, and version 1 does not come back to life.
    check(&[v1(), v2(), twin()], "2027", &["6 no-contract -"]);
    let warning = PlanWarning::Conflict { contract: ContractId::parse("A").unwrap(), version: 2 };
    assert_eq!(compile(&[v1(), v2(), twin()]).warnings(), [warning]);
}

#[test]
fn masked_rows_keep_times_and_flags_only() {
    let plan = compile(&[named("A", &[])]);
    let rows = [
        row(POSITION, Some(Value::Text("N54".to_owned()))),
        row(POSITION, None),
        row(POSITION, Some(Value::I64(9))),
    ];
    let decision = plan.decide_afresh(
        &Situation::at(now("2027")),
        Batch::from_rows(header("vessel-bus"), rows).unwrap(),
    );
    let [permitted] = &decision.permitted[..] else { panic!("{decision:?}") };
    let quality =
        Quality::new(Severity::Uncertain, Reason::PolicyReduced).with_flags(Quality::MANUAL);
    let expect = Row { quality, ..row(POSITION, None) };
    assert_eq!(permitted.batch.series.len(), 1);
    assert_eq!(permitted.batch.iter_rows().collect::<Vec<_>>(), vec![expect; 3]);
    assert_eq!(permitted.masked_rows, 3);
    assert_eq!(permitted.batch.header.contract.as_ref(), Some(&permitted.contract));
    let shown = format!("{decision:?}");
    assert!(!shown.contains("N54") && !shown.contains("I64"), "{shown}");
}

#[test]
fn unknown_points_and_foreign_tables_are_refused() {
    let plan = compile(&[everything("A")]);
    let foreign = [row(PointId(5), None), row(CARGO, None)];
    let decision = plan.decide_afresh(
        &Situation::at(now("2027")),
        Batch::from_rows(header("vessel-bus"), foreign).unwrap(),
    );
    assert_eq!(lines(&decision), ["2 point-not-covered A"]);
    let mut other = batch();
    other.header.descriptors = Digest([0; 32]);
    assert_eq!(
        lines(&plan.decide_afresh(&Situation::at(now("2027")), other)),
        ["6 other-descriptors -"]
    );
}

#[test]
fn what_the_box_does_not_have_is_a_warning() {
    let plan = compile(&[named(
        "A",
        &[
            ("datasets", json!(["vessel-bus", "nowhere"])),
            ("points", json!(["Vessel.Speed", "Cargo.Weight", "Typo"])),
            ("mask", json!(["Typo"])),
        ],
    )]);
    let texts: Vec<String> = plan.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "contract A names dataset nowhere, which has no points on this box",
            "contract A names point Cargo.Weight, which its datasets do not have on this box",
            "contract A names point Typo, which its datasets do not have on this box",
            "contract A has a mask for point Typo, which its datasets do not have on this box; if the \
             name is wrong, nothing is done to the value",
        ]
    );
    let expect = ["A {1} 2 rows, 0 masked", "4 point-not-covered A"];
    assert_eq!(lines(&plan.decide_afresh(&Situation::at(now("2027")), batch())), expect);
}

#[test]
fn the_digest_names_contracts_and_descriptors() {
    let (a, b) = (everything("A"), everything("B"));
    let digest = |objects: &[Json]| compile(objects).digest();
    assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), a.clone(), a.clone()]));
    assert_ne!(digest(std::slice::from_ref(&a)), digest(&[a.clone(), b]));
    let fewer = DescriptorTable::new(vec![point(SPEED, "Vessel.Speed", "vessel-bus")]).unwrap();
    let contracts = [contract(&a)];
    assert_ne!(Plan::compile(&contracts, &fewer).digest(), digest(&[a]));
}

/// Places beyond one word of a bitmap must not alias with those in it.
#[test]
fn many_points() {
    let name = |id: u32| format!("P{id}");
    let points = (0..200).map(|id| point(PointId(id), &name(id), "vessel-bus")).collect();
    let table = DescriptorTable::new(points).unwrap();
    let is_covered = |id: &u32| id.is_multiple_of(3) || *id == 64;
    let is_masked = |id: &u32| id.is_multiple_of(9);
    let ids = |keep: &dyn Fn(&u32) -> bool| (0..200).filter(keep).collect::<Vec<u32>>();
    let names = |ids: &[u32]| json!(ids.iter().map(|id| name(*id)).collect::<Vec<_>>());
    let (covered, masked) = (ids(&is_covered), ids(&|id| is_masked(id)));
    let terms = named("A", &[("points", names(&covered)), ("mask", names(&masked))]);
    let plan = Plan::compile(&[contract(&terms)], &table);
    let header = BatchHeader { descriptors: table.digest(), ..header("vessel-bus") };
    let rows = (0..200).map(|id| row(PointId(id), Some(Value::I64(1))));
    let decision =
        plan.decide_afresh(&Situation::at(now("2027")), Batch::from_rows(header, rows).unwrap());
    let left = decision.permitted[0].batch.iter_rows();
    let (absent, whole): (Vec<Row>, Vec<Row>) = left.partition(|row| row.value.is_none());
    assert_eq!(absent.iter().map(|row| row.point.0).collect::<Vec<_>>(), masked);
    let passed = ids(&|id| is_covered(id) && !is_masked(id));
    assert_eq!(whole.iter().map(|row| row.point.0).collect::<Vec<_>>(), passed);
    assert_eq!(decision.refused_rows(), 200 - covered.len() as u64);
}

#[test]
fn contracts_in_force_are_listed() {
    let objects = [everything("B"), everything("A"), with(everything("A"), "version", json!(3))];
    let plan = compile(&objects);
    let shown = plan.contracts().iter().map(|one| format!("{} {}", one.contract, one.version));
    assert_eq!(shown.collect::<Vec<_>>(), ["A 3", "B 1"]);
    assert_eq!(plan.contracts()[0].digest, contract(&objects[2]).digest());
}

/// The engine writes the code of a reason into a leaf; the log must name the same reason.
#[test]
fn reasons_have_the_numbers_of_the_log() {
    let contract = ContractId::parse("A").unwrap();
    let reasons = [
        DenyReason::NoContract,
        DenyReason::NotYetValid { contract: contract.clone() },
        DenyReason::Expired { contract: contract.clone() },
        DenyReason::PointNotCovered { contract: contract.clone() },
        DenyReason::OtherDescriptors,
        DenyReason::Prohibited { contract: contract.clone(), rule: "r".into() },
        DenyReason::NotPermitted { contract: contract.clone(), rule: "r".into() },
        DenyReason::Dropped { contract: contract.clone() },
        DenyReason::Absorbed { contract },
    ];
    assert_eq!(reasons.len(), guan_evidence::Denial::ALL.len());
    for reason in reasons {
        let denial = guan_evidence::Denial::from_code(reason.code()).unwrap();
        assert_eq!(denial.name(), reason.name());
    }
}

#[test]
fn limit_is_exact() {
    let many = |count: usize| {
        let objects: Vec<Json> = (0..count).map(|n| everything(&format!("C{n:05}"))).collect();
        compile(&objects)
    };
    let plan = many(CONTRACTS_MAX);
    assert_eq!((plan.contracts().len(), plan.warnings()), (CONTRACTS_MAX, &[][..]));
    let plan = many(CONTRACTS_MAX + 1);
    let ignored = ContractId::parse(&format!("C{CONTRACTS_MAX:05}")).unwrap();
    let warning = PlanWarning::TooMany { count: CONTRACTS_MAX + 1, ignored };
    assert_eq!((plan.contracts().len(), plan.warnings()), (CONTRACTS_MAX, &[warning][..]));
    assert_eq!(
        plan.decide_afresh(&Situation::at(now("2027")), batch()).permitted.len(),
        CONTRACTS_MAX
    );
}

/// A fixed set of contracts from which the property test takes a part.
fn pool() -> Vec<Json> {
    let long_ago = json!("2026-06-01T00:00:00Z");
    let soon = json!("2028-01-01T00:00:00Z");
    vec![
        named("A", &[]),
        everything("B"),
        named("C", &[("points", json!(["Vessel.Depth"])), ("mask", json!([]))]),
        named("D", &[("points", json!("all")), ("not_after", long_ago)]),
        named("E", &[("points", json!("all")), ("not_before", soon)]),
        named("F", &[("datasets", json!(["cargo", "vessel-bus"])), ("points", json!("all"))]),
    ]
}

/// What one contract makes of one row, straight from the contract's text.
fn reference(contract: &Contract, now: &Now, dataset: &DatasetId, row: &Row) -> Option<Row> {
    let table = descriptors();
    let point = table.point(row.point)?;
    let granted = contract.valid_at(now)
        && contract.datasets().contains(dataset)
        && point.dataset == *dataset
        && names_point(contract, point.name.as_str());
    if !granted {
        return None;
    }
    let masked = Row {
        value: None,
        quality: Quality::new(Severity::Uncertain, Reason::PolicyReduced)
            .with_flags(row.quality.flags()),
        ..row.clone()
    };
    let masks = contract.rules()[0]
        .treatments
        .iter()
        .any(|one| one.transform == Transform::Mask && one.points.covers(point.name.as_str()));
    Some(if masks { masked } else { row.clone() })
}

/// Schema 1 names its points in one test, or means all of them.
fn names_point(contract: &Contract, name: &str) -> bool {
    let leaves = contract.rules()[0].constraint.leaves();
    leaves.iter().all(|leaf| match &leaf.test {
        crate::constraint::Test::Point(test) => test.names.contains(name),
        other => panic!("schema 1 asks for points only, not {other:?}"),
    })
}

fn any_row() -> impl Strategy<Value = Row> {
    let value = prop_oneof![
        Just(None),
        any::<bool>().prop_map(|value| Some(Value::Bool(value))),
        any::<f64>().prop_map(|value| Some(Value::F64(value))),
        "[a-z]{0,8}".prop_map(|value| Some(Value::Text(value))),
    ];
    let point = prop::sample::select(vec![SPEED, POSITION, DEPTH, CARGO, PointId(9)]);
    (point, value, any::<i64>(), any::<Option<i64>>(), 0_u16..0xC000).prop_map(
        |(point, value, gateway, source, bits)| Row {
            point,
            source_time: source.map(WallTime),
            gateway_time: WallTime(gateway),
            quality: Quality::from_bits(bits).unwrap(),
            value,
        },
    )
}

proptest! {
    #[test]
    fn a_batch_is_decided_as_its_rows_are(
        rows in prop::collection::vec(any_row(), 0..40),
        chosen in prop::sample::subsequence(pool(), 0..=6),
        at in prop::sample::select(vec!["2025", "2027", "2031"]),
        dataset in prop::sample::select(vec!["vessel-bus", "cargo", "nowhere"]),
    ) {
        let contracts: Vec<Contract> = chosen.iter().map(contract).collect();
        let plan = Plan::compile(&contracts, &descriptors());
        let whole = Batch::from_rows(header(dataset), rows).unwrap();
        let now = now(at);
        let decision = plan.decide_afresh(&Situation::at(now), whole.clone());
        let id = DatasetId::parse(dataset).unwrap();

        let mut permitted: Vec<&Permitted> = decision.permitted.iter().collect();
        for contract in &contracts {
            let expect: Vec<Row> =
                whole.iter_rows().filter_map(|row| reference(contract, &now, &id, &row)).collect();
            let found = permitted.iter().position(|one| one.contract == *contract.id());
            let found = found.map(|at| permitted.remove(at));
            let rows: Vec<Row> = found.map_or_else(Vec::new, |one| one.batch.iter_rows().collect());
            prop_assert_eq!(rows, expect);
            prop_assert!(found.is_none_or(|one| one.contract_digest == contract.digest()));
        }
        prop_assert!(permitted.is_empty());
        let denied = whole.iter_rows().filter(|row| {
            contracts.iter().all(|contract| reference(contract, &now, &id, row).is_none())
        });
        prop_assert_eq!(decision.refused_rows(), denied.count() as u64);
        let mut reasons: Vec<&Refusal> = decision.refused.iter().collect();
        reasons.dedup_by_key(|one| &one.reason);
        prop_assert_eq!(reasons.len(), decision.refused.len());
    }
}

/// What a contract in our profile of ODRL makes of two rows of each point.
fn check_odrl(change: impl FnOnce(&mut Json), expect: &[&str]) {
    let mut object = crate::contract::odrl::tests::agreement();
    change(&mut object);
    let contracts = [crate::contract::odrl::tests::signed(&object)];
    let plan = Plan::compile(&contracts, &descriptors());
    let decision = plan.decide_afresh(&Situation::at(now("2027")), batch());
    assert_eq!(lines(&decision), expect, "for {object}");
}

#[test]
fn rules_decide_by_point_and_by_reading() {
    let rule = |object: &mut Json, text: &str| {
        object["permission"][0]["constraint"] = serde_json::from_str(text).unwrap();
    };
    // Depth is forbidden; of the others, each row has a value below 40.5.
    check_odrl(|_| {}, &["C-2026-002 {1, 2} 4 rows, 0 masked", "2 prohibited C-2026-002"]);
    check_odrl(
        |o| rule(o, r#"[{"leftOperand":"value","operator":"gt","rightOperand":5}]"#),
        &[
            "C-2026-002 {1, 2} 2 rows, 0 masked",
            "2 prohibited C-2026-002",
            "2 not-permitted C-2026-002",
        ],
    );
    check_odrl(
        |o| rule(o, r#"[{"leftOperand":"dataField","operator":"eq","rightOperand":"Other"}]"#),
        &["6 point-not-covered C-2026-002"],
    );
    // No fix: a permission is not given, a prohibition fires.
    let place = r#"[{"leftOperand":"spatial","operator":"isPartOf","rightOperand":
        {"type":"circle","latitude":"31.2","longitude":"121.4","radius_m":500}}]"#;
    let expect = ["2 prohibited C-2026-002", "4 not-permitted C-2026-002"];
    check_odrl(|o| rule(o, place), &expect);
    let forbid = |o: &mut Json| {
        o["prohibition"][0]["constraint"] = serde_json::from_str(place).unwrap();
    };
    check_odrl(forbid, &["6 prohibited C-2026-002"]);
    let drop = |o: &mut Json| o["permission"][0]["duty"] = json!([{"action": "drop"}]);
    check_odrl(drop, &["2 prohibited C-2026-002", "4 dropped C-2026-002"]);
}

/// Rows of one point after a transformation.
fn check_form(duty: Json, values: &[Value], expect: &[Option<Value>]) {
    let mut object = crate::contract::odrl::tests::agreement();
    object["permission"][0] = json!({"action": "deliver", "duty": [duty]});
    object.as_object_mut().unwrap().remove("prohibition");
    let plan = Plan::compile(&[crate::contract::odrl::tests::signed(&object)], &descriptors());
    let rows = values.iter().map(|value| row(SPEED, Some(value.clone())));
    let batch = Batch::from_rows(header("vessel-bus"), rows).unwrap();
    let decision = plan.decide_afresh(&Situation::at(now("2027")), batch);
    let left: Vec<Row> = decision.permitted[0].batch.iter_rows().collect();
    let found: Vec<Option<Value>> = left.iter().map(|row| row.value.clone()).collect();
    assert_eq!(found, expect, "for {object}");
    for row in left {
        assert_eq!(row.quality.reason(), Some(Reason::PolicyReduced));
        assert_eq!(row.quality.flags(), Quality::MANUAL);
    }
}

#[test]
fn forms_change_values() {
    let duty = |action: &str, parameters: &[(&str, Json)]| {
        let refinement = parameters.iter().map(
            |(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        );
        json!({"action": action, "refinement": refinement.collect::<Vec<_>>()})
    };
    let bare = json!({"action": "mask"});
    let some = |values: &[f64]| values.iter().map(|v| Some(Value::F64(*v))).collect::<Vec<_>>();
    let floats = |values: &[f64]| values.iter().map(|v| Value::F64(*v)).collect::<Vec<_>>();
    let input = floats(&[1.26, -3.0, 99.0]);
    let step = [("step", json!("0.5"))];
    check_form(duty("round", &step), &input, &some(&[1.5, -3.0, 99.0]));
    let range = [("low", json!(0)), ("high", json!("10.5"))];
    check_form(duty("clamp", &range), &input, &some(&[1.26, 0.0, 10.5]));
    let edges = [("edges", json!([0, 10, 20]))];
    check_form(duty("bucket", &edges), &input, &some(&[0.0, f64::NEG_INFINITY, 20.0]));
    let grid = [("axis", json!("latitude")), ("step_m", json!(111_195))];
    let half = 0.5 * 111_195.0 / 111_195.08;
    check_form(duty("coarsenPosition", &grid), &floats(&[0.2]), &some(&[half]));
    check_form(bare, &input, &[None, None, None]);
    // A text among numbers cannot be rounded, so it does not leave; integers become decimals.
    let mixed = [Value::I64(7), Value::Text("7.26".to_owned())];
    check_form(duty("round", &step), &mixed, &[None, Some(Value::F64(7.0))]);
}

/// Six rows, a counter for three of them: in the order of the batch, and none when they come again.
#[test]
fn what_one_row_uses_up_is_gone_for_the_next() {
    let mut object = crate::contract::odrl::tests::agreement();
    let counted = json!([{"leftOperand": "count", "operator": "lteq", "rightOperand": 3}]);
    object["permission"][0] =
        json!({"action": "deliver", "constraint": counted, "duty": [{"action": "log"}]});
    object.as_object_mut().unwrap().remove("prohibition");
    let plan = Plan::compile(&[crate::contract::odrl::tests::signed(&object)], &descriptors());
    let (mut usage, mut verdicts) = (crate::Usage::default(), Verdicts::default());
    for expect in [vec![0, 1, 2], vec![]] {
        plan.judge(&Situation::at(now("2027")), &mut usage, &batch(), &mut verdicts);
        let permitted = verdicts.iter().filter(Judged::is_permitted).map(|one| one.series);
        assert_eq!(permitted.collect::<Vec<_>>(), expect);
        assert_eq!(verdicts.iter().map(|one| one.len()).sum::<usize>(), 6);
    }
    let decision = plan.decide_afresh(&Situation::at(now("2027")), batch());
    let expect = ["C-2026-002 {1, 2} 3 rows, 0 masked", "3 not-permitted C-2026-002"];
    assert_eq!(lines(&decision), expect);
}

/// A group has a bit for each row; blocks end at 64 and at the end of the series.
#[test]
fn rows_beyond_a_block_are_judged() {
    let rule = r#"[{"leftOperand":"value","operator":"gteq","rightOperand":60}]"#;
    let mut object = crate::contract::odrl::tests::agreement();
    object["permission"][0]["constraint"] = serde_json::from_str(rule).unwrap();
    object.as_object_mut().unwrap().remove("prohibition");
    let plan = Plan::compile(&[crate::contract::odrl::tests::signed(&object)], &descriptors());
    let mut verdicts = Verdicts::default();
    for count in [1, 63, 64, 65, 128, 130] {
        let rows = (0..count).map(|value| row(SPEED, Some(Value::U64(value))));
        let batch = Batch::from_rows(header("vessel-bus"), rows).unwrap();
        let mut usage = crate::Usage::default();
        plan.judge(&Situation::at(now("2027")), &mut usage, &batch, &mut verdicts);
        let permitted = verdicts.iter().filter(Judged::is_permitted);
        let rows: Vec<usize> = permitted.flat_map(|one| one.rows().collect::<Vec<_>>()).collect();
        assert_eq!(rows, (60..usize::try_from(count).unwrap()).collect::<Vec<_>>(), "of {count}");
    }
}

/// A bucket that is not charged would let more through where contract and descriptor answered the rule.
#[test]
fn rates_are_used_up_where_they_are_not_asked() {
    let rate = json!({"leftOperand": "rate", "operator": "lteq", "rightOperand": 1, "unit": "1/s"});
    let speed =
        json!({"leftOperand": "dataField", "operator": "eq", "rightOperand": "Vessel.Speed"});
    let mut object = crate::contract::odrl::tests::agreement();
    object["permission"][0] = json!({"action": "deliver", "constraint": [{"or": [speed, rate]}]});
    object.as_object_mut().unwrap().remove("prohibition");
    let plan = Plan::compile(&[crate::contract::odrl::tests::signed(&object)], &descriptors());
    let mut usage = crate::Usage::default();
    for (point, expect) in [(SPEED, 1), (POSITION, 0)] {
        let mut verdicts = Verdicts::default();
        let rows = [row(point, Some(Value::U64(1)))];
        let batch = Batch::from_rows(header("vessel-bus"), rows).unwrap();
        plan.judge(&Situation::at(now("2027")), &mut usage, &batch, &mut verdicts);
        let permitted = verdicts.iter().filter(Judged::is_permitted).count();
        assert_eq!((permitted, usage.len()), (expect, 1), "for {point:?}");
    }
}

/// A wrong name in what protects must not let values go as they are.
#[test]
fn a_protection_of_nothing_grants_nothing() {
    let check = |action: &str, names: Json, target: Json, expect: u64| {
        let mut object = crate::contract::odrl::tests::agreement();
        let field =
            json!([{"leftOperand": "dataField", "operator": "isAnyOf", "rightOperand": names}]);
        object["permission"][0] =
            json!({"action": "deliver", "duty": [{"action": action, "refinement": field}]});
        object["target"] = target;
        object.as_object_mut().unwrap().remove("prohibition");
        let plan = Plan::compile(&[crate::contract::odrl::tests::signed(&object)], &descriptors());
        let decision = plan.decide_afresh(&Situation::at(now("2027")), batch());
        assert_eq!(decision.permitted_rows(), expect, "{object} {:?}", plan.warnings());
        let is_said = |warning: &PlanWarning| matches!(warning, PlanWarning::Unprotected { .. });
        assert_eq!(plan.warnings().iter().any(is_said), expect == 0, "{:?}", plan.warnings());
    };
    let bus = || json!(["vessel-bus"]);
    check("mask", json!(["Vessel.Position"]), bus(), 6);
    check("mask", json!(["vessel.position"]), bus(), 0);
    check("pseudonymise", json!(["Vessels.*"]), bus(), 0);
    // One right name shows that it is about this box, and cargo is in another dataset.
    check("mask", json!(["Vessel.Position", "Vessel.Crew"]), bus(), 6);
    check("mask", json!(["Cargo.Weight"]), bus(), 0);
    check("mask", json!(["Cargo.Weight"]), json!(["vessel-bus", "cargo"]), 6);
    // The names of a dataset that is not here are not known.
    check("mask", json!(["Crane.Driver"]), json!(["vessel-bus", "crane"]), 6);
}
