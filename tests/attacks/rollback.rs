//! A disk that goes back: cut, brought back, written on, shown to others.

use crate::rig::{BEGIN_S, Box, Space, check, request};
use guan_edge::anchoring::ledger::Suspicion;
use guan_evidence::verify::Bracket;
use guan_evidence::{Leaf, LeafBody, TpmStart};
use guan_model::{Digest, WallTime};
use std::time::Duration;

/// What the TPM says at a start, as the honest program writes it.
fn honest_start(host: &Box) -> TpmStart {
    let found = host.machine.tpm.call("test", |chip| chip.remembered()).unwrap();
    let guan_model::PublicKey::EcdsaP256(point) = &found.attestation_key else { unreachable!() };
    TpmStart {
        attestation_key: Digest::of(point),
        resets: found.clock.resets,
        restarts: found.clock.restarts,
        clock_ms: found.clock.clock_ms,
        is_safe: found.clock.is_safe,
        lockouts: found.lockouts,
        trail: found.trail,
        chain: found.chain,
    }
}

/// Row 3: the disk is set back to each of its earlier ends, by somebody who does not have the key.
#[test]
fn a_cut_tail_is_suspect_at_the_next_start() {
    let Some(mut host) = Box::new() else { return };
    let mut images = Vec::new();
    for _ in 0..3 {
        host.day();
        images.push(host.image());
    }
    let newest = images.pop().unwrap();
    // The twin: the newest copy brought back is the disk itself.
    host.bring_back(&newest);
    host.start();
    host.sign();
    host.check_sound();
    for image in &images {
        for has_ledger in [true, false] {
            host.bring_back(image);
            if !has_ledger {
                host.forget_ledger();
            }
            host.start();
            assert!(host.suspicions.contains(&Suspicion::Chain), "{:?}", host.suspicions);
            host.sign();
            check(
                &host.report(host.trust()),
                "the TPM remembers heads that this log does not have",
            );
        }
        // Root brings the ledger of today along; then the log's own words give it away, at the start and to the
        // auditor.
        host.bring_back(image);
        host.keep_ledger_of(&newest);
        host.start();
        assert!(host.suspicions.contains(&Suspicion::Word), "{:?}", host.suspicions);
        host.sign();
        check(&host.report(host.trust()), "the disk was set back, or the chain made anew");
    }
}

/// The tail is cut within a boot, without a reboot: the register of heads tells.
#[test]
fn a_cut_within_a_boot_is_suspect() {
    let Some(mut host) = Box::honest(1) else { return };
    host.start();
    host.work(4);
    host.sign();
    let image = host.image();
    host.work(4);
    host.sign();
    let newest = host.image();
    host.bring_back(&newest);
    host.start();
    assert_eq!(host.suspicions, [], "the program may start anew within a boot");
    host.bring_back(&image);
    host.start();
    assert_eq!(host.suspicions, [Suspicion::Trail]);
}

/// Row 4, the first journald flaw: cut, and written on as if nothing had been.
#[test]
fn what_is_written_on_after_a_cut_is_refused() {
    let Some(mut host) = Box::honest(1) else { return };
    let mut space = Space::new();
    host.start();
    space.cosign(&mut host);
    let image = host.image();
    host.work(6);
    space.cosign(&mut host);
    host.stop();
    let twin = host.image();
    host.bring_back(&image);
    // Root leaves out what his own program would say of it.
    let start = honest_start(&host);
    host.start_as_root(vec![LeafBody::TpmStart(start)]);
    host.work(9);
    let head = host.sign();
    check(&host.report(space.trust(&host)), "the disk was set back, or the chain made anew");
    let answer = space.witness(&host, &request(&head));
    assert_eq!(answer.status, 409, "{answer:?}");
    let known: u64 = answer.body.trim().parse().unwrap();
    // He asks again from where the witness is, with whatever proof he can make.
    let again = guan_evidence::AddCheckpoint { old_size: known, ..request(&head) };
    let answer = space.witness(&host, &again);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(matches!(answer.leaf, Some(LeafBody::Fork(_))) && answer.alarm.is_some());
    // The twin goes on, and its head is taken.
    host.bring_back(&twin);
    host.start();
    host.work(9);
    space.cosign(&mut host);
    assert_eq!(
        (&host.suspicions[..], &host.report(space.trust(&host)).faults[..]),
        (&[][..], &[][..])
    );
}

/// Rows 6 and 7: two histories, and a head of yesterday, shown to the witness.
#[test]
fn a_second_history_and_an_old_head_are_refused() {
    let Some(mut host) = Box::honest(1) else { return };
    let mut space = Space::new();
    host.start();
    host.work(2);
    let image = host.image();
    host.work(5);
    let old = host.sign();
    host.work(5);
    space.cosign(&mut host);
    let answer = space.witness(&host, &request(&old));
    assert_eq!(answer.status, 409, "{answer:?}");
    host.bring_back(&image);
    host.start();
    host.work(20);
    let forked = host.sign();
    let known: u64 = answer.body.trim().parse().unwrap();
    let request = guan_evidence::AddCheckpoint { old_size: known, ..request(&forked) };
    let answer = space.witness(&host, &request);
    assert_eq!(answer.status, 422, "{answer:?}");
    let kept = std::fs::read_dir(space.folder.path().join("forks/box-7")).unwrap();
    let is_text = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".txt");
    assert_eq!(kept.map(|file| file.unwrap().file_name()).filter(is_text).count(), 1);
}

/// Row 8: whatever the clock says, the witness's own and the TPM's resets bound the boot.
#[test]
fn a_clock_that_lies_is_bracketed() {
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    let right = WallTime::from_seconds(BEGIN_S + 86_400);
    for lie in [right, WallTime::from_seconds(0), right.saturating_add(ten_years)] {
        let Some(mut host) = Box::new() else { return };
        let mut space = Space::new();
        let mut brackets: Vec<Bracket> = Vec::new();
        for day in 0..3_i64 {
            let now = WallTime::from_seconds(BEGIN_S + day * 86_400);
            (space.wall, host.wall) = (now, if day == 1 { lie } else { now });
            host.start();
            host.work(3);
            space.cosign(&mut host);
            host.stop();
            let report = host.report(space.trust(&host));
            assert_eq!(report.faults, [], "a wrong clock is no crime");
            brackets = report.brackets;
        }
        let seconds = |day: i64| u64::try_from(BEGIN_S + day * 86_400).ok();
        let lying = &brackets[1];
        assert_eq!((lying.not_before_s, lying.not_after_s), (seconds(0), seconds(2)));
        let leaves = host.leaves();
        let claimed = leaves.iter().map(|leaf| Leaf::decode(leaf).unwrap());
        let claimed = claimed.filter(|leaf| leaf.boot.0 == 2).map(|leaf| leaf.wall);
        let is_within = |wall: WallTime| {
            wall >= WallTime::from_seconds(BEGIN_S)
                && wall <= WallTime::from_seconds(BEGIN_S + 2 * 86_400)
        };
        assert_eq!(claimed.clone().all(is_within), lie == right, "the leaf's own word");
        assert!(claimed.count() > 3);
    }
}
