//! The engine: the one writer that owns spool and evidence log. The whole product on three screens.
//!
//! Plain blocking code. `apply(now, event)` takes a closed set of events, `poll_effect` gives what must
//! follow, `poll_timeout` says when to come back. Invariants:
//! - A token is answered `Durable` only after the commit that holds its rows, decision and packet id.
//! - Every row that came in is in a batch with its evidence leaf, or counted in a decision leaf of
//!   the same commit, or its publication was refused with a reason.
//! - A commit that fails leaves no trace: spool, tree and sessions go back together.
//!
//! Never here: MQTT, QUIC, threads, system clocks.

mod commit;
mod endings;
mod mending;
mod notices;
mod outside;
mod overtaking;
mod pending;
mod surroundings;

use crate::leaving::{Door, Standing};
use crate::memory::Memory;
use crate::rows::Rows;
use crate::sides::Sides;
use crate::vault::{Vault, VaultFault};
use bytes::Bytes;
use guan_catalogue::Day;
use guan_catalogue::quality::Ledger;
use guan_evidence::{DataGap, GapReason, LeafBody, Program, Salvage, Statement};
use guan_log::{EvidenceLog, EvidenceLogError, LeavesDamaged, LogHead, SignedHead};
use guan_model::{
    BatchSeq, BootNumber, DatasetId, DescriptorTable, Digest, Now, Signer, SpoolId, StreamId,
};
use guan_policy::Plan;
use guan_spool::{Disk, GapRecord, Spool, SpoolError, SpoolStatus};
use pending::{Answer, Pending};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// Most publications that wait for one commit.
pub const PENDING_PUBLICATIONS_MAX: usize = 16_384;
/// Bytes of texts and other bytes from which on a commit does not wait for more.
pub const PENDING_VALUE_BYTES_MAX: usize = 4 << 20;
/// Bytes of texts and other bytes that close a batch: also what does not compress stays far below what
/// spool and link take in one piece.
pub const BATCH_VALUE_BYTES_MAX: usize = 1 << 20;
/// How often limits in age and the checkpoint's interval are looked at.
const TICK: Duration = Duration::from_secs(1);
/// A wall clock that leaves the monotonic clock by more than this is recorded as a step.
const CLOCK_STEP_MIN: Duration = Duration::from_secs(2);
/// How often the quality figures are handed out to be kept.
const QUALITY_INTERVAL: Duration = Duration::from_secs(60);

/// What becomes of messages while the disk has no room for a head of the log or a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLogFull {
    /// They are refused: nothing is taken that the log cannot vouch for.
    StopCollecting,
    /// They are taken as long as the journal has room for their leaves, which nobody signs meanwhile.
    Continue,
}

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub boot: BootNumber,
    /// Rows that close a batch.
    pub rows_max: usize,
    /// How long a publication may wait for others before its commit.
    pub commit_window: Duration,
    /// Which stream each dataset goes by.
    pub streams: BTreeMap<DatasetId, StreamId>,
    /// Batches that have waited for so long do not hold up later ones of their contract; `None`: they do.
    pub live_after: Option<Duration>,
    pub checkpoint_interval: Duration,
    pub checkpoint_leaves_max: u64,
    /// The log's bundles may take so many bytes; beyond, the oldest that the mirror has are dropped.
    pub log_bytes_max: u64,
    pub on_log_full: OnLogFull,
    pub surroundings: Surroundings,
}

use endings::HandOver;
pub use mending::{Inspected, RefillOutcome, RefillRefusal, Suspect};
use notices::{Notices, Occasion};
pub use surroundings::{Heard, Surroundings};

/// One message with its readings, waiting to be made durable.
#[derive(Debug)]
pub struct Publication<T> {
    /// The session and QoS 2 packet id that must be remembered together with the rows.
    pub held: Option<(Arc<str>, NonZeroU16)>,
    pub rows: Rows,
    pub token: T,
}

/// A key that waits for its turn. Shows nothing of itself.
#[derive(Clone)]
pub struct NextKey(pub Arc<dyn Signer>);

impl fmt::Debug for NextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NextKey({:?})", self.0.name())
    }
}

/// The leaf with which the log's key changed, and the log that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRolled {
    pub origin: String,
    pub leaf: Vec<u8>,
}

/// Everything that can happen to the engine.
#[derive(Debug)]
pub enum Event<T> {
    Publication(Publication<T>),
    /// A message for a dataset could not be read and was refused.
    Undecoded {
        dataset: DatasetId,
    },
    /// The client will not repeat this QoS 2 message.
    Release {
        client: Arc<str>,
        packet_id: NonZeroU16,
        token: T,
    },
    /// A client connects; `clean` forgets what its session held.
    SessionOpened {
        client: Arc<str>,
        clean: bool,
        token: T,
    },
    /// A session that must not outlive its connection has ended.
    SessionForgotten {
        client: Arc<str>,
    },
    /// The space has stored all batches of a stream up to here.
    Acknowledged {
        stream: StreamId,
        through: BatchSeq,
    },
    /// Other contracts are in force, or some are suspended or revoked.
    PlanChanged(Arc<Plan>, Standing),
    /// The space's word could not be read or kept: nothing leaves before it has said again what stands.
    Doubted,
    /// The space has said which contracts stand; the plan before is what it said.
    /// `session`: of the link, as its reader counts them.
    Confirmed {
        session: u64,
    },
    /// Something outside the log is worth leaves. Tickets grow.
    Notes {
        /// Commitment to who did it, if somebody did.
        actor: Option<Digest>,
        bodies: Vec<LeafBody>,
        ticket: u64,
    },
    /// From the next leaf on the log is signed with another key; the TPM's word about it.
    RollKey {
        signer: NextKey,
        /// Commitment to who asked for it, if somebody did.
        actor: Option<Digest>,
        quote: Option<Statement>,
    },
    /// The mirror has so many leaves of the log, durably.
    Mirrored {
        size: u64,
    },
    /// The witness has cosigned so many leaves: the head is shown once more, with a proof from there.
    WitnessAt {
        size: u64,
    },
    /// Bundles of the log that may be damaged, or may be here again. Tickets are those of `Notes`.
    Inspect {
        bundles: Vec<Suspect>,
        /// Wants to know the roots of bundles from here on.
        roots_from: Option<u64>,
        ticket: u64,
    },
    /// Leaves of a bundle as the space's mirror has them.
    Refill {
        number: u64,
        leaves: Vec<Bytes>,
        ticket: u64,
    },
    /// Batches of a stream can never leave on their terms.
    Forfeited {
        stream: StreamId,
        through: BatchSeq,
    },
    /// An operator gives up what waits in a stream, through here.
    GivenUp {
        stream: StreamId,
        through: BatchSeq,
        /// Commitment to who does, if that was said.
        actor: Option<Digest>,
    },
    Tick,
    /// Commit what waits, sign the log's head, record the stop.
    Stop,
}

/// Why a publication was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Full(String),
    #[error("the disk is full: free space in box.state_dir or lower spool.size_bytes_max")]
    DiskFull,
    #[error("{0}")]
    Sessions(String),
}

/// What must follow from an event.
#[derive(Debug)]
pub enum Effect<T> {
    Durable(T),
    Refused(T, Refusal),
    SessionReady {
        token: T,
        present: bool,
        held: Vec<NonZeroU16>,
    },
    /// Something that an operator must see.
    Alarm(String),
    /// What a contract wants told, and whom; the next one of the same kind takes its place.
    Notice {
        kind: String,
        text: String,
    },
    /// What waited may leave now.
    Look,
    /// The log has a new signed head.
    Checkpoint(SignedHead),
    /// What was seen of bundles, and what became of leaves that came. `Noted` follows when it is durable.
    Inspected(Inspected),
    BundleRefilled(RefillOutcome),
    /// The leaves of all tickets up to this one are durable.
    Noted(u64),
    /// The log has another key; comes before the first head that it signs. `None`: the disk is full, and the
    /// old one stays.
    KeyRolled(Option<KeyRolled>),
    /// Quality figures of days, as bytes to be kept.
    Quality(Vec<(Day, Vec<u8>)>),
    /// This moment is on disk, with everything answered before.
    Committed(Now),
}

/// Why the engine cannot go on; the process must stop, recovery re-proves the state.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the spool failed")]
    Spool(#[from] SpoolError),
    #[error("the evidence log failed")]
    Evidence(#[from] EvidenceLogError),
    #[error("the keys of contracts cannot be kept")]
    Vault(#[from] VaultFault),
}

/// Counters since the start, for status.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    pub commits: u64,
    pub publications: u64,
    pub rows_permitted: u64,
    pub rows_masked: u64,
    pub rows_refused: u64,
    pub batches: u64,
    pub publications_refused: u64,
    pub datasets: BTreeMap<DatasetId, DatasetCounters>,
}

/// Counters of one dataset since the start.
#[derive(Debug, Clone, Default)]
pub struct DatasetCounters {
    pub rows_in: u64,
    pub rows_permitted: u64,
    pub rows_refused: u64,
    pub batch_bytes: u64,
}

/// What the engine owns.
pub struct Parts<D: Disk> {
    pub spool: Spool<D>,
    pub evidence: EvidenceLog<D>,
    /// As the spool gave it back when it was opened.
    pub memory: Memory,
    pub vault: Vault,
    pub door: Door,
    /// Random numbers that nobody can foresee.
    pub entropy: Box<dyn FnMut() -> u64 + Send>,
}

/// A leaf that waits for a commit.
#[derive(Debug, Clone)]
struct Note {
    at: Now,
    actor: Option<Digest>,
    body: LeafBody,
}

/// The one writer. `T` is whatever the caller needs to answer a publication.
pub struct Engine<D: Disk, T> {
    config: EngineConfig,
    descriptors: Arc<DescriptorTable>,
    plan: Arc<Plan>,
    standing: Standing,
    /// A plan was given since the start.
    has_plan: bool,
    windows_due: bool,
    hand_over: Option<HandOver>,
    /// The newest plan, while there is no room for the keys of its contracts.
    waiting_plan: Option<(Arc<Plan>, Standing)>,
    notices: Notices,
    /// What the commit underway would tell.
    occasions: Vec<Occasion>,
    heard: Heard,
    staged_heard: Heard,
    spool: Spool<D>,
    evidence: EvidenceLog<D>,
    memory: Memory,
    sides: Sides,
    /// Streams that the commit underway writes.
    kept: BTreeSet<StreamId>,
    vault: Vault,
    /// Keys are not destroyed before this moment.
    destruction_waits: Option<Duration>,
    door: Door,
    entropy: Box<dyn FnMut() -> u64 + Send>,
    pending: Pending<T>,
    /// Leaves that stand for themselves; kept until a commit holds them.
    notes: Vec<Note>,
    /// The newest ticket among the notes.
    ticket: Option<u64>,
    /// So many leaves the mirror has.
    mirrored: u64,
    /// The disk had no room for a head or a bundle.
    is_log_full: bool,
    effects: VecDeque<Effect<T>>,
    counters: Counters,
    staged_counters: Counters,
    last_now: Now,
    /// Since boot.
    committed_at: Duration,
    next_tick: Duration,
    quality: Ledger,
    next_quality: Duration,
}

impl<D: Disk, T> Engine<D, T> {
    pub fn new(
        now: Now,
        config: EngineConfig,
        descriptors: Arc<DescriptorTable>,
        plan: Arc<Plan>,
        parts: Parts<D>,
    ) -> Self {
        let Parts { mut spool, evidence, memory, vault, door, entropy } = parts;
        // Else each start would carry the changes of all starts before it into its first segment.
        spool.set_session_snapshot(memory.snapshot());
        door.set_lanes(memory.lanes.iter().map(|(number, lane)| (number, lane.clone())));
        let heard = Heard::of(config.surroundings);
        let mut engine = Self {
            sides: Sides::new(config.live_after),
            kept: BTreeSet::new(),
            config,
            descriptors,
            plan,
            standing: Standing::default(),
            has_plan: false,
            windows_due: false,
            hand_over: None,
            waiting_plan: None,
            notices: Notices::default(),
            occasions: Vec::new(),
            staged_heard: heard.clone(),
            heard,
            spool,
            evidence,
            memory,
            vault,
            destruction_waits: None,
            door,
            entropy,
            pending: Pending::default(),
            notes: Vec::new(),
            ticket: None,
            mirrored: 0,
            is_log_full: false,
            effects: VecDeque::new(),
            counters: Counters::default(),
            staged_counters: Counters::default(),
            last_now: now,
            committed_at: now.monotonic,
            next_tick: now.monotonic,
            quality: Ledger::default(),
            next_quality: now.monotonic + QUALITY_INTERVAL,
        };
        engine.find_sides(&now);
        engine
    }

    /// Takes one event in. An error means that the process must stop.
    pub fn apply(&mut self, now: Now, event: Event<T>) -> Result<(), EngineError> {
        self.note_clock(now);
        // More of these may have come with it: they are told one by one, and time counts after the last.
        let has_company = matches!(
            event,
            Event::Publication(_) | Event::Release { .. } | Event::SessionOpened { .. }
        );
        match event {
            Event::Publication(publication) => self.handle_publication(now, publication),
            Event::Undecoded { dataset } => self.quality.refuse(now.wall, &dataset),
            Event::Release { client, packet_id, token } => {
                self.memory.sessions.release(&client, packet_id);
                self.pending.answer(now.monotonic, Answer::Durable(token));
            }
            Event::SessionOpened { client, clean, token } => {
                self.handle_session(now, client, clean, token);
            }
            Event::SessionForgotten { client } => self.memory.sessions.forget(&client),
            Event::Acknowledged { stream, through } => {
                self.spool.release(stream, through)?;
                self.handle_taken(&now, stream);
            }
            Event::PlanChanged(plan, standing) => {
                self.door.restrict(&standing);
                // What came before the change is decided under the plan that was in force then.
                self.commit(now)?;
                self.waiting_plan = None;
                self.change_plan(now, plan, standing)?;
            }
            Event::Doubted => self.door.handle_doubt(),
            Event::Confirmed { session } => {
                self.door.handle_confirmed(session, now.wall);
                self.handle_present(&now);
                self.effects.push_back(Effect::Look);
            }
            Event::Notes { actor, bodies, ticket } => {
                self.handle_notes(now, actor, bodies, ticket)?;
            }
            Event::Inspect { bundles, roots_from, ticket } => {
                self.handle_inspect(now, &bundles, roots_from, ticket)?;
            }
            Event::Refill { number, leaves, ticket } => {
                self.handle_refill(now, number, &leaves, ticket)?;
            }
            Event::RollKey { signer, actor, quote } => self.roll_key(now, signer, actor, quote)?,
            Event::Mirrored { size } => self.handle_mirrored(now, size)?,
            Event::WitnessAt { size } => {
                self.evidence.set_cosigned(size);
                let head = self.evidence.signed_head()?;
                self.effects.extend(head.map(Effect::Checkpoint));
            }
            Event::Forfeited { stream, through } => {
                self.commit(now)?;
                self.forfeit(now, stream, through)?;
            }
            Event::GivenUp { stream, through, actor } => {
                self.commit(now)?;
                self.give_up_for_operator(now, (stream, through), actor)?;
            }
            Event::Tick => self.handle_tick(now)?,
            Event::Stop => return self.stop(now),
        }
        let is_full = self.pending.is_full(self.config.rows_max);
        if is_full || (!has_company && self.is_commit_due(now)) {
            self.commit(now)?;
        }
        Ok(())
    }

    /// What must follow, in order; `None` when nothing is left.
    pub fn poll_effect(&mut self) -> Option<Effect<T>> {
        self.effects.pop_front()
    }

    /// When to call `apply(Tick)` at the latest, since boot.
    pub fn poll_timeout(&self) -> Duration {
        self.commit_due().map_or(self.next_tick, |commit| commit.min(self.next_tick))
    }
}

impl<D: Disk, T> Engine<D, T> {
    fn handle_publication(&mut self, now: Now, publication: Publication<T>) {
        self.counters.publications += 1;
        if self.is_log_full && self.config.on_log_full == OnLogFull::StopCollecting {
            return self.refuse_publication(publication, Refusal::DiskFull);
        }
        if let Some((client, id)) = &publication.held {
            match self.memory.sessions.hold(client, *id) {
                // A repetition: the rows are durable or wait already, only the answer is due again.
                Ok(false) => {
                    let answer = Answer::Durable(publication.token);
                    return self.pending.answer(now.monotonic, answer);
                }
                Ok(true) => {}
                Err(full) => {
                    return self.refuse(publication.token, Refusal::Sessions(full.to_string()));
                }
            }
        }
        self.pending.push(now.monotonic, publication);
    }

    fn handle_session(&mut self, now: Now, client: Arc<str>, clean: bool, token: T) {
        let sessions = &mut self.memory.sessions;
        let present = !clean && sessions.is_known(&client);
        if clean {
            sessions.forget(&client);
        }
        match sessions.open(&client) {
            Ok(()) => {
                self.pending.answer(now.monotonic, Answer::Session { client, present, token });
            }
            Err(full) => self.refuse(token, Refusal::Sessions(full.to_string())),
        }
    }
}

impl<D: Disk, T> Engine<D, T> {
    /// Records the start, what recovery found, and what the TPM says (`outside`). First call after `new`.
    pub fn start(
        &mut self,
        now: Now,
        program: &Program,
        spool: SpoolId,
        salvage: Salvage,
        outside: Vec<LeafBody>,
    ) -> Result<(), EngineError> {
        self.provide_keys(&self.plan)?;
        let begun = self.evidence.begun().cloned();
        if let Some(epoch) = &begun {
            self.note(now, LeafBody::EpochStart(epoch.clone()));
        }
        self.note(now, LeafBody::Start { program: program.clone(), spool });
        if salvage != Salvage::default() {
            self.note(now, LeafBody::Salvage(salvage));
        }
        for LeavesDamaged { from, through } in self.evidence.untold().collect::<Vec<_>>() {
            self.note_damage(now, from, through);
        }
        outside.into_iter().for_each(|body| self.note(now, body));
        if let Some(epoch) = begun {
            self.effects.push_back(Effect::Alarm(format!(
                "the evidence log lost entries: {} of {} signed ones are left; it goes on as {}; \
                 keep the disk for examination",
                epoch.size,
                epoch.signed,
                self.evidence.origin()
            )));
        }
        self.commit(now)
    }

    /// Records something that is in force from here on.
    pub fn note(&mut self, now: Now, body: LeafBody) {
        self.note_of(now, None, body);
    }

    /// The same, of what somebody did.
    fn note_of(&mut self, at: Now, actor: Option<Digest>, body: LeafBody) {
        self.notes.push(Note { at, actor, body });
    }

    /// A reader of what is committed, for the link.
    pub fn reader(&self) -> guan_spool::SpoolReader<D> {
        self.spool.reader()
    }

    /// From here on accepted readings are counted in it. Without, nothing is measured.
    pub fn set_quality(&mut self, ledger: Ledger) {
        self.quality = ledger;
    }

    pub fn quality(&self) -> &Ledger {
        &self.quality
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn spool_status(&self) -> SpoolStatus {
        self.spool.status()
    }

    pub fn log_head(&self) -> LogHead {
        self.evidence.head()
    }

    /// What may not leave now, and why, for people.
    pub fn waiting(&self) -> Vec<String> {
        let texts = self.door.waiting().into_iter().map(|(_, contract, held)| {
            contract.map_or(held.to_string(), |contract| format!("{contract}: {held}"))
        });
        texts.collect::<std::collections::BTreeSet<String>>().into_iter().collect()
    }

    pub fn sessions(&self) -> usize {
        self.memory.sessions.len()
    }

    /// When what waits is to be committed, since boot: one window after the last commit, so that the disk is not
    /// asked oftener, and who comes alone is answered at once.
    fn commit_due(&self) -> Option<Duration> {
        let next = self.committed_at + self.config.commit_window;
        self.pending.since().map(|since| since.max(next))
    }

    fn is_commit_due(&self, now: Now) -> bool {
        self.commit_due().is_some_and(|due| now.monotonic >= due)
    }

    fn handle_tick(&mut self, now: Now) -> Result<(), EngineError> {
        if now.monotonic < self.next_tick {
            return Ok(());
        }
        self.next_tick = now.monotonic + TICK;
        self.quality.watch(now.wall);
        if now.monotonic >= self.next_quality {
            self.next_quality = now.monotonic + QUALITY_INTERVAL;
            self.hand_out_quality();
        }
        let noted = self.notes.len();
        let gaps = self.spool.enforce(&now)?;
        gaps.iter().for_each(|gap| self.note_gap(now, None, gap));
        if !gaps.is_empty() && self.commit_with(now, noted)? {
            gaps.iter().for_each(|gap| self.tell_gap(gap));
        }
        if let Some((plan, standing)) = self.waiting_plan.take() {
            self.change_plan(now, plan, standing)?;
        }
        self.end_lanes(now)?;
        self.flush_windows(now)?;
        if self.door.is_waited_at() {
            self.effects.push_back(Effect::Look);
        }
        // Also makes releases, leaves and the enforcement durable when nothing else comes in.
        if self.spool.is_dirty() || !self.notes.is_empty() {
            self.commit(now)?;
        }
        self.checkpoint_if_due(now)
    }

    fn note_gap(&mut self, now: Now, actor: Option<Digest>, gap: &GapRecord) {
        self.note_of(now, actor, LeafBody::DataGap(data_gap(gap)));
    }

    /// Once the gap is durable. What a contract's end asks for is no loss.
    fn tell_gap(&mut self, gap: &GapRecord) {
        let gap = data_gap(gap);
        if gap.reason != GapReason::Shredded {
            self.effects.push_back(Effect::Alarm(format!(
                "stream {}: batches {} to {} ({} readings) were dropped: {}",
                gap.stream,
                gap.from,
                gap.through,
                gap.rows,
                gap.reason.name()
            )));
        }
    }

    fn checkpoint_if_due(&mut self, now: Now) -> Result<(), EngineError> {
        if self.is_log_full {
            return self.try_full_log(now);
        }
        let (interval, leaves) =
            (self.config.checkpoint_interval, self.config.checkpoint_leaves_max);
        if self.evidence.is_checkpoint_due(&now, interval, leaves) {
            self.sign_head(now)?;
        }
        Ok(())
    }

    fn stop(&mut self, now: Now) -> Result<(), EngineError> {
        self.commit(now)?;
        self.note(now, LeafBody::Stop);
        self.commit(now)?;
        self.sign_head(now)?;
        self.quality.watch(now.wall);
        self.hand_out_quality();
        Ok(())
    }

    fn hand_out_quality(&mut self) {
        let days = self.quality.take_changed();
        if !days.is_empty() {
            self.effects.push_back(Effect::Quality(days));
        }
    }

    /// Notes a wall clock that jumped against the monotonic one, so that a checker can re-date.
    fn note_clock(&mut self, now: Now) {
        let elapsed = now.monotonic.saturating_sub(self.last_now.monotonic);
        let expected = self.last_now.wall.saturating_add(elapsed);
        let jump = now.wall.since(expected).max(expected.since(now.wall));
        self.last_now = now;
        if jump >= CLOCK_STEP_MIN {
            self.note(now, LeafBody::ClockStep { from: expected, to: now.wall });
        }
    }
}

fn data_gap(gap: &GapRecord) -> DataGap {
    let reason = GapReason::from_code(gap.reason as u8);
    DataGap {
        stream: gap.stream,
        from: gap.from,
        through: gap.through,
        rows: gap.rows,
        reason: reason.expect("both enums number the same reasons"),
    }
}

#[cfg(test)]
mod tests;
