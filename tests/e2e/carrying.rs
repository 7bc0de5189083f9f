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
    // The files say it at once.
    rig.stage.guan_json(&["spool", "status"]).unwrap()["batches"].as_u64().unwrap()
}

fn export(rig: &Rig, out: &str) -> anyhow::Result<Value> {
    let key = file(rig, "carry.pub.json");
    rig.stage.guan_json(&["spool", "export", "--for", &key, "--out", &file(rig, out)])
}

fn export_by(rig: &Rig, out: &str, by: &str) -> anyhow::Result<Value> {
    let (key, out) = (file(rig, "carry.pub.json"), file(rig, out));
    rig.stage.guan_json(&["spool", "export", "--for", &key, "--out", &out, "--by", by])
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
    std::fs::rename(file(&rig, "one.carry.receipt.json"), file(&rig, "first.json")).unwrap();
    let again = take(&rig, "one.carry").unwrap();
    assert_eq!((&again["items_stored"], again["duplicates"].as_u64()), (&json!(0), Some(waiting)));
    rig.wait_for_rows(DATASET, 5);

    let released = acknowledge(&rig, "one.carry.receipt.json").unwrap();
    assert_eq!(released["file"], made["file"], "{released}");
    wait_for("an empty spool", || queued(&rig) == 0);
    // The space's log stands behind it, as over the link.
    let meter = rig.stage.guan_json(&["meter"]).unwrap();
    assert_eq!(meter["lines"][0]["kept"]["rows"], json!(5), "{meter}");
    assert_eq!(meter["lines"][0]["sent"]["rows"], json!(5), "the second receipt says it, too");
    let noted = leaves(&rig, "data.forwarded").len();
    for receipt in ["first.json", "one.carry.receipt.json"] {
        let released = acknowledge(&rig, receipt).unwrap();
        assert_eq!(released["released"], json!([]), "it was released before");
        assert_eq!(leaves(&rig, "data.forwarded").len(), noted, "once, whatever comes how often");
    }
    let meter = rig.stage.guan_json(&["meter"]).unwrap();
    assert_eq!(meter["lines"][0]["sent"]["rows"], json!(5), "{meter}");
    refused(export(&rig, "none.carry"), "nothing that waits is meant");
    rig.check_log();

    // A stick that is lost costs nothing: what was on it is in the next file, too.
    publish(&rig, 5..7);
    wait_for("the queue", || queued(&rig) > 0);
    export_by(&rig, "lost.carry", "li").unwrap();
    assert!(leaves(&rig, "data.carried").iter().any(|leaf| leaf["actor"].is_string()));
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

/// Neither takes the place of the other's request or answer: each has a file, or is told why not.
#[test]
fn two_people_export_at_the_same_time() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..5);
    wait_for("the queue", || queued(&rig) > 0);
    let mut made = 0;
    for round in 0..4 {
        let [one, two] = ["li", "wang"].map(|by| (by, format!("{by}-{round}.carry")));
        let outcomes = std::thread::scope(|scope| {
            let (rig, one, two) = (&rig, &one, &two);
            let other = scope.spawn(move || export_by(rig, &two.1, two.0));
            [export_by(rig, &one.1, one.0), other.join().unwrap()]
        });
        for (outcome, (_, name)) in outcomes.into_iter().zip([one, two]) {
            match outcome {
                Ok(_) => {
                    made += 1;
                    take(&rig, &name).unwrap();
                }
                Err(fault) => {
                    let text = fault.to_string();
                    let is_told = ["at another export", "somebody else asks"];
                    assert!(is_told.iter().any(|part| text.contains(part)), "{text}");
                }
            }
        }
    }
    assert!(made >= 4, "one of two at least: {made}");
    rig.stop_guan();
    rig.check_log();
}

/// Files that were cut, changed, sealed for another key or made by a box that is out: nothing of them is stored, and
/// the batches stay.
#[test]
fn what_is_no_whole_file_of_a_known_box_is_refused() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..4);
    wait_for("the queue", || queued(&rig) > 0);
    let waiting = queued(&rig);
    export(&rig, "whole.carry").unwrap();
    let whole = std::fs::read(file(&rig, "whole.carry")).unwrap();
    let with = |rig: &Rig, bytes: &[u8]| {
        std::fs::write(file(rig, "other.carry"), bytes).unwrap();
        take(rig, "other.carry")
    };
    refused(with(&rig, &whole[..whole.len() - 1]), "it was cut");
    refused(with(&rig, &whole[..whole.len() / 2]), "it was cut");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    refused(with(&rig, &changed), "was changed");
    refused(with(&rig, b"{}"), "no file of `guan spool export`");
    // The header says another box; the records go with their own header only.
    let at = whole.windows(8).position(|bytes| bytes == b"demo-box").unwrap();
    let mut renamed = whole.clone();
    renamed[at..at + 8].copy_from_slice(b"demo-bax");
    refused(with(&rig, &renamed), "was changed");
    // A receipt is no key, and what somebody wrote on is none.
    let key = std::fs::read_to_string(file(&rig, "carry.pub.json")).unwrap();
    std::fs::write(file(&rig, "carry.pub.json"), key.replace("space-1", "space-2")).unwrap();
    refused(export_by(&rig, "none.carry", "li"), "the key is refused");
    let acts = std::fs::read_dir(rig.stage.folder.join("box/state/acts")).unwrap();
    let kept = acts.filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "opening")
    });
    assert_eq!(kept.count(), 0, "who asked for nothing is forgotten");
    std::fs::write(file(&rig, "carry.pub.json"), &key).unwrap();
    std::fs::write(file(&rig, "forged.json"), &key).unwrap();
    refused(acknowledge(&rig, "forged.json"), "the receipt is refused");
    assert!(!std::path::Path::new(&file(&rig, "none.carry")).exists());
    // The space has another key now; with the old one back it takes the file.
    let place = find(&rig, "carry.key.pem");
    let kept = place.with_extension("kept");
    std::fs::rename(&place, &kept).unwrap();
    rig.stage.space_json(&["carry", "key", "--out", &file(&rig, "new.pub.json")]).unwrap();
    refused(with(&rig, &whole), "sealed for the key");
    std::fs::rename(&kept, &place).unwrap();
    rig.stage.space_json(&["box", "revoke", "demo-box"]).unwrap();
    refused(with(&rig, &whole), "was revoked");
    let stored = rig.stage.space_json(&["status"]).unwrap();
    assert_eq!(stored["batches_stored"], json!(0), "{stored}");
    assert_eq!(queued(&rig), waiting);
    rig.stop_guan();
}

fn find(rig: &Rig, name: &str) -> std::path::PathBuf {
    let mut folders = vec![rig.stage.folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with(name) {
                return path;
            }
        }
    }
    panic!("{name} is nowhere");
}

/// A suspended contract is held and named; a file has its limit, and what does not fit is for the next one; a space
/// that lost what it had acknowledged asks for the earlier file.
#[test]
fn what_is_held_stays_and_what_does_not_fit_waits() {
    let Some(mut rig) = start() else { return };
    let state = |rig: &Rig, how: &str| {
        rig.stage.space_json(&["contract", how, "--box", "demo-box", "C-1"]).unwrap();
        bring_set(rig);
    };
    publish(&rig, 0..2);
    wait_for("the queue", || queued(&rig) > 0);
    state(&rig, "suspend");
    wait_for("the word", || rig.status()["contracts"].to_string().contains("suspended"));
    refused(export(&rig, "held.carry"), "the contract is suspended");
    assert!(!std::path::Path::new(&file(&rig, "held.carry")).exists());
    assert!(leaves(&rig, "data.carried").is_empty(), "nothing left");
    state(&rig, "resume");
    wait_for("the word", || !rig.status()["contracts"].to_string().contains("suspended"));

    publish(&rig, 2..10);
    let mut files = 0;
    while queued(&rig) > 0 {
        let (out, key) = (format!("{files}.carry"), file(&rig, "carry.pub.json"));
        let arguments = ["spool", "export", "--for", &key, "--out", &file(&rig, &out)];
        let limited = [&arguments[..], &["--contract", "C-1", "--bytes-max", "19000"]].concat();
        let made = rig.stage.guan_json(&limited).unwrap();
        assert!(made["bytes"].as_u64().unwrap() <= 19_000, "{made}");
        take(&rig, &out).unwrap();
        acknowledge(&rig, &format!("{out}.receipt.json")).unwrap();
        files += 1;
        let is_full = made["is_full"] == json!(true);
        wait_for("the release", || is_full || queued(&rig) == 0);
    }
    assert!(files > 1, "all fitted one file");
    rig.wait_for_rows(DATASET, 10);

    rig.stop_space();
    for name in ["store", "log"] {
        let folder = find(&rig, "carry.key.pem").ancestors().nth(2).unwrap().join(name);
        std::fs::remove_dir_all(folder).unwrap();
    }
    rig.start_space();
    publish(&rig, 10..11);
    wait_for("the queue", || queued(&rig) > 0);
    export(&rig, "later.carry").unwrap();
    wait_for("the space", || rig.stage.space_json(&["status"]).is_ok());
    refused(take(&rig, "later.carry"), "bring the earlier file first");
    rig.stop_guan();
}

/// The space's store was set back, so its word in a session is refused: nobody knows what stands, and that outlives a
/// restart, as a medium asks no session. A set that was signed later settles it.
#[test]
fn a_set_in_doubt_seals_nothing_after_a_restart() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..2);
    wait_for("the queue", || queued(&rig) > 0);
    let set = rig.stage.folder.join("space/state/contracts/demo-box/set.json");
    let old = std::fs::read(&set).unwrap();
    rig.stage.space_json(&["contract", "renew", "--box", "demo-box"]).unwrap();
    bring_set(&rig);
    wait_for("the set", || !set_waits(&rig));
    rig.stop_space();
    std::fs::write(&set, old).unwrap();
    rig.start_space();
    rig.stop_guan();
    rig.give_link();
    rig.start_guan();
    wait_for("the doubt", || rig.status()["alarms"].to_string().contains("plays an old set"));
    rig.stop_guan();
    rig.take_link();
    rig.start_guan();
    // Its state is of this start once it keeps something new.
    let waiting = queued(&rig);
    publish(&rig, 2..3);
    wait_for("the queue", || queued(&rig) > waiting);
    refused(export(&rig, "doubted.carry"), "the space has not confirmed the contracts yet");
    rig.stage.space_json(&["contract", "renew", "--box", "demo-box"]).unwrap();
    bring_set(&rig);
    wait_for("the set", || !set_waits(&rig));
    let made = export(&rig, "settled.carry").unwrap();
    assert_eq!(made["rows"], json!(3), "{made}");
    rig.stop_guan();
}

/// Whether what `guan contract import` left was not taken yet.
fn set_waits(rig: &Rig) -> bool {
    guan_edge::standing::carrier_waits(&rig.stage.folder.join("box/state"))
}

/// What left the box before a revocation, and comes after it, is not taken; the box shreds it when it hears.
#[test]
fn what_was_revoked_on_the_way_is_not_taken() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..3);
    let key = file(&rig, "carry.pub.json");
    let small = ["spool", "export", "--for", &key, "--out", &file(&rig, "a"), "--bytes-max", "900"];
    refused(rig.stage.guan_json(&small), "raise --bytes-max");
    export(&rig, "one.carry").unwrap();
    rig.stage.space_json(&["contract", "revoke", "--box", "demo-box", "C-1"]).unwrap();
    refused(take(&rig, "one.carry"), "contract C-1 is revoked here");
    let stored = rig.stage.space_json(&["status"]).unwrap();
    assert_eq!(stored["batches_stored"], json!(0), "{stored}");
    // The receipt is there, and frees nothing.
    let released = acknowledge(&rig, "one.carry.receipt.json").unwrap();
    assert_eq!(released["released"], json!([]), "{released}");
    assert!(queued(&rig) > 0);
    bring_set(&rig);
    wait_for("an empty spool", || queued(&rig) == 0);
    let gaps = leaves(&rig, "data.gap");
    assert_eq!(gaps[0]["entry"]["reason"], "shredded", "{gaps:?}");
    rig.stop_guan();
}

/// Killed while it writes: the batches stay, and what was written counts only if it is whole.
#[test]
fn a_box_that_is_killed_while_it_exports_loses_nothing() {
    let Some(mut rig) = start() else { return };
    publish(&rig, 0..6);
    wait_for("the queue", || queued(&rig) > 0);
    let (waiting, out) = (queued(&rig), file(&rig, "killed.carry"));
    let (program, config) = (super::rig::programs().join("guan"), rig.stage.box_config());
    let mut command = std::process::Command::new(program)
        .args(["spool", "export", "--for", &file(&rig, "carry.pub.json"), "--out", &out])
        .arg("--config")
        .arg(config)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !std::path::Path::new(&out).exists() {
        assert!(std::time::Instant::now() < deadline, "no file");
        std::hint::spin_loop();
    }
    rig.kill_and_restart_guan();
    command.kill().unwrap();
    command.wait().unwrap();
    assert_eq!(queued(&rig), waiting);
    match take(&rig, "killed.carry") {
        Ok(taken) => assert_eq!(taken["batches"].as_u64(), Some(waiting)),
        Err(fault) => assert!(
            ["it was cut", "no file of"].iter().any(|part| fault.to_string().contains(part)),
            "{fault}"
        ),
    }
    export(&rig, "after.carry").unwrap();
    take(&rig, "after.carry").unwrap();
    rig.wait_for_rows(DATASET, 6);
    acknowledge(&rig, "after.carry.receipt.json").unwrap();
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.check_log();
    rig.wait_for_rows(DATASET, 6);
}

/// A box whose key is in its TPM, with contracts that only a session confirmed: it proves itself, loses its link, and
/// signs the end of the file in the TPM.
#[test]
fn a_box_with_a_tpm_carries_what_a_session_confirmed() {
    let Some(mut rig) = Rig::with_tpm_and(super::rig::often) else { return };
    if std::process::Command::new("mosquitto_pub").arg("--help").output().is_err() {
        return println!("SKIP: mosquitto_pub is not installed");
    }
    rig.stage.add_parties(&["depot-7", "insurer-1"]).unwrap();
    rig.stage.join().unwrap();
    rig.start_guan();
    publish(&rig, 0..1);
    rig.wait_for_rows(DATASET, 1);
    rig.stage.space_json(&["carry", "key", "--out", &file(&rig, "carry.pub.json")]).unwrap();
    rig.stage.issue(&agreement("C-1", 1, |_| {}), &["depot-7", "insurer-1"]).unwrap();
    wait_for("C-1", || rig.status()["contracts"].to_string().contains("C-1 v1"));
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.stop_guan();
    rig.take_link();
    rig.start_guan();
    publish(&rig, 1..4);
    let made = export(&rig, "one.carry").unwrap();
    // Under both contracts.
    assert_eq!(made["rows"], json!(6), "{made}");
    take(&rig, "one.carry").unwrap();
    rig.wait_for_rows(DATASET, 7);
    acknowledge(&rig, "one.carry.receipt.json").unwrap();
    wait_for("an empty spool", || queued(&rig) == 0);
    rig.check_log();
}
