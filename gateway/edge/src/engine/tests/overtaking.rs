//! What comes now is not kept behind what an outage left, and both remain one contract.

use super::*;

/// Streams with what waits in them.
fn waiting(engine: &Engine<SimDisk, u32>) -> Vec<(u16, u64)> {
    let streams = engine.spool.reader().streams().into_iter();
    let left = |stream| engine.spool.newest(stream).0 - engine.spool.released(stream).0;
    streams.map(|stream| (stream.lane(), left(stream))).filter(|(_, left)| *left > 0).collect()
}

fn keep(engine: &mut Engine<SimDisk, u32>, second: u64) {
    publish(engine, at(second * 1000), 1, 5, 1);
    engine.apply(at(second * 1000 + 500), Event::Tick).unwrap();
}

fn confirm(engine: &mut Engine<SimDisk, u32>, second: u64) {
    engine.apply(at(second * 1000), Event::Confirmed { session: 0 }).unwrap();
}

fn take(engine: &mut Engine<SimDisk, u32>, second: u64, lane: u16, through: u64) {
    let (stream, through) = (StreamId::of(DATA.class(), lane), BatchSeq(through));
    engine.apply(at(second * 1000), Event::Acknowledged { stream, through }).unwrap();
}

/// With a plan, and three batches from an outage.
fn after_an_outage(rig: &mut Rig, contract: &Contract) -> Engine<SimDisk, u32> {
    let mut engine = rig.start();
    let plan = plan_of(std::slice::from_ref(contract));
    engine.apply(at(50), Event::PlanChanged(plan, Standing::default())).unwrap();
    for second in [1, 2, 100] {
        keep(&mut engine, second);
    }
    assert_eq!(waiting(&engine), [(1, 3)]);
    engine
}

fn plain() -> Contract {
    agreement(1, &serde_json::json!({"uid": "p", "action": "deliver"}), None)
}

#[test]
fn what_comes_after_an_outage_goes_to_the_other_side() {
    let mut rig = Rig::new();
    let mut engine = after_an_outage(&mut rig, &plain());
    confirm(&mut engine, 200);
    keep(&mut engine, 201);
    assert_eq!(waiting(&engine), [(1, 3), (2, 1)]);
    let mut known = BTreeSet::new();
    let [resting, current] = [1, 2].map(|lane| StreamId::of(DATA.class(), lane));
    assert_eq!(rig.door.news_of_resting(&mut known), [(resting, Some(current))]);
    assert!(rig.door.news_of_resting(&mut known).is_empty());
    // The backlog is still there when the next outage makes the other side old, too.
    keep(&mut engine, 300);
    confirm(&mut engine, 301);
    keep(&mut engine, 302);
    assert_eq!(waiting(&engine), [(1, 3), (2, 3)]);
    take(&mut engine, 303, 1, 3);
    keep(&mut engine, 304);
    assert_eq!(waiting(&engine), [(1, 1), (2, 3)]);
    // What has drained is closed, and its number free.
    take(&mut engine, 305, 2, 3);
    engine.apply(at(306_000), Event::Tick).unwrap();
    assert_eq!(engine.memory.lanes.iter().map(|(number, _)| number).collect::<Vec<_>>(), [1]);
    engine.apply(at(400_000), Event::Stop).unwrap();
    assert!(rig.check_log().1);
}

#[test]
fn a_start_finds_the_sides_as_they_were() {
    let mut rig = Rig::new();
    let contract = plain();
    let mut engine = after_an_outage(&mut rig, &contract);
    confirm(&mut engine, 200);
    keep(&mut engine, 201);
    drop(engine);
    let mut engine = rig.start();
    let plan = plan_of(std::slice::from_ref(&contract));
    engine.apply(at(50), Event::PlanChanged(plan, Standing::default())).unwrap();
    keep(&mut engine, 1);
    assert_eq!(waiting(&engine), [(1, 3), (2, 2)]);
    // What waited before the start is old once it has waited for the limit since then.
    take(&mut engine, 2, 1, 3);
    keep(&mut engine, 3);
    assert_eq!(waiting(&engine), [(2, 3)]);
    confirm(&mut engine, 60);
    keep(&mut engine, 61);
    assert_eq!(waiting(&engine), [(1, 1), (2, 3)]);
}

/// Both sides end with their contract, and only then its key goes.
#[test]
fn both_sides_are_shredded() {
    let mut rig = Rig::new();
    let contract = plain();
    let mut engine = after_an_outage(&mut rig, &contract);
    confirm(&mut engine, 200);
    keep(&mut engine, 201);
    let revoked = Standing { revoked: [contract.id().clone()].into(), ..Standing::default() };
    engine.apply(at(300_000), Event::PlanChanged(plan_of(&[]), revoked)).unwrap();
    assert_eq!((waiting(&engine), rig.vault.contracts().len()), (vec![], 0));
    assert!(engine.memory.lanes.pairs().is_empty() && engine.sides.resting().next().is_none());
    engine.apply(at(400_000), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    let gaps: Vec<u64> = leaves
        .iter()
        .filter_map(|leaf| match &leaf.body {
            LeafBody::DataGap(gap) => Some(gap.rows),
            _ => None,
        })
        .collect();
    assert_eq!((gaps, is_valid), (vec![15, 5], true));
}

/// Quotas count both sides, and the oldest of both gives way.
#[test]
fn what_is_too_old_is_dropped_from_both_sides() {
    let mut rig = Rig { age_max: Some(Duration::from_secs(500)), ..Rig::new() };
    let mut engine = after_an_outage(&mut rig, &plain());
    confirm(&mut engine, 200);
    keep(&mut engine, 201);
    engine.apply(at(650_000), Event::Tick).unwrap();
    assert_eq!(waiting(&engine), [(2, 1)]);
    engine.apply(at(750_000), Event::Tick).unwrap();
    assert_eq!(waiting(&engine), []);
}

/// Where a contract asks for waiting, what waits is no backlog.
#[test]
fn a_lane_with_a_delay_has_one_side() {
    let mut rig = Rig::new();
    let delay =
        serde_json::json!({"leftOperand": "span", "operator": "eq", "rightOperand": "PT5M"});
    let duty = serde_json::json!([{"action": "delay", "refinement": [delay]}]);
    let permission = serde_json::json!({"uid": "p", "action": "deliver", "duty": duty});
    let mut engine = after_an_outage(&mut rig, &agreement(1, &permission, None));
    confirm(&mut engine, 200);
    keep(&mut engine, 201);
    take(&mut engine, 202, 1, 1);
    keep(&mut engine, 203);
    assert_eq!(waiting(&engine), [(1, 4)]);
}

/// A batch that is undone with its commit leaves nothing of its side.
#[test]
fn a_full_disk_undoes_the_new_side() {
    let mut rig = Rig::new();
    let mut engine = after_an_outage(&mut rig, &plain());
    confirm(&mut engine, 200);
    rig.spool_disk.set_capacity(Some(0));
    keep(&mut engine, 201);
    assert!(engine.memory.lanes.pairs().is_empty());
    rig.spool_disk.set_capacity(None);
    keep(&mut engine, 202);
    assert_eq!(waiting(&engine), [(1, 3), (2, 1)]);
}
