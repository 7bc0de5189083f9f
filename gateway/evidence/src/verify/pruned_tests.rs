//! A log whose oldest leaves are gone: dropped as it says itself, or taken away.

use super::attacks::rig::Box;
use super::*;
use crate::leaf::Prune;
use crate::subtrees::Nodes;

const FIRST: u64 = 512;

/// The hashes of the bundles before `first`, and all of those after.
struct Left<'b>(&'b Levels, u64);

impl Nodes for Left<'_> {
    fn node(&self, level: u32, index: u64) -> Option<Digest> {
        let is_gone = level < 8 && ((index + 1) << level) <= self.1;
        if is_gone { None } else { self.0.node(level, index) }
    }
}

/// Boots before and after the dropped leaves, one across; says at its end what was dropped.
fn pruned(before: u64, first: u64, change: impl FnOnce(&mut Prune)) -> Box {
    let mut host = Box::new();
    host.boot(200);
    host.tpm.reboot();
    host.boot(400);
    host.tpm.reboot();
    host.boot(9);
    let root = host.levels.root_at(first).unwrap();
    let mut prune = Prune { before, first, root };
    change(&mut prune);
    host.append(LeafBody::Prune(prune));
    host.tpm.reboot();
    host.boot(9);
    host.append(LeafBody::Stop);
    host.sign();
    host
}

fn report_from(host: &Box, leaves: &[Vec<u8>], first: u64) -> Report {
    let nodes = Left(&host.levels, first);
    let mut verifier = PrunedVerifier::new(host.trust(), first, &nodes);
    let left = &leaves[usize::try_from(first).unwrap()..];
    left.iter().for_each(|leaf| verifier.handle_leaf(leaf));
    verifier.finish(host.heads.last().map(String::as_str))
}

fn report(host: &Box) -> Report {
    report_from(host, &host.leaves, FIRST)
}

#[test]
fn what_was_dropped_is_said_by_a_leaf() {
    let host = pruned(0, FIRST, |_| ());
    let found = report(&host);
    assert_eq!(found.faults, []);
    assert_eq!((found.entries, found.signed_entries), (host.leaves.len() as u64, found.entries));
    let vouched = found.vouched;
    assert_eq!((vouched.anchors, vouched.chained, vouched.cosigned), (3, 3, 3));
    // A stop between leaf and files: some of them are still here.
    assert!(report_from(&host, &host.leaves, 256).is_valid());
    let later = pruned(256, 512, |_| ());
    assert!(report_from(&later, &later.leaves, 256).is_valid());
}

#[test]
fn what_was_taken_away_is_told() {
    let gone = [Fault::TakenAway { first: FIRST }];
    assert_eq!(report(&pruned(0, 256, |_| ())).faults, gone, "less was dropped");
    assert_eq!(report(&pruned(0, FIRST, |prune| prune.before = 600)).faults, gone);
    let other = report(&pruned(0, FIRST, |prune| prune.root = Digest([1; 32])));
    assert!(other.faults.contains(&gone[0]), "{:?}", other.faults);
    let mut host = Box::new();
    host.boot(600);
    assert_eq!(report(&host).faults, gone, "nothing was dropped");
}

/// Statements about heads that no hash leads to are counted, and hold nothing up.
#[test]
fn heads_inside_dropped_bundles_are_not_believed() {
    let mut late = Box::new();
    late.boot(300);
    late.cosign(1_800_000_000);
    late.work(300);
    late.cosign(1_900_000_000);
    let root = late.levels.root_at(FIRST).unwrap();
    late.append(LeafBody::Prune(Prune { before: 0, first: FIRST, root }));
    late.sign();
    let found = report(&late);
    assert_eq!(found.faults, []);
    assert!(found.remarks.contains(&Remark::Untold { statements: 1 }), "{:?}", found.remarks);
    assert_eq!(found.vouched.cosigned, 0);
}

#[test]
fn changes_of_what_is_left_are_told() {
    let host = pruned(0, FIRST, |_| ());
    let twin = report(&host);
    assert!(twin.is_valid());
    let edited = |index: usize, change: &dyn Fn(&mut Leaf)| {
        let mut leaves = host.leaves.clone();
        let mut leaf = Leaf::decode(&leaves[index]).unwrap();
        change(&mut leaf);
        leaves[index] = leaf.encode();
        report_from(&host, &leaves, FIRST)
    };
    let at = |wanted: &dyn Fn(&LeafBody) -> bool| {
        let is_it = |bytes: &Vec<u8>| wanted(&Leaf::decode(bytes).unwrap().body);
        let found = host.leaves.iter().skip(512).position(is_it).unwrap();
        found + 512
    };
    let work = edited(513, &|leaf| leaf.boot.0 += 1);
    assert!(work.faults.contains(&Fault::Sealed { from: 512, through: 767 }) || work.entries < 768);
    let anchor = at(&|body| matches!(body, LeafBody::Anchor(_)));
    let found = edited(anchor, &|leaf| {
        if let LeafBody::Anchor(anchor) = &mut leaf.body {
            anchor.pcrs.insert(0, Digest([9; 32]));
        }
    });
    assert!(found.faults.iter().any(|one| matches!(one, Fault::Statement { .. })), "{found:?}");
    let chain = at(&|body| matches!(body, LeafBody::Chain(_)));
    let found = edited(chain, &|leaf| {
        if let LeafBody::Chain(chain) = &mut leaf.body {
            chain.before = Some(Digest([9; 32]));
        }
    });
    assert!(found.faults.iter().any(|one| matches!(one, Fault::Statement { .. })), "{found:?}");
    let cosigned = at(&|body| matches!(body, LeafBody::Cosigned(_)));
    let found = edited(cosigned, &|leaf| {
        if let LeafBody::Cosigned(cosigned) = &mut leaf.body {
            cosigned.timestamp_s += 1;
        }
    });
    assert!(found.faults.iter().any(|one| matches!(one, Fault::Cosigned { .. })), "{found:?}");
    let cut = &host.leaves[..host.leaves.len() - 1];
    let found = report_from(&host, cut, FIRST);
    assert!(matches!(found.faults[..], [Fault::Truncated { .. }, Fault::Unsigned]), "{found:?}");
}
