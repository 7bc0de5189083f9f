//! Contracts over the link: they come, are suspended, end, and what they say holds over kill -9.

use super::rig::{Rig, mosquitto_pub, wait_for, wait_for_at_most};
use super::{DATASET, TOPIC, payload};
use serde_json::{Value, json};

/// Between the owner of the data and one consumer, about the temperatures of the machine.
pub(crate) fn agreement(id: &str, version: u64, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "@type": "Agreement", "@id": format!("urn:contract:{id}"),
        "profile": "urn:guankou:odrl:1", "version": version, "conflict": "prohibit",
        "assigner": "depot-7", "assignee": "insurer-1", "target": [DATASET],
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2036-01-01T00:00:00Z"},
        "permission": [{"uid": "may", "action": "deliver"}],
    });
    change(&mut object);
    object
}

/// A box without contracts of its own. `None` when there is no publisher.
fn start() -> Option<Rig> {
    let rig = Rig::without_contracts();
    rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
    let mut rig = rig;
    rig.start_space();
    rig.start_guan();
    if std::process::Command::new("mosquitto_pub").arg("--help").output().is_err() {
        println!("SKIP: mosquitto_pub is not installed");
        return None;
    }
    Some(rig)
}

fn publish(rig: &Rig, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert!(mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]));
    }
}

fn wait_for_contract(rig: &Rig, name: &str) {
    wait_for(name, || rig.status()["contracts"].to_string().contains(name));
}

fn change(rig: &Rig, how: &str, contract: &str) {
    rig.stage.space_json(&["contract", how, "--box", "demo-box", contract]).unwrap();
}

fn leaves(rig: &Rig) -> String {
    rig.stage.guan_json(&["log", "show", "--last", "200"]).unwrap().to_string()
}

fn queued(rig: &Rig) -> u64 {
    rig.status()["queued_batches"].as_u64().unwrap_or(u64::MAX)
}

#[test]
fn contracts_come_are_suspended_and_revoked_over_the_link() {
    let Some(rig) = start() else { return };
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..2);
    rig.wait_for_rows(DATASET, 2);

    change(&rig, "suspend", "C-1");
    wait_for_contract(&rig, "suspended");
    publish(&rig, 2..5);
    wait_for("what waits", || rig.status()["waiting"].to_string().contains("is suspended"));
    assert!(queued(&rig) > 0);
    rig.wait_for_rows(DATASET, 2);
    change(&rig, "resume", "C-1");
    rig.wait_for_rows(DATASET, 5);

    // What waits when it is revoked is shredded, its key with it, and the log says so.
    change(&rig, "suspend", "C-1");
    wait_for_contract(&rig, "suspended");
    publish(&rig, 5..8);
    let keys = rig.stage.folder.join("box/state/keys");
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 1);
    change(&rig, "revoke", "C-1");
    wait_for("the end of the key", || std::fs::read_dir(&keys).unwrap().count() == 0);
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.wait_for_rows(DATASET, 5);
    publish(&rig, 8..9);
    let leaves = leaves(&rig);
    for said in ["accepted", "suspended", "resumed", "revoked", "shredded", "destroyed"] {
        assert!(leaves.contains(said), "{said} is not in {leaves}");
    }
    rig.check_log();
    rig.wait_for_rows(DATASET, 5);
    // Log, box and space agree on what is to be paid for.
    let says = rig.stage.folder.join("meter.json");
    let meter = rig.stage.guan_json(&["meter"]).unwrap();
    std::fs::write(&says, meter.to_string()).unwrap();
    let said = rig.stage.space_json(&["meter", "--box", &says.display().to_string()]).unwrap();
    let one = &said["contracts"][0];
    assert_eq!(said["agrees"], true, "{said}");
    assert_eq!((&one["kept"]["rows"], &one["given_up"]["rows"]), (&json!(8), &json!(3)));
}

#[test]
fn a_revocation_comes_before_the_first_byte_after_an_offline_period() {
    let Some(mut rig) = start() else { return };
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..1);
    rig.wait_for_rows(DATASET, 1);
    rig.stop_space();
    publish(&rig, 1..4);
    wait_for("the queue", || queued(&rig) > 0);
    change(&rig, "revoke", "C-1");
    rig.start_space();
    wait_for("an empty queue", || queued(&rig) == 0);
    rig.wait_for_rows(DATASET, 1);
    assert!(leaves(&rig).contains("shredded"));
}

#[test]
fn quotas_are_exact_over_kill() {
    let Some(mut rig) = start() else { return };
    let limited = agreement("C-1", 1, |object| {
        object["permission"][0]["constraint"] =
            json!([{"leftOperand": "count", "operator": "lteq", "rightOperand": 10}]);
        let told = |name: &str, value: &str| json!({"leftOperand": name, "operator": "eq", "rightOperand": value});
        object["obligation"] = json!([{"action": "notify", "refinement":
            [told("target", "ops@example.org"), told("on", "quota")]}]);
    });
    rig.stage.issue(&limited, &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..4);
    rig.kill_and_restart_guan();
    publish(&rig, 4..7);
    rig.kill_and_restart_guan();
    publish(&rig, 7..14);
    rig.wait_for_rows(DATASET, 10);
    wait_for("the refusals", || {
        rig.status()["datasets"][DATASET]["rows_refused"].as_u64() == Some(4)
    });
    // Whom the contract wants told reads it in the status of box and space.
    wait_for("the notice", || {
        let status = rig.stage.space_json(&["status"]).unwrap_or_default();
        status["boxes"].to_string().contains("for ops@example.org, contract C-1")
    });
    // A new version does not begin to count anew.
    let more = agreement("C-1", 2, |object| {
        object["permission"][0]["constraint"] =
            json!([{"leftOperand": "count", "operator": "lteq", "rightOperand": 12}]);
    });
    rig.stage.issue(&more, &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v2");
    publish(&rig, 14..20);
    rig.wait_for_rows(DATASET, 12);
    rig.check_log();
}

/// The consumer's store carries out what the contract asks after sending, and says so.
#[test]
fn the_space_deletes_what_a_contract_wants_deleted() {
    let Some(rig) = start() else { return };
    let short = agreement("C-1", 1, |object| {
        object["permission"][0]["duty"] = json!([{"action": "delete", "refinement":
            {"leftOperand": "after", "operator": "eq", "rightOperand": "PT62S"}}]);
    });
    let lasting = agreement("C-2", 1, |_| {});
    rig.stage.issue(&short, &["depot-7", "insurer-1"]).unwrap();
    rig.stage.issue(&lasting, &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    wait_for_contract(&rig, "C-2 v1");
    publish(&rig, 0..2);
    // A copy for each of the two contracts.
    rig.wait_for_rows(DATASET, 4);
    let deleted = rig.stage.folder.join("space/state/deleted.jsonl");
    let is_deleted = || std::fs::read_to_string(&deleted).unwrap_or_default().contains("C-1");
    // Its minute began up to a minute ago.
    wait_for_at_most(100, is_deleted);
    assert!(is_deleted());
    let folder = rig.stage.folder.join("left").display().to_string();
    let said = rig.stage.space_json(&["export", "--by-contract", "--out", &folder]).unwrap();
    assert_eq!(said["rows_deleted"], 2, "{said}");
    assert_eq!(said["files"].as_array().unwrap().len(), 1);
    assert_eq!(said["files"][0]["contract"], "C-2");
}

#[test]
fn old_foreign_and_half_signed_contracts_do_not_count() {
    let Some(mut rig) = start() else { return };
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    let set = rig.stage.folder.join("space/state/contracts/demo-box/set.json");
    let old = std::fs::read(&set).unwrap();
    change(&rig, "suspend", "C-1");
    wait_for_contract(&rig, "suspended");
    // The set of before, played again: the box keeps what it knows, even after a restart.
    let alarms = |rig: &Rig| rig.status()["alarms"].to_string();
    std::fs::write(&set, &old).unwrap();
    wait_for("the alarm", || alarms(&rig).contains("epoch"));
    rig.kill_and_restart_guan();
    wait_for("the alarm again", || alarms(&rig).contains("epoch"));
    assert!(rig.status()["contracts"].to_string().contains("suspended"));
    rig.stage.space_json(&["contract", "renew", "--box", "demo-box"]).unwrap();
    wait_for_contract(&rig, "\"C-1 v1\"");
    // One signature of two.
    rig.stage.issue(&agreement("C-2", 1, |_| {}), &["depot-7"]).unwrap();
    wait_for("a refusal", || alarms(&rig).contains("insurer-1"));
    assert!(!rig.status()["contracts"].to_string().contains("C-2"));
}
