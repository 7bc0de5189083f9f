//! The form in which rows leave under a permission, carried out on one series.
//!
//! Steps run in the order of [`crate::duty::Step`]. Those that look at one row only are in `transform`;
//! here are those that need memory, chance or a key: sample, aggregate, noise, pseudonyms. A value that
//! a step cannot take, and a value for which memory or budget is spent, loses itself: it leaves as
//! absent, never as it was.

mod group;
mod noise;
mod pseudonym;

pub(crate) use group::shared_result;

use crate::duty::{Aggregate, Noise, Statistic, Transform};
use crate::means::Means;
use crate::transform;
use crate::usage::{AHEAD_MAX, CellKey, Place, Window};
use guan_model::{
    Column, ContractId, Digest, Now, PointId, Quality, Reason, Series, Severity, WallTime,
};
use std::sync::Arc;

/// For whom, and what it may use.
pub(crate) struct Shaping<'s, 'm> {
    pub(crate) contract: &'s ContractId,
    /// Which rules stand: see [`CellKey::Window`].
    pub(crate) rules: Digest,
    pub(crate) rule: &'s Arc<str>,
    /// Prohibitions that are asked when the rows leave, as places in the list of `rules`.
    pub(crate) forbids: Vec<u16>,
    /// The point on which the results of a group leave.
    pub(crate) into: Option<PointId>,
    pub(crate) now: Now,
    pub(crate) means: &'s mut Means<'m>,
}

/// What became of rows.
#[derive(Default)]
pub(crate) struct Formed {
    /// What leaves; more than one when some rows have lost their values.
    pub(crate) series: Vec<Series>,
    /// Rows in it that lost their value.
    pub(crate) masked: u64,
    /// The rows went into a window and leave as its result, all but those that came too late for it.
    pub(crate) absorbed: bool,
    pub(crate) late: Vec<usize>,
}

impl<'s, 'm> Shaping<'s, 'm> {
    /// For a window, by its key.
    pub(crate) fn of(key: &'s CellKey, now: Now, means: &'s mut Means<'m>) -> Option<Self> {
        let CellKey::Window { contract, rules, rule, forbids, point } = key else { return None };
        let (rules, forbids, into) = (*rules, forbids.clone(), Some(*point));
        Some(Self { contract, rules, rule, forbids, into, now, means })
    }
}

impl Shaping<'_, '_> {
    /// Which rows of so many a form with `sample` keeps, by their places.
    pub(crate) fn sample(
        &mut self,
        form: &[Transform],
        point: PointId,
        rows: &[usize],
    ) -> Vec<usize> {
        let one_of = form.iter().find_map(|transform| match transform {
            Transform::Sample { one_of } => Some(*one_of),
            _ => None,
        });
        let Some(one_of) = one_of else { return rows.to_vec() };
        let key =
            CellKey::Sample { contract: self.contract.clone(), rule: self.rule.clone(), point };
        let seen = self.means.usage.used(&key, 0);
        let numbered = rows.iter().zip(seen % one_of..);
        let kept = numbered.filter(|(_, number)| number % one_of == 0).map(|(row, _)| *row);
        let kept: Vec<usize> = kept.collect();
        // Without a counter nothing would say which row is the next: none is.
        match self.means.usage.charge(&key, 0, rows.len() as u64) {
            Ok(()) => kept,
            Err(_) => Vec::new(),
        }
    }

    /// Applies a form, sorted by step, to rows that `sample` has kept.
    pub(crate) fn apply(&mut self, form: &[Transform], series: Series) -> Formed {
        let mut masked = 0;
        let mut series = series;
        for (place, transform) in form.iter().enumerate() {
            if let Transform::Aggregate(aggregate) = transform {
                let (results, late) = match &aggregate.group {
                    None => self.aggregate(&series, aggregate),
                    Some(group) => self.share(&series, aggregate, group),
                };
                let rest = results.into_iter().map(|result| self.finish(form, place + 1, result));
                let mut formed = Formed { absorbed: true, late, ..Formed::default() };
                for one in rest.collect::<Vec<_>>() {
                    formed.masked += one.masked;
                    formed.series.extend(one.series);
                }
                return formed;
            }
            match transform {
                Transform::Drop => return Formed::default(),
                Transform::Mask => {
                    masked = series.rows() as u64;
                    transform::mask(&mut series);
                }
                Transform::Sample { .. } => {}
                Transform::Clamp { low, high } => {
                    masked += transform::change(&mut series, |v| v.clamp(*low, *high));
                }
                _ => {
                    let mut formed = self.finish(form, place, series);
                    formed.masked += masked;
                    return formed;
                }
            }
        }
        Formed { series: vec![series], masked, ..Formed::default() }
    }

    /// The steps that follow an aggregate.
    pub(crate) fn finish_window(&mut self, form: &[Transform], result: Series) -> Formed {
        let is_aggregate = |one: &Transform| matches!(one, Transform::Aggregate(_));
        let place = form.iter().position(is_aggregate);
        self.finish(form, place.map_or(form.len(), |place| place + 1), result)
    }

    /// The steps from a place on that follow after aggregating.
    pub(crate) fn finish(&mut self, form: &[Transform], from: usize, series: Series) -> Formed {
        let sensitivity = sensitivity(form);
        let mut masked = 0;
        let (mut series, mut spent) = (series, None);
        for transform in &form[from..] {
            match transform {
                Transform::Noise(_) if matches!(series.values, Column::Absent) => {}
                Transform::Noise(noise) => {
                    let (kept, lost) = self.add_noise(noise, sensitivity, series);
                    masked += lost.as_ref().map_or(0, |lost: &Series| lost.rows() as u64);
                    spent = lost;
                    match kept {
                        Some(kept) => series = kept,
                        None => {
                            let series = spent.into_iter().collect();
                            return Formed { series, masked, ..Formed::default() };
                        }
                    }
                }
                Transform::Pseudonymise => {
                    let key = (self.means.pseudonym_key)(self.contract);
                    masked += pseudonym::apply(key.as_ref(), &mut series);
                }
                other => masked += transform::apply(other, &mut series),
            }
        }
        let series = [Some(series), spent].into_iter().flatten().collect();
        Formed { series, masked, ..Formed::default() }
    }

    /// Takes rows into the window of their point; gives the windows that they ended, and the rows that
    /// belong to none.
    fn aggregate(&mut self, series: &Series, aggregate: &Aggregate) -> (Vec<Series>, Vec<usize>) {
        let Aggregate { window: length, statistic, readings_min, .. } = aggregate;
        let key = self.window_key(series.point);
        let (mut results, mut late) = (Vec::new(), Vec::new());
        for row in 0..series.rows() {
            let gateway_time = series.gateway_times[row];
            let moment = series.source_times[row].unwrap_or(gateway_time);
            if moment > gateway_time.saturating_add(AHEAD_MAX) {
                late.push(row);
                continue;
            }
            let usage = &mut *self.means.usage;
            // The key names the version of the contract, and so the words by which it was begun.
            let place = usage.window(&key).map(|open| open.place(moment));
            if place == Some(Place::Late) {
                late.push(row);
                continue;
            }
            if place == Some(Place::After) {
                results.extend(self.close(&key, gateway_time));
            }
            let usage = &mut *self.means.usage;
            if place != Some(Place::Here) {
                let window = Window::around(moment, *length, *statistic, *readings_min);
                if usage.open_window(&key, window).is_err() {
                    late.push(row);
                    continue;
                }
            }
            let window = usage.window_mut(&key).expect("it was just opened, or is open");
            window.touch(gateway_time);
            if let Some(value) = counting_value(series, row) {
                window.add(value);
            }
        }
        (results, late)
    }

    fn window_key(&self, point: PointId) -> CellKey {
        CellKey::Window {
            contract: self.contract.clone(),
            rules: self.rules,
            rule: self.rule.clone(),
            forbids: self.forbids.clone(),
            point,
        }
    }

    /// Ends a window: one row at its start, or none when too few readings stand behind it.
    pub(crate) fn close(&mut self, key: &CellKey, at: WallTime) -> Option<Series> {
        let CellKey::Window { point, .. } = key else { return None };
        let window = self.means.usage.close_window(key)?;
        // The cell that was just closed leaves room for it.
        let _ = self.means.usage.open_window(key, window.next());
        result_of(window, *point, at)
    }

    /// The rows with noise, and those for which no budget is left, without their values.
    fn add_noise(
        &mut self,
        noise: &Noise,
        sensitivity: f64,
        series: Series,
    ) -> (Option<Series>, Option<Series>) {
        let key = CellKey::Budget {
            contract: self.contract.clone(),
            point: series.point,
            period: noise.period,
        };
        let period = noise.period.number(self.now.wall);
        let (mut values, mut kept, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..series.rows() {
            let value = transform::number(&series.values, row).filter(|value| value.is_finite());
            let spent = self.means.usage.used(&key, period);
            let is_within = spent.saturating_add(noise.epsilon_micro) <= noise.budget_micro;
            let charged = value
                .filter(|_| is_within)
                .filter(|_| self.means.usage.charge(&key, period, noise.epsilon_micro).is_ok());
            match charged {
                Some(value) => {
                    values.push(noise::add(noise, value, sensitivity, self.means.entropy));
                    kept.push(row);
                }
                None => lost.push(row),
            }
        }
        let lost = (!lost.is_empty()).then(|| {
            let mut lost = series.select(&lost);
            transform::mask(&mut lost);
            lost
        });
        let kept = (!kept.is_empty()).then(|| {
            let mut kept = series.select(&kept);
            transform::set_values(&mut kept, Column::F64(values));
            kept
        });
        (kept, lost)
    }
}

/// What a row adds to a window; `None` for what does not count.
fn counting_value(series: &Series, row: usize) -> Option<f64> {
    let value = transform::number(&series.values, row).filter(|value| value.is_finite());
    value.filter(|_| series.qualities[row].severity() != Severity::Bad)
}

/// What a window has come to, as one row at its start.
pub(crate) fn result_of(mut window: Window, point: PointId, at: WallTime) -> Option<Series> {
    let result = window.result()?;
    Some(Series {
        point,
        source_times: vec![Some(window.start())],
        gateway_times: vec![at],
        qualities: vec![Quality::new(Severity::Uncertain, Reason::PolicyReduced)],
        values: Column::F64(vec![result]),
    })
}

/// How much one reading can change what noise is added to; of a group, all readings of one of its points.
#[allow(clippy::cast_precision_loss, reason = "a contract names few readings")]
fn sensitivity(form: &[Transform]) -> f64 {
    let range = form.iter().find_map(|transform| match transform {
        Transform::Clamp { low, high } => Some(high - low),
        _ => None,
    });
    // Without a clamp nothing bounds a reading; the noise then drowns it.
    let range = range.unwrap_or(f64::INFINITY);
    let aggregate = form.iter().find_map(|transform| match transform {
        Transform::Aggregate(aggregate) => Some(aggregate),
        _ => None,
    });
    let Some(Aggregate { statistic, readings_min, group, .. }) = aggregate else { return range };
    match (statistic, group) {
        (Statistic::Count, None) => 1.0,
        // No contract asks for it: one point gives any number of readings.
        (Statistic::Count, Some(_)) => f64::INFINITY,
        // A mean of fewer does not leave.
        (Statistic::Mean, None) => range / (*readings_min).max(1) as f64,
        // Nearly all readings may be of one point, whatever is asked for: its share goes up to the whole.
        (Statistic::Mean, Some(_))
        | (Statistic::Min | Statistic::Max | Statistic::Percentile(_), _) => range,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duty::Group;
    use guan_model::PointName;
    use std::time::Duration;

    #[test]
    fn what_one_reading_changes() {
        let check = |statistic: Option<(Statistic, u64)>, expect: f64, of_group: f64| {
            let clamp = Transform::Clamp { low: -50.0, high: 150.0 };
            let into = PointName::parse("Fleet").unwrap();
            for (group, expect) in
                [(None, expect), (Some(Group { into, contributors_min: 5 }), of_group)]
            {
                let aggregate = statistic.map(|(statistic, readings_min)| {
                    let window = Duration::from_secs(60);
                    let group = group.clone();
                    Transform::Aggregate(Aggregate { window, statistic, readings_min, group })
                });
                let form: Vec<Transform> =
                    std::iter::once(clamp.clone()).chain(aggregate).collect();
                assert_eq!(sensitivity(&form).to_bits(), expect.to_bits(), "{form:?}");
            }
        };
        check(None, 200.0, 200.0);
        check(Some((Statistic::Count, 10)), 1.0, f64::INFINITY);
        check(Some((Statistic::Mean, 0)), 200.0, 200.0);
        check(Some((Statistic::Mean, 10)), 20.0, 200.0);
        check(Some((Statistic::Min, 10)), 200.0, 200.0);
        check(Some((Statistic::Max, 10)), 200.0, 200.0);
        check(Some((Statistic::Percentile(95), 10)), 200.0, 200.0);
    }
}
