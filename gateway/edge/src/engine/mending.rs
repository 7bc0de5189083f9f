//! Damage of the log's sealed bundles: it is told in a leaf, and so is what comes back.
//!
//! Whoever found something, or has leaves to put back, asks here; this is the log's one writer, and it looks for
//! itself. A bundle that comes back is on the disk before the leaf that says so: a stop between the two is made up
//! for when the bundle is looked at again.

use super::{Effect, Engine, EngineError};
use bytes::Bytes;
use guan_evidence::{GapReason, LeafBody, Refill};
use guan_log::{EvidenceLog, LogFileFault, RefillFault, Refilled, SetAside};
use guan_model::{Digest, Now};
use guan_spool::Disk;

/// Most roots that are told at a time.
const ROOTS_MAX: usize = 256;

/// A bundle that somebody wants looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    pub number: u64,
    /// The log says already that it is damaged.
    pub is_told: bool,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    pub damaged: Vec<u64>,
    /// Those that are as they were sealed, or were dropped behind the mirror.
    pub whole: Vec<u64>,
    /// Of bundles from the asked number on.
    pub roots: Vec<(u64, Digest)>,
    /// The folder could not be listed, which is no damage: what is in none of the above is to be asked again.
    pub is_unlisted: bool,
}

/// What became of leaves that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefillOutcome {
    pub number: u64,
    pub fault: Option<RefillRefusal>,
}

/// Why they were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefillRefusal {
    pub text: String,
    /// They are not the leaves that were written: whoever sent them is to blame.
    pub is_senders: bool,
}

impl<D: Disk, T> Engine<D, T> {
    /// Leaves that cannot be read.
    pub(super) fn note_damage(&mut self, now: Now, from: u64, through: u64) {
        let reason = GapReason::Damage;
        self.note(now, LeafBody::LogGap { from, through, reason, refill: None });
        self.effects.push_back(Effect::Alarm(format!(
            "entries {from} to {through} of the evidence log cannot be read any more; it goes on after them, and \
             asks the space's mirror for them"
        )));
    }

    pub(super) fn handle_inspect(
        &mut self,
        now: Now,
        suspects: &[Suspect],
        roots_from: Option<u64>,
        ticket: u64,
    ) -> Result<(), EngineError> {
        let mut seen = Inspected::default();
        if let Err(fault) = self.look_at(now, suspects, roots_from, &mut seen) {
            tracing::warn!(?fault, "bundles are not looked at now");
            seen.is_unlisted = true;
        }
        self.effects.push_back(Effect::Inspected(seen));
        self.ticket = Some(ticket);
        self.commit(now)
    }

    /// The fault is that of the folder, and not of a bundle.
    fn look_at(
        &mut self,
        now: Now,
        suspects: &[Suspect],
        roots_from: Option<u64>,
        seen: &mut Inspected,
    ) -> Result<(), LogFileFault> {
        if let Some(from) = roots_from {
            seen.roots = self.evidence.roots_from(from, ROOTS_MAX)?;
        }
        for Suspect { number, is_told } in suspects.iter().copied() {
            let (from, through) = EvidenceLog::<D>::range_of(number);
            let known = self.evidence.root_of_bundle(number)?;
            match self.root_if_whole(number, known) {
                Ok(root) => {
                    seen.whole.push(number);
                    if let Some(root) = root.filter(|_| is_told) {
                        self.note_refill(now, (from, through), root);
                    }
                }
                Err(_) => {
                    seen.damaged.push(number);
                    if !is_told {
                        self.note_damage(now, from, through);
                    }
                }
            }
        }
        Ok(())
    }

    /// The root of a bundle that is here as it was sealed; `None`: it need not be here.
    fn root_if_whole(
        &self,
        number: u64,
        known: Option<Digest>,
    ) -> Result<Option<Digest>, LogFileFault> {
        let Some(root) = known else { return Ok(None) };
        self.evidence.check_bundle(number, &root)?;
        // The bundle is what counts; hashes that cannot be written now are made again at the next start.
        if let Err(fault) = self.evidence.mend_hashes(number) {
            tracing::warn!(%fault, "the hashes of bundles are not mended");
        }
        Ok(Some(root))
    }

    fn note_refill(&mut self, now: Now, (from, through): (u64, u64), root: Digest) {
        let refill = Some(Refill { root, epoch: None });
        let reason = GapReason::Damage;
        self.note(now, LeafBody::LogGap { from, through, reason, refill });
        self.effects.push_back(Effect::Alarm(format!(
            "entries {from} to {through} of the evidence log are back, as they were"
        )));
    }

    pub(super) fn handle_refill(
        &mut self,
        now: Now,
        number: u64,
        leaves: &[Bytes],
        ticket: u64,
    ) -> Result<(), EngineError> {
        let fault = match self.evidence.refill(number, leaves) {
            Ok(None) => None,
            Ok(Some(Refilled { from, through, root, set_aside })) => {
                self.note_refill(now, (from, through), root);
                if set_aside == SetAside::Full {
                    self.effects.push_back(Effect::Alarm(format!(
                        "the damaged file of entries {from} to {through} was not kept: {} are there already; take \
                         them from the folder of the log",
                        guan_log::DAMAGED_KEPT_MAX
                    )));
                }
                None
            }
            Err(fault) => Some(RefillRefusal {
                is_senders: matches!(
                    fault,
                    RefillFault::Count { .. } | RefillFault::Leaf { .. } | RefillFault::Root { .. }
                ),
                text: fault.to_string(),
            }),
        };
        self.effects.push_back(Effect::BundleRefilled(RefillOutcome { number, fault }));
        self.ticket = Some(ticket);
        self.commit(now)
    }
}
