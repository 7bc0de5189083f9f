//! Who acted on the box's log: said on request, forgotten on request, while every entry proves as before.

use crate::rig::{Rig, often, programs, wait_for};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const ACTOR: &str = "li@depot-7";

/// Whether any file below this folder has the name in it.
fn names_the_actor(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut entries = entries.map(|path| match path.is_dir() {
        true => names_the_actor(&path),
        false => fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(ACTOR.len()).any(|part| part == ACTOR.as_bytes())),
    });
    entries.any(|names| names)
}

/// What is shown of the entries of a kind, with who acted.
pub(crate) fn acted(rig: &Rig, kind: &str) -> Vec<(Value, Value)> {
    let show = ["log", "show", "--kind", kind, "--disclose"];
    let shown = rig.stage.guan_json(&show).unwrap();
    let entries = shown["entries"].as_array().unwrap().iter();
    entries.map(|one| (one["entry"].clone(), one["actor_name"].clone())).collect()
}

fn exports(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let show = [&["log", "show", "--kind", "audit.export"], arguments].concat();
    let shown = rig.stage.guan_json(&show).unwrap();
    shown["entries"].as_array().unwrap().clone()
}

/// `guan-verify` over a bundle.
fn judge(tar: &str) -> Value {
    let verify = programs().join("guan-verify");
    let output = Command::new(verify).args([tar, "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn who_asked_for_a_bundle_is_said_and_forgotten() {
    let mut rig = Rig::start(often);
    let out = |name: &str| rig.stage.folder.join(name).display().to_string();
    let (first, disclosed, after) = (out("first.tar"), out("disclosed.tar"), out("after.tar"));
    let state = rig.stage.folder.join("box/state");
    wait_for("a signed head", || rig.stage.guan_json(&["log", "head"]).is_ok());
    let made = rig.stage.guan_json(&["log", "export", "--out", &first, "--by", ACTOR]).unwrap();
    wait_for("the log to say so", || exports(&rig, &[]).len() == 1);
    let entry = exports(&rig, &[])[0].clone();
    assert_eq!(entry["entry"]["entries"], made["entries"]);
    assert!(entry["actor"].is_string() && entry.get("actor_name").is_none(), "{entry}");
    assert_eq!(exports(&rig, &["--disclose"])[0]["actor_name"], ACTOR);
    let seq = entry["seq"].as_u64().unwrap();
    let export = |out: &str, more: &[&str]| {
        let from = seq.to_string();
        let arguments = ["log", "export", "--out", out, "--from", &from, "--through", &from];
        rig.stage.guan_json(&[&arguments[..], more].concat())
    };
    wait_for("a head over it", || export(&disclosed, &["--disclose"]).is_ok());
    let verdict = judge(&disclosed);
    assert_eq!(verdict["holds"], true, "{verdict:#}");
    let expect = serde_json::json!([{"index": seq, "actor": ACTOR}]);
    assert_eq!(verdict["disclosed"], expect);
    assert!(names_the_actor(&state), "the twin: it is found where it is");
    let erase = ["log", "erase", "--actor", ACTOR, "--ground", "consent-withdrawn"];
    let erased = rig.stage.guan_json(&erase).unwrap();
    assert_eq!((&erased["openings"], &erased["done"]), (&1.into(), &true.into()), "{erased}");
    assert!(rig.stage.guan_json(&erase).is_err(), "there is nothing left to erase");
    assert!(!names_the_actor(&state));
    assert!(exports(&rig, &["--disclose"])[0].get("actor_name").is_none());
    let shown = rig.stage.guan_json(&["log", "show", "--kind", "log.erase"]).unwrap();
    let leaf = &shown["entries"][0]["entry"];
    assert_eq!((&leaf["commitments"], &leaf["ground"]), (&1.into(), &"consent-withdrawn".into()));
    export(&after, &["--disclose"]).unwrap();
    let verdict = judge(&after);
    assert_eq!(verdict["holds"], true, "{verdict:#}");
    assert_eq!(verdict["disclosed"], serde_json::json!([]));
    assert_eq!(verdict["entries"][0]["actor"], entry["actor"], "it proves as before");
    rig.stop_guan();
    rig.check_log();
}

/// Tiles go out as bundles do, and whoever erases is named as others are, unless the name is the one to be erased.
#[test]
fn tiles_and_erasures_name_who_asked() {
    let mut rig = Rig::start(often);
    wait_for("a signed head", || rig.stage.guan_json(&["log", "head"]).is_ok());
    let tiles = rig.stage.folder.join("tiles").display().to_string();
    let made = rig.stage.guan_json(&["log", "export", "--tiles", &tiles, "--by", ACTOR]).unwrap();
    wait_for("the log to say so", || acted(&rig, "audit.export").len() == 1);
    let (entry, name) = acted(&rig, "audit.export").remove(0);
    let head = fs::read(Path::new(&tiles).join("checkpoint")).unwrap();
    let expect = guan_model::Digest::of(&head).to_string();
    assert_eq!((&entry["manifest"], &name), (&expect.into(), &ACTOR.into()), "{entry}");
    assert_eq!(entry["entries"], made["size"]);
    let erase = |by: &str| {
        let ground = ["--ground", "service-ended", "--by", by];
        rig.stage.guan_json(&[&["log", "erase", "--actor", ACTOR], &ground[..]].concat())
    };
    let said = erase(ACTOR).unwrap_err().to_string();
    assert!(said.contains("the name that is to be forgotten"), "{said}");
    assert!(rig.stage.guan_json(&["log", "erase", "--actor", ACTOR, "--ground", "no"]).is_err());
    assert_eq!(erase("wang@dpo").unwrap()["done"], true);
    assert_eq!(acted(&rig, "log.erase")[0].1, "wang@dpo");
    assert_eq!(acted(&rig, "audit.export")[0].1, Value::Null);
    assert!(!names_the_actor(&rig.stage.folder.join("box/state")));
    rig.stop_guan();
    rig.check_log();
}

/// The space's own log says that it was handed out, and forgets by whom, as a box's does.
#[test]
fn the_space_logs_its_exports() {
    let mut rig = Rig::start(often);
    let shown = |rig: &Rig, kind: &str| {
        let show = ["log", "show", "--last", "1000", "--kind", kind, "--disclose"];
        rig.stage.space_json(&show).unwrap()["entries"].as_array().unwrap().clone()
    };
    wait_for("a head of the space", || rig.stage.space_json(&["log", "head"]).is_ok());
    let out = rig.stage.folder.join("space-tiles").display().to_string();
    let made = rig.stage.space_json(&["log", "export", "--out", &out, "--by", ACTOR]).unwrap();
    wait_for("the log to say so", || shown(&rig, "audit.export").len() == 1);
    let entry = shown(&rig, "audit.export").remove(0);
    let head = fs::read(Path::new(&out).join("checkpoint")).unwrap();
    assert_eq!(entry["entry"]["manifest"], guan_model::Digest::of(&head).to_string());
    assert_eq!((&entry["entry"]["entries"], &entry["actor_name"]), (&made["size"], &ACTOR.into()));
    let again = rig.stage.space_json(&["log", "export", "--out", &out]).unwrap_err().to_string();
    assert!(again.contains("is not empty"), "{again}");
    let state = rig.stage.folder.join("space/state");
    assert!(names_the_actor(&state), "the twin: it is found where it is");
    let erase = ["log", "erase", "--actor", ACTOR, "--ground", "legal-duty"];
    assert_eq!(rig.stage.space_json(&erase).unwrap()["openings"], 1);
    wait_for("it to be forgotten", || !names_the_actor(&state));
    assert_eq!(shown(&rig, "log.erase").len(), 1);
    assert_eq!(shown(&rig, "audit.export")[0]["actor"], entry["actor"]);
    assert!(shown(&rig, "audit.export")[0].get("actor_name").is_none());
    rig.stop_guan();
    rig.stop_space();
    assert_eq!(rig.stage.space_json(&["log", "verify"]).unwrap()["verified"], true);
}

/// Without the gateway acts wait, and the next start records and carries them out.
#[test]
fn acts_wait_for_the_gateway() {
    let mut rig = Rig::start(often);
    wait_for("a signed head", || rig.stage.guan_json(&["log", "head"]).is_ok());
    rig.stop_guan();
    let state = rig.stage.folder.join("box/state");
    let out = rig.stage.folder.join("b.tar").display().to_string();
    rig.stage.guan_json(&["log", "export", "--out", &out, "--by", ACTOR]).unwrap();
    let erase =
        ["log", "erase", "--actor", ACTOR, "--ground", "retention-expired", "--wait-s", "0"];
    let erased = rig.stage.guan_json(&erase).unwrap();
    assert_eq!((&erased["openings"], &erased["done"]), (&1.into(), &false.into()), "{erased}");
    assert!(names_the_actor(&state), "nothing goes before the log says so");
    rig.start_guan();
    wait_for("the acts to be done", || !names_the_actor(&state));
    wait_for("the log to say so", || {
        let shown = rig.stage.guan_json(&["log", "show", "--kind", "log.erase"]).unwrap();
        shown["entries"].as_array().unwrap().len() == 1 && exports(&rig, &[]).len() == 1
    });
    rig.stop_guan();
    rig.check_log();
}
