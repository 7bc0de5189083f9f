//! Rules about the leaves that tie a log to what is outside it: TPM, witnesses, earlier logs, keys.
//!
//! A key is handed over by the old one, which signs the new key and the place, and quoted by the TPM where one
//! is believed: a thief of the old key does not have that. The first head with the leaf proves that somebody
//! has the new key.

use super::attested::{KeyChange, RootAt, TpmReplay};
use super::trust::{Bracket, Remark, Trust, handover_text, rollover_text};
use super::{FAULTS_MAX, Fault, Faults};
use crate::checkpoint::head_text;
use crate::cosignature::cosigned_line;
use crate::leaf::{Anchor, Chain, Cosigned, GapReason, KeyRollover, Leaf, LeafBody, TpmStart};
use crate::note::{Note, NoteKey, VerifierKey};
use guan_model::{BootNumber, Digest};
use std::time::Duration;

/// Most keys that a log may have had.
pub const LOG_KEYS_MAX: usize = 4096;

/// What holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vouched {
    /// Quotes over heads, heads in the chain over all boots, cosignatures: how many hold.
    pub anchors: u64,
    pub chained: u64,
    pub cosigned: u64,
    /// The largest heads that they speak of.
    pub anchored_size: u64,
    pub cosigned_size: u64,
}

/// State of one boot as far as anchors go.
#[derive(Debug, Default)]
struct Current {
    boot: Option<BootNumber>,
    has_tpm: bool,
    is_asked: bool,
    /// First leaf since the last anchor, and when.
    open: Option<(u64, Duration)>,
    is_told: bool,
}

/// Follows the outside leaves.
#[derive(Debug)]
pub(super) struct Outside {
    trust: Trust,
    replay: TpmReplay,
    current: Current,
    vouched: Vouched,
    remarks: Vec<Remark>,
    /// Keys and the size from which on they sign.
    keys: Vec<(u64, VerifierKey)>,
    last_cosigned_s: Option<u64>,
    brackets: Vec<(Bracket, u64)>,
    /// First leaf that is here, where those before it are not.
    cut: Option<u64>,
    /// Statements about heads whose root cannot be told any more.
    untold: u64,
}

impl Outside {
    /// Of a log of which the leaves from `first` on are left.
    pub(super) fn from_leaf(trust: Trust, first: u64) -> Self {
        Self { cut: Some(first), ..Self::new(trust) }
    }

    /// Name of the log.
    pub(super) fn origin(&self) -> &str {
        &self.trust.origin
    }

    /// Whether a root is not to be had because leaves left the disk: then nothing can be held against it.
    fn is_untold(&mut self, body: &LeafBody, root_of: RootAt<'_>) -> bool {
        let Some(first) = self.cut else { return false };
        let sizes: &[u64] = match body {
            LeafBody::Anchor(anchor) => &anchor.trail,
            _ => &[],
        };
        let about = match body {
            LeafBody::Anchor(Anchor { size, .. })
            | LeafBody::Chain(Chain { size, .. })
            | LeafBody::Cosigned(Cosigned { size, .. }) => Some(size),
            _ => None,
        };
        let mut all = sizes.iter().chain(about);
        let is_untold = all.any(|size| *size < first && root_of(*size).is_none());
        self.untold += u64::from(is_untold);
        is_untold
    }

    /// Leaves are missing from here on.
    pub(super) fn handle_damage(&mut self) {
        self.replay.forget();
        self.current.open = None;
    }

    pub(super) fn new(trust: Trust) -> Self {
        let mut remarks = Vec::new();
        if trust.attestation_keys.is_empty() && trust.witnesses.is_empty() {
            remarks.push(Remark::OwnWordOnly);
        }
        Self {
            keys: vec![(0, trust.log_key.clone())],
            trust,
            replay: TpmReplay::default(),
            current: Current::default(),
            vouched: Vouched::default(),
            remarks,
            last_cosigned_s: None,
            brackets: Vec::new(),
            cut: None,
            untold: 0,
        }
    }

    /// The key that signs heads of so many leaves.
    pub(super) fn key_at(&self, size: u64) -> &VerifierKey {
        let after = self.keys.partition_point(|(from, _)| *from <= size);
        &self.keys[after - 1].1
    }

    fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < FAULTS_MAX {
            self.remarks.push(remark);
        }
    }

    /// `root_of` gives the roots of all sizes up to this leaf's.
    pub(super) fn handle(
        &mut self,
        index: u64,
        leaf: &Leaf,
        root_of: RootAt<'_>,
        faults: &mut Faults,
    ) {
        self.note_boot(index, leaf, faults);
        let root_at = |size| if size <= index { root_of(size) } else { None };
        if let (Some(_), LeafBody::Anchor(Anchor { quote: said, .. }))
        | (Some(_), LeafBody::Chain(Chain { certified: said, .. })) = (self.cut, &leaf.body)
        {
            self.replay.adopt(said, &self.trust);
        }
        if self.is_untold(&leaf.body, &root_at) {
            self.replay.pass_over(&leaf.body);
            return self.note_open(index, leaf);
        }
        let origin = self.trust.origin.clone();
        let about = (origin.as_str(), index);
        match &leaf.body {
            // Words of those whom nobody believes prove nothing, for or against.
            LeafBody::TpmStart(_) | LeafBody::Anchor(_) | LeafBody::Chain(_)
                if self.trust.attestation_keys.is_empty() => {}
            LeafBody::Cosigned(_) if self.trust.witnesses.is_empty() => {}
            LeafBody::TpmStart(start) => self.handle_start(index, leaf.boot, start, faults),
            LeafBody::Anchor(anchor) => match self.replay.handle_anchor(anchor, about, &root_at) {
                Ok(()) => {
                    self.vouched.anchors += 1;
                    let size = &mut self.vouched.anchored_size;
                    *size = (*size).max(anchor.size);
                    (self.current.open, self.current.is_told) = (None, false);
                }
                Err(source) => faults.add(Fault::Statement { index, source }),
            },
            LeafBody::Chain(chain) => match self.replay.handle_chain(chain, about, &root_at) {
                Ok(()) => self.vouched.chained += 1,
                Err(source) => faults.add(Fault::Statement { index, source }),
            },
            LeafBody::Cosigned(cosigned) => {
                self.handle_cosigned(index, cosigned, &root_at, faults);
            }
            LeafBody::KeyRollover(rollover) => self.handle_rollover(index, rollover, faults),
            LeafBody::EpochStart(epoch) => {
                let (previous, size) = (epoch.previous.clone(), epoch.size);
                self.remark(Remark::Epoch { index, previous, size });
            }
            LeafBody::Prune(prune) => {
                if root_at(prune.first).is_some_and(|root| root != prune.root) {
                    faults.add(Fault::Pruned { index, first: prune.first });
                }
                self.remark(Remark::Pruned { index, first: prune.first });
            }
            LeafBody::LogGap { reason: GapReason::RolledBack, .. } => {
                faults.add(Fault::RolledBack { index });
            }
            _ => {}
        }
        self.note_open(index, leaf);
    }

    /// A boot that begins, and the TPM that a boot before it owed.
    fn note_boot(&mut self, index: u64, leaf: &Leaf, faults: &mut Faults) {
        if self.current.boot != Some(leaf.boot) {
            self.end_boot(index, faults);
            // The TPM of the boot that is cut through was told in a leaf that is gone.
            let has_tpm = self.cut.is_some() && self.current.boot.is_none();
            self.current = Current { boot: Some(leaf.boot), has_tpm, ..Current::default() };
            let not_before_s = self.last_cosigned_s;
            let bracket = Bracket { boot: leaf.boot, not_before_s, not_after_s: None };
            if self.brackets.len() < FAULTS_MAX {
                self.brackets.push((bracket, index));
            }
        }
        self.current.has_tpm |= matches!(leaf.body, LeafBody::TpmStart(_));
        // A start alone may have been cut off before the TPM had answered.
        self.current.is_asked |= !leaf.body.is_bookkeeping()
            && !matches!(
                leaf.body,
                LeafBody::Start { .. } | LeafBody::EpochStart(_) | LeafBody::Salvage(_)
            );
        if let Some((_, last)) = self.brackets.last_mut() {
            *last = index;
        }
    }

    fn end_boot(&mut self, index: u64, faults: &mut Faults) {
        let owed = !self.trust.attestation_keys.is_empty();
        if let Some(boot) = self.current.boot
            && owed
            && self.current.is_asked
            && !self.current.has_tpm
        {
            faults.add(Fault::NoTpm { index, boot });
        }
    }

    fn handle_start(
        &mut self,
        index: u64,
        boot: BootNumber,
        start: &TpmStart,
        faults: &mut Faults,
    ) {
        self.report_unexplained(faults);
        if self.trust.attestation_key(&start.attestation_key).is_none() {
            let found = start.attestation_key;
            faults.add(Fault::OtherTpm { index, found });
        }
        let started = self.replay.handle_start(index, start, &self.trust);
        if let Some(last) = started.back_from {
            faults.add(Fault::ResetsBack { index, found: start.resets, last });
        }
        let is_alone = matches!(started.change, KeyChange::First | KeyChange::Untied);
        let missing = started.missing;
        let remarks = [
            (missing > 0, Remark::MissingBoots { boot, missing }),
            (started.change == KeyChange::Tied, Remark::KeyChanged { index }),
            (started.change == KeyChange::Untied, Remark::UntiedKey { index }),
            (is_alone && start.chain.is_some() && self.cut.is_none(), Remark::EarlierLog { index }),
            (started.has_trail, Remark::TrailAtStart { index }),
        ];
        remarks.into_iter().filter(|(holds, _)| *holds).for_each(|(_, one)| self.remark(one));
    }

    fn report_unexplained(&self, faults: &mut Faults) {
        if let Some((index, found, expected)) = self.replay.unexplained() {
            faults.add(Fault::ChainAtStart { index, found, expected });
        }
    }

    fn handle_cosigned(
        &mut self,
        index: u64,
        cosigned: &Cosigned,
        root_at: &dyn Fn(u64) -> Option<Digest>,
        faults: &mut Faults,
    ) {
        let is_named = |key: &&crate::CosignatureKey| {
            key.name() == cosigned.witness && key.id() == cosigned.key_id
        };
        let Some(key) = self.trust.witnesses.iter().find(is_named) else {
            let witness = cosigned.witness.clone();
            return self.remark(Remark::UnknownWitness { index, witness });
        };
        let root = root_at(cosigned.size);
        let holds = root.is_some_and(|root| {
            let text = head_text(&self.trust.origin, cosigned.size, &root);
            let note = format!("{text}\n{}", cosigned_line(cosigned));
            Note::parse(&note).is_ok_and(|note| note.verify(key).is_ok())
        });
        if !holds {
            let (witness, size) = (cosigned.witness.clone(), cosigned.size);
            return faults.add(Fault::Cosigned { index, witness, size });
        }
        self.vouched.cosigned += 1;
        self.vouched.cosigned_size = self.vouched.cosigned_size.max(cosigned.size);
        self.last_cosigned_s = Some(cosigned.timestamp_s);
        for (bracket, last) in &mut self.brackets {
            if *last < cosigned.size && bracket.not_after_s.is_none() {
                bracket.not_after_s = Some(cosigned.timestamp_s);
            }
        }
    }

    fn handle_rollover(&mut self, index: u64, rollover: &KeyRollover, faults: &mut Faults) {
        let old = self.key_at(index);
        let text = rollover_text(&self.trust.origin, index, &rollover.key);
        let handed_over = handover_text(&self.trust.origin, &old.key_bytes(), &rollover.key);
        let new = VerifierKey::new(old.name(), rollover.key);
        let is_signed = old.holds(text.as_bytes(), &rollover.by_old);
        match new {
            Ok(new) if is_signed && self.keys.len() < LOG_KEYS_MAX => {
                self.keys.push((index + 1, new));
            }
            _ => faults.add(Fault::Rollover { index }),
        }
        // A thief of the old key signs, too; the TPM is what he does not have.
        if !self.trust.attestation_keys.is_empty()
            && let Err(source) = self.replay.handle_rollover(rollover.quote.as_ref(), &handed_over)
        {
            faults.add(Fault::Statement { index, source });
        }
    }

    /// Leaves that wait for an anchor.
    fn note_open(&mut self, index: u64, leaf: &Leaf) {
        if leaf.body.is_bookkeeping() || !self.current.has_tpm {
            return;
        }
        let (from, since) = *self.current.open.get_or_insert((index, leaf.monotonic));
        let limit = self.trust.anchor_interval;
        if leaf.monotonic.saturating_sub(since) > limit && !self.current.is_told {
            self.current.is_told = true;
            self.remark(Remark::Unanchored { boot: leaf.boot, from, limit });
        }
    }

    /// What is left to say once the last leaf is here.
    pub(super) fn finish(
        mut self,
        entries: u64,
        faults: &mut Faults,
    ) -> (Vec<Remark>, Vec<Bracket>, Vouched) {
        self.end_boot(entries, faults);
        self.report_unexplained(faults);
        let vouched = self.vouched.anchored_size.max(self.vouched.cosigned_size);
        let is_asked = !self.trust.attestation_keys.is_empty() || !self.trust.witnesses.is_empty();
        if is_asked && vouched < entries {
            self.remark(Remark::OpenEnd { from: vouched });
        }
        if self.untold > 0 {
            self.remark(Remark::Untold { statements: self.untold });
        }
        let brackets = self.brackets.into_iter().map(|(bracket, _)| bracket).collect();
        (self.remarks, brackets, self.vouched)
    }
}
