//! How much may go: counters for a period, and a rate.

use guan_model::WallTime;

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QuotaKind {
    /// Readings accepted for delivery.
    Count = 1,
    /// Bytes of readings before compression: the value and 8 bytes of time.
    Size = 2,
}

impl QuotaKind {
    /// For people.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Count => "readings",
            Self::Size => "bytes",
        }
    }
}

/// After what a counter starts again. Calendar periods are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Period {
    /// Never: for the life of the contract.
    Total = 0,
    Minute = 1,
    Hour = 2,
    Day = 3,
    Month = 4,
}

impl Period {
    pub const ALL: [Self; 5] = [Self::Total, Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Total => "in all",
            Self::Minute => "a minute",
            Self::Hour => "an hour",
            Self::Day => "a day",
            Self::Month => "a month",
        }
    }

    /// The period that a moment lies in; grows with time.
    pub fn number(self, at: WallTime) -> i64 {
        let seconds = at.0.div_euclid(1_000_000_000);
        match self {
            Self::Total => 0,
            Self::Minute => seconds.div_euclid(60),
            Self::Hour => seconds.div_euclid(3600),
            Self::Day => seconds.div_euclid(86_400),
            Self::Month => month(seconds.div_euclid(86_400)),
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|period| *period as u8 == code)
    }
}

/// Months since January of year 0, of a day since 1970 (proleptic Gregorian).
fn month(day: i64) -> i64 {
    let date = time::Date::from_julian_day(i32::try_from(day + 2_440_588).unwrap_or(i32::MAX));
    date.map_or(i64::MAX, |date| i64::from(date.year()) * 12 + i64::from(u8::from(date.month())))
}

/// One counter of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaKey {
    pub kind: QuotaKind,
    pub period: Period,
}

impl QuotaKey {
    /// What one reading adds.
    pub fn cost(self, bytes: u64) -> u64 {
        match self.kind {
            QuotaKind::Count => 1,
            QuotaKind::Size => bytes,
        }
    }
}

/// At most so many readings in any span of time, as a bucket that refills evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    pub readings: u64,
    pub per_s: u64,
}

impl Rate {
    /// Nanoseconds that one reading takes from the bucket.
    pub fn cost_nanos(self) -> u64 {
        (self.per_s * 1_000_000_000 / self.readings).max(1)
    }

    /// Nanoseconds that a full bucket holds.
    pub fn full_nanos(self) -> u64 {
        self.cost_nanos() * self.readings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        let check = |period: Period, a: i64, b: i64, same: bool| {
            let number = |s| period.number(WallTime::from_seconds(s));
            assert_eq!(number(a) == number(b), same, "{period:?} {a} {b}");
            assert!(number(a) <= number(b), "{period:?} {a} {b}");
        };
        // 2026-11-30T23:59:59Z and the second after it.
        let (last, next) = (1_796_083_199, 1_796_083_200);
        check(Period::Total, 0, next, true);
        for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
            check(period, last, next, false);
            check(period, next, next + 1, true);
            check(period, -1, 0, false);
        }
        check(Period::Month, next, next + 30 * 86_400, true);
    }

    #[test]
    fn rates() {
        let rate = Rate { readings: 10_000, per_s: 86_400 };
        assert_eq!(rate.cost_nanos(), 8_640_000_000);
        assert_eq!(rate.full_nanos(), 86_400_000_000_000);
        assert_eq!(Rate { readings: u64::MAX, per_s: 1 }.cost_nanos(), 1);
    }
}
