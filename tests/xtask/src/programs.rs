//! Builds programs of the workspace in release, where the other commands start them from.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the target folder; the programs are in `release` below it.
pub(crate) fn build(root: &Path, packages: &[&str]) -> Result<PathBuf> {
    eprintln!("building {} (release; some minutes the first time)", packages.join(", "));
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .current_dir(root)
        .status();
    if !status.context("cargo cannot be started")?.success() {
        bail!("the programs cannot be built");
    }
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    })
}
