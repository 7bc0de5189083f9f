//! Reads a log as it lies on the disk, while its writer may be running: bundles, then the journal's tail.

use crate::bundles::{Bundles, LogFileFault};
use crate::place::{Epoch, JournalPlace};
use bytes::Bytes;
use guan_evidence::bundle::BUNDLE_LEAVES_MAX;
use guan_evidence::verify::{LogVerifier, PrunedVerifier, Report, Trust};
use guan_evidence::{LogNodes, Subtrees, leaf_hash};
use guan_model::Digest;
use guan_spool::Disk;

/// What a log has next.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'l> {
    Leaf(u64, &'l [u8]),
    /// Leaves up to this one cannot be read.
    Damaged {
        through: u64,
    },
}

/// One epoch of a log.
pub struct LogReader<D: Disk> {
    bundles: Bundles<D>,
    subtrees: Subtrees,
    /// Leaves from the last bundle on.
    tail: Vec<Bytes>,
}

impl<D: Disk> LogReader<D> {
    /// `journal` holds leaves with their places, in the order in which they were written; the newest
    /// epoch that either knows is read, unless another one is asked for.
    pub fn open(
        disk: D,
        epoch: Option<Epoch>,
        journal: Vec<(u64, Bytes)>,
    ) -> Result<Self, LogFileFault> {
        let newest = Bundles::newest(disk)?;
        let places =
            journal.into_iter().map(|(number, leaf)| (JournalPlace::from_number(number), leaf));
        let places: Vec<(JournalPlace, Bytes)> = places.collect();
        let in_journal = places.iter().map(|(place, _)| place.epoch()).max();
        let epoch = epoch.unwrap_or(newest.epoch().max(in_journal.unwrap_or(Epoch::FIRST)));
        let bundles = newest.at(epoch);
        let mut size = bundles.sealed_size()?;
        let mut tail = Vec::new();
        for (place, leaf) in places {
            if place.is_of(epoch) && place.index() == size {
                tail.push(leaf);
                size += 1;
            }
        }
        // The journal forgets those of an epoch that has ended.
        let kept = bundles.tail()?.into_iter().skip(tail.len());
        tail.extend(kept);
        let subtrees = bundles.subtrees()?;
        Ok(Self { bundles, subtrees, tail })
    }

    pub fn epoch(&self) -> Epoch {
        self.bundles.epoch()
    }

    /// Index of the first leaf that is still here.
    pub fn first(&self) -> Result<u64, LogFileFault> {
        Ok(self.bundles.first()? * BUNDLE_LEAVES_MAX as u64)
    }

    /// Number of all leaves, pruned ones included.
    pub fn size(&self) -> Result<u64, LogFileFault> {
        Ok(self.bundles.sealed_size()? + self.tail.len() as u64)
    }

    pub fn checkpoint(&self) -> Result<Option<String>, LogFileFault> {
        self.bundles.checkpoint()
    }

    /// The last head that a witness cosigned, of an epoch that has ended.
    pub fn cosigned(&self) -> Result<Option<String>, LogFileFault> {
        self.bundles.cosigned()
    }

    /// Leaves of the newest signed head; 0 before the first.
    pub fn checkpoint_size(&self) -> Result<u64, LogFileFault> {
        let text = self.checkpoint()?;
        let head = text.and_then(|text| guan_evidence::Checkpoint::parse_unverified(&text).ok());
        Ok(head.map_or(0, |head| head.size))
    }

    /// The hashes of all bundles, pruned ones included.
    pub fn subtrees(&self) -> &Subtrees {
        &self.subtrees
    }

    /// The leaves of a bundle; of the last one, those that there are.
    pub fn bundle(&self, number: u64) -> Result<Vec<Bytes>, LogFileFault> {
        match number == self.bundles.count()? {
            true => Ok(self.tail.clone()),
            false => self.bundles.bundle(number),
        }
    }

    /// Shows every leaf that is here, in order, with its index, as it lies on the disk: whoever judges the
    /// log wants to see what does not fit.
    pub fn for_each(&self, handle: &mut dyn FnMut(u64, &[u8])) -> Result<(), LogFileFault> {
        let (first, count) = (self.bundles.first()?, self.bundles.count()?);
        for number in first..count {
            let start = number * BUNDLE_LEAVES_MAX as u64;
            for (index, leaf) in (start..).zip(self.bundles.as_stored(number)?) {
                handle(index, &leaf);
            }
        }
        let start = count * BUNDLE_LEAVES_MAX as u64;
        (start..).zip(&self.tail).for_each(|(index, leaf)| handle(index, leaf));
        Ok(())
    }

    /// As [`for_each`](Self::for_each), also past bundles that cannot be read: of those the last index.
    pub fn for_each_piece(&self, handle: &mut dyn FnMut(Piece<'_>)) -> Result<(), LogFileFault> {
        let (first, count) = (self.bundles.first()?, self.bundles.count()?);
        for number in first..count {
            let start = number * BUNDLE_LEAVES_MAX as u64;
            match self.bundles.as_stored(number) {
                Ok(leaves) => (start..)
                    .zip(&leaves)
                    .for_each(|(index, leaf)| handle(Piece::Leaf(index, leaf))),
                Err(LogFileFault::Bundle { .. } | LogFileFault::Pruned { .. }) => {
                    handle(Piece::Damaged { through: start + BUNDLE_LEAVES_MAX as u64 - 1 });
                }
                Err(fault) => return Err(fault),
            }
        }
        let start = count * BUNDLE_LEAVES_MAX as u64;
        (start..).zip(&self.tail).for_each(|(index, leaf)| handle(Piece::Leaf(index, leaf)));
        Ok(())
    }

    /// Whether all leaves from the first one on can be read.
    fn is_whole(&self) -> Result<bool, LogFileFault> {
        let mut is_whole = true;
        self.for_each_piece(&mut |piece| is_whole &= matches!(piece, Piece::Leaf(..)))?;
        Ok(is_whole)
    }

    /// What an auditor says of the log. Damage is a fault among the others, and what is left is judged.
    pub fn judge(
        &self,
        trust: Trust,
        handle: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Report, LogFileFault> {
        let (first, head, key) = (self.first()?, self.checkpoint()?, trust.log_key.clone());
        if first == 0 && self.is_whole()? {
            let mut verifier = LogVerifier::with_trust(trust);
            self.for_each(&mut |index, leaf| {
                verifier.handle_leaf(leaf);
                handle(index, leaf);
            })?;
            let heads: Vec<&str> = head.iter().map(String::as_str).collect();
            return Ok(verifier.finish(&heads, &key));
        }
        self.with_nodes(|nodes| {
            let mut verifier = PrunedVerifier::new(trust, first, nodes);
            self.for_each_piece(&mut |piece| match piece {
                Piece::Leaf(index, leaf) => {
                    verifier.handle_leaf(leaf);
                    handle(index, leaf);
                }
                Piece::Damaged { through } => verifier.handle_damage(through),
            })?;
            Ok(verifier.finish(head.as_deref()))
        })
    }

    /// Asks `question` with a source of hashes, for roots and proofs.
    pub fn with_nodes<T>(&self, question: impl FnOnce(&LogNodes<'_>) -> T) -> T {
        let read = |number| -> Option<Vec<Digest>> {
            let leaves = self.bundle(number).ok()?;
            Some(leaves.iter().map(|leaf| leaf_hash(leaf)).collect())
        };
        question(&LogNodes::new(&self.subtrees, &read))
    }
}
