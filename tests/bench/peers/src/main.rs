//! `cargo bench-peers`: the product beside its peers, end to end, in one run on this machine.
//!
//! Arguments: root of the repository, folder of the programs, folder to work in; then options. Prints tables;
//! with `--json` the last line is one object. A peer that cannot run is a line with SKIP and why.

#![forbid(unsafe_code)]

mod bridge;
mod durable;
mod far;
mod instruments;
mod limits;
mod line;
mod load;
mod mqtt;
mod ours;
mod payloads;
mod plot;
mod process;
mod report;
mod sink;
mod statistics;
mod throughput;
mod weak;
mod wire;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use far::Far;
use guan_demo::data::{self, Dataset};
use ours::Setting;
use report::Report;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use throughput::Cell;

/// The product's own defaults.
const ROWS_MAX: usize = 4096;
const WINDOW_MS: u64 = 20;

#[derive(Parser)]
#[command(name = "guan-peers", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the benchmark.
    Run(Options),
    /// The subscriber behind the second broker.
    #[command(hide = true)]
    Sink { address: String },
}

#[derive(clap::Args)]
struct Options {
    root: PathBuf,
    programs: PathBuf,
    folder: PathBuf,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// The whole matrix and long runs, instead of what takes some minutes.
    #[arg(long)]
    full: bool,
    /// One run of the main case: a first look.
    #[arg(long, conflicts_with = "full")]
    short: bool,
    /// Clients of the main case.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Bytes of a payload in the main case.
    #[arg(long, default_value_t = 200)]
    payload_bytes: usize,
    /// Only these parts.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Draws throughput and wire bytes beside the peer into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

/// What all measurements share.
pub(crate) struct Bench {
    folder: PathBuf,
    programs: PathBuf,
    far: Far,
    datasets: Vec<Dataset>,
    window: Duration,
    is_full: bool,
    is_short: bool,
    /// The case whose ratio is the goal.
    main: Cell,
    peer_missing: Option<String>,
}

impl Bench {
    fn setting(&self) -> Setting<'_> {
        Setting {
            programs: &self.programs,
            far: &self.far,
            points: &[],
            rows_max: ROWS_MAX,
            window_ms: WINDOW_MS,
        }
    }

    fn machine(&self) -> Result<&Dataset> {
        let found = self.datasets.iter().find(|dataset| dataset.id == "machine-temperature");
        found.context("tests/data has the machine's temperature")
    }

    /// Every point that the data sets and so many clients need.
    fn points(&self, clients: usize) -> Vec<String> {
        let readings = self.datasets.iter().flat_map(|dataset| &dataset.messages);
        let names = readings.map(|message| &message.reading.point);
        let bus: BTreeSet<&String> = names.filter(|name| name.starts_with("n2k.")).collect();
        let instruments = instruments::names().map(|name| format!("instruments.{name}"));
        let plant = (0..clients).map(|client| format!("plant.press-{client}"));
        bus.into_iter().cloned().chain(instruments).chain(plant).collect()
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench-peers: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Sink { address } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(sink::run(&address))
        }
        Command::Run(options) => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.folder)?;
    let (far, without) = Far::make();
    if let Some(why) = &without {
        println!("SKIP wire: no network namespace: {why}");
    }
    let peer_missing = bridge::missing();
    if let Some(why) = &peer_missing {
        println!("SKIP peer: {why}");
    }
    let absolute = |path: &Path| path.canonicalize().context(path.display().to_string());
    let bench = Bench {
        folder: absolute(&options.folder)?,
        programs: absolute(&options.programs)?,
        far,
        datasets: data::read(&options.root.join("tests/data"))?,
        window: Duration::from_secs(if options.full { 20 } else { 6 }),
        is_full: options.full,
        is_short: options.short,
        main: Cell { clients: options.clients, payload_bytes: options.payload_bytes },
        peer_missing,
    };
    let is_wanted =
        |part: &str| options.only.is_empty() || options.only.iter().any(|one| one == part);
    let mut report = Report::default();
    for (part, run) in report::PARTS {
        if is_wanted(part) {
            run(&bench, &mut report).with_context(|| format!("part {part}"))?;
        }
    }
    if let Some(folder) = &options.plots {
        report.draw(folder)?;
    }
    if options.json {
        println!("{}", report.json());
    }
    Ok(())
}
