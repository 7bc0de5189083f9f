//! Windows that end without another reading: because nothing more is waited for, or because the rules under
//! which they were begun are in force no longer.
//!
//! A window belongs to one version of a contract and one list of prohibitions. It goes on only as long as
//! both stand; its result leaves on the terms of its own version, and only if no prohibition forbids it that
//! came since. Each reading was counted as absorbed when it came, and a window of too few stays at that; what
//! is given up because rules changed is counted once more, as dropped.

use crate::decision::{Outputs, Permitted};
use crate::form::{Shaping, result_of};
use crate::means::Means;
use crate::plan::{Grant, Permit, Plan, PointRules, Program, RuleSet};
use crate::situation::Situation;
use crate::usage::CellKey;
use guan_model::{BatchHeader, ContractId, DatasetId, PointId, Series};
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
    rules: &'p PointRules,
    permit: &'p Permit,
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
            let result =
                Shaping::of(&key, now, means).and_then(|mut one| one.close(&key, now.wall));
            if let Some(result) = result {
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
                let asked = next.asks_beyond(self, contract, *point, known.rules, situation)?;
                Some((known, asked))
            });
            let Some((known, asked)) = asked else {
                ended.give_up(&key, means);
                continue;
            };
            let Some(window) = means.usage.close_window(&key) else { continue };
            let readings = window.count();
            match result_of(window, *point, situation.now.wall) {
                Some(result) => {
                    let permitted = known.leave(&key, (result, asked), (situation, means), &header);
                    ended.permitted.extend(permitted);
                }
                None => ended.drop(*point, readings),
            }
        }
        ended
    }

    /// The rules of a window, if they are in force.
    fn known(&self, key: &CellKey) -> Option<Known<'_>> {
        let CellKey::Window { contract, rules, rule, point, .. } = key else { return None };
        let (dataset, grant, ordinal) = self.grant_of(contract, *point)?;
        let found = grant.rules(ordinal);
        let permit = found.permit_by_rule(rule).filter(|_| grant.identity(ordinal) == *rules)?;
        Some(Known { dataset, grant, rules: found, permit })
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

impl Known<'_> {
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
        let forbids = RuleSet::of(forbids);
        let mut terms = self.rules.terms(self.permit, forbids, situation.now, boot);
        terms.forbid.extend(asked);
        let mut outputs = Outputs::default();
        outputs.push(terms, formed);
        outputs.finish(self.grant, &header(self.dataset))
    }
}

impl Ended {
    fn give_up(&mut self, key: &CellKey, means: &mut Means<'_>) {
        let CellKey::Window { point, .. } = key else { return };
        if let Some(window) = means.usage.close_window(key) {
            self.drop(*point, window.count());
        }
    }

    fn drop(&mut self, point: PointId, readings: u64) {
        if readings > 0 {
            *self.dropped.entry(point).or_default() += readings;
        }
    }
}
