//! The commands of the project: `cargo demo`, `cargo verify` and `cargo bench-peers`.

#![forbid(unsafe_code)]

mod bench_peers;
mod demo;
mod programs;
mod system;
mod verify;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Commands for whoever works on Guankou. They install what Debian 12 lacks, after saying so.
#[derive(Parser)]
#[command(name = "cargo", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the main job on real data: collect, decide, record, survive a cut and a kill, deliver.
    Demo {
        /// End with one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Measure the product beside its peers, end to end; `-- --help` tells the options.
    BenchPeers {
        /// Handed to the benchmark: --json, --full, --only PART.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run every check and test of the project.
    Verify,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("xtask: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = root()?;
    match arguments.command {
        Command::Demo { json } => demo::run(&root, json),
        Command::BenchPeers { options } => bench_peers::run(&root, &options),
        Command::Verify => verify::run(&root).map(|()| ExitCode::SUCCESS),
    }
}

/// The repository; this crate stands two folders below.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.ancestors().nth(2).context("xtask stands in tests/xtask")?.to_path_buf())
}
