//! What the machine must have: Debian packages and a Python environment of the project's own.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian packages, each with a path that shows that it is there.
pub(crate) struct Packages {
    wanted: &'static [(&'static str, &'static str)],
}

impl Packages {
    pub(crate) fn new(wanted: &'static [(&'static str, &'static str)]) -> Self {
        Self { wanted }
    }

    /// Installs what is missing, after saying so.
    pub(crate) fn install(&self) -> Result<()> {
        let missing = || {
            let absent = self.wanted.iter().filter(|(_, proof)| !Path::new(proof).exists());
            absent.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let names = missing();
        if names.is_empty() {
            return Ok(());
        }
        println!("installing Debian packages: {}", names.join(" "));
        apt(&["update", "-q"])?;
        let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
        arguments.extend(&names);
        apt(&arguments)?;
        match missing().as_slice() {
            [] => Ok(()),
            left => bail!("still missing after apt-get: {}", left.join(" ")),
        }
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut command = match is_root {
        true => Command::new("apt-get"),
        false => Command::new("sudo"),
    };
    if !is_root {
        command.arg("apt-get");
    }
    let status = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
    match status.context("apt-get cannot be started; this needs Debian")?.success() {
        true => Ok(()),
        false => bail!("apt-get {} failed; install the packages by hand", arguments.join(" ")),
    }
}

/// A Python with these packages, in `target/python`. Returns the interpreter.
pub(crate) fn python_environment(root: &Path, packages: &[&str]) -> Result<PathBuf> {
    let folder = root.join("target/python");
    let python = folder.join("bin/python");
    if !python.exists() {
        println!("making a Python environment in {}", folder.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    // A stamp a package, so that nothing is asked of the network when all is there.
    let stamp = |package: &str| folder.join(format!(".installed-{package}"));
    let missing: Vec<&str> =
        packages.iter().copied().filter(|package| !stamp(package).exists()).collect();
    if !missing.is_empty() {
        println!("installing Python packages: {}", missing.join(" "));
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(&missing))?;
        for package in missing {
            std::fs::write(stamp(package), "").context("the stamp cannot be written")?;
        }
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be started"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("{command:?} failed"),
    }
}
