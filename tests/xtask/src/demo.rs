//! `cargo demo`: builds the programs, then hands over to `guan-demo`.

use crate::system::Packages;
use anyhow::{Context, Result, bail};
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
    eprintln!("building guan, guan-space and the demo (release; some minutes the first time)");
    let packages = ["guan-edge", "guan-space", "guan-demo"];
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(root)
        .status();
    if !status.context("cargo cannot be started")?.success() {
        bail!("the programs cannot be built");
    }
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    };
    let programs = target.join("release");
    let mut demo = Command::new(programs.join("guan-demo"));
    demo.arg(root).arg(&programs).arg(target.join("demo"));
    if json {
        demo.arg("--json");
    }
    let status = demo.status().context("guan-demo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
