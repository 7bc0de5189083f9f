//! The demo with the programs of the test build: slower than `cargo demo`, the same promises.

use std::path::Path;
use std::process::Command;

#[test]
fn everything_arrives_once_through_a_cut_and_a_kill() {
    let demo = Path::new(env!("CARGO_BIN_EXE_guan-demo"));
    let programs = demo.parent().unwrap();
    let built = programs.join("guan").exists() && programs.join("guan-space").exists();
    assert!(built, "build the programs first: cargo test --workspace, or cargo build");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("demo");
    let output =
        Command::new(demo).arg(root).arg(programs).arg(work).arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["lost"], &last["duplicated"]), (&0.into(), &0.into()));
    assert_eq!(last["log_verified"], true);
    assert_eq!(last["published"], last["acknowledged"]);
}
