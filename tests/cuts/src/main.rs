//! `cuts`: strikes box and space at random moments under load, and says what was lost.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use clap::Parser;
use guan_cuts::disk::Volume;
use guan_cuts::rig::{Blow, Order, Outcome, Rig};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Power cuts and kills under load. Status 0 when every completed message is in the space, once and in order.
#[derive(Parser)]
struct Options {
    /// `power`: the disk loses what was not flushed; `kill`: SIGKILL only.
    #[arg(long, value_enum, default_value = "power")]
    blow: Blow,
    /// How often one of the two is struck.
    #[arg(long, default_value_t = 1000)]
    rounds: u32,
    /// So many of ten rounds strike the space.
    #[arg(long, default_value_t = 2)]
    space_of_ten: u8,
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
    let own = std::env::current_exe()?;
    let beside = own.parent().context("a program lies in a folder")?;
    let programs = options.programs.clone().unwrap_or_else(|| beside.to_owned());
    let order = Order {
        blow: options.blow,
        rounds: options.rounds,
        space_of_ten: options.space_of_ten,
        clients: options.clients.max(1),
        messages: options.messages,
        changes_max: options.changes_max.max(1),
        seed: options.seed,
    };
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let folder = tempfile::tempdir()?;
    let rig = Rig::set_up(folder.path(), &programs, &configs, order)?;
    let outcome = rig.run(|round, completed| {
        if round.is_multiple_of(50) {
            eprintln!("cuts: {round} of {} rounds, {completed} messages", options.rounds);
        }
    });
    if outcome.as_ref().map_or(true, |outcome| !outcome.is_good()) {
        let kept = folder.keep();
        eprintln!("cuts: the folder stays for a look: {}", kept.display());
    }
    let outcome = outcome?;
    print(&outcome, options.json);
    Ok(outcome.is_good())
}

fn print(outcome: &Outcome, is_json: bool) {
    let findings = &outcome.findings;
    println!(
        "rounds       {} of the box, {} of the space",
        outcome.box_rounds, outcome.space_rounds
    );
    println!("in recovery  {} of them before the box listened", outcome.in_recovery);
    println!("completed    {} messages (PUBCOMP)", outcome.completed);
    println!("delivered    {}", findings.delivered);
    println!("lost         {}", findings.lost);
    println!("duplicated   {}", findings.duplicated);
    println!("out of order {}", findings.out_of_order);
    println!("strange      {}", findings.strange);
    println!("sessions     {} lost", outcome.sessions_lost);
    println!("gaps         {}", outcome.gaps);
    println!("forks        {}", outcome.forks);
    println!("log          {}", if outcome.log_verified { "verified" } else { "NOT VERIFIED" });
    println!("took         {:.1} s", outcome.seconds);
    if is_json {
        let value = json!({
            "box_rounds": outcome.box_rounds, "space_rounds": outcome.space_rounds,
            "in_recovery": outcome.in_recovery, "completed": outcome.completed,
            "delivered": findings.delivered, "lost": findings.lost,
            "duplicated": findings.duplicated, "out_of_order": findings.out_of_order,
            "strange": findings.strange, "sessions_lost": outcome.sessions_lost,
            "forks": outcome.forks, "gaps": outcome.gaps, "log_verified": outcome.log_verified,
            "seconds": outcome.seconds,
        });
        println!("{value}");
    }
}
