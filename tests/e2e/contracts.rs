//! Contracts over the link: they come, are suspended, end, and what they say holds over kill -9.

use super::forgetting::acted;
use super::rig::{Rig, mosquitto_pub, programs, wait_for, wait_for_at_most};
use super::{DATASET, TOPIC, payload};
use guan_identity::PartyKey;
use guan_model::{BoxId, WallTime};
use guan_policy::{Carrier, Roster};
use serde_json::{Value, json};
use std::io::Write as _;

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

/// The file of the keys names their contracts in the clear.
pub(crate) fn has_key(rig: &Rig, contract: &str) -> bool {
    let file = std::fs::read(rig.stage.folder.join("box/state/keys/contracts")).unwrap();
    file.windows(contract.len()).any(|bytes| bytes == contract.as_bytes())
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
    // The status comes each second: it must not say "suspended" of the first time below.
    wait_for("the resumption", || !rig.status()["contracts"].to_string().contains("suspended"));

    // What waits when it is revoked is shredded, its key with it, and the log says so.
    change(&rig, "suspend", "C-1");
    wait_for_contract(&rig, "suspended");
    publish(&rig, 5..8);
    assert!(has_key(&rig, "C-1"));
    change(&rig, "revoke", "C-1");
    wait_for("the end of the key", || !has_key(&rig, "C-1"));
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.wait_for_rows(DATASET, 5);
    publish(&rig, 8..9);
    let leaves = leaves(&rig);
    for said in ["accepted", "suspended", "resumed", "revoked", "shredded", "destroyed"] {
        assert!(leaves.contains(said), "{said} is not in {leaves}");
    }
    rig.check_log();
    rig.wait_for_rows(DATASET, 5);
    // The box, its log and the space agree on what is to be paid for.
    wait_for("the space's receipts", || {
        let says = rig.stage.guan_json(&["meter"]).unwrap();
        let own = &says["lines"][0];
        own["kept"]["rows"] == json!(8) && own["sent"]["rows"] == json!(5)
    });
    wait_for("the log's copy", || {
        let Ok(said) = rig.stage.space_json(&["meter", "--box", "demo-box"]) else { return false };
        let one = &said["boxes"]["demo-box"]["lines"][0];
        let rows = ["kept", "proven", "sent", "received"].map(|name| one[name]["rows"].clone());
        said["agrees"] == json!(true)
            && rows == [json!(8), json!(8), json!(5), json!(5)]
            && one["given_up"]["shredded"]["rows"] == json!(3)
    });
    check_destruction(&rig);
}

/// An outsider sees what was kept, what the space has, that the rest was shredded and its key destroyed.
fn check_destruction(rig: &Rig) {
    let bundle = rig.stage.folder.join("destruction.tar").display().to_string();
    let arguments = ["log", "export", "--contract", "C-1", "--cosigned", "--out", &bundle];
    wait_for("a cosigned head over all of it", || {
        let _ = std::fs::remove_file(&bundle);
        rig.stage.guan_json(&arguments).is_ok_and(|made| made["not_yet_signed"] == json!(0))
    });
    let verify = std::process::Command::new(programs().join("guan-verify"))
        .args([&bundle, "--json"])
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(said["holds"], json!(true), "{said}");
    let one = &said["contracts"]["C-1"];
    let rows = ["kept", "sent"].map(|name| one[name]["rows"].clone());
    assert_eq!(rows, [json!(8), json!(5)], "{one}");
    assert_eq!(one["given_up"]["shredded"]["rows"], json!(3), "{one}");
    assert!(one["destroyed_entry"].is_u64(), "{one}");
    // The spool in which the batches are numbered is told, too.
    let entries = said["entries"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry["kind"] == "start").count(), 1, "{said}");
}

/// Most messages of a flow: more than a box takes while a test looks.
const FLOW_MESSAGES: u32 = 200_000;

/// Messages come as fast as they are taken, until the publisher is killed: it holds those that are not taken
/// yet, and nobody waits for them.
fn flow(rig: &Rig) -> std::process::Child {
    let mut publisher = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &rig.port().to_string(), "-q", "1", "-t", TOPIC, "-l"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = publisher.stdin.take().unwrap();
    std::thread::spawn(move || {
        // It ends with the publisher.
        for number in 0..FLOW_MESSAGES {
            if writeln!(lines, "{}", payload(number)).is_err() {
                return;
            }
        }
    });
    publisher
}

/// While messages come, the plan changes between two batches: after the entry that says so nothing more is
/// kept, and what was kept and not sent is shredded.
#[test]
fn a_revocation_under_flow_stops_between_two_batches() {
    let Some(rig) = start() else { return };
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    let mut publisher = flow(&rig);
    let entries = |kind: &str| {
        let shown = rig.stage.guan_json(&["log", "show", "--last", "10000", "--kind", kind]);
        shown.unwrap()["entries"].as_array().unwrap().clone()
    };
    wait_for("the flow", || entries("batch").len() >= 20);
    change(&rig, "revoke", "C-1");
    wait_for("the end of the key", || !has_key(&rig, "C-1"));
    // The flow goes on, and is denied.
    let denied = || {
        let all = entries("decision.summary");
        let of = |one: &Value| one["entry"]["denied"]["no-contract"].as_u64().unwrap_or(0);
        all.iter().map(of).sum::<u64>()
    };
    let before = denied();
    wait_for("what comes later", || denied() > before);
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    wait_for("an empty spool", || queued(&rig) == 0);
    let seq = |one: &Value| one["seq"].as_u64().unwrap();
    let changes = entries("contract.change");
    let revoked = changes.iter().find(|one| one["entry"]["outcome"] == "revoked").map(seq).unwrap();
    let batches = entries("batch");
    assert!(batches.iter().all(|one| seq(one) < revoked), "a batch was kept after {revoked}");
    // Each batch is here or shredded, and none is both.
    wait_for("agreement", || {
        let Ok(said) = rig.stage.space_json(&["meter", "--box", "demo-box"]) else { return false };
        let lines = said["boxes"]["demo-box"]["lines"].as_array().unwrap().clone();
        let sum = |of: &dyn Fn(&Value) -> &Value| {
            lines.iter().map(|one| of(one).as_u64().unwrap_or(0)).sum::<u64>()
        };
        let [kept, received, shredded] = [
            sum(&|one| &one["kept"]["batches"]),
            sum(&|one| &one["received"]["batches"]),
            sum(&|one| &one["given_up"]["shredded"]["batches"]),
        ];
        kept == batches.len() as u64 && kept == received + shredded && said["agrees"] == json!(true)
    });
    rig.check_log();
}

/// What an operator gives up never leaves; log, meter and space say so, and what comes later goes its way.
#[test]
fn an_operator_gives_up_what_waits() {
    let Some(mut rig) = start() else { return };
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..2);
    rig.wait_for_rows(DATASET, 2);
    rig.stop_space();
    publish(&rig, 2..7);
    let spool = |arguments: &[&str]| rig.stage.guan_json(&[&["spool"], arguments].concat());
    let listed = spool(&["ls"]).unwrap();
    let line = &listed["streams"][0];
    assert_eq!((&line["contract"], &line["waiting"]), (&json!("C-1"), &json!(5)), "{listed}");
    for nothing in
        [&["drop", "--contract", "C-2"][..], &["drop", "--before", "2026-01-01T00:00:00Z"]]
    {
        let said = spool(nothing).unwrap_err().to_string();
        assert!(said.contains("nothing that waits is meant"), "{said}");
    }
    let shown = spool(&["drop", "--contract", "C-1"]).unwrap();
    assert_eq!(shown["dropped"], json!(false));
    assert_eq!(spool(&["status"]).unwrap()["batches"], json!(5), "it was only shown");
    let dropped = spool(&["drop", "--contract", "C-1", "--yes", "--by", "li"]).unwrap();
    assert_eq!(dropped, json!({"dropped": true, "batches": 5}));
    assert_eq!(spool(&["ls"]).unwrap()["streams"][0]["gaps"][0]["rows"], json!(5));
    let (gap, name) = acted(&rig, "data.gap").remove(0);
    assert_eq!((&gap["rows"], &name), (&json!(5), &json!("li")), "{gap}");
    publish(&rig, 7..9);
    rig.start_space();
    rig.wait_for_rows(DATASET, 4);
    wait_for("the log's copy", || {
        let Ok(said) = rig.stage.space_json(&["meter", "--box", "demo-box"]) else { return false };
        let one = &said["boxes"]["demo-box"]["lines"][0];
        let rows = ["kept", "received"].map(|name| one[name]["rows"].clone());
        said["agrees"] == json!(true)
            && rows == [json!(9), json!(4)]
            && one["given_up"]["operator"]["rows"] == json!(5)
    });
    rig.check_log();
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

/// An empty set with a high epoch, well signed.
fn set_of_a_party(rig: &Rig) -> Vec<u8> {
    let key = PartyKey::load(&rig.stage.folder.join("parties/insurer-1.pem"), "insurer-1").unwrap();
    let (box_id, space) = (BoxId::parse("demo-box").unwrap(), "insurer-1".to_owned());
    let issued = WallTime::from_seconds(4_000_000_000);
    let set = Roster { box_id, space, epoch: 1 << 40, issued, entries: Vec::new() };
    let set = String::from_utf8(set.sign(&key).unwrap()).unwrap();
    Carrier::new(set, Vec::new()).unwrap().encode().unwrap()
}

/// A box that is never online: its set comes on a stick, to the running program and to one that starts.
#[test]
fn a_set_is_carried_to_a_box_without_network() {
    let Some(mut rig) = start() else { return };
    rig.stop_space();
    let file = rig.stage.folder.join("stick.json").display().to_string();
    let carry = |rig: &Rig| {
        rig.stage.space_json(&["contract", "carry", "--box", "demo-box", "--out", &file])
    };
    let import = |rig: &Rig| rig.stage.guan_json(&["contract", "import", &file, "--by", "li"]);
    assert!(carry(&rig).unwrap_err().to_string().contains("has no set"));
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    carry(&rig).unwrap();
    let old = std::fs::read(&file).unwrap();
    assert_eq!(import(&rig).unwrap()["taken"], true);
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..3);
    wait_for("the queue", || queued(&rig) > 0);
    // A party of the contract has a trusted key, and is not the space for that.
    std::fs::write(&file, set_of_a_party(&rig)).unwrap();
    let text = import(&rig).unwrap_err().to_string();
    assert!(text.contains("signed by insurer-1, and the space of this box is space-1"), "{text}");

    rig.stop_guan();
    change(&rig, "revoke", "C-1");
    carry(&rig).unwrap();
    assert_eq!(import(&rig).unwrap()["taken"], false);
    rig.start_guan();
    wait_for("an empty queue", || queued(&rig) == 0);
    assert!(leaves(&rig).contains("shredded") && !has_key(&rig, "C-1"));
    // The old stick, one that somebody wrote on, and none.
    std::fs::write(&file, &old).unwrap();
    assert!(import(&rig).unwrap_err().to_string().contains("has epoch 1"));
    let forged = String::from_utf8(old).unwrap().replace("active", "revoked");
    std::fs::write(&file, forged).unwrap();
    assert!(import(&rig).unwrap_err().to_string().contains("is refused"));
    std::fs::write(&file, "{}").unwrap();
    assert!(import(&rig).unwrap_err().to_string().contains("carries no contract set"));
    // Those that were taken, and nothing of those that were refused.
    let acts = acted(&rig, "operator.act");
    let is_import = |(one, name): &(Value, Value)| one["act"] == "contract.import" && name == "li";
    assert!(acts.len() == 2 && acts.iter().all(is_import), "{acts:?}");
    let opened = std::fs::read_dir(rig.stage.folder.join("box/state/acts")).unwrap();
    let names = opened.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.ends_with(".opening")).count(), 2);
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
    let lines = rig.stage.space_json(&["deleted", "--verify"]).unwrap();
    assert_eq!(lines["verified"], true);
    let lines = lines["lines"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["deleted"]["boxes"] == json!(["demo-box"])), "{lines:?}");
    let rows: u64 = lines.iter().filter_map(|line| line["deleted"]["rows"].as_u64()).sum();
    assert_eq!(rows, 2, "{lines:?}");
}

/// What a consumer got is due for its signature, and an alarm until that is there.
#[test]
fn a_consumer_acknowledges_what_it_got() {
    let Some(rig) = start() else { return };
    let asking = agreement("C-1", 1, |object| {
        object["permission"][0]["duty"] = json!([{"action": "acknowledgeUse", "refinement":
            {"leftOperand": "every", "operator": "eq", "rightOperand": "PT2S"}}]);
    });
    rig.stage.issue(&asking, &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..3);
    rig.wait_for_rows(DATASET, 3);
    let alarms = || rig.stage.space_json(&["status"]).unwrap_or_default()["alarms"].to_string();
    wait_for("the alarm", || alarms().contains("insurer-1 has not acknowledged"));
    let key = rig.stage.folder.join("parties/insurer-1.pem").display().to_string();
    let acknowledge = ["contract", "acknowledge", "C-1", "--by", "insurer-1", "--key", &key];
    let said = rig.stage.space_json(&acknowledge).unwrap();
    let said = said["acknowledged"].as_array().unwrap();
    assert_eq!(said.iter().filter_map(|one| one["rows"].as_u64()).sum::<u64>(), 3, "{said:?}");
    wait_for("no alarm", || !alarms().contains("has not acknowledged"));
    let given = rig.stage.space_json(&["meter"]).unwrap()["acknowledgements"]["given"].clone();
    assert!(given.as_array().unwrap().iter().all(|one| one["signature"] == "good"), "{given}");
}

/// An amended contract asks nothing of what has come already, and forgives nothing about it.
#[test]
fn an_amended_contract_does_not_cancel_what_was_asked() {
    let Some(rig) = start() else { return };
    let short = agreement("C-1", 1, |object| {
        object["permission"][0]["duty"] = json!([{"action": "delete", "refinement":
            {"leftOperand": "after", "operator": "eq", "rightOperand": "PT62S"}}]);
    });
    rig.stage.issue(&short, &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v1");
    publish(&rig, 0..2);
    rig.wait_for_rows(DATASET, 2);
    rig.stage.issue(&agreement("C-1", 2, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for_contract(&rig, "C-1 v2");
    publish(&rig, 2..3);
    rig.wait_for_rows(DATASET, 3);
    let rows = || {
        let lines = rig.stage.space_json(&["deleted", "--verify"]).unwrap();
        let lines = lines["lines"].as_array().unwrap().clone();
        lines.iter().filter_map(|line| line["deleted"]["rows"].as_u64()).sum::<u64>()
    };
    wait_for_at_most(100, || rows() == 2);
    assert_eq!(rows(), 2);
    let folder = rig.stage.folder.join("left").display().to_string();
    let said = rig.stage.space_json(&["export", "--out", &folder]).unwrap();
    assert_eq!((&said["rows_deleted"], &said["files"][0]["rows"]), (&json!(2), &json!(1)));
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
    // One signature of two: the space refuses it.
    let half = rig.stage.issue(&agreement("C-2", 1, |_| {}), &["depot-7"]).unwrap_err().to_string();
    assert!(half.contains("\"insurer-1\" has signed"), "{half}");
    // By a party that the space knows and the box does not.
    rig.stage.make_party("stranger-1").unwrap();
    let foreign = agreement("C-2", 1, |object| object["assignee"] = json!("stranger-1"));
    rig.stage.issue(&foreign, &["depot-7", "stranger-1"]).unwrap();
    wait_for("a refusal", || alarms(&rig).contains("stranger-1"));
    assert!(!rig.status()["contracts"].to_string().contains("C-2"));
}

/// What `negotiate show` or `list` says of the only negotiation.
fn negotiation(rig: &Rig, at_box: bool) -> Value {
    let list = ["contract", "negotiate", "list"];
    let listed = if at_box { rig.stage.guan_json(&list) } else { rig.stage.space_json(&list) };
    listed.unwrap()["negotiations"].as_array().unwrap().last().cloned().unwrap_or_default()
}

fn propose(rig: &Rig, draft: &Value) -> String {
    let file = rig.stage.folder.join("draft.json");
    std::fs::write(&file, draft.to_string()).unwrap();
    let file = file.display().to_string();
    let said = rig.stage.space_json(&["contract", "offer", "--box", "demo-box", &file]).unwrap();
    said["pid"].as_str().unwrap().to_owned()
}

/// Adds keys to a table of a configuration file.
fn configure(file: &std::path::Path, table: &str, lines: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(table), "{text}");
    std::fs::write(file, text.replacen(table, &format!("{table}\n{lines}"), 1)).unwrap();
}

#[test]
fn contracts_are_negotiated_over_the_link() {
    let mut rig = Rig::without_contracts();
    rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
    let parties = rig.stage.folder.join("parties");
    let mandate = json!({
        "schema": 1, "consumers": ["insurer-1"], "datasets": [DATASET], "actions": ["deliver"],
        "highestClass": "important", "requiredTransforms": [], "longestTerm": "P3660D",
        "needsOperator": false,
    });
    std::fs::write(parties.join("mandate.json"), mandate.to_string()).unwrap();
    let of_box = format!(
        "mandate_file = {:?}\nparty_key_file = {:?}",
        parties.join("mandate.json"),
        parties.join("depot-7.pem")
    );
    configure(&rig.stage.box_config(), "[contracts]", &of_box);
    // With this key the space signs for the consumer.
    let of_space = rig.stage.folder.join("space/parties/insurer-1.pem");
    std::fs::copy(parties.join("insurer-1.pem"), of_space).unwrap();
    rig.start_space();
    rig.start_guan();

    // Within the mandate: agreed, verified, finalized and in force without a person.
    let bound = json!([{"leftOperand": "grade", "operator": "lteq", "rightOperand": "important"}]);
    let within = agreement("C-1", 1, |draft| draft["permission"][0]["constraint"] = bound);
    propose(&rig, &within);
    wait_for("the end of the negotiation", || negotiation(&rig, false)["state"] == "FINALIZED");
    wait_for_contract(&rig, "C-1 v1");
    wait_for("the box's end", || negotiation(&rig, true)["is_done"] == true);
    assert_eq!(negotiation(&rig, true)["state"], "FINALIZED");

    // Outside of it: refused with the reason, at both ends.
    let outside = agreement("C-2", 1, |draft| draft["assignee"] = json!("somebody"));
    let pid = propose(&rig, &outside);
    let show = ["contract", "negotiate", "show", "--box", "demo-box", &pid];
    wait_for("the refusal", || rig.stage.space_json(&show).unwrap()["state"] == "TERMINATED");
    let said = rig.stage.space_json(&show).unwrap()["end"].to_string();
    assert!(said.contains("is not among the consumers of the mandate"), "{said}");

    // Beside it (a price): a person at the box offers other terms, the space accepts them after the
    // box was gone, and both programs began anew in between.
    let priced = agreement("C-3", 1, |draft| {
        draft["permission"][0]["constraint"] = within["permission"][0]["constraint"].clone();
        draft["price"] = json!({"amount": 5});
    });
    let pid = propose(&rig, &priced);
    let show = ["contract", "negotiate", "show", "--box", "demo-box", &pid];
    let space = |rig: &Rig| rig.stage.space_json(&show).unwrap();
    wait_for("the request", || space(&rig)["state"] == "REQUESTED");
    let all = rig.stage.guan_json(&["contract", "negotiate", "list"]).unwrap();
    let open =
        all["negotiations"].as_array().unwrap().iter().find(|one| one["consumer_pid"] == *pid);
    let at_box = open.unwrap()["pid"].as_str().unwrap().to_owned();
    rig.stop_space();
    let mut dearer = priced.clone();
    dearer["price"] = json!({"amount": 9});
    let file = rig.stage.folder.join("dearer.json");
    std::fs::write(&file, dearer.to_string()).unwrap();
    let file = file.display().to_string();
    let offer = ["contract", "negotiate", "offer", &at_box, &file, "--by", "li"];
    rig.stage.guan_json(&offer).unwrap();
    rig.kill_and_restart_guan();
    rig.start_space();
    wait_for("the counter-offer", || space(&rig)["state"] == "OFFERED");
    assert_eq!(space(&rig)["proposal"]["price"]["amount"], 9);
    wait_for("the log to say so", || !acted(&rig, "operator.act").is_empty());
    let (act, name) = acted(&rig, "operator.act").remove(0);
    assert_eq!((&act["act"], &name), (&json!("negotiation.offer"), &json!("li")));
    let about = guan_model::Digest::of(at_box.as_bytes()).to_string();
    assert_eq!(act["about"], json!(about));
    let accept = ["contract", "negotiate", "accept", "--box", "demo-box", &pid];
    rig.stage.space_json(&accept).unwrap();
    wait_for_contract(&rig, "C-3 v1");
    assert_eq!(space(&rig)["state"], "FINALIZED");
    let again = rig.stage.space_json(&accept).unwrap_err().to_string();
    assert!(again.contains("begin a new negotiation"), "{again}");
}

#[test]
fn the_catalogue_comes_over_the_link_and_again_when_it_changes() {
    let Some(mut rig) = start() else { return };
    let version = |rig: &Rig| {
        let listed = rig.stage.space_json(&["catalogue", "list"]).unwrap();
        listed["catalogues"][0]["version"].as_u64()
    };
    wait_for("the catalogue", || version(&rig).is_some());
    let first = version(&rig);
    let found = rig.stage.space_json(&["catalogue", "search", DATASET]).unwrap();
    assert!(found.to_string().contains("urn:guankou:"), "{found}");
    // With figures of a day the content is another, and the box sends it when it is next connected.
    publish(&rig, 0..3);
    rig.stop_guan();
    rig.start_guan();
    wait_for("the newer one", || version(&rig) > first);
    // A space that has forgotten it gets it again.
    rig.stop_space();
    let kept = rig.stage.folder.join("space/state/catalogues");
    std::fs::remove_dir_all(&kept).unwrap();
    rig.start_space();
    wait_for("the catalogue again", || version(&rig).is_some());
    assert_eq!(rig.status()["alarms"], json!([]));
}
