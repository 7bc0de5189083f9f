//! `guan spool`: what waits for the space, whether it is whole, and giving it up.

use super::acts::By;
use super::cert::now;
use super::request::Asked;
use super::{Common, load, print_json};
use anyhow::{Context, bail};
use clap::Args;
use guan_configs::EdgeConfig;
use guan_edge::lanes::Lane;
use guan_edge::memory::Memory;
use guan_edge::run::{DROP_REQUEST_FILE, DropRequest, SPOOL_DIR};
use guan_edge::status::GuanStatus;
use guan_edge::system_clock::wall_time;
use guan_edge::wiring;
use guan_model::{BatchSeq, ByteCount, ContractId, StreamId, WallTime};
use guan_policy::object::{moment_text, parse_moment};
use guan_spool::spool::{Contents, StreamContents, contents};
use guan_spool::{OsDisk, spool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What is to be given up.
#[derive(Args)]
pub(super) struct DropArguments {
    #[command(flatten)]
    common: Common,
    /// Only of this stream, as `spool.streams` names it.
    #[arg(long)]
    stream: Option<String>,
    /// Only what is kept under this contract.
    #[arg(long)]
    contract: Option<String>,
    /// Everything that waits.
    #[arg(long, conflicts_with_all = ["stream", "contract"])]
    all: bool,
    /// Only what was committed before this moment, such as 2026-11-28T00:00:00Z.
    #[arg(long)]
    before: Option<String>,
    /// Drop it; without this only what would be dropped is shown.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    by: By,
    /// Seconds until the running gateway must have done it.
    #[arg(long, default_value_t = 30)]
    wait_s: u64,
}

/// A stream of which something may wait, with what is known of it.
pub(super) struct Line {
    stream: StreamId,
    class: String,
    lane: Option<Lane>,
    contents: StreamContents,
}

impl Line {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    fn contract(&self) -> &str {
        self.lane.as_ref().map_or("-", |lane| lane.contract.as_str())
    }

    fn json(&self) -> Value {
        let gaps = self.contents.gaps.iter().map(|gap| {
            json!({
                "from": gap.from.0, "through": gap.through.0, "rows": gap.rows,
                "reason": gap.reason as u8,
            })
        });
        json!({
            "stream": self.class, "lane": self.stream.lane(), "contract": self.contract(),
            "version": self.lane.as_ref().map(|lane| lane.version),
            "newest": self.contents.newest.0, "released": self.contents.released.0,
            "waiting": self.contents.waiting(), "rows_max": self.contents.rows_max,
            "bytes_max": self.contents.bytes_max.0,
            "oldest": self.contents.oldest.map(moment_text),
            "youngest": self.contents.youngest.map(moment_text),
            "gaps": gaps.collect::<Vec<_>>(),
        })
    }
}

/// What waits, by stream.
pub(super) fn lines_of(config: &EdgeConfig) -> anyhow::Result<Vec<Line>> {
    lines(config, contents(&open(config)?)?)
}

/// Whether something of a stream waits that is meant.
pub(super) fn meant(line: &Line, stream: Option<&str>, contract: Option<&ContractId>) -> bool {
    let is_meant = |lane: &Lane| contract.is_none_or(|meant| lane.contract == *meant);
    line.contents.waiting() > 0
        && stream.is_none_or(|meant| line.class == meant)
        && line.lane.as_ref().map_or(contract.is_none(), is_meant)
}

/// Folder of the spool in `box.state_dir`.
fn open(config: &EdgeConfig) -> anyhow::Result<OsDisk> {
    let path = config.state_dir.join(SPOOL_DIR);
    OsDisk::open_read_only(&path)
        .with_context(|| format!("there is no spool in {}; start `guan run` first", path.display()))
}

/// All streams in which something waits or is missing.
fn lines(config: &EdgeConfig, contents: Contents) -> anyhow::Result<Vec<Line>> {
    let memory = Memory::recover(&contents.session_snapshot, &contents.session_deltas)?;
    let names: BTreeMap<StreamId, String> = {
        let streams = wiring::spool_config(config).streams.into_iter();
        streams.map(|stream| (stream.id, stream.name)).collect()
    };
    let is_shown = |at: &StreamContents| at.waiting() > 0 || !at.gaps.is_empty();
    let streams = contents.streams.into_iter().filter(|(_, at)| is_shown(at));
    let lines = streams.map(|(stream, contents)| {
        let class = names.get(&stream.shared()).cloned();
        let class = class.unwrap_or_else(|| format!("class {}", stream.class()));
        Line { stream, class, lane: memory.lanes.get(stream.lane()).cloned(), contents }
    });
    Ok(lines.collect())
}

pub(super) fn status(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let found = contents(&open(&config)?)?;
    let streams = found.streams.values();
    let batches: u64 = streams.clone().map(StreamContents::waiting).sum();
    let bytes = ByteCount(streams.clone().map(|at| at.bytes_max.0).sum());
    let gaps: usize = streams.map(|at| at.gaps.len()).sum();
    // Limits are those of the running gateway; the files alone say what is there.
    let running = GuanStatus::read(&config.state_dir).ok();
    if common.json {
        let streams = running.as_ref().map(|status| &status.streams);
        print_json(&json!({
            "segments": found.segments, "batches": batches, "bytes_max": bytes.0, "gaps": gaps,
            "streams": streams,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} segments; {batches} batches wait for the space, {bytes} at most; {gaps} gaps to be told",
        found.segments
    );
    for stream in running.iter().flat_map(|status| &status.streams) {
        println!(
            "{:<12} newest {}, acknowledged {}, {} of {}",
            stream.name,
            stream.newest,
            stream.acknowledged,
            ByteCount(stream.queued_bytes),
            ByteCount(stream.size_bytes_max)
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let lines = lines(&config, contents(&open(&config)?)?)?;
    if common.json {
        print_json(&json!({"streams": lines.iter().map(Line::json).collect::<Vec<_>>()}))?;
        return Ok(ExitCode::SUCCESS);
    }
    if lines.is_empty() {
        println!("nothing waits for the space");
        return Ok(ExitCode::SUCCESS);
    }
    print(&lines);
    println!("readings and bytes are counted by whole segments, so rather too many than too few");
    Ok(ExitCode::SUCCESS)
}

fn print(lines: &[Line]) {
    println!(
        "{:<12} {:>5} {:<24} {:>10} {:>12} {:>10} {:<20} {:<20}",
        "stream", "lane", "contract", "batches", "readings", "bytes", "oldest", "youngest"
    );
    for line in lines {
        let shown = |moment: Option<WallTime>| moment.map(moment_text).unwrap_or_default();
        println!(
            "{:<12} {:>5} {:<24} {:>10} {:>12} {:>10} {:<20} {:<20}",
            line.class,
            line.stream.lane(),
            line.contract(),
            line.contents.waiting(),
            line.contents.rows_max,
            line.contents.bytes_max.to_string(),
            shown(line.contents.oldest),
            shown(line.contents.youngest)
        );
        for gap in &line.contents.gaps {
            println!(
                "{:<18} batches {} to {} ({} readings) are a gap: {:?}",
                "", gap.from, gap.through, gap.rows, gap.reason
            );
        }
    }
}

pub(super) fn drop_waiting(arguments: &DropArguments) -> anyhow::Result<ExitCode> {
    let DropArguments { common, stream, contract, all, before, yes, by, wait_s } = arguments;
    if !all && stream.is_none() && contract.is_none() && before.is_none() {
        bail!("say what to drop: --stream, --contract, --before, or --all");
    }
    let config = load(&common.config)?;
    let contract = contract.as_deref().map(ContractId::parse).transpose()?;
    let before = before.as_deref().map(|text| {
        parse_moment(text).with_context(|| format!("--before {text:?} is no moment in UTC"))
    });
    let disk = open(&config)?;
    let mut lines = lines(&config, contents(&disk)?)?;
    lines.retain(|line| meant(line, stream.as_deref(), contract.as_ref()));
    let through = ends(&disk, &lines, before.transpose()?)?;
    lines.retain(|line| through.contains_key(&line.stream));
    if lines.is_empty() {
        bail!("nothing that waits is meant; `guan spool ls` shows what there is");
    }
    if !yes {
        return show_plan(common, &lines, &through);
    }
    let status = GuanStatus::read(&config.state_dir)?;
    if status.is_stale(now()) {
        bail!("guan does not run; the running gateway drops and records it: start `guan run`");
    }
    let asked = Asked::leave(&config, DROP_REQUEST_FILE, by, |actor| {
        DropRequest::new(wall_time(), actor, through.clone())
    })?;
    let waited = wait(&disk, &through, *wait_s);
    if let Err(fault) = waited {
        return Err(match asked.take_back() {
            true => fault,
            false => fault.context("the gateway has the request, and may still drop the rest"),
        });
    }
    let batches: u64 = lines.iter().map(|line| dropped(line, &through)).sum();
    match common.json {
        true => print_json(&json!({"dropped": true, "batches": batches}))?,
        false => println!(
            "{batches} batches wait no more: what had not left meanwhile is dropped, and the log has an entry \
             for each gap"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// How many batches of a stream are meant.
fn dropped(line: &Line, through: &BTreeMap<StreamId, BatchSeq>) -> u64 {
    through.get(&line.stream).map_or(0, |last| last.0 - line.contents.released.0)
}

fn show_plan(
    common: &Common,
    lines: &[Line],
    through: &BTreeMap<StreamId, BatchSeq>,
) -> anyhow::Result<ExitCode> {
    let batches: u64 = lines.iter().map(|line| dropped(line, through)).sum();
    if common.json {
        let lines: Vec<Value> = lines.iter().map(Line::json).collect();
        print_json(&json!({"dropped": false, "batches": batches, "streams": lines}))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(lines);
    println!("{batches} batches of these would be dropped for ever; say --yes to do it");
    Ok(ExitCode::SUCCESS)
}

/// Through which batch each stream is meant. Those of one that came before a moment are its first ones.
fn ends(
    disk: &OsDisk,
    lines: &[Line],
    before: Option<WallTime>,
) -> anyhow::Result<BTreeMap<StreamId, BatchSeq>> {
    let all = lines.iter().map(|line| (line.stream, line.contents.newest));
    let Some(before) = before else { return Ok(all.collect()) };
    let mut first_kept: BTreeMap<StreamId, BatchSeq> = BTreeMap::new();
    let released: BTreeMap<StreamId, BatchSeq> =
        lines.iter().map(|line| (line.stream, line.contents.released)).collect();
    spool::batches(disk, &mut |stream, seq, wall, _| {
        let is_held = released.get(&stream).is_some_and(|released| seq > *released);
        if is_held && wall >= before {
            let first = first_kept.entry(stream).or_insert(seq);
            *first = seq.min(*first);
        }
    })?;
    let ends = all.filter_map(|(stream, newest)| {
        let last = first_kept.get(&stream).map_or(newest, |first| BatchSeq(first.0 - 1));
        (last > released[&stream]).then_some((stream, last))
    });
    Ok(ends.collect())
}

/// Until the files say that all of it is gone.
fn wait(disk: &OsDisk, through: &BTreeMap<StreamId, BatchSeq>, wait_s: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(wait_s);
    loop {
        // A segment that goes away while it is read is no fault.
        let is_gone = contents(disk).is_ok_and(|found| {
            let mut meant = through.iter();
            meant.all(|(stream, last)| {
                found.streams.get(stream).is_some_and(|at| at.released >= *last)
            })
        });
        if is_gone {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not all of it was dropped within {wait_s} s; see the alarms in `guan status`");
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

pub(super) fn verify(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let report = spool::verify(&open(&config)?, &mut |_, _| {})?;
    let is_clean = report.is_clean();
    if common.json {
        print_json(&json!({
            "clean": is_clean, "segments": report.segments, "batches": report.batches,
            "rows": report.rows, "log_entries": report.leaves, "holes": report.holes,
            "damaged_places": report.salvage.damaged_places,
            "damaged_bytes": report.salvage.damaged_bytes,
            "torn_bytes": report.salvage.torn_bytes,
        }))?;
    } else {
        println!(
            "{} segments, {} batches, {} readings, {} log entries",
            report.segments, report.batches, report.rows, report.leaves
        );
        let salvage = &report.salvage;
        match is_clean {
            true => println!("no damage"),
            false => println!(
                "DAMAGED: {} places ({}), {} batches missing; the next start salvages what is \
                 readable and tells the space of the gap",
                salvage.damaged_places,
                ByteCount(salvage.damaged_bytes),
                report.holes
            ),
        }
        if salvage.torn_bytes > 0 {
            println!(
                "{} bytes at the end were never acknowledged (a write was cut)",
                salvage.torn_bytes
            );
        }
    }
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
