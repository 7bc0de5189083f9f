//! A log that rots, or loses what it had: the running box sees it, and gets it back from the space's mirror, or not
//! at all.

use super::{DATASET, TOPIC, payload};
use crate::rig::{Rig, mosquitto_pub, often, programs, wait_for};
use bytes::Bytes;
use guan_evidence::{bundle, bundle_root, leaf_hash};
use guan_log::{Bundles, Epoch};
use guan_spool::OsDisk;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Messages that make more than a bundle: a decision and a batch each.
const MESSAGES: u32 = 140;
const FIRST: &str = "entries-0000000000000000";

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value[0].as_u64()).unwrap_or(0)
}

fn evidence(rig: &Rig) -> Value {
    rig.status()["evidence"].clone()
}

/// A box whose log has a sealed bundle, all of it cosigned and in the mirror; `None` without mosquitto.
fn mirrored() -> Option<Rig> {
    let rig =
        Rig::start(|text| often(text.replace("commit_window_ms = 100", "commit_window_ms = 0")));
    for message in 0..MESSAGES {
        if !mosquitto_pub(rig.port(), &["-q", "1", "-t", TOPIC, "-m", &payload(message)]) {
            println!("SKIP: mosquitto_pub is not installed");
            return None;
        }
    }
    rig.wait_for_rows(DATASET, MESSAGES.into());
    wait_for("the mirror to have what is signed", || {
        let found = evidence(&rig);
        let (signed, cosigned) = (number(&found["signed"]), number(&found["cosigned"]));
        let mirrored = number(&found["mirrored"]);
        signed > 256 && signed == cosigned && mirrored >= cosigned
    });
    Some(rig)
}

fn log_folder(rig: &Rig) -> PathBuf {
    rig.stage.folder.join("box/state/log")
}

/// The space's copy of the box's log.
fn mirror_folder(rig: &Rig) -> PathBuf {
    rig.stage.folder.join("space/state/mirror/demo-box/guan%2Fdemo-box")
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What `guan log scrub` finds.
fn scrub(rig: &Rig) -> Value {
    let config = rig.stage.folder.join("box/edge.toml");
    let output = Command::new(programs().join("guan"))
        .args(["log", "scrub", "--json", "--wait-s", "25", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.success(), found["found"] == 0, "{found}");
    found
}

fn alarms(rig: &Rig) -> String {
    rig.stale_status()["alarms"].to_string()
}

fn is_verified(rig: &Rig, more: &[&str]) -> bool {
    let log = rig.stage.guan_json(&[&["log", "verify"], more].concat());
    log.is_ok_and(|log| log["verified"] == true)
}

fn gaps(rig: &Rig) -> Vec<Value> {
    let shown = ["log", "show", "--last", "10000", "--kind", "log.gap"];
    let shown = rig.stage.guan_json(&shown).unwrap();
    shown["entries"].as_array().unwrap().iter().map(|one| one["entry"].clone()).collect()
}

/// Somebody who owns the space's disk writes another entry into its copy, and makes the hash fit.
fn change_copy(folder: &Path) {
    let disk = OsDisk::open_read_only(folder).unwrap();
    let mut leaves = Bundles::of(disk, Epoch::FIRST).bundle(0).unwrap();
    let mut bytes = leaves[100].to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    leaves[100] = Bytes::from(bytes);
    std::fs::write(folder.join(FIRST), bundle::encode(&leaves).unwrap()).unwrap();
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut subtrees = std::fs::read(folder.join("subtrees")).unwrap();
    subtrees[..32].copy_from_slice(&bundle_root(&hashes).unwrap().0);
    std::fs::write(folder.join("subtrees"), subtrees).unwrap();
}

/// A byte rots in a sealed bundle. A mirror that was changed gives nothing that the box takes; one that was not gives
/// the entries back.
#[test]
fn a_damaged_bundle_comes_back_from_an_honest_mirror_only() {
    let Some(mut rig) = mirrored() else { return };
    assert_eq!(scrub(&rig)["found"], 0, "the twin");
    let (damaged, mirror) = (log_folder(&rig).join(FIRST), mirror_folder(&rig));
    flip(&damaged);
    let rotten = std::fs::read(&damaged).unwrap();
    let honest = ["subtrees", FIRST].map(|name| (name, std::fs::read(mirror.join(name)).unwrap()));
    change_copy(&mirror);
    let found = scrub(&rig);
    assert_eq!((&found["found"], &found["damaged_bundles"]), (&1.into(), &1.into()));
    wait_for("the box to refuse what the changed mirror gives", || {
        alarms(&rig).contains("the space's mirror gave others")
    });
    assert_eq!(std::fs::read(&damaged).unwrap(), rotten, "nothing was written");
    assert!(!is_verified(&rig, &[]));
    let told = gaps(&rig);
    assert_eq!(told.len(), 1, "{told:?}");
    for (name, bytes) in honest {
        std::fs::write(mirror.join(name), bytes).unwrap();
    }
    // What waits to be asked again is asked at once after a scrub, and over a restart.
    assert_eq!(scrub(&rig)["found"], 1);
    wait_for("the bundle to come back", || evidence(&rig)["refilled_bundles"] == 1);
    assert_eq!(evidence(&rig)["damaged_bundles"], 0);
    let aside = log_folder(&rig).join("damaged-0000000000000000");
    assert_eq!(std::fs::read(aside).unwrap(), rotten);
    rig.check_log();
    let told = gaps(&rig);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((&told[1]["from"], &told[1]["through"]), (&0.into(), &255.into()));
    assert!(told[0]["refilled_root"].is_null() && told[1]["refilled_root"].is_string());
    assert_eq!(scrub(&rig)["found"], 0);
    rig.stop_guan();
    rig.check_log();
}

/// A start that finds a bundle damaged says so and gets it back; a box that finds it without a link waits for one.
#[test]
fn a_start_remembers_what_is_damaged_until_it_is_back() {
    let Some(mut rig) = mirrored() else { return };
    rig.stop_space();
    flip(&log_folder(&rig).join(FIRST));
    assert_eq!(scrub(&rig)["found"], 1);
    for _ in 0..2 {
        rig.kill_and_restart_guan();
        wait_for("the start to know of it", || evidence(&rig)["damaged_bundles"] == 1);
    }
    assert_eq!(gaps(&rig).len(), 1, "told once");
    rig.start_space();
    wait_for("the bundle to come back", || evidence(&rig)["refilled_bundles"] == 1);
    rig.check_log();
}

/// What an epoch lost is asked for again when there is something new: the witness's key, which a start without a
/// link did not know, and a mirror that has the entries, once somebody asks for a scrub.
#[test]
fn a_start_that_cannot_ask_is_not_the_last_word() {
    let Some(mut rig) = mirrored() else { return };
    rig.kill_guan();
    rig.stop_space();
    let state = rig.stage.folder.join("box/state");
    std::fs::remove_dir_all(state.join("spool")).unwrap();
    std::fs::remove_file(state.join("space-log-keys")).unwrap();
    let (mirror, away) = (mirror_folder(&rig), rig.stage.folder.join("mirror-away"));
    std::fs::rename(&mirror, &away).unwrap();
    rig.start_guan();
    wait_for("the epoch to stay short", || alarms(&rig).contains("shown the key of the space's"));
    rig.start_space();
    wait_for("the mirror to be asked in vain", || alarms(&rig).contains("do not come back"));
    rig.stop_space();
    // Nor does a start that knows of the loss take what it cannot ask for as back.
    rig.kill_guan();
    std::fs::remove_file(state.join("space-log-keys")).unwrap();
    rig.start_guan();
    wait_for("the epoch to stay short", || alarms(&rig).contains("shown the key of the space's"));
    let _ = std::fs::remove_dir_all(&mirror);
    std::fs::rename(&away, &mirror).unwrap();
    rig.start_space();
    scrub(&rig);
    let told = || gaps(&rig).iter().filter(|gap| gap["refilled_epoch"] == 1).count();
    wait_for("the lost entries to come back", || told() > 0);
    assert!(is_verified(&rig, &["--epoch", "1"]), "it is told when they are back, and not before");
    assert_eq!(told(), 1);
    rig.stop_guan();
    rig.check_log();
}

/// The journal is gone with entries that were cosigned: the log goes on as another epoch at once, without a link,
/// and the one that lost them gets them back when there is one.
#[test]
fn an_epoch_that_lost_entries_is_whole_again() {
    let Some(mut rig) = mirrored() else { return };
    let cosigned = number(&evidence(&rig)["cosigned"]);
    rig.kill_guan();
    rig.stop_space();
    std::fs::remove_dir_all(rig.stage.folder.join("box/state/spool")).unwrap();
    rig.start_guan();
    wait_for("the next epoch", || evidence(&rig)["log"] == "guan/demo-box/e2");
    wait_for("it to be told", || alarms(&rig).contains("lost entries"));
    assert!(!is_verified(&rig, &["--epoch", "1"]));
    rig.start_space();
    wait_for("the lost entries to come back", || {
        let told = gaps(&rig);
        told.iter().any(|gap| gap["refilled_epoch"] == 1)
    });
    let verified = rig.stage.guan_json(&["log", "verify", "--epoch", "1"]).unwrap();
    assert_eq!((&verified["verified"], number(&verified["entries"])), (&true.into(), cosigned));
    rig.check_log();
    // Others can check what comes out of it.
    let tar = rig.stage.folder.join("epoch.tar").display().to_string();
    let export = ["log", "export", "--epoch", "1", "--cosigned", "--out", &tar];
    let exported = rig.stage.guan_json(&export).unwrap();
    assert_eq!(number(&exported["size"]), cosigned, "{exported}");
    let output = Command::new(programs().join("guan-verify")).arg(&tar).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    rig.stop_guan();
    rig.check_log();
    assert!(is_verified(&rig, &["--epoch", "1"]));
}
