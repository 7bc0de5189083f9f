//! Real data through decoder, ingest and engine of a box gives a catalogue; its quality figures are compared
//! with what is counted here from the raw messages, day by day, in another way.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_catalogue::{Catalogue, Day, Figures, Share, dcat};
use guan_configs::EdgeConfig;
use guan_demo::data::Message;
use guan_drivers::{DurableRun, QoS, ReplyHandle, Submission};
use guan_edge::engine::{Effect, Engine, EngineConfig, Event, Parts, Surroundings};
use guan_edge::ingest::{self, Token};
use guan_edge::leaving::Door;
use guan_edge::memory::Memory;
use guan_edge::status::IntakeStatus;
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_edge::vault::Vault;
use guan_edge::{catalogue, wiring};
use guan_identity::LogKeyFile;
use guan_log::EvidenceLog;
use guan_model::{BootNumber, ClockQuality, Now, SpoolId, WallTime};
use guan_policy::Plan;
use guan_spool::Spool;
use guan_spool::disk::SimDisk;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const DAY: i64 = 86_400_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// A message, when it comes, and whether the box can read it.
struct Arrival<'m> {
    message: &'m Message,
    payload: Vec<u8>,
    received: i64,
    is_readable: bool,
    held: Option<NonZeroU16>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn messages(dataset: &str) -> Vec<Message> {
    let all = guan_demo::data::read(&root().join("data")).unwrap();
    all.into_iter().find(|one| one.id == dataset).unwrap().messages
}

/// The box of the demo, which also says what it expects of the machine.
fn config(folder: &Path) -> EdgeConfig {
    let text = std::fs::read_to_string(root().join("../configs/demo/edge.toml")).unwrap();
    let machine = "name = \"machine.temperature\"";
    let expected = format!("{machine}\ninterval_ms = 300000\nlow = \"40\"\nhigh = \"100\"");
    let text = text.replace(machine, &expected).replace(
        "# --- points",
        "[catalogue]\nprovider = \"plant-1\"\ntimely_within_ms = 10000\n# --- points",
    );
    EdgeConfig::parse(&text, "edge.toml", folder).unwrap()
}

type BoxEngine = Engine<SimDisk, Token>;

fn engine(config: &EdgeConfig, now: Now, key: &Arc<LogKeyFile>) -> BoxEngine {
    let disk = SimDisk::new();
    let spool = Spool::open(disk, wiring::spool_config(config), SpoolId([1; 16])).unwrap().0;
    let log = EvidenceLog::open(SimDisk::new(), "guan/demo-box", key.clone(), vec![]);
    let parts = Parts {
        spool,
        evidence: log.unwrap(),
        memory: Memory::default(),
        vault: Vault::in_memory(),
        door: Door::new(now, BootNumber(1), None),
        entropy: Box::new(|| 7),
    };
    let config_of_engine = EngineConfig {
        live_after: None,
        surroundings: Surroundings::default(),
        ..wiring::engine_config(config, BootNumber(1))
    };
    let plan = Arc::new(Plan::compile(&[], &config.descriptors));
    let descriptors = config.descriptors.clone();
    let mut engine = Engine::new(now, config_of_engine, descriptors, plan, parts);
    engine.set_quality(catalogue::ledger(config).unwrap().0);
    engine
}

fn now(wall: i64, begun: i64) -> Now {
    let monotonic = Duration::from_nanos(u64::try_from(wall - begun).unwrap());
    Now { wall: WallTime(wall), monotonic, quality: ClockQuality::Ntp }
}

/// What must follow for the figures: days are handed out to be kept.
fn settle(engine: &mut BoxEngine, kept: &mut BTreeMap<Day, Vec<u8>>) {
    let mut durable = DurableRun::default();
    while let Some(effect) = engine.poll_effect() {
        if let Some(Effect::Quality(days)) = ingest::answer(effect, &mut durable) {
            kept.extend(days);
        }
    }
}

fn keep(config: &EdgeConfig, kept: &BTreeMap<Day, Vec<u8>>) {
    let days: Vec<(Day, Vec<u8>)> = kept.clone().into_iter().collect();
    catalogue::keep_days(&config.state_dir, &days).unwrap();
}

/// Sends everything in and reads the signed document that comes out, with a new start in the middle.
async fn measure(config: &EdgeConfig, arrivals: &[Arrival<'_>]) -> Catalogue {
    let key = Arc::new(LogKeyFile::generate("guan/demo-box").unwrap().0);
    let decoder = Arc::new(wiring::decoder(config, "edge.toml").unwrap());
    let (submissions, received) = mpsc::channel(8);
    let (events_out, mut events) = mpsc::channel(8);
    let status = watch::Sender::new(IntakeStatus::default());
    let clock = SharedClock::new(SystemClock::new(None));
    let task = tokio::spawn(ingest::run(received, decoder, clock, events_out, status));
    let (outcomes, _settled) = guan_drivers::outcomes();
    let begun = arrivals[0].received;
    let mut kept = BTreeMap::new();
    let mut running = engine(config, now(begun, begun), &key);
    for (number, arrival) in (0_u64..).zip(arrivals) {
        let publication = guan_drivers::Publication {
            client: Arc::from("c"),
            topic: Arc::from(arrival.message.topic.as_str()),
            payload: arrival.payload.clone().into(),
            qos: QoS::AtLeastOnce,
            is_removal: false,
            held: arrival.held,
            received: WallTime(arrival.received),
            reply: ReplyHandle::new(number, outcomes.clone()),
            permit: None,
        };
        submissions.send(Submission::Publish(publication)).await.unwrap();
        let event = events.recv().await.unwrap();
        let at = now(arrival.received, begun);
        running.apply(at, event).unwrap();
        running.apply(at, Event::Tick).unwrap();
        settle(&mut running, &mut kept);
        if number == arrivals.len() as u64 / 2 {
            running.apply(at, Event::Stop).unwrap();
            settle(&mut running, &mut kept);
            keep(config, &kept);
            running = engine(config, at, &key);
        }
    }
    let end = arrivals.last().unwrap().received;
    running.apply(now(end, begun), Event::Stop).unwrap();
    settle(&mut running, &mut kept);
    keep(config, &kept);
    drop(submissions);
    task.await.unwrap();
    let made = catalogue::document(WallTime(end), config, &*key).unwrap();
    assert!(made.left_out.is_empty());
    dcat::read(&made.bytes).unwrap()
}

fn ratio(part: usize, whole: usize) -> Option<String> {
    (whole > 0).then(|| {
        let millionths = part as u128 * 1_000_000 / whole as u128;
        format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
    })
}

/// What the figures of each day should be, from the list of arrivals alone.
struct Counted<'a> {
    config: &'a EdgeConfig,
    arrivals: &'a [Arrival<'a>],
}

impl Counted<'_> {
    fn check(&self, day: i64, figures: &Figures) {
        let on_day = |one: &&Arrival<'_>| one.received.div_euclid(DAY) == day;
        let here: Vec<&Arrival<'_>> = self.arrivals.iter().filter(on_day).collect();
        let read: Vec<&Arrival<'_>> = here.iter().copied().filter(|one| one.is_readable).collect();
        let refused = here.len() - read.len();
        assert_eq!((figures.readings, figures.refused), (read.len() as u64, refused as u64));
        let said =
            [figures.completeness, figures.accuracy, figures.timeliness, figures.consistency];
        let said = said.map(|share: Option<Share>| share.map(|share| share.to_string()));
        let timed: Vec<i64> = read
            .iter()
            .filter_map(|one| {
                Some(one.received / 1_000_000 * 1_000_000 - one.message.reading.source_time?)
            })
            .collect();
        let timely = timed.iter().filter(|delay| **delay <= 10 * SECOND).count();
        let backwards: usize = self.backwards(&read);
        let expect = [
            self.completeness(day, &read, refused),
            ratio(read.iter().filter(|one| is_in_range(one)).count(), read.len()),
            ratio(timely, timed.len()),
            ratio(read.len() - backwards, read.len() + refused),
        ];
        assert_eq!(said, expect, "day {day}");
        // Half of the sorted delays are at most the bound that is said, and it is one of 1, 2, 5, 10...
        let mut sorted = timed;
        sorted.sort_unstable();
        if let Some(median) = sorted.get((sorted.len().max(1) - 1) / 2) {
            let bound = i64::try_from(figures.delay_p50_ms.unwrap()).unwrap() * 1_000_000;
            assert!(
                *median <= bound && bound <= (*median * 5 / 2 + 1).max(1_000_000),
                "{median} {bound}"
            );
        }
    }

    fn backwards(&self, read: &[&Arrival<'_>]) -> usize {
        let mut by_point: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for one in read {
            let time = one.message.reading.source_time.unwrap_or(one.received);
            by_point.entry(&one.message.reading.point).or_default().push(time);
        }
        let pairs = by_point.values().flat_map(|times| times.windows(2));
        pairs.filter(|pair| pair[1] < pair[0]).count()
    }

    fn completeness(&self, day: i64, read: &[&Arrival<'_>], refused: usize) -> Option<String> {
        if self.config.expectations.is_empty()
            || read[0].message.reading.point != "machine.temperature"
        {
            return ratio(read.len(), read.len() + refused);
        }
        let slots: BTreeSet<i64> = read
            .iter()
            .map(|one| one.message.reading.source_time.unwrap().div_euclid(300 * SECOND))
            .collect();
        // The first day is watched from the first message, the last one to the last.
        let from = self.arrivals[0].received.max(day * DAY);
        let until = self.arrivals.last().unwrap().received.min((day + 1) * DAY);
        let due = usize::try_from((until - from) / 1_000_000 * 288 / 86_400_000).unwrap();
        ratio(slots.len().min(due), due)
    }
}

fn is_in_range(one: &Arrival<'_>) -> bool {
    if one.message.reading.point != "machine.temperature" {
        return true;
    }
    let bits = <[u8; 8]>::try_from(one.message.reading.value.as_slice()).unwrap();
    (40.0..=100.0).contains(&f64::from_bits(u64::from_be_bytes(bits)))
}

async fn check(dataset: &str, arrivals: &[Arrival<'_>], days_min: usize) -> Catalogue {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let found = measure(&config, arrivals).await;
    let counted = Counted { config: &config, arrivals };
    let published = found.datasets.iter().find(|one| one.name.as_str() == dataset).unwrap();
    assert!(published.quality.len() >= days_min, "{} days", published.quality.len());
    for (day, figures) in &published.quality {
        counted.check(day.begin().0 / DAY, figures);
    }
    found
}

fn arrival(message: &Message, received: i64) -> Arrival<'_> {
    let payload = message.payload.clone();
    Arrival { message, payload, received, is_readable: true, held: None }
}

/// Gaps, late readings, disorder and rubbish, over two weeks; what is read is compared for each published day.
#[tokio::test]
async fn a_machine_over_weeks() {
    let mut messages = messages("machine-temperature");
    messages.drain(..messages.len() - 4000);
    let mut arrivals = Vec::new();
    for (number, message) in messages.iter().enumerate().filter(|(number, _)| number % 97 != 0) {
        let delay = if number % 10 == 0 { 11 * SECOND } else { 2 * SECOND };
        let mut one = arrival(message, message.reading.source_time.unwrap() + delay);
        if number % 53 == 0 {
            one.payload = b"{\"t\":\"2013-12-02T21:15:00Z\",\"value\":\"hot\"}".to_vec();
            one.is_readable = false;
        }
        arrivals.push(one);
    }
    let times: Vec<i64> = arrivals.iter().map(|one| one.received).collect();
    for place in (0..arrivals.len() - 1).step_by(701) {
        arrivals.swap(place, place + 1);
    }
    for (one, time) in arrivals.iter_mut().zip(times) {
        one.received = time.max(one.message.reading.source_time.unwrap());
    }
    let mut latest = i64::MIN;
    for one in &mut arrivals {
        latest = latest.max(one.received);
        one.received = latest;
    }
    let found = check("machine-temperature", &arrivals, 7).await;
    let days: Vec<Day> =
        found.datasets.iter().flat_map(|one| one.quality.keys().copied()).collect();
    assert_eq!(days.iter().max().unwrap().to_string(), "2014-02-19");
}

/// Many points, and no declared interval.
#[tokio::test]
async fn a_vessel_for_a_while() {
    let messages = messages("vessel-bus");
    let mut latest = i64::MIN;
    let mut arrivals: Vec<Arrival<'_>> = Vec::new();
    for (number, message) in messages.iter().take(8000).enumerate() {
        let delay = i64::try_from(number % 13).unwrap() * SECOND;
        latest = latest.max(message.reading.source_time.unwrap() + delay);
        arrivals.push(arrival(message, latest));
    }
    check("vessel-bus", &arrivals, 1).await;
}

/// What is sent again after it was taken counts once.
#[tokio::test]
async fn sentences_without_a_time_and_repetitions() {
    let messages = messages("gnss-nmea");
    let begun = 1_795_478_400 * SECOND;
    let mut arrivals: Vec<Arrival<'_>> = (0..)
        .zip(&messages)
        .map(|(number, one)| arrival(one, begun + number * SECOND / 10))
        .collect();
    arrivals[5].held = NonZeroU16::new(7);
    let found = check("gnss-nmea", &arrivals, 1).await;
    let gnss = found.datasets.iter().find(|one| one.name.as_str() == "gnss-nmea").unwrap();
    let once = gnss.latest().unwrap().1.readings;
    // The same packet id again: the rows are there already.
    let folder = tempfile::tempdir().unwrap();
    let mut again = arrival(arrivals[5].message, arrivals[5].received);
    again.held = arrivals[5].held;
    arrivals.insert(6, again);
    let found = measure(&config(folder.path()), &arrivals).await;
    let gnss = found.datasets.iter().find(|one| one.name.as_str() == "gnss-nmea").unwrap();
    assert_eq!(gnss.latest().unwrap().1.readings, once);
    assert_eq!(once, messages.len() as u64);
}
