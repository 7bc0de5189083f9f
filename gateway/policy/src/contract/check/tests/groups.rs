//! Aggregates that several points share: what refuses a contract, and where.

use super::*;

fn duty(action: &str, parameters: &Value) -> Value {
    let parameters = parameters.as_object().unwrap().iter();
    let refinement: Vec<Value> =
        parameters.map(|(name, value)| test(name, "eq", value.clone())).collect();
    json!({"action": action, "refinement": refinement})
}

/// The mean of a minute of `A.*` on `Fleet`, with parameters changed; `null` leaves one out.
fn group(changes: &Value) -> Value {
    let mut all = json!({
        "dataField": ["A.*"], "window": "PT1M", "statistic": "mean", "into": "Fleet",
        "minContributors": 3,
    });
    let members = all.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value.is_null() {
            true => drop(members.remove(name)),
            false => drop(members.insert(name.clone(), value.clone())),
        }
    }
    duty("aggregate", &all)
}

fn with(duties: &[Value]) -> Value {
    let mut object = contract(json!([]), Value::Null);
    object["permission"][0]["duty"] = json!(duties);
    object
}

/// The place of a parameter of the first duty: they stand in the order of their names.
fn at(place: usize) -> String {
    format!("/permission/0/duty/0/refinement/{place}/rightOperand")
}

#[test]
fn parameters_of_groups() {
    let one = |changes: Value, expect: &[(&str, &str)]| check(&with(&[group(&changes)]), expect);
    one(json!({}), &[]);
    one(json!({"minContributors": null}), &[]);
    one(json!({"minContributors": 1024, "minReadings": 9}), &[]);
    one(json!({"minContributors": 1}), &[(&at(2), "not a number from 2 to 1024")]);
    one(json!({"minContributors": 0}), &[(&at(2), "not a number from 2 to 1024")]);
    one(json!({"minContributors": 1025}), &[(&at(2), "not a number from 2 to 1024")]);
    one(json!({"minContributors": -3}), &[(&at(2), "")]);
    one(json!({"minContributors": "many"}), &[(&at(2), "")]);
    one(json!({"into": null}), &[(&at(1), "needs into")]);
    one(json!({"into": "A.x"}), &[(&at(1), "the duty itself covers")]);
    one(json!({"dataField": null}), &[(&at(0), "the duty itself covers")]);
    one(json!({"dataField": ["B", "Fleet"]}), &[(&at(1), "the duty itself covers")]);
    one(json!({"into": "Fleet.*"}), &[(&at(1), "")]);
    one(json!({"into": ""}), &[(&at(1), "")]);
    one(json!({"into": 5}), &[(&at(1), "not a text")]);
}

#[test]
fn what_else_is_done_to_a_group_is_done_to_all_of_it() {
    let more = |other: Value, expect: &[(&str, &str)]| {
        let expect: Vec<_> = expect.iter().map(|text| ("/permission/0/duty/1", text.1)).collect();
        check(&with(&[group(&json!({})), other]), &expect);
    };
    let round = |points: Value| duty("round", &json!({"dataField": points, "step": 1}));
    const IN_PART: &[(&str, &str)] = &[("", "is about some of what is aggregated into \"Fleet\"")];
    more(round(json!("*")), &[]);
    more(round(json!("A.*")), &[]);
    more(round(json!("B.*")), &[]);
    more(round(json!("A.x")), IN_PART);
    more(round(json!("Fleet")), IN_PART);
    more(round(json!(["Fleet", "B.x"])), IN_PART);
    more(round(json!(["Fleet", "A.*"])), &[]);
    // Before the window each point may be treated in its own way.
    let clamp = |points: Value| duty("clamp", &json!({"dataField": points, "low": 0, "high": 9}));
    more(clamp(json!("A.x")), &[]);
    more(clamp(json!("Fleet")), IN_PART);
    more(duty("drop", &json!({"dataField": "A.x"})), &[]);
    more(duty("mask", &json!({"dataField": "Fleet"})), IN_PART);
    more(duty("delay", &json!({"dataField": "A.x", "span": "PT1H"})), IN_PART);
    more(group(&json!({"dataField": ["B.*"]})), &[("", "another aggregate of the rule")]);
    more(group(&json!({"dataField": ["B.*"], "into": "Other"})), &[]);
}

/// Nothing bounds how many readings one point gives, and two ranges are wider than each.
#[test]
fn noise_on_groups_has_one_bound() {
    let noise = || {
        let laplace = json!({"mechanism": "laplace", "epsilon": "0.5", "budget": 1});
        let mut all = laplace;
        all["dataField"] = json!("A.*");
        duty("noise", &all)
    };
    let clamp = |points: &str| duty("clamp", &json!({"dataField": points, "low": 0, "high": 9}));
    let points = json!({"dataField": ["A.x", "A.y"]});
    check(&with(&[group(&json!({})), noise()]), &[("/permission/0/duty/1", "no clamp")]);
    check(&with(&[group(&json!({})), noise(), clamp("A.*")]), &[]);
    let count = group(&json!({"statistic": "count"}));
    let of_count = &[("/permission/0/duty/1", "the count of a group")];
    check(&with(&[count.clone(), noise(), clamp("A.*")]), of_count);
    check(&with(&[count, noise()]), of_count);
    let both = |one: &str| {
        let mut noise = noise();
        let names = noise["refinement"].as_array_mut().unwrap();
        names.iter_mut().find(|one| one["leftOperand"] == "dataField").unwrap()["rightOperand"] =
            json!(["A.x", "A.y"]);
        with(&[group(&points), noise, clamp("A.x"), clamp(one)])
    };
    check(&both("A.y"), &[("/permission/0/duty/1", "noise on \"A.x\" has no clamp")]);
}
