//! The suite's own cases pass, and a wrong expectation is seen.

use std::path::{Path, PathBuf};
use std::process::Command;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/odrl")
}

/// The closing line and whether the status was 0.
fn run(folder: &Path) -> (String, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_odrl-suite"))
        .arg(folder)
        .output()
        .expect("the program starts");
    let text = String::from_utf8(output.stdout).expect("text");
    (text.lines().last().unwrap_or_default().to_owned(), output.status.success())
}

#[test]
fn all_cases_pass() {
    assert_eq!(run(&cases()), ("34 passed, 0 failed".to_owned(), true));
}

#[test]
fn a_wrong_expectation_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["policies/policy-8.ttl", "requests/request-1.ttl", "sotw/temporal.ttl"] {
        std::fs::copy(cases().join(part), folder.path().join(part.replace('/', "-"))).unwrap();
    }
    let case = std::fs::read_to_string(cases().join("testcase-023-alice-read-y.ttl")).unwrap();
    let request = std::fs::read(cases().join("requests/request-6.ttl")).unwrap();
    std::fs::write(folder.path().join("request-6.ttl"), request).unwrap();
    let policy = std::fs::read(cases().join("policies/policy-7.ttl")).unwrap();
    std::fs::write(folder.path().join("policy-7.ttl"), policy).unwrap();
    let path = folder.path().join("case.ttl");
    std::fs::write(&path, &case).unwrap();
    assert_eq!(run(folder.path()), ("1 passed, 0 failed".to_owned(), true));
    std::fs::write(&path, case.replace("report:Active", "report:Inactive")).unwrap();
    assert_eq!(run(folder.path()), ("0 passed, 1 failed".to_owned(), false));
}

#[test]
fn a_folder_without_cases_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!run(folder.path()).1);
}
