//! Windows that end without another reading: because nothing more is waited for, or because the rules under
//! which they were begun are in force no longer.
//!
//! A window belongs to one version of a contract and one list of prohibitions. It goes on only as long as
//! both stand; its result leaves on the terms of its own version, and only if no prohibition forbids it that
//! came since. Each reading was counted as absorbed when it came, and a window of too few stays at that; what
//! is given up because rules changed is counted once more, as dropped.

use crate::decision::{Outputs, Permitted};
use crate::form::{Shaping, result_of, shared_result};
use crate::means::Means;
use crate::plan::{Grant, Permit, Plan, PointRules, Program, RuleSet, SharedWindows};
use crate::situation::Situation;
use crate::terms::Terms;
use crate::usage::CellKey;
use guan_model::{BatchHeader, BootNumber, ContractId, DatasetId, Now, PointId, Series, WallTime};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What windows have come to.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    pub permitted: Vec<Permitted>,
    /// Readings of windows that did not leave, by point.
    pub dropped: BTreeMap<PointId, u64>,
}

/// A window in its plan.
struct Known<'p> {
    dataset: &'p DatasetId,
    grant: &'p Grant,
    permit: &'p Permit,
    rules: Rules<'p>,
}

/// The rules under which it was begun.
enum Rules<'p> {
    OfPoint(&'p PointRules),
    Shared(&'p SharedWindows),
}

impl Plan {
    /// Ends the windows for which nothing more is waited, and gives their results as `decide` would.
    /// `header` makes the header of a dataset's batch. Windows of rules that are not in force give nothing.
    pub fn flush(
        &self,
        situation: &Situation,
        means: &mut Means<'_>,
        header: impl Fn(&DatasetId) -> BatchHeader,
    ) -> Ended {
        let now = situation.now;
        let mut ended = Ended::default();
        for key in means.usage.overdue(now.wall) {
            let CellKey::Window { contract, rule, .. } = &key else { continue };
            let known = self.known(&key).filter(|_| !situation.is_violated(contract, rule));
            let Some(known) = known else {
                ended.give_up(&key, means);
                continue;
            };
            let close = |mut one: Shaping<'_, '_>| one.close_overdue(&key, now.wall);
            for result in Shaping::of(&key, now, means).map_or_else(Vec::new, close) {
                let permitted =
                    known.leave(&key, (result, Vec::new()), (situation, means), &header);
                ended.permitted.extend(permitted);
            }
        }
        ended
    }

    /// Ends the windows whose rules are others in the plan that comes, before it comes. A window whose contract
    /// `may_leave` leaves on the terms of the old version, if nothing that is new forbids it; with few readings
    /// it gives nothing, as any other.
    pub fn hand_over(
        &self,
        next: &Self,
        may_leave: impl Fn(&ContractId) -> bool,
        situation: &Situation,
        means: &mut Means<'_>,
        header: impl Fn(&DatasetId) -> BatchHeader,
    ) -> Ended {
        let mut ended = Ended::default();
        for key in means.usage.windows() {
            let CellKey::Window { contract, rule, point, .. } = &key else { continue };
            if next.known(&key).is_some() {
                continue;
            }
            let may_leave = may_leave(contract) && !situation.is_violated(contract, rule);
            let known = self.known(&key).filter(|_| may_leave);
            let asked = known.and_then(|known| {
                let asked = known.asked_beyond(self, next, (contract, *point), situation)?;
                Some((known, asked))
            });
            let Some((known, asked)) = asked else {
                ended.give_up(&key, means);
                continue;
            };
            for (readings, result) in close_all(&key, situation.now.wall, means) {
                let Some(result) = result else {
                    ended.drop(*point, readings);
                    continue;
                };
                let asked = (result, asked.clone());
                let permitted = known.leave(&key, asked, (situation, means), &header);
                ended.permitted.extend(permitted);
            }
        }
        ended
    }

    /// The rules of a window, if they are in force.
    fn known(&self, key: &CellKey) -> Option<Known<'_>> {
        let CellKey::Window { contract, rules, rule, point, .. } = key else { return None };
        let (dataset, grant, ordinal) = self.grant_of(contract, *point)?;
        if let Some(shared) = grant.group_of(rule, *point, *rules) {
            let (permit, rules) = (&shared.permit, Rules::Shared(shared));
            return Some(Known { dataset, grant, permit, rules });
        }
        let found = grant.rules(ordinal);
        let permit = found.permit_by_rule(rule).filter(|_| grant.identity(ordinal) == *rules)?;
        Some(Known { dataset, grant, permit, rules: Rules::OfPoint(found) })
    }

    /// What this plan asks of a result that is of an earlier one; `None`: it forbids it.
    fn asks_beyond(
        &self,
        before: &Self,
        contract: &ContractId,
        point: PointId,
        rules: &PointRules,
        situation: &Situation,
    ) -> Option<Vec<(Arc<str>, Program)>> {
        let grant = self.grant_of(contract, point);
        let now = grant.map(|(_, grant, ordinal)| grant.rules(ordinal));
        if let Some(now) = now.filter(|now| !now.is_empty()) {
            return now.asks_beyond(rules, situation);
        }
        // The plan has prohibitions only where something is permitted, so nobody knows what the new ones say.
        let consumer = before.contract(contract).map(|one| one.consumer.clone())?;
        let mut new = self.contracts().iter().filter(|one| {
            before.contract(&one.contract).is_none_or(|known| known.digest != one.digest)
        });
        let forbids = new.any(|one| one.forbids && one.consumer == consumer);
        (!forbids).then(Vec::new)
    }
}

/// Ends all windows of a key: how many readings stand behind each, and its result.
fn close_all(key: &CellKey, at: WallTime, means: &mut Means<'_>) -> Vec<(u64, Option<Series>)> {
    let CellKey::Window { point, .. } = key else { return Vec::new() };
    if let Some(window) = means.usage.close_window(key) {
        return vec![(window.count(), result_of(window, *point, at))];
    }
    let Some(group) = means.usage.close_group(key) else { return Vec::new() };
    let contributors_min = group.contributors_min();
    let ended = group.end_all().into_iter();
    ended.map(|one| (one.count(), shared_result(key, &one, contributors_min, at))).collect()
}

impl Known<'_> {
    /// What the plan that comes asks of its result; `None`: it forbids it. Whose readings stand behind a window
    /// of a group is not known, so each of its points is asked about.
    fn asked_beyond(
        &self,
        before: &Plan,
        next: &Plan,
        (contract, point): (&ContractId, PointId),
        situation: &Situation,
    ) -> Option<Vec<(Arc<str>, Program)>> {
        let shared = match self.rules {
            Rules::OfPoint(rules) => {
                return next.asks_beyond(before, contract, point, rules, situation);
            }
            Rules::Shared(shared) => shared,
        };
        let mut all = Vec::new();
        for (point, ordinal) in &shared.points {
            let rules = self.grant.rules(*ordinal);
            for one in next.asks_beyond(before, contract, *point, rules, situation)? {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        Some(all)
    }

    fn terms(&self, forbids: RuleSet, now: Now, boot: BootNumber) -> Terms {
        match self.rules {
            Rules::OfPoint(rules) => rules.terms(self.permit, forbids, now, boot),
            Rules::Shared(shared) => shared.terms(forbids, now, boot),
        }
    }

    /// The result of a window in its form, on its terms; `asked`: of it alone.
    fn leave(
        &self,
        key: &CellKey,
        (result, asked): (Series, Vec<(Arc<str>, Program)>),
        (situation, means): (&Situation, &mut Means<'_>),
        header: &impl Fn(&DatasetId) -> BatchHeader,
    ) -> Vec<Permitted> {
        let (CellKey::Window { forbids, .. }, boot) = (key, means.boot) else { return Vec::new() };
        let Some(mut shaping) = Shaping::of(key, situation.now, means) else { return Vec::new() };
        let formed = shaping.finish_window(&self.permit.form, result);
        let mut terms = self.terms(RuleSet::of(forbids), situation.now, boot);
        terms.forbid.extend(asked);
        let mut outputs = Outputs::default();
        outputs.push(terms, formed);
        outputs.finish(self.grant, &header(self.dataset))
    }
}

impl Ended {
    fn give_up(&mut self, key: &CellKey, means: &mut Means<'_>) {
        let CellKey::Window { point, .. } = key else { return };
        self.drop(*point, means.usage.give_up_windows(key));
    }

    fn drop(&mut self, point: PointId, readings: u64) {
        if readings > 0 {
            *self.dropped.entry(point).or_default() += readings;
        }
    }
}
