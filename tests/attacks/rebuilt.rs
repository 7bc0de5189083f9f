//! A log that is gone, or is another one, beside a ledger and a TPM that are as they were: its own words give it away.

use crate::rig::{Box, check, head_over};
use guan_edge::anchoring::ledger::Suspicion;
use guan_evidence::leaf::ConfigOutcome;
use guan_evidence::{Leaf, LeafBody};
use guan_model::Digest;

const REMEMBERS: &str = "the TPM remembers heads that this log does not have";

/// The folder of the log is lost as a whole, and a new one begins under the old name.
#[test]
fn a_log_that_begins_anew_is_suspect() {
    // The twins: a box whose log is new to its TPM, and one that starts once more as it is.
    let Some(mut fresh) = Box::new() else { return };
    fresh.start();
    fresh.sign();
    fresh.check_sound();
    let mut host = Box::honest(2).unwrap();
    host.start();
    host.sign();
    host.check_sound();
    let known = host.leaves().len() as u64;
    host.lose_log();
    host.start();
    assert_eq!(host.suspicions, [Suspicion::Heads { known, found: 0 }, Suspicion::Word]);
    host.sign();
    check(&host.report(host.trust()), REMEMBERS);
    // It is told once: the log says now what the TPM has.
    host.halt();
    host.start();
    assert_eq!(host.suspicions, []);
}

/// Without a reboot the heads since the last anchor are known one by one.
#[test]
fn a_log_that_is_written_anew_is_suspect() {
    let Some(mut host) = Box::honest(1) else { return };
    host.start();
    host.work(4);
    host.sign();
    host.work(4);
    host.sign();
    host.halt();
    let twin = host.image();
    host.start();
    host.sign();
    host.check_sound();
    // Somebody with the log's key changes an entry and signs it all again.
    host.bring_back(&twin);
    let mut leaves = host.leaves();
    let place = leaves.len() - 6;
    let mut leaf = Leaf::decode(&leaves[place]).unwrap();
    let outcome = ConfigOutcome::Refused;
    leaf.body = LeafBody::ConfigChange { digest: Digest([0xEE; 32]), outcome };
    leaves[place] = leaf.encode();
    host.write_leaves(&leaves);
    host.write_head(&head_over(&leaves, &host.key));
    host.start();
    let is_history = |one: &Suspicion| matches!(one, Suspicion::History { .. });
    assert!(host.suspicions.iter().any(is_history), "{:?}", host.suspicions);
    host.sign();
    check(&host.report(host.trust()), REMEMBERS);
    // Or he cuts it, and signs what is left.
    host.bring_back(&twin);
    let kept = host.leaves()[..place].to_vec();
    host.write_leaves(&kept);
    host.write_head(&head_over(&kept, &host.key));
    host.start();
    let (known, found) = (leaves.len() as u64, kept.len() as u64);
    let heads = Suspicion::Heads { known, found };
    assert!(host.suspicions.contains(&heads), "{:?}", host.suspicions);
}

/// A loss begins an epoch, which is no suspicion, and the TPM vouches for it from its first boot on; unless its first
/// entry admits less than the TPM was told of.
#[test]
fn an_epoch_is_suspect_only_if_it_hides_a_head() {
    let lost = || -> Option<(Box, String)> {
        let mut host = Box::honest(1)?;
        host.start();
        host.work(4);
        host.sign();
        let older = host.head();
        host.work(4);
        host.sign();
        host.halt();
        Some((host, older))
    };
    for reboots in [false, true] {
        let Some((mut host, _)) = lost() else { return };
        let leaves = host.leaves();
        host.write_leaves(&leaves[..leaves.len() - 3]);
        host.start();
        assert_eq!(host.origin(), "guan/box-7/e2");
        host.work(3);
        host.sign();
        host.anchor();
        host.chain();
        assert_eq!(host.suspicions, [], "an epoch that says what was lost");
        assert_eq!(host.report(host.trust()).faults, []);
        if reboots {
            host.stop();
            host.day();
            assert_eq!(host.suspicions, []);
            assert_eq!(host.report(host.trust()).faults, []);
        }
    }
    // The same loss beside an older head, so that the epoch admits less.
    let Some((mut host, older)) = lost() else { return };
    let leaves = host.leaves();
    host.write_leaves(&leaves[..leaves.len() - 6]);
    host.write_head(&older);
    host.start();
    assert_eq!(host.origin(), "guan/box-7/e2");
    let known = leaves.len() as u64;
    assert_eq!(host.suspicions, [Suspicion::Heads { known, found: known - 4 }]);
    host.sign();
    check(&host.report(host.trust()), REMEMBERS);
}
