//! The box in the simulated world: engine and writer, link, and a device that feeds it.

use crate::dice::Dice;
use crate::ledger::{DENIED, GRANTED, Ledger};
use crate::medium::Medium;
use crate::world::{Breakage, Habit, Shared};
use bytes::Bytes;
use guan_edge::engine::{
    Effect, Engine, EngineConfig, EngineError, Event, OnLogFull, Parts, Publication, Surroundings,
};
use guan_edge::leaving::{Door, Standing};
use guan_edge::ledger::LinkLedger;
use guan_edge::memory::Memory;
use guan_edge::system_clock::TimeSource;
use guan_edge::uplink::{Doorway, SpoolSource};
use guan_edge::writer::{self, Inputs};
use guan_evidence::{Program, Salvage};
use guan_line::VirtualTime;
use guan_link::driver::{
    BoxInputs, BoxLink, BoxOutputs, LinkEvent, LinkStatus, Paths, Permit, Released,
};
use guan_link::text::CheckpointText;
use guan_log::EvidenceLog;
use guan_model::{BootNumber, Clock, DatasetId, DescriptorTable, Now, SpoolId, StreamId, WallTime};
use guan_policy::Plan;
use guan_spool::disk::SimDisk;
use guan_spool::{Spool, SpoolConfig, StreamConfig, WhenFull};
use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// 2027-01-15.
pub(crate) const T0: WallTime = WallTime(1_800_000_000_000_000_000);
pub(crate) const STREAM: StreamId = StreamId(1);
pub(crate) const SPOOL_BYTES_MAX: u64 = 8 << 20;
const SPOOL: SpoolId = SpoolId([5; 16]);
const CLIENT: &str = "device";

/// Answers of the engine, on their way to the device.
#[derive(Debug)]
pub(crate) enum Token {
    Message(oneshot::Sender<bool>),
    Session(oneshot::Sender<Vec<NonZeroU16>>),
}

/// Wall and monotonic time of one boot. The wall may be wrong, as a box without a battery has it.
#[derive(Clone)]
struct SimClock {
    clock: Arc<Mutex<Clock>>,
    medium: Medium,
    booted: Duration,
    shift: Arc<Mutex<i64>>,
}

impl TimeSource for SimClock {
    fn now(&mut self) -> Now {
        let elapsed = self.medium.elapsed();
        let wall = T0.saturating_add(elapsed).0 + *self.shift.lock().unwrap();
        self.clock.lock().unwrap().observe(WallTime(wall), elapsed - self.booted)
    }

    fn handle_durable(&mut self, now: Now) {
        self.clock.lock().unwrap().handle_durable(now);
    }
}

fn spool_config() -> SpoolConfig {
    let stream = StreamConfig {
        id: STREAM,
        name: "data".to_owned(),
        bytes_max: SPOOL_BYTES_MAX,
        age_max: None,
        when_full: WhenFull::Refuse,
    };
    SpoolConfig {
        segment_bytes_max: 16 << 10,
        total_bytes_max: SPOOL_BYTES_MAX,
        streams: vec![stream],
    }
}

fn engine_config(boot: u32, live_after: Option<Duration>) -> EngineConfig {
    let streams = ["granted", "denied"].map(|name| (DatasetId::parse(name).unwrap(), STREAM));
    EngineConfig {
        boot: BootNumber(boot),
        rows_max: 100,
        commit_window: Duration::from_millis(20),
        streams: BTreeMap::from(streams),
        live_after,
        checkpoint_interval: Duration::from_secs(2),
        checkpoint_leaves_max: 64,
        log_bytes_max: 64 << 20,
        on_log_full: OnLogFull::StopCollecting,
        surroundings: Surroundings::default(),
    }
}

/// The space's set names the contract and was signed after it began, so a wrong clock holds nothing back.
fn standing(plan: &Plan) -> Standing {
    let listed = plan.contracts().iter().map(|one| one.contract.clone()).collect();
    Standing { listed, issued: Some(T0), ..Standing::default() }
}

/// As the daemon starts it, without any plan yet.
fn start(
    now: Now,
    (boots, habit): (u32, Habit),
    descriptors: Arc<DescriptorTable>,
    parts: Parts<SimDisk>,
) -> Result<Engine<SimDisk, Token>, EngineError> {
    let nothing = Arc::new(Plan::compile(&[], &descriptors));
    let config = engine_config(boots, habit.live_after);
    let mut engine = Engine::new(now, config, descriptors, nothing, parts);
    let program = Program::parse("guan sim").unwrap();
    engine.start(now, &program, SPOOL, Salvage::default(), Vec::new())?;
    Ok(engine)
}

/// One boot of the box, until it is crashed.
pub(crate) async fn boot(shared: Arc<Shared>) -> turmoil::Result {
    let elapsed = shared.medium.elapsed();
    let boots = {
        let mut boots = shared.boots.lock().unwrap();
        *boots += 1;
        *boots
    };
    let (spool, recovered) = Spool::open(shared.spool_disk.clone(), spool_config(), SPOOL)?;
    let mut clock = SimClock {
        clock: Arc::new(Mutex::new(Clock::new(recovered.last_wall, Duration::ZERO))),
        medium: shared.medium.clone(),
        booted: elapsed,
        shift: shared.clock_shift.clone(),
    };
    let tail = spool.reader().leaves_from(EvidenceLog::tail_from(shared.log_disk.clone())?)?;
    let key = shared.log_key.clone();
    let log = EvidenceLog::open(shared.log_disk.clone(), "guan/box-1", key, tail)?;
    let memory = Memory::recover(&recovered.session_snapshot, &recovered.session_deltas)?;
    let reader = spool.reader();
    let (descriptors, plan) = (shared.descriptors.clone(), shared.plan.clone());
    let now = clock.now();
    let door = Door::new(now, BootNumber(boots), None);
    let mut dice = Dice(shared.seed ^ 55);
    let parts = Parts {
        spool,
        evidence: log,
        memory,
        vault: shared.vault.clone(),
        door: door.clone(),
        entropy: Box::new(move || dice.roll()),
    };
    let mut engine = start(now, (boots, shared.habit), descriptors, parts)?;
    let (events_out, events) = mpsc::channel(64);
    // As in the daemon the plan comes to a running engine, before any message.
    let standing = standing(&plan);
    events_out.send(Event::PlanChanged(plan, standing)).await?;
    let (released, committed, checkpoint) = slots();
    let tables = vec![Bytes::from(guan_codec::pack_table(&shared.descriptors))];
    let forfeits = watch::Sender::new(BTreeMap::new());
    let mut reading = clock.clone();
    let doorway = Doorway {
        door,
        vault: shared.vault.clone(),
        clock: Box::new(move || reading.now()),
        forfeits: forfeits.clone(),
        ledger: LinkLedger::default(),
    };
    let source = SpoolSource::new(reader, SPOOL, [STREAM].into(), tables, doorway);
    spawn_link(&shared, source, &events_out, (&released, &committed, &checkpoint)).await?;
    let device = tokio::spawn(feed(shared.clone(), events_out));
    let (effects_out, effects) = mpsc::unbounded_channel();
    tokio::spawn(answer(shared.clone(), effects));
    let (cursors, forfeits) = (released.subscribe(), forfeits.subscribe());
    let inputs = Inputs { events, cursors, forfeits };
    writer::run(&mut engine, &mut clock, inputs, |engine, effect| match effect {
        Effect::Committed(_) => {
            *shared.queued.lock().unwrap() = Some(engine.spool_status().streams[0].queued_batches);
            assert!(engine.spool_status().disk_bytes.0 <= SPOOL_BYTES_MAX + (1 << 20));
            committed.send_modify(|count| *count += 1);
        }
        Effect::Checkpoint(head) => {
            let text = head.text;
            checkpoint.send_replace(CheckpointText::parse(&text).ok());
        }
        Effect::Look => committed.send_modify(|count| *count += 1),
        other => drop(effects_out.send(other)),
    })
    .await?;
    device.await?;
    // The link goes on, until the world ends, with what is left.
    std::future::pending::<turmoil::Result>().await
}

type Owned = (watch::Sender<Released>, watch::Sender<u64>, watch::Sender<Option<CheckpointText>>);

/// Where writer and link look.
fn slots() -> Owned {
    (watch::Sender::new(Released::new()), watch::Sender::new(0), watch::Sender::new(None))
}

type Slots<'s> = (
    &'s watch::Sender<Released>,
    &'s watch::Sender<u64>,
    &'s watch::Sender<Option<CheckpointText>>,
);

async fn spawn_link(
    shared: &Arc<Shared>,
    source: SpoolSource<SimDisk>,
    words: &mpsc::Sender<Event<Token>>,
    (released, committed, checkpoint): Slots<'_>,
) -> turmoil::Result {
    let socket = shared.medium.box_socket().await?;
    let endpoint = quinn::Endpoint::new_with_abstract_socket(
        quinn::EndpointConfig::default(),
        None,
        socket,
        Arc::new(VirtualTime),
    )?;
    let (events, mut received) = mpsc::channel(64);
    let words = words.clone();
    tokio::spawn(async move {
        while let Some(event) = received.recv().await {
            // This space keeps no contract sets: what the box has stands.
            if let LinkEvent::Roster { session, .. } = event {
                let _ = words.send(Event::Confirmed { session }).await;
            }
        }
    });
    let (_report_out, report) = watch::channel(None);
    let (stop_out, stop) = watch::channel(false);
    let dice = Mutex::new(Dice(shared.seed ^ 77));
    let link = BoxLink {
        endpoint,
        credentials: {
            let config = shared.client_config.clone();
            Box::new(move || config.clone().into())
        },
        paths: Paths::default(),
        locate: vec![shared.medium.space_address()],
        server_name: "space".to_owned(),
        source,
        inputs: BoxInputs {
            committed: committed.subscribe(),
            checkpoint: checkpoint.subscribe(),
            report,
            wanted: watch::channel(Vec::new()).1,
            letters: tokio::sync::mpsc::channel(1).1,
            permit: watch::channel(Permit::Open).1,
            stop,
        },
        outputs: BoxOutputs {
            released: released.clone(),
            events,
            status: watch::Sender::new(LinkStatus::default()),
        },
        attest: None,
        backlog_percent: guan_link::sender::BACKLOG_PERCENT,
        rate_bytes_per_s_max: None,
        random: Box::new(move || dice.lock().unwrap().roll()),
    };
    tokio::spawn(async move {
        link.run().await;
        drop(stop_out);
    });
    Ok(())
}

/// Hands answers to the device, late when the disk is slow. With `EarlyAnswer` the device has them already.
async fn answer(shared: Arc<Shared>, mut effects: mpsc::UnboundedReceiver<Effect<Token>>) {
    let mut dice = Dice(shared.seed ^ 99);
    while let Some(effect) = effects.recv().await {
        if dice.one_in(20) {
            tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
        }
        // A device that is gone comes back and asks again.
        match effect {
            Effect::Durable(Token::Message(reply)) => drop(reply.send(true)),
            Effect::Refused(Token::Message(reply), _) => drop(reply.send(false)),
            Effect::SessionReady { token: Token::Session(reply), held, .. } => {
                drop(reply.send(held));
            }
            _ => {}
        }
    }
}

async fn exchange(
    events: &mpsc::Sender<Event<Token>>,
    make: impl FnOnce(Token) -> Event<Token>,
) -> Option<bool> {
    let (reply, answer) = oneshot::channel();
    events.send(make(Token::Message(reply))).await.ok()?;
    answer.await.ok()
}

/// The device: reconnects, repeats what was not answered, then sends more, in bursts.
async fn feed(shared: Arc<Shared>, events: mpsc::Sender<Event<Token>>) {
    let client: Arc<str> = Arc::from(CLIENT);
    let mut dice = Dice(shared.seed ^ u64::from(*shared.boots.lock().unwrap()) << 8);
    let (reply, answer) = oneshot::channel();
    let opened =
        Event::SessionOpened { client: client.clone(), clean: false, token: Token::Session(reply) };
    if events.send(opened).await.is_err() {
        return;
    }
    let Ok(held) = answer.await else { return };
    for id in held {
        let mut ledger = shared.ledger.lock().unwrap();
        if !ledger.open.contains_key(&id) {
            ledger.violation = Some(format!("a release was acknowledged and lost: id {id}"));
        }
    }
    loop {
        let burst = next_burst(&shared, &mut dice);
        if burst.is_empty() {
            break;
        }
        let sends = burst.iter().map(|id| send(&shared, &client, &events, *id));
        let sends: Vec<_> = sends.map(Box::pin).collect();
        for send in sends {
            if send.await.is_none() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(shared.habit.pause_ms_max))).await;
    }
    shared.ledger.lock().unwrap().is_done = true;
    // Wait for the link before the last head is signed.
    while shared.queued.lock().unwrap().is_none_or(|queued| queued > 0) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let _ = events.send(Event::Stop).await;
}

/// What was not released comes first; then new messages until the day is over.
fn next_burst(shared: &Shared, dice: &mut Dice) -> Vec<NonZeroU16> {
    let mut ledger: std::sync::MutexGuard<'_, Ledger> = shared.ledger.lock().unwrap();
    let open: Vec<NonZeroU16> = ledger.open.keys().copied().collect();
    if !open.is_empty() {
        return open;
    }
    if shared.medium.elapsed() > shared.habit.workload {
        return Vec::new();
    }
    (0..=dice.below(shared.habit.burst_max))
        .map(|_| {
            let point = if dice.one_in(4) { DENIED } else { GRANTED };
            let count = 1 + dice.below(60);
            ledger.make(point, count)
        })
        .collect()
}

/// One message to its release; `None` when the box is gone.
async fn send(
    shared: &Shared,
    client: &Arc<str>,
    events: &mpsc::Sender<Event<Token>>,
    id: NonZeroU16,
) -> Option<()> {
    let is_acknowledged = shared.ledger.lock().unwrap().open[&id].is_acknowledged;
    if !is_acknowledged {
        let rows = shared.ledger.lock().unwrap().rows(id, T0);
        if shared.breakage == Breakage::EarlyAnswer {
            shared.ledger.lock().unwrap().acknowledge(id);
        }
        let held = Some((client.clone(), id));
        let publish = |token| Event::Publication(Publication { held, rows: rows.into(), token });
        match exchange(events, publish).await? {
            true => shared.ledger.lock().unwrap().acknowledge(id),
            // Refused: sent again with the next burst.
            false => return Some(()),
        }
    }
    let client = client.clone();
    let release = |token| Event::Release { client, packet_id: id, token };
    if exchange(events, release).await? {
        shared.ledger.lock().unwrap().open.remove(&id);
    }
    Some(())
}
