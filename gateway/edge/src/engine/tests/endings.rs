//! What ends beside the flow of rows: contracts, lanes, and what an operator gives up.

use super::*;

/// A contract that is gone for certain is shredded with its key; one that merely cannot be read is not.
#[test]
fn only_what_has_ended_is_shredded() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    // The key of the plan is new at each call, so one plan is kept.
    let standing_plan = engine.plan.clone();
    publish(&mut engine, at(100), 1, 5, 1);
    engine.apply(at(200), Event::Tick).unwrap();
    let queued = |engine: &Engine<SimDisk, u32>| engine.spool_status().streams[0].queued_batches;
    assert_eq!((queued(&engine), rig.vault.contracts().len()), (1, 1));
    let nothing = Arc::new(Plan::compile(&[], &descriptors()));
    let check = |engine: &mut Engine<SimDisk, u32>, plan: &Arc<Plan>, standing, expect| {
        engine.apply(at(300), Event::PlanChanged(plan.clone(), standing)).unwrap();
        let found = (queued(engine), rig.vault.contracts().len());
        assert_eq!(found, expect);
    };
    let uncertain = Standing { is_uncertain: true, ..Standing::default() };
    check(&mut engine, &nothing, uncertain, (1, 1));
    let id = guan_model::ContractId::parse("C-1").unwrap();
    let suspended = Standing { suspended: [id.clone()].into(), ..Standing::default() };
    check(&mut engine, &nothing, suspended, (1, 1));
    check(&mut engine, &standing_plan, Standing::default(), (1, 1));
    // The space says that it is over; that some file here cannot be read changes nothing about it.
    let ended = Standing { ended: [id].into(), is_uncertain: true, ..Standing::default() };
    check(&mut engine, &nothing, ended, (0, 0));
    engine.apply(at(400), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    let has = |wanted: &str| {
        leaves.iter().any(|leaf| match &leaf.body {
            LeafBody::ContractChange { outcome, .. } => outcome.name() == wanted,
            LeafBody::DataGap(gap) => gap.reason.name() == wanted && gap.rows == 5,
            _ => false,
        })
    };
    assert!(is_valid && has("shredded") && has("destroyed") && has("ended"));
}

/// What a full disk does not take is done once it does, and told once.
#[test]
fn shredding_waits_for_a_full_disk() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    publish(&mut engine, at(100), 1, 5, 1);
    engine.apply(at(200), Event::Tick).unwrap();
    let revoked = [guan_model::ContractId::parse("C-1").unwrap()].into();
    let nothing = Arc::new(Plan::compile(&[], &descriptors()));
    rig.spool_disk.set_capacity(Some(0));
    let standing = Standing { revoked, ..Standing::default() };
    engine.apply(at(300), Event::PlanChanged(nothing, standing)).unwrap();
    for second in 1..5 {
        engine.apply(at(300 + second * 1000), Event::Tick).unwrap();
        let status = engine.spool_status();
        assert_eq!((status.streams[0].queued_batches, rig.vault.contracts().len()), (1, 1));
    }
    rig.spool_disk.set_capacity(None);
    engine.apply(at(6000), Event::Tick).unwrap();
    engine.apply(at(7000), Event::Tick).unwrap();
    assert_eq!(engine.spool_status().streams[0].queued_batches, 0);
    assert!(rig.vault.contracts().is_empty());
    engine.apply(at(8000), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    let gaps = leaves.iter().filter(|leaf| matches!(leaf.body, LeafBody::DataGap(_)));
    assert_eq!((gaps.count(), is_valid), (1, true));
}

/// What an operator gives up is a gap with its leaf, and no more than he named.
#[test]
fn an_operator_gives_up_what_waits() {
    let mut rig = Rig::new();
    let mut engine = rig.start();
    for moment in 1..=3 {
        publish(&mut engine, at(moment * 100), 1, 5, 1);
        engine.apply(at(moment * 100 + 50), Event::Tick).unwrap();
    }
    let stream = engine.spool.reader().streams()[0];
    let newest = engine.spool.newest(stream);
    let actor = Some(Digest([7; 32]));
    let given_up = |through| Event::GivenUp { stream, through: BatchSeq(through), actor };
    // The last one waits for the commit and is not meant.
    publish(&mut engine, at(400), 1, 5, 1);
    engine.apply(at(401), given_up(2)).unwrap();
    engine.apply(at(402), given_up(1)).unwrap();
    rig.spool_disk.set_capacity(Some(0));
    engine.apply(at(403), given_up(3)).unwrap();
    assert_eq!(engine.spool_status().streams[0].queued_batches, newest.0 + 1 - 2);
    rig.spool_disk.set_capacity(None);
    let mut told = Vec::new();
    while let Some(effect) = engine.poll_effect() {
        if let Effect::Alarm(text) = effect {
            told.push(text);
        }
    }
    assert!(told[0].contains("batches 1 to 2 (10 readings)"), "{told:?}");
    assert!(told[1].contains("too full"), "{told:?}");
    engine.apply(at(8000), Event::Stop).unwrap();
    let (leaves, is_valid) = rig.check_log();
    let gaps = leaves.iter().filter_map(|leaf| match &leaf.body {
        LeafBody::DataGap(gap) => Some((gap.from.0, gap.through.0, gap.rows, gap.reason.name())),
        _ => None,
    });
    assert_eq!((gaps.collect::<Vec<_>>(), is_valid), (vec![(1, 2, 10, "operator")], true));
    let told = leaves.iter().find(|leaf| matches!(leaf.body, LeafBody::DataGap(_)));
    assert_eq!(told.unwrap().actor, actor);
}

/// A lane that ends at the tick at which another grows too old: one commit after the other.
#[test]
fn old_data_and_a_contract_that_is_over_go_at_the_same_tick() {
    let mut rig = Rig { age_max: Some(Duration::from_secs(60)), ..Rig::new() };
    let mut engine = rig.start();
    publish(&mut engine, at(100), 1, 5, 1);
    engine.apply(at(200), Event::Tick).unwrap();
    let nothing = Arc::new(Plan::compile(&[], &descriptors()));
    let uncertain = Standing { is_uncertain: true, ..Standing::default() };
    engine.apply(at(300), Event::PlanChanged(nothing, uncertain)).unwrap();
    engine.standing = Standing::default();
    engine.apply(at(100_000), Event::Tick).unwrap();
    engine.apply(at(101_000), Event::Stop).unwrap();
    assert!(rig.check_log().1);
}
