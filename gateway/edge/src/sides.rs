//! Which of two lanes of the same terms takes what comes next, so that new batches of a contract do not wait
//! behind what an outage left.
//!
//! One side is current and takes every new batch; the other rests, and leaves as the backlog. They change places when
//! the space takes batches, the oldest of the current side has waited for the limit, and the other side is empty.
//! Everything comes from what the writer has: positions, moments of its own commits, releases. Invariants: while
//! both sides hold something, all of one is older than all of the other; the moments at which a stream was written
//! take at most [`STEPS_MAX`] places.
//!
//! Never here: which lanes there are, and what a batch may do. A lane that delays its batches never comes here:
//! there waiting is no backlog.

use guan_model::{BatchSeq, StreamId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Into so many steps the limit is divided: a batch counts as old so much of it too early at most.
const STEPS: u32 = 16;
/// Most steps that are remembered of a stream; a limit holds [`STEPS`] and the ends of two more.
pub const STEPS_MAX: usize = STEPS as usize + 2;

/// Where a stream of the spool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub released: BatchSeq,
    pub newest: BatchSeq,
}

impl Place {
    fn is_empty(self) -> bool {
        self.released >= self.newest
    }
}

/// The rule. `old_through`: the last batch of the current side that is older than the limit.
pub fn must_change(current: Place, old_through: BatchSeq, other: Place) -> bool {
    current.released < old_through && other.is_empty()
}

#[derive(Debug)]
struct Track {
    /// When a step began, since boot, and the last batch that was committed in it.
    steps: VecDeque<(Duration, BatchSeq)>,
    /// Through here batches are old, as of the last look.
    old_through: BatchSeq,
    rests: bool,
}

impl Default for Track {
    fn default() -> Self {
        Self { steps: VecDeque::new(), old_through: BatchSeq::ZERO, rests: false }
    }
}

impl Track {
    fn old_through(&self, now: Duration, limit: Duration) -> BatchSeq {
        let old = self.steps.iter().rev().find(|(began, _)| now.saturating_sub(*began) >= limit);
        old.map_or(self.old_through, |(_, through)| *through)
    }
}

/// Of all lanes, by stream.
#[derive(Debug)]
pub struct Sides {
    /// `None`: sides never change.
    limit: Option<Duration>,
    tracks: BTreeMap<StreamId, Track>,
}

impl Sides {
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, tracks: BTreeMap::new() }
    }

    /// Whether a stream takes nothing new.
    pub fn rests(&self, stream: StreamId) -> bool {
        self.tracks.get(&stream).is_some_and(|track| track.rests)
    }

    pub fn resting(&self) -> impl Iterator<Item = StreamId> {
        self.tracks.iter().filter(|(_, track)| track.rests).map(|(stream, _)| *stream)
    }

    pub fn is_watched(&self, stream: StreamId) -> bool {
        self.tracks.contains_key(&stream)
    }

    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.tracks.keys().copied()
    }

    /// The start found something in a stream.
    pub fn handle_found(
        &mut self,
        now: Duration,
        stream: StreamId,
        newest: BatchSeq,
        is_old: bool,
    ) {
        let track = self.tracks.entry(stream).or_default();
        match is_old {
            true => track.old_through = newest,
            false => track.steps.push_back((now, newest)),
        }
    }

    /// The start found something in both sides, and this is the older one.
    pub fn handle_found_older(&mut self, stream: StreamId) {
        self.tracks.entry(stream).or_default().rests = true;
    }

    /// Everything of a stream through `newest` is durable.
    pub fn handle_committed(&mut self, now: Duration, stream: StreamId, newest: BatchSeq) {
        let Some(limit) = self.limit else { return };
        let track = self.tracks.entry(stream).or_default();
        track.old_through = track.old_through(now, limit);
        track.steps.retain(|(began, _)| now.saturating_sub(*began) < limit);
        match track.steps.back_mut() {
            Some((began, through)) if now.saturating_sub(*began) < limit / STEPS => {
                *through = newest;
            }
            _ => track.steps.push_back((now, newest)),
        }
    }

    /// The space takes batches: whether the sides of a stream change, now that the spool stands as it does. `other`:
    /// the stream of the other side, if there is one already.
    pub fn handle_taken(
        &mut self,
        now: Duration,
        stream: StreamId,
        other: Option<StreamId>,
        place: impl Fn(StreamId) -> Place,
    ) -> bool {
        let Some(limit) = self.limit else { return false };
        let (current, resting) = match (self.rests(stream), other) {
            (false, other) => (stream, other),
            (true, Some(other)) => (other, Some(stream)),
            // What comes next opens the other side.
            (true, None) => return false,
        };
        let nothing = Place { released: BatchSeq::ZERO, newest: BatchSeq::ZERO };
        let Some(track) = self.tracks.get(&current) else { return false };
        let old_through = track.old_through(now, limit);
        if !must_change(place(current), old_through, resting.map_or(nothing, &place)) {
            return false;
        }
        for (stream, rests) in resting.map(|it| (it, false)).into_iter().chain([(current, true)]) {
            self.tracks.entry(stream).or_default().rests = rests;
        }
        true
    }

    /// A stream is watched no more.
    pub fn forget(&mut self, stream: StreamId) {
        self.tracks.remove(&stream);
    }

    /// Lanes were closed.
    pub fn retain(&mut self, is_open: impl Fn(StreamId) -> bool) {
        self.tracks.retain(|stream, _| is_open(*stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(9);
    const B: StreamId = StreamId(17);
    const LIMIT: Duration = Duration::from_secs(32);

    fn place(released: u64, newest: u64) -> Place {
        Place { released: BatchSeq(released), newest: BatchSeq(newest) }
    }

    #[test]
    fn the_rule() {
        let check = |current: (u64, u64), old_through, other: (u64, u64), expect| {
            let (current, other) = (place(current.0, current.1), place(other.0, other.1));
            let found = must_change(current, BatchSeq(old_through), other);
            assert_eq!(found, expect, "{current:?} {old_through} {other:?}");
        };
        // Nothing waits, or nothing that is old.
        check((0, 0), 0, (0, 0), false);
        check((7, 7), 7, (0, 0), false);
        check((6, 9), 6, (0, 0), false);
        // Something old waits, and the other side is new, drained, or still holds something.
        check((5, 9), 6, (0, 0), true);
        check((5, 9), 9, (4, 4), true);
        check((5, 9), 9, (3, 4), false);
    }

    /// One step of a story: a second, what happens, and which side takes what comes next.
    enum Happens {
        Commit,
        /// The space has taken this of both sides.
        Taken(u64, u64),
    }

    #[derive(Debug)]
    struct Story {
        sides: Sides,
        a: Place,
        b: Place,
    }

    impl Story {
        fn current(&self) -> StreamId {
            if self.sides.rests(A) { B } else { A }
        }

        fn happen(&mut self, second: u64, happens: &Happens) {
            let now = Duration::from_secs(second);
            match happens {
                Happens::Commit => {
                    let stream = self.current();
                    let place = if stream == A { &mut self.a } else { &mut self.b };
                    place.newest = place.newest.next();
                    self.sides.handle_committed(now, stream, place.newest);
                }
                Happens::Taken(a, b) => {
                    (self.a.released, self.b.released) = (BatchSeq(*a), BatchSeq(*b));
                    let (a, b) = (self.a, self.b);
                    let place = |stream| if stream == A { a } else { b };
                    self.sides.handle_taken(now, A, Some(B), place);
                }
            }
        }
    }

    #[test]
    fn sides_change_when_the_space_takes_what_has_waited() {
        use Happens::{Commit, Taken};
        let mut story = Story { sides: Sides::new(Some(LIMIT)), a: place(0, 0), b: place(0, 0) };
        let told: [(u64, Happens, StreamId); 17] = [
            (0, Commit, A),
            (0, Taken(1, 0), A),
            // An outage: nothing is taken, so nothing changes.
            (1, Commit, A),
            (30, Commit, A),
            (500, Commit, A),
            // It is over. What comes now overtakes.
            (600, Taken(1, 0), B),
            (601, Commit, B),
            (602, Taken(2, 1), B),
            (603, Commit, B),
            // The next outage: the old backlog is still there.
            (640, Commit, B),
            (700, Taken(3, 1), B),
            (701, Taken(4, 1), A),
            (702, Commit, A),
            (703, Taken(4, 3), A),
            // A link that keeps up with a delay below the limit.
            (720, Commit, A),
            (733, Taken(4, 3), A),
            (734, Taken(4, 3), B),
        ];
        for (second, happens, expect) in told {
            story.happen(second, &happens);
            assert_eq!(story.current(), expect, "at {second} s");
        }
    }

    #[test]
    fn what_was_found_at_the_start_is_old_by_its_time_or_by_ours() {
        let check = |is_old, second, expect| {
            let mut sides = Sides::new(Some(LIMIT));
            sides.handle_found(Duration::from_secs(5), A, BatchSeq(3), is_old);
            let at = |_| place(1, 3);
            let changed = sides.handle_taken(Duration::from_secs(second), A, None, at);
            assert_eq!((changed, sides.rests(A)), (expect, expect), "{is_old}, {second} s");
        };
        check(true, 5, true);
        check(false, 36, false);
        check(false, 37, true);
        let mut never = Sides::new(None);
        never.handle_found(Duration::ZERO, A, BatchSeq(3), true);
        assert!(!never.handle_taken(LIMIT * 2, A, None, |_| place(1, 3)));
    }

    /// However often a stream is written, little is remembered of it.
    #[test]
    fn steps_are_limited_and_never_make_a_batch_younger() {
        let mut sides = Sides::new(Some(LIMIT));
        for millis in 0..200_000 {
            let now = Duration::from_millis(millis);
            sides.handle_committed(now, A, BatchSeq(millis + 1));
            let track = &sides.tracks[&A];
            assert!(track.steps.len() <= STEPS_MAX);
            let limit = u64::try_from(LIMIT.as_millis()).unwrap();
            let (exact, early) = ((millis + 1).saturating_sub(limit), limit / u64::from(STEPS));
            let old = track.old_through(now, LIMIT).0;
            assert!((exact..=exact + early).contains(&old), "{old} for {exact} at {millis}");
        }
    }
}
