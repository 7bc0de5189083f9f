//! How long readings took to arrive, in a histogram of fixed size.

use std::time::Duration;

/// Upper bounds in milliseconds: 1, 2, 5 to 5 * 10^8 (under six days).
const BOUNDS: [u64; BUCKETS - 1] = bounds();
/// With one for everything longer.
pub const BUCKETS: usize = 28;
/// Longest delay that a bucket tells apart.
pub const DELAY_MS_MAX: u64 = BOUNDS[BUCKETS - 2];

const fn bounds() -> [u64; BUCKETS - 1] {
    let steps = [1, 2, 5];
    let mut bounds = [0; BUCKETS - 1];
    let (mut index, mut decade) = (0, 1);
    while index < BUCKETS - 1 {
        bounds[index] = steps[index % 3] * decade;
        if index % 3 == 2 {
            decade *= 10;
        }
        index += 1;
    }
    bounds
}

/// Counts of delays by size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delays(pub(super) [u64; BUCKETS]);

impl Default for Delays {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Delays {
    pub(super) fn observe(&mut self, delay: Duration) {
        // Rounded up, so that a bound is never said to be kept when it was not.
        let millis = delay.as_nanos().div_ceil(1_000_000);
        let bucket = BOUNDS.partition_point(|bound| u128::from(*bound) < millis);
        self.0[bucket] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }

    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The smallest bound in milliseconds that at least `percent` of the delays keep; `None` when there
    /// are none, or when it lies above [`DELAY_MS_MAX`].
    pub fn percentile(&self, percent: u32) -> Option<u64> {
        let wanted = (u128::from(self.count()) * u128::from(percent)).div_ceil(100).max(1);
        let mut sum = 0;
        self.0.iter().zip(BOUNDS).find_map(|(count, bound)| {
            sum += u128::from(*count);
            (sum >= wanted).then_some(bound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_bounds_that_are_kept() {
        let check = |millis: &[u64], percent, expect| {
            let mut delays = Delays::default();
            millis.iter().for_each(|ms| delays.observe(Duration::from_millis(*ms)));
            assert_eq!(delays.percentile(percent), expect, "{percent} % of {millis:?}");
        };
        check(&[], 50, None);
        check(&[0], 50, Some(1));
        check(&[1, 2, 3, 4], 50, Some(2));
        check(&[1, 2, 3, 4], 51, Some(5));
        check(&[7; 99], 99, Some(10));
        check(&[DELAY_MS_MAX], 50, Some(500_000_000));
        check(&[DELAY_MS_MAX + 1], 50, None);
        check(&[1, DELAY_MS_MAX + 1], 50, Some(1));
    }
}
