//! The log of one writer: leaves in, heads out.
//!
//! Order that prevents self-made forks: entries durable, then sign, then checkpoint durable, then show
//! it to anyone. A log that has fewer leaves than its signed head promises, or other ones, ends here, and the
//! next epoch begins with a leaf that says so.

use crate::bundles::{Bundles, LogFileFault, sealed_tree};
use crate::place::{Epoch, JournalPlace};
use crate::recovery::{is_full, recover};
use bytes::Bytes;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::note::{KeyFault, NoteFault};
use guan_evidence::verify::rollover_text;
use guan_evidence::{
    Chain, Checkpoint, CheckpointError, EpochStart, GapReason, Leaf, LeafBody, Lineage, LogNodes,
    ProofFault, Subtrees, TpmStart, Tree, VerifierKey, leaf_hash, prove_consistency,
};
use guan_model::{BootNumber, Digest, Now, Signer};
use guan_spool::Disk;
use std::sync::Arc;
use std::time::Duration;

/// Most damaged bundles that are passed over for hints.
const LOOK_BACK_MAX: usize = 16;

/// Why the log cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceLogError {
    #[error(transparent)]
    File(#[from] LogFileFault),
    #[error("the log's head cannot be signed")]
    Sign(#[source] CheckpointError),
    #[error("the log's checkpoint does not verify with the key of this box")]
    Checkpoint(#[source] CheckpointError),
    #[error("the log has ended in loss too often; examine the disk and start a new state_dir")]
    Epochs,
}

impl EvidenceLogError {
    /// Whether the disk is full: nothing was lost, and the same can be tried again.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::File(LogFileFault::File { source, .. }) if is_full(source))
    }
}

/// Size and root of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHead {
    pub size: u64,
    pub root: Digest,
}

/// Leaves that a signed head promises and that the disk no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavesLost {
    pub have: u64,
    pub promised: u64,
}

/// Durable leaves that can no longer be read. Their hashes are here, so the log goes on over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavesDamaged {
    pub from: u64,
    pub through: u64,
}

impl LeavesDamaged {
    fn of_bundle(number: u64) -> Self {
        let from = number * BUNDLE_LEAVES_MAX as u64;
        Self { from, through: from + BUNDLE_LEAVES_MAX as u64 - 1 }
    }
}

/// What the leaves that a start looks at say of the TPM.
#[derive(Debug, Clone, Default)]
pub struct TpmWords {
    /// The newest start with a TPM, and the newest link of its digest over all boots after that.
    pub start: Option<TpmStart>,
    pub chain: Option<Chain>,
    /// These are all leaves of the log.
    pub are_all: bool,
}

/// A head that was signed, and what a witness needs to take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    pub text: String,
    pub size: u64,
    pub root: Digest,
    /// What the witness has cosigned, as far as is known, and the proof from there on.
    pub cosigned: u64,
    pub consistency: Vec<Digest>,
}

/// The log.
pub struct EvidenceLog<D: Disk> {
    bundles: Bundles<D>,
    subtrees: Subtrees,
    origin: String,
    signer: Arc<dyn Signer>,
    tree: Tree,
    committed: Tree,
    /// Leaves from the sealed size on.
    unsealed: Vec<Bytes>,
    checkpoint_size: u64,
    checkpoint_at: Option<Duration>,
    /// Leaves since the last signed head that are worth one of their own.
    weighty: u64,
    committed_weighty: u64,
    cosigned: u64,
    lost: Option<LeavesLost>,
    damaged: Vec<LeavesDamaged>,
    told: Vec<LeavesDamaged>,
    begun: Option<EpochStart>,
    last_boot: Option<BootNumber>,
    anchored: Option<u64>,
    chained: Option<u64>,
    tpm_words: TpmWords,
    /// Of all bundles but the last; `None` until somebody asks.
    bundle_bytes: Option<u64>,
    is_head_damaged: bool,
}

impl<D: Disk> EvidenceLog<D> {
    /// `tail` are the leaves that the journal holds from [`Self::tail_from`] on, with their places,
    /// in the order in which they were written. `base` is the name of the first epoch.
    pub fn open(
        disk: D,
        base: &str,
        signer: Arc<dyn Signer>,
        tail: Vec<(u64, Bytes)>,
    ) -> Result<Self, EvidenceLogError> {
        let key = VerifierKey::of(signer.as_ref());
        let key = key.map_err(|fault| EvidenceLogError::Checkpoint(fault.into()))?;
        let known = Known { lineage: &Lineage::new(key), spare_head: None };
        Self::open_after(disk, base, signer, known, tail)
    }

    /// As [`open`](Self::open), of a log whose heads were signed by several keys, one after the other.
    pub fn open_after(
        disk: D,
        base: &str,
        signer: Arc<dyn Signer>,
        known: Known<'_>,
        tail: Vec<(u64, Bytes)>,
    ) -> Result<Self, EvidenceLogError> {
        let on_disk = Bundles::newest(disk.clone())?;
        let tail =
            tail.into_iter().map(|(number, bytes)| (JournalPlace::from_number(number), bytes));
        let tail: Vec<(JournalPlace, Bytes)> = tail.collect();
        // An epoch may have leaves before it has files.
        let epoch = tail.iter().map(|(place, _)| place.epoch()).max();
        let epoch = epoch.unwrap_or(on_disk.epoch()).max(on_disk.epoch());
        let bundles = Bundles::of(disk, epoch);
        let (head, is_head_damaged) = known.head(&bundles, &epoch.origin(base))?;
        let unsealed = hashes_after(&tail, epoch, bundles.sealed_size()?);
        let sealed = recover(&bundles, head.as_ref(), &unsealed)?;
        let mut log = Self::of_sealed(bundles, sealed.subtrees, signer, epoch.origin(base));
        log.checkpoint_size = head.map_or(0, |head| head.size);
        log.is_head_damaged = is_head_damaged;
        log.damaged = sealed.damaged.into_iter().map(LeavesDamaged::of_bundle).collect();
        log.look_back();
        tail.into_iter().for_each(|(place, bytes)| log.take_tail(place, bytes, sealed.is_cut));
        log.committed = log.tree.clone();
        log.committed_weighty = log.weighty;
        let have = log.tree.size();
        if have < log.checkpoint_size || sealed.is_cut {
            log.keep_end(&known)?;
            log.begin_epoch(base, LeavesLost { have, promised: log.checkpoint_size })?;
        }
        Ok(log)
    }

    fn of_sealed(
        bundles: Bundles<D>,
        subtrees: Subtrees,
        signer: Arc<dyn Signer>,
        origin: String,
    ) -> Self {
        let tree = sealed_tree(&subtrees);
        Self {
            bundles,
            subtrees,
            origin,
            signer,
            committed: tree.clone(),
            tree,
            unsealed: Vec::new(),
            checkpoint_size: 0,
            checkpoint_at: None,
            weighty: 0,
            committed_weighty: 0,
            cosigned: 0,
            lost: None,
            damaged: Vec::new(),
            told: Vec::new(),
            begun: None,
            last_boot: None,
            anchored: None,
            chained: None,
            tpm_words: TpmWords::default(),
            bundle_bytes: None,
            is_head_damaged: false,
        }
    }

    /// Where the journal must be read from.
    pub fn tail_from(disk: D) -> Result<u64, EvidenceLogError> {
        let bundles = Bundles::newest(disk)?;
        Ok(JournalPlace::new(bundles.epoch(), bundles.sealed_size()?).number())
    }

    /// What the last bundle says of itself: a writer may have stopped right after it was sealed. These are
    /// hints, so one that cannot be read is passed over.
    fn look_back(&mut self) {
        let mut passed = 0;
        for number in (0..self.subtrees.bundles()).rev().take(LOOK_BACK_MAX) {
            let Ok(leaves) = self.bundles.as_stored(number) else {
                passed += 1;
                continue;
            };
            for leaf in leaves.iter().filter_map(|bytes| Leaf::decode(bytes).ok()) {
                self.last_boot = Some(leaf.boot);
                self.remember(&leaf.body);
            }
            break;
        }
        // Older words than those that cannot be read are not the last ones.
        if passed > 0 {
            self.tpm_words = TpmWords::default();
        }
        self.tpm_words.are_all = passed == 0 && self.subtrees.bundles() <= 1;
        // No bundle holds more boots than leaves: the next number is new, whatever they held.
        let boots = passed * u32::try_from(BUNDLE_LEAVES_MAX).expect("256 fits");
        self.last_boot =
            self.last_boot.map(|BootNumber(last)| BootNumber(last.saturating_add(boots)));
    }

    fn remember(&mut self, body: &LeafBody) {
        match body {
            LeafBody::TpmStart(start) => {
                self.tpm_words.start = Some(start.clone());
                self.tpm_words.chain = None;
            }
            LeafBody::Anchor(anchor) => self.anchored = Some(anchor.size),
            LeafBody::Chain(chain) => {
                self.chained = Some(chain.size);
                self.tpm_words.chain = Some(chain.clone());
            }
            LeafBody::Cosigned(cosigned) => self.cosigned = self.cosigned.max(cosigned.size),
            LeafBody::LogGap { from, through, reason: GapReason::Damage, refill } => {
                let told = LeavesDamaged { from: *from, through: *through };
                self.told.retain(|one| *one != told);
                if refill.is_none() && self.damaged.contains(&told) {
                    self.told.push(told);
                }
            }
            _ => {}
        }
    }

    fn take_tail(&mut self, place: JournalPlace, bytes: Bytes, is_cut: bool) {
        let leaf = Leaf::decode(&bytes).ok();
        self.last_boot = leaf.as_ref().map(|leaf| leaf.boot).or(self.last_boot);
        let is_next = place.is_of(self.bundles.epoch()) && place.index() == self.tree.size();
        if is_cut || !is_next {
            return;
        }
        if let Some(leaf) = &leaf {
            self.remember(&leaf.body);
        }
        if place.index() >= self.checkpoint_size {
            self.weighty += u64::from(leaf.is_none_or(|leaf| leaf.body.is_worth_a_head()));
        }
        self.tree.append(leaf_hash(&bytes));
        self.unsealed.push(bytes);
    }

    /// What the epoch that ends here still has beside its bundles, for whoever refills and reads it.
    fn keep_end(&mut self, known: &Known<'_>) -> Result<(), EvidenceLogError> {
        match self.try_keep_end(known) {
            // The box must go on; the mirror has what was cosigned.
            Err(fault) if fault.is_no_space() => Ok(()),
            kept => kept,
        }
    }

    fn try_keep_end(&mut self, known: &Known<'_>) -> Result<(), EvidenceLogError> {
        if let Some(note) = known.spare_head.filter(|note| known.read(note, &self.origin).is_ok()) {
            self.bundles.set_cosigned(note)?;
        }
        // A stop may have come before whole bundles were sealed.
        self.seal()?;
        Ok(self.bundles.set_tail(self.sealed_size(), &self.unsealed)?)
    }

    /// The log ends in loss; another one begins in its place.
    fn begin_epoch(&mut self, base: &str, lost: LeavesLost) -> Result<(), EvidenceLogError> {
        let (old, next) = (self.bundles.epoch(), self.bundles.epoch().next());
        let next = next.ok_or(EvidenceLogError::Epochs)?;
        self.begun = Some(EpochStart {
            previous: old.origin(base),
            size: lost.have,
            root: self.tree.root(),
            signed: lost.promised,
            cosigned: self.cosigned,
            reason: GapReason::Damage,
        });
        self.lost = Some(lost);
        self.bundles = self.bundles.at(next);
        self.origin = next.origin(base);
        (self.subtrees, self.tree, self.committed) = Default::default();
        (self.checkpoint_size, self.cosigned) = (0, 0);
        (self.anchored, self.chained) = (None, None);
        self.tpm_words = TpmWords::default();
        self.damaged.clear();
        self.told.clear();
        (self.weighty, self.committed_weighty) = (0, 0);
        self.unsealed.clear();
        Ok(())
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn epoch(&self) -> Epoch {
        self.bundles.epoch()
    }

    pub fn head(&self) -> LogHead {
        LogHead { size: self.committed.size(), root: self.committed.root() }
    }

    /// Size of the newest signed head.
    pub fn checkpoint_size(&self) -> u64 {
        self.checkpoint_size
    }

    /// What the last signed head promised and the disk lost.
    pub fn lost(&self) -> Option<LeavesLost> {
        self.lost
    }

    /// The signed head on the disk could not be read: it was set aside, and the log goes on from its leaves and from
    /// the spare head, if there was one.
    pub fn is_head_damaged(&self) -> bool {
        self.is_head_damaged
    }

    /// Leaves that cannot be read, as far as a start looks.
    pub fn damaged(&self) -> &[LeavesDamaged] {
        &self.damaged
    }

    /// Those of which the log does not say so yet: to be recorded after the start.
    pub fn untold(&self) -> impl Iterator<Item = LeavesDamaged> {
        self.damaged.iter().filter(|one| !self.told.contains(one)).copied()
    }

    pub(crate) fn bundles(&self) -> &Bundles<D> {
        &self.bundles
    }

    pub(crate) fn subtrees(&self) -> &Subtrees {
        &self.subtrees
    }

    /// The files took other sizes.
    pub(crate) fn forget_sizes(&mut self) {
        self.bundle_bytes = None;
    }

    /// The first leaf of this epoch, when it began just now: to be appended before any other.
    pub fn begun(&self) -> Option<&EpochStart> {
        self.begun.as_ref()
    }

    /// Sizes of the heads that the newest anchor and the newest chain leaf speak of, among the last
    /// leaves.
    pub fn last_outside(&self) -> (Option<u64>, Option<u64>) {
        (self.anchored, self.chained)
    }

    /// What those last leaves say of the TPM.
    pub fn tpm_words(&self) -> &TpmWords {
        &self.tpm_words
    }

    /// Numbers of the bundles that cannot be read, as far as a start looks.
    pub fn damaged_bundles(&self) -> Vec<u64> {
        let width = BUNDLE_LEAVES_MAX as u64;
        self.damaged.iter().map(|one| one.from / width).collect()
    }

    /// The newest boot number that the log's tail names.
    pub fn last_boot(&self) -> Option<BootNumber> {
        self.last_boot
    }

    /// Adds a leaf; it counts once the caller's commit is through. Gives its place in the journal.
    pub fn append(&mut self, now: &Now, boot: BootNumber, body: LeafBody) -> (u64, Bytes) {
        self.append_of(now, boot, None, body)
    }

    /// As [`append`](Self::append), of what somebody did; the opening of the commitment is durable already.
    pub fn append_of(
        &mut self,
        now: &Now,
        boot: BootNumber,
        actor: Option<Digest>,
        body: LeafBody,
    ) -> (u64, Bytes) {
        self.weighty += u64::from(body.is_worth_a_head());
        let leaf = Leaf { actor, ..Leaf::new(now, self.tree.size(), boot, body) };
        let bytes = Bytes::from(leaf.encode());
        let index = self.tree.append(leaf_hash(&bytes));
        assert_eq!(index, leaf.seq, "a leaf knows its index");
        self.unsealed.push(bytes.clone());
        (JournalPlace::new(self.bundles.epoch(), index).number(), bytes)
    }

    pub fn handle_committed(&mut self) {
        self.committed = self.tree.clone();
        self.committed_weighty = self.weighty;
    }

    /// The commit failed: its leaves never were.
    pub fn rollback(&mut self) {
        self.tree = self.committed.clone();
        self.weighty = self.committed_weighty;
        let kept = usize::try_from(self.committed.size() - self.sealed_size());
        self.unsealed.truncate(kept.expect("unsealed leaves fit the memory"));
    }

    fn sealed_size(&self) -> u64 {
        self.subtrees.bundles() * BUNDLE_LEAVES_MAX as u64
    }

    /// The leaves that need the journal still, with their places.
    pub fn unsealed(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        let epoch = self.bundles.epoch();
        let places = (self.sealed_size()..).map(move |index| JournalPlace::new(epoch, index));
        places.map(JournalPlace::number).zip(&self.unsealed)
    }

    /// Writes full bundles. Returns the place of the first leaf that still needs the journal.
    pub fn seal(&mut self) -> Result<Option<u64>, EvidenceLogError> {
        assert_eq!(self.tree.size(), self.committed.size(), "only durable leaves are sealed");
        let before = self.sealed_size();
        while self.unsealed.len() >= BUNDLE_LEAVES_MAX {
            // Those that find no room stay, and are sealed later.
            let full = &self.unsealed[..BUNDLE_LEAVES_MAX];
            let bytes = self.bundles.seal(&mut self.subtrees, full)?;
            self.unsealed.drain(..BUNDLE_LEAVES_MAX);
            self.bundle_bytes = self.bundle_bytes.map(|known| known + bytes);
        }
        let sealed = self.sealed_size();
        let place = JournalPlace::new(self.bundles.epoch(), sealed).number();
        Ok((sealed > before).then_some(place))
    }

    /// Whether the head has moved enough, or long enough ago, to be signed. Leaves that are not
    /// worth one ([`LeafBody::is_worth_a_head`]) make nothing due.
    pub fn is_checkpoint_due(&self, now: &Now, interval: Duration, leaves_max: u64) -> bool {
        let waited = self.checkpoint_at.is_none_or(|at| now.monotonic >= at + interval);
        self.committed_weighty > 0 && (self.committed_weighty >= leaves_max || waited)
    }

    /// Signs the durable head and makes the signature durable.
    pub fn sign_checkpoint(&mut self, now: &Now) -> Result<SignedHead, EvidenceLogError> {
        let head = self.head();
        let checkpoint =
            Checkpoint::sign(&self.origin, head.size, &head.root, self.signer.as_ref());
        let text = checkpoint.map_err(EvidenceLogError::Sign)?;
        self.bundles.set_checkpoint(&text)?;
        self.checkpoint_size = head.size;
        self.checkpoint_at = Some(now.monotonic);
        (self.weighty, self.committed_weighty) = (0, 0);
        Ok(self.with_proof(text, head))
    }

    /// The key of now over a key that is to sign from the next leaf on; that leaf must say so.
    pub fn hand_over(&self, key: &[u8; 32]) -> Result<[u8; 64], EvidenceLogError> {
        let text = rollover_text(&self.origin, self.tree.size(), key);
        let signed = self.signer.sign(text.as_bytes());
        let signed = signed.map_err(|fault| EvidenceLogError::Sign(fault.into()))?;
        signed
            .try_into()
            .map_err(|_| EvidenceLogError::Checkpoint(KeyFault::Algorithm { found: 2 }.into()))
    }

    /// Heads are signed with this key from now on. The leaf that says so is durable.
    pub fn set_signer(&mut self, signer: Arc<dyn Signer>) {
        self.signer = signer;
    }

    /// The newest signed head once more, when a witness turned out to be somewhere else.
    pub fn signed_head(&self) -> Result<Option<SignedHead>, EvidenceLogError> {
        let Some(text) = self.bundles.checkpoint()? else { return Ok(None) };
        let head = Checkpoint::parse_unverified(&text).map_err(EvidenceLogError::Checkpoint)?;
        Ok(Some(self.with_proof(text, LogHead { size: head.size, root: head.root })))
    }

    fn with_proof(&self, text: String, LogHead { size, root }: LogHead) -> SignedHead {
        // What was pruned before it was cosigned leaves no proof; then the witness is asked from 0 on,
        // and says what it has.
        let (cosigned, consistency) = match self.consistency(self.cosigned, size) {
            Ok(consistency) => (self.cosigned, consistency),
            Err(_) => (0, Vec::new()),
        };
        SignedHead { text, size, root, cosigned, consistency }
    }

    /// Hashes that prove that the head of `new` leaves continues that of `old`.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Digest>, ProofFault> {
        let read = |bundle| self.leaf_hashes(bundle);
        prove_consistency(old, new, &LogNodes::new(&self.subtrees, &read))
    }

    fn leaf_hashes(&self, bundle: u64) -> Option<Vec<Digest>> {
        let leaves = match bundle == self.subtrees.bundles() {
            true => self.unsealed.clone(),
            false => self.bundles.bundle(bundle).ok()?,
        };
        Some(leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
    }

    /// A witness has cosigned so many leaves, or says that it has.
    pub fn set_cosigned(&mut self, size: u64) {
        self.cosigned = size;
    }

    pub fn cosigned(&self) -> u64 {
        self.cosigned
    }

    /// Index of the first leaf that is still on the disk.
    pub fn first(&self) -> Result<u64, EvidenceLogError> {
        Ok(self.bundles.first()? * BUNDLE_LEAVES_MAX as u64)
    }

    /// Root of the first `size` leaves; `None` when it cannot be told from what is here.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        let read = |bundle| self.leaf_hashes(bundle);
        guan_evidence::root_at(size, &LogNodes::new(&self.subtrees, &read)).ok()
    }

    /// The first leaf that should stay so that the bundles take `bytes_max` at the most, if something may
    /// go for it: whole bundles below `outside`, a quarter of the limit at a time.
    pub fn prunable(
        &mut self,
        bytes_max: u64,
        outside: u64,
    ) -> Result<Option<u64>, EvidenceLogError> {
        if self.bundle_bytes.is_some_and(|bytes| bytes <= bytes_max) {
            return Ok(None);
        }
        let sizes = self.bundles.sizes()?;
        let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        self.bundle_bytes = Some(total);
        if total <= bytes_max {
            return Ok(None);
        }
        let (mut left, wanted) = (total, bytes_max - bytes_max / 4);
        let mut first = None;
        for (number, bytes) in sizes {
            let end = (number + 1) * BUNDLE_LEAVES_MAX as u64;
            if left <= wanted || end > outside {
                break;
            }
            left -= bytes;
            first = Some(end);
        }
        Ok(first)
    }

    /// Drops whole bundles of leaves below `first`. The caller has recorded it, and a mirror has them.
    pub fn prune(&mut self, first: u64) -> Result<(), EvidenceLogError> {
        self.bundle_bytes = None;
        Ok(self.bundles.prune(first / BUNDLE_LEAVES_MAX as u64)?)
    }
}

/// What is known of a log beside its files.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    /// The keys that signed its heads.
    pub lineage: &'k Lineage,
    /// A signed head that was kept elsewhere, such as the last one that was cosigned: in place of the log's own,
    /// where that is damaged, gone or older.
    pub spare_head: Option<&'k str>,
}

impl Known<'_> {
    /// The signed head, and whether the log's own was damaged. One that another key signed is no damage: then the
    /// key is the wrong one, and nothing may be signed with it.
    fn head<D: Disk>(
        &self,
        bundles: &Bundles<D>,
        origin: &str,
    ) -> Result<(Option<LogHead>, bool), EvidenceLogError> {
        let spare = self.spare_head.and_then(|text| self.read(text, origin).ok());
        let Some(text) = bundles.checkpoint()? else { return Ok((spare, false)) };
        match self.read(&text, origin) {
            // A head that somebody else has seen is promised, too, whatever became of the log's own file.
            Ok(head) => {
                Ok((Some(spare.filter(|spare| spare.size > head.size).unwrap_or(head)), false))
            }
            Err(fault @ CheckpointError::Note(NoteFault::OtherKeys { .. })) => {
                Err(EvidenceLogError::Checkpoint(fault))
            }
            Err(_) => {
                bundles.set_head_aside()?;
                Ok((spare, true))
            }
        }
    }

    fn read(&self, text: &str, origin: &str) -> Result<LogHead, CheckpointError> {
        let claimed = Checkpoint::parse_unverified(text)?;
        let key = self.lineage.at(&claimed.origin, claimed.size);
        let head = Checkpoint::parse_and_verify(text, key)?;
        if head.origin != origin {
            return Err(CheckpointError::Origin { origin: head.origin });
        }
        Ok(LogHead { size: head.size, root: head.root })
    }
}

/// Hashes of the leaves of an epoch that the journal has from an index on.
fn hashes_after(tail: &[(JournalPlace, Bytes)], epoch: Epoch, mut size: u64) -> Vec<Digest> {
    let mut hashes = Vec::new();
    for (place, bytes) in tail {
        if place.is_of(epoch) && place.index() == size {
            hashes.push(leaf_hash(bytes));
            size += 1;
        }
    }
    hashes
}
