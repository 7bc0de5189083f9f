//! One window of an aggregate: what has been seen of a point since the window began.
//!
//! Windows lie at multiples of their length since 1970, by the time of measuring. Only values that are
//! finite numbers and not bad count. What comes for an earlier window, or from the future, counts as
//! late and is left out. A window ends when a later reading comes, or when nothing has come for a while
//! and it is over by the clock; an empty window stays behind it, so that what is late stays late.

use super::quantiles::{QUANTILES_BYTES_MAX, Quantiles};
use crate::duty::Statistic;
use guan_model::WallTime;
use guan_model::bytes_io::{ReadFault, Reader, Writer};
use std::time::Duration;

/// How far before its gateway a source may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);
/// How long after its end a window waits for what is late, at most.
const LATENESS_MAX: Duration = Duration::from_secs(60);

/// Most readings of a window; more would take longer than any window.
const COUNT_MAX: u64 = 1 << 53;

/// The sums of one window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    start: WallTime,
    length: Duration,
    statistic: Statistic,
    readings_min: u64,
    count: u64,
    min: f64,
    max: f64,
    mean: f64,
    quantiles: Quantiles,
    /// When the last reading came.
    touched: WallTime,
}

/// What a reading does to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It belongs to this window.
    Here,
    /// This window is over.
    After,
    Late,
}

impl Window {
    /// The window that a moment lies in.
    pub(crate) fn around(
        moment: WallTime,
        length: Duration,
        statistic: Statistic,
        readings_min: u64,
    ) -> Self {
        let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX).max(1);
        Self {
            start: WallTime(moment.0.div_euclid(nanos).saturating_mul(nanos)),
            length,
            statistic,
            readings_min,
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            quantiles: Quantiles::default(),
            touched: WallTime(i64::MIN),
        }
    }

    /// The empty window that follows on this one.
    pub(crate) fn next(&self) -> Self {
        Self::around(self.end(), self.length, self.statistic, self.readings_min)
    }

    /// An empty window of the same kind.
    pub(super) fn around_moment(&self, moment: WallTime) -> Self {
        Self::around(moment, self.length, self.statistic, self.readings_min)
    }

    /// Whether nothing has ever come for it.
    pub(super) fn is_blank(&self) -> bool {
        *self == self.around_moment(self.start)
    }

    /// Whether it is one of the windows that `around_moment` of another gives.
    pub(super) fn follows(&self, other: &Self) -> bool {
        let begun = other.around_moment(self.start);
        let kind = |one: &Self| (one.start, one.length, one.statistic, one.readings_min);
        kind(self) == kind(&begun)
    }

    pub(crate) fn start(&self) -> WallTime {
        self.start
    }

    pub(super) fn end(&self) -> WallTime {
        self.start.saturating_add(self.length)
    }

    pub(crate) fn place(&self, moment: WallTime) -> Place {
        if moment < self.start {
            Place::Late
        } else if moment < self.end() {
            Place::Here
        } else {
            Place::After
        }
    }

    /// Whether nothing more is waited for.
    pub(crate) fn is_overdue(&self, now: WallTime) -> bool {
        let lateness = self.length.min(LATENESS_MAX);
        let is_quiet = now.since(self.touched) >= lateness;
        self.touched > WallTime(i64::MIN) && is_quiet && now >= self.end().saturating_add(lateness)
    }

    /// A reading came for it, whether or not it counts.
    pub(crate) fn touch(&mut self, at: WallTime) {
        self.touched = self.touched.max(at);
    }

    #[allow(clippy::cast_precision_loss, reason = "2^53 readings take longer than any window")]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.mean += (value - self.mean) / self.count as f64;
        if matches!(self.statistic, Statistic::Percentile(_)) {
            self.quantiles.add(value);
        }
    }

    /// The statistic; `None` when too few readings stand behind it.
    #[allow(clippy::cast_precision_loss, reason = "2^53 readings take longer than any window")]
    pub(crate) fn result(&mut self) -> Option<f64> {
        if self.count < self.readings_min.max(1) {
            return None;
        }
        let result = match self.statistic {
            Statistic::Count => Some(self.count as f64),
            Statistic::Min => Some(self.min),
            Statistic::Max => Some(self.max),
            Statistic::Mean => Some(self.mean.clamp(self.min, self.max)),
            Statistic::Percentile(percent) => {
                self.quantiles.at(f64::from(percent) / 100.0, self.min, self.max)
            }
        };
        // Sums of the largest doubles overflow.
        result.filter(|number| number.is_finite())
    }

    /// Readings that stand behind it so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Most bytes of its record.
    pub(super) fn bytes_max(&self) -> usize {
        match self.statistic {
            Statistic::Percentile(_) => 80 + QUANTILES_BYTES_MAX,
            _ => 80,
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.start.0.cast_unsigned());
        out.u64(u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX));
        out.u8(match self.statistic {
            Statistic::Count => 128,
            Statistic::Min => 129,
            Statistic::Max => 130,
            Statistic::Mean => 131,
            Statistic::Percentile(percent) => percent,
        });
        out.varint(self.readings_min);
        out.varint(self.count);
        [self.min, self.max, self.mean].iter().for_each(|number| out.u64(number.to_bits()));
        self.quantiles.write(out);
        out.u64(self.touched.0.cast_unsigned());
    }

    /// `None` for values that no window can have.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, ReadFault> {
        let start = WallTime(reader.u64()?.cast_signed());
        let length = Duration::from_nanos(reader.u64()?);
        let statistic = match reader.u8()? {
            128 => Statistic::Count,
            129 => Statistic::Min,
            130 => Statistic::Max,
            131 => Statistic::Mean,
            percent => Statistic::Percentile(percent),
        };
        let (readings_min, count) = (reader.varint()?, reader.varint()?);
        let mut number = || reader.u64().map(f64::from_bits);
        let (min, max, mean) = (number()?, number()?, number()?);
        let quantiles = Quantiles::read(reader)?;
        let touched = WallTime(reader.u64()?.cast_signed());
        // Of nothing, the smallest and the largest are still what `around` makes them.
        let are_ends = match count {
            0 => (min, max) == (f64::INFINITY, f64::NEG_INFINITY),
            _ => min.is_finite() && max.is_finite() && min <= max,
        };
        let is_share = !matches!(statistic, Statistic::Percentile(101..));
        let is_sound = are_ends && is_share && count <= COUNT_MAX && !length.is_zero();
        Ok(quantiles.filter(|_| is_sound).map(|quantiles| Self {
            start,
            length,
            statistic,
            readings_min,
            count,
            min,
            max,
            mean,
            quantiles,
            touched,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statistic: Statistic, minimum: u64, values: &[f64], expect: Option<f64>) {
        let minute = Duration::from_secs(60);
        let mut window = Window::around(WallTime::from_seconds(125), minute, statistic, minimum);
        assert_eq!(window.start(), WallTime::from_seconds(120));
        values.iter().for_each(|value| window.add(*value));
        let mut out = Writer::new();
        window.write(&mut out);
        let bytes = out.finish();
        assert_eq!(Window::read(&mut Reader::new(&bytes)).unwrap().as_ref(), Some(&window));
        assert_eq!(window.result(), expect, "{statistic:?} of {values:?}");
    }

    #[test]
    fn statistics() {
        let values = [3.0, -1.0, 4.0];
        check(Statistic::Count, 3, &values, Some(3.0));
        check(Statistic::Count, 4, &values, None);
        check(Statistic::Min, 0, &values, Some(-1.0));
        check(Statistic::Max, 1, &values, Some(4.0));
        check(Statistic::Mean, 1, &values, Some(2.0));
        check(Statistic::Percentile(50), 1, &values, Some(3.0));
        check(Statistic::Mean, 0, &[], None);
    }

    /// Each would stop the program later: a range turned round, a sum that overflows.
    #[test]
    fn windows_that_no_program_writes_are_refused() {
        let minute = Duration::from_secs(60);
        let check = |expect: bool, change: &dyn Fn(&mut Window)| {
            let mut window = Window::around(WallTime(0), minute, Statistic::Percentile(100), 1);
            [3.0, -1.0].iter().for_each(|value| window.add(*value));
            change(&mut window);
            let mut out = Writer::new();
            window.write(&mut out);
            let read = Window::read(&mut Reader::new(&out.finish())).unwrap();
            assert_eq!(read.is_some(), expect, "{window:?}");
            if let Some(mut read) = read {
                read.add(7.0);
                read.result();
            }
        };
        check(true, &|_| {});
        check(true, &|window| window.mean = f64::NAN);
        check(false, &|window| window.min = f64::NAN);
        check(false, &|window| window.max = f64::INFINITY);
        check(false, &|window| window.min = 4.0);
        check(false, &|window| window.count = 0);
        check(true, &|window| window.count = COUNT_MAX);
        check(false, &|window| window.count = COUNT_MAX + 1);
        check(false, &|window| window.statistic = Statistic::Percentile(101));
        check(false, &|window| window.length = Duration::ZERO);
    }

    #[test]
    fn edges_belong_to_the_window_that_they_begin() {
        let at = WallTime::from_seconds;
        let mut window = Window::around(at(-1), Duration::from_secs(60), Statistic::Mean, 1);
        assert_eq!(window.start(), at(-60));
        for (moment, expect) in
            [(-61, Place::Late), (-60, Place::Here), (-1, Place::Here), (0, Place::After)]
        {
            assert_eq!(window.place(at(moment)), expect, "{moment}");
        }
        // Nothing is waited for in an empty window; then for as long as readings come.
        assert!(!window.is_overdue(at(999)));
        window.touch(at(-1));
        assert!(!window.is_overdue(at(59)) && window.is_overdue(at(60)));
        window.touch(at(50));
        assert!(!window.is_overdue(at(109)) && window.is_overdue(at(110)));
        assert_eq!(window.next().start(), at(0));
    }
}
