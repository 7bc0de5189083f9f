//! What the plan says about one batch, and the batch in the form in which it may leave.

use crate::plan::{Grant, Plan, PointRules, Reading, Verdict};
use crate::situation::Situation;
use crate::transform::apply;
use guan_model::{Batch, BatchHeader, Column, ContractId, Digest, PointId, Series, ValueType};
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
            | Self::Dropped { contract } => Some(contract),
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

/// What may leave under one contract.
#[derive(Debug, Clone)]
pub struct Permitted {
    pub contract: ContractId,
    pub contract_digest: Digest,
    /// With `header.contract` set; masked rows are absent with the reason `PolicyReduced`.
    pub batch: Batch,
    pub masked_rows: u64,
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
    /// One for each contract that lets at least one row go, in the order of contract ids.
    pub permitted: Vec<Permitted>,
    /// One for each reason, in the order of reasons.
    pub refused: Vec<Refusal>,
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
    pub fn decide(&self, situation: &Situation, batch: Batch) -> Decision {
        let rows = batch.rows() as u64;
        if batch.header.descriptors != self.descriptors() {
            let refused = vec![Refusal { rows, reason: DenyReason::OtherDescriptors }];
            return Decision { permitted: Vec::new(), refused };
        }
        let dataset = self.dataset(&batch.header.dataset);
        let grants = dataset.map_or(&[][..], |dataset| dataset.grants());
        let mut outputs: Vec<Output> = grants.iter().map(|_| Output::default()).collect();
        let mut refused: BTreeMap<DenyReason, u64> = BTreeMap::new();
        for series in &batch.series {
            let ordinal = dataset.and_then(|dataset| dataset.ordinal(series.point));
            let mut fates = Fates::new(series.rows());
            for (grant, output) in grants.iter().zip(&mut outputs) {
                decide_series(grant, ordinal, situation, series, output, &mut fates);
            }
            for (reason, rows) in fates.refused() {
                *refused.entry(reason).or_default() += rows;
            }
        }
        let permitted = grants.iter().zip(outputs);
        let permitted = permitted.filter_map(|(grant, output)| output.finish(grant, &batch.header));
        let refused = refused.into_iter().map(|(reason, rows)| Refusal { rows, reason });
        Decision { permitted: permitted.collect(), refused: refused.collect() }
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

    /// Keeps the reason that says most: the first that is not about points nobody named.
    fn deny(&mut self, row: usize, reason: &DenyReason) {
        let says_little = |known: &DenyReason| matches!(known, DenyReason::PointNotCovered { .. });
        if self.denied[row].as_ref().is_none_or(|known| says_little(known) && !says_little(reason))
        {
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

/// What leaves under one contract.
#[derive(Default)]
struct Output {
    series: BTreeMap<(PointId, Option<ValueType>), Series>,
    masked_rows: u64,
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

    fn finish(self, grant: &Grant, header: &BatchHeader) -> Option<Permitted> {
        if self.series.is_empty() {
            return None;
        }
        let header = BatchHeader { contract: Some(grant.contract().clone()), ..header.clone() };
        let batch = Batch::from_series(header, self.series.into_values().collect())
            .expect("a form adds no rows, and the map keeps series in order");
        Some(Permitted {
            contract: grant.contract().clone(),
            contract_digest: grant.contract_digest(),
            batch,
            masked_rows: self.masked_rows,
        })
    }
}

/// Adds to the output what one contract lets go of one series.
fn decide_series(
    grant: &Grant,
    ordinal: Option<usize>,
    situation: &Situation,
    series: &Series,
    output: &mut Output,
    fates: &mut Fates,
) {
    let contract = || grant.contract().clone();
    let deny_all = |fates: &mut Fates, reason: DenyReason| {
        (0..series.rows()).for_each(|row| fates.deny(row, &reason));
    };
    let rules = ordinal.map(|ordinal| grant.rules(ordinal));
    let Some(rules) = rules.filter(|rules| !rules.is_empty()) else {
        return deny_all(fates, DenyReason::PointNotCovered { contract: contract() });
    };
    if !grant.valid_at(&situation.now) {
        let reason = grant.invalid_reason(&situation.now);
        return deny_all(
            fates,
            reason.expect("a term that does not last has not begun or has ended"),
        );
    }
    for (verdict, rows) in verdicts(rules, situation, series) {
        let reason = match verdict {
            Verdict::Permit(permit) => {
                let chosen = select(series, &rows);
                let formed = apply(&permit.form, chosen);
                output.masked_rows += formed.masked;
                match formed.series {
                    Some(series) => {
                        output.push(series);
                        rows.iter().for_each(|row| fates.permit(*row));
                        continue;
                    }
                    None => DenyReason::Dropped { contract: contract() },
                }
            }
            Verdict::Forbid(rule) => {
                DenyReason::Prohibited { contract: contract(), rule: rule.clone() }
            }
            Verdict::None => {
                let rule = rules.nearest().expect("points without permissions went before").clone();
                DenyReason::NotPermitted { contract: contract(), rule }
            }
        };
        rows.iter().for_each(|row| fates.deny(*row, &reason));
    }
}

/// The rows of a series by verdict, rows in order.
fn verdicts<'p>(
    rules: &'p PointRules,
    situation: &Situation,
    series: &Series,
) -> Vec<(Verdict<'p>, Vec<usize>)> {
    let mut groups: Vec<(Verdict<'p>, Vec<usize>)> = Vec::new();
    if rules.is_of_batch() {
        let verdict = rules.verdict(situation, &reading(series, 0));
        return vec![(verdict, (0..series.rows()).collect())];
    }
    for row in 0..series.rows() {
        let verdict = rules.verdict(situation, &reading(series, row));
        match groups.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((verdict, vec![row])),
        }
    }
    groups
}

/// What tests may ask of a row.
fn reading(series: &Series, row: usize) -> Reading {
    let gateway_time = series.gateway_times[row];
    Reading {
        event_time: series.source_times[row].unwrap_or(gateway_time),
        gateway_time,
        quality: series.qualities[row],
        value: number(&series.values, row),
    }
}

#[allow(clippy::cast_precision_loss, reason = "contracts compare with decimals of 24 characters")]
fn number(values: &Column, row: usize) -> Option<f64> {
    match values {
        Column::F64(values) => Some(values[row]),
        Column::F32(values) => Some(f64::from(values[row])),
        Column::I64(values) => Some(values[row] as f64),
        Column::U64(values) => Some(values[row] as f64),
        Column::Bool(values) => Some(f64::from(u8::from(values[row]))),
        Column::Absent | Column::Text(_) | Column::Bytes(_) => None,
    }
}

/// Some rows of a series, or all.
fn select(series: &Series, rows: &[usize]) -> Series {
    if rows.len() == series.rows() { series.clone() } else { series.select(rows) }
}
