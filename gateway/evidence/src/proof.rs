//! Inclusion and consistency proofs: made after RFC 6962, section 2.1, checked after RFC 9162,
//! sections 2.1.3.2 and 2.1.4.2.
//!
//! Making a proof asks for hashes of complete subtrees ([`Nodes`]), so it costs as many reads as the
//! proof has hashes when the source has them; from leaf hashes alone it reads each leaf once.
//! Checking needs the proof and the roots alone, and its work is bounded by [`PROOF_HASHES_MAX`].

use crate::subtrees::{Leaves, Nodes, range_root};
use crate::tile::TILE_WIDTH;
use crate::tree::node_hash;
use guan_model::Digest;

/// Longest proof that a tree of 2^64 leaves can need.
pub const PROOF_HASHES_MAX: usize = 65;

/// Why a proof does not hold or cannot be made; who made the proof or pruned the log is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    #[error("leaf {index} lies outside a tree of {size} leaves")]
    Index { index: u64, size: u64 },
    #[error("a tree of {new} leaves cannot continue one of {old}")]
    Shrunk { old: u64, new: u64 },
    #[error("the proof has {length} hashes, which does not fit the size of the tree")]
    Length { length: usize },
    #[error("the proof leads to root {found}, the tree has {expected}")]
    Root { found: Digest, expected: Digest },
    #[error(
        "the hashes of bundle {bundle} (leaves from {}) are not here; if it was pruned, take it from \
         a mirror, or ask for a later leaf or tree",
        bundle.saturating_mul(TILE_WIDTH)
    )]
    Missing { bundle: u64 },
}

/// Largest power of two below `count`, which is at least 2.
pub(crate) fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// Hashes that prove that leaf `index` is in the tree of the first `size` leaves, deepest first.
pub fn inclusion_proof(
    index: u64,
    size: u64,
    leaf_at: &dyn Fn(u64) -> Digest,
) -> Result<Vec<Digest>, ProofFault> {
    prove_inclusion(index, size, &Leaves(leaf_at))
}

/// As [`inclusion_proof`], from the hashes of subtrees.
pub fn prove_inclusion(
    index: u64,
    size: u64,
    nodes: &dyn Nodes,
) -> Result<Vec<Digest>, ProofFault> {
    if index >= size {
        return Err(ProofFault::Index { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Hashes that prove that the tree of `new` leaves continues the tree of `old` leaves. Empty if the
/// sizes are equal or `old` is 0.
pub fn consistency_proof(
    old: u64,
    new: u64,
    leaf_at: &dyn Fn(u64) -> Digest,
) -> Result<Vec<Digest>, ProofFault> {
    prove_consistency(old, new, &Leaves(leaf_at))
}

/// As [`consistency_proof`], from the hashes of subtrees.
pub fn prove_consistency(old: u64, new: u64, nodes: &dyn Nodes) -> Result<Vec<Digest>, ProofFault> {
    if old > new {
        return Err(ProofFault::Shrunk { old, new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    // Descends to the last node that both trees have; `start` is 0 only while it may be the old root.
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(range_root(nodes, start, middle)?);
            start = middle;
        }
    }
    if start > 0 {
        path.push(range_root(nodes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

fn compare(found: Digest, expected: &Digest) -> Result<(), ProofFault> {
    match found == *expected {
        true => Ok(()),
        false => Err(ProofFault::Root { found, expected: *expected }),
    }
}

/// Checks that a leaf is in the tree with this size and root.
pub fn verify_inclusion(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), ProofFault> {
    compare(inclusion_root(leaf_hash, index, size, proof)?, root)
}

/// The root to which an inclusion proof leads, for whoever knows it by its signature only.
pub fn inclusion_root(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
) -> Result<Digest, ProofFault> {
    if index >= size {
        return Err(ProofFault::Index { index, size });
    }
    let length = ProofFault::Length { length: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf_hash;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    Ok(hash)
}

/// Checks that the tree with the new size and root continues the one with the old.
pub fn verify_consistency(
    (old, old_root): (u64, &Digest),
    (new, new_root): (u64, &Digest),
    proof: &[Digest],
) -> Result<(), ProofFault> {
    let length = ProofFault::Length { length: proof.len() };
    if old > new {
        return Err(ProofFault::Shrunk { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(length);
        }
        let empty = Digest::of(&[]);
        return compare(*old_root, if old == 0 { &empty } else { new_root });
    }
    let (old_found, new_found) = consistency_roots((old, old_root), new, proof)?;
    compare(old_found, old_root)?;
    compare(new_found, new_root)
}

/// The roots of both trees to which a consistency proof leads, for 0 < old < new. The old root is an
/// input only where the old tree is complete and so itself the first node of the path.
pub(crate) fn consistency_roots(
    (old, old_root): (u64, &Digest),
    new: u64,
    proof: &[Digest],
) -> Result<(Digest, Digest), ProofFault> {
    assert!(0 < old && old < new, "the caller has dealt with equal and empty trees");
    let length = ProofFault::Length { length: proof.len() };
    // A complete old tree is itself the first node of the path and is not sent.
    let mut path = old.is_power_of_two().then_some(old_root).into_iter().chain(proof);
    let Some(first) = path.next() else { return Err(length) };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(length);
    }
    Ok((old_hash, new_hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{naive_root, numbered_leaves};
    use proptest::prelude::*;

    #[test]
    fn every_small_inclusion() {
        let leaves = numbered_leaves(40);
        for size in 1..=leaves.len() {
            let root = naive_root(&leaves[..size]);
            for index in 0..size {
                let at = |index: u64| leaves[usize::try_from(index).unwrap()];
                let (index, size) = (index as u64, size as u64);
                let proof = inclusion_proof(index, size, &at).unwrap();
                assert_eq!(verify_inclusion(&at(index), index, size, &proof, &root), Ok(()));
                let other = (index + 1) % size;
                if size > 1 {
                    let outcome = verify_inclusion(&at(index), other, size, &proof, &root);
                    assert!(outcome.is_err(), "leaf {index} passed as {other} of {size}");
                }
                for cut in 0..proof.len() {
                    let short = verify_inclusion(&at(index), index, size, &proof[..cut], &root);
                    assert_eq!(short, Err(ProofFault::Length { length: cut }));
                }
            }
        }
    }

    #[test]
    fn every_small_consistency() {
        let leaves = numbered_leaves(40);
        let at = |index: u64| leaves[usize::try_from(index).unwrap()];
        for new in 0..=leaves.len() {
            let new_root = naive_root(&leaves[..new]);
            for old in 0..=new {
                let old_root = naive_root(&leaves[..old]);
                let before = (old as u64, &old_root);
                let after = (new as u64, &new_root);
                let proof = consistency_proof(before.0, after.0, &at).unwrap();
                assert_eq!(verify_consistency(before, after, &proof), Ok(()), "{old} to {new}");
                let forged = Digest([0; 32]);
                assert!(verify_consistency((before.0, &forged), after, &proof).is_err());
                if old > 0 {
                    assert!(verify_consistency(before, (after.0, &forged), &proof).is_err());
                }
                let longer = [&proof[..], &[forged]].concat();
                assert!(verify_consistency(before, after, &longer).is_err(), "{old} to {new}");
            }
        }
    }

    #[test]
    fn impossible_questions() {
        let at = |_| Digest([0; 32]);
        assert_eq!(inclusion_proof(3, 3, &at), Err(ProofFault::Index { index: 3, size: 3 }));
        assert_eq!(consistency_proof(4, 3, &at), Err(ProofFault::Shrunk { old: 4, new: 3 }));
        let hash = Digest([0; 32]);
        let outcome = verify_inclusion(&hash, 3, 3, &[], &hash);
        assert_eq!(outcome, Err(ProofFault::Index { index: 3, size: 3 }));
        let many = vec![hash; PROOF_HASHES_MAX + 1];
        let outcome = verify_inclusion(&hash, u64::MAX - 1, u64::MAX, &many, &hash);
        assert_eq!(outcome, Err(ProofFault::Length { length: PROOF_HASHES_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn a_changed_proof_fails(
            size in 2_u64..300,
            index: prop::sample::Index,
            which: prop::sample::Index,
            bit in 0_usize..256,
        ) {
            let leaves = numbered_leaves(300);
            let at = |index: u64| leaves[usize::try_from(index).unwrap()];
            let count = usize::try_from(size).unwrap();
            let root = naive_root(&leaves[..count]);
            let index = index.index(count) as u64;
            let mut proof = inclusion_proof(index, size, &at).unwrap();
            let which = which.index(proof.len());
            proof[which].0[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_inclusion(&at(index), index, size, &proof, &root).is_err());
        }
    }
}
