//! The program `guan-space` as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_identity::{KeyFile, certificate_request};
use guan_model::BoxId;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn check(arguments: &[&str], success: bool, parts: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_guan-space")).args(arguments).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.success(), success, "{arguments:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{arguments:?} does not say {part:?}: {text}");
    }
    text
}

fn request(folder: &Path, id: &str) -> String {
    let path = folder.join("box.csr.pem");
    let (key, _) = KeyFile::generate(id).unwrap();
    let request = certificate_request(Arc::new(key), &BoxId::parse(id).unwrap()).unwrap();
    std::fs::write(&path, request).unwrap();
    path.display().to_string()
}

#[test]
fn a_space_is_set_up_and_enrols_and_revokes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("space").display().to_string();
    let init = ["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"];
    check(&init, true, &["guan-space run", "contract key"]);
    check(&init, false, &["exists"]);
    let config = format!("{dir}/space.toml");
    check(&["config", "check", "--config", &config], true, &["is valid"]);
    check(&["status", "--config", &config], false, &["does not run"]);
    let key =
        check(&["contract", "key", "--config", &config], true, &["[[contracts.trusted_key]]"]);
    assert!(key.contains("party = \"space-1\""), "{key}");
    let csr = request(folder.path(), "box-1");
    let out = folder.path().join("box.pem").display().to_string();
    let enrol = |id: &'static str, tier: &'static str| {
        let what = ["box", "enrol", "--config", &config, "--box", id, "--csr", &csr];
        [&what[..], &["--tier", tier, "--out", &out]].concat()
    };
    check(&enrol("box-2", "unattested"), false, &["box-1", "box-2"]);
    check(&enrol("box-1", "hardware"), false, &["guan join"]);
    check(&enrol("box-1", "unattested"), true, &["fingerprint"]);
    check(&["box", "list", "--config", &config], true, &["box-1", "enrolled"]);
    check(&["box", "revoke", "--config", &config, "box-3"], false, &["not enrolled"]);
    check(&["box", "revoke", "--config", &config, "box-1"], true, &["turned away"]);
    check(&["box", "list", "--config", &config], true, &["REVOKED"]);
}

#[test]
fn contracts_are_signed_or_refused_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    check(&["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"], true, &[]);
    let config = format!("{dir}/space.toml");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/contracts/vessel.json");
    let out = format!("{dir}/signed.json");
    let sign = |input: &str| {
        ["contract", "sign", "--config", &config, "--in", input, "--out", &out].map(str::to_owned)
    };
    let run = |input: &str, success, parts: &[&str]| {
        let arguments = sign(input);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check(&arguments, success, parts)
    };
    run(&sample.display().to_string(), true, &["signed as space-1"]);
    let bad = format!("{dir}/bad.json");
    std::fs::write(&bad, r#"{"id":"C-1","version":0}"#).unwrap();
    run(&bad, false, &["is not signed", "version"]);
}

/// Runs the space until it is ready, stops it in order, and gives what it said.
fn run_once(config: &str) -> String {
    let mut space = Command::new(env!("CARGO_BIN_EXE_guan-space"))
        .args(["run", "--config", config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut is_ready) = (String::new(), false);
    for line in BufReader::new(space.stderr.take().unwrap()).lines() {
        said += &(line.unwrap() + "\n");
        if said.contains("ready") && !is_ready {
            is_ready = true;
            let kill = Command::new("kill").args(["-TERM", &space.id().to_string()]).status();
            assert!(kill.unwrap().success());
        }
    }
    assert!(space.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn a_space_keeps_a_log_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    let init = ["init", "--dir", &dir, "--id", "space-1", "--host", "localhost"];
    check(&[&init[..], &["--listen", "127.0.0.1:0"]].concat(), true, &[]);
    let config = format!("{dir}/space.toml");
    let with = |what: &'static [&'static str]| [what, &["--config", &config]].concat();
    check(&with(&["log", "head"]), false, &["start `guan-space run`"]);
    assert!(!run_once(&config).contains("is made"), "init makes the keys");
    let head = check(&with(&["log", "head"]), true, &["guan-space/space-1\n2\n"]);
    // An older space has no log and no keys for it.
    for name in ["keys", "log", "store"] {
        std::fs::remove_dir_all(folder.path().join("state").join(name)).unwrap();
    }
    let said = run_once(&config);
    assert!(said.contains("a key of the space's log is made"), "{said}");
    assert_ne!(check(&with(&["log", "head"]), true, &[]), head);
    let deleted = "{\"deleted\":{\"contract\":\"C-1\"}}\n";
    std::fs::write(folder.path().join("state/deleted.jsonl"), deleted).unwrap();
    run_once(&config);
    check(&with(&["log", "verify"]), true, &["5, 5 under a signed head", "\nverified"]);
    check(&with(&["log", "show", "--kind", "data.deleted"]), true, &["contract C-1"]);
    check(&with(&["log", "verify", "--json"]), true, &["\"verified\":true"]);
    check(&with(&["log", "show"]), true, &["guan-space 0.1.0", "stop"]);
    check(&with(&["log", "show", "--kind", "stop", "--json"]), true, &["\"kind\":\"stop\""]);
    check(&with(&["log", "boxes"]), true, &["no box"]);
    check(&with(&["log", "head", "--box", "box-9"]), false, &["no such log"]);
    let out = format!("{dir}/tiles");
    let export = with(&["log", "export", "--out"]);
    let export = [&export[..3], &[&out], &export[3..]].concat();
    check(&export, true, &["5 entries of guan-space/space-1"]);
    check(&export, false, &["not empty"]);
    for name in ["checkpoint", "log.vkey", "tile/0/000.p/5", "tile/entries/000.p/5"] {
        assert!(Path::new(&out).join(name).is_file(), "{name}");
    }
    check(&with(&["trace"]), false, &["name --box"]);
    check(&with(&["trace", "--contract", "C-1"]), false, &["nothing of that kind"]);
    check(&with(&["trace", "--batch", "12"]), false, &["64 hexadecimal"]);
    let question = ["trace", "--box", "b", "--dataset", "d", "--at", "2026-11-27T08:30:00Z"];
    check(&[&question[..], &["--config", &config]].concat(), false, &["nothing of that kind"]);
    // A leaf that was changed is named.
    let file = folder.path().join("state/store/seg-0000000000000001.gks");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    check(&with(&["log", "verify"]), false, &["FAULT", "NOT verified"]);
    std::fs::write(&file, bytes).unwrap();
    check(&with(&["log", "verify"]), true, &["\nverified"]);
}
