//! The log's key changes while the engine works.

use super::*;
use guan_evidence::Lineage;
use guan_evidence::verify::{Report, Trust};

/// The commitment to whoever asks for a new key.
const ACTOR: Digest = Digest([7; 32]);

fn roll(engine: &mut Engine<SimDisk, u32>, now: Now) -> (Arc<LogKeyFile>, Option<KeyRolled>) {
    let next = Arc::new(LogKeyFile::generate("guan/box-1").unwrap().0);
    let signer = NextKey(next.clone());
    engine.apply(now, Event::RollKey { signer, actor: Some(ACTOR), quote: None }).unwrap();
    let mut told = None;
    while let Some(effect) = engine.poll_effect() {
        match effect {
            Effect::KeyRolled(rolled) => told = Some(rolled),
            // Nobody is shown a head before he can know its key.
            Effect::Checkpoint(_) => assert!(told.is_some()),
            _ => {}
        }
    }
    (next, told.unwrap())
}

fn report(rig: &Rig) -> Report {
    let reader = rig.log_reader();
    let key = VerifierKey::of(rig.key.as_ref()).unwrap();
    let mut verifier = LogVerifier::with_trust(Trust::of_key("guan/box-1", key.clone()));
    reader.for_each(&mut |_, leaf| verifier.handle_leaf(leaf)).unwrap();
    let head = reader.checkpoint().unwrap();
    verifier.finish(&head.iter().map(String::as_str).collect::<Vec<_>>(), &key)
}

#[test]
fn a_key_hands_over_to_the_next() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let mut lineage = Lineage::new(VerifierKey::of(rig.key.as_ref()).unwrap());
    publish(&mut engine, at(100), 1, 3, 7);
    for number in 1..=3 {
        let (next, rolled) = roll(&mut engine, at(100 + number));
        let KeyRolled { origin, leaf } = rolled.unwrap();
        lineage.extend(&origin, &leaf).unwrap();
        assert_eq!(Leaf::decode(&leaf).unwrap().actor, Some(ACTOR));
        assert_eq!(
            lineage.newest().key_bytes(),
            VerifierKey::of(next.as_ref()).unwrap().key_bytes()
        );
        // The new key signs at once.
        let found = report(&rig);
        assert_eq!((&found.faults[..], found.signed_entries), (&[][..], found.entries));
        publish(&mut engine, at(200 + number), 1, 3, 8);
    }
    engine.apply(at(900), Event::Stop).unwrap();
    assert_eq!(report(&rig).faults, []);
    // Whoever knows none of them but the first, and follows nothing, believes nothing.
    assert!(!rig.check_log().1);
    let acted = rig.check_log().0.into_iter().filter(|leaf| leaf.actor.is_some());
    assert!(acted.map(|leaf| leaf.body.kind_name()).eq(["key.rollover"; 3]));
    // What was waiting when the key changed was committed before, in order.
    let kinds: Vec<&str> = rig.check_log().0.iter().map(|leaf| leaf.body.kind_name()).collect();
    let place = |kind: &str| kinds.iter().position(|one| *one == kind).unwrap();
    assert!(place("batch") < place("key.rollover"), "{kinds:?}");
}

/// The entry finds no room: the old key stays, and nothing of the new one is anywhere.
#[test]
fn a_full_disk_keeps_the_key() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    let before = rig.check_log().0.len();
    rig.spool_disk.set_capacity(Some(0));
    let (_, rolled) = roll(&mut engine, at(100));
    assert_eq!(rolled, None);
    rig.spool_disk.set_capacity(None);
    publish(&mut engine, at(200), 1, 3, 7);
    engine.apply(at(900), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    assert!(is_valid && leaves.len() > before);
    assert!(leaves.iter().all(|leaf| leaf.body.kind_name() != "key.rollover"));
    // And with room it changes.
    let mut engine = rig.start();
    assert!(roll(&mut engine, at(1000)).1.is_some());
    assert_eq!(report(&rig).faults, []);
}

/// A power cut right after the entry: whoever starts again has both keys, and the log goes on with the new one.
#[test]
fn the_log_opens_after_a_power_cut_in_between() {
    for seed in 0..20 {
        let mut rig = Rig::new();
        let mut engine = rig.start();
        publish(&mut engine, at(100), 1, 3, 7);
        let mut lineage = Lineage::new(VerifierKey::of(rig.key.as_ref()).unwrap());
        let (next, rolled) = roll(&mut engine, at(200));
        drop(engine);
        rig.spool_disk.crash(seed);
        rig.log_disk.crash(seed);
        let KeyRolled { origin, leaf } = rolled.unwrap();
        lineage.extend(&origin, &leaf).unwrap();
        let reader = rig.log_reader();
        let head = reader.checkpoint().unwrap().unwrap();
        let claimed = guan_evidence::Checkpoint::parse_unverified(&head).unwrap();
        let key = lineage.at(&claimed.origin, claimed.size).clone();
        guan_evidence::Checkpoint::parse_and_verify(&head, &key).unwrap();
        let tail = rig.log_reader();
        let journal: Vec<(u64, bytes::Bytes)> = (0..).zip(tail.bundle(0).unwrap()).collect();
        let known = guan_log::Known { lineage: &lineage, spare_head: None };
        let disk = rig.log_disk.clone();
        let opened = EvidenceLog::open_after(disk, "guan/box-1", next, known, journal);
        assert_eq!(opened.unwrap().lost(), None, "seed {seed}");
    }
}
