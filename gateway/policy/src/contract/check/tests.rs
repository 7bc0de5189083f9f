use crate::Contract;
use crate::contract::odrl::tests::agreement;
use serde_json::{Value, json};

mod groups;

fn test(left: &str, operator: &str, right: Value) -> Value {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}

/// The agreement with one permission and, unless it is null, one prohibition.
fn contract(permission: Value, prohibition: Value) -> Value {
    let mut object = agreement();
    let rule = |constraint: Value| match constraint {
        Value::Array(list) if list.is_empty() => json!({"action": "deliver"}),
        constraint => json!({"action": "deliver", "constraint": constraint}),
    };
    object["permission"] = json!([rule(permission)]);
    let members = object.as_object_mut().unwrap();
    match prohibition {
        Value::Null => drop(members.remove("prohibition")),
        constraint => drop(members.insert("prohibition".to_owned(), json!([rule(constraint)]))),
    }
    object
}

/// Each fault of what somebody wants to sign, as pointer and a piece of its text.
fn check(object: &Value, expect: &[(&str, &str)]) {
    let faults = match Contract::lint(object.to_string().as_bytes()) {
        Ok(_) => Vec::new(),
        Err(error) => error.faults,
    };
    let found: Vec<(String, String)> =
        faults.iter().map(|one| (one.pointer.clone(), one.problem.to_string())).collect();
    let fits = found.len() == expect.len()
        && found
            .iter()
            .zip(expect)
            .all(|((at, text), (pointer, piece))| at == pointer && text.contains(piece));
    assert!(fits, "{found:?} for {expect:?} of {object}");
}

const NEVER: &[(&str, &str)] = &[("/permission/0", "can never be true")];
const DEAD: &[(&str, &str)] = &[("/permission/0", "forbids all that this permits")];

/// Whether a permission with these tests can hold.
#[test]
fn what_can_never_hold_is_refused() {
    let permits = |tests: Value, expect| check(&contract(tests, Value::Null), expect);
    let values = |a: &str, x: i64, b: &str, y: i64| {
        json!([test("value", a, json!(x)), test("value", b, json!(y))])
    };
    permits(values("gt", 10, "lt", 5), NEVER);
    permits(values("gt", 10, "lt", 10), NEVER);
    permits(values("gteq", 10, "lteq", 10), &[]);
    permits(values("gt", 10, "lt", 11), &[]);
    permits(values("eq", 10, "neq", 10), NEVER);
    permits(json!([test("grade", "gt", json!("core"))]), NEVER);
    permits(json!([test("grade", "gteq", json!("core"))]), &[]);
    permits(json!([test("clockQuality", "gt", json!("witnessed"))]), NEVER);
    permits(json!([test("attested", "lt", json!("unattested"))]), NEVER);
    permits(json!([test("age", "lt", json!("PT0S"))]), NEVER);
    permits(json!([test("age", "lteq", json!("PT0S"))]), &[]);
    permits(json!([test("count", "lt", json!(1))]), NEVER);
    permits(json!([test("releaseMin", "lt", json!("0"))]), NEVER);
    permits(
        json!([test("consent", "eq", json!(true)), test("consent", "neq", json!(true))]),
        NEVER,
    );
    permits(
        json!([test("dataField", "eq", json!("A.x")), test("dataField", "neq", json!("A.*"))]),
        NEVER,
    );
    permits(
        json!([test("dataField", "eq", json!("A.*")), test("dataField", "neq", json!("A.x"))]),
        &[],
    );
    permits(json!([test("recipient", "eq", json!("somebody"))]), NEVER);
    permits(json!([test("purpose", "isA", json!("marketing"))]), NEVER);
    permits(json!([test("purpose", "isA", json!("insurance"))]), &[]);
    permits(json!([test("dataset", "eq", json!("other"))]), NEVER);
    permits(json!([test("recipientCountry", "neq", json!("CN"))]), NEVER);
    permits(json!([test("deliveryMethod", "eq", json!("01"))]), NEVER);
    permits(json!({"xone": [test("value", "gt", json!(1)), test("value", "gt", json!(1))]}), NEVER);
    let hours = |from: &str, until: &str, zone: &str| {
        test("timeWindow", "isPartOf", json!({"from": from, "until": until, "zone": zone}))
    };
    permits(json!([hours("08:00", "10:00", "UTC"), hours("12:00", "14:00", "UTC")]), NEVER);
    permits(json!([hours("22:00", "06:00", "UTC"), hours("05:00", "14:00", "UTC")]), &[]);
    permits(json!([hours("08:00", "10:00", "UTC"), hours("12:00", "14:00", "Asia/Shanghai")]), &[]);
    // One of the two ways can hold.
    let or = json!({"or": [test("grade", "gt", json!("core")), test("value", "gt", json!(1))]});
    permits(or, &[]);
    let both =
        json!({"or": [test("grade", "gt", json!("core")), test("age", "lt", json!("PT0S"))]});
    permits(both, NEVER);
}

/// A prohibition may name what the contract is never about, but not what cannot be.
#[test]
fn prohibitions_that_can_never_hold_are_refused() {
    let forbids = |tests: Value, expect| check(&contract(json!([]), tests), expect);
    forbids(
        json!([test("grade", "gt", json!("core"))]),
        &[("/prohibition/0", "can never be true")],
    );
    forbids(json!([test("purpose", "isA", json!("marketing"))]), &[]);
    forbids(json!([test("recipientCountry", "neq", json!("CN"))]), &[]);
}

#[test]
fn permissions_of_which_nothing_is_left_are_refused() {
    let value = |operator: &str, limit: i64| test("value", operator, json!(limit));
    let field = |operator: &str, names: Value| test("dataField", operator, names);
    let against = |permission: Value, prohibition: Value, expect| {
        check(&contract(permission, prohibition), expect);
    };
    against(json!([value("gt", 10)]), json!([value("gt", 0)]), DEAD);
    against(json!([value("gt", 0)]), json!([value("gt", 10)]), &[]);
    let quality = || test("quality", "eq", json!("good"));
    against(json!([value("gt", 1), quality()]), json!([quality(), value("gt", 1)]), DEAD);
    against(json!([value("gt", 1), quality()]), json!([quality()]), DEAD);
    against(json!([quality()]), json!([quality(), value("gt", 1)]), &[]);
    let (few, many) = (json!(["A.x", "A.y"]), json!(["A.x", "A.y", "A.z"]));
    against(json!([field("isAnyOf", few.clone())]), json!([field("isAnyOf", many.clone())]), DEAD);
    against(json!([field("isAnyOf", many)]), json!([field("isAnyOf", few.clone())]), &[]);
    against(json!([field("isAnyOf", few.clone())]), json!([field("eq", json!("A.*"))]), DEAD);
    against(json!([field("isAnyOf", few)]), json!([field("eq", json!("*"))]), DEAD);
    // What is the same in the whole contract need not be said by the permission.
    against(json!([quality()]), json!([test("purpose", "isA", json!("insurance"))]), DEAD);
    let or = |a: Value, b: Value| json!({"or": [a, b]});
    against(or(value("gt", 10), quality()), json!([or(quality(), value("gt", 5))]), DEAD);
    against(or(value("gt", 10), quality()), json!([value("gt", 5)]), &[]);
    let circle = json!({"type": "circle", "latitude": "31.2", "longitude": "121.4", "radius_m": 5});
    let at = |operator: &str| test("spatial", operator, circle.clone());
    against(json!([at("isPartOf"), quality()]), json!([at("isPartOf")]), DEAD);
    against(json!([at("isPartOf")]), json!([at("isNoneOf")]), &[]);
}

/// By its meaning a prohibition of what delivery is, or of a step to it, stops delivery.
#[test]
fn prohibitions_of_wider_actions_stop_delivery() {
    let with = |action: Value, expect| {
        let mut object = contract(json!([]), json!([]));
        object["prohibition"][0]["action"] = action;
        check(&object, expect);
    };
    for action in ["deliver", "use", "transfer", "distribute", "store", "collect"] {
        with(json!(action), DEAD);
    }
    for action in ["sell", "give", "read", "export"] {
        with(json!(action), &[]);
    }
    // What is not delivered cannot be read either.
    let mut object = contract(json!([]), json!([]));
    object["permission"][0]["action"] = json!(["deliver", "read"]);
    object["prohibition"][0]["action"] = json!("distribute");
    check(&object, DEAD);
    // To others than the consumer it may be forbidden.
    object["prohibition"][0]["constraint"] = test("recipient", "neq", json!("insurer-1"));
    check(&object, &[]);
}

#[test]
fn contracts_that_bind_nobody_to_anything_are_refused() {
    let mut same = contract(json!([]), Value::Null);
    same["assignee"] = json!("depot-7");
    check(&same, &[("/assignee", "same")]);
    let mut empty = contract(json!([]), Value::Null);
    empty["permission"] = json!([]);
    check(&empty, &[("", "no rule")]);
    empty.as_object_mut().unwrap().remove("permission");
    check(&empty, &[("", "no rule")]);
    let span = |action: &str, name: &str, span: &str| json!({"action": action, "refinement": [test(name, "eq", json!(span))]});
    let mut kept = contract(json!([]), Value::Null);
    kept["permission"][0]["duty"] =
        json!([span("retain", "atLeast", "P30D"), span("delete", "after", "P1D")]);
    check(&kept, &[("/permission/0", "retain")]);
    kept["permission"][0]["duty"] =
        json!([span("retain", "atLeast", "P1D"), span("delete", "after", "P1D")]);
    check(&kept, &[]);
    // What one permission wants kept, another may not want deleted before: one store keeps both.
    let mut other = kept["permission"][0].clone();
    other["uid"] = json!("p2");
    other["duty"] = json!([span("retain", "atLeast", "P2D")]);
    kept["permission"] = json!([kept["permission"][0], other]);
    check(&kept, &[("/permission/0", "retain")]);
}

/// What is undecided for its size is not called senseless.
#[test]
fn large_rules_are_undecided() {
    let either = |n: i64| json!({"or": [test("value", "gt", json!(n)), test("quality", "eq", json!("good"))]});
    let of = |parts: i64| (0..parts).map(either).collect::<Vec<Value>>();
    let never = |mut parts: Vec<Value>| {
        parts.push(test("grade", "gt", json!("core")));
        json!(parts)
    };
    check(&contract(never(of(6)), Value::Null), NEVER);
    check(&contract(never(of(7)), Value::Null), &[]);
    // As many names as a test may have, against as many, within the time of a test.
    let names = |n: usize| (0..n).map(|n| format!("P{n}")).collect::<Vec<_>>();
    let many = json!([test("dataField", "isAnyOf", json!(names(4096)))]);
    check(&contract(many.clone(), json!([test("dataField", "isAnyOf", json!(names(4095)))])), &[]);
}

#[test]
fn patterns_that_would_match_nothing_are_refused() {
    for wrong in ["*.temperature", "machine.*.temperature", "machine*", "", "a b"] {
        let tests = json!([test("dataField", "eq", json!(wrong))]);
        let at = "/prohibition/0/constraint/0/rightOperand";
        check(&contract(json!([]), tests), &[(at, "no name of a point")]);
        let mut object = contract(json!([]), Value::Null);
        object["permission"][0]["duty"] =
            json!([{"action": "mask", "refinement": [test("dataField", "eq", json!(wrong))]}]);
        let at = "/permission/0/duty/0/refinement/0/rightOperand";
        check(&object, &[(at, "no name of a point")]);
    }
    for operand in ["recipient", "purpose", "dataset"] {
        let tests = json!([test(operand, "eq", json!("*"))]);
        let at = "/prohibition/0/constraint/0/rightOperand";
        check(&contract(json!([]), tests), &[(at, "is not known here")]);
    }
}

#[test]
fn counts_with_noise_need_no_clamp() {
    let duties = |statistic: &str| {
        let mut object = contract(json!([]), Value::Null);
        object["permission"][0]["duty"] = json!([
            {"action": "aggregate", "refinement": [
                test("window", "eq", json!("PT1M")), test("statistic", "eq", json!(statistic)),
            ]},
            {"action": "noise", "refinement": [
                test("mechanism", "eq", json!("laplace")), test("epsilon", "eq", json!("0.5")),
                test("budget", "eq", json!(1)),
            ]},
        ]);
        object
    };
    check(&duties("count"), &[]);
    check(&duties("mean"), &[("/permission/0/duty/1", "no clamp")]);
}

#[test]
fn rates_forbid_nothing() {
    let mut rate = test("rate", "lteq", json!(5));
    rate["unit"] = json!("1/s");
    check(&contract(json!([rate]), Value::Null), &[]);
    check(&contract(json!([]), json!([rate])), &[("/prohibition/0/constraint/0", "a rate")]);
}

#[test]
fn only_known_contexts_are_read() {
    let with = |context: Value, expect| {
        let mut object = contract(json!([]), Value::Null);
        object["@context"] = context;
        check(&object, expect);
    };
    let ours = "https://guankou.example/contracts/context.jsonld";
    with(json!("http://www.w3.org/ns/odrl.jsonld"), &[]);
    with(json!([ours, "http://www.w3.org/ns/odrl.jsonld"]), &[]);
    with(json!("http://evil/x"), &[("/@context", "no context")]);
    with(json!([ours, "http://evil/x"]), &[("/@context/1", "no context")]);
    with(json!({"deliver": "http://evil/x"}), &[("/@context", "not a text")]);
    with(json!([ours, {"deliver": "http://evil/x"}]), &[("/@context/1", "not a text")]);
    with(json!(5), &[("/@context", "not a text")]);
}

#[test]
fn the_form_is_seen_without_its_type() {
    let mut object = contract(json!([]), Value::Null);
    object.as_object_mut().unwrap().remove("@type");
    check(&object, &[("/@type", "missing")]);
    check(&json!({}), &[("", "three forms")]);
    check(&json!({"nonsense": 1}), &[("", "three forms")]);
    check(&json!([]), &[("", "not an object")]);
}

#[test]
fn nested_ands_are_one() {
    let moments = || [test("value", "lt", json!(1)), test("link", "eq", json!("unmetered"))];
    let nested = json!([{"and": [{"and": moments()}, test("quality", "eq", json!("good"))]}]);
    check(&contract(nested, Value::Null), &[]);
    let mixed = json!([{"and": [{"or": moments()}]}]);
    check(&contract(mixed, Value::Null), &[("/permission/0/constraint", "mixes")]);
}

#[test]
fn areas_say_one_thing() {
    let inside = |area: Value, expect: &[(&str, &str)]| {
        check(&contract(json!([test("spatial", "isPartOf", area)]), Value::Null), expect);
    };
    const AT: &str = "/permission/0/constraint/0/rightOperand";
    let below = |member: &str| format!("{AT}/{member}");
    let circle = |more: Value| {
        let mut area =
            json!({"type": "circle", "latitude": "31.2", "longitude": "121.4", "radius_m": 5});
        area.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        area
    };
    for datum in ["WGS-84", "CGCS2000", "BeiDou", "BDS"] {
        inside(circle(json!({"datum": datum})), &[]);
    }
    inside(circle(json!({"datum": "GCJ-02"})), &[(&below("datum"), "convert GCJ-02")]);
    let corners = json!([["0", "0"], ["0", "1"], ["1", "1"]]);
    inside(circle(json!({"vertices": corners})), &[(&below("vertices"), "a circle has no such")]);
    inside(circle(json!({"radius_m": 0})), &[(AT, "not a circle")]);
    // One fault, which says what to write.
    inside(circle(json!({"latitude": 31.2})), &[(&below("latitude"), "the text \"31.2\"")]);
    inside(json!({"type": "polygon", "vertices": corners}), &[]);
    let round = json!({"type": "polygon", "vertices": corners, "radius_m": 5});
    inside(round, &[(&below("radius_m"), "a polygon has no such")]);
    for line in [
        json!([["0", "0"], ["1", "1"], ["2", "2"]]),
        json!([["5", "5"], ["5", "5"], ["5", "5"]]),
        json!([["0", "0"], ["0", "0"], ["1", "7"], ["2", "14"]]),
    ] {
        let flat = json!({"type": "polygon", "vertices": line});
        inside(flat, &[(&below("vertices"), "on one line")]);
    }
}

#[test]
fn a_deletion_has_one_deadline() {
    let mut object = contract(json!([]), Value::Null);
    object["permission"][0]["duty"] = json!([{"action": "delete", "refinement": [
        test("by", "eq", json!("2029-01-01T00:00:00Z")), test("after", "eq", json!("P1D")),
    ]}]);
    check(&object, &[("/permission/0/duty/0/refinement/0/rightOperand", "both by and after")]);
}
