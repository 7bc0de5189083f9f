//! Rows into the windows that the points of a group share.
//!
//! Never here: how windows begin and end, which is `usage`'s.

use super::{Shaping, counting_value, result_of};
use crate::duty::{Aggregate, Group};
use crate::usage::{AHEAD_MAX, Absorbed, CellKey, Given, GroupWindows, Shared};
use guan_model::{Series, WallTime};

impl Shaping<'_, '_> {
    /// Takes rows in; gives the results of windows that had to end, and the rows that belong to none.
    pub(super) fn share(
        &mut self,
        series: &Series,
        aggregate: &Aggregate,
        group: &Group,
    ) -> (Vec<Series>, Vec<usize>) {
        let key =
            self.window_key(self.into.expect("a plan knows the point of each group's results"));
        let minimum = group.contributors_min;
        if self.means.usage.group_mut(&key).is_none() {
            let new = GroupWindows::new(aggregate, minimum);
            if self.means.usage.open_group(&key, new).is_err() {
                return (Vec::new(), (0..series.rows()).collect());
            }
        }
        let windows = self.means.usage.group_mut(&key).expect("it was just opened, or is open");
        let (mut results, mut late) = (Vec::new(), Vec::new());
        for row in 0..series.rows() {
            let gateway_time = series.gateway_times[row];
            let moment = series.source_times[row].unwrap_or(gateway_time);
            let value = counting_value(series, row);
            let given = Given { point: series.point, moment, gateway_time, value };
            let is_ahead = moment > gateway_time.saturating_add(AHEAD_MAX);
            match if is_ahead { Absorbed::Late } else { windows.absorb(given) } {
                Absorbed::Late => late.push(row),
                Absorbed::Taken(ended) => {
                    let result =
                        ended.and_then(|one| shared_result(&key, &one, minimum, gateway_time));
                    results.extend(result);
                }
            }
        }
        (results, late)
    }

    /// Ends the windows of a point or a group for which nothing more is waited: one row for each of which
    /// enough is known.
    pub(crate) fn close_overdue(&mut self, key: &CellKey, at: WallTime) -> Vec<Series> {
        if self.means.usage.window(key).is_some() {
            return self.close(key, at).into_iter().collect();
        }
        let Some(windows) = self.means.usage.group_mut(key) else { return Vec::new() };
        let minimum = windows.contributors_min();
        let ended = windows.end_overdue(at);
        ended.iter().filter_map(|one| shared_result(key, one, minimum, at)).collect()
    }
}

/// What a window of a group has come to; `None`: too few points, or readings, stand behind it.
pub(crate) fn shared_result(
    key: &CellKey,
    ended: &Shared,
    contributors_min: u64,
    at: WallTime,
) -> Option<Series> {
    let CellKey::Window { point, .. } = key else { return None };
    result_of(ended.result(contributors_min)?, *point, at)
}
