//! Ties the log to the TPM: each head goes into a register, a quote over it into the log, and some heads into
//! a digest that outlives boots.
//!
//! A TPM that is gone or slow costs anchors and never the collection. Times are those since boot.

pub mod ledger;
mod words;

pub use words::{ChainWord, DigestAt, LogWords};

use guan_evidence::tpm::{TpmClock, extended};
use guan_evidence::{
    Anchor, Chain, Checkpoint, GapReason, LeafBody, Note, Statement, TRAIL_PCR, TpmStart,
};
use guan_identity::tpm::{Attested, Remembered, Tpm, TpmFault};
use guan_model::{Digest, PublicKey};
use ledger::{LEDGER_BYTES_MAX, Ledger, Suspicion, TrailHead};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The ledger in `box.state_dir`.
pub const LEDGER_FILE: &str = "anchors.json";
/// Longest wait for the TPM at the start; after that the box collects without.
const START_WAIT: Duration = Duration::from_secs(5);

/// Why something is not anchored.
#[derive(Debug, thiserror::Error)]
pub enum AnchorFault {
    #[error(transparent)]
    Tpm(#[from] TpmFault),
    #[error("{path} cannot be written: check the disk")]
    Ledger { path: PathBuf, source: io::Error },
    #[error("the TPM says more than a leaf of the log can hold")]
    Statement,
    #[error("the head of the log cannot be read")]
    Head,
}

/// A log that this TPM knows, as a start found it.
pub struct Anchors {
    tpm: Tpm,
    path: PathBuf,
    pub ledger: Ledger,
}

/// What a start has to record.
pub struct Found {
    pub anchors: Anchors,
    pub leaves: Vec<LeafBody>,
    pub suspicions: Vec<Suspicion>,
}

fn key_digest(key: &PublicKey) -> Digest {
    match key {
        PublicKey::EcdsaP256(point) => Digest::of(point),
        PublicKey::Ed25519(key) => Digest::of(key),
    }
}

fn read_ledger(path: &Path) -> Option<Ledger> {
    let is_short = fs::metadata(path).is_ok_and(|file| file.len() <= LEDGER_BYTES_MAX as u64);
    let bytes = is_short.then(|| fs::read(path).ok()).flatten()?;
    Ledger::decode(&bytes)
}

/// Compares what the TPM remembers with this disk: with the ledger, and with the log's own words. Whoever calls this
/// keeps the anchors once the leaves are durable.
pub fn begin(tpm: &Tpm, state_dir: &Path, words: &LogWords<'_>) -> Result<Found, AnchorFault> {
    let ask = "say what it remembers of the log";
    let found = tpm.call_within(START_WAIT, ask, |chip| chip.remembered())?;
    let path = state_dir.join(LEDGER_FILE);
    let known = read_ledger(&path);
    let (clock, trail, chain) = (found.clock, found.trail, found.chain);
    // Without a ledger the log is new, or an older program wrote it; then the chain must be new too.
    let key = key_digest(&found.attestation_key);
    let before = known.clone().filter(|ledger| ledger.is_of(&key));
    let mut ledger = known.unwrap_or_else(|| Ledger::new(key, clock.resets, trail));
    let mut suspicions = ledger.handle_start(key, &clock, (trail, chain), words.last);
    let more = before.iter().flat_map(|before| before.compare_log(words, chain));
    // That the chain is another one is said once.
    let is_said = suspicions.contains(&Suspicion::Chain);
    suspicions.extend(more.filter(|one| !(is_said && *one == Suspicion::Word)));
    let is_other =
        |one: &Suspicion| matches!(one, Suspicion::Heads { .. } | Suspicion::History { .. });
    let begins = words.begun.is_some() || suspicions.iter().any(is_other);
    ledger.handle_log(&words.origin, begins, (trail, chain));
    let mut leaves = vec![LeafBody::TpmStart(tpm_start(&found))];
    if !suspicions.is_empty() {
        let reason = GapReason::RolledBack;
        let size = words.size;
        leaves.push(LeafBody::LogGap { from: size, through: size, reason, refill: None });
    }
    let anchors = Anchors { tpm: tpm.clone(), path, ledger };
    Ok(Found { anchors, leaves, suspicions })
}

fn tpm_start(found: &Remembered) -> TpmStart {
    let TpmClock { clock_ms, resets, restarts, is_safe } = found.clock;
    TpmStart {
        attestation_key: key_digest(&found.attestation_key),
        resets,
        restarts,
        clock_ms,
        is_safe,
        lockouts: found.lockouts,
        trail: found.trail,
        chain: found.chain,
    }
}

/// The size of a signed head, and SHA-256 of the text that is signed.
pub fn trail_head(note: &str) -> Result<TrailHead, AnchorFault> {
    let head = Checkpoint::parse_unverified(note).map_err(|_| AnchorFault::Head)?;
    let note = Note::parse(note).map_err(|_| AnchorFault::Head)?;
    Ok(TrailHead { size: head.size, digest: Digest::of(note.text().as_bytes()) })
}

fn statement(attested: Attested) -> Result<Statement, AnchorFault> {
    Statement::new(attested.statement, attested.signature).ok_or(AnchorFault::Statement)
}

/// Each step blocks while the TPM works.
impl Anchors {
    /// Before the TPM is asked, so that a crash leaves nothing in it that this disk does not know.
    pub fn keep(&self) -> Result<(), AnchorFault> {
        let text = String::from_utf8(self.ledger.encode()).expect("the ledger is JSON");
        crate::upkeep::replace(&self.path, &text)
            .map_err(|source| AnchorFault::Ledger { path: self.path.clone(), source })
    }

    /// Puts all heads of the trail that are not there yet into the register.
    pub fn extend(&mut self) -> Result<Option<Suspicion>, AnchorFault> {
        while let Some((before, head)) = self.ledger.next_extend() {
            let extend =
                move |chip: &mut guan_identity::tpm::Chip| chip.extend_trail(&before, &head);
            let value = self.tpm.call("keep a head of the log", extend)?;
            if let Some(suspicion) = self.ledger.handle_extended(value) {
                self.keep()?;
                return Ok(Some(suspicion));
            }
        }
        Ok(None)
    }

    /// A quote over the heads that are in the register; `None` when there are none.
    pub fn quote(&mut self) -> Result<Option<Anchor>, AnchorFault> {
        let heads = self.ledger.anchor();
        let Some(last) = heads.last().copied() else { return Ok(None) };
        let trail: Vec<u64> = heads.iter().map(|head| head.size).collect();
        let (quote, pcrs) =
            self.tpm.call("quote the log's heads", move |chip| chip.anchor(&last.digest))?;
        // Between extending and quoting somebody else may have come; then the quote is about that.
        let reached =
            heads.iter().fold(self.ledger.base(), |value, head| extended(&value, &head.digest));
        if pcrs.get(&TRAIL_PCR) != Some(&reached) {
            return Ok(None);
        }
        Ok(Some(Anchor { size: last.size, trail, pcrs, quote: statement(quote)? }))
    }

    /// The anchor's leaf is durable.
    pub fn handle_anchored(&mut self, now: Duration, size: u64) -> Result<(), AnchorFault> {
        self.ledger.handle_anchored(now, size);
        self.keep()
    }

    /// Chains a head, or the one that a crash left half done. The error side of the inner result is a
    /// chain that is not ours.
    pub fn chain(&mut self, head: TrailHead) -> Result<Result<Chain, Suspicion>, AnchorFault> {
        let head = self.ledger.intent().unwrap_or(head);
        let before = self.ledger.begin_chain(head);
        self.keep()?;
        let chained = self.tpm.call("chain a head of the log", move |chip| {
            chip.chain(before.as_ref(), &head.digest)
        })?;
        match chained {
            Some(certified) => {
                Ok(Ok(Chain { size: head.size, before, certified: statement(certified)? }))
            }
            None => {
                let found = self.tpm.call("show its chain", |chip| chip.chained())?;
                let suspicion = self.ledger.handle_foreign_chain(found);
                self.keep()?;
                Ok(Err(suspicion))
            }
        }
    }

    /// The chain's leaf is durable.
    pub fn handle_chained(&mut self, now: Duration) -> Result<(), AnchorFault> {
        self.ledger.handle_chained(now);
        self.keep()
    }
}
