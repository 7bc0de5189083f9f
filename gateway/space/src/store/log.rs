//! The space's own evidence log, as the store writes it: leaves lie in the store's journal, in the commit
//! of what they speak of, so a `data.received` exists if and only if its batch is stored.
//!
//! The first leaf of each run is its `Start`; it waits for the first commit that goes through. Leaves that
//! cannot be read any more are recorded right after it.

use super::{StoreError, is_full};
use bytes::Bytes;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::{GapReason, LeafBody, Program, leaf_hash};
use guan_log::{EvidenceLog, EvidenceLogError, JournalPlace, LeavesDamaged, LogHead, SignedHead};
use guan_model::{BatchSeq, BootNumber, BoxId, Digest, Now, Signer, SpoolId, StreamId};
use guan_spool::{Disk, JournalError};
use std::sync::Arc;
use std::time::Duration;

/// Heads are signed so long after the first leaf that they cover, or after so many leaves.
pub const HEAD_INTERVAL: Duration = Duration::from_secs(10);
pub const HEAD_LEAVES_MAX: u64 = 64;

/// What it takes to open the log.
pub struct LogParts<D> {
    /// Of the folder with the sealed bundles and the signed head.
    pub disk: D,
    /// Signs heads; bears the log's name.
    pub signer: Arc<dyn Signer>,
    pub program: Program,
}

/// Name of the log of a space.
pub fn log_origin(space: &str) -> String {
    format!("guan-space/{space}")
}

/// A leaf that says that a batch was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub box_id: BoxId,
    pub spool: SpoolId,
    pub stream: StreamId,
    pub seq: BatchSeq,
    /// Name of the log, and where the leaf stands in it.
    pub origin: String,
    pub index: u64,
    pub leaf: Digest,
}

/// The log beside the store.
pub(super) struct SpaceLog<D: Disk> {
    log: EvidenceLog<D>,
    boot: BootNumber,
    program: Program,
    spool: SpoolId,
    has_started: bool,
    has_started_durably: bool,
    staged: Vec<Logged>,
    committed: Vec<Logged>,
}

impl<D: Disk> SpaceLog<D> {
    /// `tail` are leaves as the journal has them; some may lie in bundles already.
    pub(super) fn open(
        parts: LogParts<D>,
        tail: Vec<(u64, Bytes)>,
        spool: SpoolId,
    ) -> Result<Self, StoreError> {
        let LogParts { disk, signer, program } = parts;
        let newest = tail.iter().map(|(place, _)| JournalPlace::from_number(*place)).max();
        let base = signer.name().to_owned();
        let log = EvidenceLog::open(disk, &base, signer, tail)?;
        let have = JournalPlace::new(log.epoch(), log.head().size);
        if let Some(newest) = newest.filter(|newest| log.begun().is_none() && *newest >= have) {
            let (have, expected) = (log.head().size, newest.index() + 1);
            return Err(StoreError::LogFolder { have, expected });
        }
        let boot = BootNumber(log.last_boot().map_or(0, |BootNumber(last)| last) + 1);
        let (staged, committed) = (Vec::new(), Vec::new());
        Ok(Self {
            log,
            boot,
            program,
            spool,
            has_started: false,
            has_started_durably: false,
            staged,
            committed,
        })
    }

    /// Adds a leaf, after those with which a run begins. Gives all that the journal must keep.
    pub(super) fn append(
        &mut self,
        now: &Now,
        actor: Option<Digest>,
        body: LeafBody,
    ) -> Vec<(u64, Bytes)> {
        let mut leaves = Vec::new();
        if !self.has_started {
            self.has_started = true;
            if let Some(epoch) = self.log.begun().filter(|_| self.log.head().size == 0) {
                let body = LeafBody::EpochStart(epoch.clone());
                leaves.push(self.log.append(now, self.boot, body));
            }
            let (program, spool) = (self.program.clone(), self.spool);
            let body = LeafBody::Start { program, spool };
            leaves.push(self.log.append(now, self.boot, body));
            for LeavesDamaged { from, through } in self.log.untold().collect::<Vec<_>>() {
                let body =
                    LeafBody::LogGap { from, through, reason: GapReason::Damage, refill: None };
                leaves.push(self.log.append(now, self.boot, body));
            }
        }
        if matches!(body, LeafBody::Start { .. }) {
            return leaves;
        }
        let received = match &body {
            LeafBody::Received(one) => Some(one.clone()),
            _ => None,
        };
        let (place, bytes) = self.log.append_of(now, self.boot, actor, body);
        if let Some(one) = received {
            self.staged.push(Logged {
                box_id: one.box_id,
                spool: one.spool,
                stream: one.stream,
                seq: one.seq,
                origin: self.log.origin().to_owned(),
                index: JournalPlace::from_number(place).index(),
                leaf: leaf_hash(&bytes),
            });
        }
        leaves.push((place, bytes));
        leaves
    }

    /// The leaf with which this run begins, if it is not there yet.
    pub(super) fn start(&mut self, now: &Now) -> Vec<(u64, Bytes)> {
        let (program, spool) = (self.program.clone(), self.spool);
        self.append(now, None, LeafBody::Start { program, spool })
    }

    pub(super) fn handle_committed(&mut self) {
        self.log.handle_committed();
        self.has_started_durably = self.has_started;
        self.committed.append(&mut self.staged);
    }

    pub(super) fn rollback(&mut self) {
        self.log.rollback();
        self.has_started = self.has_started_durably;
        self.staged.clear();
    }

    /// Writes full bundles: between commits only.
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        Ok(self.log.seal().map(drop)?)
    }

    /// Whether bundles wait for room on their disk.
    pub(super) fn must_seal(&self) -> bool {
        self.log.unsealed().count() >= BUNDLE_LEAVES_MAX
    }

    pub(super) fn unsealed(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.log.unsealed()
    }

    pub(super) fn take_logged(&mut self) -> Vec<Logged> {
        std::mem::take(&mut self.committed)
    }

    pub(super) fn damaged(&self) -> &[LeavesDamaged] {
        self.log.damaged()
    }

    pub(super) fn head(&self) -> LogHead {
        self.log.head()
    }

    pub(super) fn is_unsigned(&self) -> bool {
        self.log.head().size > self.log.checkpoint_size()
    }

    pub(super) fn sign_due(&mut self, now: &Now) -> Result<Option<SignedHead>, StoreError> {
        match self.log.is_checkpoint_due(now, HEAD_INTERVAL, HEAD_LEAVES_MAX) {
            true => self.sign(now),
            false => Ok(None),
        }
    }

    pub(super) fn sign(&mut self, now: &Now) -> Result<Option<SignedHead>, StoreError> {
        match self.is_unsigned() {
            true => Ok(Some(self.log.sign_checkpoint(now)?)),
            false => Ok(None),
        }
    }
}

impl From<EvidenceLogError> for StoreError {
    fn from(fault: EvidenceLogError) -> Self {
        match &fault {
            EvidenceLogError::File(guan_log::LogFileFault::File { source, .. })
                if is_full(source) =>
            {
                Self::Journal(JournalError::NoSpace)
            }
            _ => Self::Log(fault),
        }
    }
}
