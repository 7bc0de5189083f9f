//! The engine on a simulated disk: promises 1, 3 and 4 in the small.

use super::*;

mod endings;
mod full_log;
mod mending;
mod overtaking;
mod rollover;

use guan_evidence::verify::LogVerifier;
use guan_evidence::{Denial, Leaf, VerifierKey};
use guan_identity::LogKeyFile;
use guan_log::LogReader;
use guan_model::{
    Class, ClockQuality, PointDescriptor, PointId, PointName, Quality, Row, Unit, Value, ValueType,
    WallTime,
};
use guan_policy::{Contract, TrustedKeys, sign};
use guan_spool::disk::SimDisk;
use guan_spool::spool::contents;
use guan_spool::{SpoolConfig, StreamConfig, WhenFull};
use std::collections::BTreeSet;

const T0: WallTime = WallTime(1_800_000_000_000_000_000);
const DATA: StreamId = StreamId(1);

struct Rig {
    spool_disk: SimDisk,
    log_disk: SimDisk,
    key: Arc<LogKeyFile>,
    bytes_max: u64,
    age_max: Option<Duration>,
    boots: u32,
    vault: Vault,
    door: Door,
    surroundings: Surroundings,
    on_log_full: OnLogFull,
}

fn point(id: u32, name: &str, dataset: &str) -> PointDescriptor {
    PointDescriptor {
        id: PointId(id),
        name: PointName::parse(name).unwrap(),
        value_type: ValueType::I64,
        unit: Unit::one(),
        dataset: DatasetId::parse(dataset).unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    }
}

fn descriptors() -> Arc<DescriptorTable> {
    let points =
        vec![point(1, "a", "granted"), point(2, "secret", "granted"), point(3, "b", "denied")];
    Arc::new(DescriptorTable::new(points).unwrap())
}

fn plan() -> Arc<Plan> {
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let public = guan_model::Signer::public_key(&key);
    let keys = TrustedKeys::new(vec![("space-1".to_owned(), public)]).unwrap();
    let keys = keys.accepting_single(true);
    let bare = br#"{"id":"C-1","version":1,"provider":"depot","consumer":"space-1",
        "purpose":"test","datasets":["granted"],"points":"all",
        "not_before":"2026-01-01T00:00:00Z","not_after":"2040-01-01T00:00:00Z",
        "allow":["forward"],"mask":["secret"]}"#;
    let signed = sign(bare, "space-1", &key).unwrap();
    let contract = Contract::parse(&signed, &keys).unwrap();
    Arc::new(Plan::compile(&[contract], &descriptors()))
}

fn at(millis: u64) -> Now {
    let monotonic = Duration::from_millis(millis);
    Now { wall: T0.saturating_add(monotonic), monotonic, quality: ClockQuality::Rtc }
}

impl Rig {
    fn new() -> Self {
        let (key, _) = LogKeyFile::generate("guan/box-1").unwrap();
        Self {
            spool_disk: SimDisk::new(),
            log_disk: SimDisk::new(),
            key: Arc::new(key),
            bytes_max: 1 << 20,
            age_max: None,
            boots: 0,
            vault: Vault::in_memory(),
            door: Door::new(at(0), BootNumber(0), None),
            surroundings: Surroundings::default(),
            on_log_full: OnLogFull::StopCollecting,
        }
    }

    fn start(&mut self) -> Engine<SimDisk, u32> {
        self.boots += 1;
        let stream = StreamConfig {
            id: DATA,
            name: "data".to_owned(),
            bytes_max: self.bytes_max,
            age_max: self.age_max,
            when_full: WhenFull::Refuse,
        };
        let config = SpoolConfig {
            segment_bytes_max: 4096,
            total_bytes_max: 1 << 30,
            streams: vec![stream],
        };
        let (spool, recovered) =
            Spool::open(self.spool_disk.clone(), config, SpoolId([1; 16])).unwrap();
        let from = EvidenceLog::tail_from(self.log_disk.clone()).unwrap();
        let tail = spool.reader().leaves_from(from).unwrap();
        let log = EvidenceLog::open(self.log_disk.clone(), "guan/box-1", self.key.clone(), tail);
        let memory =
            Memory::recover(&recovered.session_snapshot, &recovered.session_deltas).unwrap();
        let streams = ["granted", "denied"].map(|name| (DatasetId::parse(name).unwrap(), DATA));
        let parts = Parts {
            spool,
            evidence: log.unwrap(),
            memory,
            vault: self.vault.clone(),
            door: self.door.clone(),
            entropy: Box::new(|| 7),
        };
        let config = EngineConfig {
            boot: BootNumber(self.boots),
            rows_max: 100,
            commit_window: Duration::from_millis(20),
            streams: BTreeMap::from(streams),
            live_after: Some(Duration::from_secs(30)),
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_leaves_max: 64,
            log_bytes_max: 64 << 20,
            on_log_full: self.on_log_full,
            surroundings: self.surroundings,
        };
        let mut engine = Engine::new(at(0), config, descriptors(), plan(), parts);
        let program = Program::parse("guan test").unwrap();
        engine.start(at(0), &program, SpoolId([1; 16]), Salvage::default(), Vec::new()).unwrap();
        engine
    }

    fn log_reader(&self) -> LogReader<SimDisk> {
        let mut journal = Vec::new();
        guan_spool::spool::verify(&self.spool_disk, &mut |place, leaf| {
            journal.push((place, bytes::Bytes::copy_from_slice(leaf)));
        })
        .unwrap();
        LogReader::open(self.log_disk.clone(), None, journal).unwrap()
    }

    /// All leaves of the log and what a checker says of it.
    fn check_log(&self) -> (Vec<Leaf>, bool) {
        let reader = self.log_reader();
        let mut all = Vec::new();
        reader.for_each(&mut |_, leaf| all.push(leaf.to_vec())).unwrap();
        let key = VerifierKey::of(self.key.as_ref()).unwrap();
        let checkpoint = reader.checkpoint().unwrap();
        let mut verifier = LogVerifier::new();
        for leaf in &all {
            verifier.handle_leaf(leaf);
        }
        let texts: Vec<&str> = checkpoint.iter().map(String::as_str).collect();
        let report = verifier.finish(&texts, &key);
        let leaves = all.iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect();
        (leaves, report.is_valid())
    }
}

fn rows(point: u32, count: i64) -> Rows {
    (0..count)
        .map(|number| Row {
            point: PointId(point),
            source_time: None,
            gateway_time: T0,
            quality: Quality::GOOD,
            value: Some(Value::I64(number)),
        })
        .collect()
}

fn publish(engine: &mut Engine<SimDisk, u32>, now: Now, point: u32, count: i64, token: u32) {
    let publication = Publication { held: None, rows: rows(point, count), token };
    engine.apply(now, Event::Publication(publication)).unwrap();
}

/// Tokens that were answered, refused ones as negative numbers.
fn answers(engine: &mut Engine<SimDisk, u32>) -> Vec<i64> {
    let mut tokens = Vec::new();
    while let Some(effect) = engine.poll_effect() {
        match effect {
            Effect::Durable(token) | Effect::SessionReady { token, .. } => {
                tokens.push(i64::from(token));
            }
            Effect::Refused(token, _) => tokens.push(-i64::from(token)),
            _ => {}
        }
    }
    tokens
}

#[test]
fn nothing_is_answered_before_the_flush() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    answers(&mut engine);
    let before = rig.spool_disk.stats().syncs;
    publish(&mut engine, at(100), 1, 3, 7);
    publish(&mut engine, at(110), 3, 2, 8);
    assert!(answers(&mut engine).is_empty(), "the window is open");
    assert_eq!(rig.spool_disk.stats().syncs, before);
    engine.apply(at(120), Event::Tick).unwrap();
    assert_eq!(answers(&mut engine), [7, 8]);
    assert_eq!(rig.spool_disk.stats().syncs, before + 1, "one flush for both");
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    for seed in 0..40 {
        let mut rig = Rig::new();
        let mut engine = rig.start();
        let mut answered = 0;
        for step in 0..30_u32 {
            publish(&mut engine, at(u64::from(step) * 15), 1, 1, step + 1);
            answered += answers(&mut engine).iter().filter(|token| **token > 0).count() as u64;
        }
        drop(engine);
        rig.spool_disk.crash(seed);
        rig.log_disk.crash(seed);
        rig.start().apply(at(1000), Event::Stop).unwrap();
        let (leaves, is_valid) = rig.check_log();
        assert!(is_valid, "seed {seed}");
        let stored: u64 = leaves
            .iter()
            .map(|leaf| match &leaf.body {
                LeafBody::Batch(batch) => batch.rows,
                _ => 0,
            })
            .sum();
        assert!(stored >= answered, "seed {seed}: {stored} of {answered}");
    }
}

#[test]
fn every_row_is_in_a_batch_or_in_a_denial() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    publish(&mut engine, at(100), 1, 250, 1);
    publish(&mut engine, at(100), 2, 30, 2);
    publish(&mut engine, at(100), 3, 40, 3);
    engine.apply(at(200), Event::Stop).unwrap();
    assert_eq!(answers(&mut engine), [1, 2, 3]);
    let (leaves, is_valid) = rig.check_log();
    assert!(is_valid);
    let (mut batched, mut masked, mut denied) = (0, 0, 0);
    for leaf in leaves {
        match leaf.body {
            LeafBody::Batch(batch) => batched += batch.rows,
            LeafBody::Decision(decision) => {
                masked += decision.masked;
                denied += decision.denied.get(&Denial::NoContract).unwrap_or(&0);
            }
            _ => {}
        }
    }
    assert_eq!((batched, masked, denied), (280, 30, 40));
    let counters = engine.counters();
    assert_eq!((counters.rows_permitted, counters.rows_refused), (280, 40));
}

#[test]
fn a_held_packet_id_is_stored_once() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let client: Arc<str> = Arc::from("c");
    let id = NonZeroU16::new(5).unwrap();
    let send = |engine: &mut Engine<SimDisk, u32>, token: u32| {
        let held = Some((client.clone(), id));
        let publication = Publication { held, rows: rows(1, 1), token };
        let start = 100 * u64::from(token);
        engine.apply(at(start), Event::Publication(publication)).unwrap();
        engine.apply(at(start + 30), Event::Tick).unwrap();
        assert!(answers(engine).contains(&i64::from(token)));
    };
    send(&mut engine, 1);
    send(&mut engine, 2);
    drop(engine);
    let mut engine = rig.start();
    send(&mut engine, 3);
    let rows = |engine: &Engine<SimDisk, u32>| engine.counters().rows_permitted;
    assert_eq!(rows(&engine), 0, "known from before the restart");
    let release = Event::Release { client: client.clone(), packet_id: id, token: 4 };
    engine.apply(at(400), release).unwrap();
    send(&mut engine, 5);
    assert_eq!(rows(&engine), 1, "a released id is a new message");
}

/// What the sessions did in all starts before would else begin each segment, and outgrow its header in the end.
#[test]
fn starts_do_not_carry_on_what_sessions_did_before() {
    let mut rig = Rig::new();
    let client: Arc<str> = Arc::from("c");
    let mut lengths = Vec::new();
    for _ in 0..40 {
        let mut engine = rig.start();
        for number in 1..=20 {
            let packet_id = NonZeroU16::new(number).unwrap();
            let held = Some((client.clone(), packet_id));
            let publication = Publication { held, rows: rows(1, 1), token: 1 };
            engine.apply(at(100), Event::Publication(publication)).unwrap();
            engine.apply(at(130), Event::Tick).unwrap();
            let release = Event::Release { client: client.clone(), packet_id, token: 2 };
            engine.apply(at(131), release).unwrap();
            engine.apply(at(160), Event::Tick).unwrap();
        }
        drop(engine);
        lengths.push(contents(&rig.spool_disk).unwrap().session_snapshot.len());
    }
    assert!(lengths.iter().all(|length| *length < 400), "{lengths:?}");
}

#[test]
fn a_full_stream_refuses_only_its_own() {
    let mut rig = Rig { bytes_max: 400, ..Rig::new() };
    let mut engine = rig.start();
    answers(&mut engine);
    let mut refused = None;
    for step in 0..20 {
        publish(&mut engine, at(100 + u64::from(step) * 50), 1, 50, step + 1);
        publish(&mut engine, at(100 + u64::from(step) * 50), 3, 1, step + 101);
        engine.apply(at(130 + u64::from(step) * 50), Event::Tick).unwrap();
        let tokens = answers(&mut engine);
        assert!(tokens.contains(&i64::from(step + 101)), "what is denied needs no room");
        if tokens.contains(&-i64::from(step + 1)) {
            refused = Some(step);
            break;
        }
    }
    assert!(refused.is_some_and(|step| step > 0), "{refused:?}");
    assert!(rig.check_log().1);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    answers(&mut engine);
    rig.spool_disk.set_capacity(Some(0));
    publish(&mut engine, at(100), 1, 5, 1);
    engine.apply(at(150), Event::Tick).unwrap();
    assert_eq!(answers(&mut engine), [-1]);
    rig.spool_disk.set_capacity(None);
    publish(&mut engine, at(200), 1, 5, 2);
    engine.apply(at(250), Event::Stop).unwrap();
    assert_eq!(answers(&mut engine), [2]);
    let (_, is_valid) = rig.check_log();
    assert!(is_valid, "the undone commit left no trace");
    assert_eq!(engine.counters().rows_permitted, 5);
}

#[test]
fn a_failed_flush_stops_the_engine() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    answers(&mut engine);
    rig.spool_disk.fail_next_sync();
    publish(&mut engine, at(100), 1, 5, 1);
    let fault = engine.apply(at(150), Event::Tick).unwrap_err();
    assert!(matches!(fault, EngineError::Spool(_)), "{fault:?}");
    assert!(answers(&mut engine).is_empty(), "nothing may be promised");
}

#[test]
fn an_edited_leaf_is_seen() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    publish(&mut engine, at(100), 1, 5, 1);
    engine.apply(at(150), Event::Stop).unwrap();
    let (mut leaves, is_valid) = rig.check_log();
    assert!(is_valid);
    let key = VerifierKey::of(rig.key.as_ref()).unwrap();
    let checkpoint = rig.log_reader().checkpoint().unwrap().unwrap();
    for index in 0..leaves.len() {
        let before = leaves[index].clone();
        leaves[index].wall = WallTime::from_millis(before.wall.millis() + 1);
        let mut verifier = LogVerifier::new();
        for leaf in &leaves {
            verifier.handle_leaf(&leaf.encode());
        }
        assert!(!verifier.finish(&[&checkpoint], &key).is_valid(), "leaf {index}");
        leaves[index] = before;
    }
}

/// Leaves that the disk lost stop no box; the log says once that they are gone.
#[test]
fn a_damaged_bundle_is_recorded_once() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    for step in 0..150_u32 {
        let now = at(u64::from(step) * 30);
        publish(&mut engine, now, 1, 1, step);
        let tick = Now { monotonic: now.monotonic + Duration::from_millis(25), ..now };
        engine.apply(tick, Event::Tick).unwrap();
    }
    engine.apply(at(10_000), Event::Stop).unwrap();
    drop(engine);
    rig.log_disk.flip_bit("entries-0000000000000000", 800);
    let told: Vec<String> = (0..2).flat_map(|_| alarms(&mut rig.start())).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("entries 0 to 255 of the evidence log"), "{told:?}");
    let tail = rig.log_reader().bundle(1).unwrap();
    let tail = tail.iter().map(|leaf| Leaf::decode(leaf).unwrap().body);
    let gaps: Vec<LeafBody> = tail.filter(|body| matches!(body, LeafBody::LogGap { .. })).collect();
    assert_eq!(
        gaps,
        [LeafBody::LogGap { from: 0, through: 255, reason: GapReason::Damage, refill: None }]
    );
}

#[test]
fn leaves_are_sealed_into_bundles() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    for step in 0..300_u32 {
        let now = at(u64::from(step) * 30);
        publish(&mut engine, now, 1, 1, step);
        engine
            .apply(Now { monotonic: now.monotonic + Duration::from_millis(25), ..now }, Event::Tick)
            .unwrap();
    }
    assert_eq!(rig.log_reader().subtrees().bundles(), 2);
    drop(engine);
    let engine = rig.start();
    assert!(engine.log_head().size > 600);
    drop(engine);
    assert!(rig.check_log().1);
}

/// Without room for a key the old plan stays, and the new one comes by itself.
#[test]
fn a_plan_waits_for_the_keys_of_its_contracts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig { vault: Vault::open(folder.path()).unwrap(), ..Rig::new() };
    let mut engine = rig.start();
    let before = engine.plan.digest();
    // A folder where the file of the keys is to be written.
    let block = folder.path().join("contracts");
    std::fs::remove_file(&block).unwrap();
    std::fs::create_dir(&block).unwrap();
    let next = plan_of(&[agreement(2, &count_of_a_minute(), None)]);
    let coming = Event::PlanChanged(next.clone(), Standing::default());
    engine.apply(at(100), coming).unwrap();
    assert_eq!(engine.plan.digest(), before);
    let says = |engine: &mut Engine<SimDisk, u32>| {
        std::iter::from_fn(|| engine.poll_effect()).any(
            |effect| matches!(effect, Effect::Alarm(text) if text.contains("wait for their keys")),
        )
    };
    assert!(says(&mut engine));
    engine.apply(at(1100), Event::Tick).unwrap();
    assert_eq!((engine.plan.digest(), says(&mut engine)), (before, true));
    std::fs::remove_dir(&block).unwrap();
    engine.apply(at(2200), Event::Tick).unwrap();
    assert_eq!(engine.plan.digest(), next.digest());
}

/// A contract of the space-1 for point `a`, with one permission and perhaps a prohibition.
fn agreement(version: u64, permission: &serde_json::Value, forbid: Option<&str>) -> Contract {
    let mut object = serde_json::json!({
        "@type": "Agreement", "@id": "C-1", "profile": "urn:guankou:odrl:1", "version": version,
        "assigner": "depot", "assignee": "space-1", "target": "granted",
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2040-01-01T00:00:00Z"},
        "permission": [permission],
    });
    if let Some(vehicle) = forbid {
        object["prohibition"] = serde_json::json!([{"uid": "f", "action": "deliver", "constraint":
            {"leftOperand": "vehicleState", "operator": "eq", "rightOperand": vehicle}}]);
    }
    Contract::draft(object.to_string().as_bytes()).unwrap()
}

fn count_of_a_minute() -> serde_json::Value {
    let refinement = [("window", "PT1M"), ("statistic", "count")].map(
        |(name, value)| serde_json::json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
    );
    let duty = serde_json::json!([{"action": "aggregate", "refinement": refinement}]);
    serde_json::json!({"uid": "p", "action": "deliver", "duty": duty})
}

fn plan_of(contracts: &[Contract]) -> Arc<Plan> {
    Arc::new(Plan::compile(contracts, &descriptors()))
}

/// Under its own version, or not at all and then counted; never under the next version.
#[test]
fn an_open_window_leaves_under_its_own_version_or_is_counted() {
    let old = agreement(1, &count_of_a_minute(), None);
    let check = |next: &[Contract], standing: Standing, restart: bool, expect: (u64, u64)| {
        let mut rig = Rig::new();
        let mut engine = rig.start();
        let first = Event::PlanChanged(plan_of(std::slice::from_ref(&old)), Standing::default());
        engine.apply(at(50), first).unwrap();
        publish(&mut engine, at(100), 1, 3, 1);
        engine.apply(at(200), Event::Tick).unwrap();
        if restart {
            drop(engine);
            engine = rig.start();
            // Nobody knows the contracts yet: the window must wait for them.
            engine.apply(at(200_000), Event::Tick).unwrap();
        }
        engine.apply(at(200_100), Event::PlanChanged(plan_of(next), standing)).unwrap();
        engine.apply(at(400_000), Event::Tick).unwrap();
        engine.apply(at(600_000), Event::Stop).unwrap();
        let (leaves, is_valid) = rig.check_log();
        assert!(is_valid);
        let (mut left, mut dropped) = (0, 0);
        for leaf in leaves {
            match leaf.body {
                LeafBody::Batch(batch) => {
                    assert_eq!((batch.contract_digest, batch.rows), (old.digest(), 1));
                    left += 1;
                }
                LeafBody::Decision(decision) => {
                    dropped += decision.denied.get(&Denial::Dropped).unwrap_or(&0);
                }
                _ => {}
            }
        }
        assert_eq!((left, dropped), expect);
    };
    let new = || agreement(2, &serde_json::json!({"uid": "p", "action": "deliver"}), None);
    let stands = Standing::default;
    let revoked = || Standing { revoked: [old.id().clone()].into(), ..Standing::default() };
    for restart in [false, true] {
        check(std::slice::from_ref(&old), stands(), restart, (1, 0));
        check(&[new()], stands(), restart, if restart { (0, 3) } else { (1, 0) });
        check(&[agreement(2, &count_of_a_minute(), Some("driving"))], stands(), restart, (0, 3));
        check(&[], stands(), restart, (0, 3));
        check(&[], revoked(), restart, (0, 3));
    }
}

/// Consent that comes frees nothing that came before it, and consent that goes stops what comes after.
#[test]
fn a_word_counts_from_its_own_message_on() {
    let constraint = serde_json::json!([
        {"leftOperand": "consent", "operator": "eq", "rightOperand": true}]);
    let permission = serde_json::json!({"uid": "p", "action": "deliver", "constraint": constraint});
    let check = |capacity: Option<u64>, expect: u64| {
        let surroundings = Surroundings { consent: Some(PointId(3)), ..Surroundings::default() };
        let mut rig = Rig { surroundings, ..Rig::new() };
        let mut engine = rig.start();
        let plan = plan_of(&[agreement(1, &permission, None)]);
        engine.apply(at(50), Event::PlanChanged(plan, Standing::default())).unwrap();
        let say = |engine: &mut Engine<SimDisk, u32>, given: i64| {
            let row = Row { value: Some(Value::I64(given)), ..rows(3, 1).remove(0) };
            let publication = Publication { held: None, rows: Rows::from_elem(row, 1), token: 9 };
            engine.apply(at(100), Event::Publication(publication)).unwrap();
        };
        publish(&mut engine, at(100), 1, 2, 1);
        say(&mut engine, 1);
        publish(&mut engine, at(100), 1, 4, 2);
        say(&mut engine, 0);
        publish(&mut engine, at(100), 1, 8, 3);
        say(&mut engine, 1);
        publish(&mut engine, at(100), 1, 16, 4);
        rig.spool_disk.set_capacity(capacity);
        engine.apply(at(130), Event::Tick).unwrap();
        rig.spool_disk.set_capacity(None);
        // What was refused with a full disk said nothing, and it is not known what it would say.
        publish(&mut engine, at(200), 1, 32, 5);
        engine.apply(at(230), Event::Tick).unwrap();
        // A quarter of an hour later nobody has said anything for long.
        publish(&mut engine, at(901_000), 1, 64, 6);
        engine.apply(at(902_000), Event::Stop).unwrap();
        assert_eq!(engine.counters().rows_permitted, expect);
        assert!(rig.check_log().1);
    };
    check(None, 4 + 16 + 32);
    check(Some(0), 0);
}

fn alarms(engine: &mut Engine<SimDisk, u32>) -> Vec<String> {
    let mut alarms = Vec::new();
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Alarm(text) | Effect::Notice { text, .. } = effect {
            alarms.push(text);
        }
    }
    alarms
}

/// What one contract refuses is told although another lets it go; of a quota once in its period, and of nothing
/// that did not come to be.
#[test]
fn somebody_is_told_of_what_one_contract_refuses() {
    let notify = |on: &str| {
        let refinement = [("target", format!("owner-{on}")), ("on", on.to_owned())].map(
            |(name, value)| serde_json::json!({"leftOperand": name, "operator": "eq", "rightOperand": value}),
        );
        serde_json::json!({"action": "notify", "refinement": refinement})
    };
    let permission = serde_json::json!({
        "uid": "p", "action": "deliver",
        "constraint": [
            {"leftOperand": "count", "operator": "lteq", "rightOperand": 10, "unit": "1/h"},
            {"leftOperand": "value", "operator": "lt", "rightOperand": 50}],
        "duty": [notify("deny"), notify("quota"), notify("use")],
    });
    let other = serde_json::json!({
        "@type": "Agreement", "@id": "C-2", "profile": "urn:guankou:odrl:1", "version": 1,
        "assigner": "depot", "assignee": "space-2", "target": "granted",
        "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2040-01-01T00:00:00Z"},
        "permission": [{"uid": "all", "action": "deliver"}],
    });
    let other = Contract::draft(other.to_string().as_bytes()).unwrap();
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let plan = plan_of(&[agreement(1, &permission, None), other]);
    engine.apply(at(50), Event::PlanChanged(plan, Standing::default())).unwrap();
    alarms(&mut engine);
    let mut minute = 0;
    let mut check = |values: std::ops::Range<i64>, expect: &[&str]| {
        minute += 1;
        let row = |value| Row { value: Some(Value::I64(value)), ..rows(1, 1).remove(0) };
        let publication = Publication { held: None, rows: values.map(row).collect(), token: 1 };
        let now = minute * 60_000;
        engine.apply(at(now), Event::Publication(publication)).unwrap();
        engine.apply(at(now + 30), Event::Tick).unwrap();
        let prefix = ", contract C-1: ";
        let found = alarms(&mut engine);
        let found: Vec<String> = found.iter().map(|one| one.replace(prefix, " ")).collect();
        assert_eq!(found, expect);
    };
    check(0..2, &["for owner-use 2 readings leave"]);
    check(99..100, &["for owner-deny 1 readings did not leave"]);
    check(0..6, &["for owner-quota 80 % of 10 readings an hour are used"]);
    check(0..1, &[]);
    check(0..3, &["for owner-quota 100 % of 10 readings an hour are used"]);
    check(0..3, &[]);
    minute = 70;
    let mut check = |expect: &[&str], capacity: Option<u64>| {
        minute += 1;
        rig.spool_disk.set_capacity(capacity);
        publish(&mut engine, at(minute * 60_000), 1, 11, 1);
        engine.apply(at(minute * 60_000 + 30), Event::Tick).unwrap();
        rig.spool_disk.set_capacity(None);
        let found = alarms(&mut engine);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expect);
    };
    check(&[], Some(0));
    check(
        &[
            "for owner-deny, contract C-1: 1 readings did not leave",
            "for owner-quota, contract C-1: 100 % of 10 readings an hour are used",
            "for owner-use, contract C-1: 10 readings leave",
        ],
        None,
    );
}

/// Results of windows are a use as any other.
#[test]
fn somebody_is_told_of_results_that_leave() {
    let mut permission = count_of_a_minute();
    let refinement = serde_json::json!([
        {"leftOperand": "target", "operator": "eq", "rightOperand": "owner"},
        {"leftOperand": "on", "operator": "eq", "rightOperand": "use"}]);
    let duty = serde_json::json!({"action": "notify", "refinement": refinement});
    permission["duty"].as_array_mut().unwrap().push(duty);
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let plan = plan_of(&[agreement(1, &permission, None)]);
    engine.apply(at(50), Event::PlanChanged(plan, Standing::default())).unwrap();
    publish(&mut engine, at(100), 1, 3, 1);
    engine.apply(at(200), Event::Tick).unwrap();
    assert!(alarms(&mut engine).is_empty());
    engine.apply(at(400_000), Event::Tick).unwrap();
    assert_eq!(alarms(&mut engine), ["for owner, contract C-1: 1 readings leave"]);
    engine.apply(at(500_000), Event::Stop).unwrap();
    assert!(rig.check_log().1, "a result is permitted by an entry of the log");
}

/// Row of the attacks in `tests/attacks`: whoever floods the box to hide something, or to wear its flash, makes
/// one entry a commit at most, with the count in it.
#[test]
fn a_flood_is_summed_up() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let before = rig.check_log().0.len();
    for number in 0..10_000_u32 {
        let client: Arc<str> = format!("client-{}", number % 50).into();
        engine.apply(at(100), Event::SessionOpened { client, clean: true, token: number }).unwrap();
        let dataset = DatasetId::parse("granted").unwrap();
        engine.apply(at(100), Event::Undecoded { dataset }).unwrap();
    }
    engine.apply(at(150), Event::Tick).unwrap();
    assert_eq!(rig.check_log().0.len(), before, "log-ins and rubbish write nothing");
    for number in 0..10_000 {
        publish(&mut engine, at(200), 3, 1, number);
    }
    engine.apply(at(250), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    assert!(is_valid);
    let denied = leaves.iter().filter_map(|leaf| match &leaf.body {
        LeafBody::Decision(decision) => decision.denied.get(&Denial::NoContract).copied(),
        _ => None,
    });
    let denied: Vec<u64> = denied.collect();
    assert_eq!(denied.iter().sum::<u64>(), 10_000);
    // As many rows as close a batch are one commit.
    assert!(denied.len() <= 10_000 / 100 + 1, "{}", denied.len());
}
