//! The figures that are published.

use std::fmt;

/// A share of one.
pub const SHARE_ONE: u32 = 1_000_000;

/// A share in millionths, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// Why a text is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no share from 0 to 1 with at most six decimals, such as 0.95")]
pub struct ShareFault {
    found: String,
}

impl Share {
    /// `None` without anything to be a share of; rounded down.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        let millionths = u128::from(part.min(whole)) * u128::from(SHARE_ONE);
        let millionths = millionths.checked_div(u128::from(whole))?;
        Some(Self(u32::try_from(millionths).expect("the part is not above the whole")))
    }

    /// `None` above one million.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths <= SHARE_ONE).then_some(Self(millionths))
    }

    pub fn millionths(self) -> u32 {
        self.0
    }

    /// `0.95`, `1`, `0`, `1.000000`.
    pub fn parse(text: &str) -> Result<Self, ShareFault> {
        let fault = || ShareFault { found: text.chars().take(32).collect() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_plain = !whole.is_empty()
            && whole.len() + decimals.len() <= 7
            && decimals.len() <= 6
            && [whole, decimals].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
            && text.ends_with(|last: char| last.is_ascii_digit());
        let digits = format!("{whole}{decimals:0<6}");
        let millionths = digits.parse().ok().filter(|_| is_plain);
        millionths.and_then(Self::from_millionths).ok_or_else(fault)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / SHARE_ONE, self.0 % SHARE_ONE)
    }
}

/// One of the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    Completeness,
    Accuracy,
    Timeliness,
    Consistency,
}

impl Metric {
    pub const ALL: [(&'static str, Self); 4] = [
        ("completeness", Self::Completeness),
        ("accuracy", Self::Accuracy),
        ("timeliness", Self::Timeliness),
        ("consistency", Self::Consistency),
    ];
}

/// What one day of a dataset was like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub readings: u64,
    /// Messages that were refused whole.
    pub refused: u64,
    pub completeness: Option<Share>,
    pub accuracy: Option<Share>,
    pub timeliness: Option<Share>,
    pub consistency: Option<Share>,
    /// Bounds of the delay between event and receipt, in milliseconds.
    pub delay_p50_ms: Option<u64>,
    pub delay_p99_ms: Option<u64>,
    /// The limit of timeliness, in milliseconds.
    pub timely_within_ms: u64,
}

impl Figures {
    pub fn share(&self, metric: Metric) -> Option<Share> {
        match metric {
            Metric::Completeness => self.completeness,
            Metric::Accuracy => self.accuracy,
            Metric::Timeliness => self.timeliness,
            Metric::Consistency => self.consistency,
        }
    }

    pub(crate) fn share_mut(&mut self, metric: Metric) -> &mut Option<Share> {
        match metric {
            Metric::Completeness => &mut self.completeness,
            Metric::Accuracy => &mut self.accuracy,
            Metric::Timeliness => &mut self.timeliness,
            Metric::Consistency => &mut self.consistency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        let check = |text: &str, expect: Option<u32>| {
            assert_eq!(Share::parse(text).ok().map(Share::millionths), expect, "{text:?}");
        };
        check("0", Some(0));
        check("1", Some(1_000_000));
        check("1.000000", Some(1_000_000));
        check("0.95", Some(950_000));
        check("0.000001", Some(1));
        for wrong in ["", ".5", "1.", "1.000001", "2", "-0", "+1", "0.0000001", "1e0", "00000001"] {
            check(wrong, None);
        }
        assert_eq!(Share::of(2, 3).unwrap().to_string(), "0.666666");
        assert_eq!(Share::of(9, 3).unwrap().to_string(), "1.000000");
        assert_eq!(Share::of(u64::MAX, u64::MAX).unwrap().to_string(), "1.000000");
        assert_eq!(Share::of(0, 0), None);
    }
}
