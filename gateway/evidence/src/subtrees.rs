//! Hashes of complete subtrees, from which roots and proofs are made without reading all leaves.
//!
//! Node `(level, index)` is the root of the leaves `index * 2^level .. (index + 1) * 2^level`. A log
//! keeps 32 bytes for each full bundle of 256 leaves for ever, even after pruning ([`Subtrees`]); with
//! the leaf hashes of the one to three bundles that a question touches, [`LogNodes`] answers it.
//! Where the hashes lie is the business of the caller, who reads a bundle through a function.

use crate::proof::{ProofFault, split};
use crate::tile::{TILE_HEIGHT, TILE_WIDTH};
use crate::tree::{Levels, Tree, node_hash};
use guan_model::Digest;
use std::cell::RefCell;
use std::fmt;

/// Most bundles of one log: 2^30 leaves, 128 MiB of hashes. A log that reaches it opens a new epoch.
pub const SUBTREES_MAX: u64 = 1 << 22;
/// Bundles whose leaf hashes are kept while proofs are made: of the leaf, of the old and the new edge.
const BUNDLES_HELD: usize = 4;

/// Where proofs take hashes of complete subtrees from.
pub trait Nodes {
    /// `None` if it is not known here. A source may know some levels only: what it does not know is
    /// computed from the levels below.
    fn node(&self, level: u32, index: u64) -> Option<Digest>;
}

impl<F: Fn(u32, u64) -> Option<Digest>> Nodes for F {
    fn node(&self, level: u32, index: u64) -> Option<Digest> {
        self(level, index)
    }
}

impl Nodes for Levels {
    fn node(&self, level: u32, index: u64) -> Option<Digest> {
        Levels::node(self, level, index)
    }
}

/// A source that knows all leaves and nothing else.
pub(crate) struct Leaves<'a>(pub(crate) &'a dyn Fn(u64) -> Digest);

impl Nodes for Leaves<'_> {
    fn node(&self, level: u32, index: u64) -> Option<Digest> {
        (level == 0).then(|| (self.0)(index))
    }
}

/// A node from the source, or from its children.
pub(crate) fn node(nodes: &dyn Nodes, level: u32, index: u64) -> Result<Digest, ProofFault> {
    // Past 2^64 leaves there is nothing, and the shifts below must not overflow.
    if level >= u64::BITS || index.leading_zeros() < level {
        return Err(ProofFault::Missing { bundle: u64::MAX / TILE_WIDTH });
    }
    match nodes.node(level, index) {
        Some(hash) => Ok(hash),
        None if level == 0 => Err(ProofFault::Missing { bundle: index / TILE_WIDTH }),
        None => {
            let left = node(nodes, level - 1, index * 2)?;
            Ok(node_hash(&left, &node(nodes, level - 1, index * 2 + 1)?))
        }
    }
}

/// Root of the leaves `start..end`, where `start` is a multiple of a power of two not below the count.
pub(crate) fn range_root(nodes: &dyn Nodes, start: u64, end: u64) -> Result<Digest, ProofFault> {
    match end - start {
        0 => Ok(Digest::of(&[])),
        count if count.is_power_of_two() => {
            let level = count.trailing_zeros();
            node(nodes, level, start >> level)
        }
        count => {
            let middle = start + split(count);
            let left = range_root(nodes, start, middle)?;
            Ok(node_hash(&left, &range_root(nodes, middle, end)?))
        }
    }
}

/// Root of the tree of the first `size` leaves.
pub fn root_at(size: u64, nodes: &dyn Nodes) -> Result<Digest, ProofFault> {
    range_root(nodes, 0, size)
}

/// Why stored hashes of bundles cannot be used; whoever wrote or cut the file is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubtreesFault {
    #[error("{length} bytes are no whole number of 32-byte hashes; cut the torn last one off")]
    Torn { length: usize },
    #[error("a log has at most {SUBTREES_MAX} bundles; open a new log that names this one")]
    TooMany,
    #[error("a bundle is sealed at {TILE_WIDTH} leaves, this one has {leaves}")]
    NotFull { leaves: usize },
}

/// The root of each full bundle: 32 bytes each as stored, 64 in memory. It only grows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subtrees(Levels);

impl Subtrees {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the stored hashes, one after another.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SubtreesFault> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(SubtreesFault::Torn { length: bytes.len() });
        }
        check_count(hashes.len() as u64)?;
        let mut subtrees = Self::new();
        hashes.iter().for_each(|hash| subtrees.0.append(Digest(*hash)));
        Ok(subtrees)
    }

    /// Seals the next bundle by the hashes of its leaves: its root, which is what to store.
    pub fn seal(&mut self, leaf_hashes: &[Digest]) -> Result<Digest, SubtreesFault> {
        let root = bundle_root(leaf_hashes)?;
        self.push(root)?;
        Ok(root)
    }

    /// Takes the root of the next bundle, which is stored already.
    pub fn push(&mut self, root: Digest) -> Result<(), SubtreesFault> {
        check_count(self.bundles() + 1)?;
        self.0.append(root);
        Ok(())
    }

    pub fn bundles(&self) -> u64 {
        self.0.size()
    }

    /// The root of one bundle, to check a bundle that comes back from a mirror.
    pub fn bundle(&self, index: u64) -> Option<Digest> {
        self.0.node(0, index)
    }
}

/// The root of a full bundle by the hashes of its leaves.
pub fn bundle_root(leaf_hashes: &[Digest]) -> Result<Digest, SubtreesFault> {
    match leaf_hashes.len() as u64 == TILE_WIDTH {
        true => Ok(subtree_root(leaf_hashes)),
        false => Err(SubtreesFault::NotFull { leaves: leaf_hashes.len() }),
    }
}

fn check_count(bundles: u64) -> Result<(), SubtreesFault> {
    (bundles <= SUBTREES_MAX).then_some(()).ok_or(SubtreesFault::TooMany)
}

fn subtree_root(leaf_hashes: &[Digest]) -> Digest {
    let mut tree = Tree::new();
    for hash in leaf_hashes {
        tree.append(*hash);
    }
    tree.root()
}

/// Knows the roots of full bundles, and reads the leaf hashes of a bundle when it needs them.
pub struct LogNodes<'a> {
    subtrees: &'a Subtrees,
    /// The leaf hashes of a bundle, all that the log has of it; `None` if they were pruned.
    read: &'a dyn Fn(u64) -> Option<Vec<Digest>>,
    held: RefCell<Vec<(u64, Vec<Digest>)>>,
}

impl fmt::Debug for LogNodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogNodes")
            .field("bundles", &self.subtrees.bundles())
            .finish_non_exhaustive()
    }
}

impl<'a> LogNodes<'a> {
    pub fn new(subtrees: &'a Subtrees, read: &'a dyn Fn(u64) -> Option<Vec<Digest>>) -> Self {
        Self { subtrees, read, held: RefCell::default() }
    }

    /// Root of some leaves of one bundle.
    fn within_bundle(&self, bundle: u64, leaves: std::ops::Range<usize>) -> Option<Digest> {
        let mut held = self.held.borrow_mut();
        let at = held.iter().position(|(number, _)| *number == bundle);
        let at = match at {
            Some(at) => at,
            None => {
                let hashes = (self.read)(bundle)?;
                if held.len() == BUNDLES_HELD {
                    held.remove(0);
                }
                held.push((bundle, hashes));
                held.len() - 1
            }
        };
        held[at].1.get(leaves).map(subtree_root)
    }
}

impl Nodes for LogNodes<'_> {
    fn node(&self, level: u32, index: u64) -> Option<Digest> {
        if let Some(above) = level.checked_sub(TILE_HEIGHT) {
            return self.subtrees.0.node(above, index);
        }
        let first = index << level;
        let start = usize::try_from(first % TILE_WIDTH).ok()?;
        self.within_bundle(first / TILE_WIDTH, start..start + (1 << level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{naive_root, numbered_leaves};
    use crate::{consistency_proof, inclusion_proof, prove_consistency, prove_inclusion};
    use proptest::prelude::*;
    use std::cell::Cell;

    fn sealed(leaves: &[Digest]) -> Subtrees {
        let mut subtrees = Subtrees::new();
        for bundle in leaves.chunks_exact(256) {
            subtrees.seal(bundle).unwrap();
        }
        subtrees
    }

    fn bundle(leaves: &[Digest], number: u64) -> Option<Vec<Digest>> {
        leaves.chunks(256).nth(usize::try_from(number).unwrap()).map(<[Digest]>::to_vec)
    }

    #[test]
    fn stored_hashes_come_back() {
        let leaves = numbered_leaves(600);
        let mut subtrees = Subtrees::new();
        let mut bytes = Vec::new();
        for bundle in leaves.chunks_exact(256) {
            let root = subtrees.seal(bundle).unwrap();
            assert_eq!(root, naive_root(bundle));
            bytes.extend_from_slice(&root.0);
        }
        assert_eq!(Subtrees::from_bytes(&bytes), Ok(subtrees.clone()));
        assert_eq!(subtrees.bundle(1), Some(naive_root(&leaves[256..512])));
        assert_eq!(subtrees.bundle(2), None);
        let torn = Subtrees::from_bytes(&bytes[..63]);
        assert_eq!(torn, Err(SubtreesFault::Torn { length: 63 }));
        let short = subtrees.seal(&leaves[512..]);
        assert_eq!(short, Err(SubtreesFault::NotFull { leaves: 88 }));
        assert_eq!(check_count(SUBTREES_MAX), Ok(()));
        assert_eq!(check_count(SUBTREES_MAX + 1), Err(SubtreesFault::TooMany));
    }

    #[test]
    fn a_question_reads_three_bundles_at_most() {
        let leaves = numbered_leaves(256 * 40 + 17);
        let subtrees = sealed(&leaves);
        let reads = Cell::new(0);
        let read = |number| {
            reads.set(reads.get() + 1);
            bundle(&leaves, number)
        };
        let nodes = LogNodes::new(&subtrees, &read);
        let size = leaves.len() as u64;
        prove_inclusion(3000, size, &nodes).unwrap();
        assert_eq!(reads.replace(0), 2, "the bundle of the leaf and the last one");
        prove_consistency(5000, size - 1, &LogNodes::new(&subtrees, &read)).unwrap();
        assert_eq!(reads.replace(0), 2, "the bundles at both edges");
        root_at(256 * 33, &LogNodes::new(&subtrees, &read)).unwrap();
        assert_eq!(reads.get(), 0);
    }

    #[test]
    fn what_was_pruned_is_named() {
        let leaves = numbered_leaves(256 * 5 + 10);
        let subtrees = sealed(&leaves);
        let read = |number| (number >= 3).then(|| bundle(&leaves, number)).flatten();
        let nodes = LogNodes::new(&subtrees, &read);
        let size = leaves.len() as u64;
        let missing = |bundle| ProofFault::Missing { bundle };
        assert_eq!(prove_inclusion(600, size, &nodes), Err(missing(2)));
        assert_eq!(prove_consistency(700, size, &nodes), Err(missing(2)));
        assert_eq!(root_at(511, &nodes), Err(missing(1)));
        assert!(prove_inclusion(256 * 3, size, &nodes).is_ok());
        assert!(prove_consistency(512, size, &nodes).is_ok());
        assert_eq!(root_at(size, &nodes), Ok(naive_root(&leaves)));
        // Past the end nothing is known, however large the question.
        assert_eq!(root_at(size + 1, &nodes), Err(missing(5)));
        assert!(matches!(root_at(u64::MAX, &nodes), Err(ProofFault::Missing { .. })));
        let far = prove_inclusion(u64::MAX - 1, u64::MAX, &nodes);
        assert!(matches!(far, Err(ProofFault::Missing { .. })));
        assert!(node(&nodes, 64, 0).is_err());
        assert!(node(&nodes, 63, 2).is_err());
        let text = missing(2).to_string();
        assert!(text.contains("bundle 2 (leaves from 512)"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every source gives the same proofs: bundles, tiles of each eighth level, plain leaves.
        #[test]
        fn sources_agree(size in 1_u64..1500, index: prop::sample::Index, old: prop::sample::Index) {
            let count = usize::try_from(size).unwrap();
            let leaves = numbered_leaves(1500);
            let at = |index: u64| leaves[usize::try_from(index).unwrap()];
            let (index, old) = (index.index(count) as u64, old.index(count) as u64);
            let subtrees = sealed(&leaves);
            let read = |number| bundle(&leaves, number);
            let bundles = LogNodes::new(&subtrees, &read);
            let tiles = |level: u32, index| {
                (level.is_multiple_of(8)).then(|| bundles.node(level, index)).flatten()
            };
            let inclusion = inclusion_proof(index, size, &at).unwrap();
            let consistency = consistency_proof(old, size, &at).unwrap();
            let sources: [&dyn Nodes; 2] = [&bundles, &tiles];
            for nodes in sources {
                prop_assert_eq!(&prove_inclusion(index, size, nodes).unwrap(), &inclusion);
                prop_assert_eq!(&prove_consistency(old, size, nodes).unwrap(), &consistency);
                prop_assert_eq!(root_at(size, nodes).unwrap(), naive_root(&leaves[..count]));
            }
        }
    }
}
