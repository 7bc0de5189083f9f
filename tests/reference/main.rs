//! Whatever the plan does fast, an interpreter does slowly, reading by reading: they must agree. And what a
//! contract does not let go is in no bytes that leave under it.
//!
//! `stateful` does the same for what contracts remember.
//!
//! `GUAN_REFERENCE_CASES=1000000 cargo test -p guan-tests --test reference` runs longer.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "../sim/dice.rs"]
mod dice;
mod draw;
mod interpreter;
mod ledger;
mod markers;
mod noise;
mod stateful;
mod story;

use draw::{BOOTS, Draw, collections, points};
use guan_model::{
    Batch, BatchHeader, BootNumber, ClockQuality, ContractId, DatasetId, DescriptorTable, Row,
    Value, ValueType,
};
use guan_policy::{
    Collections, Contract, Decision, DenyReason, Leave, Means, Plan, Usage, Verdicts,
};
use interpreter::{Outcome, World, weightiest};
use std::collections::BTreeMap;
use std::time::Duration;

/// Three contracts each: a hundred thousand in all.
const CASES: u64 = 34_000;
/// Of so many contracts drawn, fewer than one may be refused, or the draws are worth little.
const REFUSED_MAX: u64 = 4;

/// One row that leaves, in an order that both sides can be brought into.
type Line = (ContractId, String, bool, u32, Option<ValueType>, i64);

fn line(contract: &ContractId, permission: &str, leaves_then: bool, row: &Row) -> Line {
    let value_type = row.value.as_ref().map(Value::value_type);
    let permission = permission.to_owned();
    (contract.clone(), permission, leaves_then, row.point.0, value_type, row.gateway_time.0)
}

/// What the interpreter says of a batch.
#[derive(Default, PartialEq, Debug)]
struct Said {
    leaving: Vec<(Line, Row)>,
    /// Leaving or dropped, and how often a contract was asked at all.
    let_in: usize,
    asked: usize,
    masked: u64,
    refused: BTreeMap<DenyReason, u64>,
}

impl Said {
    fn by_reference(world: &World<'_>, batch: &Batch) -> Self {
        let mut said = Self::default();
        let speaks = |contract: &&Contract| contract.datasets().contains(world.dataset);
        let mut contracts: Vec<&Contract> = world.contracts.iter().filter(speaks).collect();
        contracts.sort_by_key(|contract| contract.id());
        for row in batch.iter_rows() {
            let (mut reasons, mut leaves) = (Vec::new(), false);
            for contract in &contracts {
                said.asked += 1;
                match world.outcome(contract, &row) {
                    Outcome::Refused(reason) => {
                        said.let_in += usize::from(matches!(reason, DenyReason::Dropped { .. }));
                        reasons.push(reason);
                    }
                    Outcome::Leaves { permission, row, is_masked, leaves_then } => {
                        leaves = true;
                        said.let_in += 1;
                        said.masked += u64::from(is_masked);
                        said.leaving
                            .push((line(contract.id(), &permission, leaves_then, &row), row));
                    }
                }
            }
            if !leaves {
                *said.refused.entry(weightiest(reasons)).or_default() += 1;
            }
        }
        said.leaving.sort_by(|(a, _), (b, _)| a.cmp(b));
        said
    }

    fn by_plan(world: &World<'_>, decision: &Decision, verdicts: &Verdicts) -> Self {
        let mut said = Self { masked: decision.masked_rows(), ..Self::default() };
        for judged in verdicts.iter() {
            said.asked += judged.len();
            said.let_in += if judged.is_permitted() { judged.len() } else { 0 };
        }
        for permitted in &decision.permitted {
            let leaves_then = permitted.terms.judge(world.leaves, world.boot) == Leave::Now;
            let permission = permitted.terms.permission();
            for row in permitted.batch.iter_rows() {
                said.leaving.push((line(&permitted.contract, permission, leaves_then, &row), row));
            }
        }
        said.leaving.sort_by(|(a, _), (b, _)| a.cmp(b));
        for refusal in &decision.refused {
            let twice = said.refused.insert(refusal.reason.clone(), refusal.rows);
            assert_eq!(twice, None, "one refusal for each reason");
        }
        said
    }
}

/// Searches everything that leaves under each contract for what may not.
fn search(batch: &Batch, decision: &Decision) -> u64 {
    let mut searched = 0;
    for permitted in &decision.permitted {
        let encoded = guan_codec::encode(&permitted.batch);
        let decoded = guan_codec::decode(&encoded.bytes).unwrap();
        let own = decision.permitted.iter().filter(|other| other.contract == permitted.contract);
        let open: Vec<Value> =
            own.flat_map(|one| one.batch.iter_rows()).filter_map(|row| row.value).collect();
        let leaving: Vec<Value> = decoded.batch.iter_rows().filter_map(|row| row.value).collect();
        for secret in batch.iter_rows().filter_map(|row| row.value) {
            let Some(bytes) = secret_bytes(&secret) else { continue };
            // The interpreter has said of each row whether it leaves, and in which form.
            if open.contains(&secret) {
                continue;
            }
            searched += 1;
            assert!(!leaving.contains(&secret), "{secret:?} leaves under {}", permitted.contract);
            let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
            for pattern in [&bytes, &reversed] {
                let is_in = encoded.bytes.windows(pattern.len()).any(|window| window == pattern);
                assert!(!is_in, "the bytes of {secret:?} leave under {}", permitted.contract);
            }
        }
    }
    searched
}

/// The bytes of values that occur once only.
fn secret_bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Text(text) => Some(text.as_bytes().to_vec()),
        Value::Bytes(bytes) => Some(bytes.to_vec()),
        // Those with a fraction of one or two digits may occur by chance.
        Value::F64(value) if value.is_finite() && (value * 4.0).fract() != 0.0 => {
            Some(value.to_le_bytes().to_vec())
        }
        _ => None,
    }
}

#[derive(Default)]
struct Tally {
    refused_contracts: u64,
    contracts: u64,
    rows: u64,
    leaving: u64,
    held: u64,
    masked: u64,
    searched: u64,
    reasons: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn plus(mut self, other: Self) -> Self {
        for (reason, rows) in other.reasons {
            *self.reasons.entry(reason).or_default() += rows;
        }
        Self {
            refused_contracts: self.refused_contracts + other.refused_contracts,
            contracts: self.contracts + other.contracts,
            rows: self.rows + other.rows,
            leaving: self.leaving + other.leaving,
            held: self.held + other.held,
            masked: self.masked + other.masked,
            searched: self.searched + other.searched,
            reasons: self.reasons,
        }
    }
}

fn run_case(seed: u64, table: &DescriptorTable, collections: &Collections, tally: &mut Tally) {
    let mut draw = Draw::new(seed);
    let points = points();
    let mut contracts = Vec::new();
    for id in ["A", "B", "C"] {
        match Contract::draft(draw.contract(id).to_string().as_bytes()) {
            Ok(contract) => contracts.push(contract),
            Err(_) => tally.refused_contracts += 1,
        }
    }
    tally.contracts += 3;
    let plan = Plan::compile_with(&contracts, table, collections);
    let (comes, leaves) = (draw.situation(), draw.situation());
    let dataset = DatasetId::parse(if seed.is_multiple_of(5) { "e" } else { "d" }).unwrap();
    let header = BatchHeader {
        dataset: dataset.clone(),
        contract: None,
        descriptors: table.digest(),
        boot: BOOTS[0],
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    };
    let batch = Batch::from_rows(header, draw.rows()).unwrap();
    let boot: BootNumber = BOOTS[usize::from(seed.is_multiple_of(3))];
    let (contracts, points) = (&contracts[..], &points[..]);
    let (comes, leaves, dataset) = (&comes, &leaves, &dataset);
    let world =
        World { contracts, dataset, points, collections, comes, leaves, boot, ledger: None };
    let (mut usage, mut entropy) = (Usage::default(), || 0);
    let mut means = Means { boot: BOOTS[0], ..Means::plain(&mut usage, &mut entropy) };
    let decision = plan.decide(comes, &mut means, batch.clone());
    let expect = Said::by_reference(&world, &batch);
    let mut verdicts = Verdicts::default();
    plan.judge(comes, &mut Usage::default(), &batch, &mut verdicts);
    let found = Said::by_plan(&world, &decision, &verdicts);
    if found != expect {
        let texts: Vec<String> = contracts.iter().map(|one| format!("{one:#?}")).collect();
        panic!(
            "seed {seed}: the plan says {found:#?}, the interpreter {expect:#?}; {comes:?} {leaves:?} {}",
            texts.join("\n")
        );
    }
    tally.searched += search(&batch, &decision);
    tally.rows += batch.rows() as u64;
    tally.leaving += found.leaving.len() as u64;
    tally.held += found.leaving.iter().filter(|(line, _)| !line.2).count() as u64;
    tally.masked += found.masked;
    for (reason, rows) in &found.refused {
        *tally.reasons.entry(reason.name()).or_default() += rows;
    }
}

#[test]
fn the_plan_decides_as_the_interpreter_does() {
    let count = std::env::var("GUAN_REFERENCE_CASES").ok().and_then(|text| text.parse().ok());
    let count = count.unwrap_or(CASES);
    let shards = std::thread::available_parallelism().map_or(1, |shards| shards.get() as u64);
    let run_shard = |shard: u64| {
        let (table, collections) = (DescriptorTable::new(points()).unwrap(), collections());
        let mut tally = Tally::default();
        let seeds = (shard..count).step_by(usize::try_from(shards).unwrap());
        seeds.for_each(|seed| run_case(seed, &table, &collections, &mut tally));
        tally
    };
    let tally = std::thread::scope(|scope| {
        let run_shard = &run_shard;
        let shards: Vec<_> =
            (0..shards).map(|shard| scope.spawn(move || run_shard(shard))).collect();
        let tallies = shards.into_iter().map(|shard| shard.join().unwrap());
        tallies.fold(Tally::default(), Tally::plus)
    });
    let Tally { refused_contracts, contracts, rows, leaving, held, masked, searched, reasons } =
        tally;
    println!(
        "{contracts} contracts ({refused_contracts} refused), {rows} rows: {leaving} leave, {held} of them \
         held back, {masked} masked; refused {reasons:?}; {searched} searches for secrets"
    );
    assert!(refused_contracts * REFUSED_MAX < contracts, "too many draws are worth nothing");
    // A comparison of nothing with nothing would pass.
    let all =
        ["expired", "not-yet-valid", "point-not-covered", "prohibited", "not-permitted", "dropped"];
    assert!(all.iter().all(|name| reasons.contains_key(name)), "{reasons:?}");
    assert!([leaving, held, masked, searched].iter().all(|count| *count * 100 > rows));
}
