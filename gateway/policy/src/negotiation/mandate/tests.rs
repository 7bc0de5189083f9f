use super::*;
use crate::constraint::Period;
use crate::duty::{Aggregate, Axis, Grid, Mechanism, Noise, Statistic};
use serde_json::json;

fn mandate_value() -> Value {
    json!({
        "schema": 1, "consumers": ["insurer-1", "space-1"], "datasets": ["vessel-bus", "gnss"],
        "actions": ["deliver", "store"], "highestClass": "general",
        "requiredTransforms": [{"tag": "precise-location", "transforms": ["drop", "coarsenPosition"]}],
        "longestTerm": "P365D", "needsOperator": false,
    })
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

fn read(value: &Value) -> Result<Mandate, MessageError> {
    Mandate::read(value.to_string().as_bytes())
}

fn test(left: &str, operator: &str, right: Value) -> Value {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}

fn refined(action: &str, parameters: &[(&str, &str)]) -> Value {
    let parts: Vec<Value> =
        parameters.iter().map(|(name, value)| test(name, "eq", json!(value))).collect();
    json!({"action": action, "refinement": parts})
}

fn drop_of(point: &str) -> Value {
    refined("drop", &[("dataField", point)])
}

/// Fits the mandate in every point.
fn draft() -> Value {
    json!({
        "@type": "Offer", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "depot-7", "assignee": "insurer-1", "target": "vessel-bus",
        "validity": {"notBefore": "2027-01-01T00:00:00Z", "notAfter": "2028-01-01T00:00:00Z"},
        "permission": [{
            "uid": "p1", "action": "deliver",
            "constraint": [
                test("grade", "lteq", json!("general")),
                test("tag", "isNoneOf", json!(["precise-location"])),
            ],
        }],
    })
}

/// The draft with another permission, and perhaps a prohibition.
fn rules(constraint: Value, duty: Value, prohibition: Value) -> Value {
    let mut rule = json!({"uid": "p1", "action": "deliver", "constraint": constraint});
    if duty != json!([]) {
        rule["duty"] = duty;
    }
    let mut draft = with(draft(), "permission", json!([rule]));
    if !prohibition.is_null() {
        draft["prohibition"] = json!([prohibition]);
    }
    draft
}

fn check_by(mandate: &Value, draft: &Value, expect: &str) {
    let contract = Contract::draft(draft.to_string().as_bytes()).unwrap();
    assert_eq!(read(mandate).unwrap().judge(&contract).to_string(), expect, "{draft}");
}

fn check(draft: &Value, expect: &str) {
    check_by(&mandate_value(), draft, expect);
}

#[test]
fn what_a_mandate_says_to_a_draft() {
    check(&draft(), "accept");
    check(
        &with(draft(), "assignee", json!("court")),
        r#"refuse: "court" is not among the consumers of the mandate"#,
    );
    check(
        &with(draft(), "target", json!(["gnss", "camera"])),
        r#"refuse: "camera" is not among the datasets of the mandate"#,
    );
    let mut wide = draft();
    wide["permission"][0]["action"] = json!(["deliver", "sell", "use"]);
    check(
        &wide,
        "refuse: p1 permits use, which the mandate does not; \
         p1 permits sell, which the mandate does not",
    );
    let ends = |text: &str| json!({"notBefore": "2027-01-01T00:00:00Z", "notAfter": text});
    check(&with(draft(), "validity", ends("2028-01-01T00:00:00Z")), "accept");
    check(
        &with(draft(), "validity", ends("2028-01-01T00:00:01Z")),
        "ask the operator: it lasts 366 days, the mandate goes up to 365",
    );
    check(
        &with(draft(), "price", json!({"amount": "3.50", "unit": "CNY"})),
        "ask the operator: it names a price or metering, about which the mandate says nothing",
    );
    let asks = with(mandate_value(), "needsOperator", json!(true));
    check_by(&asks, &draft(), "ask the operator: the mandate wants an operator for every contract");
    let both = with(with(draft(), "assignee", json!("court")), "price", json!({"amount": "1"}));
    check_by(&asks, &both, r#"refuse: "court" is not among the consumers of the mandate"#);
}

#[test]
fn classes_above_the_highest_must_be_kept_in() {
    let located = test("tag", "isNoneOf", json!(["precise-location"]));
    let open = "refuse: p1 lets out data of class important; bound it by a constraint on class; \
        p1 lets out data of class core; bound it by a constraint on class";
    let graded = |constraint: Value, expect: &str| {
        check(&rules(json!([located, constraint]), json!([]), Value::Null), expect);
    };
    graded(test("grade", "eq", json!("general")), "accept");
    graded(test("grade", "lt", json!("important")), "accept");
    graded(
        test("grade", "neq", json!("important")),
        "refuse: p1 lets out data of class core; bound it by a constraint on class",
    );
    graded(test("quality", "eq", json!("good")), open);
    // An alternative does not bound.
    let either = json!({"or": [
        test("grade", "lteq", json!("general")), test("tag", "isAnyOf", json!(["personal"])),
    ]});
    graded(either, open);
    let forbidding = |actions: Value, constraint: Value, expect: &str| {
        let prohibition = json!({"action": actions, "constraint": constraint});
        check(&rules(json!([located]), json!([]), prohibition), expect);
    };
    let above = test("grade", "gt", json!("general"));
    forbidding(json!(["deliver", "store"]), above.clone(), "accept");
    // It must forbid all that is permitted, in every case.
    forbidding(json!("store"), above.clone(), open);
    forbidding(json!("deliver"), json!([above, test("quality", "eq", json!("bad"))]), open);
    let core = with(mandate_value(), "highestClass", json!("core"));
    check_by(&core, &rules(json!([located]), json!([]), Value::Null), "accept");
}

#[test]
fn tagged_points_leave_only_transformed() {
    let general = test("grade", "lteq", json!("general"));
    let transformed = |duty: Value, expect: &str| {
        check(&rules(json!([general]), duty, Value::Null), expect);
    };
    let missing = "refuse: p1 lets out points with the tag precise-location without any of: \
        coarsenPosition, drop";
    transformed(json!([]), missing);
    transformed(json!([drop_of("*")]), "accept");
    transformed(
        json!([drop_of("Vessel.Position")]),
        "ask the operator: p1 transforms some points only; whether all with the tag precise-location \
         are among them is open",
    );
    transformed(json!([refined("mask", &[("dataField", "*")])]), missing);
    let forbidding = |constraint: Value, expect: &str| {
        let prohibition = json!({"action": "deliver", "constraint": constraint});
        check(&rules(json!([general]), json!([]), prohibition), expect);
    };
    forbidding(test("tag", "isAnyOf", json!(["precise-location", "personal"])), "accept");
    forbidding(test("tag", "isAnyOf", json!(["personal"])), missing);
    // A point with the tag and another one would still leave.
    let other = test("tag", "isAnyOf", json!(["trade-secret"]));
    check(&rules(json!([general, other]), json!([]), Value::Null), missing);
}

#[test]
fn mandates_are_read_whole_or_not_at_all() {
    let check = |key: &str, value: Value, expect: &str| {
        let error = read(&with(mandate_value(), key, value)).unwrap_err();
        assert_eq!(error.faults[0].to_string(), expect);
    };
    assert!(read(&mandate_value()).is_ok());
    let expect = r#"/schema: "2" is not known here, use 1; a newer mandate needs a newer program"#;
    check("schema", json!(2), expect);
    check("consumers", json!([]), "/consumers: empty; name at least one");
    check("actions", json!([]), "/actions: empty; name at least one");
    check("needsOperator", json!(1), "/needsOperator: not true or false");
    check("note", json!("x"), "/note: unknown key; remove it or correct its name");
    check(
        "actions",
        json!(["deliver", "leak"]),
        r#"/actions/1: "leak" is not known here, use an action of contracts such as use or deliver"#,
    );
    check(
        "highestClass",
        json!("secret"),
        r#"/highestClass: "secret" is not known here, use general, important or core"#,
    );
    let twice = json!({"tag": "personal", "transforms": ["mask"]});
    check(
        "requiredTransforms",
        json!([twice, twice]),
        r#"/requiredTransforms/1/tag: "personal" stands twice; keep one"#,
    );
    check(
        "requiredTransforms",
        json!([{"tag": "personal", "transforms": []}]),
        "/requiredTransforms/0/transforms: empty; name at least one",
    );
    let names = |prefix: &str, count: usize| {
        json!((0..count).map(|place| format!("{prefix}{place}")).collect::<Vec<_>>())
    };
    for (key, limit) in [("consumers", MANDATE_CONSUMERS_MAX), ("datasets", MANDATE_DATASETS_MAX)] {
        assert!(read(&with(mandate_value(), key, names("n", limit))).is_ok());
        let expect = format!("/{key}: has {} entries, the limit is {limit}", limit + 1);
        check(key, names("n", limit + 1), &expect);
    }
    let padded = |length: usize| {
        let text = mandate_value().to_string();
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    assert!(Mandate::read(padded(MANDATE_BYTES_MAX).as_bytes()).is_ok());
    assert!(Mandate::read(padded(MANDATE_BYTES_MAX + 1).as_bytes()).is_err());
}

/// A contract's transformation that no mandate could name could never be required.
#[test]
fn every_transformation_can_be_required() {
    let noise = Noise {
        mechanism: Mechanism::Laplace,
        epsilon_micro: 1,
        budget_micro: 1,
        period: Period::Day,
    };
    let (window, span) = (Duration::from_secs(60), Duration::from_secs(60));
    let all = [
        Transform::Drop,
        Transform::Mask,
        Transform::Sample { one_of: 2 },
        Transform::Clamp { low: 0.0, high: 1.0 },
        Transform::Aggregate(Aggregate {
            window,
            statistic: Statistic::Count,
            readings_min: 1,
            group: None,
        }),
        Transform::Noise(noise),
        Transform::Round { step: 1.0 },
        Transform::Bucket { edges: [0.0].into() },
        Transform::Grid(Grid { axis: Axis::Latitude, step_m: 1.0, reference_latitude: 0.0 }),
        Transform::Pseudonymise,
        Transform::Delay { span },
    ];
    let names = all.map(|transform| transform.name());
    assert_eq!(names, TRANSFORMS);
    let transforms = json!([{"tag": "personal", "transforms": names}]);
    assert!(read(&with(mandate_value(), "requiredTransforms", transforms)).is_ok());
}

/// A group cannot be of all points, since one is for its results: whether those with the tag are in it, a
/// person looks up.
#[test]
fn aggregates_of_groups_are_transformations_of_some_points() {
    let transforms = json!([{"tag": "personal", "transforms": ["aggregate"]}]);
    let mandate = with(mandate_value(), "requiredTransforms", transforms);
    let mean = [("window", "PT1H"), ("statistic", "mean")];
    let of = |more: &[(&str, &str)]| {
        let general = json!([test("grade", "lteq", json!("general"))]);
        rules(general, json!([refined("aggregate", &[&mean[..], more].concat())]), Value::Null)
    };
    check_by(&mandate, &of(&[]), "accept");
    check_by(
        &mandate,
        &of(&[("dataField", "Vessel.*"), ("into", "Fleet"), ("minContributors", "5")]),
        "ask the operator: p1 transforms some points only; whether all with the tag personal are \
         among them is open",
    );
}
