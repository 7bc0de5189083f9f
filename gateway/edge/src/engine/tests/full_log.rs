//! The disk has room for the journal and none for heads and bundles of the log.

use super::*;

/// Many commits with something to sign.
fn work(engine: &mut Engine<SimDisk, u32>, from_ms: u64, count: u32) -> Vec<i64> {
    let mut answered = Vec::new();
    for step in 0..count {
        let now = at(from_ms + u64::from(step) * 1000);
        publish(engine, now, 1, 1, step + 1);
        let tick = Now { monotonic: now.monotonic + Duration::from_millis(25), ..now };
        engine.apply(tick, Event::Tick).unwrap();
        let effects = std::iter::from_fn(|| engine.poll_effect());
        answered.extend(effects.filter_map(|effect| match effect {
            Effect::Durable(token) => Some(i64::from(token)),
            Effect::Refused(token, Refusal::DiskFull) => Some(-i64::from(token)),
            Effect::Alarm(text) if text.contains("no room for the evidence log") => Some(0),
            _ => None,
        }));
    }
    answered
}

#[test]
fn a_full_log_stops_the_collection_and_not_the_program() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    assert!(work(&mut engine, 100, 20).iter().all(|answer| *answer > 0), "the twin");
    rig.log_disk.set_capacity(Some(0));
    let answered = work(&mut engine, 50_000, 30);
    // What came before anybody knew is taken; one alarm; then nothing is.
    let told = answered.iter().position(|answer| *answer == 0).unwrap();
    assert!(answered[..told].iter().all(|answer| *answer > 0), "{answered:?}");
    assert!(answered.len() > told + 10, "{answered:?}");
    // What was in the commit of that moment is durable already.
    assert!(answered[told + 2..].iter().all(|answer| *answer < 0), "{answered:?}");
    rig.log_disk.set_capacity(None);
    engine.apply(at(100_000), Event::Tick).unwrap();
    assert!(work(&mut engine, 100_100, 5).iter().all(|answer| *answer > 0));
    engine.apply(at(200_000), Event::Stop).unwrap();
    assert!(rig.check_log().1);
}

/// The disk was full when there was nothing left to sign: no message can make it look again.
#[test]
fn a_log_that_was_full_with_nothing_to_sign_takes_messages_again() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    assert!(work(&mut engine, 100, 5).iter().all(|answer| *answer > 0), "the twin");
    engine.apply(at(40_000), Event::Tick).unwrap();
    engine.is_log_full = true;
    engine.apply(at(50_000), Event::Tick).unwrap();
    assert!(work(&mut engine, 60_000, 5).iter().all(|answer| *answer > 0));
}

#[test]
fn a_full_log_that_may_wait_costs_no_message() {
    let mut rig = Rig::new();
    rig.on_log_full = OnLogFull::Continue;
    let mut engine = rig.start();
    rig.log_disk.set_capacity(Some(0));
    // Enough for bundles that find no room either.
    let answered = work(&mut engine, 100, 400);
    assert_eq!(answered.iter().filter(|answer| **answer == 0).count(), 1, "told once");
    assert!(answered.iter().all(|answer| *answer >= 0));
    assert_eq!(rig.log_reader().subtrees().bundles(), 0);
    rig.log_disk.set_capacity(None);
    engine.apply(at(500_000), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    assert!(is_valid && leaves.len() > 800, "{}", leaves.len());
    assert!(rig.log_reader().subtrees().bundles() >= 3);
    drop(engine);
    rig.start();
}
