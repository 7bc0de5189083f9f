//! Quotas and rates, with the units in which contracts write them.

use super::TestReader;
use crate::constraint::{Operator, Period, QuotaKey, QuotaKind, Rate, Test};
use crate::fault::{Faults, Problem};

/// Largest limit of a quota; more than any box collects in its life.
const QUOTA_MAX: u64 = 1 << 53;
/// Largest rate, a second.
const RATE_MAX: u64 = 1_000_000_000;

impl TestReader<'_> {
    pub(super) fn quota(&self, kind: QuotaKind, faults: &mut Faults) -> Option<Test> {
        const COUNTS: [(&str, Period); 5] = [
            ("1", Period::Total),
            ("1/min", Period::Minute),
            ("1/h", Period::Hour),
            ("1/d", Period::Day),
            ("1/mo", Period::Month),
        ];
        const SIZES: [(&str, Period); 5] = [
            ("By", Period::Total),
            ("By/min", Period::Minute),
            ("By/h", Period::Hour),
            ("By/d", Period::Day),
            ("By/mo", Period::Month),
        ];
        let comparison = self.comparison(faults);
        let limit = self.right.whole(faults)?;
        if limit == 0 || limit > QUOTA_MAX {
            faults.add(&self.right.pointer, Problem::Limit { found: limit, limit: QUOTA_MAX });
        }
        let period = match (&self.unit, kind) {
            (None, _) => Period::Total,
            (Some(unit), QuotaKind::Count) => {
                unit.word(&COUNTS, "the units 1, 1/min, 1/h, 1/d, 1/mo", faults)?
            }
            (Some(unit), QuotaKind::Size) => {
                unit.word(&SIZES, "the units By, By/min, By/h, By/d, By/mo", faults)?
            }
        };
        let key = QuotaKey { kind, period };
        Some(Test::Quota { key, comparison: comparison?, limit })
    }

    pub(super) fn rate(&self, faults: &mut Faults) -> Option<Test> {
        const UNITS: [(&str, u64); 4] = [("1/s", 1), ("1/min", 60), ("1/h", 3600), ("1/d", 86_400)];
        if self.operator != Operator::Lteq {
            self.wrong_operator("lteq", faults);
            return None;
        }
        let readings = self.right.whole(faults)?;
        if readings == 0 || readings > RATE_MAX {
            faults.add(&self.right.pointer, Problem::Limit { found: readings, limit: RATE_MAX });
            return None;
        }
        let Some(unit) = &self.unit else {
            faults.add(&self.operator_pointer, Problem::Missing);
            return None;
        };
        let per_s = unit.word(&UNITS, "the units 1/s, 1/min, 1/h, 1/d", faults)?;
        Some(Test::Rate(Rate { readings, per_s }))
    }
}
