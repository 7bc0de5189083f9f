//! Batches on a medium: a box without a link, a stick, the space, and the receipt back.

use super::contracts::agreement;
use super::rig::{Rig, mosquitto_pub, wait_for};
use super::{DATASET, TOPIC, payload};
use serde_json::{Value, json};

/// A box that never calls the space, with one contract that came on a stick. `None` when there is no publisher.
fn start() -> Option<Rig> {
    if std::process::Command::new("mosquitto_pub").arg("--help").output().is_err() {
        println!("SKIP: mosquitto_pub is not installed");
        return None;
    }
    let mut rig = Rig::without_link();
    rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
    rig.start_space();
    rig.start_guan();
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    bring_set(&rig);
    wait_for("C-1", || rig.status()["contracts"].to_string().contains("C-1 v1"));
    rig.stage.space_json(&["carry", "key", "--out", &file(&rig, "carry.pub.json")]).unwrap();
    Some(rig)
}

fn file(rig: &Rig, name: &str) -> String {
    rig.stage.folder.join(name).display().to_string()
}

fn bring_set(rig: &Rig) {
    let set = file(rig, "set.json");
    rig.stage.space_json(&["contract", "carry", "--box", "demo-box", "--out", &set]).unwrap();
    rig.stage.guan_json(&["contract", "import", &set]).unwrap();
}

fn publish(rig: &Rig, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert!(mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(number)]));
    }
}

fn queued(rig: &Rig) -> u64 {
    rig.status()["queued_batches"].as_u64().unwrap_or(u64::MAX)
}

fn export(rig: &Rig, out: &str) -> anyhow::Result<Value> {
    let key = file(rig, "carry.pub.json");
    rig.stage.guan_json(&["spool", "export", "--for", &key, "--out", &file(rig, out)])
}

fn take(rig: &Rig, name: &str) -> anyhow::Result<Value> {
    rig.stage.space_json(&["carry", "take", &file(rig, name)])
}

fn acknowledge(rig: &Rig, name: &str) -> anyhow::Result<Value> {
    rig.stage.guan_json(&["spool", "acknowledge", &file(rig, name)])
}

fn refused(outcome: anyhow::Result<Value>, expect: &str) {
    let text = outcome.unwrap_err().to_string();
    assert!(text.contains(expect), "{text} for {expect}");
}

fn leaves(rig: &Rig, kind: &str) -> Vec<Value> {
    let shown = rig.stage.guan_json(&["log", "show", "--last", "200", "--kind", kind]).unwrap();
    shown["entries"].as_array().unwrap().clone()
}

/// All of it, and nothing twice when the link comes up in the end.
#[test]
fn batches_go_to_the_space_on_a_stick() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..5);
    wait_for("the queue", || queued(&rig) > 0);
    let waiting = queued(&rig);
    let made = export(&rig, "one.carry").unwrap();
    assert_eq!((made["batches"].as_u64(), &made["rows"]), (Some(waiting), &json!(5)), "{made}");
    assert_eq!((&made["held"], &made["is_full"]), (&json!([]), &json!(false)));
    assert_eq!(queued(&rig), waiting, "the batches stay until the receipt");
    let said = &leaves(&rig, "data.carried")[0]["entry"];
    assert_eq!((&said["file"], &said["key"]), (&made["file"], &made["key"]));
    assert_eq!((&said["rows"], said["batches"].as_u64()), (&json!(5), Some(waiting)));
    // Nothing is overwritten.
    refused(export(&rig, "one.carry"), "is there already");

    let taken = take(&rig, "one.carry").unwrap();
    assert_eq!((&taken["file"], &taken["duplicates"]), (&made["file"], &json!(0)));
    rig.wait_for_rows(DATASET, 5);
    let again = take(&rig, "one.carry").unwrap();
    assert_eq!((&again["items_stored"], again["duplicates"].as_u64()), (&json!(0), Some(waiting)));
    rig.wait_for_rows(DATASET, 5);

    let released = acknowledge(&rig, "one.carry.receipt.json").unwrap();
    assert_eq!(released["file"], made["file"], "{released}");
    wait_for("an empty spool", || queued(&rig) == 0);
    let released = acknowledge(&rig, "one.carry.receipt.json").unwrap();
    assert_eq!(released["released"], json!([]), "it was released before");
    refused(export(&rig, "none.carry"), "nothing that waits is meant");
    rig.check_log();

    // A stick that is lost costs nothing: what was on it is in the next file, too.
    publish(&rig, 5..7);
    wait_for("the queue", || queued(&rig) > 0);
    export(&rig, "lost.carry").unwrap();
    publish(&rig, 7..9);
    let both = export(&rig, "two.carry").unwrap();
    assert_eq!(both["rows"], json!(4), "{both}");
    take(&rig, "two.carry").unwrap();
    // The receipt never comes; the link does, and its welcome says what the space has.
    publish(&rig, 9..10);
    rig.stop_guan();
    rig.give_link();
    rig.start_guan();
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.wait_for_rows(DATASET, 10);
    let delivered = rig.delivered(DATASET);
    assert_eq!((delivered.len(), delivered.values().sum::<i64>()), (10, 10), "{delivered:?}");
    rig.check_log();
    let verified = rig.stage.space_json(&["log", "verify"]).unwrap();
    assert_eq!(verified["verified"], true, "{verified}");
}
