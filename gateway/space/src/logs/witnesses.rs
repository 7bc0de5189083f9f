//! The witness of all boxes' logs. What it knows of a log lies in `witness/<box>/<log>`: the key that may
//! sign it, and the head that was cosigned last, which is durable before the cosignature leaves.
//!
//! The key of a log is the one that came first over the box's authenticated link. A box has one log, and
//! its epochs after a loss: the newest closes those before it, whose heads get 403, for no key is trusted
//! for them any more. Each epoch is signed under its own name by the same 32 bytes, which are what is pinned; boxes
//! of earlier releases sign all of them under the name of the first.
//!
//! Another key is taken only where a lineage leads to it from the pinned one: each key signed for the next, and,
//! of a box with a TPM, that TPM quoted it. Else it gets 403, and so do earlier keys from then on.

use super::folders::{FORKS_DIR, Folders, WITNESS_DIR, boxes, folder_of};
use super::forks::{self, Kept};
use super::rate::Rate;
use guan_evidence::epoch::epoch_base;
use guan_evidence::witness::{Fork, WitnessFault};
use guan_evidence::{
    AddCheckpoint, Checkpoint, CosignFault, Handled, Head, LeafBody, Lineage, VerifierKey, Witness,
    WitnessAnswer,
};
use guan_log::Epoch;
use guan_model::{BoxId, Now, PublicKey, Signer};
use guan_spool::{Disk, read_file, replace_file};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Most requests of one box in a minute.
pub const WITNESS_PER_MINUTE_MAX: u32 = 30;
/// Most logs of one box, epochs included: each epoch begins with a loss.
pub const LOGS_PER_BOX_MAX: usize = 64;
/// Longest verifier key.
pub const KEY_BYTES_MAX: usize = 512;
const HEAD_FILE: &str = "head";
const KEY_FILE: &str = "key";
/// The lineage of this log's keys, where it has had several.
const LINEAGE_FILE: &str = "keys";
/// The longest of these is a lineage.
const FILE_BYTES_MAX: usize = guan_evidence::LINEAGE_BYTES_MAX;
/// Status of an answer that is none of `add-checkpoint`: come again later.
const TOO_MANY: u16 = 429;
const BROKEN: u16 = 500;

/// Why the witness cannot work; its disk or clock is to blame.
#[derive(Debug, thiserror::Error)]
pub enum WitnessesFault {
    #[error("the state of the witness cannot be read or written: check the disk")]
    File(#[from] io::Error),
    #[error(transparent)]
    Stored(#[from] WitnessFault),
    #[error(transparent)]
    Cosign(#[from] CosignFault),
}

/// What to answer, after what.
#[derive(Debug, PartialEq, Eq)]
pub struct Witnessed {
    pub status: u16,
    pub body: String,
    /// For the space's log, before the answer leaves.
    pub leaf: Option<LeafBody>,
    /// For an operator.
    pub alarm: Option<String>,
}

impl Witnessed {
    fn plain(status: u16, text: &str) -> Self {
        Self { status, body: format!("{text}\n"), leaf: None, alarm: None }
    }

    fn of(answer: &WitnessAnswer) -> Self {
        Self { status: answer.status(), body: answer.body(), leaf: None, alarm: None }
    }
}

/// A log and its epochs, by the name of the first.
#[derive(Debug)]
struct Log {
    box_id: BoxId,
    key: [u8; 32],
    newest: Epoch,
    epochs: usize,
}

/// The attestation keys that a box was enrolled with; none: it has no TPM.
pub type Attested = dyn Fn(&BoxId) -> Result<Vec<PublicKey>, String> + Send + Sync;

/// All logs.
pub struct Witnesses<F: Folders> {
    folders: F,
    signer: Arc<dyn Signer>,
    attested: Box<Attested>,
    logs: BTreeMap<String, Log>,
    rate: Rate,
}

/// The body of a letter, in parts.
struct Letter {
    key: VerifierKey,
    /// Name of the first of the epochs.
    base: String,
    epoch: Epoch,
    origin: String,
    /// What leads to the key, where it is not the first.
    lineage: Option<Lineage>,
    request: AddCheckpoint,
}

impl<F: Folders> Witnesses<F> {
    /// Reads which logs there are.
    pub fn open(
        folders: F,
        signer: Arc<dyn Signer>,
        attested: Box<Attested>,
    ) -> Result<Self, WitnessesFault> {
        let mut logs = BTreeMap::new();
        for box_id in boxes(&folders, WITNESS_DIR)? {
            for name in folders.list(&[WITNESS_DIR, box_id.as_str()])? {
                let disk = folders.open(&[WITNESS_DIR, box_id.as_str(), &name])?;
                let Some((key, head)) = stored(&disk)? else { continue };
                let head = Checkpoint::parse_unverified(&head);
                let head =
                    head.map_err(|source| WitnessFault::Head { origin: name.clone(), source })?;
                if let Ok(key) = VerifierKey::parse(&key) {
                    note(&mut logs, &box_id, &key, &head.origin);
                }
            }
        }
        Ok(Self { folders, signer, attested, logs, rate: Rate::new(WITNESS_PER_MINUTE_MAX) })
    }

    /// Judges a letter. What it cosigns is durable when this returns.
    pub fn handle(&mut self, now: &Now, box_id: &BoxId, letter: &[u8]) -> Witnessed {
        if !self.rate.take(box_id, now.monotonic) {
            return Witnessed::plain(TOO_MANY, "too many requests, come again in a minute");
        }
        let letter = match parse(letter) {
            Ok(letter) => letter,
            Err(answer) => return Witnessed::of(&answer),
        };
        if let Some(refused) = self.refuse(box_id, &letter) {
            return refused;
        }
        self.witness(now, box_id, &letter).unwrap_or_else(|fault| {
            let text = guan_link::driver::describe(&fault);
            let alarm = Some(format!("log {} cannot be witnessed: {text}", letter.origin));
            Witnessed { alarm, ..Witnessed::plain(BROKEN, "the witness cannot answer, come again") }
        })
    }

    /// Why the log is not this box's, or may not be signed with this key.
    fn refuse(&self, box_id: &BoxId, letter: &Letter) -> Option<Witnessed> {
        let origin = &letter.origin;
        let Some(log) = self.logs.get(&letter.base) else {
            let (own, _) = self.logs.iter().find(|(_, log)| log.box_id == *box_id)?;
            let alarm = Some(format!("it shows log {origin}; its own is {own}"));
            return Some(Witnessed { alarm, ..Witnessed::of(&WitnessAnswer::UnknownLog) });
        };
        if log.box_id != *box_id {
            let alarm = Some(format!("it shows log {origin}, which is box {}'s", log.box_id));
            return Some(Witnessed { alarm, ..Witnessed::of(&WitnessAnswer::UnknownLog) });
        }
        let forbidden = |text: String| Some(Witnessed::of(&WitnessAnswer::Forbidden(text)));
        if let Err(why) = self.follow(box_id, log, letter) {
            let alarm =
                Some(format!("log {origin} comes with another key than it began with: {why}"));
            let text = format!("another key is pinned for this log: {why}");
            return forbidden(text).map(|refused| Witnessed { alarm, ..refused });
        }
        if letter.epoch < log.newest {
            let newest = log.newest.origin(&letter.base);
            return forbidden(format!("this log has ended, {newest} followed it"));
        }
        if letter.epoch > log.newest && log.epochs >= LOGS_PER_BOX_MAX {
            return forbidden(format!("a box has at most {LOGS_PER_BOX_MAX} logs"));
        }
        None
    }

    /// Whether the key of a letter is the pinned one, or follows on it.
    fn follow(&self, box_id: &BoxId, log: &Log, letter: &Letter) -> Result<(), String> {
        if log.key == letter.key.key_bytes() {
            return Ok(());
        }
        let lineage = letter.lineage.as_ref().ok_or("nothing leads to it")?;
        let steps =
            lineage.after(&log.key).ok_or("no hand-over leads to it from the pinned one")?;
        let last = steps.last().ok_or("it is one of before")?;
        if last.new_key().key_bytes() != letter.key.key_bytes() {
            return Err("the last hand-over is to another one".to_owned());
        }
        let attested = (self.attested)(box_id)?;
        match steps.iter().all(|step| attested.is_empty() || step.is_quoted(&attested)) {
            true => Ok(()),
            false => Err("the TPM of this box says nothing of a hand-over".to_owned()),
        }
    }

    /// Pins the key of a letter that was judged, with what led to it. The lineage first: a key without it could not
    /// be explained to anybody.
    fn pin(&mut self, disk: &F::Disk, letter: &Letter) -> Result<(), WitnessesFault> {
        if let Some(lineage) = &letter.lineage {
            let known = read(disk, LINEAGE_FILE)?.and_then(|text| Lineage::parse(&text).ok());
            let shown = lineage.of_log(&letter.origin);
            let mut kept = known.unwrap_or_else(|| Lineage::new(shown.first().clone()));
            for step in shown.steps() {
                let (origin, index) = step.place();
                let is_new = kept.steps().last().is_none_or(|last| last.place().1 < index);
                if is_new && kept.extend(origin, step.leaf()).is_err() {
                    break;
                }
            }
            replace_file(disk, LINEAGE_FILE, kept.to_string().as_bytes())?;
        }
        replace_file(disk, KEY_FILE, letter.key.to_string().as_bytes())?;
        if let Some(log) = self.logs.get_mut(&letter.base) {
            log.key = letter.key.key_bytes();
        }
        Ok(())
    }

    fn witness(
        &mut self,
        now: &Now,
        box_id: &BoxId,
        letter: &Letter,
    ) -> Result<Witnessed, WitnessesFault> {
        let Letter { key, origin, request, .. } = letter;
        let path = [WITNESS_DIR, box_id.as_str(), &folder_of(origin)];
        // A log that nothing is known of gets no folder before it has signed a head.
        let is_known = self.folders.list(&path[..2])?.iter().any(|name| name == path[2]);
        let stored = match is_known {
            true => read(&self.folders.open(&path)?, HEAD_FILE)?,
            false => None,
        };
        let mut witness = Witness::new(origin, key.signers_of(origin), stored.as_deref())?;
        let known = witness.head().map_or(0, |head| head.size);
        match witness.handle(request, now.wall, self.signer.as_ref())? {
            Handled::Refused { answer, fork: None } => Ok(Witnessed::of(&answer)),
            Handled::Refused { answer, fork: Some(fork) } => {
                let witnessed = Witnessed::of(&answer);
                self.keep_fork(box_id, letter, known, &fork, witnessed)
            }
            Handled::Pending(pending) => {
                let disk = self.folders.open(&path)?;
                let pinned = self.logs.get(&letter.base).map(|log| log.key);
                let head = pending.head().clone();
                if stored.is_none() || pinned != Some(key.key_bytes()) {
                    self.pin(&disk, letter)?;
                }
                replace_file(&disk, HEAD_FILE, head.note.as_bytes())?;
                let answer = pending.committed();
                if stored.is_none() {
                    note(&mut self.logs, box_id, key, origin);
                }
                let leaf = Head {
                    box_id: box_id.clone(),
                    log: origin.clone(),
                    size: head.size,
                    root: head.root,
                };
                Ok(Witnessed { leaf: Some(LeafBody::Head(leaf)), ..Witnessed::of(&answer) })
            }
        }
    }

    fn keep_fork(
        &self,
        box_id: &BoxId,
        letter: &Letter,
        known: u64,
        fork: &Fork,
        witnessed: Witnessed,
    ) -> Result<Witnessed, WitnessesFault> {
        let disk = self.folders.open(&[FORKS_DIR, box_id.as_str()])?;
        let kept = forks::keep(&disk, fork)?;
        let offered = Checkpoint::parse_unverified(&letter.request.checkpoint);
        let offered = offered.map_or(0, |head| head.size);
        let what = match fork.is_proven(&letter.key.signers_of(&letter.origin)) {
            Ok(true) => "has two histories",
            _ => "does not prove that it continues what was cosigned",
        };
        let origin = &letter.origin;
        let alarm = Some(format!(
            "log {origin} {what}: {known} entries were cosigned, {offered} were shown; see the folder \
             {FORKS_DIR}"
        ));
        let leaf = match kept {
            Kept::New(evidence) => Some(LeafBody::Fork(guan_evidence::Fork {
                box_id: box_id.clone(),
                log: origin.clone(),
                known,
                offered,
                evidence,
            })),
            Kept::Known | Kept::Not => None,
        };
        Ok(Witnessed { leaf, alarm, ..witnessed })
    }

    /// The note of the last head of a log that was cosigned; `None`: it is no log of this box.
    pub fn head(&self, box_id: &BoxId, origin: &str) -> io::Result<Option<String>> {
        let is_own = |(base, log): (&String, &Log)| {
            log.box_id == *box_id
                && Epoch::of_origin(base, origin).is_some_and(|epoch| epoch <= log.newest)
        };
        match self.logs.iter().any(is_own) {
            true => read(
                &self.folders.open(&[WITNESS_DIR, box_id.as_str(), &folder_of(origin)])?,
                HEAD_FILE,
            ),
            false => Ok(None),
        }
    }
}

/// The keys of a log, as far as heads of it were cosigned; `None`: it was never seen.
pub fn lineage(disk: &impl Disk) -> io::Result<Option<Lineage>> {
    if let Some(text) = read(disk, LINEAGE_FILE)? {
        let lineage = Lineage::parse(&text);
        return lineage.map(Some).map_err(|fault| io::Error::other(fault.to_string()));
    }
    let key = read(disk, KEY_FILE)?.and_then(|key| VerifierKey::parse(&key).ok());
    Ok(key.map(|key| {
        // A key that bears the name of an epoch stands for the log itself.
        let base = epoch_base(key.name()).map(str::to_owned);
        let named = base.and_then(|base| VerifierKey::new(&base, key.key_bytes()).ok());
        Lineage::new(named.unwrap_or(key))
    }))
}

/// Key and last head of a log; `None`: its key was pinned, but nothing of it was ever cosigned.
pub fn stored(disk: &impl Disk) -> io::Result<Option<(String, String)>> {
    Ok(read(disk, KEY_FILE)?.zip(read(disk, HEAD_FILE)?))
}

fn note(logs: &mut BTreeMap<String, Log>, box_id: &BoxId, key: &VerifierKey, origin: &str) {
    let Some((base, epoch)) = place_of(key.name(), origin) else { return };
    let key = key.key_bytes();
    let begin = || Log { box_id: box_id.clone(), key, newest: epoch, epochs: 0 };
    let log = logs.entry(base.to_owned()).or_insert_with(begin);
    if epoch >= log.newest {
        (log.newest, log.key) = (epoch, key);
    }
    log.epochs += 1;
}

/// The first of the epochs that a log is one of, and which. The key bears the log's name, or that of the first.
fn place_of<'n>(key_name: &'n str, origin: &str) -> Option<(&'n str, Epoch)> {
    let named = epoch_base(key_name).filter(|_| key_name == origin);
    let base = named.unwrap_or(key_name);
    Epoch::of_origin(base, origin).map(|epoch| (base, epoch))
}

fn parse(letter: &[u8]) -> Result<Letter, WitnessAnswer> {
    let malformed = |text: String| WitnessAnswer::Malformed(text);
    let end = letter.iter().take(KEY_BYTES_MAX + 1).position(|byte| *byte == b'\n');
    let (key, body) = letter.split_at(end.ok_or_else(|| malformed("no key".to_owned()))?);
    let key = std::str::from_utf8(key).map_err(|_| malformed("no key".to_owned()))?;
    let key = VerifierKey::parse(key).map_err(|fault| malformed(fault.to_string()))?;
    let body = std::str::from_utf8(&body[1..]).map_err(|_| malformed("no text".to_owned()))?;
    let (lines, body) = Lineage::split_lines(body);
    let lineage = lines.map(Lineage::parse).transpose();
    let lineage = lineage.map_err(|fault| malformed(fault.to_string()))?;
    let request = AddCheckpoint::parse(body.as_bytes());
    let request = request.map_err(|fault| malformed(fault.to_string()))?;
    let origin = request.origin().ok_or_else(|| malformed("no checkpoint".to_owned()))?;
    let (base, epoch) = place_of(key.name(), &origin).ok_or(WitnessAnswer::UnknownLog)?;
    Ok(Letter { base: base.to_owned(), key, epoch, origin, lineage, request })
}

fn read(disk: &impl Disk, name: &str) -> io::Result<Option<String>> {
    match read_file(disk, name, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}
