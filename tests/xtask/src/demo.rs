//! `cargo demo`: builds the programs, then hands over to `guan-demo`.

use crate::programs;
use crate::system::Packages;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Debian packages that the build needs (ring and zstd hold C, the TPM's libraries are C), and the
/// emulated TPM of the demo.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "/usr/bin/cc"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("libtss2-dev", "/usr/include/tss2/tss2_esys.h"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("swtpm", "/usr/bin/swtpm"),
    ("swtpm-tools", "/usr/bin/swtpm_setup"),
    ("tpm2-tools", "/usr/bin/tpm2_checkquote"),
];

/// Returns the demo's own exit code.
pub(crate) fn run(root: &Path, json: bool) -> Result<ExitCode> {
    Packages::new(PACKAGES).install()?;
    let target = programs::build(root, &["guan-edge", "guan-space", "guan-demo"])?;
    let programs = target.join("release");
    let mut demo = Command::new(programs.join("guan-demo"));
    demo.arg(root).arg(&programs).arg(target.join("demo"));
    if json {
        demo.arg("--json");
    }
    let status = demo.status().context("guan-demo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
