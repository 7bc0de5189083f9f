//! Who goes next when what came in this session and what was kept from before both wait: the new, with a share
//! of the bytes that the old is owed.

/// Share that the backlog has by default.
pub const BACKLOG_PERCENT: u8 = 25;
/// Highest share: more would leave nothing for what comes now.
pub const BACKLOG_PERCENT_MAX: u8 = 90;

#[derive(Debug, Clone)]
pub(super) struct Share {
    percent: i64,
    /// Bytes times percent that the backlog is behind its share; below zero, ahead of it.
    owed: i64,
}

impl Share {
    pub(super) fn new(percent: u8) -> Self {
        Self { percent: percent.min(BACKLOG_PERCENT_MAX).into(), owed: 0 }
    }

    pub(super) fn is_backlog_first(&self) -> bool {
        self.owed > 0
    }

    /// `cost` bytes of one kind leave; whether the other kind waits meanwhile.
    pub(super) fn handle_served(&mut self, is_backlog: bool, cost: u64, has_other: bool) {
        // Who has nothing to send saves nothing up.
        if !has_other {
            self.owed = 0;
            return;
        }
        let cost = i64::try_from(cost).expect("items are short");
        self.owed += match is_backlog {
            true => -cost * (100 - self.percent),
            false => cost * self.percent,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Within the largest item, whatever the items are like.
        #[test]
        fn both_have_their_share(
            percent in 0..=BACKLOG_PERCENT_MAX,
            costs in proptest::collection::vec(1..100_000_u64, 1..500),
        ) {
            let mut share = Share::new(percent);
            let (mut backlog, mut total, mut largest) = (0, 0, 0);
            for cost in costs {
                let is_backlog = share.is_backlog_first();
                share.handle_served(is_backlog, cost, true);
                backlog += if is_backlog { cost } else { 0 };
                (total, largest) = (total + cost, cost.max(largest));
                let due = total * u64::from(percent) / 100;
                prop_assert!(backlog <= due + largest && due <= backlog + largest);
            }
        }
    }

    #[test]
    fn nothing_is_saved_up_while_alone() {
        let mut share = Share::new(50);
        share.handle_served(true, 1_000_000, false);
        share.handle_served(false, 10, true);
        assert!(share.is_backlog_first());
        share.handle_served(false, 1_000_000, false);
        assert!(!share.is_backlog_first());
    }
}
