//! How fast the program wears the flash that its state lies on: bytes a day, and how many years of an eMMC
//! that leaves.
//!
//! Counts what the kernel hands to the storage for this process. What the device adds by itself is in the
//! endurance that is assumed.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// How often an eMMC of three bits a cell can be written from end to end, its own overhead included: a
/// third of the 3,000 cycles that makers name for the cells.
pub const FULL_WRITES: u64 = 1000;
/// A rate over less than this says nothing about a day.
pub const OBSERVED_MIN: Duration = Duration::from_secs(600);
const DAY_S: u64 = 86_400;
const YEAR_DAYS: f64 = 365.25;

/// The wear since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FlashView {
    pub written_bytes: u64,
    pub observed_s: u64,
    /// Size of the file system with the state.
    pub size_bytes: u64,
    /// `None` until it has been observed for [`OBSERVED_MIN`].
    pub written_bytes_per_day: Option<u64>,
    /// Until [`FULL_WRITES`] at this rate, of a new device.
    pub years: Option<f64>,
}

impl FlashView {
    /// Looks at the running process; all zero where the kernel tells nothing.
    pub fn observe(state_dir: &Path, running: Duration) -> Self {
        Self::of(written_bytes(), size_bytes(state_dir), running)
    }

    fn of(written_bytes: u64, size_bytes: u64, running: Duration) -> Self {
        let observed_s = running.as_secs();
        let known = running >= OBSERVED_MIN && size_bytes > 0;
        let per_day = u128::from(written_bytes) * u128::from(DAY_S) / u128::from(observed_s.max(1));
        let written_bytes_per_day = known.then(|| u64::try_from(per_day).unwrap_or(u64::MAX));
        let years = written_bytes_per_day.filter(|per_day| *per_day > 0).map(|per_day| {
            let endurance = size_bytes.saturating_mul(FULL_WRITES);
            (precise(endurance) / precise(per_day) / YEAR_DAYS * 10.0).round() / 10.0
        });
        Self { written_bytes, observed_s, size_bytes, written_bytes_per_day, years }
    }
}

fn written_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    field("write_bytes:").saturating_sub(field("cancelled_write_bytes:"))
}

fn size_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate of years")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_follow_from_the_rate_and_the_size() {
        let hour = Duration::from_secs(3600);
        // A gigabyte a day on 8 GB, a thousand times: 8,000 days.
        let view = FlashView::of(1_000_000_000 / 24, 8_000_000_000, hour);
        assert_eq!(view.written_bytes_per_day, Some(999_999_984));
        assert_eq!(view.years, Some(21.9));
        let early = FlashView::of(1 << 30, 1 << 33, OBSERVED_MIN - Duration::from_secs(1));
        assert_eq!((early.written_bytes_per_day, early.years), (None, None));
        assert_eq!(FlashView::of(0, 1 << 33, hour).years, None);
        assert_eq!(FlashView::of(1, 0, hour).written_bytes_per_day, None);
    }
}
