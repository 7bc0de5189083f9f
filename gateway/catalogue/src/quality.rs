//! Quality of a dataset on one UTC day, counted while readings come in.
//!
//! After GB/T 36344-2018, clause 5, whose measures all have the form X = A / B. A *message* that could not be
//! decoded, or contradicts type or unit of its point, is refused whole and counts like one reading.
//!
//! | figure | indicators | A | B |
//! |---|---|---|---|
//! | completeness 完整性 | 0201, 0202 | with a declared interval: intervals that hold a value | intervals that were due |
//! | | | else: readings with a value | readings and refused messages |
//! | accuracy 准确性 | 0301, 0302, 0305 | readings of good quality, with a value, within the declared range | readings |
//! | timeliness 时效性 | 0502 | readings received within the limit after their event, and not before it | readings whose source gave a time |
//! | consistency 一致性 | 0402, and the order of 0503 | readings of the declared type and not older than the one before of their point | readings and refused messages |
//!
//! B = 0 gives no figure. Shares are rounded down, so 1 means all. The day is that of receipt. Intervals due are
//! counted over the time that the day was watched: from its begin, or from the very first look, to the last.
//! An interval is filled when a reading of a point falls into another one than the reading before it did; a
//! source that jumps back and forth can fill one twice, which consistency then shows, and A never exceeds B.
//!
//! Work for a reading is bounded (two look-ups in tables made at the start) and allocates only at the first
//! reading of a point on a day. Two tallies of the same day that follow each other merge into exactly the
//! tally of all their readings.
//!
//! Never here: clocks, files, what contracts say.

mod delay;
mod figures;
mod ledger;
mod tally;
mod wire;

pub use delay::{BUCKETS, DELAY_MS_MAX, Delays};
pub use figures::{Figures, Metric, SHARE_ONE, Share, ShareFault};
pub use ledger::{DAYS_KEPT, Day, DayTally, Ledger};
pub use tally::{AHEAD_MAX, Expectation, Tally, Yardstick, YardstickFault};
pub use wire::{DAY_BYTES_MAX, DayFault};

#[cfg(test)]
mod tests;
