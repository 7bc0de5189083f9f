//! How often a box may write about its log: a bucket that refills evenly.

use guan_model::BoxId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most boxes whose bucket is kept. A full bucket is forgotten first, as it says nothing.
pub const BUCKETS_MAX: usize = 4096;

/// Buckets of all boxes for one kind of letter.
#[derive(Debug)]
pub struct Rate {
    per_minute: u32,
    /// How much of the bucket is used, and when that was so.
    used: BTreeMap<BoxId, (Duration, Duration)>,
}

impl Rate {
    /// So many at once, and so many a minute.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, used: BTreeMap::new() }
    }

    /// Takes one out of the box's bucket; `false`: it is empty.
    pub fn take(&mut self, box_id: &BoxId, now: Duration) -> bool {
        let one = Duration::from_secs(60) / self.per_minute;
        if self.used.len() >= BUCKETS_MAX && !self.used.contains_key(box_id) {
            self.used.retain(|_, (used, at)| *used > now.saturating_sub(*at));
            if self.used.len() >= BUCKETS_MAX {
                return false;
            }
        }
        let (used, at) = self.used.entry(box_id.clone()).or_insert((Duration::ZERO, now));
        *used = used.saturating_sub(now.saturating_sub(*at));
        *at = now;
        if *used + one > one * self.per_minute {
            return false;
        }
        *used += one;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_for_each_box() {
        let (one, other) = (BoxId::parse("box-1").unwrap(), BoxId::parse("box-2").unwrap());
        let mut rate = Rate::new(30);
        let taken = |rate: &mut Rate, id: &BoxId, at: u64| {
            (0..100).filter(|_| rate.take(id, Duration::from_secs(at))).count()
        };
        assert_eq!(taken(&mut rate, &one, 0), 30);
        assert_eq!(taken(&mut rate, &other, 0), 30);
        assert_eq!(taken(&mut rate, &one, 1), 0);
        assert_eq!(taken(&mut rate, &one, 10), 5);
        assert_eq!(taken(&mut rate, &one, 1000), 30);
    }

    #[test]
    fn buckets_are_bounded() {
        let mut rate = Rate::new(1);
        let id = |number: usize| BoxId::parse(&format!("box-{number}")).unwrap();
        for number in 0..BUCKETS_MAX {
            assert!(rate.take(&id(number), Duration::ZERO));
        }
        assert!(!rate.take(&id(BUCKETS_MAX), Duration::from_secs(1)));
        assert!(
            rate.take(&id(BUCKETS_MAX), Duration::from_secs(61)),
            "old buckets were full again"
        );
        assert_eq!(rate.used.len(), 1);
    }
}
