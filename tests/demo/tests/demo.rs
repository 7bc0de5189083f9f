//! The demo with the programs of the test build: slower than `cargo demo`, the same promises.

use guan_demo::outsiders::Outsiders;
use guan_demo::stage::Stage;
use std::path::{Path, PathBuf};
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
    let output = Command::new(demo).args([&root, programs, &work]).arg("--json").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["lost"], &last["duplicated"]), (&0.into(), &0.into()));
    assert_eq!(last["log_verified"], true);
    assert_eq!(last["published"], last["acknowledged"]);
    // What the run left is checked by programs that we did not write.
    let stage = Stage::new(work, programs.to_path_buf(), root.join("configs"), [0; 3]);
    let python = std::env::var_os("GUAN_TEST_PYTHON").map(PathBuf::from);
    let python = python.filter(|path| path.exists());
    Outsiders { verifiers: root.join("tests/verifiers"), python }.check(&stage).unwrap();
}
