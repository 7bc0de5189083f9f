//! Opens what is on disk: spool, log, sessions, tables, metadata. Recovery happens here.

use super::Board;
use super::mending::LogFiles;
use super::mirroring::Mirroring;
use super::vouching::Vouching;
use super::witnessing::COSIGNED_FILE;
use crate::anchoring::ledger::Suspicion;
use crate::anchoring::{self, Found, LogWords};
use crate::carrying::{Exporter, SharedExporter};
use crate::engine::{Engine, EngineError, Parts};
use crate::ingest::Token;
use crate::leaving::Door;
use crate::ledger::LinkLedger;
use crate::log_keys::{self, LogKeys, LogKeysFault};
use crate::memory::{Memory, MemoryFault};
use crate::metadata::{Metadata, MetadataError};
use crate::own_space::OwnSpace;
use crate::sealing::{self, SealFault, StoreKey};
use crate::set_counter::{SetCounter, TpmCounter};
use crate::standing::{Book, StandingFault};
use crate::system_clock::{SharedClock, SystemClock};
use crate::tables::{self, TablesError};
use crate::uplink::{Doorway, SpoolSource};
use crate::vault::{TpmRoot, Vault, VaultFault};
use crate::wiring;
use bytes::Bytes;
use guan_catalogue::quality::Ledger;
use guan_configs::{EdgeConfig, Tier};
use guan_evidence::{Program, Salvage};
use guan_identity::tpm::Tpm;
use guan_log::{Epoch, EvidenceLog, EvidenceLogError, Known, LogReader};
use guan_model::{BootNumber, DescriptorTable, Now, SpoolId, StreamId, WallTime};
use guan_policy::constraint::ReleaseVersion;
use guan_policy::situation::LinkClass;
use guan_policy::{Plan, TrustedKeys};
use guan_spool::{OsDisk, Recovered, Spool, SpoolError};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Folders in `box.state_dir`.
pub const SPOOL_DIR: &str = "spool";
pub const LOG_DIR: &str = "log";
pub const TABLES_DIR: &str = "descriptors";
pub const KEYS_DIR: &str = "keys";

/// The engine on a real disk.
pub(super) type BoxEngine = Engine<OsDisk, Token>;

/// Why the state on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    #[error("{path} cannot be opened: check rights and disk, and that no other guan runs on it")]
    Open { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Log(#[from] EvidenceLogError),
    #[error(transparent)]
    LogKeys(#[from] LogKeysFault),
    #[error(transparent)]
    Memory(#[from] MemoryFault),
    #[error(transparent)]
    Vault(#[from] VaultFault),
    #[error(transparent)]
    Standing(#[from] StandingFault),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Tables(#[from] TablesError),
    #[error("the key of the log cannot be used; `guan join` (or `guan identity init`) makes one")]
    LogKey(#[from] SealFault),
    #[error(transparent)]
    Catalogue(#[from] crate::catalogue::CatalogueFault),
    #[error("the system gives no random numbers")]
    Random,
    #[error("the first entry of the log cannot be written")]
    Start(#[source] EngineError),
}

/// What is open.
pub(super) struct Opened {
    pub engine: BoxEngine,
    pub spool_id: SpoolId,
    pub streams: BTreeSet<StreamId>,
    pub tables: Vec<Bytes>,
    pub clock: SharedClock,
    pub boot: BootNumber,
    pub book: Book,
    pub door: Door,
    pub vault: Vault,
    pub keys: LogKeys,
    pub log_disk: OsDisk,
    pub epoch: Epoch,
    pub found: Option<Found>,
    /// The log's signed head could not be read.
    pub is_head_damaged: bool,
    /// Bundles of the log that this start found damaged.
    pub damaged: Vec<u64>,
    /// Of the metadata, and where it lies now.
    pub set_aside: Vec<PathBuf>,
    pub locks: Locks,
    pub ledger: LinkLedger,
}

impl Opened {
    /// What vouches for the log; taken out once.
    pub(super) fn vouching(
        &mut self,
        config: &EdgeConfig,
        tpm: Option<Tpm>,
        parties: TrustedKeys,
    ) -> Vouching {
        let log = self.epoch.origin(&config.evidence.origin);
        let (disk, journal) = (self.log_disk.clone(), self.engine.reader());
        let mirroring = Mirroring::new(disk, journal, self.epoch, log.clone());
        let files = LogFiles {
            disk: self.log_disk.clone(),
            epoch: self.epoch,
            base: config.evidence.origin.clone(),
            damaged: std::mem::take(&mut self.damaged),
        };
        let (anchors, mut suspicions) = match self.found.take() {
            Some(found) => (Some(found.anchors), found.suspicions),
            None => (None, Vec::new()),
        };
        suspicions.extend(self.is_head_damaged.then_some(Suspicion::Head));
        let exporter = self.exporter(config);
        Vouching { log, tpm, anchors, suspicions, mirroring, files, parties, exporter }
    }

    /// Shows everybody the log's keys, and tells what had to be set aside.
    pub(super) fn show(&self, board: &Board) {
        board.keys.send_replace(Some(self.keys.clone()));
        for path in &self.set_aside {
            board.alarm(format!(
                "damaged metadata was set aside as {} and made anew; look for other damage of this disk",
                path.display()
            ));
        }
    }

    /// What the link must know of this start.
    pub(super) fn ours(&self) -> (BootNumber, Door) {
        (self.boot, self.door.clone())
    }

    /// What the link reads.
    pub(super) fn source(&self, board: &Board) -> SpoolSource<OsDisk> {
        let (streams, tables) = (self.streams.clone(), self.tables.clone());
        let clock = self.clock.clone();
        let doorway = Doorway {
            door: self.door.clone(),
            vault: self.vault.clone(),
            clock: Box::new(move || clock.read()),
            forfeits: board.forfeits.clone(),
            ledger: self.ledger.clone(),
        };
        SpoolSource::new(self.engine.reader(), self.spool_id, streams, tables, doorway)
    }
}

impl Opened {
    /// What reads the spool for files on a medium.
    fn exporter(&self, config: &EdgeConfig) -> SharedExporter<OsDisk> {
        let clock = self.clock.clone();
        Arc::new(Mutex::new(Exporter {
            reader: self.engine.reader(),
            box_id: config.box_id.clone(),
            spool: self.spool_id,
            tables: self.tables.clone(),
            door: self.door.clone(),
            vault: self.vault.clone(),
            clock: Box::new(move || clock.read()),
        }))
    }
}

/// Held as long as the program runs, so that a second one is turned away.
pub(super) struct Locks {
    _tables: OsDisk,
}

fn disk(path: &Path) -> Result<OsDisk, StateFault> {
    let opened = OsDisk::open_exclusive(path);
    opened.map_err(|source| StateFault::Open { path: path.to_path_buf(), source })
}

/// The metadata, being opened on a thread of its own.
struct Opening(std::thread::JoinHandle<Result<Metadata, MetadataError>>);

impl Opening {
    fn start(dir: &Path) -> Self {
        let dir = dir.to_path_buf();
        Self(std::thread::spawn(move || Metadata::open(&dir)))
    }

    fn join(self) -> Result<Metadata, MetadataError> {
        match self.0.join() {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Whether no batch waits.
fn is_empty(spool: &Spool<OsDisk>) -> bool {
    spool.status().streams.iter().all(|stream| stream.queued_batches == 0)
}

/// Opens everything and records the start.
pub(super) fn open(
    config: &EdgeConfig,
    parties: &TrustedKeys,
    tpm: Option<&Tpm>,
) -> Result<Opened, StateFault> {
    let dir = &config.state_dir;
    // sled flushes several times when it opens; the spool is read meanwhile.
    let metadata = Opening::start(dir);
    let (key, sealed) = sealing::open_store(config, tpm)?;
    let (spool, recovered, streams) = open_spool(config)?;
    let earliest = recovered.last_wall.max(issued_at(&config.identity.certificate_file));
    let clock = SharedClock::new(SystemClock::new(earliest));
    let log_disk = disk(&dir.join(LOG_DIR))?;
    let tail = spool.reader().leaves_from(EvidenceLog::tail_from(log_disk.clone())?)?;
    let keys = log_keys::open(config, key, sealed.as_ref().map(|(_, key)| key), || {
        LogReader::open(log_disk.clone(), None, tail.clone())
    })?;
    let (base, signer) = (&config.evidence.origin, keys.signer.clone());
    let spare = std::fs::read_to_string(dir.join(COSIGNED_FILE)).ok();
    let known = Known { lineage: &keys.lineage, spare_head: spare.as_deref() };
    let log = EvidenceLog::open_after(log_disk.clone(), base, signer, known, tail)?;
    let (epoch, is_head_damaged) = (log.epoch(), log.is_head_damaged());
    let damaged = log.damaged_bundles();
    let mut found = remembered(config, tpm, &log);
    let memory = Memory::recover(&recovered.session_snapshot, &recovered.session_deltas)?;
    let metadata = metadata.join()?;
    let boot = metadata.count_boot(log.last_boot())?;
    let tables_disk = disk(&dir.join(TABLES_DIR))?;
    let tables = tables::keep(&tables_disk, &config.descriptors, is_empty(&spool))?;
    let spool_id = spool.id();
    let now = clock.read();
    let vault = open_vault(&dir.join(KEYS_DIR), sealed)?;
    let set_aside = metadata.set_aside().to_vec();
    let ledger = LinkLedger::open(&metadata, &config.link.use_of_link)?;
    let book = open_book(config, parties, metadata, tpm)?;
    let door = open_door(config, (now, boot), &book)?;
    let parts = Parts {
        spool,
        evidence: log,
        memory,
        vault: vault.clone(),
        door: door.clone(),
        entropy: Box::new(random),
    };
    let mut engine = Engine::new(
        now,
        wiring::engine_config(config, boot),
        config.descriptors.clone(),
        empty_plan(&config.descriptors),
        parts,
    );
    engine.set_quality(open_quality(config)?);
    let salvage = salvage(&recovered.salvage, is_head_damaged);
    start(&mut engine, now, spool_id, salvage, found.as_mut())?;
    let locks = Locks { _tables: tables_disk };
    Ok(Opened {
        engine,
        spool_id,
        streams,
        tables,
        clock,
        boot,
        book,
        door,
        vault,
        keys,
        log_disk,
        epoch,
        found,
        is_head_damaged,
        damaged,
        set_aside,
        locks,
        ledger,
    })
}

/// The spool, what its recovery found, and the ids of its streams.
type OpenSpool = (Spool<OsDisk>, Recovered, BTreeSet<StreamId>);

fn open_spool(config: &EdgeConfig) -> Result<OpenSpool, StateFault> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| StateFault::Random)?;
    let spool_config = wiring::spool_config(config);
    let streams = spool_config.streams.iter().map(|stream| stream.id).collect();
    let disk = disk(&config.state_dir.join(SPOOL_DIR))?;
    let (spool, recovered) = Spool::open(disk, spool_config, SpoolId(id))?;
    Ok((spool, recovered, streams))
}

/// The first leaves of this start.
fn start(
    engine: &mut BoxEngine,
    now: Now,
    spool: SpoolId,
    salvage: Salvage,
    found: Option<&mut Found>,
) -> Result<(), StateFault> {
    let program = Program::parse(concat!("guan ", env!("CARGO_PKG_VERSION")));
    let program = program.expect("name and version are short and plain");
    if salvage != Salvage::default() {
        tracing::warn!(?salvage, "the spool was not closed in order; what was readable is kept");
    }
    let Some(found) = found else {
        return engine.start(now, &program, spool, salvage, Vec::new()).map_err(StateFault::Start);
    };
    let leaves = std::mem::take(&mut found.leaves);
    engine.start(now, &program, spool, salvage, leaves).map_err(StateFault::Start)?;
    // Only now: a ledger that agrees with the TPM before the log has told of a rollback would hide it.
    if let Err(fault) = found.anchors.keep() {
        let fault = guan_link::driver::describe(&fault);
        tracing::error!(%fault, "what the TPM said of the log is not kept");
    }
    Ok(())
}

/// What the TPM remembers of the log. Without an answer the box collects all the same, unanchored.
fn remembered(config: &EdgeConfig, tpm: Option<&Tpm>, log: &EvidenceLog<OsDisk>) -> Option<Found> {
    match anchoring::begin(tpm?, &config.state_dir, &LogWords::of(log)) {
        Ok(found) => Some(found),
        Err(fault) => {
            let fault = guan_link::driver::describe(&fault);
            tracing::error!(%fault, "the TPM does not vouch for the log");
            None
        }
    }
}

/// Under the TPM where the store is; else a box whose TPM is broken could not collect.
fn open_vault(folder: &Path, sealed: Option<(Tpm, StoreKey)>) -> Result<Vault, StateFault> {
    let opened = match sealed {
        None => Vault::open(folder),
        Some((tpm, key)) => Vault::open_sealed(folder, Box::new(TpmRoot::new(tpm)), key),
    };
    Ok(opened?)
}

/// What the folder and the space say; read from disk.
fn open_book(
    config: &EdgeConfig,
    keys: &TrustedKeys,
    metadata: Metadata,
    tpm: Option<&Tpm>,
) -> Result<Book, StateFault> {
    let (keys, own_space) = (keys.clone(), OwnSpace::read(config));
    let folders = (config.contracts.directory.as_path(), config.state_dir.as_path());
    let counter = tpm.map(|tpm| Box::new(TpmCounter::new(tpm.clone())) as Box<dyn SetCounter>);
    let ours = (config.box_id.clone(), config.descriptors.clone());
    Ok(Book::open((keys, own_space), ours, folders, metadata, counter)?)
}

/// The figures of the last days; what of them cannot be read is lost, and told.
fn open_quality(config: &EdgeConfig) -> Result<Ledger, StateFault> {
    // Whoever names the subject wrongly must hear it before identifiers are out.
    crate::catalogue::namer(config)?;
    let (ledger, left_out) = crate::catalogue::ledger(config)?;
    for fault in left_out {
        tracing::warn!(%fault, "quality figures are left out");
    }
    Ok(ledger)
}

/// With what outlives a start: when the space spoke last, and what of it is in doubt.
fn open_door(
    config: &EdgeConfig,
    (now, boot): (Now, BootNumber),
    book: &Book,
) -> Result<Door, StateFault> {
    let door = Door::new(now, boot, book.confirmed_at()?);
    door.set_doubt(book.doubt()?);
    describe(config, &door);
    Ok(door)
}

/// What contracts may ask of the box itself.
fn describe(config: &EdgeConfig, door: &Door) {
    let name = match config.identity.tier {
        Tier::Unattested => "unattested",
        Tier::Emulated => "emulated",
        Tier::Hardware => "hardware",
    };
    let tier = guan_policy::situation::TIERS.iter().find(|(known, _)| *known == name);
    door.set_tier(tier.map_or(0, |(_, tier)| *tier));
    let link = config.link.is_metered.map(|is_metered| match is_metered {
        true => LinkClass::Metered,
        false => LinkClass::Unmetered,
    });
    let release = ReleaseVersion::parse(env!("CARGO_PKG_VERSION"));
    door.set_situation(|situation| {
        situation.link = link;
        situation.release = release;
    });
}

/// Of the operating system: noise must not be foreseen.
fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the system gave random numbers at the start");
    u64::from_le_bytes(bytes)
}

/// When the space issued this box's certificate: a clock behind it is wrong, and on a first boot without
/// a battery there is nothing else to hold on to. `None` when there is no certificate yet.
fn issued_at(certificate: &Path) -> Option<WallTime> {
    let pem = std::fs::read_to_string(certificate).ok()?;
    let chain = guan_identity::read_certificates(&pem).ok()?;
    Some(guan_identity::validity(chain.first()?).ok()?.not_before)
}

/// Nothing is permitted by it.
fn empty_plan(descriptors: &DescriptorTable) -> Arc<Plan> {
    Arc::new(Plan::compile(&[], descriptors))
}

/// The log counts frames and the spool places; both mean "at least so many".
fn salvage(found: &guan_spool::Salvage, is_head_damaged: bool) -> Salvage {
    Salvage {
        files_set_aside: found.files_set_aside + u64::from(is_head_damaged),
        frames_lost: found.damaged_places,
        bytes_lost: found.damaged_bytes,
        torn_tail_bytes: found.torn_bytes,
    }
}
