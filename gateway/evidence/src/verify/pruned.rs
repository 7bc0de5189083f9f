//! Reads what is left of a log whose oldest leaves left the disk, or of which some cannot be read.
//!
//! Their hashes stayed, so roots of earlier heads can still be told where they end with a bundle; those that do
//! not are counted and not believed. That the leaves were dropped, and not taken away, a leaf must say that is left.
//! The rules over all leaves (streams, decisions, boots) need the mirror's copy.

use super::outside::Outside;
use super::{BUNDLE_LEVEL, Fault, Faults, Report, Trust, refilled};
use crate::bundle::BUNDLE_LEAVES_MAX;
use crate::checkpoint::Checkpoint;
use crate::leaf::{Leaf, LeafBody};
use crate::subtrees::{Nodes, root_at};
use crate::tree::{Tree, leaf_hash};
use guan_model::Digest;

/// Takes the leaves that are left, in their order, then the newest head.
pub struct PrunedVerifier<'n> {
    first: u64,
    next: u64,
    nodes: &'n dyn Nodes,
    /// Of the bundle that is being read.
    bundle: Tree,
    outside: Outside,
    is_said: bool,
    batches: u64,
    rows: u64,
    faults: Faults,
}

impl<'n> PrunedVerifier<'n> {
    /// `first` is the first leaf that is left, the first of its bundle. `nodes` knows the hashes of all bundles.
    pub fn new(trust: Trust, first: u64, nodes: &'n dyn Nodes) -> Self {
        Self {
            first,
            next: first,
            nodes,
            bundle: Tree::new(),
            outside: Outside::from_leaf(trust, first),
            // Nothing was dropped, so nothing need be said of it.
            is_said: first == 0,
            batches: 0,
            rows: 0,
            faults: Faults::default(),
        }
    }

    /// The next leaf, exactly as stored.
    pub fn handle_leaf(&mut self, bytes: &[u8]) {
        let index = self.next;
        self.next += 1;
        self.check_sealed(index, bytes);
        let leaf = match Leaf::decode(bytes) {
            Ok(leaf) => leaf,
            Err(source) => return self.faults.add(Fault::Leaf { index, source }),
        };
        if leaf.seq != index {
            self.faults.add(Fault::Seq { index, seq: leaf.seq });
        }
        if let Some((from, through, false)) = refilled(self.nodes, &leaf.body) {
            self.faults.add(Fault::Refilled { index, from, through });
        }
        match &leaf.body {
            LeafBody::Batch(batch) => {
                self.batches += 1;
                self.rows = self.rows.saturating_add(batch.rows);
            }
            // A stop between the leaf and the files leaves some of those that may go.
            LeafBody::Prune(prune) if (prune.before..=prune.first).contains(&self.first) => {
                self.is_said |= self.root_at(prune.first) == Some(prune.root);
            }
            _ => {}
        }
        let nodes = self.nodes;
        let root_of = |size: u64| root_at(size, nodes).ok();
        self.outside.handle(index, &leaf, &root_of, &mut self.faults);
    }

    /// The next leaves up to this one cannot be read; they end with a bundle. What they said of TPM and witnesses
    /// is held against nothing that follows.
    pub fn handle_damage(&mut self, through: u64) {
        self.faults.add(Fault::Unreadable { from: self.next, through });
        self.next = through + 1;
        self.bundle = Tree::new();
        self.outside.handle_damage();
    }

    fn root_at(&self, size: u64) -> Option<Digest> {
        root_at(size, self.nodes).ok()
    }

    /// The hash of a bundle is what the roots are made of: its leaves must have it.
    fn check_sealed(&mut self, index: u64, bytes: &[u8]) {
        self.bundle.append(leaf_hash(bytes));
        if self.bundle.size() < BUNDLE_LEAVES_MAX as u64 {
            return;
        }
        let bundle = std::mem::take(&mut self.bundle);
        let number = index / BUNDLE_LEAVES_MAX as u64;
        if self.nodes.node(BUNDLE_LEVEL, number).is_some_and(|known| known != bundle.root()) {
            let from = number * BUNDLE_LEAVES_MAX as u64;
            self.faults.add(Fault::Sealed { from, through: index });
        }
    }

    /// Compares with the newest signed head.
    pub fn finish(mut self, head: Option<&str>) -> Report {
        if !self.is_said {
            self.faults.add(Fault::TakenAway { first: self.first });
        }
        let checked = head.and_then(|text| self.check_head(text));
        let (entries, signed) = (self.next, checked.as_ref().map_or(0, |head| head.size));
        if signed == 0 {
            self.faults.add(Fault::Unsigned);
        }
        let root = self.root_at(entries).unwrap_or_else(|| Digest::of(&[]));
        let (remarks, brackets, vouched) = self.outside.finish(entries, &mut self.faults);
        Report {
            origin: checked.as_ref().map(|head| head.origin.clone()),
            entries,
            root,
            checkpoints_verified: usize::from(checked.is_some()),
            signed_entries: signed,
            batches: self.batches,
            rows: self.rows,
            faults: self.faults.listed,
            faults_left_out: self.faults.left_out,
            vouched,
            remarks,
            brackets,
        }
    }

    fn check_head(&mut self, text: &str) -> Option<Checkpoint> {
        let (number, size) = (0, Checkpoint::parse_unverified(text).map_or(0, |head| head.size));
        let head = match Checkpoint::parse_and_verify(text, self.outside.key_at(size)) {
            Ok(head) => head,
            Err(source) => {
                self.faults.add(Fault::Checkpoint { number, source });
                return None;
            }
        };
        let (entries, expected) = (self.next, self.outside.origin().to_owned());
        if head.origin != expected {
            self.faults.add(Fault::Origin { number, found: head.origin, expected });
            return None;
        }
        let root = if size > entries { None } else { self.root_at(size) };
        match root {
            Some(root) if root == head.root => Some(head),
            Some(_) => {
                self.faults.add(Fault::Altered {
                    number,
                    from: 0,
                    through: size.saturating_sub(1),
                });
                None
            }
            None => {
                self.faults.add(Fault::Truncated { number, size, entries });
                None
            }
        }
    }
}
