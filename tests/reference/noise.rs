//! What is spent of a privacy budget, over batches, undone commits, restarts and versions of a contract.

use super::dice::Dice;
use super::draw::{BOOTS, points};
use guan_model::{
    Batch, BatchHeader, ClockQuality, DatasetId, DescriptorTable, Now, PointId, Quality, Row,
    Value, WallTime,
};
use guan_policy::{Contract, Means, Permitted, Plan, Situation, Usage};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const CASES: u64 = 2_000;
/// 2026-11-30T22:00:00Z: hours and a day end soon.
const START_S: i64 = 1_796_076_000;

/// What the noise is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    None,
    OfEach,
    OfGroup,
}

/// One version of the contract.
#[derive(Debug, Clone, Copy)]
struct Terms {
    epsilon_micro: u64,
    budget_micro: u64,
    /// Seconds; all of time when `None`.
    period_s: Option<i64>,
}

impl Terms {
    fn contract(self, version: u64, windows: Windows) -> Contract {
        let micro = |number: u64| format!("{}.{:06}", number / 1_000_000, number % 1_000_000);
        let period = match self.period_s {
            None => "total",
            Some(3600) => "hour",
            _ => "day",
        };
        let refined = |action: &str, parameters: &[(&str, &str)]| {
            let of = |(name, value): &(&str, &str)| json!({"leftOperand": name, "operator": "eq", "rightOperand": value});
            let refinement: Vec<_> = parameters.iter().map(of).collect();
            json!({"action": action, "refinement": refinement})
        };
        let (epsilon, budget) = (micro(self.epsilon_micro), micro(self.budget_micro));
        let mechanism = if version.is_multiple_of(2) { "laplace" } else { "gaussian" };
        let mut noise = vec![
            ("epsilon", &*epsilon),
            ("budget", &*budget),
            ("period", period),
            ("mechanism", mechanism),
        ];
        if mechanism == "gaussian" {
            noise.push(("delta", "0.00001"));
        }
        let clamp = [("low", "0"), ("high", "100")];
        let mut duties = vec![refined("clamp", &clamp), refined("noise", &noise)];
        let mean = [("window", "PT10S"), ("statistic", "mean")];
        match windows {
            Windows::None => {}
            Windows::OfEach => duties.push(refined("aggregate", &mean)),
            Windows::OfGroup => {
                let mean = [("window", "PT1M"), ("statistic", "mean")];
                let group = [&mean[..], &[("into", "G"), ("dataField", "A.*")]].concat();
                duties.push(refined("aggregate", &group));
            }
        }
        // Two rules about one point spend from one budget.
        let low = json!([{"leftOperand": "value", "operator": "lt", "rightOperand": 50}]);
        let object = json!({
            "@type": "Agreement", "@id": "A", "profile": "urn:guankou:odrl:1", "version": version,
            "assigner": "depot", "assignee": "x", "target": "d",
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
            "permission": [
                {"uid": "low", "action": "deliver", "constraint": low, "duty": duties},
                {"uid": "all", "action": "deliver", "duty": duties},
            ],
        });
        Contract::draft(object.to_string().as_bytes()).unwrap()
    }
}

/// What has left, by point and period, in millionths.
type Spent = BTreeMap<(PointId, i64), u64>;

fn spend(permitted: &[Permitted], now: WallTime, terms: Terms, spent: &mut Spent) -> (u64, u64) {
    let (mut noisy, mut masked) = (0, 0);
    for row in permitted.iter().flat_map(|one| one.batch.iter_rows().collect::<Vec<_>>()) {
        if row.value.is_none() {
            masked += 1;
            continue;
        }
        noisy += 1;
        let period = terms.period_s.map_or(0, |length| now.0 / (length * 1_000_000_000));
        // With a clock that went back the latest period in which the point has spent goes on.
        let own = spent.keys().filter(|(point, _)| *point == row.point);
        let period = own.map(|(_, period)| *period).max().map_or(period, |last| last.max(period));
        *spent.entry((row.point, period)).or_default() += terms.epsilon_micro;
    }
    (noisy, masked)
}

fn header(table: &DescriptorTable) -> BatchHeader {
    BatchHeader {
        dataset: DatasetId::parse("d").unwrap(),
        contract: None,
        descriptors: table.digest(),
        boot: BOOTS[0],
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Ntp,
    }
}

/// Every third row is none.
fn row(now: WallTime, place: u64) -> Row {
    Row {
        point: PointId(1 + u32::try_from(place % 2).unwrap()),
        source_time: None,
        gateway_time: WallTime(now.0 + i64::try_from(place).unwrap() * 7_000_000_000),
        quality: Quality::GOOD,
        value: Some(Value::F64([10.5, 70.25, f64::NAN][usize::try_from(place % 3).unwrap()])),
    }
}

fn run(seed: u64, table: &DescriptorTable) -> (u64, u64, u64) {
    let mut dice = Dice(seed);
    let mut pick = |all: &[u64]| all[usize::try_from(dice.below(all.len() as u64)).unwrap()];
    let period_s = [None, Some(3600), Some(86_400)][usize::try_from(seed % 3).unwrap()];
    let windows = match seed % 4 {
        0 => Windows::OfEach,
        1 => Windows::OfGroup,
        _ => Windows::None,
    };
    let (mut usage, mut records): (_, Vec<Vec<u8>>) = (Usage::default(), Vec::new());
    let (mut spent, mut most, mut at) = (Spent::new(), 0, START_S);
    let (mut noisy, mut masked, mut of_groups) = (0, 0, 0);
    for version in 1..=pick(&[1, 2, 4]) {
        let epsilon_micro = pick(&[100_000, 333_333, 900_000]);
        let terms = Terms {
            epsilon_micro,
            budget_micro: epsilon_micro + pick(&[0, 1, 2_000_000]),
            period_s,
        };
        most = most.max(terms.budget_micro);
        let plan = Plan::compile(&[terms.contract(version, windows)], table);
        for _ in 0..pick(&[1, 3, 6]) {
            at += i64::try_from(pick(&[0, 1, 20, 1800])).unwrap();
            // Now and then the clock goes back by two hours, for one batch.
            let back = if pick(&[0, 1, 2, 3, 4, 5, 6, 7]) == 0 { 7200 } else { 0 };
            let now = WallTime::from_seconds(at - back);
            let monotonic = Duration::from_secs(60);
            let situation = Situation::at(Now { wall: now, monotonic, quality: ClockQuality::Ntp });
            let header = header(table);
            let rows = 1 + pick(&[0, 2, 11]);
            let batch =
                Batch::from_rows(header.clone(), (0..rows).map(|place| row(now, place))).unwrap();
            let mut entropy = || 0x0123_4567_89AB_CDEF;
            let mut decide = |usage: &mut Usage| {
                let means = &mut Means { boot: BOOTS[0], ..Means::plain(usage, &mut entropy) };
                let mut permitted = plan.decide(&situation, means, batch.clone()).permitted;
                permitted.extend(plan.flush(&situation, means, |_| header.clone()).permitted);
                permitted
            };
            if pick(&[0, 1, 2]) == 0 {
                // The commit failed: nothing of it has left.
                decide(&mut usage);
                usage.rollback();
            }
            let permitted = decide(&mut usage);
            records.push(usage.delta());
            usage.handle_committed();
            let (more_noisy, more_masked) = spend(&permitted, now, terms, &mut spent);
            if windows == Windows::OfGroup {
                let rows = permitted.iter().flat_map(|one| one.batch.iter_rows());
                rows.for_each(|row| assert_eq!(row.point, PointId(5), "only results leave"));
                of_groups += more_noisy;
            }
            (noisy, masked) = (noisy + more_noisy, masked + more_masked);
            let highest = spent.values().max().copied().unwrap_or(0);
            assert!(
                highest <= most,
                "seed {seed}: {highest} of {most} spent; {spent:?}, {terms:?}"
            );
            if pick(&[0, 1, 2]) == 0 {
                usage = Usage::default();
                records.iter().for_each(|record| usage.replay(record).unwrap());
                let last = records.last().expect("it was just pushed");
                usage.replay(last).unwrap();
            }
            if pick(&[0, 1, 2]) == 0 {
                // The contract may be gone for a while; what was spent stays spent.
                usage.retain(|_| false);
                usage.handle_committed();
                records = vec![usage.snapshot()];
            }
        }
    }
    (noisy, masked, of_groups)
}

#[test]
fn no_budget_is_overdrawn() {
    let count = std::env::var("GUAN_REFERENCE_CASES").ok().and_then(|text| text.parse().ok());
    let count: u64 = count.unwrap_or(CASES);
    let table = DescriptorTable::new(points()).unwrap();
    let (mut noisy, mut masked, mut of_groups) = (0, 0, 0);
    for seed in 0..count {
        let (more_noisy, more_masked, more_of_groups) = run(seed, &table);
        (noisy, masked) = (noisy + more_noisy, masked + more_masked);
        of_groups += more_of_groups;
    }
    println!(
        "{count} stories: {noisy} values with noise ({of_groups} of groups), {masked} without"
    );
    assert!(noisy > count && masked > count, "budgets must be spent, and end");
    assert!(of_groups * 10 > count, "groups spend, too");
}
