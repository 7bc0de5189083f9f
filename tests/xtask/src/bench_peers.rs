//! `cargo bench-peers`: builds the programs, then hands over to `guan-peers`.

use crate::programs;
use crate::system::Packages;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Debian packages that the build needs, the peer, and what makes the network between the two ends.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "/usr/bin/cc"),
    ("iproute2", "/usr/sbin/ip"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("libtss2-dev", "/usr/include/tss2/tss2_esys.h"),
    ("mosquitto", "/usr/sbin/mosquitto"),
    ("pkg-config", "/usr/bin/pkg-config"),
];

/// Returns the benchmark's own exit code.
pub(crate) fn run(root: &Path, options: &[String]) -> Result<ExitCode> {
    Packages::new(PACKAGES).install()?;
    let target = programs::build(root, &["guan-edge", "guan-space", "guan-peers"])?;
    let programs = target.join("release");
    let mut bench = Command::new(programs.join("guan-peers"));
    bench.arg("run").arg(root).arg(&programs).arg(target.join("bench-peers")).args(options);
    let status = bench.status().context("guan-peers cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
