//! Files that boxes without a link send on a medium: checked to their end, then taken as a session would be.
//!
//! A command leaves a copy in a folder, as only the running space has the store; here it is read twice. Invariants:
//! nothing of a file is stored before its end was reached and its signature is that of the key with which the box is
//! enrolled; the receipt says what is durable.
//!
//! Never here: what a batch must be; that is the inbox's, for both ways.

mod sieve;
mod waiting;
mod words;

pub use self::waiting::{FREE_BYTES_MIN, LeaveFault, leave};

use self::sieve::Sieve;
use self::words::Words;
use crate::inbox::StoreInbox;
use crate::received::Tally;
use crate::registry::{LastAppraisal, Registry, RegistryError, Rejection};
use crate::runner::Clock;
use crate::sets::{SetFault, Sets};
use guan_carry::{CarryFault, CarryReader, DocumentFault, End, Header, Receipt, Unopened};
use guan_identity::attest::AttestationOutcome;
use guan_identity::{KeyFault, LogKeyFile, SealKey, Tier};
use guan_link::driver::{CarriedFault, CarriedOutcome, CarriedSession, describe};
use guan_link::{BoxFrame, Offer};
use guan_model::{BatchSeq, BoxId, Digest, Now, StreamId, WallTime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Folder in `space.state_dir` for files that wait, and for what became of them.
pub const CARRIED_DIR: &str = "carried";
/// How a waiting file's name ends.
pub const WAITING_SUFFIX: &str = "guan";
/// How its answer's name ends.
pub const ANSWER_SUFFIX: &str = "answer";
/// How the name of an answer ends that is being written.
const PART_SUFFIX: &str = "part";
/// Most files that wait.
pub const WAITING_MAX: usize = 16;
/// How old the verdict of a box with a TPM may be, whose files prove nothing of its state themselves.
pub const VERDICT_AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
const KEY_FILE: &str = "carry.key.pem";
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Why a file is not taken, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum TakeFault {
    #[error("{path} cannot be read or written: check the disk and its rights")]
    Path { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] CarryFault),
    #[error(
        "the space's key for files on a medium cannot be used; `guan-space carry key` makes one"
    )]
    Key(#[from] KeyFault),
    #[error("the file is for space {found}; this is {ours}")]
    OtherSpace { found: BoxId, ours: BoxId },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{0}")]
    Rejected(Rejection),
    #[error(
        "box {0} must prove itself in a session, and its last verdict is {1}: let it connect once, and see \
         `guan-space box show`"
    )]
    Unproven(BoxId, String),
    #[error(
        "box {box_id} proved itself last {age_d} days ago, and that may be {} days ago at most: let it connect once",
        VERDICT_AGE_MAX.as_secs() / 86_400
    )]
    Old { box_id: BoxId, age_d: i64 },
    #[error(transparent)]
    Sets(#[from] SetFault),
    #[error(transparent)]
    Session(#[from] CarriedFault),
    #[error("the file changed while it was read; bring it again")]
    Changed,
    #[error(transparent)]
    Receipt(#[from] DocumentFault),
}

/// What became of a file, for the command.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TakeAnswer {
    pub fault: Option<String>,
    pub taken: Option<Taken>,
}

/// What a file brought.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    #[serde(rename = "box")]
    pub box_id: String,
    /// The digest by which box and receipt name the file.
    pub file: String,
    pub batches: u64,
    pub rows: u64,
    pub gaps: u64,
    pub items_stored: u64,
    /// Items that the space had before.
    pub duplicates: u64,
    /// Batches that the store does not take, with its reasons.
    pub refused: Vec<String>,
    /// The signed document for the box.
    pub receipt: String,
}

/// The key that files are sealed for.
pub fn key_path(state_dir: &Path) -> PathBuf {
    state_dir.join(crate::logs::keys::KEYS_DIR).join(KEY_FILE)
}

/// Takes what lies in the folder, one file after the other.
pub struct Carrier {
    pub space: BoxId,
    pub state_dir: PathBuf,
    pub registry: Registry,
    pub accepted: Vec<Tier>,
    pub inbox: StoreInbox,
    /// Of the space's contracts.
    pub signer: Arc<LogKeyFile>,
    pub clock: Clock,
    pub tally: Tally,
    pub sets: Sets,
}

impl Carrier {
    pub async fn run(self) {
        let folder = self.state_dir.join(CARRIED_DIR);
        // Nobody waits for answers of an earlier run.
        for path in [ANSWER_SUFFIX, PART_SUFFIX].iter().flat_map(|suffix| files(&folder, suffix)) {
            let _ = fs::remove_file(path);
        }
        loop {
            for path in files(&folder, WAITING_SUFFIX) {
                let answer = match self.take(&path).await {
                    Ok(taken) => TakeAnswer { fault: None, taken: Some(taken) },
                    Err(fault) => {
                        let text = describe(&fault);
                        tracing::warn!(fault = %text, "a file on a medium is not taken");
                        TakeAnswer { fault: Some(text), taken: None }
                    }
                };
                if let Err(fault) = put_answer(&path, &answer) {
                    tracing::error!(%fault, "what became of a file cannot be told");
                }
                let _ = fs::remove_file(&path);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn take(&self, path: &Path) -> Result<Taken, TakeFault> {
        let key = tokio::task::block_in_place(|| SealKey::load(&key_path(&self.state_dir)))?;
        let (header, end) = tokio::task::block_in_place(|| self.check(path, &key))?;
        let box_id = header.box_id.clone();
        let (outcome, offer) = self.deliver(path, &key, &end, box_id).await?;
        let mut streams: Vec<(StreamId, BatchSeq)> =
            outcome.cursors.iter().map(|cursor| (cursor.stream, cursor.through)).collect();
        streams.retain(|(_, through)| *through > BatchSeq::ZERO);
        streams.sort_unstable();
        let now = (self.clock)();
        let received =
            tokio::task::block_in_place(|| self.say(&header.box_id, offer.as_ref(), &now));
        let receipt = Receipt {
            space: self.space.clone(),
            box_id: header.box_id.clone(),
            spool: header.spool,
            file: end.digest,
            streams,
            issued: now.wall,
            received,
        };
        let receipt = receipt.sign(self.signer.as_ref())?;
        tracing::info!(box_id = %header.box_id, file = %end.digest, stored = outcome.items_stored,
            duplicates = outcome.duplicates, "a file on a medium was taken");
        let refused = outcome
            .refused
            .iter()
            .map(|one| format!("stream {}, batch {}: {}", one.stream, one.seq, one.text));
        Ok(Taken {
            box_id: header.box_id.to_string(),
            file: end.digest.to_string(),
            batches: end.counts.batches,
            rows: end.counts.rows,
            gaps: end.counts.gaps,
            items_stored: outcome.items_stored,
            duplicates: outcome.duplicates,
            refused: refused.collect(),
            receipt: String::from_utf8_lossy(&receipt).into_owned(),
        })
    }

    /// What the space's log says of this box's batches, as far as the box may not know it yet.
    fn say(&self, box_id: &BoxId, offer: Option<&Offer>, now: &Now) -> Vec<u8> {
        let new = self.tally.take(box_id, now);
        let Some(offer) = offer else {
            return new.map(|letter| letter.to_vec()).unwrap_or_default();
        };
        let words = Words::new(&self.state_dir.join(CARRIED_DIR));
        let (letter, kept) = words.next(box_id, offer, new.as_deref());
        if let Err(fault) = kept {
            tracing::error!(%box_id, %fault, "what a receipt says is not kept: if it is lost, the box never hears it");
        }
        letter
    }

    fn open(&self, path: &Path, key: &SealKey) -> Result<CarryReader<BufReader<File>>, TakeFault> {
        let file =
            File::open(path).map_err(|source| TakeFault::Path { path: path.to_owned(), source })?;
        let unopened = Unopened::begin(BufReader::new(file))?;
        let found = &unopened.header().space;
        if *found != self.space {
            let (found, ours) = (found.clone(), self.space.clone());
            return Err(TakeFault::OtherSpace { found, ours });
        }
        Ok(unopened.open(key)?)
    }

    /// Reads all of it and stores nothing: whether it is whole, and whose.
    fn check(&self, path: &Path, key: &SealKey) -> Result<(Header, End), TakeFault> {
        let mut reader = self.open(path, key)?;
        while reader.next_frame()?.is_some() {}
        let header = reader.header().clone();
        let end = reader.end().expect("without an end there is a fault").clone();
        let tier = end.signed_by(&header.box_id)?;
        // The certificate is the enrolled one, byte for byte. Its term is of sessions: a box without a link cannot
        // renew it, and is revoked by its name.
        let fingerprint = Digest::of(&end.certificate);
        let admitted = self.registry.admit(&header.box_id, tier, fingerprint, &self.accepted)?;
        admitted.map_err(TakeFault::Rejected)?;
        if let Some(tpm) = self.registry.find(&header.box_id)?.and_then(|known| known.tpm) {
            check_proven(&header.box_id, tpm.last.as_ref(), (self.clock)().wall)?;
        }
        Ok((header, end))
    }

    async fn deliver(
        &self,
        path: &Path,
        key: &SealKey,
        end: &End,
        box_id: BoxId,
    ) -> Result<(CarriedOutcome, Option<Offer>), TakeFault> {
        let mut reader = tokio::task::block_in_place(|| self.open(path, key))?;
        let mut sieve = Sieve::new(&self.sets, &box_id, &self.clock);
        let mut session = CarriedSession::new(self.inbox.clone(), box_id.clone());
        let mut offer = None;
        while let Some(frame) = tokio::task::block_in_place(|| reader.next_frame())? {
            if let BoxFrame::Hello(hello) = &frame {
                offer = Some(hello.offer.clone());
            }
            if tokio::task::block_in_place(|| sieve.passes(&frame))? {
                session.handle_frame(frame).await?;
            }
        }
        if reader.end() != Some(end) {
            return Err(TakeFault::Changed);
        }
        let mut outcome = session.finish().await?;
        outcome.refused.extend(sieve.refused);
        Ok((outcome, offer))
    }
}

/// No quote is fresh on a medium, so what the last session found must have been good, and not long ago.
fn check_proven(
    box_id: &BoxId,
    last: Option<&LastAppraisal>,
    now: WallTime,
) -> Result<(), TakeFault> {
    let outcome = last.map_or("none yet", |last| last.outcome.as_str());
    if outcome != AttestationOutcome::Allow.name() {
        return Err(TakeFault::Unproven(box_id.clone(), outcome.to_owned()));
    }
    let at = WallTime::from_seconds(last.map_or(0, |last| last.at_s));
    let age = now.since(at);
    match age <= VERDICT_AGE_MAX {
        true => Ok(()),
        false => {
            let age_d = i64::try_from(age.as_secs() / 86_400).unwrap_or(i64::MAX);
            Err(TakeFault::Old { box_id: box_id.clone(), age_d })
        }
    }
}

/// Files of the folder whose names end so, in the order of their names.
pub fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == suffix)).collect();
    found.sort();
    found
}

fn put_answer(waiting: &Path, answer: &TakeAnswer) -> io::Result<()> {
    let (path, part) = (waiting.with_extension(ANSWER_SUFFIX), waiting.with_extension(PART_SUFFIX));
    fs::write(&part, serde_json::to_vec(answer).map_err(io::Error::other)?)?;
    fs::rename(&part, &path)
}

#[cfg(test)]
mod tests;
