//! `cuts`: strikes programs at random moments under load, and says what was lost.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use guan_cuts::disk::Volume;
use guan_cuts::plant::{Guan, Mosquitto, Plant};
use guan_cuts::rig::{Blow, Disks, Order, Outcome, Rig};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Power cuts and kills under load. Status 0 when every completed message has arrived, once and in order.
#[derive(Parser)]
struct Options {
    /// Who is struck. mosquitto's far broker never is.
    #[arg(long, value_enum, default_value = "guan")]
    plant: Name,
    /// mosquitto saves its state after so many changes; 1 is its safest.
    #[arg(long, default_value_t = 1)]
    saves: u32,
    /// `power`: the disk loses what was not flushed; `kill`: SIGKILL only.
    #[arg(long, value_enum, default_value = "power")]
    blow: Blow,
    /// How often one of the two is struck.
    #[arg(long, default_value_t = 1000)]
    rounds: u32,
    /// So many of ten rounds strike the far side.
    #[arg(long, default_value_t = 2)]
    far_of_ten: u8,
    #[arg(long, default_value_t = 4)]
    clients: u64,
    /// Of all clients, shared out over the rounds.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// The power goes after so many changes of the disk, at most.
    #[arg(long, default_value_t = 400)]
    changes_max: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of `guan` and `guan-space`; without it, that of this program.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// End with one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Guan,
    Mosquitto,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("cuts: {fault:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    ensure!(Volume::is_possible(), "no disk can be mounted: it needs root and /dev/fuse");
    let folder = tempfile::tempdir()?;
    let disks = Disks::mount(folder.path())?;
    let volumes = (&disks.near, &disks.far);
    let outcome = match options.plant {
        Name::Guan => {
            let own = std::env::current_exe()?;
            let beside = own.parent().context("a program lies in a folder")?;
            let programs = options.programs.clone().unwrap_or_else(|| beside.to_owned());
            let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
            let plant = Guan::set_up(folder.path(), &programs, &configs, volumes)?;
            strike(options, plant, disks)
        }
        Name::Mosquitto => {
            let plant = Mosquitto::set_up(folder.path(), volumes, options.saves)?;
            strike(options, plant, disks)
        }
    };
    let is_good = outcome.as_ref().is_ok_and(Outcome::is_good);
    if !is_good && options.plant == Name::Guan {
        let kept = folder.keep();
        eprintln!("cuts: the folder stays for a look: {}", kept.display());
    }
    print(&outcome?, options.json);
    Ok(is_good)
}

fn strike(options: &Options, plant: impl Plant, disks: Disks) -> Result<Outcome> {
    let order = Order {
        blow: options.blow,
        rounds: options.rounds,
        far_of_ten: if options.plant == Name::Mosquitto { 0 } else { options.far_of_ten },
        clients: options.clients.max(1),
        messages: options.messages,
        changes_max: options.changes_max.max(1),
        seed: options.seed,
    };
    Rig::new(plant, disks, order).run(|round, completed| {
        if round.is_multiple_of(50) {
            eprintln!("cuts: {round} of {} rounds, {completed} messages", options.rounds);
        }
    })
}

fn print(outcome: &Outcome, is_json: bool) {
    let findings = &outcome.findings;
    println!("rounds       {} near, {} far", outcome.near_rounds, outcome.far_rounds);
    println!("in recovery  {} of them, before the near side listened", outcome.in_recovery);
    println!("refused      {} starts", outcome.refused);
    println!("completed    {} messages (PUBCOMP)", outcome.completed);
    println!("delivered    {}", findings.delivered);
    println!("lost         {}", findings.lost);
    println!("duplicated   {}", findings.duplicated);
    println!("out of order {}", findings.out_of_order);
    println!("strange      {}", findings.strange);
    println!("sessions     {} lost", outcome.sessions_lost);
    println!("gaps         {}", outcome.gaps);
    println!(
        "streams      {}, the sides of the one contract's lane that were cut",
        outcome.streams
    );
    println!("forks        {}", outcome.forks);
    println!("log          {}", if outcome.is_log_verified { "verified" } else { "NOT VERIFIED" });
    println!("took         {:.1} s", outcome.seconds);
    if is_json {
        let value = json!({
            "near_rounds": outcome.near_rounds, "far_rounds": outcome.far_rounds,
            "in_recovery": outcome.in_recovery, "refused": outcome.refused,
            "completed": outcome.completed, "delivered": findings.delivered,
            "lost": findings.lost, "duplicated": findings.duplicated,
            "out_of_order": findings.out_of_order, "strange": findings.strange,
            "sessions_lost": outcome.sessions_lost, "gaps": outcome.gaps,
            "forks": outcome.forks, "streams": outcome.streams,
            "log_verified": outcome.is_log_verified,
            "seconds": outcome.seconds,
        });
        println!("{value}");
    }
}
