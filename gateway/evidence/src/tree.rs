//! The Merkle tree of RFC 6962, section 2.1, as its right edge.
//!
//! The tree keeps one hash for each complete subtree along the right edge, at most 64, which is all
//! that appending and the root need. Leaves themselves are the business of whoever stores them.

use guan_model::Digest;

/// Hash of a leaf from its bytes.
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], bytes])
}

/// Hash of an inner node from its children.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// A tree that only grows. Cloning copies at most 2 KiB, so that a commit can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// Complete subtrees from the largest to the smallest: one for each bit set in `size`.
    frontier: Vec<Digest>,
}

impl Tree {
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues from a stored frontier; `None` if their number does not fit the size.
    pub fn from_frontier(size: u64, frontier: Vec<Digest>) -> Option<Self> {
        let fits = u32::try_from(frontier.len()).is_ok_and(|count| count == size.count_ones());
        fits.then_some(Self { size, frontier })
    }

    /// Appends the hash of a leaf and returns the leaf's index.
    pub fn append(&mut self, leaf_hash: Digest) -> u64 {
        let index = self.size;
        let mut hash = leaf_hash;
        for _ in 0..index.trailing_ones() {
            let left = self.frontier.pop().expect("one hash for each bit set in the size");
            hash = node_hash(&left, &hash);
        }
        self.frontier.push(hash);
        self.size = index.checked_add(1).expect("2^64 leaves outlast the box");
        index
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root hash; for the empty tree the hash of nothing.
    pub fn root(&self) -> Digest {
        let mut from_right = self.frontier.iter().rev();
        let Some(last) = from_right.next() else { return Digest::of(&[]) };
        from_right.fold(*last, |right, left| node_hash(left, &right))
    }

    /// Complete subtrees along the right edge, largest first, for storing beside a checkpoint.
    pub fn frontier(&self) -> &[Digest] {
        &self.frontier
    }
}

/// All complete subtrees, so that the root of any earlier size takes a few hashes only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Levels(Vec<Vec<Digest>>);

impl Levels {
    pub(crate) fn append(&mut self, leaf_hash: Digest) {
        let mut hash = leaf_hash;
        for level in 0.. {
            if self.0.len() == level {
                self.0.push(Vec::new());
            }
            let row = &mut self.0[level];
            row.push(hash);
            if row.len() % 2 == 1 {
                return;
            }
            hash = node_hash(&row[row.len() - 2], &hash);
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Hash of the complete subtree of 2^level leaves with this number.
    pub(crate) fn node(&self, level: u32, index: u64) -> Option<Digest> {
        let row = self.0.get(usize::try_from(level).ok()?)?;
        row.get(usize::try_from(index).ok()?).copied()
    }

    /// Root of the first `size` leaves; `None` past the end.
    pub(crate) fn root_at(&self, size: u64) -> Option<Digest> {
        let size = usize::try_from(size).ok()?;
        if size as u64 > self.size() {
            return None;
        }
        let mut root: Option<Digest> = None;
        for (level, row) in self.0.iter().enumerate() {
            if (size >> level) & 1 == 0 {
                continue;
            }
            let left = row[(size >> level) - 1];
            root = Some(root.map_or(left, |right| node_hash(&left, &right)));
        }
        Some(root.unwrap_or_else(|| Digest::of(&[])))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The recursive definition of RFC 6962, section 2.1, word by word.
    pub(crate) fn naive_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&naive_root(&leaves[..split]), &naive_root(&leaves[split..]))
            }
        }
    }

    pub(crate) fn numbered_leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    /// A leaf that says its number.
    pub(crate) fn numbered_leaf(number: u64) -> Vec<u8> {
        format!("leaf {number}").into_bytes()
    }

    /// A log of such leaves.
    pub(crate) fn numbered_log(size: u64) -> Levels {
        let mut levels = Levels::default();
        (0..size).for_each(|number| levels.append(leaf_hash(&numbered_leaf(number))));
        levels
    }

    /// Inputs and roots of the test data of google/certificate-transparency.
    #[test]
    fn vectors_of_certificate_transparency() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        assert_eq!(tree.root().to_string(), roots[0]);
        for (index, input) in inputs.iter().enumerate() {
            let bytes: Vec<u8> = (0..input.len() / 2)
                .map(|at| u8::from_str_radix(&input[at * 2..at * 2 + 2], 16).unwrap())
                .collect();
            assert_eq!(tree.append(leaf_hash(&bytes)), index as u64);
            assert_eq!(tree.root().to_string(), roots[index + 1]);
        }
    }

    #[test]
    fn every_size_agrees_with_the_definition() {
        let leaves = numbered_leaves(300);
        let mut tree = Tree::new();
        let mut levels = Levels::default();
        for size in 0..=leaves.len() {
            let expect = naive_root(&leaves[..size]);
            assert_eq!(tree.root(), expect, "at size {size}");
            assert_eq!(levels.root_at(size as u64), Some(expect), "at size {size}");
            assert_eq!(levels.root_at(size as u64 + 1), None);
            let again = Tree::from_frontier(tree.size(), tree.frontier().to_vec());
            assert_eq!(again.as_ref(), Some(&tree));
            if let Some(leaf) = leaves.get(size) {
                tree.append(*leaf);
                levels.append(*leaf);
            }
        }
        assert_eq!(Tree::from_frontier(3, vec![leaves[0]]), None);
    }

    proptest! {
        #[test]
        fn earlier_roots_stay(size in 0_usize..600, earlier in 0_usize..600) {
            let leaves = numbered_leaves(size);
            let mut levels = Levels::default();
            leaves.iter().for_each(|leaf| levels.append(*leaf));
            let expect = (earlier <= size).then(|| naive_root(&leaves[..earlier]));
            prop_assert_eq!(levels.root_at(earlier as u64), expect);
        }
    }
}
