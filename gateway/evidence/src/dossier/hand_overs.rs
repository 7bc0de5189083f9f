//! Entries that handed the log's key over, for whoever knows an earlier key than the one that signed the head.
//!
//! They are followed only where the policy does not name the key that signed. A hand-over that the old key signed
//! and the box's TPM did not quote is a thief's, as far as anybody can tell: it leads nowhere.

use super::finding::{Finding, Remark};
use super::{Files, entries_of};
use crate::checkpoint::Checkpoint;
use crate::epoch::epoch_base;
use crate::leaf::{Leaf, LeafBody};
use crate::lineage::Lineage;
use crate::note::VerifierKey;
use crate::policy::{Distrust, Policy, Trusted};
use guan_model::PublicKey;

/// The hand-overs of a bundle, in the order of the log.
fn hand_overs(files: &Files) -> Vec<(u64, &[u8])> {
    let of_kind = |(index, bytes): (u64, &'_ [u8])| {
        let leaf = Leaf::decode(bytes).ok()?;
        matches!(leaf.body, LeafBody::KeyRollover(_)).then_some(index)
    };
    let entries = entries_of(files);
    entries.into_iter().filter(|entry| of_kind(*entry).is_some()).collect()
}

/// The lineage that begins with a known key, as far as the bundle shows it.
fn lineage_of(key: &VerifierKey, origin: &str, files: &Files) -> Option<Lineage> {
    let base = epoch_base(key.name()).unwrap_or(key.name());
    let mut lineage = Lineage::new(VerifierKey::new(base, key.key_bytes()).ok()?);
    for (_, leaf) in hand_overs(files) {
        // Those before the known key, and those of no key that is known, lead on from nowhere.
        let _ = lineage.extend(origin, leaf);
    }
    Some(lineage)
}

/// What a head is trusted by.
pub(super) struct Followed {
    pub(super) trusted: Result<Trusted, Distrust>,
    /// With the key that signed among its keys.
    pub(super) policy: Policy,
    pub(super) findings: Vec<Finding>,
    pub(super) remarks: Vec<Remark>,
}

/// Checks the head by the keys of a policy, and by those that they handed over to.
pub(super) fn follow(
    policy: &Policy,
    files: &Files,
    note: &str,
    attestation_key: Option<&PublicKey>,
) -> Followed {
    let trusted = policy.check(note);
    let mut followed =
        Followed { trusted, policy: policy.clone(), findings: Vec::new(), remarks: Vec::new() };
    let Ok(head) = Checkpoint::parse_unverified(note) else { return followed };
    for key in policy.log_keys() {
        let Some(lineage) = lineage_of(key, &head.origin, files) else { continue };
        let signer = lineage.at(&head.origin, head.size);
        if signer.key_bytes() == key.key_bytes() {
            continue;
        }
        if followed.trusted.is_ok() {
            let is_by = |one: &VerifierKey| one.key_bytes() == key.key_bytes();
            let is_retired =
                followed.trusted.as_ref().is_ok_and(|found| found.signed.iter().any(is_by));
            let handed_over = lineage.steps().first().map(|step| step.place().1);
            let retired = handed_over.filter(|_| is_retired);
            followed.findings.extend(retired.map(|index| Finding::RetiredKey { index }));
            continue;
        }
        let widened = policy.with_log_key(signer.clone());
        let Ok(trusted) = widened.check(note) else { continue };
        let steps = lineage.steps().iter().filter(|step| step.place().1 < head.size);
        for step in steps {
            let index = step.place().1;
            match attestation_key {
                Some(key) if !step.is_quoted(std::slice::from_ref(key)) => {
                    followed.findings.push(Finding::Unquoted { index });
                }
                _ => followed.remarks.push(Remark::HandedOver {
                    index,
                    key: step.new_key().to_string(),
                    is_quoted: attestation_key.is_some(),
                }),
            }
        }
        (followed.trusted, followed.policy) = (Ok(trusted), widened);
        break;
    }
    followed
}
