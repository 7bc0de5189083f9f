//! Sender and receiver over two pipes that are cut at any byte: everything arrives once and in order.
//!
//! One seed drives the workload, the pieces in which bytes move, the cuts, refusals, a store that forgets
//! what was not durable, a space that is set back to an older copy, ends of an earlier version, and what goes in a
//! chain.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use bytes::Bytes;
use guan_link::frame::{Pipe, gap_reason};
use guan_link::wire::{Wire, encode};
use guan_link::{
    BoxFrame, Cursor, EncodedBatch, FrameDecoder, Gap, Item, Offer, PeerFault, Receiver,
    ReceiverEvent, RefuseReason, Sender, SenderEvent, SpaceFrame, StreamRange, VERSIONS, Versions,
};
use guan_model::{BatchSeq, ContractId, DatasetId, Digest, SpoolId, StreamId};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

const STREAMS: usize = 3;
const STEPS: usize = 400;
const SPOOL_GAP: u8 = 1;

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Places of one stream in the spool: a batch, a recorded gap, or a hole that nobody recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Batch,
    Gap,
    Hole,
}

fn batch(stream: usize, seq: BatchSeq) -> EncodedBatch {
    let text = format!("{stream}/{seq}");
    // Some are larger than what is moved at once, and a few than what goes in a chain.
    let repeat = if seq.0.is_multiple_of(31) { 10_000 } else { seq.0 % 7 * 40 };
    let text = text.repeat(1 + usize::try_from(repeat).unwrap());
    let digest = Digest::of(text.as_bytes());
    // Some are no batches, and some others than their digest says: these go alone.
    let (digest, bytes) = match seq.0 % 5 {
        0 => (digest, Bytes::from(text)),
        1 if seq.0.is_multiple_of(2) => (Digest([7; 32]), guan_codec::pack(text.as_bytes()).into()),
        _ => (digest, guan_codec::pack(text.as_bytes()).into()),
    };
    EncodedBatch {
        seq,
        dataset: DatasetId::parse("d").unwrap(),
        contract: ContractId::parse("c").unwrap(),
        rows: 1,
        digest,
        bytes,
    }
}

struct Session {
    sender: Sender,
    receiver: Receiver,
    /// Data pipe and live pipe.
    up: [VecDeque<u8>; 2],
    down: VecDeque<u8>,
    at_space: [FrameDecoder<BoxFrame>; 2],
    is_old: bool,
    at_box: FrameDecoder<SpaceFrame>,
    /// Handed to the space's store and not yet durable.
    storing: VecDeque<(StreamId, Item)>,
}

struct World {
    dice: Dice,
    now: Duration,
    /// Stops all mischief, so that the end is reached.
    calm: bool,
    spool: [Vec<Place>; STREAMS],
    released: [BatchSeq; STREAMS],
    stored: [Vec<Item>; STREAMS],
    refused_for_good: BTreeSet<(usize, BatchSeq)>,
    set_back: bool,
    sessions: usize,
    chained: usize,
    begun: usize,
}

fn index(stream: StreamId) -> usize {
    usize::from(stream.0)
}

fn push(pipe: &mut VecDeque<u8>, frame: &impl Wire) {
    for part in encode(frame) {
        pipe.extend(part);
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            now: Duration::from_secs(1),
            calm: false,
            spool: Default::default(),
            released: [BatchSeq::ZERO; STREAMS],
            stored: Default::default(),
            refused_for_good: BTreeSet::new(),
            set_back: false,
            sessions: 0,
            chained: 0,
            begun: 0,
        }
    }

    fn connect(&mut self) -> Session {
        self.sessions += 1;
        let range = |index: usize| StreamRange {
            id: StreamId(u16::try_from(index).unwrap()),
            oldest_unreleased: self.released[index].next(),
            newest: BatchSeq(self.spool[index].len() as u64),
        };
        let offer = Offer::new(SpoolId([7; 16]), (0..STREAMS).map(range).collect()).unwrap();
        let mut versions = [VERSIONS, VERSIONS];
        let is_old = self.dice.one_in(4);
        if is_old {
            versions[self.dice.below(2)] = Versions { min: 1, max: 1 };
        }
        Session {
            sender: Sender::new(self.now, versions[0], offer),
            receiver: Receiver::new(self.now, versions[1]),
            up: Default::default(),
            down: VecDeque::new(),
            at_space: [FrameDecoder::new(), FrameDecoder::new()],
            is_old,
            at_box: FrameDecoder::new(),
            storing: VecDeque::new(),
        }
    }

    /// What the spool has behind a place, as its reader would say it.
    fn read(&self, stream: usize, after: BatchSeq) -> Option<Item> {
        let places = &self.spool[stream];
        let mut at = usize::try_from(after.0).unwrap();
        while *places.get(at)? == Place::Hole {
            at += 1;
        }
        let seq = BatchSeq(at as u64 + 1);
        if places[at] == Place::Batch {
            return Some(Item::Batch(batch(stream, seq)));
        }
        let count = places[at..].iter().take_while(|place| **place == Place::Gap).count() as u64;
        let through = BatchSeq(seq.0 + count - 1);
        Some(Item::Gap(Gap { from: seq, through, rows: count, reason: SPOOL_GAP }))
    }

    fn commit(&mut self) {
        let stream = self.dice.below(STREAMS);
        let place = match self.dice.below(20) {
            0 => Place::Gap,
            // A hole at the very end would wait for its successor for ever.
            1 if !self.calm => Place::Hole,
            _ => Place::Batch,
        };
        self.spool[stream].push(place);
        if place == Place::Hole {
            self.spool[stream].push(Place::Batch);
        }
    }

    fn durable(&self, stream: usize) -> BatchSeq {
        self.stored[stream].last().map_or(BatchSeq::ZERO, Item::through)
    }

    fn step_box(&mut self, session: &mut Session) {
        let piece = 1 + self.dice.below(300);
        let bytes: Vec<u8> = session.down.drain(..piece.min(session.down.len())).collect();
        session.at_box.handle_bytes(&bytes);
        while let Some(frame) = session.at_box.poll().unwrap() {
            session.sender.handle_frame(self.now, frame).unwrap();
        }
        session.sender.handle_available_all();
        session.sender.handle_scarcity(self.dice.one_in(3));
        for _ in 0..self.dice.below(20) {
            let Some(want) = session.sender.poll_want() else { break };
            match self.read(index(want.stream), want.after) {
                Some(item) => session.sender.handle_item(self.now, want, item).unwrap(),
                None => session.sender.handle_nothing(want),
            }
        }
        while let Some((pipe, frame)) = session.sender.poll_piped() {
            if let BoxFrame::Chained(_, chained) = &frame {
                assert!(!session.is_old, "an end of version 1 has no chains");
                self.chained += 1;
                self.begun += usize::from(chained.begins);
            }
            push(&mut session.up[pipe as usize], &frame);
        }
        while let Some(event) = session.sender.poll_event() {
            match event {
                SenderEvent::Released { stream, through } => {
                    let stream = index(stream);
                    assert!(through > self.released[stream], "released twice");
                    assert!(through <= self.durable(stream), "released what is not durable");
                    self.released[stream] = through;
                }
                SenderEvent::SpaceBehind { .. } => assert!(self.set_back),
                SenderEvent::Missing { stream, from, .. } => {
                    let at = usize::try_from(from.0 - 1).unwrap();
                    assert_eq!(self.spool[index(stream)][at], Place::Hole);
                }
                SenderEvent::Welcomed { .. }
                | SenderEvent::Refused { .. }
                | SenderEvent::Sent { .. } => {}
            }
        }
    }

    fn step_space(&mut self, session: &mut Session) {
        let piece = 1 + self.dice.below(300);
        let pipe = if self.dice.one_in(2) { Pipe::Live } else { Pipe::Data };
        let at = pipe as usize;
        let bytes: Vec<u8> = session.up[at].drain(..piece.min(session.up[at].len())).collect();
        session.at_space[at].handle_bytes(&bytes);
        while let Some(frame) = session.at_space[at].poll().unwrap() {
            session.receiver.handle_piped(pipe, frame).unwrap();
            while let Some(event) = session.receiver.poll_event() {
                self.handle_event(session, event);
            }
        }
        let durable = self.dice.below(session.storing.len() + 1);
        for (stream, item) in session.storing.drain(..durable) {
            let through = item.through();
            self.stored[index(stream)].push(item);
            session.receiver.handle_durable(stream, through);
        }
        while let Some(frame) = session.receiver.poll_frame(self.now) {
            push(&mut session.down, &frame);
        }
    }

    fn handle_event(&mut self, session: &mut Session, event: ReceiverEvent) {
        let (stream, item) = match event {
            ReceiverEvent::Hello(offer) => {
                let streams = offer.streams().iter();
                let cursors: Vec<_> = streams
                    .map(|one| Cursor { stream: one.id, through: self.durable(index(one.id)) })
                    .collect();
                return session.receiver.handle_cursors(&cursors);
            }
            ReceiverEvent::Describe(_) => unreachable!("this box announces no tables"),
            ReceiverEvent::Store(stream, item) => (stream, item),
        };
        if let Item::Batch(batch) = &item
            && !self.calm
            && self.dice.one_in(40)
        {
            let reason = match self.dice.one_in(2) {
                true => RefuseReason::BadDigest,
                false => RefuseReason::Busy,
            };
            if reason.is_final() {
                self.refused_for_good.insert((index(stream), batch.seq));
            }
            return session.receiver.handle_refused(stream, batch.seq, reason, "no");
        }
        session.storing.push_back((stream, item));
    }

    /// The space comes back from an older copy of its store.
    fn set_back(&mut self) {
        self.set_back = true;
        let stream = self.dice.below(STREAMS);
        let keep = self.dice.below(self.stored[stream].len() + 1);
        self.stored[stream].truncate(keep);
    }

    fn step(&mut self, session: &mut Session) {
        match self.dice.below(40) {
            0 if !self.calm => {
                // What was handed to the store may still become durable, in order, or be lost.
                let kept = self.dice.below(session.storing.len() + 1);
                for (stream, item) in session.storing.drain(..kept) {
                    self.stored[index(stream)].push(item);
                }
                if self.dice.one_in(6) {
                    self.set_back();
                }
                *session = self.connect();
            }
            1 => self.now += Duration::from_secs(5),
            2..10 if !self.calm => self.commit(),
            10..25 => self.step_box(session),
            _ => self.step_space(session),
        }
        let due = session.sender.poll_timeout().is_some_and(|due| self.now >= due);
        if due && let Err(fault) = session.sender.handle_timeout(self.now) {
            assert!(matches!(fault, PeerFault::Silent(_)), "{fault}");
            session.storing.clear();
            *session = self.connect();
        }
    }

    fn finished(&self) -> bool {
        (0..STREAMS).all(|stream| self.released[stream].0 == self.spool[stream].len() as u64)
    }

    /// Every place of every stream stands in the store once, in order, as what it is.
    fn check(&self) {
        for stream in 0..STREAMS {
            let mut next = BatchSeq(1);
            for item in &self.stored[stream] {
                assert_eq!(item.from(), next, "stream {stream}: a place is missing or twice");
                next = item.through().next();
                self.check_item(stream, item);
            }
            assert_eq!(next.0 - 1, self.spool[stream].len() as u64, "stream {stream} is short");
        }
    }

    fn check_item(&self, stream: usize, item: &Item) {
        let gap = match item {
            Item::Batch(found) => return assert_eq!(*found, batch(stream, found.seq)),
            Item::Gap(gap) => gap,
        };
        for seq in gap.from.0..=gap.through.0 {
            let place = self.spool[stream][usize::try_from(seq - 1).unwrap()];
            let excused = match gap.reason {
                SPOOL_GAP => place == Place::Gap,
                gap_reason::MISSING => place == Place::Hole,
                gap_reason::REFUSED => self.refused_for_good.contains(&(stream, BatchSeq(seq))),
                gap_reason::SPACE_BEHIND => self.set_back,
                _ => false,
            };
            assert!(excused, "stream {stream}: {seq} is {place:?} and became {gap:?}");
        }
    }
}

/// Gives how many sessions it took, how many batches went in chains, and how many chains.
fn run(seed: u64) -> [usize; 3] {
    let mut world = World::new(seed);
    let mut session = world.connect();
    for _ in 0..STEPS {
        world.step(&mut session);
    }
    world.calm = true;
    let mut left = 200_000;
    while !world.finished() {
        world.step(&mut session);
        left -= 1;
        assert!(left > 0, "seed {seed}: the spool does not empty on a quiet link");
    }
    world.check();
    [world.sessions, world.chained, world.begun]
}

#[test]
fn the_pipe_is_cut_often_enough_to_mean_something() {
    let sums = (0..100).map(run).reduce(|one, other| [0, 1, 2].map(|at| one[at] + other[at]));
    let [sessions, chained, begun] = sums.unwrap();
    assert!(sessions > 500, "{sessions} sessions in 100 runs");
    assert!(chained > 3 * begun && begun > 300, "{chained} batches in {begun} chains");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn everything_arrives_once_and_in_order(seed: u64) {
        run(seed);
    }
}
