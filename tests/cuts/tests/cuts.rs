//! Power cuts and kills under load, as many as `cargo verify` has time for; `GUAN_CUTS` sets another number.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test")]

use guan_cuts::disk::Volume;
use guan_cuts::plant::Guan;
use guan_cuts::rig::{Blow, Disks, Order, Outcome, Rig};
use std::path::{Path, PathBuf};

/// Power cuts of all rigs together.
const CUTS: u32 = 1000;
const KILLS: u32 = 40;
/// Rigs beside each other: each waits much of its time for programs to start.
const RIGS: u32 = 3;

fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().nth(2).unwrap().to_path_buf();
    let built = folder.join("guan").exists() && folder.join("guan-space").exists();
    assert!(built, "build the programs first: cargo build -p guan-edge -p guan-space");
    folder
}

fn run(order: &Order) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let disks = Disks::mount(folder.path()).unwrap();
    let volumes = (&disks.near, &disks.far);
    let plant = Guan::set_up(folder.path(), &programs(), &configs, volumes).unwrap();
    let outcome = match Rig::new(plant, disks, order.clone()).run(|_, _| {}) {
        Ok(outcome) => outcome,
        Err(fault) => panic!("{order:?}: {fault:#}; see {}", folder.keep().display()),
    };
    println!("{order:?}: {outcome:?}");
    assert!(outcome.is_good(), "{order:?}: {outcome:?}; see {}", folder.keep().display());
    outcome
}

fn strike(blow: Blow, rounds: u32, seed: u64) {
    if !Volume::is_possible() {
        println!("SKIP: power cuts need root and /dev/fuse");
        return;
    }
    let each = |rig: u32| Order {
        blow,
        rounds: rounds / RIGS + u32::from(rig < rounds % RIGS),
        far_of_ten: 2,
        clients: 3,
        messages: u64::from(rounds / RIGS + 1) * 150,
        changes_max: 400,
        seed: seed + u64::from(rig),
    };
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let rigs: Vec<_> = (0..RIGS).map(|rig| scope.spawn(move || run(&each(rig)))).collect();
        rigs.into_iter().map(|rig| rig.join().unwrap()).collect()
    });
    // A rig that strikes nobody at work would prove nothing.
    let sum = |of: fn(&Outcome) -> u32| outcomes.iter().map(of).sum::<u32>();
    assert_eq!(sum(|one| one.near_rounds + one.far_rounds), rounds);
    assert!(sum(|one| one.far_rounds) > 0 && sum(|one| one.near_rounds) > rounds / 2);
    // A contract's lane has both its sides in some rig, or they were never cut together.
    if rounds >= CUTS {
        assert!(outcomes.iter().any(|one| one.streams > 1), "one side of the lane only");
    }
    let in_recovery = sum(|one| one.in_recovery);
    assert!(in_recovery > 0 && in_recovery < rounds * 9 / 10, "{in_recovery} of {rounds}");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let cuts = std::env::var("GUAN_CUTS").ok().and_then(|text| text.parse().ok());
    strike(Blow::Power, cuts.unwrap_or(CUTS), 1);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_program_is_killed() {
    strike(Blow::Kill, KILLS, 1000);
}
