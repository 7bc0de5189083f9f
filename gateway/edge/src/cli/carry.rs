//! `guan spool export` and `guan spool acknowledge`: batches to the space on a medium, and its receipt back.
//!
//! The running gateway does both, as only it has the keys of contracts and the spool.

use super::acts::By;
use super::cert::now;
use super::request::{Asked, ticket};
use super::spool::{lines_of, meant};
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Args;
use guan_carry::{KEY_BYTES_MAX, RECEIPT_BYTES_MAX};
use guan_configs::EdgeConfig;
use guan_edge::carrying::BYTES_MAX_DEFAULT;
use guan_edge::run::{CARRY_ANSWER_FILE, CARRY_REQUEST_FILE, CarryAnswer, CarryAsk, CarryRequest};
use guan_edge::status::GuanStatus;
use guan_edge::system_clock::wall_time;
use guan_model::{ByteCount, ContractId, Digest};
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the gateway may take to begin.
const BEGIN_WAIT: Duration = Duration::from_secs(20);
const BUSY: &str = "guan is at another export; wait until it is done";
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What goes where, and for whom.
#[derive(Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    common: Common,
    /// The space's public key for such files, as `guan-space carry key` wrote it.
    #[arg(long = "for", value_name = "FILE")]
    key: PathBuf,
    /// The new file; it is never overwritten.
    #[arg(long)]
    out: PathBuf,
    /// Only of this stream, as `spool.streams` names it.
    #[arg(long)]
    stream: Option<String>,
    /// Only what is kept under this contract.
    #[arg(long)]
    contract: Option<String>,
    /// Largest file, in bytes; what does not fit waits for the next one. By default as large as FAT32 takes.
    #[arg(long, default_value_t = BYTES_MAX_DEFAULT)]
    bytes_max: u64,
    #[command(flatten)]
    by: By,
}

/// What the space has stored.
#[derive(Args)]
pub(super) struct AcknowledgeArguments {
    #[command(flatten)]
    common: Common,
    /// The receipt, as `guan-space carry take` wrote it.
    receipt: PathBuf,
}

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<ExitCode> {
    let ExportArguments { common, key, out, stream, contract, bytes_max, by } = arguments;
    let config = load(&common.config)?;
    let key = read_text(key, KEY_BYTES_MAX)?;
    let contract = contract.as_deref().map(ContractId::parse).transpose()?;
    let mut lines = lines_of(&config)?;
    lines.retain(|line| meant(line, stream.as_deref(), contract.as_ref()));
    if lines.is_empty() {
        bail!("nothing that waits is meant; `guan spool ls` shows what there is");
    }
    let out = std::path::absolute(out)?;
    if out.exists() {
        bail!("{} is there already; name a new file", out.display());
    }
    let ask = |actor: Option<Digest>| CarryAsk::Export {
        out: out.clone(),
        key,
        streams: lines.iter().map(|line| line.stream().0).collect(),
        bytes_max: *bytes_max,
        actor: actor.map(|actor| actor.to_string()),
    };
    let mut result = ask_gateway(&config, by, ask, common.json)?;
    if common.json {
        result["out"] = out.display().to_string().into();
        print_json(&result)?;
    } else {
        print_export(&out, &result);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_export(out: &Path, result: &Value) {
    let number = |key: &str| result[key].as_u64().unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    println!(
        "{}: {} batches, {} readings, {} gaps, {}",
        out.display(),
        number("batches"),
        number("rows"),
        number("gaps"),
        ByteCount(number("bytes"))
    );
    println!("in the log, and in the space's receipt, it is {}", text(&result["file"]));
    for held in result["held"].as_array().into_iter().flatten() {
        println!(
            "held: stream {}, contract {}, from batch {} on: {}",
            held["stream"],
            text(&held["contract"]),
            held["from"],
            text(&held["reason"])
        );
        if let Some(remedy) = held["remedy"].as_str() {
            println!("      {remedy}");
        }
    }
    if result["is_full"] == true {
        println!("more waits than fits; acknowledge the receipt for this file, then export again");
    }
    println!(
        "the batches stay here until `guan spool acknowledge` takes the space's receipt for them"
    );
}

pub(super) fn acknowledge(arguments: &AcknowledgeArguments) -> anyhow::Result<ExitCode> {
    let config = load(&arguments.common.config)?;
    let receipt = read_text(&arguments.receipt, RECEIPT_BYTES_MAX)?;
    let nobody = By { name: None };
    let ask = |_| CarryAsk::Acknowledge { receipt };
    let result = ask_gateway(&config, &nobody, ask, arguments.common.json)?;
    if arguments.common.json {
        print_json(&result)?;
        return Ok(ExitCode::SUCCESS);
    }
    let released = result["released"].as_array().map_or(0, Vec::len);
    match released {
        0 => println!("nothing waits of what the receipt names: it was released before"),
        _ => println!("{released} streams: the space has what it names, and it waits no more"),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_text(path: &Path, bytes_max: usize) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let limit = bytes_max as u64 + 1;
    let read = file.take(limit).read_to_string(&mut text);
    read.with_context(|| format!("{} cannot be read as text", path.display()))?;
    Ok(text)
}

/// Leaves the request and waits for its answer.
fn ask_gateway(
    config: &EdgeConfig,
    by: &By,
    ask: impl FnOnce(Option<Digest>) -> CarryAsk,
    is_json: bool,
) -> anyhow::Result<Value> {
    if !runs(config) {
        bail!("guan does not run; the running gateway does this: start `guan run`");
    }
    let is_busy = || answer(config).is_some_and(|answer| !answer.is_done);
    if is_busy() {
        bail!(BUSY);
    }
    let ticket = ticket()?;
    let request = |actor| CarryRequest::new(wall_time(), &ticket, ask(actor));
    let asked = Asked::leave(config, CARRY_REQUEST_FILE, by, request)?;
    // It may have begun with another's meanwhile; if it takes this one just now, its answer comes.
    let is_at_another = is_busy() && answer(config).is_some_and(|answer| answer.ticket != ticket);
    if is_at_another && asked.take_back() {
        bail!(BUSY);
    }
    wait_for_answer(config, &asked, &ticket, !is_json && std::io::stderr().is_terminal())
}

fn runs(config: &EdgeConfig) -> bool {
    GuanStatus::read(&config.state_dir).is_ok_and(|status| !status.is_stale(now()))
}

fn wait_for_answer(
    config: &EdgeConfig,
    asked: &Asked<'_>,
    ticket: &str,
    shows: bool,
) -> anyhow::Result<Value> {
    let begin = Instant::now() + BEGIN_WAIT;
    loop {
        let found = answer(config).filter(|answer| answer.ticket == ticket);
        match found {
            Some(CarryAnswer { is_done: true, fault: Some(fault), may_be_recorded, .. }) => {
                if !may_be_recorded {
                    asked.forget();
                }
                bail!("{fault}")
            }
            Some(CarryAnswer { is_done: true, result, .. }) => {
                return result.context("the answer of guan says nothing");
            }
            Some(answer) if shows => {
                eprint!("\r{} batches, {}   ", answer.batches, ByteCount(answer.bytes));
                let _ = std::io::stderr().flush();
            }
            Some(_) => {}
            None if Instant::now() > begin => match asked.take_back() {
                true => bail!("guan does not take the request; see the alarms in `guan status`"),
                false => bail!(
                    "guan has taken the request and does not answer, and it may still be done; see the alarms in \
                         `guan status`"
                ),
            },
            None => {}
        }
        if !runs(config) {
            asked.take_back();
            bail!("guan has stopped; a file without its end counts for nothing, so start anew");
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn answer(config: &EdgeConfig) -> Option<CarryAnswer> {
    let file = File::open(config.state_dir.join(CARRY_ANSWER_FILE)).ok()?;
    let mut text = Vec::new();
    file.take(ANSWER_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
