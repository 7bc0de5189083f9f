//! What contracts remember, against lists of everything that happened: quotas, rates, samples, windows,
//! pseudonyms and delays, over batches cut anywhere, with commits undone and restarts at any place.

use super::dice::Dice;
use super::draw::{BOOTS, collections, points};
use super::interpreter::{World, apply, form};
use super::ledger::{By, Ledger, Place};
use super::story::{SECOND, Story};
use guan_model::{
    Batch, BatchHeader, ClockQuality, ContractId, DatasetId, DescriptorTable, Digest, Now,
    PointDescriptor, PointId, Row, Value, WallTime,
};
use guan_policy::constraint::{QuotaKey, Rate, Test};
use guan_policy::contract::{Rule, RuleKind};
use guan_policy::duty::{Group, Transform};
use guan_policy::{
    Contract, Decision, DenyReason, Leave, Means, Permitted, Plan, Situation, Terms, Usage,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Each is a story of up to three contracts and a dozen batches.
const CASES: u64 = 4_000;
const DELAY: Duration = Duration::from_secs(30);
/// Means of the same values, added in another order.
const MEAN_ERROR: f64 = 1e-9;

/// A row that leaves: contract, rule, point, times, severity, flags of chance, value.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    contract: ContractId,
    rule: String,
    is_delayed: bool,
    row: Row,
}

impl Line {
    fn key(&self) -> impl Ord + '_ {
        let row = &self.row;
        let value = row.value.as_ref().map(|value| match value {
            Value::F64(value) => format!("{value:.6}"),
            other => format!("{other:?}"),
        });
        let times = (row.gateway_time, row.source_time);
        (self.contract.as_str(), &self.rule, row.point, times, value)
    }

    fn is_as(&self, other: &Self) -> bool {
        let are_near = match (&self.row.value, &other.row.value) {
            (Some(Value::F64(a)), Some(Value::F64(b))) => {
                a.to_bits() == b.to_bits()
                    || (a.is_nan() && b.is_nan())
                    || (a - b).abs() <= MEAN_ERROR
            }
            (a, b) => a == b,
        };
        let bare =
            |line: &Self| Self { row: Row { value: None, ..line.row.clone() }, ..line.clone() };
        are_near && bare(self) == bare(other)
    }
}

/// What came out of a batch, or of a flush.
#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    refused: BTreeMap<DenyReason, u64>,
}

impl Said {
    fn sorted(mut self) -> Self {
        self.lines.sort_by(|a, b| a.key().cmp(&b.key()));
        self
    }

    fn is_as(&self, other: &Self) -> bool {
        self.refused == other.refused
            && self.lines.len() == other.lines.len()
            && self.lines.iter().zip(&other.lines).all(|(a, b)| a.is_as(b))
    }
}

fn key_of(contract: &ContractId) -> Option<[u8; 32]> {
    (contract.as_str() != "C").then_some([contract.as_str().as_bytes()[0]; 32])
}

fn header(table: &DescriptorTable) -> BatchHeader {
    BatchHeader {
        dataset: DatasetId::parse("d").unwrap(),
        contract: None,
        descriptors: table.digest(),
        boot: BOOTS[0],
        monotonic: Duration::ZERO,
        clock_quality: ClockQuality::Rtc,
    }
}

/// Whether rows are held for exactly the delay.
fn is_delayed(terms: &Terms, kept: &Situation) -> bool {
    let after = |span: Duration| {
        let mut later = kept.clone();
        later.now.monotonic += span;
        terms.judge(&later, BOOTS[0]) == Leave::Now
    };
    assert!(after(DELAY), "nothing else is asked when rows leave");
    let is_free = after(Duration::ZERO);
    assert_eq!(after(DELAY - Duration::from_nanos(1)), is_free, "the delay is its span");
    !is_free
}

fn lines(permitted: &[Permitted], kept: &Situation) -> Vec<Line> {
    let of = |one: &Permitted| {
        let (contract, rule) = (one.contract.clone(), one.terms.permission().to_string());
        let is_delayed = is_delayed(&one.terms, kept);
        let line =
            move |row| Line { contract: contract.clone(), rule: rule.clone(), is_delayed, row };
        one.batch.iter_rows().map(line).collect::<Vec<_>>()
    };
    permitted.iter().flat_map(of).collect()
}

impl From<(&Decision, &Situation)> for Said {
    fn from((decision, kept): (&Decision, &Situation)) -> Self {
        let refused = decision.refused.iter().map(|one| (one.reason.clone(), one.rows));
        Self { lines: lines(&decision.permitted, kept), refused: refused.collect() }.sorted()
    }
}

/// What one contract makes of one reading.
enum Fate {
    Leaves,
    Denied(DenyReason),
}

/// Why a row is refused, of what contracts make of it; `None` when one lets it leave.
fn reason(fates: Vec<Fate>) -> Option<DenyReason> {
    let mut heaviest: Option<(u8, DenyReason)> = None;
    for fate in fates {
        let Fate::Denied(reason) = fate else { return None };
        let weight = match reason {
            DenyReason::PointNotCovered { .. } => 0,
            DenyReason::Absorbed { .. } => 2,
            _ => 1,
        };
        if heaviest.as_ref().is_none_or(|(known, _)| *known < weight) {
            heaviest = Some((weight, reason));
        }
    }
    Some(heaviest.map_or(DenyReason::NoContract, |(_, reason)| reason))
}

/// The slow evaluator: contracts, and the list of what happened.
struct Slow {
    contracts: Vec<Contract>,
    ledger: Ledger,
}

fn by_of(form: &[&Transform]) -> Option<(usize, By)> {
    form.iter().enumerate().find_map(|(place, transform)| match transform {
        Transform::Aggregate(one) => {
            let points_min = one.group.as_ref().map(|group| group.contributors_min);
            let (length, statistic, readings_min) = (one.window, one.statistic, one.readings_min);
            Some((place, By { length, statistic, readings_min, points_min }))
        }
        _ => None,
    })
}

/// Where the results of a point leave: on itself, or on the point of its group.
fn results_on(form: &[&Transform], point: PointId) -> PointId {
    let into = form.iter().find_map(|transform| transform.group());
    into.map_or(point, |group| {
        let all = points();
        all.iter().find(|one| one.name == group.into).expect("the rule grants nothing else").id
    })
}

/// The points of the dataset whose results leave on a point under a rule.
fn points_behind(rule: &Rule, results: PointId) -> Vec<PointDescriptor> {
    let is_behind = |point: &PointDescriptor| {
        let form = form(rule, point);
        by_of(&form).is_some() && results_on(&form, point.id) == results
    };
    points().into_iter().filter(|one| one.dataset.as_str() == "d" && is_behind(one)).collect()
}

/// Whether a contract of a story permits anything of a point: it does, unless the results of the point's group
/// have none to leave on.
fn permits(contract: &Contract, point: &PointDescriptor) -> bool {
    let is_here = |group: &Group| points().iter().any(|one| one.name == group.into);
    let mut rules = contract.rules().iter().filter(|rule| rule.kind == RuleKind::Permission);
    rules.any(|rule| {
        let own = rule.treatments.iter().filter(|one| one.points.covers(point.name.as_str()));
        own.filter_map(|one| one.transform.group()).all(is_here)
    })
}

/// What a rule does to the points whose results leave on a point.
fn form_behind(rule: &Rule, results: PointId) -> Vec<&Transform> {
    let points = points_behind(rule, results);
    form(rule, points.first().expect("a window that was begun has a rule that began it"))
}

impl Slow {
    fn with_world<T>(&self, situation: &Situation, act: impl FnOnce(&World<'_>) -> T) -> T {
        let (points, collections) = (points(), collections());
        let dataset = DatasetId::parse("d").unwrap();
        act(&World {
            contracts: &self.contracts,
            dataset: &dataset,
            points: &points,
            collections: &collections,
            comes: situation,
            leaves: situation,
            boot: BOOTS[0],
            ledger: Some(&self.ledger),
        })
    }

    /// Series by series, contract by contract, row by row: a prohibition may ask for the counters of another
    /// contract, which have counted the whole series if its id comes first.
    fn decide(&mut self, situation: &Situation, batch: &Batch) -> Said {
        let mut said = Said::default();
        for series in &batch.series {
            let mut fates: Vec<Vec<Fate>> = (0..series.rows()).map(|_| Vec::new()).collect();
            for contract in &self.contracts.clone() {
                for (place, fates) in fates.iter_mut().enumerate() {
                    let row = series.row(place);
                    fates.push(self.decide_one(contract, situation, &row, &mut said.lines));
                }
            }
            for reason in fates.into_iter().filter_map(reason) {
                *said.refused.entry(reason).or_default() += 1;
            }
        }
        said.sorted()
    }

    fn decide_one(
        &mut self,
        contract: &Contract,
        situation: &Situation,
        row: &Row,
        lines: &mut Vec<Line>,
    ) -> Fate {
        let id = contract.id();
        let rule = self.with_world(situation, |world| {
            world.granted(contract, row).map(|granted| granted.permission.id.clone())
        });
        let rule = match rule {
            Ok(rule) => rule,
            Err(reason) => return Fate::Denied(reason),
        };
        let rule = contract.rules().iter().find(|one| one.id == rule).unwrap();
        let all = points();
        let form = form(rule, all.iter().find(|point| point.id == row.point).unwrap());
        let dropped = Fate::Denied(DenyReason::Dropped { contract: id.clone() });
        let is_dropped = form.contains(&&Transform::Drop);
        if !is_dropped {
            let counted = counted(contract, rule);
            self.ledger.note((id, &rule.id), counted, situation.now.wall, row);
        }
        let place: Place = (id.clone(), rule.id.to_string(), row.point);
        let results: Place = (id.clone(), rule.id.to_string(), results_on(&form, row.point));
        let one_of = form.iter().find_map(|transform| match transform {
            Transform::Sample { one_of } => Some(*one_of),
            _ => None,
        });
        // A dropped row has been seen: the next version may sample from there on.
        if one_of.is_some_and(|one_of| !self.ledger.stays(&place, one_of)) || is_dropped {
            return dropped;
        }
        let is_delayed = form.iter().any(|one| matches!(one, Transform::Delay { .. }));
        let mut push = |transforms: &[&Transform], row: &Row| {
            let (row, _) = apply(transforms, row, key_of(id)).unwrap();
            let (contract, rule) = (id.clone(), rule.id.to_string());
            lines.push(Line { contract, rule, is_delayed, row });
        };
        let Some((at, by)) = by_of(&form) else {
            push(&form, row);
            return Fate::Leaves;
        };
        let (clamped, _) = apply(&form[..at], row, None).unwrap();
        match self.ledger.absorb(&results, by, &clamped) {
            None => dropped,
            Some(result) => {
                result.iter().for_each(|result| push(&form[at + 1..], result));
                Fate::Denied(DenyReason::Absorbed { contract: id.clone() })
            }
        }
    }

    fn flush(&mut self, now: WallTime) -> Said {
        let mut lines = Vec::new();
        for place in self.ledger.open_windows() {
            let contract = self.contracts.iter().find(|one| *one.id() == place.0).unwrap();
            let rule = contract.rules().iter().find(|rule| *rule.id == *place.1).unwrap();
            let form = form_behind(rule, place.2);
            let (at, by) = by_of(&form).unwrap();
            let is_delayed = form.iter().any(|one| matches!(one, Transform::Delay { .. }));
            for result in self.ledger.flush(&place, by, now) {
                let (row, _) = apply(&form[at + 1..], &result, key_of(&place.0)).unwrap();
                let (contract, rule) = (place.0.clone(), place.1.clone());
                lines.push(Line { contract, rule, is_delayed, row });
            }
        }
        Said { lines, ..Said::default() }.sorted()
    }
}

/// What a contract counts, and what a rule of it does.
fn counted(contract: &Contract, rule: &Rule) -> (Vec<QuotaKey>, Vec<Rate>) {
    let tests = |rule: &Rule| -> Vec<Test> {
        rule.constraint.leaves().iter().map(|leaf| leaf.test.clone()).collect()
    };
    let keys = contract.rules().iter().flat_map(tests).filter_map(|test| match test {
        Test::Quota { key, .. } => Some(key),
        _ => None,
    });
    let rates = tests(rule).into_iter().filter_map(|test| match test {
        Test::Rate(rate) => Some(rate),
        _ => None,
    });
    (keys.collect(), rates.collect())
}

/// A prohibition that binds a contract, as a window remembers it.
type Binding = (Digest, String);

impl Slow {
    /// What binds a contract: prohibitions of its consumer.
    fn bindings(all: &[Contract], contract: &Contract) -> Vec<(Binding, ContractId, Rule)> {
        let same = all.iter().filter(|one| one.consumer() == contract.consumer());
        let rules = same.flat_map(|one| one.rules().iter().map(move |rule| (one, rule)));
        let forbids = rules.filter(|(_, rule)| rule.kind == RuleKind::Prohibition);
        let named = forbids.map(|(one, rule)| {
            ((one.digest(), rule.id.to_string()), one.id().clone(), rule.clone())
        });
        named.collect()
    }

    /// Other contracts are in force: windows of other rules end, on their own terms.
    fn change(
        &mut self,
        next: Vec<Contract>,
        may_leave: bool,
        now: WallTime,
    ) -> (Said, BTreeMap<PointId, u64>) {
        let (mut lines, mut dropped) = (Vec::new(), BTreeMap::new());
        let before = std::mem::take(&mut self.contracts);
        for place in self.ledger.open_windows() {
            let contract = before.iter().find(|one| *one.id() == place.0).unwrap();
            let then = Self::bindings(&before, contract);
            let names = |all: &[(Binding, ContractId, Rule)]| -> BTreeSet<Binding> {
                all.iter().map(|(binding, ..)| binding.clone()).collect()
            };
            let stays = next.iter().find(|one| one.id() == contract.id());
            let bound = stays.map(|one| Self::bindings(&next, one));
            let same = stays.is_some_and(|one| one.digest() == contract.digest());
            if same && bound.as_ref().is_some_and(|bound| names(bound) == names(&then)) {
                continue;
            }
            // Prohibitions count only, and of a reading that is gone nobody knows what it would count: what
            // was not asked in the same words before forbids.
            let is_new = |(_, of, rule): &(Binding, ContractId, Rule)| {
                !then.iter().any(|(_, known_of, known)| {
                    (known_of, &known.id, &known.constraint) == (of, &rule.id, &rule.constraint)
                })
            };
            let rule = contract.rules().iter().find(|rule| *rule.id == *place.1).unwrap();
            let is_asked = |point: &PointDescriptor| stays.is_some_and(|one| permits(one, point));
            let behind = points_behind(rule, place.2);
            let result = points().into_iter().filter(|one| one.id == place.2);
            let forbidden = behind.into_iter().chain(result).any(|point| match &bound {
                Some(bound) if is_asked(&point) => bound.iter().any(is_new),
                // Nobody asks what others of the consumer say now, as long as they are the same.
                _ => next.iter().any(|one| {
                    one.consumer() == contract.consumer()
                        && one.rules().iter().any(|rule| rule.kind == RuleKind::Prohibition)
                        && !before.iter().any(|known| known.digest() == one.digest())
                }),
            });
            let form = form_behind(rule, place.2);
            let (at, by) = by_of(&form).unwrap();
            for (readings, result) in self.ledger.end(&place, by, now) {
                match result.filter(|_| may_leave && !forbidden) {
                    Some(result) => {
                        let (row, _) = apply(&form[at + 1..], &result, key_of(&place.0)).unwrap();
                        let is_delayed =
                            form.iter().any(|one| matches!(one, Transform::Delay { .. }));
                        let (contract, rule) = (place.0.clone(), place.1.clone());
                        lines.push(Line { contract, rule, is_delayed, row });
                    }
                    None if readings > 0 => *dropped.entry(place.2).or_default() += readings,
                    None => {}
                }
            }
        }
        for gone in before.iter().filter(|one| !next.iter().any(|next| next.id() == one.id())) {
            self.ledger.forget(gone.id());
        }
        self.contracts = next;
        (Said { lines, ..Said::default() }.sorted(), dropped)
    }
}

/// The fast side, with what is durable of it.
struct Fast {
    plan: Plan,
    usage: Usage,
    records: Vec<Vec<u8>>,
}

impl Fast {
    fn act<T>(&mut self, act: impl FnOnce(&Plan, &mut Means<'_>) -> T) -> T {
        let mut entropy = || unreachable!("these contracts have no noise");
        let means = &mut Means {
            pseudonym_key: &key_of,
            boot: BOOTS[0],
            ..Means::plain(&mut self.usage, &mut entropy)
        };
        act(&self.plan, means)
    }

    fn commit(&mut self) {
        self.records.push(self.usage.delta());
        self.usage.handle_committed();
    }

    /// Reads what is durable; the last record perhaps twice, as after a crash between write and trim.
    fn restart(&mut self, twice: bool) {
        let again = self.records.last().filter(|_| twice).into_iter();
        self.usage = Usage::default();
        for record in self.records.iter().chain(again) {
            self.usage.replay(record).unwrap();
        }
    }
}

#[derive(Default, Debug)]
struct Tally {
    stories: u64,
    rows: u64,
    lines: u64,
    results: u64,
    delayed: u64,
    named: u64,
    restarts: u64,
    undone: u64,
    changes: u64,
    ended: u64,
    dropped: u64,
    /// Results of groups; their windows with readings enough and too few points; and those that ended for want
    /// of room.
    of_groups: u64,
    withheld: u64,
    crowded: u64,
    reasons: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn note(&mut self, said: &Said) {
        self.lines += said.lines.len() as u64;
        self.delayed += said.lines.iter().filter(|line| line.is_delayed).count() as u64;
        let is_name = |line: &&Line| match &line.row.value {
            Some(Value::Text(text)) => text.len() == 32,
            _ => false,
        };
        self.named += said.lines.iter().filter(is_name).count() as u64;
        for (reason, rows) in &said.refused {
            *self.reasons.entry(reason.name()).or_default() += rows;
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        for (reason, rows) in &other.reasons {
            *self.reasons.entry(reason).or_default() += rows;
        }
        self.stories += other.stories;
        self.rows += other.rows;
        self.lines += other.lines;
        self.results += other.results;
        self.delayed += other.delayed;
        self.named += other.named;
        self.restarts += other.restarts;
        self.undone += other.undone;
        self.changes += other.changes;
        self.ended += other.ended;
        self.dropped += other.dropped;
        self.of_groups += other.of_groups;
        self.withheld += other.withheld;
        self.crowded += other.crowded;
        self
    }
}

fn check(seed: u64, fast: &Said, slow: &Said, contracts: &[Contract]) {
    if fast.is_as(slow) {
        return;
    }
    let alone = |one: &Said, other: &Said| -> Vec<String> {
        let is_alone = |line: &&Line| !other.lines.iter().any(|known| known.is_as(line));
        one.lines.iter().filter(is_alone).map(|line| format!("{line:?}")).collect()
    };
    let rules: Vec<String> =
        contracts.iter().flat_map(Contract::rules).map(|rule| format!("{rule:?}")).collect();
    panic!(
        "seed {seed}: the plan alone says\n{}\n{:?}\nthe slow evaluator alone\n{}\n{:?}\nby\n{}",
        alone(fast, slow).join("\n"),
        fast.refused,
        alone(slow, fast).join("\n"),
        slow.refused,
        rules.join("\n")
    );
}

/// Between two batches one contract is replaced, ends or begins.
fn change_plan(
    (seed, table): (u64, &DescriptorTable),
    story: &mut Story,
    (fast, slow): (&mut Fast, &mut Slow),
    situation: &Situation,
    tally: &mut Tally,
) {
    tally.changes += 1;
    let next = story.other_contracts(&slow.contracts, 2 + tally.changes);
    let may_leave = !story.one_in(4);
    let plan = Plan::compile_with(&next, table, &collections());
    let ended = fast
        .act(|old, means| old.hand_over(&plan, |_| may_leave, situation, means, |_| header(table)));
    fast.usage.retain(|id| plan.contract(id).is_some());
    fast.plan = plan;
    let before = slow.contracts.clone();
    let (expect, dropped) = slow.change(next, may_leave, situation.now.wall);
    let left = lines(&ended.permitted, situation);
    let found = Said { lines: left, ..Said::default() }.sorted();
    check(seed, &found, &expect, &before);
    assert_eq!(ended.dropped, dropped, "seed {seed}");
    tally.ended += found.lines.len() as u64;
    tally.dropped += dropped.values().sum::<u64>();
}

fn run_story(seed: u64, table: &DescriptorTable, tally: &mut Tally) {
    let mut story = Story(Dice(seed));
    let contracts: Vec<Contract> =
        ["A", "B", "C"].iter().filter_map(|id| story.contract(id, 1)).collect();
    let mut fast = Fast {
        plan: Plan::compile_with(&contracts, table, &collections()),
        usage: Usage::default(),
        records: Vec::new(),
    };
    let mut slow = Slow { contracts, ledger: Ledger::default() };
    let rows = story.rows();
    let mut rest = &rows[..];
    while !rest.is_empty() {
        let (rows, after) = rest.split_at(story.up_to(rest.len().min(12)));
        rest = after;
        let wall = rows.last().unwrap().gateway_time;
        // Now and then the clock goes back, or is not set.
        let wall = if story.one_in(12) { WallTime(wall.0 - 7200 * SECOND) } else { wall };
        let quality = story.pick(&[ClockQuality::Ntp, ClockQuality::Ntp, ClockQuality::Unset]);
        let situation = Situation::at(Now { wall, monotonic: Duration::from_secs(60), quality });
        let batch = Batch::from_rows(header(table), rows.to_vec()).unwrap();
        if story.one_in(4) {
            // The commit is undone, and done again.
            fast.act(|plan, means| plan.decide(&situation, means, batch.clone()));
            fast.usage.rollback();
            tally.undone += 1;
        }
        let decision = fast.act(|plan, means| plan.decide(&situation, means, batch.clone()));
        let found = Said::from((&decision, &situation));
        let expect = slow.decide(&situation, &batch);
        check(seed, &found, &expect, &slow.contracts);
        tally.note(&found);
        tally.rows += rows.len() as u64;
        if quality != ClockQuality::Unset && story.one_in(3) {
            let mut later = situation.clone();
            later.now.wall = wall.saturating_add(Duration::from_secs(story.pick(&[0, 30, 90])));
            let flushed = fast.act(|plan, means| plan.flush(&later, means, |_| header(table)));
            assert!(flushed.dropped.is_empty());
            let flushed = flushed.permitted;
            let found = Said { lines: lines(&flushed, &later), ..Said::default() }.sorted();
            let expect = slow.flush(later.now.wall);
            check(seed, &found, &expect, &slow.contracts);
            tally.results += found.lines.len() as u64;
            tally.note(&found);
        }
        if story.one_in(5) {
            change_plan((seed, table), &mut story, (&mut fast, &mut slow), &situation, tally);
        }
        fast.commit();
        if story.one_in(4) {
            fast.records = vec![fast.usage.snapshot()];
        }
        if story.one_in(3) {
            let twice = story.one_in(2);
            fast.restart(twice);
            tally.restarts += 1;
        }
    }
    tally.stories += 1;
    tally.of_groups += slow.ledger.of_groups;
    tally.withheld += slow.ledger.withheld;
    tally.crowded += slow.ledger.crowded;
}

#[test]
fn what_is_remembered_is_what_happened() {
    let count = std::env::var("GUAN_REFERENCE_CASES").ok().and_then(|text| text.parse().ok());
    let count = count.unwrap_or(CASES);
    let shards = std::thread::available_parallelism().map_or(1, |shards| shards.get() as u64);
    let run_shard = |shard: u64| {
        let table = DescriptorTable::new(points()).unwrap();
        let mut tally = Tally::default();
        let seeds = (shard..count).step_by(usize::try_from(shards).unwrap());
        seeds.for_each(|seed| run_story(seed, &table, &mut tally));
        tally
    };
    let tally = std::thread::scope(|scope| {
        let run_shard = &run_shard;
        let shards: Vec<_> =
            (0..shards).map(|shard| scope.spawn(move || run_shard(shard))).collect();
        let tallies = shards.into_iter().map(|shard| shard.join().unwrap());
        tallies.fold(Tally::default(), |sum, tally| sum.plus(&tally))
    });
    println!("{tally:?}");
    // A comparison of nothing with nothing would pass.
    let all = ["absorbed", "dropped", "not-permitted", "prohibited"];
    assert!(all.iter().all(|name| tally.reasons.get(name) > Some(&tally.stories)), "{tally:?}");
    let seen =
        [tally.lines, tally.results, tally.delayed, tally.named, tally.restarts, tally.undone];
    assert!(seen.iter().all(|count| *count * 4 > tally.stories), "{tally:?}");
    assert!(
        tally.of_groups * 10 > tally.stories && tally.withheld * 4 > tally.stories,
        "{tally:?}"
    );
    assert!(tally.crowded * 4 > tally.stories, "{tally:?}");
    assert!(tally.ended * 20 > tally.stories && tally.dropped * 4 > tally.stories, "{tally:?}");
}
