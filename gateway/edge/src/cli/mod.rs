//! Commands and their options.

mod acting;
mod acts;
mod arena;
mod authoring;
mod carry;
mod catalogue;
mod cert;
mod check;
mod conformance;
mod contract;
mod convert;
mod identity;
mod import;
mod join;
mod log;
mod log_entries;
mod log_export;
mod meter;
mod negotiate;
mod request;
mod rollover;
mod scrub;
mod show;
mod spool;
mod timestamp;
mod tpm;

use acts::By;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use guan_configs::EdgeConfig;
use guan_edge::run::RunError;
use negotiate::NegotiateCommand;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Guankou (关口): collects, decides, records and forwards the readings of one site.
///
/// Every command reads the configuration file; `guan config reference` explains its keys.
#[derive(Parser)]
#[command(name = "guan", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// `guan run` ends with this when its TPM hangs: the supervisor should start it anew.
const TPM_HUNG: u8 = 4;
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

#[derive(Args)]
struct Common {
    /// Configuration file of the box.
    #[arg(long, value_name = "FILE", default_value = "/etc/guan/edge.toml")]
    config: PathBuf,
    /// Print JSON for programs instead of text for people.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT. It ends with status 4 when its TPM hangs, so that a
    /// supervisor starts it anew. What it does goes to the standard error output;
    /// the environment variable GUAN_LOG sets how much (error, warn, info, debug).
    Run {
        /// Configuration file of the box.
        #[arg(long, value_name = "FILE", default_value = "/etc/guan/edge.toml")]
        config: PathBuf,
    },
    /// What the running gateway is doing.
    Status(Common),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Join a space with the TPM of this box and a one-time token of `guan-space token new`.
    Join {
        #[command(flatten)]
        common: Common,
        /// Where the space lets boxes join (its listen.join_address).
        #[arg(long, value_name = "HOST:PORT")]
        space: String,
        /// The token; it works once, for this box. On the command line other users of this machine can see it.
        #[arg(long, required_unless_present = "token_file")]
        token: Option<String>,
        /// File with the token; - is the standard input.
        #[arg(long, conflicts_with = "token")]
        token_file: Option<PathBuf>,
    },
    /// Look for what is wrong with this box, and say how to cure it.
    Check(Common),
    /// Rescue of the TPM.
    #[command(subcommand)]
    Tpm(TpmCommand),
    /// The certificate of this box.
    #[command(subcommand)]
    Cert(CertCommand),
    /// The keys of this box.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Look at what waits on disk.
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Check the signed log of decisions.
    #[command(subcommand)]
    Log(LogCommand),
    /// What the signed log says was kept under each contract, day by day.
    Meter(Common),
    /// Look at the contracts of this box.
    #[command(subcommand)]
    Contract(ContractCommand),
    /// What this box offers to the space: datasets with schema, quality figures and offers.
    #[command(subcommand)]
    Catalogue(catalogue::CatalogueCommand),
    /// How far this release meets TC609-6-2025-16, row by row, and which command shows it.
    Conformance {
        /// Print JSON for programs instead of text for people.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the file: all faults at once, each with its line and a remedy.
    Check(Common),
    /// Print every value in force and where it comes from.
    Show(Common),
    /// Explain every key: kind, range, default, meaning.
    Reference {
        /// Print JSON for programs instead of text for people.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Make the key of the box, the key of its log, and a request for a certificate. Existing keys
    /// are kept.
    Init(Common),
    /// What this box is: tier, TPM, keys, certificate.
    Show(Common),
}

#[derive(Subcommand)]
enum TpmCommand {
    /// Remove everything of this box from its TPM, for good. `guan-space box decommission` does it in order.
    Clear {
        #[command(flatten)]
        common: Common,
        /// File with the lockout password in hex; - is the standard input.
        #[arg(long, default_value = "-")]
        password_file: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Seal the store's key, which the space keeps, to the TPM that is there now: after it was cleared
    /// or exchanged.
    RestoreStore {
        #[command(flatten)]
        common: Common,
        /// File with the store key in hex; - is the standard input.
        #[arg(long, default_value = "-")]
        key_file: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// End the lockout after wrong passwords, with the password that the space keeps.
    ResetLockout {
        #[command(flatten)]
        common: Common,
        /// File with the lockout password in hex; - is the standard input.
        #[arg(long, default_value = "-")]
        password_file: PathBuf,
        #[command(flatten)]
        by: By,
    },
}

#[derive(Subcommand)]
enum CertCommand {
    /// What is in use, and what waits to be tried.
    Show(Common),
    /// Renew it if two thirds of its life are over; the running gateway does so by itself.
    Renew(cert::RenewArguments),
    /// Make a new key and certificate now, whatever their age.
    Rotate(cert::RenewArguments),
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Sizes, limits and cursors, from the files. Works while the gateway runs.
    Status(Common),
    /// What waits for the space: by stream, lane and contract, with its age. A contract has two lanes while what an outage
    /// left of it waits beside what comes now. Works while the gateway runs.
    Ls(Common),
    /// Read every byte and report damage. Changes nothing.
    Verify(Common),
    /// Give up what waits, for ever, as a gap that log and space are told of. The running gateway does it.
    Drop(spool::DropArguments),
    /// Write what waits into a file for a medium, sealed for the space. It stays here until the space's receipt
    /// comes. The running gateway does it.
    Export(carry::ExportArguments),
    /// Take the space's receipt for what came to it on a medium: what it names waits no more.
    Acknowledge(carry::AcknowledgeArguments),
}

#[derive(Subcommand)]
enum LogCommand {
    /// Write entries with proofs into a bundle that others can check, or the whole log as tiles.
    Export(log_export::ExportArguments),
    /// Print a proof that an entry is in the log (C2SP tlog-proof).
    Prove(log_export::ProveArguments),
    /// Print entries, oldest first.
    Show {
        #[command(flatten)]
        common: Common,
        /// How many of the newest; at most 10,000.
        #[arg(long, default_value_t = 50)]
        last: usize,
        /// Only entries of this kind, such as contract.change or data.gap.
        #[arg(long)]
        kind: Option<String>,
        /// Say who acted, where this box still knows it.
        #[arg(long)]
        disclose: bool,
    },
    /// Destroy what says who acted in entries; they prove as before, and nobody can tell any more who it was.
    Erase(acts::EraseArguments),
    /// Check tree, signed head and rules of the whole log. It reads every bundle again, as the scrub does, and
    /// changes nothing.
    Verify {
        #[command(flatten)]
        common: Common,
        /// An epoch that has ended, by its number; without, the newest.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        epoch: Option<u16>,
    },
    /// Have the running gateway read the log's bundles again now, as it does each evidence.scrub_interval_d days;
    /// what is damaged it tells, and gets back from the space's mirror. Ends with status 1 if it finds something.
    Scrub {
        #[command(flatten)]
        common: Common,
        /// How long to wait for its end.
        #[arg(long, default_value_t = 600)]
        wait_s: u64,
    },
    /// Print the newest signed head.
    Head(Common),
    /// Have an authority say by when the log's head was there (RFC 3161): by files, or over HTTP now.
    #[command(subcommand)]
    Timestamp(timestamp::TimestampCommand),
    /// Give the log a new key, which the old one and the TPM hand it over to; the running gateway does it.
    Rollover {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        by: By,
        /// How long to wait for it.
        #[arg(long, default_value_t = 60)]
        wait_s: u64,
    },
}

#[derive(Subcommand)]
enum ContractCommand {
    /// The words that contracts may use; or the JSON Schema, or the JSON-LD context of the profile.
    Vocabulary {
        /// Print the JSON Schema.
        #[arg(long)]
        schema: bool,
        /// Print the JSON-LD context.
        #[arg(long, conflicts_with = "schema")]
        context: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take a contract set that `guan-space contract carry` wrote, on a box that is never online.
    Import {
        #[command(flatten)]
        common: Common,
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Run a contract over a recorded capture: what would leave, and in which form.
    Simulate {
        #[command(flatten)]
        common: Common,
        /// The contract or draft.
        file: PathBuf,
        /// What `mosquitto_sub -F %j` printed.
        #[arg(long, value_name = "FILE")]
        capture: PathBuf,
        /// Take the capture as if its first message had come at this moment (times in payloads stay).
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Draw a point before and after, as SVG.
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
        /// The point to draw; by default the one with most readings.
        #[arg(long, requires = "plot")]
        point: Option<String>,
    },
    /// Say which rule of which contract decides about a reading, with the answer to each test.
    Explain {
        #[command(flatten)]
        common: Common,
        /// A contract or draft instead of those in force.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Name of the point.
        #[arg(long, required_unless_present = "batch")]
        point: Option<String>,
        /// The value; without one the reading is no number.
        #[arg(long, allow_negative_numbers = true)]
        value: Option<f64>,
        /// When it was measured, such as 2026-11-24T08:00:00Z; by default now.
        #[arg(long)]
        at: Option<String>,
        /// A recorded batch instead of a reading: the first digits of its digest.
        #[arg(long, conflicts_with_all = ["point", "file"])]
        batch: Option<String>,
    },
    /// Check a contract against a table of readings and what must become of them.
    Test {
        #[command(flatten)]
        common: Common,
        /// The contract or draft.
        file: PathBuf,
        /// JSON: [{"point": .., "value": .., "at": .., "expect": "permit" or "refuse", "leaves": ..}]
        cases: PathBuf,
    },
    /// Say what differs between two contracts, member by member.
    Diff {
        old: PathBuf,
        new: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a contract or draft in its other form. Signatures are of one form and are left out.
    Convert {
        /// The contract or draft, in any form.
        file: PathBuf,
        /// The form to write.
        #[arg(long, value_enum)]
        to: convert::Form,
        /// Write the form of TC609-6-2025-14 without a number, for a platform that will give one.
        #[arg(long)]
        unnumbered: bool,
        /// Where to; by default it is printed.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Read a contract or a draft and say everything that is wrong with it, each with its place.
    Lint {
        /// The file: a signed contract, or the bare contract object.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Which contracts are in force, which are refused and why.
    Check(Common),
    /// Contracts that the space asks for: agree, offer other terms, refuse.
    #[command(subcommand)]
    Negotiate(NegotiateCommand),
    /// Sign a contract as a party of it.
    Sign {
        /// The contract: a JSON object, or a file that others have signed already.
        file: PathBuf,
        /// The party that signs.
        #[arg(long)]
        party: String,
        /// Its key, as `contract keygen` makes it.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// File for the signed contract.
        #[arg(long)]
        out: PathBuf,
    },
    /// Make a key with which a party signs contracts, and print its public half.
    Keygen {
        /// The party whose key it is.
        #[arg(long)]
        party: String,
        /// File for the private key; it must not exist.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs one command.
pub(crate) fn execute(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Run { config } => run(config),
        Command::Status(common) => show::status(common),
        Command::Config(ConfigCommand::Check(common)) => show::config_check(common),
        Command::Config(ConfigCommand::Show(common)) => show::config_show(common),
        Command::Config(ConfigCommand::Reference { json }) => show::config_reference(*json),
        Command::Join { common, space, token, token_file } => {
            join::execute(common, space, token.as_deref(), token_file.as_deref())
        }
        Command::Check(common) => check::execute(common),
        Command::Tpm(command) => tpm_command(command),
        Command::Cert(CertCommand::Show(common)) => cert::show(common),
        Command::Cert(CertCommand::Renew(arguments)) => cert::renew(arguments, false),
        Command::Cert(CertCommand::Rotate(arguments)) => cert::renew(arguments, true),
        Command::Identity(IdentityCommand::Init(common)) => identity::init(common),
        Command::Identity(IdentityCommand::Show(common)) => identity::show(common),
        Command::Spool(SpoolCommand::Status(common)) => spool::status(common),
        Command::Spool(SpoolCommand::Ls(common)) => spool::list(common),
        Command::Spool(SpoolCommand::Verify(common)) => spool::verify(common),
        Command::Spool(SpoolCommand::Drop(arguments)) => spool::drop_waiting(arguments),
        Command::Spool(SpoolCommand::Export(arguments)) => carry::export(arguments),
        Command::Spool(SpoolCommand::Acknowledge(arguments)) => carry::acknowledge(arguments),
        Command::Meter(common) => meter::execute(common),
        Command::Log(LogCommand::Verify { common, epoch }) => log::verify(common, *epoch),
        Command::Log(LogCommand::Scrub { common, wait_s }) => scrub::execute(common, *wait_s),
        Command::Log(LogCommand::Head(common)) => log::head(common),
        Command::Log(LogCommand::Timestamp(command)) => timestamp::execute(command),
        Command::Log(LogCommand::Rollover { common, by, wait_s }) => {
            rollover::execute(common, by, *wait_s)
        }
        Command::Log(LogCommand::Export(arguments)) => log_export::export(arguments),
        Command::Log(LogCommand::Prove(arguments)) => log_export::prove(arguments),
        Command::Log(LogCommand::Erase(arguments)) => acts::erase(arguments),
        Command::Log(LogCommand::Show { common, last, kind, disclose }) => {
            log_entries::show(common, *last, kind.as_deref(), *disclose)
        }
        Command::Contract(command) => contract_command(command),
        Command::Catalogue(command) => catalogue::execute(command),
        Command::Conformance { json } => conformance::execute(*json),
    }
}

/// Reads and checks the configuration, with paths from the folder of the file.
fn load(path: &Path) -> anyhow::Result<EdgeConfig> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("{} cannot be read; name the file with --config", path.display())
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let config = EdgeConfig::parse(&text, &path.display().to_string(), base)?;
    guan_edge::wiring::decoder(&config, &path.display().to_string())?;
    Ok(config)
}

/// What is logged, by target and level. Without the patterns of `EnvFilter`, which cost a compiler of them.
fn log_targets(usual: &str) -> anyhow::Result<Targets> {
    let said = std::env::var_os("GUAN_LOG").map(|text| text.to_string_lossy().into_owned());
    let text = said.as_deref().unwrap_or(usual);
    parse_targets(text).with_context(|| {
        format!("GUAN_LOG is {text:?}; it has the form info,guan_link=debug: levels error, warn, info, debug, trace, off")
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

fn run(path: &Path) -> anyhow::Result<ExitCode> {
    // The TPM's library logs what we handle; what is left of it comes with our own errors.
    let targets = log_targets("info,tss_esapi=off")?;
    let arena = arena::limit();
    let is_terminal = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(is_terminal).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(targets).init();
    if let Err(fault) = arena {
        tracing::warn!(%fault, "memory is taken from an arena for each thread: it costs some megabytes more");
    }
    // Libraries that make TLS configurations of their own take it from here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    let outcome = runtime.block_on(guan_edge::run::run(config, &path.display().to_string()));
    // Whoever still waits for a TPM that hangs is not waited for.
    runtime.shutdown_timeout(SHUTDOWN_WAIT);
    match outcome {
        Err(RunError::TpmHung) => {
            tracing::error!("{}", RunError::TpmHung);
            Ok(TPM_HUNG.into())
        }
        outcome => outcome.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}

/// Prints a JSON value as one line.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

fn tpm_command(command: &TpmCommand) -> anyhow::Result<ExitCode> {
    match command {
        TpmCommand::Clear { common, password_file, by } => tpm::clear(common, password_file, by),
        TpmCommand::RestoreStore { common, key_file, by } => {
            tpm::restore_store(common, key_file, by)
        }
        TpmCommand::ResetLockout { common, password_file, by } => {
            tpm::reset_lockout(common, password_file, by)
        }
    }
}

fn contract_command(command: &ContractCommand) -> anyhow::Result<ExitCode> {
    match command {
        ContractCommand::Check(common) => contract::check(common),
        ContractCommand::Import { common, file, by } => import::import(common, file, by),
        ContractCommand::Negotiate(command) => negotiate::execute(command),
        ContractCommand::Sign { file, party, key, out } => negotiate::sign(file, party, key, out),
        ContractCommand::Keygen { party, out } => negotiate::keygen(party, out),
        ContractCommand::Simulate { common, file, capture, from, plot, point } => {
            let drawing = plot.as_deref().map(|plot| (plot, point.as_deref()));
            authoring::simulate(common, file, (capture, from.as_deref()), drawing)
        }
        ContractCommand::Explain { common, file, point, value, at, batch } => match batch {
            Some(batch) => authoring::explain_batch(common, batch),
            None => {
                let point = point.as_deref().unwrap_or_default();
                let asked = authoring::Asked { point, value: *value, at: at.as_deref() };
                authoring::explain(common, file.as_deref(), &asked)
            }
        },
        ContractCommand::Test { common, file, cases } => authoring::test(common, file, cases),
        ContractCommand::Diff { old, new, json } => authoring::diff(old, new, *json),
        ContractCommand::Vocabulary { schema, context, json } => {
            contract::vocabulary(*schema, *context, *json)
        }
        ContractCommand::Convert { file, to, unnumbered, out } => {
            convert::convert(file, (*to, *unnumbered), out.as_deref())
        }
        ContractCommand::Lint { file, json } => contract::lint(file, *json),
    }
}
