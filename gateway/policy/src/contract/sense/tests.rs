use super::*;
use crate::Contract;
use crate::contract::odrl::tests::agreement;
use crate::contract::tests::with;
use serde_json::{Value, json};

#[test]
fn doubles_keep_their_order() {
    let numbers = [f64::MIN, -2.5, -f64::MIN_POSITIVE, 0.0, f64::MIN_POSITIVE, 1.0, f64::MAX];
    assert!(numbers.map(ordered).is_sorted_by(|a, b| a < b));
    assert_eq!(ordered(-0.0), ordered(0.0));
}

fn test(left: &str, operator: &str, right: impl Into<Value>) -> Value {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right.into()})
}

/// A contract with these conditions of its permission and its prohibition, and what is said of it.
fn check(permission: &Value, prohibition: Option<&Value>, expect: Option<&str>) {
    let rule = json!([{"uid": "p", "action": "deliver", "constraint": permission}]);
    let forbids =
        prohibition.map(|one| json!([{"uid": "f", "action": "deliver", "constraint": one}]));
    let object = with(agreement(), "permission", rule);
    let object = with(object, "prohibition", forbids.unwrap_or_else(|| json!([])));
    let found = Contract::draft(object.to_string().as_bytes());
    match (found, expect) {
        (Ok(_), None) => {}
        (Err(fault), Some(text)) => {
            let text_found = fault.to_string();
            assert!(fault.faults.len() == 1 && text_found.contains(text), "{text_found}");
        }
        (found, expect) => panic!("{permission} {prohibition:?}: {found:?}, not {expect:?}"),
    }
}

#[test]
fn tests_that_exclude_each_other() {
    let never = Some("can never be true");
    let both = |a: Value, b: Value| json!([a, b]);
    check(&both(test("value", "gt", "10"), test("value", "lt", "5")), None, never);
    check(&both(test("value", "gt", "-2"), test("value", "lt", "5")), None, None);
    check(&both(test("value", "gteq", "5"), test("value", "lteq", "5")), None, None);
    check(&json!([test("grade", "gt", "core")]), None, never);
    check(&json!([test("grade", "lt", "core")]), None, None);
    check(&json!([test("age", "lt", "PT0S")]), None, never);
    check(&json!([test("age", "lteq", "PT0S")]), None, None);
    let named = |names: Value| test("dataField", "isAnyOf", names);
    check(&both(named(json!(["a", "b"])), named(json!(["c"]))), None, never);
    check(&both(named(json!(["a", "b"])), named(json!(["b"]))), None, None);
    check(&both(named(json!(["a.*"])), named(json!(["a.b"]))), None, None);
    // Hidden one level deeper.
    let inner = json!({"and": [test("value", "gt", "10"), test("value", "lt", "5")]});
    check(&json!([inner]), None, never);
}

#[test]
fn permissions_that_a_prohibition_takes_away() {
    let dead = Some("forbids all that this permits");
    let above = |limit: &str| test("value", "gt", limit);
    check(&json!([above("10")]), Some(&json!([above("0")])), dead);
    check(&json!([above("0")]), Some(&json!([above("10")])), None);
    let good = test("quality", "eq", "good");
    check(&json!([above("10"), good]), Some(&json!([good, above("10")])), dead);
    check(&json!([above("10"), good]), Some(&json!([good])), dead);
    check(&json!([good]), Some(&json!([good, above("10")])), None);
    let named = |names: Value| test("dataField", "isAnyOf", names);
    check(&json!([named(json!(["a"]))]), Some(&json!([named(json!(["a", "b"]))])), dead);
    check(&json!([named(json!(["a", "b"]))]), Some(&json!([named(json!(["a"]))])), None);
    // A reading without the subject is not forbidden by a test about it.
    check(&json!([good]), Some(&json!([above("0")])), None);
}

#[test]
fn stars_stand_alone_or_last() {
    let field = |pattern: &str| json!([test("dataField", "eq", pattern)]);
    for (pattern, is_known) in [
        ("*", true),
        ("press.*", true),
        ("press.a", true),
        ("*.temperature", false),
        ("press.*.a", false),
        ("press*", false),
        (".*", false),
        ("", false),
    ] {
        check(&field(pattern), None, (!is_known).then_some("with a '*' only alone"));
        let duty = json!([{"action": "mask", "refinement": test("dataField", "eq", pattern)}]);
        let rule = json!([{"action": "deliver", "duty": duty}]);
        let object = with(with(agreement(), "permission", rule), "prohibition", json!([]));
        let found = Contract::draft(object.to_string().as_bytes());
        assert_eq!(found.is_ok(), is_known, "mask {pattern:?}");
    }
}

#[test]
fn contracts_without_sense() {
    let refused = |object: Value, expect: &str| {
        let text = Contract::draft(object.to_string().as_bytes()).unwrap_err().to_string();
        assert!(text.contains(expect), "{text}");
    };
    refused(with(agreement(), "assignee", json!("depot-7")), "a contract is between two");
    let nothing = with(with(agreement(), "permission", json!([])), "prohibition", json!([]));
    refused(nothing, "no rule and no obligation");
    let refinement = |left: &str, right: &str| test(left, "eq", right);
    let duties = json!([
        {"action": "retain", "refinement": refinement("atLeast", "P30D")},
        {"action": "delete", "refinement": refinement("after", "P1D")},
    ]);
    refused(with(agreement(), "obligation", duties), "must be deleted before");
    let rate = json!({"leftOperand": "rate", "operator": "lteq", "rightOperand": 5, "unit": "1/d"});
    let rule = json!([{"action": "deliver", "constraint": rate}]);
    refused(with(agreement(), "prohibition", rule), "a rate bounds what a permission lets in");
    refused(with(agreement(), "@context", json!({"deliver": "http://evil/x"})), "@context");
    refused(with(agreement(), "@context", json!("http://evil/x")), "not a context of ours");
    refused(json!({}), "of no form that is known");
    let area = |area: Value| {
        let constraint = json!([test("spatial", "isPartOf", area)]);
        with(agreement(), "permission", json!([{"action": "deliver", "constraint": constraint}]))
    };
    let line = json!([["1", "1"], ["2", "1"], ["3", "1"]]);
    refused(area(json!({"type": "polygon", "vertices": line})), "nor a polygon of 3 to");
    let circle = json!({"type": "circle", "latitude": "1", "longitude": "1", "radius_m": 5, "vertices": line});
    refused(area(circle), "means nothing for a circle");
    let beidou = json!({"type": "circle", "latitude": "1", "longitude": "1", "radius_m": 5, "datum": "BeiDou"});
    assert!(Contract::draft(area(beidou).to_string().as_bytes()).is_ok());
}

/// Delivery is a transfer: who forbids one forbids the other.
#[test]
fn a_forbidden_transfer_binds_the_box() {
    for (action, binds) in [
        ("transfer", true),
        ("distribute", true),
        ("use", true),
        ("deliver", true),
        ("sell", false),
        ("index", false),
    ] {
        let object = with(agreement(), "prohibition", json!([{"uid": "f", "action": action}]));
        let found = Contract::draft(object.to_string().as_bytes());
        let rules = match &found {
            Ok(contract) => contract.rules(),
            // `use` and `deliver` forbid all that is permitted, which is said at once.
            Err(fault) => {
                assert!(binds && fault.to_string().contains("forbids all"), "{action}: {fault}");
                continue;
            }
        };
        let rule = rules.iter().find(|rule| &*rule.id == "f").unwrap();
        assert_eq!(crate::contract::check::binds_the_box(rule), binds, "{action}");
    }
}
