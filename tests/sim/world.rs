//! One run: hosts, network, faults by the seed, then healing and the checks.

use crate::box_host;
use crate::checks;
use crate::dice::Dice;
use crate::ledger::{DENIED, GRANTED, Ledger};
use crate::medium::Medium;
use crate::space_host;
use guan_edge::vault::Vault;
use guan_evidence::{LeafBody, VerifierKey};
use guan_identity::{
    KeyFile, LogKeyFile, SmallCa, Tier, TimeCell, certificate_request, client_config,
    read_certificates, server_config,
};
use guan_link::driver::LinkTuning;
use guan_model::{
    BoxId, Class, DatasetId, DescriptorTable, PointDescriptor, PointId, PointName, Signer, Unit,
    ValueType,
};
use guan_policy::{Contract, Plan, TrustedKeys, sign};
use guan_spool::disk::SimDisk;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long devices send and faults happen.
const WORKLOAD: Duration = Duration::from_secs(20);
/// By then everything must have arrived.
const END: Duration = Duration::from_secs(240);
/// Crashed hosts come back after at most this.
const DOWN_MAX_MS: u64 = 3000;
const FAULT_PAUSE_MS: u64 = 2500;

/// A promise that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    None,
    /// The device is answered when the box has only received its message.
    EarlyAnswer,
    /// Directory entries are not flushed, though the disk says so.
    NoDirectorySync,
    /// One entry of the log is changed after the run.
    EditedLeaf,
    /// The decisions are taken out of the log after the run.
    NoDecision,
}

/// What a good run amounted to.
pub(crate) struct Outcome {
    pub(crate) readings: u64,
    /// Batches that came before one that the box had committed earlier.
    pub(crate) overtaking: u64,
    /// In which batches came, of one contract.
    pub(crate) streams: u64,
}

/// Why a run is not good.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a device behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habit {
    /// It sends something new for so long.
    pub(crate) workload: Duration,
    /// Pause between two bursts, at most, and messages of a burst beyond the first.
    pub(crate) pause_ms_max: u64,
    pub(crate) burst_max: u64,
    /// Batches that have waited for so long do not hold up later ones.
    pub(crate) live_after: Option<Duration>,
}

/// About as long as a batch takes, so that sides change again and again.
const LIVE_AFTER: Duration = Duration::from_millis(40);
const BUSY: Habit =
    Habit { workload: WORKLOAD, pause_ms_max: 200, burst_max: 5, live_after: Some(LIVE_AFTER) };

/// What outlives the hosts.
pub(crate) struct Shared {
    pub(crate) seed: u64,
    pub(crate) breakage: Breakage,
    pub(crate) medium: Medium,
    pub(crate) habit: Habit,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) boots: Mutex<u32>,
    /// Nanoseconds by which the box's wall clock is wrong.
    pub(crate) clock_shift: Arc<Mutex<i64>>,
    /// Batches that the box still holds, as of its last commit.
    pub(crate) queued: Mutex<Option<u64>>,
    pub(crate) spool_disk: SimDisk,
    pub(crate) log_disk: SimDisk,
    pub(crate) space_disk: SimDisk,
    pub(crate) log_key: Arc<LogKeyFile>,
    pub(crate) space_log_key: Arc<LogKeyFile>,
    /// Its keys are durable, so they outlive a crash.
    pub(crate) vault: Vault,
    pub(crate) descriptors: Arc<DescriptorTable>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) client_config: quinn::ClientConfig,
    pub(crate) server_config: quinn::ServerConfig,
}

fn descriptors() -> Arc<DescriptorTable> {
    let point = |id: PointId, name: &str| PointDescriptor {
        id,
        name: PointName::parse(name).unwrap(),
        value_type: ValueType::I64,
        unit: Unit::one(),
        dataset: DatasetId::parse(name).unwrap(),
        class: Class::General,
        tags: BTreeSet::new(),
    };
    Arc::new(
        DescriptorTable::new(vec![point(GRANTED, "granted"), point(DENIED, "denied")]).unwrap(),
    )
}

fn plan(descriptors: &DescriptorTable) -> Arc<Plan> {
    let (key, _) = LogKeyFile::generate("space-1").unwrap();
    let keys = TrustedKeys::new(vec![("space-1".to_owned(), key.public_key())]).unwrap();
    let keys = keys.accepting_single(true);
    let bare = br#"{"id":"C-1","version":1,"provider":"depot","consumer":"space-1",
        "purpose":"test","datasets":["granted"],"points":"all",
        "not_before":"2026-01-01T00:00:00Z","not_after":"2040-01-01T00:00:00Z",
        "allow":["forward"],"mask":[]}"#;
    let signed = sign(bare, "space-1", &key).unwrap();
    Arc::new(Plan::compile(&[Contract::parse(&signed, &keys).unwrap()], descriptors))
}

/// TLS of both ends under one authority.
fn link_configs() -> (quinn::ClientConfig, quinn::ServerConfig) {
    let now = box_host::T0;
    let time = Arc::new(TimeCell::new(now));
    let key = |name: &str| -> Arc<dyn Signer> { Arc::new(KeyFile::generate(name).unwrap().0) };
    let ca = SmallCa::create("sim", key("ca"), now, 365).unwrap();
    let roots = vec![ca.certificate().clone()];
    let space = key("space");
    let chain = ca.issue_server(&["space"], &space.public_key(), now, 90).unwrap();
    let chain = read_certificates(&chain).unwrap();
    let alpn = guan_link::ALPN;
    let server = server_config(chain, space, roots.clone(), alpn, time.clone()).unwrap();
    let (id, own) = (BoxId::parse("box-1").unwrap(), key("box-1"));
    let request = certificate_request(own.clone(), &id).unwrap();
    let chain = ca.issue_box(&request, &id, Tier::Unattested, now, 90).unwrap();
    let chain = read_certificates(&chain).unwrap();
    let client = client_config(chain, own, roots, alpn, time).unwrap();
    let tuning = LinkTuning {
        keep_alive: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(6),
        ..LinkTuning::default()
    };
    (tuning.client(client).unwrap(), tuning.server(server).unwrap())
}

impl Shared {
    pub(crate) fn new(seed: u64, breakage: Breakage, medium: Medium, habit: Habit) -> Arc<Self> {
        let descriptors = descriptors();
        let (client_config, server_config) = link_configs();
        let this = Self {
            seed,
            breakage,
            medium,
            habit,
            ledger: Mutex::default(),
            boots: Mutex::new(0),
            clock_shift: Arc::default(),
            queued: Mutex::new(None),
            spool_disk: SimDisk::new(),
            log_disk: SimDisk::new(),
            space_disk: SimDisk::new(),
            log_key: Arc::new(LogKeyFile::generate("guan/box-1").unwrap().0),
            space_log_key: Arc::new(LogKeyFile::generate("guan-space/sim").unwrap().0),
            vault: Vault::in_memory(),
            plan: plan(&descriptors),
            descriptors,
            client_config,
            server_config,
        };
        if breakage == Breakage::NoDirectorySync {
            this.spool_disk.ignore_directory_sync(true);
            this.log_disk.ignore_directory_sync(true);
        }
        Arc::new(this)
    }
}

/// Runs a seed to its end.
pub(crate) fn run(seed: u64, breakage: Breakage) -> Result<Outcome, Fault> {
    let shared = Shared::new(seed, breakage, Medium::Turmoil, BUSY);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(END + Duration::from_secs(60))
        .tick_duration(Duration::from_millis(2))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(40))
        .udp_capacity(4096)
        .build();
    let hosted = shared.clone();
    sim.host("space", move || space_host::boot(hosted.clone()));
    let hosted = shared.clone();
    sim.host("box", move || box_host::boot(hosted.clone()));
    let mut faults = Faults::new(seed);
    loop {
        let elapsed = sim.elapsed();
        faults.step(&mut sim, &shared, elapsed);
        sim.step().map_err(|fault| Fault(format!("a host failed: {fault}")))?;
        if let Some(violation) = shared.ledger.lock().unwrap().violation.take() {
            return Err(Fault(violation));
        }
        let is_done = shared.ledger.lock().unwrap().is_done;
        if is_done && *shared.queued.lock().unwrap() == Some(0) && elapsed > faults.calm_at {
            break;
        }
        if elapsed > END {
            let queued = *shared.queued.lock().unwrap();
            let open = shared.ledger.lock().unwrap().open.len();
            return Err(Fault(format!(
                "does not drain: {queued:?} batches queued, {open} messages open"
            )));
        }
    }
    // The last head is signed when the queue is empty.
    for _ in 0..2000 {
        sim.step().map_err(|fault| Fault(format!("a host failed: {fault}")))?;
    }
    drop(sim);
    let key = VerifierKey::of(shared.log_key.as_ref()).unwrap();
    checks::check(&shared, &key, edit(breakage))
}

/// How the log is spoiled before it is checked: which leaf, and what is left of it.
fn edit(breakage: Breakage) -> checks::Edit {
    fn nothing(_: usize, _: usize, leaf: Vec<u8>) -> Option<Vec<u8>> {
        Some(leaf)
    }
    fn flip(index: usize, count: usize, mut leaf: Vec<u8>) -> Option<Vec<u8>> {
        if index == count / 2 {
            let last = leaf.len() - 1;
            leaf[last] ^= 1;
        }
        Some(leaf)
    }
    fn drop_decision(_: usize, _: usize, leaf: Vec<u8>) -> Option<Vec<u8>> {
        let decoded = guan_evidence::Leaf::decode(&leaf).unwrap();
        (!matches!(decoded.body, LeafBody::Decision(_))).then_some(leaf)
    }
    match breakage {
        Breakage::EditedLeaf => flip,
        Breakage::NoDecision => drop_decision,
        _ => nothing,
    }
}

/// Faults, one after the other, until the workload ends; then everything is healed.
struct Faults {
    dice: Dice,
    next: Duration,
    /// Hosts that are down, and when they come back.
    down: Vec<(&'static str, Duration)>,
    partition_until: Option<Duration>,
    full_until: Option<Duration>,
    calm_at: Duration,
}

impl Faults {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed ^ 0xFA17),
            next: Duration::from_millis(500),
            down: Vec::new(),
            partition_until: None,
            full_until: None,
            calm_at: WORKLOAD + Duration::from_millis(DOWN_MAX_MS + 1000),
        }
    }

    fn step(&mut self, sim: &mut turmoil::Sim<'_>, shared: &Shared, now: Duration) {
        self.heal(sim, shared, now);
        if now < self.next || now > WORKLOAD {
            return;
        }
        self.next = now + Duration::from_millis(200 + self.dice.below(FAULT_PAUSE_MS));
        let until = now + Duration::from_millis(self.dice.below(DOWN_MAX_MS));
        match self.dice.below(7) {
            0 | 1 => self.crash(sim, shared, "box", until),
            2 => self.crash(sim, shared, "space", until),
            3 | 4 if self.partition_until.is_none() => {
                match self.dice.below(3) {
                    0 => sim.partition_oneway("box", "space"),
                    1 => sim.partition_oneway("space", "box"),
                    _ => sim.partition("box", "space"),
                }
                self.partition_until = Some(until);
            }
            5 if self.full_until.is_none() => {
                shared.spool_disk.set_capacity(Some(0));
                self.full_until = Some(until);
            }
            6 => {
                let shifts = [0, -box_host::T0.0, 400_000_000_000_000_000, 3_600_000_000_000];
                let index = usize::try_from(self.dice.below(4)).unwrap();
                *shared.clock_shift.lock().unwrap() = shifts[index];
            }
            _ => {}
        }
    }

    /// A power cut: the host is gone, and of its disk what was not flushed, as the seed says.
    fn crash(
        &mut self,
        sim: &mut turmoil::Sim<'_>,
        shared: &Shared,
        host: &'static str,
        until: Duration,
    ) {
        if self.down.iter().any(|(name, _)| *name == host) {
            return;
        }
        sim.crash(host);
        let seed = self.dice.roll();
        match host {
            "box" => {
                shared.spool_disk.crash(seed);
                shared.log_disk.crash(seed ^ 1);
                *shared.queued.lock().unwrap() = None;
            }
            _ => shared.space_disk.crash(seed),
        }
        self.down.push((host, until));
    }

    fn heal(&mut self, sim: &mut turmoil::Sim<'_>, shared: &Shared, now: Duration) {
        // A box that boots on a full disk could not start, and a person would have to come.
        if self.full_until.is_some_and(|until| now >= until || !self.down.is_empty()) {
            shared.spool_disk.set_capacity(None);
            self.full_until = None;
        }
        if self.partition_until.is_some_and(|until| now >= until) {
            sim.repair("box", "space");
            self.partition_until = None;
        }
        while let Some(index) = self.down.iter().position(|(_, until)| now >= *until) {
            let (host, _) = self.down.remove(index);
            sim.bounce(host);
        }
        if now > WORKLOAD {
            *shared.clock_shift.lock().unwrap() = 0;
        }
    }
}
