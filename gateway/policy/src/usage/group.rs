//! Windows that the points of a group share, and which points stand behind each.
//!
//! A batch comes point by point, so a later reading of one point ends nothing: its neighbours may still have
//! readings of the window before. A few windows are open side by side; they end in order, by the clock or when
//! one more would be too many, and what comes for a window that has ended, or for one older than all when there
//! is no room, is late.
//!
//! Never here: which points belong together, what a result looks like.

use super::window::{Place, Window};
use crate::duty::{Aggregate, CONTRIBUTORS_MAX, CONTRIBUTORS_MIN};
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use guan_model::{PointId, WallTime};

/// Most windows that are open at a time.
pub(crate) const OPEN_MAX: usize = 8;

/// The windows of a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GroupWindows {
    contributors_min: u64,
    /// All windows before it have ended.
    floor: WallTime,
    /// By their starts; never more than [`OPEN_MAX`].
    open: Vec<Shared>,
    /// As the next one begins: empty, and of no time.
    blank: Window,
}

/// One window, and the points that gave it a value that counts. More than are asked for need not be known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shared {
    window: Window,
    contributors: Vec<PointId>,
}

/// A reading on its way into a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) point: PointId,
    /// When it was measured, and when it came.
    pub(crate) moment: WallTime,
    pub(crate) gateway_time: WallTime,
    /// `None` for what does not count.
    pub(crate) value: Option<f64>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Absorbed {
    /// With the window that had to end for it.
    Taken(Option<Shared>),
    Late,
}

impl Shared {
    /// Readings that stand behind it.
    pub(crate) fn count(&self) -> u64 {
        self.window.count()
    }

    /// The window, if enough points stand behind it.
    pub(crate) fn result(&self, contributors_min: u64) -> Option<Window> {
        let is_enough = self.contributors.len() as u64 >= contributors_min;
        is_enough.then(|| self.window.clone())
    }

    fn add(&mut self, given: Given, contributors_min: u64) {
        self.window.touch(given.gateway_time);
        let Some(value) = given.value else { return };
        self.window.add(value);
        if let Err(place) = self.contributors.binary_search(&given.point)
            && (self.contributors.len() as u64) < contributors_min
        {
            self.contributors.insert(place, given.point);
        }
    }
}

impl GroupWindows {
    pub(crate) fn new(aggregate: &Aggregate, contributors_min: u64) -> Self {
        let Aggregate { window, statistic, readings_min, .. } = aggregate;
        let blank = Window::around(WallTime(0), *window, *statistic, *readings_min);
        Self { contributors_min, floor: WallTime(i64::MIN), open: Vec::new(), blank }
    }

    pub(crate) fn contributors_min(&self) -> u64 {
        self.contributors_min
    }

    pub(crate) fn absorb(&mut self, given: Given) -> Absorbed {
        let moment = given.moment;
        if moment < self.floor {
            return Absorbed::Late;
        }
        let at = self.open.partition_point(|one| one.window.place(moment) == Place::After);
        let mut ended = None;
        let is_open = self.open.get(at).is_some_and(|one| one.window.place(moment) == Place::Here);
        let at = if is_open {
            at
        } else {
            let Some(window) = self.window_between(at, moment) else { return Absorbed::Late };
            let is_full = self.open.len() == OPEN_MAX;
            if is_full && at == 0 {
                return Absorbed::Late;
            }
            let at = if is_full { at - 1 } else { at };
            if is_full {
                ended = self.end_oldest();
            }
            self.open.insert(at, Shared { window, contributors: Vec::new() });
            at
        };
        self.open[at].add(given, self.contributors_min);
        Absorbed::Taken(ended)
    }

    /// A new window at a place among those that are open. At both ends of what a time can be, windows are cut
    /// short and would lie over each other: there are none.
    fn window_between(&self, at: usize, moment: WallTime) -> Option<Window> {
        let window = self.blank.around_moment(moment);
        let before = at.checked_sub(1).map_or(self.floor, |before| self.open[before].window.end());
        let is_after = before <= window.start();
        let is_before = self.open.get(at).is_none_or(|next| window.end() <= next.window.start());
        (is_after && is_before && window.place(moment) == Place::Here).then_some(window)
    }

    /// Ends the window that is the first in time.
    fn end_oldest(&mut self) -> Option<Shared> {
        if self.open.is_empty() {
            return None;
        }
        let oldest = self.open.remove(0);
        self.floor = oldest.window.end();
        Some(oldest)
    }

    /// Whether nothing more is waited for in the first of its windows.
    pub(super) fn is_overdue(&self, now: WallTime) -> bool {
        self.open.first().is_some_and(|one| one.window.is_overdue(now))
    }

    /// Ends the windows for which nothing more is waited, as long as those before them have ended.
    pub(crate) fn end_overdue(&mut self, now: WallTime) -> Vec<Shared> {
        let mut ended = Vec::new();
        while self.is_overdue(now) {
            ended.extend(self.end_oldest());
        }
        ended
    }

    /// All that are still open.
    pub(crate) fn end_all(self) -> Vec<Shared> {
        self.open
    }

    /// Readings that stand behind the open windows.
    pub(crate) fn count(&self) -> u64 {
        self.open.iter().map(|one| one.window.count()).sum()
    }

    /// Most bytes of its record, with all windows that it may have: it does not grow in its place.
    pub(super) fn bytes_max(&self) -> usize {
        let ids = usize::try_from(self.contributors_min).unwrap_or(usize::MAX).saturating_mul(4);
        let each = self.blank.bytes_max() + ids + 4;
        self.blank.bytes_max() + 16 + each * OPEN_MAX
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.varint(self.contributors_min);
        out.u64(self.floor.0.cast_unsigned());
        self.blank.write(out);
        out.u8(u8::try_from(self.open.len()).expect("at most OPEN_MAX"));
        for one in &self.open {
            one.window.write(out);
            out.varint(one.contributors.len() as u64);
            one.contributors.iter().for_each(|point| out.u32(point.0));
        }
    }

    /// `None` for what no program writes.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, ReadFault> {
        let contributors_min = reader.varint()?;
        let floor = WallTime(reader.u64()?.cast_signed());
        let Some(blank) = Window::read(reader)? else { return Ok(None) };
        let count = usize::from(reader.u8()?);
        let is_asked = (CONTRIBUTORS_MIN..=CONTRIBUTORS_MAX).contains(&contributors_min);
        if !is_asked || count > OPEN_MAX || !blank.is_blank() {
            return Ok(None);
        }
        let mut open: Vec<Shared> = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(window) = Window::read(reader)? else { return Ok(None) };
            let known = reader.varint()?;
            if known > contributors_min.min(window.count()) || (known == 0) != (window.count() == 0)
            {
                return Ok(None);
            }
            let contributors: Result<Vec<PointId>, ReadFault> =
                (0..known).map(|_| reader.u32().map(PointId)).collect();
            let one = Shared { window, contributors: contributors? };
            let from = open.last().map_or(floor, |last| last.window.end());
            let is_sorted = one.contributors.is_sorted_by(|a, b| a < b);
            if !is_sorted || !one.window.follows(&blank) || one.window.start() < from {
                return Ok(None);
            }
            open.push(one);
        }
        Ok(Some(Self { contributors_min, floor, open, blank }))
    }
}

#[cfg(test)]
mod tests;
