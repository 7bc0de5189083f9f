//! Commands and their options.

mod acknowledge;
mod acts;
mod boxes;
mod carry;
mod catalogue;
mod contract;
mod deleted;
mod enrol;
mod log;
mod meter;
mod negotiate;
mod release;
mod show;
mod token;
mod trace;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use guan_configs::SpaceConfig;
use guan_model::{BoxId, WallTime};
use guan_space::init::{NewSpace, create};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The space's end of Guankou (关口): receives, stores and exports what boxes deliver.
#[derive(Parser)]
#[command(name = "guan-space", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// Configuration file of the space.
    #[arg(long, value_name = "FILE", default_value = "/etc/guan-space/space.toml")]
    config: PathBuf,
    /// Print JSON for programs instead of text for people.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Set a space up: authority, server certificate, contract key, configuration.
    Init {
        /// Folder to make them in.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the space, as contracts name it.
        #[arg(long)]
        id: String,
        /// DNS names and IP addresses by which boxes reach it; repeat for several.
        #[arg(long, required = true)]
        host: Vec<String>,
        /// Where it will listen (UDP).
        #[arg(long, default_value = "0.0.0.0:4433")]
        listen: String,
    },
    /// Run the space until SIGTERM or SIGINT. The environment variable GUAN_LOG sets how much is
    /// logged (error, warn, info, debug).
    Run {
        /// Configuration file of the space.
        #[arg(long, value_name = "FILE", default_value = "/etc/guan-space/space.toml")]
        config: PathBuf,
    },
    /// What the running space is doing.
    Status(Common),
    /// Write all readings as Parquet, one file for each dataset. Works while the space runs.
    Export {
        #[command(flatten)]
        common: Common,
        /// Folder for the files; existing ones are replaced.
        #[arg(long)]
        out: PathBuf,
        /// A folder for each contract, so that each recipient gets what is his.
        #[arg(long)]
        by_contract: bool,
    },
    /// What boxes sent under each contract, day by day, what their logs prove and what is stored here;
    /// fails if these differ.
    Meter {
        #[command(flatten)]
        common: Common,
        /// Only of this box.
        #[arg(long = "box", value_name = "BOX")]
        box_id: Option<String>,
    },
    /// What was deleted here, as contracts asked.
    Deleted {
        #[command(flatten)]
        common: Common,
        /// Check that this space has signed each line; fails if not.
        #[arg(long)]
        verify: bool,
    },
    /// The space's evidence log, and the copies of those of the boxes.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Where a reading, a batch or all of a contract came from, and what proves it.
    Trace(trace::TraceArguments),
    /// Boxes that may deliver.
    #[command(subcommand)]
    Box(BoxCommand),
    /// One-time tokens with which boxes join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Contracts of this space.
    #[command(subcommand)]
    Contract(contract::ContractCommand),
    /// What boxes without a link send on a medium.
    #[command(subcommand)]
    Carry(carry::CarryCommand),
    /// What boxes offer: datasets, their quality, and offers.
    #[command(subcommand)]
    Catalogue(catalogue::CatalogueCommand),
    /// What the maker of a release signs: which firmware boxes may run.
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum BoxCommand {
    /// Issue a certificate for a box and let it deliver.
    Enrol {
        #[command(flatten)]
        common: Common,
        /// Name of the box; the request must carry the same.
        #[arg(long = "box")]
        id: String,
        /// Certificate request of the box (`guan identity init` makes it).
        #[arg(long)]
        csr: PathBuf,
        /// What vouches for its key.
        #[arg(long)]
        tier: String,
        /// File for the certificate.
        #[arg(long)]
        out: PathBuf,
        /// How long the certificate is valid.
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
    /// All boxes.
    List(Common),
    /// One box: its TPM, and what its last appraisal found.
    Show {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
    },
    /// Have a box prove itself now.
    Attest {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
    },
    /// Take the firmware (PCR 0) that a box has shown last for the right one.
    ApproveFirmware {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
    },
    /// Take a box out of service: it sends what it has, confirms with its TPM, is revoked, and clears
    /// its TPM.
    Decommission {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
        /// Do not wait until the box has sent everything.
        #[arg(long)]
        discard: bool,
    },
    /// Send a box the policy under which its TPM opens its store.
    SendPolicy {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
        /// The signed policy (`guan-space release policy` makes it).
        #[arg(long)]
        file: PathBuf,
    },
    /// The passwords of a box's TPM that this space keeps, for its rescue.
    Passwords {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
    },
    /// Turn a box away, at once and for good.
    Revoke {
        #[command(flatten)]
        common: Common,
        /// Name of the box.
        id: String,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token for one box; `guan join` on the box uses it up.
    New {
        #[command(flatten)]
        common: Common,
        /// Name of the box that may use it.
        #[arg(long = "box")]
        id: String,
        /// How long it is valid.
        #[arg(long, default_value_t = 24)]
        hours: u32,
        /// SHA-256 of the only endorsement key that may use it, in hex: for TPMs whose maker gave no
        /// certificate, or one out of standard. `guan identity show` prints it.
        #[arg(long, requires = "tier")]
        ek: Option<String>,
        /// What that TPM is worth: hardware or emulated.
        #[arg(long, requires = "ek")]
        tier: Option<String>,
    },
    /// Remove tokens that have expired.
    DropExpired(Common),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the file: all faults at once, each with its line and a remedy.
    Check(Common),
    /// Print every value in force and where it comes from.
    Show(Common),
    /// Explain every key: kind, range, default, meaning.
    Reference,
}

/// Runs one command.
pub(crate) fn execute(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Init { dir, id, host, listen } => init(dir, id, host, listen)?,
        Command::Run { config } => run(config)?,
        Command::Status(common) => return show::status(common),
        Command::Meter { common, box_id } => return meter::execute(common, box_id.as_deref()),
        Command::Deleted { common, verify } => return deleted::execute(common, *verify),
        Command::Log(command) => return log::execute(command),
        Command::Trace(arguments) => return trace::execute(arguments),
        Command::Export { common, out, by_contract } => {
            show::export(common, out, *by_contract)?;
        }
        Command::Box(BoxCommand::Enrol { common, id, csr, tier, out, days }) => {
            enrol::enrol(common, &enrol::Request { id, csr, tier, out, days: *days })?;
        }
        Command::Box(BoxCommand::List(common)) => enrol::list(common)?,
        Command::Box(BoxCommand::Revoke { common, id }) => enrol::revoke(common, id)?,
        Command::Box(BoxCommand::Show { common, id }) => boxes::show(common, id)?,
        Command::Box(BoxCommand::Attest { common, id }) => boxes::attest(common, id)?,
        Command::Box(BoxCommand::ApproveFirmware { common, id }) => {
            boxes::approve_firmware(common, id)?;
        }
        Command::Box(BoxCommand::Decommission { common, id, discard }) => {
            boxes::decommission(common, id, *discard)?;
        }
        Command::Box(BoxCommand::SendPolicy { common, id, file }) => {
            boxes::send_policy(common, id, file)?;
        }
        Command::Box(BoxCommand::Passwords { common, id }) => boxes::passwords(common, id)?,
        Command::Token(TokenCommand::New { common, id, hours, ek, tier }) => {
            token::new(common, id, *hours, ek.as_deref().zip(tier.as_deref()))?;
        }
        Command::Token(TokenCommand::DropExpired(common)) => token::drop_expired(common)?,
        Command::Contract(command) => contract::execute(command)?,
        Command::Carry(command) => carry::execute(command)?,
        Command::Catalogue(command) => catalogue::execute(command)?,
        Command::Release(command) => release::execute(command)?,
        Command::Config(ConfigCommand::Check(common)) => show::config_check(common)?,
        Command::Config(ConfigCommand::Show(common)) => show::config_show(common)?,
        Command::Config(ConfigCommand::Reference) => show::config_reference(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads and checks the configuration, with paths from the folder of the file.
fn load(path: &Path) -> anyhow::Result<SpaceConfig> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{} cannot be read; name the file with --config", path.display())
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    Ok(SpaceConfig::parse(&text, &path.display().to_string(), base)?)
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn init(dir: &Path, id: &str, hosts: &[String], listen: &str) -> anyhow::Result<()> {
    let id = BoxId::parse(id)?;
    let config = create(&NewSpace { dir, id: &id, hosts, listen, now: wall_time() })?;
    println!("space      {id}");
    println!("config     {}", config.display());
    println!("\nNext:");
    println!("  guan-space run --config {}", config.display());
    println!("  guan-space contract key --config {}   (what boxes must trust)", config.display());
    Ok(())
}

/// What is logged, by target and level.
fn log_targets(usual: &str) -> anyhow::Result<Targets> {
    let said = std::env::var_os("GUAN_LOG").map(|text| text.to_string_lossy().into_owned());
    let text = said.as_deref().unwrap_or(usual);
    parse_targets(text).with_context(|| {
        format!("GUAN_LOG is {text:?}; it has the form info,guan_space=debug: levels error, warn, info, debug, trace, off")
    })
}

/// A word that is no level would count as a target, alone and with all its lines.
fn parse_targets(text: &str) -> anyhow::Result<Targets> {
    let alone = text.split(',').map(str::trim).filter(|word| !word.contains('='));
    for word in alone {
        let _: LevelFilter = word.parse().with_context(|| format!("{word:?} is no level"))?;
    }
    Ok(text.parse()?)
}

fn run(path: &Path) -> anyhow::Result<()> {
    let targets = log_targets("info")?;
    let is_terminal = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(is_terminal).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(targets).init();
    let config = load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    runtime.block_on(guan_space::run::run(config))?;
    Ok(())
}

/// Prints a JSON value as one line.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
