//! What is left of a log's sealed bundles when it is opened: leaves, hashes and the signed head are held
//! against each other, and what one lost is made from the others.
//!
//! A bundle that cannot be read leaves its hash, so the log goes on and the caller records the loss. Where
//! the hash is gone too, or nothing here leads to the signed head, the log ends.

use crate::bundles::{Bundles, LogFileFault, root_of};
use crate::log::LogHead;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::{LogNodes, Subtrees, leaf_hash, root_at};
use guan_model::Digest;
use guan_spool::Disk;
use std::io;

const WIDTH: u64 = BUNDLE_LEAVES_MAX as u64;

/// The bundles on which a log goes on.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) subtrees: Subtrees,
    /// Those whose leaves are gone, among those that were looked at: the last one, and all that reach
    /// beyond the signed head.
    pub(crate) damaged: Vec<u64>,
    /// Nothing can be built on what comes after `subtrees`.
    pub(crate) is_cut: bool,
}

/// Roots of bundles, from the first on.
struct Roots {
    of: Vec<Digest>,
    /// The file of hashes has these and no other.
    is_stored: bool,
}

/// `unsealed` are the hashes of the leaves that the journal has after the last bundle.
pub(crate) fn recover<D: Disk>(
    bundles: &Bundles<D>,
    head: Option<&LogHead>,
    unsealed: &[Digest],
) -> Result<Sealed, LogFileFault> {
    let (mut roots, is_complete) = complete(bundles)?;
    if !is_complete {
        return cut(&roots.of);
    }
    if let Some(head) = head
        && let Err(place) = compare(bundles, &mut roots, head, unsealed)?
    {
        return cut(&roots.of[..place]);
    }
    let damaged = look_beyond(bundles, &mut roots, head.map_or(0, |head| head.size))?;
    match (!roots.is_stored).then(|| bundles.replace_hashes(&roots.of)) {
        // Memory has them; they are written with the next bundle, or made again at the next start.
        Some(Err(LogFileFault::File { source, .. })) if is_full(&source) => {}
        Some(written) => written?,
        None => {}
    }
    Ok(Sealed { subtrees: subtrees_of(&roots.of)?, damaged, is_cut: false })
}

impl<D: Disk> Bundles<D> {
    /// The hashes of all sealed bundles. What a crash left out is made from the bundles and written.
    pub fn recover_subtrees(&self) -> Result<Subtrees, LogFileFault> {
        let (roots, is_complete) = complete(self)?;
        if !is_complete {
            let number = roots.of.len() as u64;
            // Says which bundle is damaged, or gone.
            self.as_stored(number)?;
            return Err(LogFileFault::Subtrees);
        }
        if !roots.is_stored {
            self.replace_hashes(&roots.of)?;
        }
        subtrees_of(&roots.of)
    }
}

pub(crate) fn is_full(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn cut(roots: &[Digest]) -> Result<Sealed, LogFileFault> {
    Ok(Sealed { subtrees: subtrees_of(roots)?, damaged: Vec::new(), is_cut: true })
}

fn subtrees_of(roots: &[Digest]) -> Result<Subtrees, LogFileFault> {
    let mut subtrees = Subtrees::new();
    roots.iter().try_for_each(|root| subtrees.push(*root)).map_err(|_| LogFileFault::Subtrees)?;
    Ok(subtrees)
}

/// One root for each bundle; `false` if those from some place on are known to nobody.
fn complete<D: Disk>(bundles: &Bundles<D>) -> Result<(Roots, bool), LogFileFault> {
    let count = bundles.count()?;
    let mut of = bundles.hashes()?;
    let mut is_stored = of.len() as u64 == count;
    // A hash without its bundle was never promised to anybody.
    of.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    while (of.len() as u64) < count {
        is_stored = false;
        match root_in(bundles, of.len() as u64) {
            Some(root) => of.push(root),
            None => return Ok((Roots { of, is_stored }, false)),
        }
    }
    Ok((Roots { of, is_stored }, true))
}

/// The root of a bundle by its leaves.
fn root_in<D: Disk>(bundles: &Bundles<D>, number: u64) -> Option<Digest> {
    root_of(&bundles.as_stored(number).ok()?).ok()
}

/// Holds the roots against the signed head, and makes them from the leaves if they do not lead to it.
/// The inner error is the place from which on nothing is proven.
fn compare<D: Disk>(
    bundles: &Bundles<D>,
    roots: &mut Roots,
    head: &LogHead,
    unsealed: &[Digest],
) -> Result<Result<(), usize>, LogFileFault> {
    if root_by(bundles, &roots.of, unsealed, head.size)? == Some(head.root) {
        return Ok(Ok(()));
    }
    let from_leaves = (0..).zip(&roots.of);
    let from_leaves = from_leaves.map(|(number, known)| root_in(bundles, number).unwrap_or(*known));
    let remade: Vec<Digest> = from_leaves.collect();
    let differs = remade.iter().zip(&roots.of).position(|(one, other)| one != other);
    match root_by(bundles, &remade, unsealed, head.size)? {
        Some(root) if root == head.root => {
            *roots = Roots { of: remade, is_stored: false };
            Ok(Ok(()))
        }
        // The leaves at the head's edge are gone, and nothing speaks against the others.
        None if differs.is_none() => Ok(Ok(())),
        _ => Ok(Err(differs.unwrap_or(0))),
    }
}

/// Root of the first `size` leaves; `None` if some at the edge are not here.
fn root_by<D: Disk>(
    bundles: &Bundles<D>,
    roots: &[Digest],
    unsealed: &[Digest],
    size: u64,
) -> Result<Option<Digest>, LogFileFault> {
    let subtrees = subtrees_of(roots)?;
    let read = |number| match number == subtrees.bundles() {
        true => Some(unsealed.to_vec()),
        false => {
            let leaves = bundles.as_stored(number).ok()?;
            Some(leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
        }
    };
    Ok(root_at(size, &LogNodes::new(&subtrees, &read)).ok())
}

/// Bundles that the signed head of `size` leaves does not cover, and the last one. No head speaks for their
/// hashes, so the leaves do.
fn look_beyond<D: Disk>(
    bundles: &Bundles<D>,
    roots: &mut Roots,
    size: u64,
) -> Result<Vec<u64>, LogFileFault> {
    let count = roots.of.len() as u64;
    let mut damaged = Vec::new();
    // Without a head all are looked at that were not pruned.
    let from = (size / WIDTH).min(count.saturating_sub(1)).max(bundles.first()?);
    for number in from..count {
        let known = &mut roots.of[usize::try_from(number).expect("it has a place in memory")];
        match root_in(bundles, number) {
            Some(root) if root == *known => {}
            Some(root) if (number + 1) * WIDTH > size => {
                (*known, roots.is_stored) = (root, false);
            }
            _ => damaged.push(number),
        }
    }
    Ok(damaged)
}
