//! Bundles that come back: from the space's mirror, or from whoever has a copy.
//!
//! Nothing is written that does not have the root which was kept here. What is replaced is copied aside first, so that
//! a crash leaves no hole: a newest bundle that is gone would make the log shorter than its signed head.
//!
//! | file | holds |
//! |---|---|
//! | `damaged-<n>`, `damaged-<n>.2` and so on | bundle `n` as it was before it was refilled; at most [`DAMAGED_KEPT_MAX`] of all epochs, and none is replaced |

use crate::bundles::{Bundles, LogFileFault, root_of};
use crate::ended::BEYOND_KEPT_MAX;
use crate::log::EvidenceLog;
use bytes::Bytes;
use guan_evidence::LEAF_BYTES_MAX;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_model::Digest;
use guan_spool::Disk;

/// Most damaged files that are kept for examination. The first stay: later ones go without a copy.
pub const DAMAGED_KEPT_MAX: usize = 16;
const DAMAGED_MARK: &str = "damaged-";

/// What became of the file that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetAside {
    Kept,
    /// [`DAMAGED_KEPT_MAX`] are kept already.
    Full,
    /// There was none, or it could not be read at all.
    Nothing,
}

/// A bundle that is here again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refilled {
    pub from: u64,
    pub through: u64,
    pub root: Digest,
    pub set_aside: SetAside,
}

/// Why leaves are not taken.
#[derive(Debug, thiserror::Error)]
pub enum RefillFault {
    #[error("bundle {number} is not sealed here: there are {bundles}")]
    Unsealed { number: u64, bundles: u64 },
    #[error("bundle {number} was dropped from this disk behind the mirror: it is not to come back")]
    Pruned { number: u64 },
    #[error("{found} leaves came for {wanted} that are wanted; whoever sent them is to blame")]
    Count { found: u64, wanted: u64 },
    #[error(
        "leaf {index} of those that came has {length} bytes; the limit is {LEAF_BYTES_MAX}; whoever sent it is to blame"
    )]
    Leaf { index: u64, length: usize },
    #[error(
        "the leaves that came have the root {found}, and {expected} was kept here: they are not those that were \
         written; whoever sent them is to blame"
    )]
    Root { expected: Digest, found: Digest },
    #[error(
        "{kept} files that lie beyond what a witness cosigned are kept, {more} more would be, and {BEYOND_KEPT_MAX} are \
         the limit; take the files beyond-* from the folder of the log, and start `guan run` anew"
    )]
    Beyond { kept: usize, more: usize },
    #[error(
        "it was not brought to its end, and {not_kept} damaged files may be gone without a copy: {DAMAGED_KEPT_MAX} are \
         there already; take them from the folder of the log"
    )]
    Stopped { not_kept: usize, source: LogFileFault },
    #[error(transparent)]
    File(#[from] LogFileFault),
}

impl<D: Disk> Bundles<D> {
    /// Whether the leaves of a bundle are here and have this root. What the disk refuses to read is not here.
    pub fn check(&self, number: u64, root: &Digest) -> Result<(), LogFileFault> {
        match root_of(&self.as_stored(number)?)? == *root {
            true => Ok(()),
            false => Err(LogFileFault::Bundle { name: self.bundle_name(number) }),
        }
    }

    /// Whether the file of hashes has this one for a bundle.
    pub fn has_hash(&self, number: u64, root: &Digest) -> bool {
        self.hash(number).is_ok_and(|known| known == Some(*root))
    }

    /// How many damaged files are kept, of all epochs.
    pub fn damaged_kept(&self) -> Result<usize, LogFileFault> {
        let names = self.names()?;
        Ok(names.iter().filter(|name| name.contains(DAMAGED_MARK)).count())
    }

    /// Names for damaged files of a bundle, in their order.
    fn asides(number: u64) -> impl Iterator<Item = String> {
        let first = format!("{DAMAGED_MARK}{number:016}");
        let later =
            (2..=DAMAGED_KEPT_MAX).map(move |copy| format!("{DAMAGED_MARK}{number:016}.{copy}"));
        std::iter::once(first).chain(later)
    }

    /// Where the next damaged file of a bundle goes; `None`: as many are kept as may be.
    fn aside(&self, number: u64) -> Result<Option<String>, LogFileFault> {
        let names = self.names()?;
        let kept = names.iter().filter(|name| name.contains(DAMAGED_MARK)).count();
        let free = |aside: &String| !names.contains(&self.name(aside));
        Ok(Self::asides(number).find(free).filter(|_| kept < DAMAGED_KEPT_MAX))
    }

    pub(crate) fn copy_aside(&self, number: u64) -> Result<SetAside, LogFileFault> {
        // What cannot be read cannot be kept either.
        let Ok(Some(bytes)) = self.bundle_file(number) else { return Ok(SetAside::Nothing) };
        // A stop after the copy and before the bundle: the same file is no second damage.
        let is_same = |aside: String| matches!(self.get(&aside), Ok(Some(kept)) if kept == bytes);
        if Self::asides(number).any(is_same) {
            return Ok(SetAside::Kept);
        }
        let Some(aside) = self.aside(number)? else { return Ok(SetAside::Full) };
        self.put(&aside, &bytes)?;
        Ok(SetAside::Kept)
    }

    /// Writes a bundle again. The caller has compared its root.
    pub(crate) fn put_back(&self, number: u64, leaves: &[Bytes]) -> Result<SetAside, LogFileFault> {
        let set_aside = self.copy_aside(number)?;
        self.write_bundle(number, leaves)?;
        Ok(set_aside)
    }
}

/// No leaf of them is longer than any of ours.
pub(crate) fn check_lengths(first: u64, leaves: &[Bytes]) -> Result<(), RefillFault> {
    let too_long = (first..).zip(leaves).find(|(_, leaf)| leaf.len() > LEAF_BYTES_MAX);
    too_long.map_or(Ok(()), |(index, leaf)| Err(RefillFault::Leaf { index, length: leaf.len() }))
}

impl<D: Disk> EvidenceLog<D> {
    /// First and last leaf of a bundle.
    pub fn range_of(number: u64) -> (u64, u64) {
        let from = number * BUNDLE_LEAVES_MAX as u64;
        (from, from + BUNDLE_LEAVES_MAX as u64 - 1)
    }

    /// The root of a sealed bundle that must be here; `None`: it was dropped, or is not sealed yet.
    pub fn root_of_bundle(&self, number: u64) -> Result<Option<Digest>, LogFileFault> {
        let is_here = number >= self.bundles().first()?;
        Ok(self.subtrees().bundle(number).filter(|_| is_here))
    }

    /// Numbers and roots of sealed bundles that must be here, from a number on.
    pub fn roots_from(
        &self,
        number: u64,
        count_max: usize,
    ) -> Result<Vec<(u64, Digest)>, LogFileFault> {
        let from = number.max(self.bundles().first()?);
        let roots = (from..self.subtrees().bundles())
            .filter_map(|number| Some((number, self.subtrees().bundle(number)?)));
        Ok(roots.take(count_max).collect())
    }

    /// Whether the leaves of a bundle are here and have this root.
    pub fn check_bundle(&self, number: u64, root: &Digest) -> Result<(), LogFileFault> {
        self.bundles().check(number, root)
    }

    /// Takes the leaves of a bundle that is damaged; `None`: it is here, as it was. The root is the one in memory,
    /// which a start has held against the signed head.
    pub fn refill(
        &mut self,
        number: u64,
        leaves: &[Bytes],
    ) -> Result<Option<Refilled>, RefillFault> {
        let bundles = self.subtrees().bundles();
        let (from, through) = match number < bundles {
            true => Self::range_of(number),
            false => return Err(RefillFault::Unsealed { number, bundles }),
        };
        let expected = self.root_of_bundle(number)?.ok_or(RefillFault::Pruned { number })?;
        let (found, wanted) = (leaves.len() as u64, BUNDLE_LEAVES_MAX as u64);
        if found != wanted {
            return Err(RefillFault::Count { found, wanted });
        }
        check_lengths(from, leaves)?;
        let found = root_of(leaves)?;
        if found != expected {
            return Err(RefillFault::Root { expected, found });
        }
        let is_whole = self.bundles().check(number, &expected).is_ok();
        let set_aside = match is_whole {
            true => None,
            false => Some(self.bundles().put_back(number, leaves)?),
        };
        self.mend_hashes(number)?;
        self.forget_sizes();
        Ok(set_aside.map(|set_aside| Refilled { from, through, root: expected, set_aside }))
    }

    /// The file of hashes has what memory has.
    pub fn mend_hashes(&self, number: u64) -> Result<(), LogFileFault> {
        let known = self.subtrees().bundle(number);
        if self.bundles().hash(number)? == known {
            return Ok(());
        }
        let all =
            (0..self.subtrees().bundles()).filter_map(|number| self.subtrees().bundle(number));
        self.bundles().replace_hashes(&all.collect::<Vec<_>>())
    }
}
