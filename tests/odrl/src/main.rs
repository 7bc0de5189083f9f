//! `odrl-suite FOLDER`: every case of the ODRL test suite in a folder, judged by our contracts.
//!
//! Turtle is read here and nowhere else; what is judged is our JSON document, compiled as on the box.
#![forbid(unsafe_code)]

mod graph;
mod translate;

use anyhow::{Context, bail};
use graph::{Graph, REPORT};
use guan_model::descriptor::{Class, PointDescriptor};
use guan_model::{
    ClockQuality, ContractId, DatasetId, Now, PointId, PointName, Quality, Unit, ValueType,
};
use guan_policy::action::Action;
use guan_policy::contract::RuleKind;
use guan_policy::explain::{Question, RuleReport};
use guan_policy::{Contract, Reading, Situation};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use translate::Names;

const CASE: &str = "http://example.org/";
const ISSUED: &str = "http://purl.org/dc/terms/issued";
const NOW: &str = "http://example.com/request/currentTime";

fn main() -> anyhow::Result<ExitCode> {
    let usage = "usage: odrl-suite FOLDER, with cases of the ODRL test suite as Turtle";
    let folder = std::env::args().nth(1).context(usage)?;
    let mut graphs = Vec::new();
    read_all(Path::new(&folder), &mut graphs)?;
    let (mut passed, mut failed) = (0, 0);
    for graph in &graphs {
        for case in graph.of_type(&format!("{CASE}TestCase")) {
            let title = graph.one(case, "http://purl.org/dc/terms/title").unwrap_or(case);
            let name = graph.path.file_stem().unwrap_or_default().to_string_lossy();
            println!("{name}: {title}");
            match judge(&graphs, graph, case) {
                Ok(true) => passed += 1,
                Ok(false) => failed += 1,
                Err(fault) => {
                    failed += 1;
                    println!("  FAILED {fault:#}");
                }
            }
        }
    }
    if passed + failed == 0 {
        bail!("{folder} holds no case of the ODRL test suite; {usage}");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All Turtle files below a folder, by name.
fn read_all(folder: &Path, graphs: &mut Vec<Graph>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_all(&path, graphs)?;
        } else if path.extension().is_some_and(|extension| extension == "ttl") {
            graphs.push(Graph::read(&path)?);
        }
    }
    Ok(())
}

/// What is expected of each rule that a report speaks of: whether it is active.
fn expected(graph: &Graph, case: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let report = graph.one(case, &format!("{CASE}expectedReport")).context("no expected report")?;
    let mut expected = BTreeMap::new();
    for rule_report in graph.all(report, &format!("{REPORT}ruleReport")) {
        let rule =
            graph.one(rule_report, &format!("{REPORT}rule")).context("a report of no rule")?;
        let state = graph.one(rule_report, &format!("{REPORT}activationState"));
        expected.insert(rule.to_owned(), state == Some(&format!("{REPORT}Active")));
    }
    Ok(expected)
}

fn judge(graphs: &[Graph], graph: &Graph, case: &str) -> anyhow::Result<bool> {
    let part = |name: &str| -> anyhow::Result<(&str, &Graph)> {
        let id = graph.one(case, &format!("{CASE}{name}"));
        let id = id.with_context(|| format!("the case names no {name}"))?;
        // The case's own file may hold everything; else one of the shared files does.
        let own = std::iter::once(graph).chain(graphs).find(|graph| graph.defines(id));
        Ok((id, own.with_context(|| format!("the {name} {id} is in no file"))?))
    };
    let (policy, policy_graph) = part("policy")?;
    let (request, request_graph) = part("request")?;
    let (_, world) = part("sotw")?;
    let mut names = Names::default();
    let request = translate::request(request_graph, request)?;
    let collections = translate::collections(policy_graph, world, &mut names);
    let document = translate::document(policy_graph, policy, &request, &mut names)?;
    let contract = Contract::draft(document.to_string().as_bytes())?;
    let action = Action::from_name(&request.action);
    let action = action.with_context(|| format!("unknown action {}", request.action))?;
    let violated = translate::violated_rules(policy_graph, world);
    let violated = violated.iter().map(|rule| names.of(rule)).collect();
    let situation = situation(world, contract.id(), violated)?;
    let now = situation.now.wall;
    let reports = contract.explain(&Question {
        action,
        point: &point(&names.of(&request.target))?,
        collections: &collections,
        situation: &situation,
        reading: &Reading {
            event_time: now,
            gateway_time: now,
            quality: Quality::GOOD,
            value: None,
            bytes: 0,
        },
        usage: None,
    });
    Ok(compare(&expected(graph, case)?, &reports, &mut names))
}

/// Prints both sides, and whether they agree on every rule.
fn compare(expected: &BTreeMap<String, bool>, reports: &[RuleReport], names: &mut Names) -> bool {
    let word = |is_active: bool| if is_active { "Active" } else { "Inactive" };
    let mut agree = true;
    for (rule, is_active) in expected {
        let name = names.of(rule);
        let ours = reports.iter().find(|report| *report.rule == *name);
        let ours = ours.map(|report| report.is_active);
        let same = ours == Some(*is_active);
        agree &= same;
        let mark = if same { "passed" } else { "FAILED" };
        let ours = ours.map_or("no such rule", word);
        println!("  {mark} {rule}: expected {}, ours {ours}", word(*is_active));
    }
    for report in reports {
        let kind = match report.kind {
            RuleKind::Permission => "permission",
            RuleKind::Prohibition => "prohibition",
        };
        let unmet: Vec<&str> = report
            .tests
            .iter()
            .filter(|(_, truth)| *truth != guan_policy::Truth::True)
            .map(|(text, _)| &**text)
            .take(3)
            .collect();
        println!(
            "    {kind} {}: action {}, constraint {} ({} tests{}{}), duty {}",
            report.rule,
            report.covers_action,
            report.constraint.name(),
            report.tests.len(),
            if unmet.is_empty() { "" } else { ", not true: " },
            unmet.join("; "),
            if report.duty_violated { "violated" } else { "not violated" },
        );
    }
    agree && !expected.is_empty()
}

fn situation(
    world: &Graph,
    contract: &ContractId,
    violated: BTreeSet<String>,
) -> anyhow::Result<Situation> {
    let text = world.one(NOW, ISSUED).context("the state of the world has no current time")?;
    let wall = guan_policy::contract::parse_moment(text).context("the current time is no time")?;
    let now = Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Ntp };
    let violated = violated.into_iter().map(|rule| (contract.clone(), Arc::from(rule)));
    Ok(Situation { violated: violated.collect(), ..Situation::at(now) })
}

/// A point of the dataset that is asked for.
fn point(dataset: &str) -> anyhow::Result<PointDescriptor> {
    Ok(PointDescriptor {
        id: PointId(1),
        name: PointName::parse("asked")?,
        value_type: ValueType::F64,
        unit: Unit::one(),
        dataset: DatasetId::parse(dataset)?,
        class: Class::General,
        tags: BTreeSet::new(),
    })
}
