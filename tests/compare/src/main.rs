//! The same four rules a contract decided by our plan, by Cedar and by regorus (interpreter and virtual
//! machine), first compared answer by answer, then timed. Ends with one line of JSON.
//!
//! Every engine gets what favours it: one policy set or program for each contract, so that none is searched;
//! requests are made before the clock starts; nothing but the answer is asked.
#![forbid(unsafe_code)]

mod cedar;
mod rego;
#[path = "../../bench/rules.rs"]
mod rules;

use anyhow::{Result, ensure};
use guan_model::DescriptorTable;
use guan_policy::{Contract, Plan, Usage, Verdicts};
use serde_json::json;
use std::hint::black_box;
use std::time::{Duration, Instant};

const CONTRACTS: usize = 100;
/// Readings of which all engines must say the same under every contract.
const COMPARED: u64 = 256;
const BATCH_ROWS: [u64; 3] = [1, 64, 1024];
/// Readings that we decide in each run; the other engines get the compared ones.
const READINGS: u64 = 4096;
/// Median of so many runs, each of at least so long.
const RUNS: usize = 7;
const RUN_MIN: Duration = Duration::from_millis(100);

/// Answers of an engine: for each reading, for each contract.
type Answers = Vec<Vec<bool>>;

fn plan(descriptors: &DescriptorTable) -> Result<Plan> {
    let contracts: Result<Vec<Contract>, _> = (0..CONTRACTS)
        .map(|number| {
            let object = rules::agreement(number, &format!("consumer-{number}"));
            Contract::draft(object.to_string().as_bytes())
        })
        .collect();
    Ok(Plan::compile(&contracts?, descriptors))
}

/// Our answers, put back into the order of the readings: a batch has a series for each point.
fn our_answers(plan: &Plan, descriptors: &DescriptorTable) -> Result<Answers> {
    let (mut usage, mut verdicts) = (Usage::default(), Verdicts::default());
    let batch = rules::batch(descriptors, 0..COMPARED);
    plan.judge(&rules::situation(), &mut usage, &batch, &mut verdicts);
    let mut answers = vec![vec![false; CONTRACTS]; usize::try_from(COMPARED)?];
    for judged in verdicts.iter().filter(|one| one.is_permitted()) {
        for row in judged.rows() {
            answers[row * usize::try_from(rules::POINTS)? + judged.series][judged.contract] = true;
        }
    }
    Ok(answers)
}

fn ensure_same(name: &str, ours: &Answers, theirs: &Answers) -> Result<()> {
    for (reading, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for (contract, (a, b)) in ours.iter().zip(theirs).enumerate() {
            let sample = rules::sample(reading as u64);
            ensure!(
                a == b,
                "reading {reading} {sample:?}, contract {contract}: we say {a}, {name} {b}"
            );
        }
    }
    ensure!(ours.len() == theirs.len(), "{name} answered {} readings", theirs.len());
    Ok(())
}

/// Decisions a second, of a run that makes so many.
fn rate(decisions: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut runs = 1_u32;
    let mut time = |runs: u32| {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        start.elapsed()
    };
    while time(runs) < RUN_MIN {
        runs *= 2;
    }
    let mut times: Vec<Duration> = (0..RUNS).map(|_| time(runs)).collect();
    times.sort();
    decisions as f64 * f64::from(runs) / times[RUNS / 2].as_secs_f64()
}

fn main() -> Result<()> {
    let descriptors = rules::descriptors();
    let plan = plan(&descriptors)?;
    let ours = our_answers(&plan, &descriptors)?;
    let cedar = cedar::Cedar::new(CONTRACTS, COMPARED)?;
    let mut rego = rego::Rego::new(CONTRACTS, COMPARED)?;
    ensure_same("Cedar", &ours, &cedar.answers())?;
    ensure_same("regorus", &ours, &rego.interpreted()?)?;
    ensure_same("the machine of regorus", &ours, &rego.executed()?)?;
    let compared = ours.len() * CONTRACTS;
    let allowed = ours.iter().flatten().filter(|allowed| **allowed).count();
    println!("{compared} requests have the same answer from all engines, {allowed} of them yes");

    let mut rates = Vec::new();
    for rows in BATCH_ROWS {
        let starts = (0..READINGS).step_by(usize::try_from(rows)?);
        let batches: Vec<_> =
            starts.map(|from| rules::batch(&descriptors, from..from + rows)).collect();
        let (situation, mut usage) = (rules::situation(), Usage::default());
        let mut verdicts = Verdicts::default();
        let decisions = usize::try_from(READINGS)? * CONTRACTS;
        let rate = rate(decisions, || {
            for batch in &batches {
                plan.judge(&situation, &mut usage, black_box(batch), &mut verdicts);
                black_box(&verdicts);
            }
        });
        rates.push((format!("guan-policy, batches of {rows}"), rate));
    }
    rates.push(("Cedar 4.14.1".to_owned(), rate(compared, || drop(black_box(cedar.answers())))));
    let interpreted = rate(compared, || drop(black_box(rego.interpreted())));
    rates.push(("regorus 0.14.1, interpreter".to_owned(), interpreted));
    let executed = rate(compared, || drop(black_box(rego.executed())));
    rates.push(("regorus 0.14.1, virtual machine".to_owned(), executed));

    println!("{:<34} {:>14}   ours in batches of {BATCH_ROWS:?} is", "engine", "decisions/s");
    let (ours, theirs) = rates.split_at(BATCH_ROWS.len());
    for (name, rate) in ours {
        println!("{name:<34} {rate:>14.0}");
    }
    for (name, rate) in theirs {
        let ratios = ours.iter().map(|(_, our)| format!("{:.0}x", our / rate));
        println!("{name:<34} {rate:>14.0}   {}", ratios.collect::<Vec<_>>().join(" "));
    }
    let rows: Vec<_> = rates
        .iter()
        .map(|(name, rate)| json!({"engine": name, "decisions_per_s": rate.round()}))
        .collect();
    let report = json!({"compare": {"contracts": CONTRACTS, "rules_per_contract": 4,
        "same_answers": compared, "allowed": allowed, "engines": rows}});
    println!("{report}");
    Ok(())
}
