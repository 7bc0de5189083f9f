//! The two sides of a lane: which stream a batch goes to, and when what comes now may overtake what waits.

use super::{Engine, EngineError};
use crate::lanes::{Lane, LaneFault};
use crate::sides::{Place, Sides};
use guan_model::{ClockQuality, Now, StreamId};
use guan_policy::Permitted;
use guan_spool::{Disk, Spool};

fn place<D: Disk>(spool: &Spool<D>, stream: StreamId) -> Place {
    Place { released: spool.released(stream), newest: spool.newest(stream) }
}

impl<D: Disk, T> Engine<D, T> {
    /// What the files say of the sides: what waits is old if it is older than the limit for certain, and of two sides
    /// that hold something the one that was written last is current. Where both were written last into one segment
    /// with a clock that was set back meanwhile, the wrong one may be, until one is empty.
    pub(super) fn find_sides(&mut self, now: &Now) {
        let (spool, lanes) = (&self.spool, &self.memory.lanes);
        let is_old = |stream| {
            let age = spool.waits_since(stream).map(|since| now.wall.since(since));
            let limit = self.config.live_after;
            now.quality != ClockQuality::Unset && age.zip(limit).is_some_and(|(age, max)| age > max)
        };
        let mut sides = Sides::new(self.config.live_after);
        let streams = lanes.iter().flat_map(|(number, _)| {
            (0..StreamId::CLASSES).map(move |class| StreamId::of(class, number))
        });
        for stream in streams {
            let at = place(spool, stream);
            if at.released < at.newest {
                sides.handle_found(now.monotonic, stream, at.newest, is_old(stream));
            }
        }
        let pairs = lanes.pairs().into_iter();
        for (one, other) in pairs.flat_map(|(one, other)| {
            let of = move |class| (StreamId::of(class, one), StreamId::of(class, other));
            (0..StreamId::CLASSES).map(of)
        }) {
            let are_both_held = [one, other].iter().all(|stream| sides.is_watched(*stream));
            if are_both_held {
                let is_older = spool.last_kept(one) < spool.last_kept(other);
                sides.handle_found_older(if is_older { one } else { other });
            }
        }
        self.sides = sides;
        self.show_sides();
    }

    /// The stream of a batch: of the current side of the lane of its terms.
    pub(super) fn stream_for(
        &mut self,
        class: u16,
        lane: &Lane,
        permitted: &Permitted,
    ) -> Result<StreamId, LaneFault> {
        let (first, second) = self.memory.lanes.numbers_of(lane)?;
        let stream = StreamId::of(class, first);
        if permitted.terms.is_delayed() {
            self.sides.forget(stream);
            return Ok(stream);
        }
        if !self.sides.rests(stream) {
            return Ok(stream);
        }
        let spool = &self.spool;
        let may_take = |number| spool.has_ample_room_for(StreamId::of(class, number));
        let second = match second {
            Some(second) => Some(second).filter(|number| may_take(*number)),
            None => self.memory.lanes.open_second(lane, may_take),
        };
        Ok(second.map_or(stream, |number| StreamId::of(class, number)))
    }

    /// What was staged is durable.
    pub(super) fn handle_kept(&mut self, now: &Now) {
        for stream in std::mem::take(&mut self.kept) {
            self.sides.handle_committed(now.monotonic, stream, self.spool.newest(stream));
        }
    }

    /// The space has taken batches of a stream.
    pub(super) fn handle_taken(&mut self, now: &Now, stream: StreamId) {
        if self.change_sides(now, stream) {
            self.show_sides();
        }
    }

    /// The space is there, and takes batches from here on.
    pub(super) fn handle_present(&mut self, now: &Now) {
        let streams: Vec<StreamId> = self.sides.streams().collect();
        for stream in streams {
            self.change_sides(now, stream);
        }
        self.show_sides();
    }

    fn change_sides(&mut self, now: &Now, stream: StreamId) -> bool {
        // No two streams of a lane hold batches of the same moment.
        if now.monotonic <= self.committed_at {
            return false;
        }
        let other = self.memory.lanes.partner(stream.lane());
        let other = other.map(|number| StreamId::of(stream.class(), number));
        let spool = &self.spool;
        self.sides.handle_taken(now.monotonic, stream, other, |stream| place(spool, stream))
    }

    /// Tells the reader what is a backlog.
    fn show_sides(&self) {
        self.door.set_resting(self.sides.resting());
    }

    /// Closes the sides that have drained.
    pub(super) fn close_drained(&mut self, now: Now) -> Result<(), EngineError> {
        let pairs = self.memory.lanes.pairs().into_iter();
        let drained: Vec<u16> = pairs
            .filter_map(|(one, other)| match self.has_drained(one, other) {
                true => Some(one),
                false => self.has_drained(other, one).then_some(other),
            })
            .collect();
        if !drained.is_empty() {
            drained.into_iter().for_each(|number| self.memory.lanes.close(number));
            self.commit(now)?;
        }
        Ok(())
    }

    /// A side that is empty while the other one is current; or while both are empty, and either will do.
    fn has_drained(&self, number: u16, other: u16) -> bool {
        let rests = |number| {
            (0..StreamId::CLASSES).any(|class| self.sides.rests(StreamId::of(class, number)))
        };
        let is_spare = || rests(number) || (self.spool.is_lane_empty(other) && !rests(other));
        self.spool.is_lane_empty(number) && is_spare()
    }

    /// Lanes were closed or opened.
    pub(super) fn retain_sides(&mut self) {
        let lanes = &self.memory.lanes;
        self.sides.retain(|stream| lanes.get(stream.lane()).is_some());
        self.show_sides();
    }
}
