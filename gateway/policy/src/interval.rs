//! Sets of moments as sorted, disjoint intervals, so that a contract with hundreds of office hours
//! costs one binary search.

/// Half-open intervals of nanoseconds since 1970, sorted, neither touching nor empty.
///
/// The last moment that `WallTime` can express (2262) is never in a set; nobody is born then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IntervalSet(Vec<(i64, i64)>);

/// How a moment stands to one that the contract names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    Eq,
    Neq,
    Lt,
    Lteq,
    Gt,
    Gteq,
}

impl Comparison {
    const ALL: [Self; 6] = [Self::Eq, Self::Neq, Self::Lt, Self::Lteq, Self::Gt, Self::Gteq];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| *one as u8 == code)
    }

    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Neq => left != right,
            Self::Lt => left < right,
            Self::Lteq => left <= right,
            Self::Gt => left > right,
            Self::Gteq => left >= right,
        }
    }
}

impl IntervalSet {
    pub fn all() -> Self {
        Self(vec![(i64::MIN, i64::MAX)])
    }

    /// All moments that stand so to `moment`.
    pub fn of(comparison: Comparison, moment: i64) -> Self {
        let moment = moment.min(i64::MAX - 1);
        let (before, after) = ((i64::MIN, moment), (moment + 1, i64::MAX));
        let intervals = match comparison {
            Comparison::Eq => vec![(moment, moment + 1)],
            Comparison::Neq => vec![before, after],
            Comparison::Lt => vec![before],
            Comparison::Lteq => vec![(i64::MIN, moment + 1)],
            Comparison::Gt => vec![after],
            Comparison::Gteq => vec![(moment, i64::MAX)],
        };
        Self(intervals.into_iter().filter(|(from, until)| from < until).collect())
    }

    /// `None` unless the intervals are sorted, neither touching nor empty.
    pub(crate) fn from_sorted(intervals: Vec<(i64, i64)>) -> Option<Self> {
        let is_sound = intervals.iter().all(|(from, until)| from < until)
            && intervals.windows(2).all(|pair| pair[0].1 < pair[1].0);
        is_sound.then_some(Self(intervals))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, moment: i64) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= moment);
        after > 0 && moment < self.0[after - 1].1
    }

    /// First moment of the set at or after this one.
    pub fn next_from(&self, moment: i64) -> Option<i64> {
        let place = self.0.partition_point(|(_, until)| *until <= moment);
        self.0.get(place).map(|(from, _)| (*from).max(moment))
    }

    /// First moment outside the set at or after this one.
    pub(crate) fn next_without(&self, moment: i64) -> Option<i64> {
        let place = self.0.partition_point(|(_, until)| *until <= moment);
        match self.0.get(place) {
            Some((from, until)) if *from <= moment => (*until < i64::MAX).then_some(*until),
            _ => Some(moment),
        }
    }

    /// Moments for which `keep` likes the number of sets that hold them.
    pub fn combine(sets: &[Self], keep: impl Fn(usize) -> bool) -> Self {
        let mut edges: Vec<(i64, i32)> = Vec::new();
        for (from, until) in sets.iter().flat_map(|set| &set.0) {
            edges.extend([(*from, 1), (*until, -1)]);
        }
        edges.sort_unstable();
        let mut out: Vec<(i64, i64)> = Vec::new();
        let (mut depth, mut at) = (0_i32, i64::MIN);
        for (edge, step) in edges.into_iter().chain([(i64::MAX, 0)]) {
            let count = usize::try_from(depth).expect("an interval ends after it begins");
            if edge > at && keep(count) {
                match out.last_mut() {
                    Some(last) if last.1 == at => last.1 = edge,
                    _ => out.push((at, edge)),
                }
            }
            at = at.max(edge);
            depth += step;
        }
        Self(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMPARISONS: [Comparison; 6] = [
        Comparison::Eq,
        Comparison::Neq,
        Comparison::Lt,
        Comparison::Lteq,
        Comparison::Gt,
        Comparison::Gteq,
    ];

    proptest! {
        #[test]
        fn a_set_is_what_its_comparisons_say(
            parts in proptest::collection::vec((0..6_usize, 0..20_i64), 1..6), at in -2..23_i64,
        ) {
            let sets: Vec<IntervalSet> =
                parts.iter().map(|(c, moment)| IntervalSet::of(COMPARISONS[*c], *moment)).collect();
            let holds: Vec<bool> =
                parts.iter().map(|(c, moment)| COMPARISONS[*c].holds(&at, moment)).collect();
            let count = holds.iter().filter(|one| **one).count();
            for (set, expect) in sets.iter().zip(&holds) {
                prop_assert_eq!(set.contains(at), *expect);
            }
            let and = IntervalSet::combine(&sets, |n| n == sets.len());
            prop_assert_eq!(and.contains(at), count == holds.len());
            let or = IntervalSet::combine(&sets, |n| n > 0);
            prop_assert_eq!(or.contains(at), count > 0);
            let xone = IntervalSet::combine(&sets, |n| n == 1);
            prop_assert_eq!(xone.contains(at), count == 1);
            prop_assert!(and.0.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let next = or.next_from(at);
            prop_assert!(next.is_none_or(|next| next >= at && or.contains(next)));
            prop_assert_eq!(next == Some(at), or.contains(at));
        }
    }

    #[test]
    fn ends_of_time() {
        assert!(IntervalSet::of(Comparison::Lt, i64::MIN).is_empty());
        assert!(IntervalSet::of(Comparison::Lteq, i64::MIN).contains(i64::MIN));
        assert!(IntervalSet::all().contains(0));
        assert!(IntervalSet::combine(&[], |n| n == 0).contains(7));
    }
}
