//! The program `guan-space` as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_identity::{KeyFile, certificate_request};
use guan_model::BoxId;
use std::path::Path;
use std::process::Command;
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
