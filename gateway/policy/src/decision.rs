//! What the plan says about one batch, and the batch in the form in which it may leave.

use crate::form::{Formed, Shaping};
use crate::means::Means;
use crate::plan::{Grant, Plan, RuleSet, Verdict, Verdicts};
use crate::situation::Situation;
use crate::terms::Terms;
use crate::told::ContractRefusal;
use crate::usage::Usage;
use guan_model::{Batch, BatchHeader, ContractId, Digest, PointId, Series, ValueType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why rows may not leave. The codes are in evidence logs: append only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenyReason {
    /// No contract speaks of the dataset.
    NoContract,
    NotYetValid {
        contract: ContractId,
    },
    Expired {
        contract: ContractId,
    },
    /// Contracts speak of the dataset, but none of the point.
    PointNotCovered {
        contract: ContractId,
    },
    /// The batch was made with another descriptor table, so its point ids mean other points. A bug.
    OtherDescriptors,
    /// A prohibition forbids it.
    Prohibited {
        contract: ContractId,
        rule: Arc<str>,
    },
    /// Permissions cover the point, but none of them holds.
    NotPermitted {
        contract: ContractId,
        rule: Arc<str>,
    },
    /// The form in which the contract lets data go leaves the rows out.
    Dropped {
        contract: ContractId,
    },
    /// Kept in a window, whose result leaves in its place.
    Absorbed {
        contract: ContractId,
    },
}

impl DenyReason {
    pub fn code(&self) -> u8 {
        match self {
            Self::NoContract => 1,
            Self::NotYetValid { .. } => 2,
            Self::Expired { .. } => 3,
            Self::PointNotCovered { .. } => 4,
            Self::OtherDescriptors => 5,
            Self::Prohibited { .. } => 6,
            Self::NotPermitted { .. } => 7,
            Self::Dropped { .. } => 8,
            Self::Absorbed { .. } => 9,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::NoContract => "no-contract",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Expired { .. } => "expired",
            Self::PointNotCovered { .. } => "point-not-covered",
            Self::OtherDescriptors => "other-descriptors",
            Self::Prohibited { .. } => "prohibited",
            Self::NotPermitted { .. } => "not-permitted",
            Self::Dropped { .. } => "dropped",
            Self::Absorbed { .. } => "absorbed",
        }
    }

    /// The contract that came closest to letting the rows go.
    pub fn contract(&self) -> Option<&ContractId> {
        match self {
            Self::NoContract | Self::OtherDescriptors => None,
            Self::NotYetValid { contract }
            | Self::Expired { contract }
            | Self::PointNotCovered { contract }
            | Self::Prohibited { contract, .. }
            | Self::NotPermitted { contract, .. }
            | Self::Dropped { contract }
            | Self::Absorbed { contract } => Some(contract),
        }
    }

    /// The rule that decided, or came closest.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Prohibited { rule, .. } | Self::NotPermitted { rule, .. } => Some(rule),
            _ => None,
        }
    }
}

/// What may leave under one contract, on the same terms.
#[derive(Debug, Clone)]
pub struct Permitted {
    pub contract: ContractId,
    pub contract_digest: Digest,
    /// With `header.contract` set; masked rows are absent with the reason `PolicyReduced`.
    pub batch: Batch,
    pub masked_rows: u64,
    /// What is asked when it leaves.
    pub terms: Terms,
}

/// Rows that no contract lets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub rows: u64,
    pub reason: DenyReason,
}

/// Every row of the batch is in at least one of `permitted` or in exactly one of `refused`.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    /// For each contract that lets at least one row go, in the order of contract ids, one for each of
    /// its terms.
    pub permitted: Vec<Permitted>,
    /// One for each reason, in the order of reasons.
    pub refused: Vec<Refusal>,
    /// What contracts refuse, each for itself; only of those that want somebody told.
    pub refused_by: Vec<ContractRefusal>,
}

impl Decision {
    /// Rows in the permitted batches, added up over contracts; masked rows included.
    pub fn permitted_rows(&self) -> u64 {
        self.permitted.iter().map(|one| one.batch.rows() as u64).sum()
    }

    pub fn masked_rows(&self) -> u64 {
        self.permitted.iter().map(|one| one.masked_rows).sum()
    }

    pub fn refused_rows(&self) -> u64 {
        self.refused.iter().map(|one| one.rows).sum()
    }
}

impl Plan {
    /// Decides for every contract on every reading; refuses what nothing permits.
    ///
    /// A row counts as refused when no contract lets it go, with the reason of the contract that
    /// comes first by id.
    pub fn decide(&self, situation: &Situation, means: &mut Means<'_>, batch: Batch) -> Decision {
        let rows = batch.rows() as u64;
        if batch.header.descriptors != self.descriptors() {
            let refused = vec![Refusal { rows, reason: DenyReason::OtherDescriptors }];
            return Decision { refused, ..Decision::default() };
        }
        let dataset = self.dataset(&batch.header.dataset);
        let grants = dataset.map_or(&[][..], |dataset| dataset.grants());
        let mut outputs: Vec<Outputs> = grants.iter().map(|_| Outputs::default()).collect();
        let mut refused: BTreeMap<DenyReason, u64> = BTreeMap::new();
        let mut refused_by: Vec<Option<ContractRefusal>> = vec![None; grants.len()];
        let mut verdicts = Verdicts::default();
        for series in &batch.series {
            let ordinal = dataset.and_then(|dataset| dataset.ordinal(series.point));
            let mut fates = Fates::new(series.rows());
            verdicts.clear();
            verdicts.begin(series);
            for (place, (grant, outputs)) in grants.iter().zip(&mut outputs).enumerate() {
                verdicts.judge(place, grant, ordinal, (situation, series), means.usage);
                if grant.tells {
                    let rules = ordinal.map(|ordinal| grant.rules(ordinal));
                    let found = (&verdicts, &*means.usage);
                    let refused_by = &mut refused_by[place];
                    Self::note_refusals(grant, rules, (situation, series), found, refused_by);
                }
                let mut one = One { grant, situation, means, outputs, fates: &mut fates };
                one.decide(ordinal, series, &verdicts);
            }
            for (reason, rows) in fates.refused() {
                *refused.entry(reason).or_default() += rows;
            }
        }
        let permitted = grants.iter().zip(outputs);
        let permitted = permitted.flat_map(|(grant, outputs)| outputs.finish(grant, &batch.header));
        let refused = refused.into_iter().map(|(reason, rows)| Refusal { rows, reason });
        Decision {
            permitted: permitted.collect(),
            refused: refused.collect(),
            refused_by: refused_by.into_iter().flatten().collect(),
        }
    }

    /// As `decide`, with nothing used up before and no keys: for judging a single batch. Its noise is
    /// none, so nothing of it may leave.
    pub fn decide_afresh(&self, situation: &Situation, batch: Batch) -> Decision {
        let (mut usage, mut entropy) = (Usage::default(), || 0);
        self.decide(situation, &mut Means::plain(&mut usage, &mut entropy), batch)
    }
}

/// What became of each row of one series, over all contracts.
struct Fates {
    /// `None` once a contract lets the row go.
    denied: Vec<Option<DenyReason>>,
    permitted: Vec<bool>,
}

impl Fates {
    fn new(rows: usize) -> Self {
        Self { denied: vec![None; rows], permitted: vec![false; rows] }
    }

    /// Keeps the reason that says most: that the row lives on in a window, then the first that is not
    /// about points nobody named.
    fn deny(&mut self, row: usize, reason: &DenyReason) {
        let says = |reason: &DenyReason| match reason {
            DenyReason::PointNotCovered { .. } => 0,
            DenyReason::Absorbed { .. } => 2,
            _ => 1,
        };
        if self.denied[row].as_ref().is_none_or(|known| says(known) < says(reason)) {
            self.denied[row] = Some(reason.clone());
        }
    }

    fn permit(&mut self, row: usize) {
        self.permitted[row] = true;
    }

    fn refused(self) -> BTreeMap<DenyReason, u64> {
        let mut reasons: BTreeMap<DenyReason, u64> = BTreeMap::new();
        for (denied, permitted) in self.denied.into_iter().zip(self.permitted) {
            if !permitted {
                *reasons.entry(denied.unwrap_or(DenyReason::NoContract)).or_default() += 1;
            }
        }
        reasons
    }
}

/// What leaves under one contract, by terms.
#[derive(Default)]
pub(crate) struct Outputs(Vec<(Terms, Output)>);

/// What leaves on the same terms.
#[derive(Default)]
struct Output {
    series: BTreeMap<(PointId, Option<ValueType>), Series>,
    masked_rows: u64,
}

impl Outputs {
    pub(crate) fn push(&mut self, terms: Terms, formed: Formed) {
        if formed.series.is_empty() {
            return;
        }
        let known = self.0.iter().position(|(known, _)| *known == terms);
        let place = known.unwrap_or_else(|| {
            self.0.push((terms, Output::default()));
            self.0.len() - 1
        });
        let output = &mut self.0[place].1;
        output.masked_rows += formed.masked;
        formed.series.into_iter().for_each(|series| output.push(series));
    }

    pub(crate) fn finish(self, grant: &Grant, header: &BatchHeader) -> Vec<Permitted> {
        let finish = |(terms, output): (Terms, Output)| output.finish(terms, grant, header);
        self.0.into_iter().map(finish).collect()
    }
}

impl Output {
    /// A form may have changed the type, so series of a point may have become one.
    fn push(&mut self, series: Series) {
        match self.series.entry((series.point, series.values.value_type())) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(series);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                known.get_mut().append(series)
            }
        }
    }

    fn finish(self, terms: Terms, grant: &Grant, header: &BatchHeader) -> Permitted {
        let header = BatchHeader { contract: Some(grant.contract().clone()), ..header.clone() };
        let batch = Batch::from_series(header, self.series.into_values().collect())
            .expect("a form adds no rows, and the map keeps series in order");
        Permitted {
            contract: grant.contract().clone(),
            contract_digest: grant.contract_digest(),
            batch,
            masked_rows: self.masked_rows,
            terms,
        }
    }
}

/// One contract about one series.
struct One<'o, 'm> {
    grant: &'o Grant,
    situation: &'o Situation,
    means: &'o mut Means<'m>,
    outputs: &'o mut Outputs,
    fates: &'o mut Fates,
}

impl One<'_, '_> {
    /// Adds to the outputs what the contract lets go, by its verdicts.
    fn decide(&mut self, ordinal: Option<usize>, series: &Series, verdicts: &Verdicts) {
        let contract = || self.grant.contract().clone();
        for judged in verdicts.last() {
            let place = || ordinal.expect("a point without a place is not covered");
            let rules = || self.grant.rules(place());
            let reason = match judged.verdict {
                Verdict::Permit(permit, later) => {
                    let rows: Vec<usize> = judged.rows().collect();
                    self.permit(place(), (permit, later), series, &rows);
                    continue;
                }
                Verdict::Forbid(forbid) => rules().forbid_reason(forbid),
                Verdict::None => {
                    let rule = rules().nearest().expect("a covered point has a permission").clone();
                    DenyReason::NotPermitted { contract: contract(), rule }
                }
                Verdict::OutOfTerm => self.grant.out_of_term_reason(&self.situation.now),
                Verdict::NotCovered => DenyReason::PointNotCovered { contract: contract() },
            };
            judged.rows().for_each(|row| self.fates.deny(row, &reason));
        }
    }

    /// Puts rows that a permission lets go into their form.
    fn permit(
        &mut self,
        ordinal: usize,
        (place, later): (usize, RuleSet),
        series: &Series,
        rows: &[usize],
    ) {
        let rules = self.grant.rules(ordinal);
        let permit = rules.permit(place);
        let (contract, now) = (self.grant.contract(), self.situation.now);
        let boot = self.means.boot;
        let (terms, identity, forbids, into) = match &permit.member {
            None => {
                let terms = rules.terms(permit, later, now, boot);
                (terms, self.grant.identity(ordinal), later.places(), None)
            }
            Some(member) => {
                let (shared, forbids) = (self.grant.group(member), member.places(later));
                let terms = shared.terms(RuleSet::of(&forbids), now, boot);
                (terms, shared.identity, forbids, Some(shared.into))
            }
        };
        let (rules, rule, means) = (identity, &permit.rule, &mut *self.means);
        let mut shaping = Shaping { contract, rules, rule, forbids, into, now, means };
        let kept = shaping.sample(&permit.form, series.point, rows);
        let formed = match kept.is_empty() {
            true => Formed::default(),
            false => shaping.apply(&permit.form, select(series, &kept)),
        };
        let dropped = DenyReason::Dropped { contract: contract.clone() };
        let absorbed = DenyReason::Absorbed { contract: contract.clone() };
        let leaves = !formed.absorbed && !formed.series.is_empty();
        rows.iter().for_each(|row| self.fates.deny(*row, &dropped));
        for (place, row) in kept.iter().enumerate() {
            if leaves {
                self.fates.permit(*row);
            } else if formed.absorbed && !formed.late.contains(&place) {
                self.fates.deny(*row, &absorbed);
            }
        }
        self.outputs.push(terms, formed);
    }
}

/// Some rows of a series, or all.
fn select(series: &Series, rows: &[usize]) -> Series {
    if rows.len() == series.rows() { series.clone() } else { series.select(rows) }
}

#[cfg(test)]
mod tests;
