//! A digital contract (数字合约): who may have which points of which datasets, when, in what form, and
//! what must follow.
//!
//! A contract that exists was read whole, holds no unknown term and bears the signatures of both
//! parties. One typed contract, three wire forms: `odrl` (our profile of ODRL 2.2), `tds` (the JSON
//! of TC609-6-2025-14) and `first` (schema 1 of the first release). `signature` checks who signed.

pub(crate) mod check;
mod convert;
mod duties;
mod first;
pub(crate) mod odrl;
mod particulars;
mod reader;
pub mod tds;

pub use crate::object::parse_moment;
pub(crate) use reader::{
    Asked, Document, SignatureEntry, check_party, plain_name, read_document, schema_of, signature,
};

use crate::action::ActionSet;
use crate::constraint::Constraint;
use crate::duty::{Duty, Treatment};
use crate::fault::{ContractError, Faults};
use crate::signature::TrustedKeys;
use guan_model::{ContractId, DatasetId, Digest, Now, WallTime};
use particulars::Particulars;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Largest contract file.
pub const CONTRACT_BYTES_MAX: usize = 256 * 1024;
/// Version of the file's form that is written.
pub const CONTRACT_SCHEMA: i64 = 2;
/// Our profile of ODRL 2.2.
pub const PROFILE: &str = "urn:guankou:odrl:1";
/// Namespace of our terms.
pub const NAMESPACE: &str = "urn:guankou:odrl:1:";
/// Most datasets of one contract.
pub const DATASETS_MAX: usize = 64;
/// Most points that a contract of schema 1 names, and most that it masks.
pub const POINTS_NAMED_MAX: usize = 8192;
/// Most rules of one contract.
pub const RULES_MAX: usize = 256;
/// Most signatures of one file.
pub const SIGNATURES_MAX: usize = 16;
/// How long a box serves a contract without having heard from the space, unless it says else.
pub const MAX_OFFLINE: Duration = Duration::from_secs(72 * 3600);
/// How long after its end what was collected in its term may still leave, unless it says else.
pub const GRACE_DELIVERY: Duration = Duration::from_secs(24 * 3600);

/// What becomes of data that was accepted under a contract and not yet sent when it ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Send,
    Shred,
}

impl Fate {
    pub const WORDS: [(&'static str, Self); 2] = [("send", Self::Send), ("shred", Self::Shred)];
}

/// How far the contract reaches beyond the moment in which the space last confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub max_offline: Duration,
    pub grace_delivery: Duration,
    pub on_early_end: Fate,
}

impl Default for Lease {
    fn default() -> Self {
        Self { max_offline: MAX_OFFLINE, grace_delivery: GRACE_DELIVERY, on_early_end: Fate::Shred }
    }
}

/// Whether a rule allows or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    Permission,
    Prohibition,
}

/// One permission or prohibition.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub id: Arc<str>,
    /// JSON pointer into the file that it was read from.
    pub pointer: Arc<str>,
    pub kind: RuleKind,
    pub actions: ActionSet,
    pub constraint: Constraint,
    /// The form in which data leaves under a permission.
    pub treatments: Vec<Treatment>,
    /// Duties of a permission, remedies of a prohibition.
    pub duties: Vec<Duty>,
}

impl Rule {
    /// Its forms and duties, each in one line for people.
    pub fn duty_texts(&self) -> Vec<String> {
        duties::texts(&self.treatments, &self.duties)
    }
}

/// In which form a contract was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireForm {
    Odrl,
    Tds,
    First,
}

/// Where a moment lies in the life of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    NotYet,
    Valid,
    Expired,
}

/// A contract whose signatures were checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    id: ContractId,
    version: u64,
    title: Option<String>,
    provider: String,
    consumer: String,
    consumer_country: Option<String>,
    purpose: Option<String>,
    datasets: BTreeSet<DatasetId>,
    not_before: WallTime,
    not_after: WallTime,
    lease: Lease,
    rules: Vec<Rule>,
    obligations: Vec<Duty>,
    terms: Option<Value>,
    agreed_at: Option<WallTime>,
    particulars: Option<Particulars>,
    form: WireForm,
    digest: Digest,
}

impl Contract {
    /// Reads a signed contract file. Trusted keys of both parties must have signed it. Signatures
    /// by unknown keys do not count; one by a trusted key that does not fit refuses the file.
    pub fn parse(json: &[u8], keys: &TrustedKeys) -> Result<Self, ContractError> {
        let mut faults = Faults::default();
        let document = read_document(json, Asked::Whole, &mut faults);
        if let Some(document) = &document
            && let Some(contract) = &document.contract
        {
            keys.check(document, contract, &mut faults);
        }
        faults.finish(document.and_then(|document| document.contract))
    }

    /// Reads a contract file or a bare contract object without asking who signed: for drafts and
    /// offers. What it grants is nothing until [`Contract::parse`] has read the signed file.
    pub fn draft(json: &[u8]) -> Result<Self, ContractError> {
        let mut faults = Faults::default();
        let document = read_document(json, Asked::Draft, &mut faults);
        faults.finish(document.and_then(|document| document.contract))
    }

    /// As `draft`, and refuses what makes no sense, as signing does: rules that can never hold, and
    /// permissions of which prohibitions leave nothing.
    pub fn lint(json: &[u8]) -> Result<Self, ContractError> {
        let mut faults = Faults::default();
        let document = read_document(json, Asked::Sense, &mut faults);
        faults.finish(document.and_then(|document| document.contract))
    }

    pub fn id(&self) -> &ContractId {
        &self.id
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// The party whose data it is: ODRL's assigner.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The party that may have the data: ODRL's assignee.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Where the consumer keeps the data, as two letters of ISO 3166-1.
    pub fn consumer_country(&self) -> Option<&str> {
        self.consumer_country.as_deref()
    }

    /// What the consumer says it wants the data for.
    pub fn purpose(&self) -> Option<&str> {
        self.purpose.as_deref()
    }

    pub fn datasets(&self) -> &BTreeSet<DatasetId> {
        &self.datasets
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// As it is, but for rules with these ids.
    pub(crate) fn without_rules(&self, ids: &BTreeSet<&Arc<str>>) -> Self {
        let rules = self.rules.iter().filter(|rule| !ids.contains(&rule.id));
        Self { rules: rules.cloned().collect(), ..self.clone() }
    }

    /// What somebody must do whether or not data is used.
    pub fn obligations(&self) -> &[Duty] {
        &self.obligations
    }

    /// Duties of the permissions, and obligations. Remedies are not among them: those of prohibitions are
    /// due only once somebody has done what is forbidden.
    pub fn duties_of_use(&self) -> impl Iterator<Item = &Duty> {
        let permissions = self.rules.iter().filter(|rule| rule.kind == RuleKind::Permission);
        permissions.flat_map(|rule| &rule.duties).chain(&self.obligations)
    }

    /// As [`Rule::duty_texts`].
    pub fn obligation_texts(&self) -> Vec<String> {
        duties::texts(&[], &self.obligations)
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Price and metering terms: carried, never interpreted.
    pub fn terms(&self) -> Option<&Value> {
        self.terms.as_ref()
    }

    /// When the parties say that they agreed; decides nothing.
    pub fn agreed_at(&self) -> Option<WallTime> {
        self.agreed_at
    }

    /// Whether its id is a number as TC609-6-2025-14 has them.
    pub fn is_numbered(&self) -> bool {
        tds::Identifier::of(&self.id).is_some()
    }

    pub fn form(&self) -> WireForm {
        self.form
    }

    /// First moment at which it is valid.
    pub fn not_before(&self) -> WallTime {
        self.not_before
    }

    /// First moment at which it is no longer valid.
    pub fn not_after(&self) -> WallTime {
        self.not_after
    }

    /// SHA-256 of the canonical bytes (RFC 8785) of the contract object, without signatures.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Rules that ask for Secure Boot. Only the space's verdict tells a box, so that one without a TPM never knows:
    /// a permission then never holds, and a prohibition always does.
    pub fn asks_secure_boot(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| {
            let mut leaves = rule.constraint.leaves().into_iter();
            leaves.any(|leaf| matches!(leaf.test, crate::constraint::Test::SecureBoot(_)))
        })
    }

    pub fn validity(&self, now: &Now) -> Validity {
        validity(now, self.not_before, self.not_after)
    }

    pub fn valid_at(&self, now: &Now) -> bool {
        self.validity(now) == Validity::Valid
    }
}

pub(crate) fn validity(now: &Now, not_before: WallTime, not_after: WallTime) -> Validity {
    if now.wall < not_before {
        Validity::NotYet
    } else if now.wall >= not_after {
        Validity::Expired
    } else {
        Validity::Valid
    }
}

#[cfg(test)]
pub(crate) mod tests;
