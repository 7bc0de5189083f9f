//! What comes now is not kept behind what an outage left, and both remain one contract.

use super::*;
use crate::ledger::LinkLedger;
use crate::uplink::{Doorway, SpoolSource};
use guan_link::driver::BatchSource as _;
use guan_link::sender::Pipe;
use guan_link::{Ack, BoxFrame, Cursor, Offer, Sender, SpaceFrame, VERSIONS, Welcome};
use tokio::sync::watch;

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

/// What the link reads, and the rules of a session, in which live batches go before any backlog.
struct Uplink {
    source: SpoolSource<SimDisk>,
    sender: Sender,
}

impl Uplink {
    fn new(rig: &Rig, engine: &Engine<SimDisk, u32>) -> Self {
        let doorway = Doorway {
            door: rig.door.clone(),
            vault: rig.vault.clone(),
            clock: Box::new(|| at(400_000)),
            forfeits: watch::Sender::new(BTreeMap::new()),
            ledger: LinkLedger::default(),
        };
        let (reader, spool) = (engine.spool.reader(), SpoolId([1; 16]));
        let mut source = SpoolSource::new(reader, spool, [DATA].into(), Vec::new(), doorway);
        let ranges = source.streams().unwrap();
        let cursor = |stream| Cursor { stream, through: BatchSeq::ZERO };
        let cursors = ranges.iter().map(|range| cursor(range.id)).collect();
        let offer = Offer::new(spool, ranges).unwrap();
        let mut sender = Sender::new(Duration::ZERO, VERSIONS, offer).with_backlog_percent(0);
        let welcome = Welcome { version: 1, cursors, credit_bytes: u64::MAX };
        sender.handle_frame(Duration::ZERO, SpaceFrame::Welcome(welcome)).unwrap();
        Self { source, sender }
    }

    /// As the session does after a commit; streams that have become a backlog, through where, and what goes first.
    fn committed(&mut self) -> Vec<(u16, u64, Option<u16>)> {
        let kept = self.source.kept();
        kept.iter().for_each(|kept| self.sender.handle_kept(*kept));
        self.sender.handle_available_all();
        let lane = |stream: StreamId| stream.lane();
        kept.iter().map(|one| (lane(one.stream), one.through.0, one.younger.map(lane))).collect()
    }

    /// The next batch that leaves: its lane, number and pipe.
    fn send(&mut self) -> Option<(u16, u64, Pipe)> {
        while let Some(want) = self.sender.poll_want() {
            match self.source.next(want.stream, want.after).unwrap() {
                Some(item) => self.sender.handle_item(Duration::ZERO, want, item).unwrap(),
                None => self.sender.handle_nothing(want),
            }
            while let Some((pipe, frame)) = self.sender.poll_piped() {
                if let BoxFrame::Item(stream, item) = frame {
                    return Some((stream.lane(), item.from().0, pipe));
                }
            }
        }
        None
    }

    fn ack(&mut self, lane: u16, through: u64) {
        let stream = StreamId::of(DATA.class(), lane);
        let cursor = Cursor { stream, through: BatchSeq(through) };
        let ack = Ack { cursor, credit_bytes: u64::MAX };
        self.sender.handle_frame(Duration::ZERO, SpaceFrame::Ack(ack)).unwrap();
    }
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

/// From the writer to the pipes: what comes now takes the live pipe while a backlog leaves by the other. A side that
/// becomes the backlog there waits until nothing of it is underway, and goes on by the other pipe, so that its batches
/// never overtake each other.
#[test]
fn a_side_that_rests_leaves_the_live_pipe_when_nothing_of_it_is_underway() {
    let mut rig = Rig::new();
    let mut engine = after_an_outage(&mut rig, &plain());
    let mut uplink = Uplink::new(&rig, &engine);
    let session = uplink.source.session();
    engine.apply(at(200_000), Event::Confirmed { session }).unwrap();
    keep(&mut engine, 201);
    assert_eq!(uplink.committed(), [(1, 3, Some(2))]);
    assert_eq!(uplink.send(), Some((2, 1, Pipe::Data)), "descriptors go before the first one");
    uplink.ack(2, 1);
    take(&mut engine, 202, 2, 1);
    keep(&mut engine, 203);
    assert_eq!(uplink.committed(), []);
    assert_eq!(uplink.send(), Some((2, 2, Pipe::Live)));
    let backlog: Vec<_> = std::iter::from_fn(|| uplink.send()).collect();
    assert_eq!(backlog, [1, 2, 3].map(|seq| (1, seq, Pipe::Data)));
    keep(&mut engine, 300);
    uplink.ack(1, 3);
    // The other side has drained, and this one is old: they change places.
    take(&mut engine, 301, 1, 3);
    keep(&mut engine, 302);
    assert_eq!(uplink.committed(), [(2, 3, Some(1))]);
    assert_eq!(uplink.send(), Some((1, 4, Pipe::Live)));
    assert_eq!(uplink.send(), None, "a batch of the other side is on the live pipe still");
    uplink.ack(2, 2);
    assert_eq!(uplink.send(), Some((2, 3, Pipe::Data)));
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
