//! Writes files for a medium, and takes the space's receipts for them, when a command asks for it (`guan spool export`,
//! `guan spool acknowledge`).
//!
//! The command leaves a request and reads the answer, which is written anew while the work goes on. Invariants: the
//! log has durable entries about a file before the file is complete; an incomplete file is removed where it can be,
//! and counts for nothing anyway; a receipt releases what this box has, and nothing else.

use super::Board;
use super::request::{Request, RequestFault, commitment};
use super::scribe::Scribe;
use super::witnessing::receipts_in;
use crate::box_identity::{self, BoxKeyFault};
use crate::carrying::{Collected, ExportFault, SharedExporter, Wanted};
use crate::engine::Event;
use crate::ingest::Token;
use crate::leaving::Held;
use crate::system_clock::wall_time;
use crate::wiring;
use guan_carry::{CarryKey, CarryWriter, DocumentFault, End, Receipt};
use guan_configs::EdgeConfig;
use guan_evidence::{Carried, Leaf, LeafBody};
use guan_identity::tpm::Tpm;
use guan_link::driver::describe;
use guan_log::{EvidenceLog, LogReader, Piece};
use guan_model::{BatchSeq, BoxId, ContractId, Digest, Signer, SpoolId, StreamId, WallTime};
use guan_policy::TrustedKeys;
use guan_spool::{Disk, OsDisk};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// In `box.state_dir`: made by the command, removed when it was acted on.
pub const CARRY_REQUEST_FILE: &str = "spool-carry.request";
/// What became of it, for the command.
pub const CARRY_ANSWER_FILE: &str = "spool-carry.answer";
/// Largest request that is read: a receipt, and all streams.
const REQUEST_BYTES_MAX: u64 = 2 << 20;
const SCHEMA: u32 = 1;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the answer says how far the work is.
const TELL_INTERVAL: Duration = Duration::from_millis(500);
/// How long an answer stays before the next request is taken, whose answer takes its place: the command looks often.
const ANSWER_STAYS: Duration = Duration::from_secs(1);
/// How long the writer may take to release what a receipt names.
const RELEASE_WAIT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum CarryAsk {
    Export {
        /// Absolute; must not exist.
        out: PathBuf,
        /// The space's document.
        key: String,
        streams: BTreeSet<u16>,
        bytes_max: u64,
        /// Commitment to who asks, if somebody said so.
        actor: Option<String>,
    },
    /// The space's document.
    Acknowledge { receipt: String },
}

/// One request; the answer bears the same ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarryRequest {
    schema: u32,
    /// By the wall clock of the box, milliseconds since 1970.
    asked_ms: i64,
    ticket: String,
    ask: CarryAsk,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CarryAnswer {
    pub ticket: String,
    pub is_done: bool,
    pub bytes: u64,
    pub batches: u64,
    /// Why nothing came of it.
    pub fault: Option<String>,
    /// Whether the log may say who asked, though nothing came of it. A gateway that does not say knows of no such thing.
    #[serde(default = "unless_said")]
    pub may_be_recorded: bool,
    pub result: Option<Value>,
}

/// Why nothing came of a request.
#[derive(Debug, thiserror::Error)]
enum CarryingFault {
    #[error(transparent)]
    Document(#[from] DocumentFault),
    #[error("the document is of space {found}, the contracts of this box are of space {ours}")]
    OtherSpace { found: BoxId, ours: String },
    #[error(
        "the document is of {found}, and this box has no contract set that says which space is its own: bring one \
         first (`guan-space contract carry` at the space, `guan contract import` here)"
    )]
    NoSpace { found: BoxId },
    #[error("the receipt is for box {found}; this is {ours}")]
    OtherBox { found: BoxId, ours: BoxId },
    #[error(
        "the receipt is for another life of this box's spool ({found}, this is {ours}); nothing of it waits here"
    )]
    OtherSpool { found: SpoolId, ours: SpoolId },
    #[error(
        "the receipt says that the space has batch {through} of stream {stream}, and this box made {newest} only: its \
         spool was set back to an older copy; nothing is released"
    )]
    Beyond { stream: StreamId, through: BatchSeq, newest: BatchSeq },
    #[error("not all was released within {} s; see the alarms in `guan status`", RELEASE_WAIT.as_secs())]
    Release,
    #[error("{path} must be an absolute path")]
    Relative { path: PathBuf },
    #[error("{path} cannot be made, and is never overwritten: name a new file that guan may write")]
    Create { path: PathBuf, source: io::Error },
    #[error(
        "{path} cannot be written; is the medium full? Use a larger one, or say --bytes-max: {written} bytes fitted. \
         What was written is removed, and nothing left the spool"
    )]
    Full { path: PathBuf, written: u64, source: io::Error },
    #[error("{path} cannot be written; what was written counts for nothing")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Export(#[from] ExportFault),
    #[error("not even the first batch fits; raise --bytes-max")]
    TooSmall,
    #[error("nothing may leave on a medium now{held}")]
    Nothing { held: String },
    #[error(
        "stream {stream}, contract {contract}: {why}, since the file was begun; what was written is removed, and \
         nothing left the spool: export again"
    )]
    Changed { stream: StreamId, contract: String, why: Held },
    #[error("the box has no certificate of the space, which is how the space knows it: {detail}")]
    Certificate { detail: String },
    #[error(transparent)]
    Key(#[from] BoxKeyFault),
    #[error("guan stops, and the file has no end; export again")]
    Writer,
}

fn unless_said() -> bool {
    true
}

impl CarryRequest {
    pub fn new(asked: WallTime, ticket: &str, ask: CarryAsk) -> Self {
        Self { schema: SCHEMA, asked_ms: asked.millis(), ticket: ticket.to_owned(), ask }
    }
}

impl Request for CarryRequest {
    const FILE: &'static str = CARRY_REQUEST_FILE;
    const BYTES_MAX: u64 = REQUEST_BYTES_MAX;
    const SCHEMAS: RangeInclusive<u32> = SCHEMA..=SCHEMA;

    fn schema(&self) -> u32 {
        self.schema
    }

    fn asked_ms(&self) -> i64 {
        self.asked_ms
    }

    fn actor(&self) -> Result<Option<Digest>, RequestFault> {
        match &self.ask {
            CarryAsk::Export { actor, .. } => commitment(actor.as_deref()),
            CarryAsk::Acknowledge { .. } => Ok(None),
        }
    }
}

/// What it takes to write files and to take receipts.
pub(super) struct Carrying {
    pub(super) config: EdgeConfig,
    pub(super) keys: TrustedKeys,
    /// `None`: the box has none.
    pub(super) tpm: Option<Tpm>,
    pub(super) exporter: SharedExporter<OsDisk>,
    pub(super) log_disk: OsDisk,
    pub(super) board: Board,
    pub(super) scribe: Scribe,
    pub(super) events: mpsc::Sender<Event<Token>>,
}

/// Says stop to work on another thread when the task ends.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Carrying {
    pub(super) async fn run(self) {
        let state_dir = &self.config.state_dir;
        // What was left behind is of another life.
        for name in [CARRY_REQUEST_FILE, CARRY_ANSWER_FILE] {
            let _ = fs::remove_file(state_dir.join(name));
        }
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let request = match CarryRequest::take(state_dir, wall_time()) {
                Ok(None) => continue,
                Ok(Some(request)) => request,
                Err(fault) => {
                    self.board.alarm(format!("{CARRY_REQUEST_FILE} is not acted on: {fault}"));
                    continue;
                }
            };
            let mut answer = CarryAnswer { ticket: request.ticket, ..CarryAnswer::default() };
            tell(state_dir, &answer);
            let outcome = match request.ask {
                CarryAsk::Export { out, key, streams, bytes_max, actor } => {
                    let streams = streams.into_iter().map(StreamId).collect();
                    let actor = actor.as_deref().and_then(Digest::from_hex);
                    self.export(&out, (&key, streams, bytes_max), actor, &mut answer).await
                }
                CarryAsk::Acknowledge { receipt } => self.acknowledge(&receipt).await,
            };
            answer.is_done = true;
            match outcome {
                Ok(result) => answer.result = Some(result),
                Err(fault) => answer.fault = Some(describe(&fault)),
            }
            tell(state_dir, &answer);
            look.reset_after(ANSWER_STAYS);
        }
    }

    /// The space that a document names is the one whose set counts here.
    fn check_space(&self, found: &BoxId) -> Result<(), CarryingFault> {
        of_space(self.exporter().door.space(), found)
    }

    /// What went into the file may still leave.
    fn check_parts(&self, collected: &Collected) -> Result<(), CarryingFault> {
        let Some(held) = self.exporter().held_since(&collected.parts) else { return Ok(()) };
        let contract = held.contract.map_or_else(|| "-".to_owned(), |one| one.to_string());
        Err(CarryingFault::Changed { stream: held.stream, contract, why: held.why })
    }

    fn exporter(&self) -> std::sync::MutexGuard<'_, crate::carrying::Exporter<OsDisk>> {
        self.exporter.lock().expect("nobody panics while holding it")
    }

    async fn export(
        &self,
        out: &Path,
        (key, streams, bytes_max): (&str, BTreeSet<StreamId>, u64),
        actor: Option<Digest>,
        answer: &mut CarryAnswer,
    ) -> Result<Value, CarryingFault> {
        let key = CarryKey::parse(key.as_bytes(), &self.keys)?;
        self.check_space(&key.space)?;
        if !out.is_absolute() {
            return Err(CarryingFault::Relative { path: out.to_owned() });
        }
        let (certificate, signer) = self.identity()?;
        let key_id = key.id();
        let wanted = Wanted { streams, key, bytes_max };
        let opened = OpenOptions::new().write(true).create_new(true).open(out);
        let file =
            opened.map_err(|source| CarryingFault::Create { path: out.to_owned(), source })?;
        let mut made = Made { path: out.to_owned(), is_complete: false };
        let collected = self.collect(wanted, out, file, answer).await;
        let (writer, collected) = collected?;
        if collected.parts.is_empty() && collected.is_full {
            return Err(CarryingFault::TooSmall);
        }
        if collected.parts.is_empty() {
            return Err(CarryingFault::Nothing { held: held_text(&collected) });
        }
        self.check_parts(&collected)?;
        let digest = writer.digest();
        answer.may_be_recorded = true;
        if !self.scribe.note_of(actor, leaves(&collected, &digest, &key_id)).await {
            return Err(CarryingFault::Writer);
        }
        // Once more, as late as can be: with its end the file counts.
        self.check_parts(&collected)?;
        let path = out.to_owned();
        let finished = tokio::task::spawn_blocking(move || {
            finish(writer, &path, &certificate, signer.as_ref())
        });
        let (bytes, end) = finished.await.map_err(|_| CarryingFault::Writer)??;
        made.is_complete = true;
        answer.bytes = bytes;
        tracing::info!(file = %out.display(), digest = %end.digest, batches = end.counts.batches,
            "batches are on a medium");
        Ok(result(&collected, &end, &key_id, bytes))
    }

    /// All but the end, off the runtime: a stick is slow.
    async fn collect(
        &self,
        wanted: Wanted,
        out: &Path,
        file: File,
        answer: &CarryAnswer,
    ) -> Result<(CarryWriter<BufWriter<File>>, Collected), CarryingFault> {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = Cancel(is_cancelled.clone());
        let (exporter, path) = (self.exporter.clone(), out.to_owned());
        let (state_dir, mut answer) = (self.config.state_dir.clone(), answer.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut exporter = exporter.lock().expect("nobody panics while holding it");
            let mut told = Instant::now();
            let mut written = 0;
            let collected = exporter.collect(&wanted, BufWriter::new(file), &mut |writer| {
                written = writer.bytes();
                if told.elapsed() >= TELL_INTERVAL {
                    told = Instant::now();
                    (answer.bytes, answer.batches) = (written, writer.counts().batches);
                    tell(&state_dir, &answer);
                }
                !is_cancelled.load(Ordering::Relaxed)
            });
            collected.map_err(|fault| at_path(fault, path, written))
        });
        work.await.map_err(|_| CarryingFault::Writer)?
    }

    /// How the space knows this box: its certificate, and the key that goes with it.
    fn identity(&self) -> Result<(Vec<u8>, Arc<dyn Signer>), CarryingFault> {
        let refused =
            |fault: &dyn std::error::Error| CarryingFault::Certificate { detail: describe(fault) };
        let pem = wiring::read_text(&self.config.identity.certificate_file);
        let pem = pem.map_err(|fault| refused(&fault))?;
        let chain = guan_identity::read_certificates(&pem).map_err(|fault| refused(&fault))?;
        let leaf = chain.first().expect("a file without certificates is refused");
        let signer = tokio::task::block_in_place(|| {
            box_identity::signer(&self.config, self.tpm.as_ref(), leaf)
        })?;
        Ok((leaf.to_vec(), signer))
    }

    async fn acknowledge(&self, receipt: &str) -> Result<Value, CarryingFault> {
        let receipt = Receipt::parse(receipt.as_bytes(), &self.keys)?;
        self.check_space(&receipt.space)?;
        let news = self.check(&receipt)?;
        // Before anything is released: what was released without them would never be told of again.
        self.note_receipts(&receipt.received).await?;
        for (stream, through) in &news {
            let event = Event::Acknowledged { stream: *stream, through: *through };
            self.events.send(event).await.map_err(|_| CarryingFault::Writer)?;
        }
        let deadline = Instant::now() + RELEASE_WAIT;
        let is_released = || {
            let exporter = self.exporter();
            news.iter().all(|(stream, through)| exporter.reader.acknowledged(*stream) >= *through)
        };
        while !is_released() {
            if Instant::now() > deadline {
                return Err(CarryingFault::Release);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let streams =
            news.iter().map(|(stream, through)| json!({"stream": stream.0, "through": through.0}));
        Ok(json!({
            "file": receipt.file.to_string(), "space": receipt.space.as_str(),
            "released": streams.collect::<Vec<_>>(),
        }))
    }

    /// What the space's log says goes into this one, as over the link; each word once, as a receipt may say what an
    /// earlier one said, and be taken twice.
    async fn note_receipts(&self, received: &[u8]) -> Result<(), CarryingFault> {
        let (bodies, is_whole) = receipts_in(received);
        if !is_whole {
            self.board.alarm("what the space's log says in a receipt cannot be read".to_owned());
        }
        let bodies = tokio::task::block_in_place(|| self.unknown(bodies));
        match bodies.is_empty() || self.scribe.note_all(bodies).await {
            true => Ok(()),
            false => Err(CarryingFault::Writer),
        }
    }

    /// Those that are not in the log yet, as far as it can be read here: once too often is better than never.
    fn unknown(&self, bodies: Vec<LeafBody>) -> Vec<LeafBody> {
        if bodies.is_empty() {
            return bodies;
        }
        let read = || -> Result<LogReader<OsDisk>, Box<dyn std::error::Error>> {
            let first = EvidenceLog::tail_from(self.log_disk.clone())?;
            let tail = self.exporter().reader.leaves_from(first)?;
            Ok(LogReader::open(self.log_disk.clone(), None, tail)?)
        };
        match read() {
            Ok(log) => unknown(bodies, &log),
            Err(fault) => {
                tracing::warn!(%fault, "whether the log has a receipt's words already is not known");
                bodies
            }
        }
    }

    /// What the receipt releases that was not released yet. All of it is checked before anything is.
    fn check(&self, receipt: &Receipt) -> Result<Vec<(StreamId, BatchSeq)>, CarryingFault> {
        let exporter = self.exporter();
        if receipt.box_id != exporter.box_id {
            let (found, ours) = (receipt.box_id.clone(), exporter.box_id.clone());
            return Err(CarryingFault::OtherBox { found, ours });
        }
        if receipt.spool != exporter.spool {
            let (found, ours) = (receipt.spool, exporter.spool);
            return Err(CarryingFault::OtherSpool { found, ours });
        }
        for (stream, through) in &receipt.streams {
            let newest = exporter.reader.newest(*stream);
            if *through > newest {
                let (stream, through) = (*stream, *through);
                return Err(CarryingFault::Beyond { stream, through, newest });
            }
        }
        let is_news = |one: &&(StreamId, BatchSeq)| one.1 > exporter.reader.acknowledged(one.0);
        Ok(receipt.streams.iter().filter(is_news).copied().collect())
    }
}

/// Of words of the space those that the log does not have.
fn unknown<D: Disk>(mut bodies: Vec<LeafBody>, log: &LogReader<D>) -> Vec<LeafBody> {
    let read = log.for_each_piece(&mut |piece| {
        if let Piece::Leaf(_, bytes) = piece
            && let Ok(leaf) = Leaf::decode(bytes)
        {
            bodies.retain(|body| *body != leaf.body);
        }
    });
    if let Err(fault) = read {
        tracing::warn!(%fault, "not all of the log can be read");
    }
    bodies
}

/// Every party of a contract signs with a key that is trusted here, so that a signature alone makes nobody the space.
fn of_space(ours: Option<String>, found: &BoxId) -> Result<(), CarryingFault> {
    match ours {
        Some(ours) if ours == found.as_str() => Ok(()),
        Some(ours) => Err(CarryingFault::OtherSpace { found: found.clone(), ours }),
        None => Err(CarryingFault::NoSpace { found: found.clone() }),
    }
}

/// A file that is removed unless it was completed.
struct Made {
    path: PathBuf,
    is_complete: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.is_complete {
            // Without its end it counts for nothing, wherever it stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Signs, and makes file and folder durable.
fn finish(
    writer: CarryWriter<BufWriter<File>>,
    path: &Path,
    certificate: &[u8],
    signer: &dyn Signer,
) -> Result<(u64, End), CarryingFault> {
    let written = writer.bytes();
    let finished = writer.finish(certificate, signer).map_err(ExportFault::from);
    let (out, end) = finished.map_err(|fault| at_path(fault, path.to_owned(), written))?;
    let failed = |source| failed(path.to_owned(), written, source);
    let file = out.into_inner().map_err(|fault| failed(fault.into_error()))?;
    file.sync_all().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok((bytes, end))
}

fn at_path(fault: ExportFault, path: PathBuf, written: u64) -> CarryingFault {
    match fault {
        ExportFault::File(guan_carry::CarryFault::File(source)) => failed(path, written, source),
        other => other.into(),
    }
}

fn failed(path: PathBuf, written: u64, source: io::Error) -> CarryingFault {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            CarryingFault::Full { path, written, source }
        }
        _ => CarryingFault::Write { path, source },
    }
}

fn leaves(collected: &Collected, file: &Digest, key: &Digest) -> Vec<LeafBody> {
    let leaf = |part: &crate::carrying::Part| {
        LeafBody::Carried(Carried {
            stream: part.stream,
            from: part.from,
            through: part.through,
            batches: part.batches,
            rows: part.rows,
            file: *file,
            key: *key,
        })
    };
    collected.parts.iter().map(leaf).collect()
}

fn held_text(collected: &Collected) -> String {
    let held = collected.withheld.iter().map(|one| {
        let contract = one.contract.as_ref().map_or("-", ContractId::as_str);
        let remedy = one.remedy().map_or(String::new(), |remedy| format!("; {remedy}"));
        format!("\n  stream {}, contract {contract}: {}{remedy}", one.stream, one.why)
    });
    let held: String = held.collect();
    if held.is_empty() { ": nothing of what is asked for waits".to_owned() } else { held }
}

fn result(collected: &Collected, end: &End, key: &Digest, bytes: u64) -> Value {
    let name = |contract: &Option<ContractId>| contract.as_ref().map(ToString::to_string);
    let parts = collected.parts.iter().map(|part| {
        json!({
            "stream": part.stream.0, "contract": name(&part.contract), "from": part.from.0,
            "through": part.through.0, "batches": part.batches, "gaps": part.gaps,
            "rows": part.rows,
        })
    });
    let held = collected.withheld.iter().map(|one| {
        json!({
            "stream": one.stream.0, "contract": name(&one.contract), "from": one.seq.0,
            "reason": one.why.to_string(), "remedy": one.remedy(),
        })
    });
    json!({
        "file": end.digest.to_string(), "key": key.to_string(), "bytes": bytes,
        "batches": end.counts.batches, "gaps": end.counts.gaps, "rows": end.counts.rows,
        "streams": parts.collect::<Vec<_>>(), "held": held.collect::<Vec<_>>(),
        "is_full": collected.is_full,
    })
}

/// Never read half written; worth nothing after a power cut.
fn tell(state_dir: &Path, answer: &CarryAnswer) {
    let path = state_dir.join(CARRY_ANSWER_FILE);
    let part = path.with_extension("part");
    let text = serde_json::to_vec(answer).expect("a struct of plain fields is JSON");
    let told = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
    if let Err(fault) = told {
        tracing::warn!(%fault, "the answer to a command cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_evidence::Forwarded;
    use guan_identity::LogKeyFile;
    use guan_log::{Epoch, JournalPlace};
    use guan_model::{BootNumber, ClockQuality, Now};
    use guan_spool::disk::SimDisk;

    /// A party of a contract has a trusted key, too, and may not say that it is the space.
    #[test]
    fn only_the_space_of_the_set_is_the_space() {
        let (space, party) = (BoxId::parse("space-1").unwrap(), BoxId::parse("plant-1").unwrap());
        of_space(Some("space-1".to_owned()), &space).unwrap();
        let other = of_space(Some("space-1".to_owned()), &party);
        assert!(matches!(other, Err(CarryingFault::OtherSpace { .. })));
        assert!(matches!(of_space(None, &space), Err(CarryingFault::NoSpace { .. })));
    }

    #[test]
    fn a_contract_party_does_not_pass_for_the_space() {
        let parties = ["space-1", "insurer-1"].map(|name| {
            let party = BoxId::parse(name).unwrap();
            (party, LogKeyFile::generate(name).unwrap().0)
        });
        let known = parties.iter().map(|(party, key)| (party.to_string(), key.public_key()));
        let keys = TrustedKeys::new(known.collect()).unwrap();
        let issued = WallTime::from_seconds(1_800_000_000);
        let [space, insurer] = parties.map(|(party, signer)| {
            let key = CarryKey { space: party.clone(), public: [9; 32], issued };
            let receipt = Receipt {
                space: party,
                box_id: BoxId::parse("box-1").unwrap(),
                spool: SpoolId([7; 16]),
                file: Digest([8; 32]),
                streams: vec![(StreamId(1), BatchSeq(9))],
                issued,
                received: Vec::new(),
            };
            // Both are signed as they should be.
            let key = CarryKey::parse(&key.sign(&signer).unwrap(), &keys).unwrap();
            let receipt = Receipt::parse(&receipt.sign(&signer).unwrap(), &keys).unwrap();
            [key.space, receipt.space]
        });
        let ours = || Some("space-1".to_owned());
        assert!(space.iter().all(|space| of_space(ours(), space).is_ok()));
        let refused = |ours: Option<String>, found: &BoxId, expect: &str| {
            let text = of_space(ours, found).unwrap_err().to_string();
            assert!(text.contains(expect), "{text}");
        };
        for found in &insurer {
            refused(ours(), found, "are of space space-1");
        }
        for found in space.iter().chain(&insurer) {
            refused(None, found, "guan contract import");
        }
    }

    /// A receipt is taken twice, or says again what a lost one said.
    #[test]
    fn words_that_the_log_has_are_not_written_again() {
        let wall = WallTime::from_seconds(1_800_000_000);
        let now = Now { wall, monotonic: Duration::ZERO, quality: ClockQuality::Ntp };
        let word = |from| {
            LeafBody::Forwarded(Forwarded {
                stream: StreamId(10),
                from: BatchSeq(from),
                through: BatchSeq(from + 2),
                log: "guan-space/s".to_owned(),
                first: 7,
                last: 9,
                root: Digest([1; 32]),
            })
        };
        let leaf = |(index, body)| {
            let leaf = Leaf::new(&now, index, BootNumber(1), body).encode();
            (JournalPlace::new(Epoch::FIRST, index).number(), leaf.into())
        };
        let journal = [(0, word(1)), (1, word(7))].map(leaf).to_vec();
        let log = LogReader::open(SimDisk::new(), None, journal).unwrap();
        assert_eq!(unknown(vec![word(1), word(4), word(7)], &log), [word(4)]);
    }

    #[test]
    fn requests_are_read_or_refused_with_a_reason() {
        let now = WallTime::from_seconds(1_800_000_000);
        let ask = CarryAsk::Acknowledge { receipt: "{}".to_owned() };
        let request = CarryRequest::new(now, "7", ask);
        let text = serde_json::to_vec(&request).unwrap();
        let later = |seconds: i64| WallTime::from_seconds(1_800_000_000 + seconds);
        for seconds in [-60, 0, 60] {
            assert_eq!(CarryRequest::parse(&text, later(seconds)).unwrap(), request);
        }
        let check = |text: &[u8], now, expect: &str| {
            let said = CarryRequest::parse(text, now).unwrap_err().to_string();
            assert!(said.contains(expect), "{said}");
        };
        check(&text, later(-61), "60 s ago");
        check(&text, later(61), "60 s ago");
        check(b"", now, "schema 1");
        let other =
            String::from_utf8(text.clone()).unwrap().replace("\"schema\":1", "\"schema\":2");
        check(other.as_bytes(), now, "schema 2");
        let limit = usize::try_from(REQUEST_BYTES_MAX).unwrap();
        let padded = |length: usize| [&text[..], &vec![b' '; length - text.len()]].concat();
        assert_eq!(CarryRequest::parse(&padded(limit), now).unwrap(), request);
        check(&padded(limit + 1), now, "more than 2097152 bytes");
    }
}
