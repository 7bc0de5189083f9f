//! What the plan says about one batch, and the batch in the form in which it may leave.

use crate::plan::{Grant, Plan, Treatment};
use guan_model::{
    Batch, BatchHeader, Column, ContractId, Digest, Now, Quality, Reason, Series, Severity,
};
use std::collections::BTreeMap;

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
}

impl DenyReason {
    pub fn code(&self) -> u8 {
        match self {
            Self::NoContract => 1,
            Self::NotYetValid { .. } => 2,
            Self::Expired { .. } => 3,
            Self::PointNotCovered { .. } => 4,
            Self::OtherDescriptors => 5,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::NoContract => "no-contract",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Expired { .. } => "expired",
            Self::PointNotCovered { .. } => "point-not-covered",
            Self::OtherDescriptors => "other-descriptors",
        }
    }

    /// The contract that came closest to letting the rows go.
    pub fn contract(&self) -> Option<&ContractId> {
        match self {
            Self::NoContract | Self::OtherDescriptors => None,
            Self::NotYetValid { contract }
            | Self::Expired { contract }
            | Self::PointNotCovered { contract } => Some(contract),
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
    /// Decides by series, never by value; refuses what nothing permits.
    pub fn decide(&self, now: &Now, mut batch: Batch) -> Decision {
        let mut refused: BTreeMap<DenyReason, u64> = BTreeMap::new();
        let mut treatments: Vec<Vec<Treatment>> = Vec::new();
        let dataset = self.dataset(&batch.header.dataset);
        let grants = dataset.map_or(&[][..], |dataset| dataset.grants());
        let is_valid: Vec<bool> = grants.iter().map(|grant| grant.valid_at(now)).collect();
        for series in &batch.series {
            let mut refuse = |reason| {
                *refused.entry(reason).or_default() += series.rows() as u64;
                vec![Treatment::Deny; grants.len()]
            };
            if batch.header.descriptors != self.descriptors() {
                treatments.push(refuse(DenyReason::OtherDescriptors));
                continue;
            }
            let ordinal = dataset.and_then(|dataset| dataset.ordinal(series.point));
            let of_grant = |(grant, valid): (&Grant, &bool)| match (valid, ordinal) {
                (true, Some(ordinal)) => grant.treatment(ordinal),
                _ => Treatment::Deny,
            };
            let row: Vec<Treatment> = grants.iter().zip(&is_valid).map(of_grant).collect();
            treatments.push(match row.iter().all(|one| *one == Treatment::Deny) {
                true => refuse(deny_reason(now, grants, ordinal)),
                false => row,
            });
        }
        let permitted = permitted(&mut batch, grants, &treatments);
        let refused = refused.into_iter().map(|(reason, rows)| Refusal { rows, reason }).collect();
        Decision { permitted, refused }
    }
}

/// Why none of the grants lets a point go: one that covers it but is not valid explains more than
/// one that does not cover it.
fn deny_reason(now: &Now, grants: &[Grant], ordinal: Option<usize>) -> DenyReason {
    let covers =
        |grant: &&Grant| ordinal.is_some_and(|ordinal| grant.treatment(ordinal) != Treatment::Deny);
    match (grants.iter().find(covers), grants.first()) {
        (Some(grant), _) => grant.invalid_reason(now),
        (None, Some(grant)) => DenyReason::PointNotCovered { contract: grant.contract().clone() },
        (None, None) => DenyReason::NoContract,
    }
}

/// Cuts out the batch of each grant. The last one takes the columns, the others copy them.
fn permitted(batch: &mut Batch, grants: &[Grant], treatments: &[Vec<Treatment>]) -> Vec<Permitted> {
    let permits = |grant: usize| treatments.iter().any(|row| row[grant] != Treatment::Deny);
    let permitting: Vec<usize> = (0..grants.len()).filter(|grant| permits(*grant)).collect();
    let mut permitted = Vec::with_capacity(permitting.len());
    for &index in &permitting {
        let is_last = permitting.last() == Some(&index);
        let mut series: Vec<Series> = Vec::new();
        let mut masked_rows = 0;
        for (one, row) in batch.series.iter_mut().zip(treatments) {
            match row[index] {
                Treatment::Deny => {}
                Treatment::Pass => series.push(if is_last { take(one) } else { one.clone() }),
                Treatment::Mask => {
                    masked_rows += one.rows() as u64;
                    push_masked(&mut series, one);
                }
            }
        }
        let grant = &grants[index];
        let header =
            BatchHeader { contract: Some(grant.contract().clone()), ..batch.header.clone() };
        let batch = Batch::from_series(header, series)
            .expect("series of a valid batch stay in order when some are left out or masked");
        permitted.push(Permitted {
            contract: grant.contract().clone(),
            contract_digest: grant.contract_digest(),
            batch,
            masked_rows,
        });
    }
    permitted
}

fn take(series: &mut Series) -> Series {
    Series {
        point: series.point,
        source_times: std::mem::take(&mut series.source_times),
        gateway_times: std::mem::take(&mut series.gateway_times),
        qualities: std::mem::take(&mut series.qualities),
        values: std::mem::replace(&mut series.values, Column::Absent),
    }
}

/// Appends the rows without values. All series of a masked point become one, for their types
/// would tell something about the values. A quality loses its reason for the same cause.
fn push_masked(out: &mut Vec<Series>, series: &Series) {
    let reduced = Quality::new(Severity::Uncertain, Reason::PolicyReduced);
    let qualities = series.qualities.iter().map(|quality| reduced.with_flags(quality.flags()));
    if out.last().is_none_or(|last| last.point != series.point) {
        out.push(Series {
            point: series.point,
            source_times: Vec::new(),
            gateway_times: Vec::new(),
            qualities: Vec::new(),
            values: Column::Absent,
        });
    }
    let target = out.last_mut().expect("one was just pushed");
    target.source_times.extend_from_slice(&series.source_times);
    target.gateway_times.extend_from_slice(&series.gateway_times);
    target.qualities.extend(qualities);
}
