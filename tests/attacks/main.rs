//! The attacks on a log that research/log.md, section 4, lists: each is seen by the party that the table names, and
//! the untouched twin of each passes.
//!
//! [`ROWS`] is that table; a row names its tests, and a test sees to it that they are there. The tests of this
//! program run on an emulated TPM (swtpm) with the box's own code for log and anchors, the space's own witness, and
//! the auditor's verifier. Rows that need no TPM stand where the code is.
//!
//! | party | what it is here |
//! |---|---|
//! | start | the box's own program at its next start: `guan_edge::anchoring::begin`, `EvidenceLog::open` |
//! | auditor | `LogVerifier`, as in `guan log verify`, `guan-space log verify --box`, and `guan-verify` |
//! | others' tools | Go x/mod, OpenSSL, `tpm2_checkquote`, scitt-cose on what a demo run left |
//! | witness | the space's witness: C2SP tlog-witness status 409, 422, 403, and the fork that it keeps |
//! | box | the running box refuses to do it |

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod machines;
mod rebuilt;
mod rewriting;
mod rig;
mod rollback;
mod table;

use std::path::Path;
use table::{ROWS, Row};

/// A table that promises tests which are not there proves nothing.
#[test]
fn every_row_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (number, row) in (1..).zip(ROWS) {
        let Row { attack, tests, .. } = row;
        assert!(!tests.is_empty(), "row {number}, {attack}: no test");
        for (file, name) in *tests {
            let text = std::fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|fault| panic!("row {number}: {file}: {fault}"));
            let is_there = text.contains(&format!("fn {name}(")) && text.contains("#[test]")
                || text.contains(&format!("fn {name}(")) && text.contains("#[tokio::test");
            assert!(is_there, "row {number}, {attack}: {file} has no test {name}");
        }
    }
}

/// Where the specification says TPM, a TPM emulator is asked and no stand-in of ours.
#[test]
fn rows_about_the_tpm_run_on_an_emulator() {
    for Row { attack, needs_tpm, tests, .. } in ROWS.iter().filter(|row| row.needs_tpm) {
        let on_swtpm = ["tests/attacks/", "tests/tpm/", "tests/e2e/"];
        let is_on = |file: &str| on_swtpm.iter().any(|folder| file.starts_with(folder));
        assert!(tests.iter().any(|(file, _)| is_on(file)), "{attack}: {needs_tpm}");
    }
}
