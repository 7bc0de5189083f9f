//! Another machine under the same disk, a TPM that was cleared, and one that is silenced.

use crate::rig::{Box, Machine, Space, check, copy, request};
use guan_edge::anchoring::ledger::Suspicion;
use guan_evidence::verify::Remark;
use guan_evidence::{Leaf, LeafBody};
use guan_identity::KeyFile;
use guan_identity::attest::{StorePolicy, sign_store_policy};
use guan_model::{Digest, PublicKey, Signer as _};

/// Row 9: a copy of the disk on another TPM opens nothing, and nobody vouches for it.
#[test]
fn a_copied_disk_is_worth_nothing_on_another_tpm() {
    let Some(mut host) = Box::honest(2) else { return };
    // The key of the store, sealed to what this TPM has booted.
    let release = KeyFile::generate("release").unwrap().0;
    let pcrs = [(7, Digest([0; 32])), (11, Digest([0; 32]))].into();
    let text = sign_store_policy("r", 1, &pcrs, &release).unwrap();
    let key = release.public_key();
    let policy = StorePolicy::parse(&text, &key).unwrap();
    let sealed = key.clone();
    host.machine.tpm.call("test", move |chip| chip.seal(&[7; 32], &sealed)).unwrap();
    let open = |machine: &Machine| {
        let (policies, key) = (vec![policy.clone()], key.clone());
        machine.tpm.call("test", move |chip| chip.unseal(&policies, &key))
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(other) = Machine::new(folder.path()) else { return };
    // The thief has the whole disk, the blobs of the TPM's keys among it.
    let keys = |machine: &Machine| machine.keys.clone();
    copy(&keys(&host.machine), &keys(&other));
    let mut clone = host.on(other);
    assert!(open(&clone.machine).is_err(), "the store opens on another TPM");
    clone.start();
    assert!(clone.suspicions.contains(&Suspicion::Chain), "{:?}", clone.suspicions);
    let quoted = clone.machine.tpm.call("test", |chip| chip.anchor(&Digest([1; 32])));
    let fault = quoted.unwrap_err().to_string();
    assert!(fault.contains("another TPM"), "{fault}");
    check(&clone.report(host.trust()), "heads that this log does not have");
    // The twin: the same disk where it belongs.
    assert_eq!(*open(&host.machine).unwrap(), [7; 32]);
    host.start();
    host.sign();
    host.check_sound();
}

/// The key is made anew on the other TPM: then it is another key.
#[test]
fn a_copied_disk_with_a_new_key_is_another_box() {
    let Some(host) = Box::honest(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(other) = Machine::new(folder.path()) else { return };
    let mut clone = host.on(other);
    clone.day();
    check(&clone.report(host.trust()), "none of those believed");
}

/// Row 9 for a virtual TPM, which is copied with all that it remembers: only a witness tells the two apart.
#[test]
fn a_copied_virtual_tpm_is_seen_by_the_witness_at_the_second_head() {
    let Some(mut host) = Box::honest(1) else { return };
    let mut space = Space::new();
    host.start();
    space.cosign(&mut host);
    host.stop();
    let folder = tempfile::tempdir().unwrap();
    let machine = host.machine.copied(folder.path());
    let mut clone = host.on(machine);
    for one in [&mut host, &mut clone] {
        one.start();
        assert_eq!(one.suspicions, [], "its own TPM knows of nothing");
    }
    host.work(3);
    clone.work(8);
    space.cosign(&mut host);
    assert_eq!(host.report(space.trust(&host)).faults, []);
    let head = clone.sign();
    assert_eq!(clone.report(clone.trust()).faults, [], "nor does an auditor of the copy alone");
    let answer = space.witness(&clone, &request(&head));
    assert_eq!(answer.status, 409, "{answer:?}");
    let known: u64 = answer.body.trim().parse().unwrap();
    let again = guan_evidence::AddCheckpoint { old_size: known, ..request(&head) };
    let answer = space.witness(&clone, &again);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(matches!(answer.leaf, Some(LeafBody::Fork(_))) && answer.alarm.is_some());
}

/// Row 12: power cut after power cut; each start says what the TPM counts, and anchors go on.
#[test]
fn power_cuts_are_counted_and_silence_nothing() {
    let Some(mut host) = Box::honest(1) else { return };
    for _ in 0..8 {
        host.start();
        host.work(2);
        host.sign();
        host.anchor();
        host.chain();
        host.sign();
        host.halt();
        host.machine.power_cut();
    }
    host.check_sound();
    let report = host.report(host.trust());
    assert_eq!((report.vouched.anchors, report.vouched.chained), (9, 9));
    let starts = host.leaves().into_iter().filter_map(|leaf| match Leaf::decode(&leaf).unwrap() {
        Leaf { body: LeafBody::TpmStart(start), .. } => Some((start.resets, start.lockouts)),
        _ => None,
    });
    let starts: Vec<(u32, u32)> = starts.collect();
    assert!(starts.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{starts:?}");
    // What the emulator counts towards its lock is in the leaf, so that an auditor sees somebody trying.
    let now = host.machine.tpm.call("test", |chip| chip.remembered()).unwrap();
    assert!(starts.iter().all(|(_, lockouts)| *lockouts <= now.lockouts), "{starts:?}");
}

/// Row 16: the TPM is cleared in the firmware's setup. Its old key signs nothing more, and a new one is another.
#[test]
fn a_cleared_tpm_vouches_for_nothing_of_before() {
    let Some(mut host) = Box::honest(2) else { return };
    let (old, trust) = (host.machine.key(), host.trust());
    let Some(cleared) = host.machine.tool("tpm2_clear", &["-c", "p"]) else { return };
    assert!(cleared);
    let quoted = host.machine.tpm.call("test", |chip| chip.anchor(&Digest([1; 32])));
    assert!(quoted.is_err(), "the key of before signs");
    host.start();
    assert!(host.suspicions.contains(&Suspicion::Chain), "{:?}", host.suspicions);
    check(&host.report(trust.clone()), "heads that this log does not have");
    host.halt();
    // The space let it join anew, and says so by believing both keys; nothing ties them.
    let new: PublicKey = host.machine.make_key();
    assert_ne!(new, old);
    host.day();
    check(&host.report(trust.clone()), "none of those believed");
    let mut both = trust;
    both.attestation_keys.push(new);
    let remarks = host.report(both).remarks;
    assert!(remarks.iter().any(|one| matches!(one, Remark::UntiedKey { .. })), "{remarks:?}");
}

/// Row 21: a boot without a word of its TPM is a fault, a day without anchors is told.
#[test]
fn silence_is_told() {
    let Some(mut host) = Box::honest(1) else { return };
    let image = host.image();
    host.start_as_root(Vec::new());
    host.work(4);
    host.sign();
    check(&host.report(host.trust()), "says nothing of the TPM that this box has");
    let is_unanchored = |one: &Remark| matches!(one, Remark::Unanchored { .. });
    for anchors in [false, true] {
        host.bring_back(&image);
        host.start();
        for _ in 0..3 {
            host.work(1);
            host.sign();
            if anchors {
                host.anchor();
            }
            host.wait(1);
        }
        host.work(1);
        host.sign();
        if anchors {
            host.anchor();
        }
        let report = host.report(host.trust());
        assert_eq!(report.faults, []);
        assert_eq!(report.remarks.iter().any(is_unanchored), !anchors, "{:?}", report.remarks);
    }
    // Boots of which nobody wrote anything.
    host.halt();
    (0..3).for_each(|_| host.machine.power_cut());
    host.start();
    host.sign();
    let report = host.report(host.trust());
    let is_missing = |one: &Remark| matches!(one, Remark::MissingBoots { missing: 2, .. });
    assert!(report.remarks.iter().any(is_missing), "{:?}", report.remarks);
}
