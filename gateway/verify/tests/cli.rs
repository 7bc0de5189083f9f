//! The program as an auditor meets it; bundles themselves are tested in `guan-evidence`.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::process::Command;

fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_guan-verify")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn check(arguments: &[&str], status: i32, part: &str) {
    let (found, text) = verify(arguments);
    assert_eq!(found, Some(status), "{text}");
    assert!(text.contains(part), "{text}");
}

#[test]
fn what_is_no_bundle_cannot_be_judged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    check(&[&path("absent")], 2, "cannot be read");
    check(&[&folder.path().display().to_string()], 2, "policy is missing");
    std::fs::write(folder.path().join("noise"), [7; 2000]).unwrap();
    check(&[&path("noise")], 2, "guan-verify:");
    check(&[&path("noise"), "--json"], 2, "\"holds\":null");
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    check(&[&folder.path().display().to_string()], 2, "no plain file");
}
