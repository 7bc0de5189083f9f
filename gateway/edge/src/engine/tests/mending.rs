//! Damage of bundles that somebody finds while the box runs, and leaves that come back.

use super::*;
use bytes::Bytes;
use guan_evidence::{Refill, bundle_root, leaf_hash};

const NAME: &str = "entries-0000000000000000";

/// A box whose log has a full bundle; its leaves.
fn with_bundle(rig: &mut Rig) -> (Engine<SimDisk, u32>, Vec<Bytes>) {
    let mut engine = rig.start();
    for step in 0..150_u32 {
        let now = at(u64::from(step) * 30);
        publish(&mut engine, now, 1, 1, step);
        let tick = Now { monotonic: now.monotonic + Duration::from_millis(25), ..now };
        engine.apply(tick, Event::Tick).unwrap();
    }
    engine.apply(at(10_000), Event::Tick).unwrap();
    assert!(std::iter::from_fn(|| engine.poll_effect()).count() > 150);
    let leaves = rig.log_reader().bundle(0).unwrap();
    (engine, leaves)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    alarms: usize,
    seen: Option<Inspected>,
    refilled: Option<RefillOutcome>,
    noted: Option<u64>,
}

fn apply(engine: &mut Engine<SimDisk, u32>, event: Event<u32>) -> Told {
    engine.apply(at(20_000), event).unwrap();
    let mut told = Told::default();
    while let Some(effect) = engine.poll_effect() {
        match effect {
            Effect::Alarm(_) => told.alarms += 1,
            Effect::Inspected(seen) => told.seen = Some(seen),
            Effect::BundleRefilled(outcome) => told.refilled = Some(outcome),
            Effect::Noted(ticket) => told.noted = Some(ticket),
            _ => {}
        }
    }
    told
}

fn inspect(is_told: bool, ticket: u64) -> Event<u32> {
    Event::Inspect { bundles: vec![Suspect { number: 0, is_told }], roots_from: None, ticket }
}

fn gaps(rig: &Rig) -> Vec<Option<Refill>> {
    let (leaves, _) = rig.check_log();
    let gap = |leaf: Leaf| match leaf.body {
        LeafBody::LogGap { from: 0, through: 255, reason: GapReason::Damage, refill } => {
            Some(refill)
        }
        _ => None,
    };
    leaves.into_iter().filter_map(gap).collect()
}

#[test]
fn what_a_scrub_finds_is_told_once_and_comes_back_once() {
    let mut rig = Rig::new();
    let (mut engine, leaves) = with_bundle(&mut rig);
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let root = bundle_root(&hashes).unwrap();
    // The twin: nothing is wrong with it, and nothing is told.
    let told = apply(&mut engine, inspect(false, 1));
    let whole = Inspected { whole: vec![0], ..Inspected::default() };
    assert_eq!(told, Told { seen: Some(whole.clone()), noted: Some(1), ..Told::default() });
    let roots = Event::Inspect { bundles: vec![], roots_from: Some(0), ticket: 2 };
    assert_eq!(apply(&mut engine, roots).seen.unwrap().roots, [(0, root)]);
    rig.log_disk.flip_bit(NAME, 800);
    let told = apply(&mut engine, inspect(false, 3));
    let damaged = Inspected { damaged: vec![0], ..Inspected::default() };
    assert_eq!((told.seen, told.alarms), (Some(damaged), 1));
    assert_eq!(apply(&mut engine, inspect(true, 4)).alarms, 0, "it is told already");
    // Leaves of somebody else are refused, whatever he calls them.
    let mut other = leaves.clone();
    other[9] = other[10].clone();
    let refill =
        |leaves: &[Bytes], ticket| Event::Refill { number: 0, leaves: leaves.to_vec(), ticket };
    let told = apply(&mut engine, refill(&other, 5));
    let fault = told.refilled.unwrap().fault.unwrap();
    assert!(fault.is_senders && fault.text.contains("not those that were written"), "{fault:?}");
    assert_eq!((told.alarms, told.noted), (0, Some(5)));
    let unsealed = Event::Refill { number: 99, leaves: leaves.clone(), ticket: 6 };
    assert!(!apply(&mut engine, unsealed).refilled.unwrap().fault.unwrap().is_senders);
    let told = apply(&mut engine, refill(&leaves, 7));
    let refilled = Some(RefillOutcome { number: 0, fault: None });
    assert_eq!(told, Told { alarms: 1, refilled: refilled.clone(), noted: Some(7), seen: None });
    // A second answer about the same is taken in silence.
    let told = apply(&mut engine, refill(&leaves, 8));
    assert_eq!(told, Told { alarms: 0, refilled, noted: Some(8), seen: None });
    engine.apply(at(30_000), Event::Stop).unwrap();
    drop(engine);
    assert_eq!(gaps(&rig), [None, Some(Refill { root, epoch: None })]);
    assert!(rig.check_log().1, "the log verifies again");
}

/// A folder that cannot be listed says nothing about its files: nobody is told of damage, the writer goes on, and
/// what was asked is asked again.
#[test]
fn a_folder_that_cannot_be_listed_is_no_damage() {
    let mut rig = Rig::new();
    let (mut engine, _) = with_bundle(&mut rig);
    let unlisted = Inspected { is_unlisted: true, ..Inspected::default() };
    rig.log_disk.hide_names(true);
    for (is_told, ticket) in [(false, 1), (true, 2)] {
        let told = apply(&mut engine, inspect(is_told, ticket));
        let expect = Told { seen: Some(unlisted.clone()), noted: Some(ticket), ..Told::default() };
        assert_eq!(told, expect);
    }
    let roots = Event::Inspect { bundles: vec![], roots_from: Some(0), ticket: 3 };
    assert_eq!(apply(&mut engine, roots).seen.unwrap(), unlisted);
    rig.log_disk.hide_names(false);
    let told = apply(&mut engine, inspect(false, 4));
    assert_eq!(told.seen.unwrap(), Inspected { whole: vec![0], ..Inspected::default() });
    engine.apply(at(30_000), Event::Stop).unwrap();
    assert_eq!(gaps(&rig), []);
}

/// A bundle that came back without a leaf that says so, by a stop or by a person's hand.
#[test]
fn a_bundle_that_is_back_is_told() {
    let mut rig = Rig::new();
    let (mut engine, _) = with_bundle(&mut rig);
    let kept = rig.log_disk.contents(NAME).unwrap();
    rig.log_disk.put(NAME, &kept[..99]);
    assert_eq!(apply(&mut engine, inspect(false, 1)).alarms, 1);
    rig.log_disk.put(NAME, &kept);
    let told = apply(&mut engine, inspect(true, 2));
    assert_eq!((told.seen.unwrap().whole, told.alarms), (vec![0], 1));
    engine.apply(at(30_000), Event::Stop).unwrap();
    let gaps = gaps(&rig);
    assert!(gaps.len() == 2 && gaps[1].is_some(), "{gaps:?}");
    assert!(rig.check_log().1);
}

/// Without room the leaves do not come back, and the box goes on.
#[test]
fn a_full_disk_takes_no_bundle_back() {
    let mut rig = Rig::new();
    let (mut engine, leaves) = with_bundle(&mut rig);
    rig.log_disk.flip_bit(NAME, 800);
    rig.log_disk.set_capacity(Some(0));
    let refill = |ticket| Event::Refill { number: 0, leaves: leaves.clone(), ticket };
    let fault = apply(&mut engine, refill(1)).refilled.unwrap().fault.unwrap();
    assert!(!fault.is_senders, "{fault:?}");
    rig.log_disk.set_capacity(None);
    assert_eq!(apply(&mut engine, refill(2)).refilled.unwrap().fault, None);
}
