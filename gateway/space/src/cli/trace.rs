//! `guan-space trace`: where a reading, a batch or all of a contract came from, and what proves it.

use super::{Common, load, print_json};
use anyhow::{Context, bail};
use guan_evidence::view::line;
use guan_model::{BoxId, ContractId, DatasetId, Digest, PointName, WallTime};
use guan_policy::object::moment_text;
use guan_space::provenance::{self, Proven, Question, Trace, Tracer, sum};
use serde_json::json;
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(clap::Args)]
pub(super) struct TraceArguments {
    #[command(flatten)]
    common: Common,
    /// A reading of this box.
    #[arg(long = "box", value_name = "BOX", requires_all = ["dataset", "at"])]
    box_id: Option<String>,
    /// Its dataset.
    #[arg(long, requires = "box_id")]
    dataset: Option<String>,
    /// Its point; without, any point of the dataset.
    #[arg(long, requires = "box_id")]
    point: Option<String>,
    /// Its time (RFC 3339); the reading next to it is taken.
    #[arg(long, requires = "box_id", value_name = "TIME")]
    at: Option<String>,
    /// A batch by its digest: column `batch` of the exported file.
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["box_id", "contract"])]
    batch: Option<String>,
    /// All that came under a contract.
    #[arg(long, value_name = "ID", conflicts_with = "box_id")]
    contract: Option<String>,
}

fn question(arguments: &TraceArguments) -> anyhow::Result<Question> {
    let TraceArguments { box_id, dataset, point, at, batch, contract, .. } = arguments;
    if let Some(digest) = batch {
        let bytes = hex::decode(digest).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.context("a digest is 64 hexadecimal digits")?;
        return Ok(Question::Batch(Digest(bytes)));
    }
    if let Some(contract) = contract {
        return Ok(Question::Contract(ContractId::parse(contract)?));
    }
    let (Some(box_id), Some(dataset), Some(at)) = (box_id, dataset, at) else {
        bail!("name --box, --dataset and --at, or --batch, or --contract");
    };
    let moment = OffsetDateTime::parse(at, &Rfc3339);
    let moment = moment.context("--at is a time such as 2026-11-27T08:30:00Z")?;
    let nanos = i64::try_from(moment.unix_timestamp_nanos()).context("--at is out of range")?;
    Ok(Question::Reading {
        box_id: BoxId::parse(box_id)?,
        dataset: DatasetId::parse(dataset)?,
        point: point.as_deref().map(PointName::parse).transpose()?,
        at: WallTime(nanos),
    })
}

pub(super) fn execute(arguments: &TraceArguments) -> anyhow::Result<ExitCode> {
    let question = question(arguments)?;
    let config = load(&arguments.common.config)?;
    let found = provenance::find(&config.state_dir, &question)?;
    let (absent, listed) = match &question {
        Question::Contract(contract) => {
            provenance::absent(&config.state_dir, config.id.as_str(), contract, &found)?
        }
        _ => (0, Vec::new()),
    };
    let tracer = Tracer::open(&config.state_dir, config.id.as_str(), &found)?;
    let traces = tracer.trace(found)?;
    let total = sum(&traces);
    if arguments.common.json {
        print_json(&json!({
            "batches": traces, "sum": total, "absent": absent, "absent_batches": listed,
        }))?;
    } else if let Question::Contract(contract) = &question {
        traces.iter().for_each(print_row);
        println!(
            "contract {contract}: {} readings in {} batches; the box's log proves {} of them, the \
             space's {}; {} deleted since",
            total.rows, total.batches, total.proven_by_box, total.proven_by_space, total.deleted
        );
        for one in &listed {
            let why = one.given_up.map_or("not here (so far)".to_owned(), |why| {
                format!("given up by the box: {why}")
            });
            println!(
                "ABSENT     {} {}/{}: {} readings by entry {} of {}, {why}",
                one.box_id, one.stream, one.batch_seq, one.rows, one.index, one.log
            );
        }
        if absent > listed.len() as u64 {
            println!("ABSENT     {absent} batches in all");
        }
    } else {
        traces.iter().for_each(print);
    }
    if traces.is_empty() {
        eprintln!("guan-space: nothing of that kind is stored");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_row(trace: &Trace) {
    let mark = |is_proven: bool| if is_proven { "proven" } else { "open" };
    let by_box = trace.box_log.iter().any(|one| one.kind == "batch" && one.is_proven());
    let by_space = trace.space_log.as_ref().is_some_and(Proven::is_proven);
    let deleted = if trace.is_deleted { ", deleted" } else { "" };
    println!(
        "{}  {:<12} {:>3}/{:<8} {:>8} readings of {}  box {}, space {}{deleted}",
        moment(trace.received_ms),
        trace.box_id,
        trace.stream,
        trace.batch_seq,
        trace.rows,
        trace.dataset,
        mark(by_box),
        mark(by_space),
    );
}

fn print(trace: &Trace) {
    if let Some(reading) = &trace.reading {
        let nanos = reading.source_time_ns.unwrap_or(reading.gateway_time_ns);
        let value = reading.value.as_deref().unwrap_or("none");
        let at = moment(WallTime(nanos).millis());
        println!("reading    {} = {value} {}, {at}", reading.point, reading.unit);
    }
    println!("box        {}", trace.box_id);
    println!("batch      {}", trace.batch);
    println!(
        "           {} readings of {}, stream {}, number {}, received {}",
        trace.rows,
        trace.dataset,
        trace.stream,
        trace.batch_seq,
        moment(trace.received_ms)
    );
    if trace.is_deleted {
        println!("           DELETED since, as the contract demands");
    }
    let version =
        trace.contract_version.map_or(String::new(), |number| format!(", version {number}"));
    println!("contract   {}{version}", trace.contract);
    println!("trace id   {}", trace.trace_id);
    for entry in &trace.box_log {
        print_entry("box's log ", entry);
    }
    if let Some(entry) = &trace.space_log {
        print_entry("space's log", entry);
    }
    let when = |at: Option<i64>| at.map_or_else(|| "-".to_owned(), moment);
    let (after, before) = (trace.witnessed.not_before_ms, trace.witnessed.not_after_ms);
    println!("witnessed  after {}, before {}", when(after), when(before));
    trace.missing.iter().for_each(|what| println!("MISSING    {what}"));
}

fn print_entry(whose: &str, one: &Proven) {
    let proof = match one.head_size {
        Some(size) => format!("proven under the head of {size}"),
        None => "not proven".to_owned(),
    };
    println!("{whose} {} entry {}: {}, {proof}", one.log, one.index, one.kind);
    println!("           {}", line(&one.entry));
}

fn moment(millis: i64) -> String {
    moment_text(WallTime::from_millis(millis))
}
