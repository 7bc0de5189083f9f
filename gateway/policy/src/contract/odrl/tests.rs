use crate::Contract;
use crate::contract::tests::{TestSigner, with};
use crate::fault::Problem;
use crate::signature::{TrustedKeys, sign};
use guan_model::Signer;
use serde_json::{Value, json};

/// What a depot lets an insurer have: positions in daylight, coarse, and no fuel figures.
pub(crate) fn agreement() -> Value {
    json!({
        "@context": ["http://www.w3.org/ns/odrl.jsonld"],
        "@type": "Agreement", "@id": "urn:contract:C-2026-002",
        "profile": "urn:guankou:odrl:1", "version": 1, "conflict": "prohibit",
        "assigner": "depot-7", "assignee": "insurer-1", "assigneeCountry": "CN",
        "purpose": "insurance.risk", "target": ["vessel-bus"],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        "permission": [{
            "uid": "p1", "action": "deliver",
            "constraint": [
                {"leftOperand": "purpose", "operator": "isA", "rightOperand": "insurance"},
                {"or": [
                    {"leftOperand": "value", "operator": "lt", "rightOperand": "40.5"},
                    {"leftOperand": "quality", "operator": "eq", "rightOperand": "good"},
                ]},
            ],
            "duty": [
                {"action": "round", "refinement": [
                    {"leftOperand": "dataField", "operator": "eq", "rightOperand": "Vessel.Speed"},
                    {"leftOperand": "step", "operator": "eq", "rightOperand": "0.5"},
                ]},
                {"action": "delete", "refinement": [
                    {"leftOperand": "after", "operator": "eq", "rightOperand": "P30D"},
                ]},
            ],
        }],
        "prohibition": [{
            "uid": "f1", "action": ["deliver", "store"],
            "constraint": {"leftOperand": "dataField", "operator": "isAnyOf",
                "rightOperand": ["Vessel.Depth"]},
        }],
        "lease": {"maxOffline": "PT1H", "onEarlyEnd": "send"},
    })
}

/// Signed by both parties and read back.
pub(crate) fn signed(object: &Value) -> Contract {
    let parties = ["assigner", "assignee"].map(|key| object[key].as_str().unwrap().to_owned());
    let signers = [TestSigner::new(21), TestSigner::new(22)];
    let mut file = object.to_string().into_bytes();
    for (party, signer) in parties.iter().zip(&signers) {
        file = sign(&file, party, signer).unwrap();
    }
    let keys = parties.into_iter().zip(signers.iter().map(Signer::public_key)).collect();
    Contract::parse(&file, &TrustedKeys::new(keys).unwrap()).unwrap()
}

#[test]
fn an_agreement_is_read_whole() {
    let contract = signed(&agreement());
    assert_eq!((contract.id().as_str(), contract.version()), ("C-2026-002", 1));
    assert_eq!((contract.provider(), contract.consumer()), ("depot-7", "insurer-1"));
    assert_eq!(contract.purpose(), Some("insurance.risk"));
    assert_eq!(contract.lease().max_offline.as_secs(), 3600);
    let rules: Vec<&str> = contract.rules().iter().map(|rule| &*rule.id).collect();
    assert_eq!(rules, ["p1", "f1"]);
    let leaves = contract.rules()[0].constraint.leaves();
    let texts: Vec<&str> = leaves.iter().map(|leaf| &*leaf.text).collect();
    assert_eq!(texts, ["purpose isA insurance", "value lt 40.5", "quality eq good"]);
    assert_eq!(&*leaves[1].pointer, "/contract/permission/0/constraint/1/or/0");
}

#[test]
fn an_agreement_may_tell_when_it_was_made() {
    let dated = |text: &str| with(agreement(), "timestamp", json!(text));
    assert!(Contract::draft(dated("2026-01-01T00:00:00Z").to_string().as_bytes()).is_ok());
    check(&dated("yesterday"), &["/timestamp"]);
}

#[test]
fn both_parties_must_sign() {
    let signer = TestSigner::new(21);
    let file = sign(agreement().to_string().as_bytes(), "depot-7", &signer).unwrap();
    let keys = TrustedKeys::new(vec![("depot-7".to_owned(), signer.public_key())]).unwrap();
    let error = Contract::parse(&file, &keys).unwrap_err();
    let party = "insurer-1".to_owned();
    let expect = Problem::NotSigned { party, unknown: "none".to_owned() };
    assert_eq!(error.faults[0].problem, expect);
}

/// The pointers of all faults of a draft.
fn check(object: &Value, expect: &[&str]) {
    let error = Contract::draft(object.to_string().as_bytes()).unwrap_err();
    let pointers: Vec<&str> = error.faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, expect, "{error}");
}

/// The agreement whose only permission has these constraints and duties.
fn permission(constraint: Value, duty: Value) -> Value {
    let rule = json!([{"action": "deliver", "constraint": constraint, "duty": duty}]);
    with(with(agreement(), "permission", rule), "prohibition", Value::Null)
}

fn test(left: &str, operator: &str, right: Value) -> Value {
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}

#[test]
fn unknown_terms_refuse_the_contract() {
    let only = |constraint| permission(constraint, Value::Array(Vec::new()));
    let never = || json!([{"action": "log"}]);
    check(&with(agreement(), "profile", json!("urn:cx:1")), &["/profile"]);
    check(&with(agreement(), "conflict", json!("perm")), &["/conflict"]);
    check(&with(agreement(), "nonsense", json!(1)), &["/nonsense"]);
    check(
        &permission(json!([test("media", "eq", json!("x"))]), never()),
        &["/permission/0/constraint/0/leftOperand"],
    );
    check(
        &permission(json!([test("value", "hasPart", json!(1))]), never()),
        &["/permission/0/constraint/0/operator"],
    );
    check(
        &permission(json!([test("spatial", "isPartOf", json!("310000"))]), never()),
        &["/permission/0/constraint/0/rightOperand"],
    );
    check(
        &permission(json!([]), json!([{"action": "water"}])),
        &["/permission/0/constraint", "/permission/0/duty/0/action"],
    );
    check(&only(json!([test("value", "lt", json!(1))])), &["/permission/0/duty"]);
}

#[test]
fn mixed_moments_are_refused() {
    let mixed = json!({"or": [
        test("value", "lt", json!(1)),
        test("dateTime", "lt", json!("2027-01-01T00:00:00Z")),
    ]});
    check(&permission(mixed, json!([{"action": "log"}])), &["/permission/0/constraint"]);
}

#[test]
fn contracts_that_make_no_sense_are_refused() {
    let log = || json!([{"action": "log"}]);
    let past = test("dateTime", "lt", json!("2020-01-01T00:00:00Z"));
    check(&permission(json!([past]), log()), &["/permission/0"]);
    let twice = json!([
        {"action": "round", "refinement": [test("step", "eq", json!(1))]},
        {"action": "round", "refinement": [
            test("step", "eq", json!(2)), test("dataField", "eq", json!("Vessel.*")),
        ]},
    ]);
    check(&permission(json!([test("value", "lt", json!(1))]), twice), &["/permission/0/duty/1"]);
    let noise = json!([{"action": "noise", "refinement": [
        test("epsilon", "eq", json!("0.1")), test("budget", "eq", json!(1)),
        test("mechanism", "eq", json!("laplace")),
    ]}]);
    check(&permission(json!([test("value", "lt", json!(1))]), noise), &["/permission/0/duty/0"]);
    let all = json!([{"action": "use"}]);
    check(&with(agreement(), "prohibition", all), &["/permission/0"]);
}

/// A test or duty that were left out in silence would widen what is granted.
#[test]
fn nothing_is_left_out_in_silence() {
    let log = || json!([{"action": "log"}]);
    let twice = test("dataField", "isAnyOf", json!(["Vessel.Speed", "Vessel.Speed"]));
    check(&permission(json!([twice]), log()), &["/permission/0/constraint/0/rightOperand"]);
    let polar = json!([{"action": "coarsenPosition", "refinement": [
        test("axis", "eq", json!("longitude")), test("step_m", "eq", json!(500)),
        test("referenceLatitude", "eq", json!(90)),
    ]}]);
    check(
        &permission(json!([test("value", "lt", json!(1))]), polar),
        &["/permission/0/duty/0/refinement/2/rightOperand"],
    );
}
