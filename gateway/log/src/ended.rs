//! An epoch that ended in loss, and what it gets back.
//!
//! The next epoch begins at once, at the start that finds the loss: a box without a link must collect, and each leaf
//! needs its place. So lost leaves never come back into the log that goes on; they come into the folder of the epoch
//! that lost them, which then proves again up to the head that a witness cosigned last. Beyond that head no mirror
//! has anything: leaves that were signed and not cosigned are gone for good, and the epoch's own head still says so.
//!
//! Invariants: leaves are compared with the cosigned head, all of them, before any is written; a stop at any point
//! leaves an epoch that asks for the same again. What lies beyond the cosigned head may be the log's and be nowhere
//! else: it is never destroyed, and where there is no place for it, nothing is written at all.
//!
//! | file | holds |
//! |---|---|
//! | `tail` | index of the first (8 bytes, big endian), then the leaves after the last bundle as one zstd frame in the bundle encoding |
//! | `cosigned` | the last head that a witness cosigned |
//! | `beyond-<n>`, `beyond-tail` (then `.2` and so on) | a bundle beyond that head, and the tail as it was, once the epoch came back; at most [`BEYOND_KEPT_MAX`] of all epochs |

use crate::bundles::{Bundles, LogFileFault, compressed, expanded, root_of, sealed_tree};
use crate::log::LogHead;
use crate::place::Epoch;
use crate::recovery::recover;
use crate::refill::{RefillFault, SetAside, check_lengths};
use bytes::Bytes;
use guan_evidence::bundle::{self, BUNDLE_LEAVES_MAX};
use guan_evidence::{Checkpoint, Lineage, Subtrees, leaf_hash};
use guan_model::Digest;
use guan_spool::Disk;

const TAIL_FILE: &str = "tail";
const COSIGNED_FILE: &str = "cosigned";
/// Most leaves that an ended epoch gets back: they are compared as a whole, so memory must hold them. The journal
/// alone loses fewer than 256.
pub const ENDED_LEAVES_MAX: u64 = 16_384;
/// Most ended epochs that are looked at, the newest first.
pub const ENDED_EPOCHS_MAX: usize = 8;
/// Most files beyond cosigned heads that are kept; they are renamed and take no room of their own.
pub const BEYOND_KEPT_MAX: usize = 1024;
const BEYOND_MARK: &str = "beyond-";
const WIDTH: u64 = BUNDLE_LEAVES_MAX as u64;

impl<D: Disk> Bundles<D> {
    /// Keeps the leaves that no bundle of this epoch will hold: the journal drops them.
    pub(crate) fn set_tail(&self, first: u64, leaves: &[Bytes]) -> Result<(), LogFileFault> {
        self.put(TAIL_FILE, &tail_file(first, leaves))
    }

    /// Files beyond cosigned heads that are kept, of all epochs.
    pub fn beyond_kept(&self) -> Result<usize, LogFileFault> {
        let names = self.names()?;
        Ok(names.iter().filter(|name| name.contains(BEYOND_MARK)).count())
    }

    /// The caller has looked whether it is one too many.
    fn move_beyond(&self, name: &str, what: &str) -> Result<(), LogFileFault> {
        let names = self.names()?;
        let first = self.name(&format!("{BEYOND_MARK}{what}"));
        let later = (2..).map(|copy: u64| format!("{first}.{copy}"));
        let mut asides = std::iter::once(first.clone()).chain(later);
        let aside = asides.find(|aside| !names.contains(aside)).expect("numbers do not end");
        self.move_aside(name, &aside)
    }

    /// The leaves after the last bundle; none, if they are damaged or of another place.
    pub(crate) fn tail(&self) -> Result<Vec<Bytes>, LogFileFault> {
        let Some(file) = self.get(TAIL_FILE)? else { return Ok(Vec::new()) };
        let first = self.sealed_size()?;
        let leaves = file.split_first_chunk::<8>().and_then(|(at, frame)| {
            let is_next = u64::from_be_bytes(*at) == first;
            is_next.then(|| expanded(frame)).flatten()
        });
        Ok(leaves.filter(|leaves| leaves.len() < BUNDLE_LEAVES_MAX).unwrap_or_default())
    }

    /// The last head of this epoch that a witness cosigned, once it has ended.
    pub fn cosigned(&self) -> Result<Option<String>, LogFileFault> {
        let file = self.get(COSIGNED_FILE)?;
        Ok(file.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(crate) fn set_cosigned(&self, note: &str) -> Result<(), LogFileFault> {
        self.put(COSIGNED_FILE, note.as_bytes())
    }
}

/// An epoch that is whole again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    /// Of the head that its leaves lead to.
    pub root: Digest,
    /// Damaged files that were not kept: [`crate::DAMAGED_KEPT_MAX`] are.
    pub not_kept: usize,
}

/// An epoch that lacks leaves which its cosigned head promises.
pub struct Ended<D: Disk> {
    bundles: Bundles<D>,
    sealed: Subtrees,
    origin: String,
    head: LogHead,
    note: String,
}

impl<D: Disk> Ended<D> {
    /// Those before `newest` that lack leaves, the newest first.
    pub fn all(
        disk: &D,
        base: &str,
        newest: Epoch,
        lineage: &Lineage,
    ) -> Result<Vec<Self>, LogFileFault> {
        let before = std::iter::successors(newest.before(), |epoch| epoch.before());
        let opened = before
            .take(ENDED_EPOCHS_MAX)
            .map(|epoch| Self::open(Bundles::of(disk.clone(), epoch), base, lineage));
        opened.filter_map(Result::transpose).collect()
    }

    fn open(
        bundles: Bundles<D>,
        base: &str,
        lineage: &Lineage,
    ) -> Result<Option<Self>, LogFileFault> {
        let origin = bundles.epoch().origin(base);
        let Some(note) = bundles.cosigned()? else { return Ok(None) };
        let Some(head) = signed_head(&note, &origin, lineage) else { return Ok(None) };
        let tail: Vec<Digest> = bundles.tail()?.iter().map(|leaf| leaf_hash(leaf)).collect();
        let sealed = recover(&bundles, Some(&head), &tail)?;
        let have = sealed.subtrees.bundles() * WIDTH + tail.len() as u64;
        let lacks = sealed.is_cut || have < head.size;
        let sealed = sealed.subtrees;
        Ok(lacks.then_some(Self { bundles, sealed, origin, head, note }))
    }

    pub fn epoch(&self) -> Epoch {
        self.bundles.epoch()
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Root of the cosigned head.
    pub fn root(&self) -> Digest {
        self.head.root
    }

    /// The cosigned head; the log's key was checked, the witness's is the caller's to check.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// First leaf that is wanted, and the one after the last: what follows the proven bundles comes whole.
    pub fn wanted(&self) -> (u64, u64) {
        (self.sealed.bundles() * WIDTH, self.head.size)
    }

    /// Whether so much is lost that it does not come back this way.
    pub fn is_too_much(&self) -> bool {
        let (from, end) = self.wanted();
        end.saturating_sub(from) > ENDED_LEAVES_MAX
    }

    /// Takes all leaves that are wanted.
    pub fn refill(&self, leaves: &[Bytes]) -> Result<Returned, RefillFault> {
        let (from, end) = self.wanted();
        let (found, wanted) = (leaves.len() as u64, end.saturating_sub(from));
        if found != wanted || self.is_too_much() {
            return Err(RefillFault::Count { found, wanted: wanted.min(ENDED_LEAVES_MAX) });
        }
        check_lengths(from, leaves)?;
        let mut tree = sealed_tree(&self.sealed);
        leaves.iter().for_each(|leaf| _ = tree.append(leaf_hash(leaf)));
        let (expected, found) = (self.head.root, tree.root());
        if found != expected {
            return Err(RefillFault::Root { expected, found });
        }
        let beyond = self.beyond(leaves)?;
        let mut not_kept = 0;
        match self.write(leaves, &beyond, &mut not_kept) {
            Err(source) if not_kept > 0 => Err(RefillFault::Stopped { not_kept, source }),
            written => Ok(written.map(|()| Returned { root: expected, not_kept })?),
        }
    }

    /// What is in the way of these leaves and must be kept, if there is a place for all of it.
    fn beyond(&self, leaves: &[Bytes]) -> Result<Beyond, RefillFault> {
        let (full, rest) = leaves.as_chunks::<BUNDLE_LEAVES_MAX>();
        let sealed = self.sealed.bundles() + full.len() as u64;
        let mut bundles = self.bundles.numbers()?;
        bundles.retain(|number| *number >= sealed);
        let tail = tail_file(sealed * WIDTH, rest);
        let has_other_tail = self.bundles.get(TAIL_FILE)?.is_some_and(|found| found != tail);
        let (kept, more) =
            (self.bundles.beyond_kept()?, bundles.len() + usize::from(has_other_tail));
        match more > 0 && kept + more > BEYOND_KEPT_MAX {
            true => Err(RefillFault::Beyond { kept, more }),
            false => Ok(Beyond { bundles, has_other_tail }),
        }
    }

    /// Counts damaged files that go without a copy.
    fn write(
        &self,
        leaves: &[Bytes],
        beyond: &Beyond,
        not_kept: &mut usize,
    ) -> Result<(), LogFileFault> {
        let (full, rest) = leaves.as_chunks::<BUNDLE_LEAVES_MAX>();
        let mut roots: Vec<Digest> =
            (0..self.sealed.bundles()).filter_map(|number| self.sealed.bundle(number)).collect();
        for leaves in full {
            let (number, root) = (roots.len() as u64, root_of(leaves)?);
            if self.bundles.check(number, &root).is_err() {
                *not_kept += usize::from(self.bundles.copy_aside(number)? == SetAside::Full);
                self.bundles.write_bundle(number, leaves)?;
            }
            roots.push(root);
        }
        let sealed = roots.len() as u64;
        // Nobody can say any more whether these are the log's.
        for number in beyond.bundles.iter().rev() {
            let name = self.bundles.bundle_name(*number);
            self.bundles.move_beyond(&name, &format!("{number:016}"))?;
        }
        self.bundles.replace_hashes(&roots)?;
        if beyond.has_other_tail {
            self.bundles.move_beyond(&self.bundles.name(TAIL_FILE), TAIL_FILE)?;
        }
        self.bundles.set_tail(sealed * WIDTH, rest)
    }
}

/// What lies where the leaves of a cosigned head do not.
struct Beyond {
    bundles: Vec<u64>,
    has_other_tail: bool,
}

fn tail_file(first: u64, leaves: &[Bytes]) -> Vec<u8> {
    let plain = bundle::encode(leaves).expect("fewer than a bundle, and each a leaf");
    let frame = compressed(&plain).expect("zstd writes into memory");
    [&first.to_be_bytes()[..], &frame].concat()
}

fn signed_head(note: &str, origin: &str, lineage: &Lineage) -> Option<LogHead> {
    let claimed = Checkpoint::parse_unverified(note).ok()?;
    let key = lineage.at(&claimed.origin, claimed.size);
    let head = Checkpoint::parse_and_verify(note, key).ok()?;
    (head.origin == origin).then_some(LogHead { size: head.size, root: head.root })
}
