mod draw;

use super::codes::{ACTIONS, CONSTRAINTS, Name, Word};
use super::identifier::tests::identifier;
use crate::Contract;
use crate::action::Action;
use crate::constraint::{Operator, Test};
use crate::contract::tests::{TestSigner, with};
use crate::contract::{CONTRACT_SCHEMA, WireForm};
use crate::fault::Problem;
use crate::signature::{TrustedKeys, sign};
use guan_model::Signer;
use serde_json::{Value, json};

/// What one policy grants, as an author who knows only the document would write it.
fn document() -> Value {
    json!({
        "contractId": identifier(7).to_string(),
        "contractName": "\u{51b7}\u{94fe}", "contractStatus": "03", "signMode": "01",
        "signatoryEntities": [
            {"signatoryEntityId": "91310000MA1FL5XQ3K", "signatorytype": "01"},
            {"signatoryEntityId": "91440300MA5DA1XK7T", "signatorytype": "02"},
        ],
        "activationTime": "2026-12-01T00:00:00Z", "endTime": "2027-12-01T00:00:00Z",
        "contractPolicies": {"permissionPolicies": [policy()]},
    })
}

fn policy() -> Value {
    json!({
        "subjectInfo": {"dataProductId": "cold-chain", "dataProductEntityId": "91310000MA1FL5XQ3K"},
        "executionNodeInfo": {"providerNodeId": "node-a", "consumerNodeId": "node-b"},
        "actions": ["delivery", "logRecordSend"],
        "constraints": [constraint("dataField", "07", json!(["A.x", "A.z"]))],
    })
}

fn constraint(name: &str, operator: &str, value: Value) -> Value {
    json!({"constraintName": name, "constraintOperator": operator, "constraintValue": value})
}

/// The document whose only permission has these constraints.
fn constrained(constraints: Value) -> Value {
    permitted(with(policy(), "constraints", constraints))
}

fn permitted(policy: Value) -> Value {
    with(document(), "contractPolicies", json!({"permissionPolicies": [policy]}))
}

fn zoned(document: Value) -> Value {
    with(document, "expansionItem", json!({"urn:guankou:odrl:1": {"zone": "Asia/Shanghai"}}))
}

fn read(object: &Value) -> Contract {
    Contract::draft(object.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

/// The pointers of all faults.
fn refused(object: &Value, expect: &[&str]) {
    let error = Contract::draft(object.to_string().as_bytes()).unwrap_err();
    let pointers: Vec<&str> = error.faults.iter().map(|fault| fault.pointer.as_str()).collect();
    assert_eq!(pointers, expect, "{error}");
}

/// Two documents mean the same.
fn same(one: &Value, other: &Value) {
    let (one, other) = (read(one), read(other));
    assert!(one.means_same(&other), "{one:#?}\n{other:#?}");
}

#[test]
fn a_document_is_read_whole() {
    let contract = read(&document());
    assert_eq!(contract.id().as_str(), identifier(7).to_string());
    assert_eq!(contract.provider(), "91310000MA1FL5XQ3K");
    assert_eq!(contract.consumer(), "91440300MA5DA1XK7T");
    assert_eq!((contract.version(), contract.form()), (1, WireForm::Tds));
    assert_eq!(contract.datasets().iter().next().unwrap().as_str(), "cold-chain");
    let rule = &contract.rules()[0];
    assert_eq!((&*rule.id, rule.duties.len()), ("permission-1", 1));
    assert_eq!(&*rule.pointer, "/contractPolicies/permissionPolicies/0");
    let leaf = rule.constraint.leaves()[0];
    assert_eq!(&*leaf.text, "dataField isAnyOf [A.x,A.z]");
    assert_eq!(&*leaf.pointer, "/contractPolicies/permissionPolicies/0/constraints/0");
}

#[test]
fn signatures_stand_beside_it() {
    let parties = ["91310000MA1FL5XQ3K", "91440300MA5DA1XK7T"];
    let signers = [TestSigner::new(21), TestSigner::new(22)];
    let mut file = document().to_string().into_bytes();
    for (party, signer) in parties.iter().zip(&signers) {
        file = sign(&file, party, signer).unwrap();
    }
    let whole: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(whole["schema"], json!(CONTRACT_SCHEMA));
    let keys = parties.map(str::to_owned).into_iter().zip(signers.iter().map(Signer::public_key));
    let keys = TrustedKeys::new(keys.collect()).unwrap();
    let contract = Contract::parse(&file, &keys).unwrap();
    assert_eq!(contract.digest(), read(&document()).digest());
    // A changed document has another digest, and its signatures no longer fit.
    let mut changed = whole.clone();
    changed["contract"]["contractName"] = json!("other");
    let error = Contract::parse(changed.to_string().as_bytes(), &keys).unwrap_err();
    assert!(matches!(error.faults[0].problem, Problem::Forged { .. }), "{error}");
    // Both must sign, also where files of the first release need one only.
    let mut single = whole;
    single["signatures"].as_array_mut().unwrap().pop();
    let keys = keys.accepting_single(true);
    assert!(Contract::parse(single.to_string().as_bytes(), &keys).is_err());
}

/// Every word of table C.5 comes back as itself, from permissions, prohibitions or obligations.
#[test]
fn actions_map_back_to_themselves() {
    const DUTIES: [(&str, &str); 5] = [
        (
            "transform",
            r#"{"action": "sample", "refinement":
            [{"leftOperand": "oneOf", "operator": "eq", "rightOperand": 10}]}"#,
        ),
        (
            "anonymize",
            r#"{"action": "aggregate", "refinement": [
            {"leftOperand": "window", "operator": "eq", "rightOperand": "PT1M"},
            {"leftOperand": "statistic", "operator": "eq", "rightOperand": "mean"}]}"#,
        ),
        ("desensitize", r#"{"action": "mask"}"#),
        (
            "delete",
            r#"{"action": "delete", "refinement":
            [{"leftOperand": "after", "operator": "eq", "rightOperand": "P30D"}]}"#,
        ),
        (
            "alert",
            r#"{"action": "notify", "refinement": [
            {"leftOperand": "target", "operator": "eq", "rightOperand": "ops"},
            {"leftOperand": "on", "operator": "eq", "rightOperand": "deny"}]}"#,
        ),
    ];
    assert_eq!(super::action_words().count(), 20);
    for (word, meaning) in ACTIONS {
        // Beside an action, for duties and forms alone permit nothing.
        let beside = if word == "delivery" { "read" } else { "delivery" };
        let mut policy = with(policy(), "actions", json!([beside, word]));
        if let Some((_, duty)) = DUTIES.iter().find(|(of, _)| *of == word) {
            let duty: Value = serde_json::from_str(duty).unwrap();
            policy["policyExpansion"] = json!({"urn:guankou:odrl:1": {"duty": [duty]}});
            let bare = with(policy.clone(), "policyExpansion", Value::Null);
            refused(&permitted(bare), &["/contractPolicies/permissionPolicies/0/actions/1"]);
        }
        let written = read(&permitted(policy)).to_tds().unwrap();
        let actions = &written["contractPolicies"]["permissionPolicies"][0]["actions"];
        let actions = actions.as_array().unwrap();
        assert!(actions.contains(&json!(word)), "{word}: {actions:?}");
        assert_eq!(actions.len(), 2, "{word}: {actions:?}");

        let forbidden =
            with(with(self::policy(), "actions", json!([word])), "constraints", json!([]));
        let forbidden =
            with(document(), "contractPolicies", json!({"prohibitionPolicies": [forbidden]}));
        match meaning.forbidden() {
            None => refused(
                &forbidden,
                &[
                    "/contractPolicies/prohibitionPolicies/0/actions/0",
                    "/contractPolicies/prohibitionPolicies/0/actions",
                ],
            ),
            Some(action) => {
                let contract = read(&forbidden);
                assert_eq!(contract.rules()[0].actions.iter().collect::<Vec<_>>(), [action]);
                let written = contract.to_tds().unwrap();
                let rule = &written["contractPolicies"]["prohibitionPolicies"][0];
                assert_eq!(rule["actions"], json!([word]));
            }
        }
    }
}

/// Actions of ours come back, too, whichever form says them.
#[test]
fn actions_of_ours_map_back_to_themselves() {
    for action in Action::all() {
        let own = json!({"expansionItem": {"urn:guankou:odrl:1": [action.name()]}});
        for list in ["permissionPolicies", "prohibitionPolicies"] {
            let policy = with(policy(), "actions", json!([own]));
            let object = with(document(), "contractPolicies", json!({list: [policy]}));
            let contract = read(&object);
            let found = |contract: &Contract| -> Vec<Action> {
                contract.rules()[0].actions.iter().collect()
            };
            assert_eq!(found(&contract), [action]);
            assert_eq!(found(&read(&contract.to_tds().unwrap())), [action]);
            assert_eq!(found(&read(&contract.to_odrl().unwrap())), [action]);
        }
    }
}

/// Operators that a name of table C.6 takes, and a value.
fn usual(name: Name) -> (&'static [Operator], Value) {
    use Operator::{Eq, Gt, Gteq, IsAnyOf, IsNoneOf, IsPartOf, Lt, Lteq, Neq};
    const COMPARE: &[Operator] = &[Eq, Gt, Gteq, Lt, Lteq, Neq];
    match name {
        Name::Time => (COMPARE, json!("2027-01-01T00:00:00Z")),
        Name::TimeWindow => (&[IsPartOf, IsNoneOf], json!("08:00/18:00")),
        Name::Frequency => (&[Lteq], json!("100 \u{6b21}/\u{5206}\u{949f}")),
        Name::Amount(_) => (COMPARE, json!(10_000)),
        Name::Same(crate::constraint::Operand::Point) => {
            (&[IsAnyOf, IsNoneOf, IsPartOf], json!(["A.x"]))
        }
        Name::Same(crate::constraint::Operand::Value) => (COMPARE, json!("40.5")),
        Name::Same(_) => (&[IsAnyOf, IsNoneOf], json!(["02"])),
        Name::Foreign(_) => {
            const ALL: &[Operator] = &[
                Eq,
                Gt,
                Gteq,
                Operator::HasPart,
                Operator::IsA,
                Operator::IsAllOf,
                IsAnyOf,
                IsNoneOf,
                IsPartOf,
                Lt,
                Lteq,
                Neq,
            ];
            (ALL, json!("02"))
        }
        Name::Extension => (
            &[Eq],
            json!({"urn:guankou:odrl:1": {
            "leftOperand": "age", "operator": "lteq", "rightOperand": "PT1M"}}),
        ),
        Name::Region => (&[], Value::Null),
    }
}

/// Every name of table C.6 comes back as itself with every operator that it takes, by code and name.
#[test]
fn constraints_map_back_to_themselves() {
    assert_eq!(super::constraint_words().count(), 18);
    for (name, meaning) in CONSTRAINTS {
        let (operators, value) = usual(meaning);
        for operator in operators {
            let by = |spelled: &str| {
                let read_only = with(policy(), "actions", json!(["read"]));
                let one = constraint(name, spelled, value.clone());
                zoned(permitted(with(read_only, "constraints", json!([one]))))
            };
            same(&by(&operator.code()), &by(operator.name()));
            let written = read(&by(&operator.code())).to_tds().unwrap();
            let one = &written["contractPolicies"]["permissionPolicies"][0]["constraints"][0];
            let expect = if name == "dateRecord" { "count" } else { name };
            assert_eq!(one["constraintName"], json!(expect), "{one}");
            assert_eq!(one["constraintOperator"], json!(operator.code()), "{name}: {one}");
            assert_eq!(one["constraintValue"], value, "{name}");
        }
    }
}

/// Each line of the table of spellings: what it says is read, and read as the same.
#[test]
fn both_spellings_are_read() {
    for row in super::MEMBERS.iter().filter(|row| !row.also.is_empty()) {
        let mut whole = zoned(document());
        whole["createTime"] = json!("20261124080000");
        whole["signTime"] = json!("2026-11-24T00:00:00Z");
        let policy = &mut whole["contractPolicies"]["permissionPolicies"][0];
        policy["policyExpansion"] = json!({"urn:guankou:odrl:1": {"uid": "one"}});
        let nodes = policy["executionNodeInfo"].as_object_mut().unwrap();
        nodes.insert("providerNodeName".to_owned(), json!("A"));
        nodes.insert("consumerNodeName".to_owned(), json!("B"));
        for other in row.also {
            let renamed = rename(&whole, row.written, other);
            assert_ne!(renamed, whole, "{} stands nowhere", row.written);
            same(&whole, &renamed);
            let both = duplicate(&whole, row.written, other);
            let error = Contract::draft(both.to_string().as_bytes()).unwrap_err();
            let is_two = |problem: &Problem| matches!(problem, Problem::TwoSpellings { .. });
            assert!(error.faults.iter().all(|fault| is_two(&fault.problem)), "{error}");
        }
    }
}

fn rename(value: &Value, from: &str, to: &str) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let key = if key == from { to } else { key };
                (key.to_owned(), rename(value, from, to))
            })
            .collect(),
        Value::Array(values) => values.iter().map(|value| rename(value, from, to)).collect(),
        other => other.clone(),
    }
}

fn duplicate(value: &Value, from: &str, to: &str) -> Value {
    match value {
        Value::Object(members) => {
            let mut out = serde_json::Map::new();
            for (key, value) in members {
                out.insert(key.clone(), duplicate(value, from, to));
                if key == from {
                    out.insert(to.to_owned(), value.clone());
                }
            }
            Value::Object(out)
        }
        Value::Array(values) => values.iter().map(|value| duplicate(value, from, to)).collect(),
        other => other.clone(),
    }
}

#[test]
fn values_are_read_in_both_writings() {
    let check = |one: Value, other: Value| {
        same(&zoned(constrained(json!([one]))), &zoned(constrained(other)));
    };
    let count = |value: Value| constraint("count", "11", value);
    check(
        count(json!("10000 \u{6b21}/\u{5929}")),
        json!([count(json!(10_000)), constraint("timeWindow", "eq", json!("P1D")),]),
    );
    check(count(json!("1000 \u{6b21}")), json!([count(json!("1000"))]));
    check(count(json!(5)), json!([constraint("dataRecord", "lteq", json!("5"))]));
    check(
        constraint("dataSize", "11", json!("10G")),
        json!([constraint("dataSize", "lteq", json!(10_000_000_000_u64)),]),
    );
    check(
        constraint("dataField", "07", json!(["A.x", "A.z"])),
        json!([constraint("dataField", "isA", json!("[A.x, A.z]")),]),
    );
    check(
        constraint("deliveryMethod", "01", json!("02")),
        json!([constraint("deliveryMethod", "eq", json!("02\u{ff1a}\u{6570}\u{636e}\u{6d41}")),]),
    );
    check(
        constraint("time", "10", json!("20270101080000")),
        json!([constraint("time", "lt", json!("2027-01-01T00:00:00Z")),]),
    );
    // An interval of annex D.
    check(
        constraint("timeWindow", "isA", json!("2027-01-01 08:00:00\n--\n2027-02-01 08:00:00")),
        json!([constraint("time", "09", json!("2027-01-01T00:00:00Z/2027-02-01T00:00:00Z"))]),
    );
    // Extensions as texts, as the interfaces type them.
    let folded =
        with(policy(), "policyExpansion", json!("{\"urn:guankou:odrl:1\":{\"uid\":\"a\"}}"));
    let plain = with(policy(), "policyExpansion", json!({"urn:guankou:odrl:1": {"uid": "a"}}));
    same(&permitted(folded.clone()), &permitted(plain.clone()));
    let policies = json!({"permissionPolicies": [folded]}).to_string();
    same(&with(document(), "strategy", json!(policies)).without_policies(), &permitted(plain));
}

trait WithoutPolicies {
    fn without_policies(self) -> Value;
}

impl WithoutPolicies for Value {
    fn without_policies(mut self) -> Value {
        self.as_object_mut().unwrap().remove("contractPolicies");
        self
    }
}

#[test]
fn local_times_need_a_zone() {
    let local = with(document(), "endTime", json!("20271201000000"));
    refused(&local, &["/endTime"]);
    assert!(Contract::draft(zoned(local.clone()).to_string().as_bytes()).is_ok());
    let window = constrained(json!([constraint("timeWindow", "09", json!("08:00/18:00"))]));
    let at = "/contractPolicies/permissionPolicies/0/constraints/0/constraintValue";
    refused(&window, &[at]);
    let error = Contract::draft(window.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error.faults[0].problem, Problem::NoZone { .. }), "{error}");
    let rule = read(&zoned(window)).rules()[0].clone();
    let Test::Window { window, .. } = &rule.constraint.leaves()[0].test else { panic!("{rule:?}") };
    assert_eq!(window.zone_name(), "Asia/Shanghai");
}

#[test]
fn regions_are_refused_by_their_code() {
    let object = constrained(json!([constraint("region", "09", json!("310000"))]));
    let error = Contract::draft(object.to_string().as_bytes()).unwrap_err();
    let code = "310000".to_owned();
    assert_eq!(error.faults[0].problem, Problem::RegionCode { code });
    // An area is a term of ours and has its place in our extension.
    let area = json!({"type": "circle", "latitude": 31, "longitude": 121, "radius_m": 5});
    let at = "/contractPolicies/permissionPolicies/0/constraints/0/constraintValue";
    refused(&constrained(json!([constraint("region", "09", area)])), &[at]);
}

/// What only the consumer's node can answer must not stand in a rule for the box.
#[test]
fn foreign_constraints_concern_another_node() {
    let at = |list: &str| format!("/contractPolicies/{list}/0/constraints/0");
    for (name, meaning) in CONSTRAINTS {
        let Name::Foreign(foreign) = meaning else { continue };
        let policy = with(policy(), "constraints", json!([constraint(name, "05", json!("02"))]));
        let with_actions = |list: &str, words: &[&str]| {
            let policy = with(policy.clone(), "actions", json!(words));
            with(document(), "contractPolicies", json!({list: [policy]}))
        };
        refused(
            &with_actions("permissionPolicies", &["delivery", "read"]),
            &[&at("permissionPolicies")],
        );
        refused(&with_actions("prohibitionPolicies", &["storage"]), &[&at("prohibitionPolicies")]);
        let contract = read(&with_actions("permissionPolicies", &["read", "compute"]));
        let test = &contract.rules()[0].constraint.leaves()[0].test;
        assert!(matches!(test, Test::Elsewhere { operand, .. } if *operand == foreign), "{test:?}");
    }
}

#[test]
fn unknown_terms_refuse_the_contract() {
    let rule = "/contractPolicies/permissionPolicies/0";
    let within = |tail: &str| format!("{rule}{tail}");
    refused(&with(document(), "nonsense", json!(1)), &["/nonsense"]);
    refused(&with(document(), "signature", json!("x")), &["/signature"]);
    refused(&with(document(), "contractId", json!("")), &["/contractId"]);
    refused(&with(document(), "contractId", json!("X")), &["/contractId"]);
    refused(&with(document(), "signMode", json!("03")), &["/signMode"]);
    refused(
        &with(document(), "expansionItem", json!({"vendor": 1})),
        &["/expansionItem/vendor", "/expansionItem/urn:guankou:odrl:1"],
    );
    let words = |words: Value| permitted(with(policy(), "actions", words));
    refused(&words(json!(["deliver"])), &[&within("/actions/0"), &within("/actions")]);
    refused(&words(json!(["delivery", "delivery"])), &[&within("/actions/1")]);
    refused(&words(json!([])), &[&within("/actions")]);
    let one = |name: &str, operator: &str, value: Value| {
        constrained(json!([constraint(name, operator, value)]))
    };
    let at = |tail: &str| within(&format!("/constraints/0{tail}"));
    refused(&one("weather", "01", json!("x")), &[&at("/constraintName")]);
    refused(&one("logRecordSend", "01", json!("x")), &[&at("/constraintName")]);
    refused(&one("count", "13", json!(1)), &[&at("/constraintOperator")]);
    refused(&one("count", "11", json!("5 times")), &[&at("/constraintValue")]);
    refused(&one("count", "11", json!(0)), &[&at("/constraintValue")]);
    refused(&one("frequency", "11", json!(5)), &[&at("/constraintValue")]);
    refused(&one("frequency", "10", json!("5 \u{6b21}/\u{5929}")), &[&at("/constraintOperator")]);
    refused(&one("timeWindow", "11", json!("P365D")), &[&at("/constraintValue")]);
    refused(&one("timeWindow", "01", json!("P1D")), &[&at("/constraintValue")]);
    refused(&one("deliveryMethod", "01", json!("05")), &[&at("/constraintValue")]);
    // Broken JSON in a text has its place, too.
    let folded = with(policy(), "policyExpansion", json!("{\"urn:guankou:odrl:1\":{\"uid\":1.5}}"));
    refused(&permitted(folded), &[&within("/policyExpansion/urn:guankou:odrl:1/uid")]);
    // All at once.
    let many = with(with(document(), "signMode", json!("9")), "contractStatus", json!("04"));
    refused(&with(many, "endTime", json!("x")), &["/contractStatus", "/endTime", "/signMode"]);
}

#[test]
fn states() {
    for (code, status, ..) in super::Status::TABLE {
        let object = with(document(), "contractStatus", json!(code));
        assert_eq!(Contract::draft(object.to_string().as_bytes()).is_ok(), status.can_grant());
        assert_eq!(super::Status::from_code(code), Some(status));
        assert_eq!(status.code(), code);
    }
    for code in ["0302", "06", "04", "1", "0303", ""] {
        refused(&with(document(), "contractStatus", json!(code)), &["/contractStatus"]);
    }
}

#[test]
fn exactly_two_parties() {
    let party = |kind: &str| json!({"signatoryEntityId": "p", "signatorytype": kind});
    let with_parties = |list: Value| with(document(), "signatoryEntities", list);
    refused(&with_parties(json!([party("01")])), &["/signatoryEntities"]);
    refused(
        &with_parties(json!([party("01"), party("02"), party("02")])),
        &["/signatoryEntities/2"],
    );
    refused(
        &with_parties(json!([party("01"), party("02"), party("03")])),
        &["/signatoryEntities/2/signatorytype"],
    );
}

/// A policy about some of the data products is about no others.
#[test]
fn policies_of_their_own_subjects() {
    let other = with(
        with(policy(), "subjectInfo", json!({"dataProductId": "truck-position"})),
        "constraints",
        json!([]),
    );
    let object =
        with(document(), "contractPolicies", json!({"permissionPolicies": [policy(), other]}));
    let contract = read(&object);
    assert_eq!(contract.datasets().len(), 2);
    let texts: Vec<Vec<String>> = contract
        .rules()
        .iter()
        .map(|rule| rule.constraint.leaves().iter().map(|leaf| leaf.text.to_string()).collect())
        .collect();
    assert_eq!(texts[0], ["dataset isAnyOf [cold-chain]", "dataField isAnyOf [A.x,A.z]"]);
    assert_eq!(texts[1], ["dataset isAnyOf [truck-position]"]);
    assert!(read(&contract.to_tds().unwrap()).means_same(&contract));
    // Of what is owed no part can be left out.
    let obligation =
        with(with(policy(), "constraints", json!([])), "actions", json!(["compensate"]));
    let object = with(
        document(),
        "contractPolicies",
        json!({
            "permissionPolicies": [object["contractPolicies"]["permissionPolicies"][1]],
            "obligationPolicies": [obligation],
        }),
    );
    refused(&object, &["/contractPolicies/obligationPolicies/0/subjectInfo"]);
}

#[test]
fn a_strategy_must_say_whether_it_permits() {
    let bare = with(document(), "contractPolicies", policy());
    let error = Contract::draft(bare.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.faults[0].problem, Problem::UnknownKey, "{error}");
}

/// Contracts to draw; 10^5 took 74 s in a release build.
const DRAWN: u64 = 4000;

/// Losing nothing: whatever contract of ours there is, the document's form of it means the same, and
/// so does what comes back.
#[test]
fn contracts_survive_both_changes_of_form() {
    let (mut accepted, mut deep) = (0, 0);
    for seed in 0..DRAWN {
        let object = draw::Draw(seed).contract();
        let Ok(contract) = Contract::draft(object.to_string().as_bytes()) else { continue };
        accepted += 1;
        let written = contract.to_tds().unwrap_or_else(|error| panic!("{object:#}: {error}"));
        let there = read(&written);
        assert_eq!(there.form(), WireForm::Tds);
        assert!(there.means_same(&contract), "{object:#}\n{written:#}");
        let back = there.to_odrl().unwrap();
        assert!(read(&back).means_same(&contract), "{object:#}\n{back:#}");
        // One writing each: what was written once is written again.
        assert_eq!(read(&back).to_tds().unwrap(), written, "seed {seed}");
        let text = written.to_string();
        let of_ours = text.contains("\"constraintName\":\"expansionItem\"");
        deep += usize::from(of_ours && text.contains("\"constraintName\":\"dataField\""));
    }
    println!("{accepted} of {DRAWN} contracts accepted, {deep} with tests in words of both");
    assert!(accepted > 1000 && deep > 100, "only {accepted} contracts, {deep} with both");
}

/// Every kind of test, treatment and duty takes part in that.
#[test]
fn the_drawn_contracts_have_every_term() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..DRAWN {
        let object = draw::Draw(seed).contract();
        let Ok(contract) = Contract::draft(object.to_string().as_bytes()) else { continue };
        for rule in contract.rules() {
            let tests = rule.constraint.leaves().into_iter();
            seen.extend(tests.map(|leaf| crate::constraint::write_test(&leaf.test).left));
            seen.extend(rule.treatments.iter().map(|one| one.transform.name()));
            seen.extend(rule.duties.iter().map(crate::duty::Duty::name));
        }
    }
    let operands = crate::constraint::operand_names();
    let foreign = crate::constraint::Foreign::all().map(crate::constraint::Foreign::name);
    let duties = crate::vocabulary::DUTIES.iter().map(|duty| duty.name);
    let missing: Vec<&str> =
        operands.chain(foreign).chain(duties).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "never accepted: {missing:?}");
}

/// Contracts of the first release have a form of the document, too.
#[test]
fn the_first_form_converts() {
    let first = include_str!("../../../tests/golden/contract-v1.json");
    let contract = Contract::draft(first.as_bytes()).unwrap();
    assert!(read(&contract.to_tds().unwrap()).means_same(&contract));
    assert!(read(&contract.to_odrl().unwrap()).means_same(&contract));
}

/// A contract that is too long in its other form is refused, not cut.
#[test]
fn what_does_not_fit_is_refused() {
    let words = |count: usize| {
        let price = "x".repeat(count);
        let object = with(crate::contract::odrl::tests::agreement(), "price", json!(price));
        Contract::draft(object.to_string().as_bytes()).unwrap()
    };
    assert!(words(200_000).to_tds().is_ok());
    let error = words(260_000).to_tds().unwrap_err();
    assert!(matches!(error.faults[0].problem, Problem::TooLong { .. }), "{error}");
}

/// Conditions as deep as a file of our profile had before are not too deep for the document's.
#[test]
fn deep_conditions_fit() {
    let nested = |depth: usize| {
        let corner = json!({"type": "polygon", "vertices": [[31, 121], [31, 122], [32, 121]]});
        let test =
            json!({"leftOperand": "spatial", "operator": "isPartOf", "rightOperand": corner});
        let tree = (0..depth).fold(test, |inner, _| json!({"or": [inner]}));
        let rule = json!([{"action": "deliver", "constraint": [tree]}]);
        let object = with(crate::contract::odrl::tests::agreement(), "permission", rule);
        Contract::draft(object.to_string().as_bytes()).unwrap()
    };
    assert!(nested(3).to_tds().is_ok());
    let error = nested(6).to_tds().unwrap_err();
    let is_deep = |problem: &Problem| matches!(problem, Problem::TooDeep { .. });
    assert!(error.faults.iter().any(|fault| is_deep(&fault.problem)), "{error}");
}

/// The words of a form or a duty never become rights.
#[test]
fn words_of_duties_grant_nothing() {
    for (word, meaning) in ACTIONS {
        if matches!(meaning, Word::Act(_)) {
            continue;
        }
        let policy = with(policy(), "actions", json!([word]));
        let error = Contract::draft(permitted(policy).to_string().as_bytes()).unwrap_err();
        let at = "/contractPolicies/permissionPolicies/0/actions";
        assert!(error.faults.iter().any(|fault| fault.pointer == at), "{word}: {error}");
    }
}
