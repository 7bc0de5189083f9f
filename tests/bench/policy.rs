//! What a decision costs: verdicts a second, loading of contracts, transforms; beside the machine's memory.
//!
//! `cargo bench -p guan-tests --bench policy`. Ends with one line of JSON. A decision is what one contract
//! says of one reading. Cedar and regorus decide the same in `tests/compare`.

#[path = "rules.rs"]
mod rules;

use guan_identity::KeyFile;
use guan_model::{Batch, DescriptorTable, Signer};
use guan_policy::{Contract, Means, Plan, TrustedKeys, Usage, Verdicts, sign};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

const CONTRACTS: usize = 100;
const BATCH_ROWS: [u64; 3] = [1, 64, 1024];
/// Readings that are decided in each run, in batches.
const READINGS: u64 = 4096;
const LOADED: usize = 1000;
/// Median of so many.
const RUNS: usize = 15;
/// A run lasts at least so long, so that the clock's steps do not matter.
const RUN_MIN: Duration = Duration::from_millis(40);
/// Larger than the caches.
const COPIED_BYTES: usize = 256 << 20;

/// Nanoseconds of one call, as the median of runs of many calls.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn nanos(mut call: impl FnMut()) -> f64 {
    call();
    let mut calls = 1_u32;
    let mut time = |calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed()
    };
    while time(calls) < RUN_MIN {
        calls *= 2;
    }
    let mut runs: Vec<Duration> = (0..RUNS).map(|_| time(calls)).collect();
    runs.sort();
    runs[RUNS / 2].as_nanos() as f64 / f64::from(calls)
}

fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Bytes a nanosecond, which are gigabytes a second, of a copy of memory.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn copy_rate() -> f64 {
    let from = vec![7_u8; COPIED_BYTES];
    let mut to = vec![0_u8; COPIED_BYTES];
    COPIED_BYTES as f64 / nanos(|| black_box(&mut to).copy_from_slice(black_box(&from)))
}

/// Contracts of so many consumers, unsigned.
fn drafts(descriptors: &DescriptorTable) -> Plan {
    let draft = |number: usize| {
        let object = rules::agreement(number, &format!("consumer-{number}"));
        Contract::draft(object.to_string().as_bytes()).expect("a valid contract")
    };
    let contracts: Vec<Contract> = (0..CONTRACTS).map(draft).collect();
    let plan = Plan::compile(&contracts, descriptors);
    assert_eq!((plan.contracts().len(), plan.warnings()), (CONTRACTS, &[][..]));
    plan
}

/// Verdicts alone, and with what leaves, in batches of so many rows, one after the other.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn decisions(plan: &Plan, descriptors: &DescriptorTable, rows: u64) -> Value {
    let situation = rules::situation();
    let starts = (0..READINGS).step_by(usize::try_from(rows).expect("few"));
    let batches: Vec<Batch> =
        starts.map(|from| rules::batch(descriptors, from..from + rows)).collect();
    let (mut usage, mut verdicts) = (Usage::default(), Verdicts::default());
    let (mut judged, mut permitted, mut forbidden) = (0, 0, 0);
    for batch in &batches {
        plan.judge(&situation, &mut usage, batch, &mut verdicts);
        for one in verdicts.iter() {
            judged += one.len();
            permitted += if one.is_permitted() { one.len() } else { 0 };
            forbidden += if one.is_forbidden() { one.len() } else { 0 };
        }
    }
    let decisions = usize::try_from(READINGS).expect("few") * CONTRACTS;
    assert_eq!(judged, decisions, "every contract says something of every reading");
    let mut judge = || {
        for batch in &batches {
            plan.judge(&situation, &mut usage, black_box(batch), &mut verdicts);
            black_box(&verdicts);
        }
    };
    let allocations = allocation_counter::measure(&mut judge).count_total;
    assert_eq!(allocations, 0, "the buffers are warm");
    let ns = nanos(judge) / decisions as f64;
    let decide = || {
        for batch in &batches {
            drop(black_box(plan.decide_afresh(&situation, black_box(batch).clone())));
        }
    };
    let full = rounded(decisions as f64 / nanos(decide) * 1000.0);
    let (rate, each) = (rounded(1000.0 / ns), rounded(ns));
    let share = |part: usize| rounded(part as f64 / decisions as f64 * 100.0);
    let (permitted, forbidden) = (share(permitted), share(forbidden));
    println!(
        "{rows:>6} {rate:>14.1} {each:>8.2} {allocations:>12} {full:>18.1} {permitted:>11} {forbidden:>11}"
    );
    json!({
        "batch_rows": rows, "contracts": CONTRACTS, "rules_per_contract": 4,
        "million_decisions_per_s": rate, "ns_per_decision": each, "allocations": allocations,
        "million_decisions_per_s_with_outputs": full,
        "permitted_percent": permitted, "forbidden_percent": forbidden,
    })
}

/// Reading, checking both signatures of, and compiling many contracts.
fn loading(descriptors: &DescriptorTable) -> Value {
    let key = |name: &str| KeyFile::generate(name).expect("a key is made").0;
    let (provider, consumer) = (key("depot-7"), key("space-1"));
    let files: Vec<Vec<u8>> = (0..LOADED)
        .map(|number| {
            let object = rules::agreement(number, "space-1").to_string();
            let once = sign(object.as_bytes(), "depot-7", &provider).expect("a valid contract");
            sign(&once, "space-1", &consumer).expect("a valid contract")
        })
        .collect();
    let keys = vec![
        ("depot-7".to_owned(), provider.public_key()),
        ("space-1".to_owned(), consumer.public_key()),
    ];
    let keys = TrustedKeys::new(keys).expect("usable keys");
    let folder = tempfile::tempdir().expect("a folder");
    for (number, file) in files.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number}.json")), file).expect("it is written");
    }
    let load = || {
        let set = guan_edge::contracts::read_contracts(folder.path(), &keys).expect("a folder");
        assert!(set.refused.is_empty() && set.contracts.len() == LOADED, "signed by both");
        set
    };
    let parse = || -> Vec<Contract> {
        files.iter().map(|file| Contract::parse(file, &keys).expect("signed by both")).collect()
    };
    let draft = || -> Vec<Contract> {
        files.iter().map(|file| Contract::draft(file).expect("a valid contract")).collect()
    };
    // A consumer for each contract: prohibitions bind among the contracts of one consumer, and a thousand
    // of them are more than a plan takes.
    let own = |number: usize| {
        let object = rules::agreement(number, &format!("consumer-{number}"));
        Contract::draft(object.to_string().as_bytes()).expect("a valid contract")
    };
    let contracts: Vec<Contract> = (0..LOADED).map(own).collect();
    let compile = || Plan::compile(black_box(&contracts), descriptors);
    assert_eq!(compile().warnings(), []);
    let ms = |ns: f64| rounded(ns / 1e6);
    let read = ms(nanos(|| drop(black_box(draft()))));
    let checked = ms(nanos(|| drop(black_box(parse()))));
    let compiled = ms(nanos(|| drop(black_box(compile()))));
    let loaded = ms(nanos(|| drop(black_box(load()))));
    let total = rounded(loaded + compiled);
    println!(
        "loading {LOADED} contracts: {total} ms (folder, on all cores, {loaded}; compile {compiled}); \
         on one core {} ms (read {read}, signatures {})",
        rounded(checked + compiled),
        rounded(checked - read)
    );
    json!({
        "contracts": LOADED, "read_ms": read, "read_and_check_ms": checked, "compile_ms": compiled,
        "load_folder_ms": loaded, "total_ms": total, "total_one_core_ms": rounded(checked + compiled),
    })
}

/// A duty with its parameters.
fn duty(action: &str, parameters: &[(&str, Value)]) -> Value {
    let refinement = parameters
        .iter()
        .map(|(name, value)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value}));
    match parameters {
        [] => json!([{"action": action}]),
        _ => json!([{"action": action, "refinement": refinement.collect::<Vec<_>>()}]),
    }
}

/// The mean of all points but one, on that one.
fn mean_of_a_group(descriptors: &DescriptorTable) -> Value {
    let points = descriptors.iter().map(|point| point.name.as_str());
    let (results, vehicles): (Vec<&str>, Vec<&str>) = points.partition(|name| *name == "Vessel.P0");
    let group = [
        ("window", json!("PT1M")),
        ("statistic", json!("mean")),
        ("dataField", json!(vehicles)),
        ("into", json!(results[0])),
        ("minContributors", json!(5)),
    ];
    duty("aggregate", &group)
}

/// What one reading costs in `decide` under one permission with one form.
fn transforms(descriptors: &DescriptorTable) -> Value {
    let text = |text: &str| json!(text);
    let clamp = [("low", json!(10)), ("high", json!(900))];
    let noise = [
        ("epsilon", text("0.5")),
        ("budget", json!(1000)),
        ("mechanism", text("laplace")),
        ("period", text("day")),
    ];
    let noisy = [duty("clamp", &clamp), duty("noise", &noise)];
    let noisy: Vec<Value> =
        noisy.iter().flat_map(|list| list.as_array().expect("a list").clone()).collect();
    let forms = [
        ("none", json!([{"action": "log"}])),
        ("drop", duty("drop", &[])),
        ("mask", duty("mask", &[])),
        ("clamp", duty("clamp", &clamp)),
        ("round", duty("round", &[("step", text("0.5"))])),
        (
            "coarsenPosition",
            duty("coarsenPosition", &[("axis", text("latitude")), ("step_m", json!(500))]),
        ),
        (
            "bucket",
            duty("bucket", &[("edges", json!((0..16).map(|n| n * 64).collect::<Vec<i64>>()))]),
        ),
        ("sample", duty("sample", &[("oneOf", json!(10))])),
        (
            "aggregate mean",
            duty("aggregate", &[("window", text("PT1M")), ("statistic", text("mean"))]),
        ),
        ("aggregate group", mean_of_a_group(descriptors)),
        (
            "aggregate p95",
            duty("aggregate", &[("window", text("PT1M")), ("statistic", text("p95"))]),
        ),
        ("clamp, noise", json!(noisy)),
        ("pseudonymise", duty("pseudonymise", &[])),
        ("delay", duty("delay", &[("span", text("PT1H"))])),
    ];
    let (situation, batch) = (rules::situation(), rules::batch(descriptors, 0..1024));
    let mut figures = serde_json::Map::new();
    println!("{:<16} {:>10}", "transform", "ns/reading");
    for (name, duty) in forms {
        let mut object = rules::agreement(0, "space-1");
        object["permission"] = json!([{"action": "deliver", "duty": duty}]);
        object.as_object_mut().expect("an object").remove("prohibition");
        let contract = Contract::draft(object.to_string().as_bytes()).expect("a valid contract");
        let plan = Plan::compile(&[contract], descriptors);
        let (mut usage, mut state) = (Usage::default(), 7_u64);
        let mut entropy = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        };
        let ns = nanos(|| {
            let mut means = Means {
                pseudonym_key: &|_| Some([7; 32]),
                ..Means::plain(&mut usage, &mut entropy)
            };
            drop(plan.decide(&situation, &mut means, black_box(&batch).clone()));
        });
        let each = rounded(ns / 1024.0);
        println!("{name:<16} {each:>10.1}");
        figures.insert(name.to_owned(), json!(each));
    }
    Value::Object(figures)
}

fn main() {
    let descriptors = rules::descriptors();
    let memcpy = rounded(copy_rate());
    println!("memcpy {memcpy} GB/s of {} MiB; one core", COPIED_BYTES >> 20);
    let plan = drafts(&descriptors);
    println!(
        "{:>6} {:>14} {:>8} {:>12} {:>18} {:>11} {:>11}",
        "rows",
        "M decisions/s",
        "ns",
        "allocations",
        "M/s with outputs",
        "permitted %",
        "forbidden %"
    );
    let decided: Vec<Value> =
        BATCH_ROWS.iter().map(|rows| decisions(&plan, &descriptors, *rows)).collect();
    let loaded = loading(&descriptors);
    let transforms = transforms(&descriptors);
    println!(
        "{}",
        json!({"policy": {
            "memcpy_gb_per_s": memcpy, "decisions": decided, "loading": loaded,
            "transform_ns_per_reading": transforms,
        }})
    );
}
