//! `guan contract simulate`, `explain`, `test` and `diff`: for whoever writes or reads a contract.

mod batch;
mod diff;
mod plot;

pub(super) use batch::explain_batch;
pub(super) use diff::diff;

use super::{Common, load, print_json};
use anyhow::Context;
use guan_configs::EdgeConfig;
use guan_edge::contracts::read_contracts;
use guan_edge::run::OfSpace;
use guan_edge::simulation::{Message, Outcome, Simulation, read_capture};
use guan_edge::system_clock::wall_time;
use guan_edge::wiring;
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, Now, PointDescriptor, Quality, Row, Value,
    WallTime,
};
use guan_policy::action::Action;
use guan_policy::explain::Question;
use guan_policy::{
    CONTRACT_BYTES_MAX, Collections, Contract, Decision, Plan, Reading, Ruling, Situation, Usage,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn read_draft(file: &Path) -> anyhow::Result<(Contract, Vec<u8>)> {
    let unreadable = || format!("{} cannot be read", file.display());
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(unreadable)?;
    opened.take(CONTRACT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    let draft = Contract::draft(&bytes);
    Ok((draft.with_context(|| format!("{} is no contract", file.display()))?, bytes))
}

pub(super) fn simulate(
    common: &Common,
    file: &Path,
    (capture, from): (&Path, Option<&str>),
    drawing: Option<(&Path, Option<&str>)>,
) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let decoder = wiring::decoder(&config, &common.config.display().to_string())?;
    let (contract, _) = read_draft(file)?;
    let opened = std::fs::File::open(capture);
    let opened = opened.with_context(|| format!("{} cannot be read", capture.display()))?;
    let mut messages = read_capture(std::io::BufReader::new(opened))
        .with_context(|| format!("{} is no capture", capture.display()))?;
    if let Some(from) = from {
        shift(&mut messages, from)?;
    }
    let simulation = Simulation::new(&config, &decoder, std::slice::from_ref(&contract));
    for warning in simulation.plan().warnings() {
        eprintln!("warning: {warning}");
    }
    let outcome = simulation.run(&messages, |done| {
        if done > 0 && done % 100_000 == 0 {
            eprintln!("{done} of {} messages", messages.len());
        }
    });
    if let Some((path, point)) = drawing {
        let busiest = outcome.points.iter().max_by_key(|(_, one)| one.dots_in.len());
        let name = point.or(busiest.map(|(name, _)| name.as_str())).unwrap_or_default();
        let drawn = outcome.points.get(name).with_context(|| {
            format!("the capture has no readings of point {name:?}; see the table without --plot")
        })?;
        let title = format!("{name} under {} v{}", contract.id(), contract.version());
        std::fs::write(path, plot::draw(&title, &drawn.dots_in, &drawn.dots_out))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    match common.json {
        true => print_json(&outcome_json(&outcome))?,
        false => print_outcome(&outcome),
    }
    Ok(ExitCode::SUCCESS)
}

/// Moves all messages by the same time.
fn shift(messages: &mut [Message], from: &str) -> anyhow::Result<()> {
    let start = guan_policy::contract::parse_moment(from)
        .with_context(|| format!("{from:?} is no time such as 2026-11-24T08:00:00Z"))?;
    let first = messages.first().map_or(start, |first| first.at);
    for message in messages {
        message.at = WallTime(start.0.saturating_add(message.at.0.saturating_sub(first.0)));
    }
    Ok(())
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "-".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::I64(value)) => value.to_string(),
        Some(Value::U64(value)) => value.to_string(),
        Some(Value::F32(value)) => value.to_string(),
        Some(Value::F64(value)) => value.to_string(),
        Some(Value::Text(text)) => text.chars().take(32).collect(),
        Some(Value::Bytes(bytes)) => format!("{} bytes", bytes.len()),
    }
}

fn print_outcome(outcome: &Outcome) {
    println!(
        "{:<32} {:>9} {:>9} {:>9}  {:<18} {:<18}",
        "point", "in", "leaves", "masked", "first in", "first out"
    );
    for (name, one) in &outcome.points {
        println!(
            "{name:<32} {:>9} {:>9} {:>9}  {:<18} {:<18}",
            one.rows_in,
            one.rows_out,
            one.masked,
            shown(one.first_in.as_ref()),
            shown(one.first_out.as_ref())
        );
    }
    for ((ruling, rule), rows) in &outcome.rulings {
        let rule = rule.as_ref().map_or("no rule".to_owned(), |rule| format!("rule {rule}"));
        println!("verdict    {ruling}: {rows} readings by {rule}");
    }
    for (reason, rows) in &outcome.refused {
        println!("stays      {rows} readings: {reason}");
    }
    for (rule, batches) in &outcome.on_terms {
        println!("on terms   {batches} batches wait for what rule {rule} asks at leaving");
    }
    let is_outside = |reason: &&String| ["not-yet-valid", "expired"].contains(&reason.as_str());
    if outcome.refused.keys().any(|reason| is_outside(&reason)) {
        println!("some of the capture lies outside the term of the contract; --from moves it");
    }
    println!(
        "{} messages, {} not decoded; {} batches of {} bytes would leave",
        outcome.messages, outcome.undecoded, outcome.batches, outcome.batch_bytes
    );
}

fn outcome_json(outcome: &Outcome) -> Json {
    let points = outcome.points.iter().map(|(name, one)| {
        let point = json!({
            "in": one.rows_in, "leaves": one.rows_out, "masked": one.masked,
            "first_in": shown(one.first_in.as_ref()), "first_out": shown(one.first_out.as_ref()),
        });
        (name.clone(), point)
    });
    let verdicts = outcome.rulings.iter().map(|((ruling, rule), rows)| {
        json!({
            "verdict": ruling.english(), "chinese": ruling.chinese(), "rule": rule,
            "readings": rows,
        })
    });
    json!({
        "verdicts": verdicts.collect::<Vec<_>>(), "messages": outcome.messages, "undecoded": outcome.undecoded,
        "points": points.collect::<serde_json::Map<_, _>>(), "stays": outcome.refused,
        "on_terms": outcome.on_terms, "batches": outcome.batches,
        "batch_bytes": outcome.batch_bytes,
    })
}

/// A reading that somebody asks about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) point: &'a str,
    pub(super) value: Option<f64>,
    pub(super) at: Option<&'a str>,
}

impl Asked<'_> {
    fn moment(&self) -> anyhow::Result<WallTime> {
        match self.at {
            None => Ok(wall_time()),
            Some(text) => guan_policy::contract::parse_moment(text)
                .with_context(|| format!("{text:?} is no time such as 2026-11-24T08:00:00Z")),
        }
    }

    fn point<'c>(&self, config: &'c EdgeConfig) -> anyhow::Result<&'c PointDescriptor> {
        let point = config.descriptors.by_name(self.point);
        let point = point.with_context(|| format!("no [[point]] is named {:?}", self.point))?;
        Ok(point)
    }

    fn situation(&self) -> anyhow::Result<Situation> {
        let wall = self.moment()?;
        Ok(Situation::at(Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Ntp }))
    }

    fn decide(&self, plan: &Plan, config: &EdgeConfig) -> anyhow::Result<Decision> {
        let (point, situation) = (self.point(config)?, self.situation()?);
        let row = Row {
            point: point.id,
            source_time: Some(situation.now.wall),
            gateway_time: situation.now.wall,
            quality: Quality::GOOD,
            value: self.value.map(Value::F64),
        };
        let header = BatchHeader {
            dataset: point.dataset.clone(),
            contract: None,
            descriptors: plan.descriptors(),
            boot: BootNumber(0),
            monotonic: Duration::ZERO,
            clock_quality: ClockQuality::Ntp,
        };
        let batch = Batch::from_rows(header, [row]).context("one row is a batch")?;
        Ok(plan.decide_afresh(&situation, batch))
    }
}

pub(super) fn explain(
    common: &Common,
    file: Option<&Path>,
    asked: &Asked<'_>,
) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let contracts = match file {
        Some(file) => vec![read_draft(file)?.0],
        None => in_force(&config)?,
    };
    let (point, situation) = (asked.point(&config)?, asked.situation()?);
    let reading = Reading {
        event_time: situation.now.wall,
        gateway_time: situation.now.wall,
        quality: Quality::GOOD,
        value: asked.value,
        bytes: 16,
    };
    let collections = Collections::default();
    // As the verdict has it, which is of a box that has let nothing go yet.
    let usage = Usage::default();
    let mut all = Vec::new();
    for contract in contracts.iter().filter(|one| one.datasets().contains(&point.dataset)) {
        let reports = contract.explain(&Question {
            action: Action::Deliver,
            point,
            collections: &collections,
            situation: &situation,
            reading: &reading,
            usage: Some(&usage),
        });
        let plan = Plan::compile(std::slice::from_ref(contract), &config.descriptors);
        let decision = asked.decide(&plan, &config)?;
        let told = Told::of(contract, asked.point, &decision);
        let rules = reports.iter().map(|report| {
            let tests = report
                .tests
                .iter()
                .map(|(text, truth)| json!({"test": &**text, "answer": truth.name()}));
            json!({
                "rule": &*report.rule, "kind": format!("{:?}", report.kind).to_lowercase(),
                "is_active": report.is_active, "tests": tests.collect::<Vec<_>>(),
            })
        });
        all.push(json!({
            "contract": contract.id().as_str(), "version": contract.version(),
            "consumer": contract.consumer(), "verdict": told.outcome,
            "ruling": ruling_json(told.ruling, told.rule.as_deref()),
            "rules": rules.collect::<Vec<_>>(),
        }));
    }
    match common.json {
        true => {
            let mut json = json!({"point": asked.point, "contracts": all, "counters": "unused"});
            if all.is_empty() {
                json["ruling"] = ruling_json(Ruling::DefaultDeny, None);
            }
            print_json(&json)?;
        }
        false => print_explanation(asked.point, &all),
    }
    Ok(ExitCode::SUCCESS)
}

fn ruling_json(ruling: Ruling, rule: Option<&str>) -> Json {
    json!({"english": ruling.english(), "chinese": ruling.chinese(), "rule": rule})
}

/// What was decided about one reading.
struct Told {
    ruling: Ruling,
    /// The rule that decided, or came closest.
    rule: Option<String>,
    outcome: String,
}

impl Told {
    fn of(contract: &Contract, point: &str, decision: &Decision) -> Self {
        match (decision.permitted.first(), decision.refused.first()) {
            (Some(permitted), _) => {
                let leaves = permitted.batch.iter_rows().next().and_then(|row| row.value);
                let rule = permitted.terms.permission();
                Self {
                    ruling: contract.ruling(rule, point),
                    rule: Some(rule.to_string()),
                    outcome: format!("leaves as {} by rule {rule}", shown(leaves.as_ref())),
                }
            }
            (None, Some(refusal)) => {
                let rule = refusal.reason.rule().map(str::to_owned);
                let by = rule.as_ref().map_or(String::new(), |rule| format!(" by rule {rule}"));
                Self {
                    ruling: Ruling::of_refusal(&refusal.reason),
                    outcome: format!("stays: {}{by}", refusal.reason.name()),
                    rule,
                }
            }
            (None, None) => {
                Self { ruling: Ruling::DefaultDeny, rule: None, outcome: "stays".to_owned() }
            }
        }
    }
}

fn print_explanation(point: &str, contracts: &[Json]) {
    if contracts.is_empty() {
        println!("no contract speaks of the dataset of {point}: {}, it stays", Ruling::DefaultDeny);
    }
    for one in contracts {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        println!("{} v{} for {}", text("contract"), one["version"], text("consumer"));
        for rule in one["rules"].as_array().into_iter().flatten() {
            let active = if rule["is_active"] == true { "ACTIVE" } else { "not active" };
            println!("  {} {}: {active}", rule["kind"].as_str().unwrap_or_default(), rule["rule"]);
            for test in rule["tests"].as_array().into_iter().flatten() {
                println!("    {:<8} {}", test["answer"].as_str().unwrap_or_default(), test["test"]);
            }
        }
        let ruling = |key: &str| one["ruling"][key].as_str().unwrap_or_default().to_owned();
        println!("  => {} {}: {}", ruling("chinese"), ruling("english"), text("verdict"));
    }
    println!("nothing counts as used up: quotas and rates are as on the first reading");
    println!("place and what is asked at leaving are unknown here and count as such");
}

/// What lies in the operator's folder and what the space gave.
fn in_force(config: &EdgeConfig) -> anyhow::Result<Vec<Contract>> {
    let keys = wiring::trusted_keys(config)?;
    let mut contracts = Vec::new();
    if config.contracts.directory.exists() {
        contracts.extend(read_contracts(&config.contracts.directory, &keys)?.contracts);
    }
    contracts.extend(OfSpace::read(config, &keys).contracts);
    Ok(contracts)
}

/// One row of a table of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    point: String,
    value: Option<f64>,
    at: Option<String>,
    expect: Expected,
    /// As it must leave.
    leaves: Option<f64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Permit,
    Refuse,
}

pub(super) fn test(common: &Common, file: &Path, cases: &Path) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let (contract, _) = read_draft(file)?;
    let plan = Plan::compile(std::slice::from_ref(&contract), &config.descriptors);
    let text = std::fs::read_to_string(cases);
    let text = text.with_context(|| format!("{} cannot be read", cases.display()))?;
    let table: Vec<Case> = serde_json::from_str(&text)
        .with_context(|| format!("{} is no table of cases", cases.display()))?;
    let (mut failed, mut results) = (0, Vec::new());
    for (place, case) in table.iter().enumerate() {
        let asked = Asked { point: &case.point, value: case.value, at: case.at.as_deref() };
        let decision = asked.decide(&plan, &config).with_context(|| format!("case {place}"))?;
        let left = decision.permitted.first().and_then(|one| one.batch.iter_rows().next());
        let value = left.as_ref().and_then(|row| row.value.clone());
        let right = (case.expect == Expected::Permit) == left.is_some()
            && case.leaves.is_none_or(|number| value == Some(Value::F64(number)));
        failed += usize::from(!right);
        let found = match (&left, decision.refused.first()) {
            (Some(_), _) => format!("leaves as {}", shown(value.as_ref())),
            (None, Some(refusal)) => format!("stays: {}", refusal.reason.name()),
            (None, None) => "stays".to_owned(),
        };
        results
            .push(json!({"case": place, "point": case.point, "is_right": right, "found": found}));
    }
    if common.json {
        print_json(&json!({"cases": results, "failed": failed}))?;
    } else {
        for one in &results {
            let verdict = if one["is_right"] == true { "ok    " } else { "FAILED" };
            println!("{verdict} case {} {}: {}", one["case"], one["point"], one["found"]);
        }
        println!("{} passed, {failed} failed", table.len() - failed);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
