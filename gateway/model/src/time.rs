//! Moments, and how far the box may trust its own clock.
//!
//! Order never depends on wall time: it comes from sequence numbers. Wall time is a claim with a
//! quality. A clock that is plainly wrong (1970 after a flat battery, 2040 after a bad set) must not
//! stop collection, so `Clock` then continues from the last moment known to be good.

use std::fmt;
use std::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z, as a signed number: 1677 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl WallTime {
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub fn saturating_add(self, span: Duration) -> Self {
        let nanos = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    pub fn saturating_sub(self, span: Duration) -> Self {
        let nanos = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// Time from `earlier` to here, zero if that lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// How good the wall clock is, the numbers of research/log.md, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ClockQuality {
    /// The clock was found impossible; time is carried on from the last good moment.
    Unset = 0,
    /// Battery clock, or the system's clock of unknown origin.
    Rtc = 1,
    Ntp = 2,
    Authenticated = 3,
    Witnessed = 4,
}

impl ClockQuality {
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Unset, Self::Rtc, Self::Ntp, Self::Authenticated, Self::Witnessed]
            .into_iter()
            .find(|quality| *quality as u8 == code)
    }
}

impl fmt::Display for ClockQuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "unset",
            Self::Rtc => "rtc",
            Self::Ntp => "ntp",
            Self::Authenticated => "authenticated",
            Self::Witnessed => "witnessed",
        })
    }
}

/// A moment as the box knows it. Pure crates take it as their first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Best wall time; never behind the last durable moment when `quality` is `Unset`.
    pub wall: WallTime,
    /// Since this boot; never steps.
    pub monotonic: Duration,
    pub quality: ClockQuality,
}

/// No box was built before this moment (2026-11-01T00:00:00Z): a clock behind it is wrong.
pub const EARLIEST: WallTime = WallTime(1_793_491_200_000_000_000);
/// A clock this far ahead of the last durable moment is wrong: no box sleeps five years and is
/// then trusted without a person.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 366 * 24 * 3600);

/// Turns what the system's clock says into a `Now` that can be used.
#[derive(Debug, Clone)]
pub struct Clock {
    floor: WallTime,
    floor_at: Duration,
}

impl Clock {
    /// `last_durable` is the newest moment found in the spool, `monotonic` the present one.
    pub fn new(last_durable: Option<WallTime>, monotonic: Duration) -> Self {
        let floor = last_durable.map_or(EARLIEST, |moment| moment.max(EARLIEST));
        Self { floor, floor_at: monotonic }
    }

    /// The moment for a reading of both system clocks.
    pub fn observe(&mut self, wall: WallTime, monotonic: Duration) -> Now {
        let carried = self.floor.saturating_add(monotonic.saturating_sub(self.floor_at));
        let behind = wall < self.floor;
        let ahead = wall > carried.saturating_add(AHEAD_MAX);
        if behind || ahead {
            return Now { wall: carried, monotonic, quality: ClockQuality::Unset };
        }
        Now { wall, monotonic, quality: ClockQuality::Rtc }
    }

    /// Raises the floor: `moment` has become durable.
    pub fn handle_durable(&mut self, now: Now) {
        if now.wall > self.floor {
            self.floor = now.wall;
            self.floor_at = now.monotonic;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: WallTime = WallTime(1_800_000_000_000_000_000);

    fn check(wall: WallTime, expect: (WallTime, ClockQuality)) {
        let mut clock = Clock::new(Some(BASE), Duration::from_secs(10));
        let now = clock.observe(wall, Duration::from_secs(15));
        assert_eq!((now.wall, now.quality), expect, "for {wall:?}");
    }

    #[test]
    fn impossible_clocks_are_carried_on() {
        let carried = BASE.saturating_add(Duration::from_secs(5));
        let later = BASE.saturating_add(Duration::from_secs(3600));
        check(later, (later, ClockQuality::Rtc));
        check(WallTime(0), (carried, ClockQuality::Unset));
        check(WallTime::from_seconds(2_208_988_800), (carried, ClockQuality::Unset));
    }

    #[test]
    fn floor_rises_with_durable_moments() {
        let mut clock = Clock::new(None, Duration::ZERO);
        let first = clock.observe(BASE, Duration::from_secs(1));
        clock.handle_durable(first);
        let stepped = clock.observe(EARLIEST, Duration::from_secs(3));
        assert_eq!(stepped.wall, BASE.saturating_add(Duration::from_secs(2)));
        assert_eq!(stepped.quality, ClockQuality::Unset);
    }
}
