//! The log beside those who vouch for it: the TPM, the space's witness and mirror; and data traced through
//! both logs.

use super::{DATASET, TOPIC, payload};
use crate::rig::programs;
use crate::rig::{Rig, faketime, mosquitto_pub, often, wait_for};
use guan_demo::outsiders::Outsiders;
use serde_json::Value;
use std::process::Command;

/// What the box says of who vouches for its log.
fn evidence(rig: &Rig) -> Value {
    rig.status()["evidence"].clone()
}

fn size(value: &Value) -> u64 {
    value.as_u64().or_else(|| value[0].as_u64()).unwrap_or(0)
}

#[test]
fn a_log_is_anchored_cosigned_and_mirrored() {
    let Some(mut rig) = Rig::with_tpm_and(often) else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    for number in 1..=3 {
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]) {
            return println!("SKIP: mosquitto_pub is not installed");
        }
    }
    rig.wait_for_rows(DATASET, 3);
    // The batches are in the mirror, with what the box wrote about the first heads.
    wait_for("everybody to vouch", || {
        let found = evidence(&rig);
        let batches = rig.stage.guan_json(&["log", "show", "--kind", "batch"]).unwrap();
        let last = batches["entries"].as_array().and_then(|all| all.last()?["seq"].as_u64());
        if size(&found["mirrored"]) <= last.unwrap_or(u64::MAX) {
            return false;
        }
        ["anchored", "chained", "cosigned", "mirrored"].iter().all(|who| size(&found[*who]) > 0)
    });
    assert_eq!(evidence(&rig)["suspect"], Value::Null);
    let entries = rig.stage.guan_json(&["log", "show", "--last", "500"]).unwrap();
    let kinds: Vec<&str> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    for kind in ["tpm.start", "anchor", "chain", "witness.receipt", "data.forwarded"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    rig.stop_guan();
    rig.check_log();
    let report = rig.stage.guan_json(&["log", "verify"]).unwrap();
    for who in ["anchors", "chained", "cosigned"] {
        assert!(report["vouched"][who].as_u64().unwrap() > 0, "{report}");
    }
    check_bundle(&rig);
    // Its last head is signed when it stops.
    rig.stop_space();
    check_trace(&rig);
}

fn path(rig: &Rig, name: &str) -> String {
    rig.stage.folder.join(name).display().to_string()
}

/// Runs a program; `None` when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some((output.status.success(), text))
}

/// guan-verify and public tools take what the box hands out, and refuse it when it was changed.
fn check_bundle(rig: &Rig) {
    let tar = path(rig, "bundle.tar");
    rig.stage.guan_json(&["log", "export", "--out", &tar, "--by", "a test"]).unwrap();
    let verify = programs().join("guan-verify").display().to_string();
    let (holds, text) = run(&verify, &[&tar]).unwrap();
    assert!(holds && text.contains("quotes of the TPM"), "{text}");
    let cosigned = path(rig, "cosigned.tar");
    rig.stage.guan_json(&["log", "export", "--out", &cosigned, "--cosigned"]).unwrap();
    let (holds, text) = run(&verify, &[&cosigned]).unwrap();
    assert!(holds && text.contains("cosigned    by"), "{text}");
    let verifiers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers");
    Outsiders { verifiers, python: crate::rig::python() }.check(&rig.stage).unwrap();
    let folder = path(rig, "all");
    let entry = format!("{folder}/entries/3.cbor");
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let (holds, text) = run(&verify, &[&folder]).unwrap();
    assert!(!holds && text.contains("entries/3.cbor is not what the manifest lists"), "{text}");
}

/// From a contract to both logs, and from a reading to its batch.
fn check_trace(rig: &Rig) {
    let boxes = rig.stage.space_json(&["log", "boxes"]).unwrap().to_string();
    assert!(boxes.contains("demo-box"), "{boxes}");
    let batches = rig.stage.guan_json(&["log", "show", "--kind", "batch"]).unwrap();
    let batch = &batches["entries"][0];
    let contract = batch["entry"]["contract"].as_str().unwrap();
    let trace = rig.stage.space_json(&["trace", "--contract", contract]).unwrap().to_string();
    let id = batch["trace_id"].as_str().unwrap();
    assert!(trace.contains(id), "{id} is not in {trace}");
    let digest = batch["entry"]["digest"].as_str().unwrap();
    let trace = rig.stage.space_json(&["trace", "--batch", digest]).unwrap();
    let batch = &trace["batches"][0];
    assert!(batch["box_log"][0]["proof"].is_string(), "{trace:#}");
    assert!(batch["space_log"]["proof"].is_string(), "{trace:#}");
    assert!(batch["witnessed"]["not_after_ms"].is_number(), "{trace:#}");
    let verified = rig.stage.space_json(&["log", "verify"]).unwrap();
    assert_eq!(verified["verified"], true, "{verified}");
}

/// The log's key changes on the running box, twice, once with a kill -9 in between; box, space and auditor follow it
/// from the first key on.
#[test]
fn a_log_changes_its_key_and_everybody_follows() {
    let Some(mut rig) = Rig::with_tpm_and(often) else { return };
    rig.stage.join().unwrap();
    rig.start_guan();
    let publish = |rig: &Rig, number: u32| {
        mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)])
    };
    if !publish(&rig, 1) {
        return println!("SKIP: mosquitto_pub is not installed");
    }
    wait_for("the first cosigned head", || size(&evidence(&rig)["cosigned"]) > 0);
    let policy = format!("log {}\nquorum none\n", head_key(&rig));
    let policy_file = path(&rig, "policy");
    std::fs::write(&policy_file, policy).unwrap();
    let key_file = rig.stage.folder.join("box/identity/log-key.pem");
    let first = std::fs::read(&key_file).unwrap();
    let mut rolled = Vec::new();
    for number in 2..=3 {
        let told = rig.stage.guan_json(&["log", "rollover", "--by", "li"]).unwrap();
        assert_ne!(told["key"], told["before"], "{told}");
        rolled.push(told["index"].as_u64().unwrap());
        publish(&rig, number);
        let after = *rolled.last().unwrap();
        wait_for("a head by the new key to be cosigned", || {
            size(&evidence(&rig)["cosigned"]) > after
        });
        rig.kill_and_restart_guan();
        assert_eq!(evidence(&rig)["suspect"], Value::Null);
    }
    assert_ne!(std::fs::read(&key_file).unwrap(), first);
    wait_for("the mirror to have the last hand-over", || {
        size(&evidence(&rig)["mirrored"]) > rolled[1]
    });
    rig.stop_guan();
    rig.check_log();
    let report = rig.stage.guan_json(&["log", "verify"]).unwrap();
    assert_eq!(
        (&report["verified"], &report["faults"]),
        (&Value::Bool(true), &serde_json::json!([]))
    );
    let shown = ["log", "show", "--last", "10000", "--kind", "key.rollover", "--disclose"];
    let shown = rig.stage.guan_json(&shown).unwrap();
    let by: Vec<&Value> =
        shown["entries"].as_array().unwrap().iter().map(|one| &one["actor_name"]).collect();
    assert_eq!(by, ["li", "li"]);
    // The space, by the TPM that it enrolled and the key that came first.
    let report = rig.stage.space_json(&["log", "verify", "--box", "demo-box"]).unwrap();
    assert_eq!(report["verified"], true, "{report:#}");
    assert!(report["vouched"]["anchors"].as_u64().unwrap() > 0, "{report:#}");
    // An auditor who was given the first key, and the TPM's.
    let tar = path(&rig, "rolled.tar");
    rig.stage.guan_json(&["log", "export", "--out", &tar, "--kind", "batch"]).unwrap();
    let verify = programs().join("guan-verify").display().to_string();
    let ak = path(&rig, "box/state/attestation/ak.pem");
    let (holds, text) = run(&verify, &[&tar, "--policy", &policy_file, "--ak", &ak]).unwrap();
    assert!(holds && text.contains("handed the log over"), "{text}");
    let alarms = rig.stale_status()["alarms"].to_string();
    assert!(!alarms.contains("cosign"), "{alarms}");
    check_space_after_rollover(&mut rig);
}

/// The space still traces what was logged under each key, and has the catalogue that the newest one signed.
fn check_space_after_rollover(rig: &mut Rig) {
    let exported = path(rig, "catalogue.json");
    // It prints nothing beside the file.
    let _ = rig.stage.guan_json(&["catalogue", "export", "--out", &exported]);
    assert!(std::path::Path::new(&exported).exists());
    let import = ["catalogue", "import", "--box", "demo-box", &exported];
    let imported = rig.stage.space_json(&import);
    assert!(
        imported.is_ok() || imported.as_ref().unwrap_err().to_string().contains("newer"),
        "{imported:?}"
    );
    // Its last head is signed when it stops.
    rig.stop_space();
    let batches = rig.stage.guan_json(&["log", "show", "--kind", "batch"]).unwrap();
    for batch in batches["entries"].as_array().unwrap() {
        let digest = batch["entry"]["digest"].as_str().unwrap();
        let trace = rig.stage.space_json(&["trace", "--batch", digest]).unwrap();
        assert!(trace["batches"][0]["box_log"][0]["proof"].is_string(), "{trace:#}");
        assert!(trace["batches"][0]["space_log"]["proof"].is_string(), "{trace:#}");
    }
    assert!(batches["entries"].as_array().unwrap().len() >= 3);
}

/// A key that is older than it may be: the box gives its log another one by itself, once.
#[test]
fn a_log_gets_a_new_key_by_age() {
    let Some(library) = faketime() else { return println!("SKIP: libfaketime is not installed") };
    let mut rig = Rig::prepare(|text| often(text) + "key_days_max = 30\n");
    let rolled = |rig: &Rig| {
        let shown = rig.stage.guan_json(&["log", "show", "--kind", "key.rollover"]).unwrap();
        shown["entries"].as_array().unwrap().clone()
    };
    for (days, expect) in [(29, 0), (31, 1), (60, 1), (62, 2)] {
        rig.stage.guan_environment = vec![
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("FAKETIME".to_owned(), format!("+{days}d")),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
        ];
        rig.start_guan();
        if rolled(&rig).len() < expect {
            wait_for("the new key", || rolled(&rig).len() == expect);
        }
        // Of the newest key, as it comes after everything that a start does.
        let size = rig.stage.guan_json(&["log", "show", "--last", "1"]).unwrap();
        let last = size["entries"][0]["seq"].as_u64().unwrap();
        wait_for("a head over all of it", || {
            rig.stage
                .guan_json(&["log", "head"])
                .is_ok_and(|head| head["size"].as_u64() > Some(last))
        });
        rig.stop_guan();
        let rolled = rolled(&rig);
        assert_eq!(rolled.len(), expect, "after {days} days");
        assert!(rolled.iter().all(|one| one.get("actor").is_none()), "nobody asked for it");
        rig.check_log();
    }
}

fn head_key(rig: &Rig) -> String {
    let head = rig.stage.guan_json(&["log", "head"]).unwrap();
    head["key"].as_str().unwrap().to_owned()
}
