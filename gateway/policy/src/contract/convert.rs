//! From one wire form to the other. What is written is read back and compared before anyone gets it.

use super::odrl::odrl_json;
use super::reader::{Asked, read_document};
use super::tds::tds_json;
use super::{CONTRACT_BYTES_MAX, CONTRACT_SCHEMA, Contract, Rule, WireForm};
use crate::constraint::{Constraint, Leaf};
use crate::duty::Treatment;
use crate::fault::{ContractError, Faults, Problem};
use guan_model::Digest;
use serde_json::{Value, json};
use std::sync::Arc;

/// Room for the signatures of both parties.
const SIGNATURES_BYTES: usize = 1024;

impl Contract {
    /// The bare contract object in our profile of ODRL 2.2. Signatures are of one form only, so it
    /// has none. Fails for contracts that are too long or too deep in that form.
    pub fn to_odrl(&self) -> Result<Value, ContractError> {
        self.checked(odrl_json(self))
    }

    /// The bare contract object as TC609-6-2025-14 has it; see [`Contract::to_odrl`].
    pub fn to_tds(&self) -> Result<Value, ContractError> {
        self.checked(tds_json(self))
    }

    /// Whether both say the same, in whatever form and words.
    pub fn means_same(&self, other: &Self) -> bool {
        self.bare() == other.bare()
    }

    fn checked(&self, object: Value) -> Result<Value, ContractError> {
        let mut faults = Faults::default();
        // As the file that signing makes of it: what comes out of here can be signed.
        let file = json!({"schema": CONTRACT_SCHEMA, "contract": object, "signatures": []});
        let bytes = format!("{file:#}").into_bytes();
        let length = bytes.len() + SIGNATURES_BYTES;
        let document = match length > CONTRACT_BYTES_MAX {
            true => {
                faults.add("", Problem::TooLong { length, limit: CONTRACT_BYTES_MAX });
                None
            }
            false => read_document(&bytes, Asked::Whole, &mut faults),
        };
        if faults.is_empty() {
            let contract = document.and_then(|document| document.contract);
            if !contract.is_some_and(|contract| contract.means_same(self)) {
                faults.add("", Problem::Conversion);
            }
        }
        faults.finish(Some(object))
    }

    /// Without what depends on the form.
    fn bare(&self) -> Self {
        let rules = self.rules.iter().map(|rule| Rule {
            pointer: Arc::from(""),
            constraint: bare(&rule.constraint),
            treatments: rule.treatments.iter().map(bare_treatment).collect(),
            ..rule.clone()
        });
        Self {
            rules: rules.collect(),
            form: WireForm::Odrl,
            digest: Digest::of(&[]),
            ..self.clone()
        }
    }
}

fn bare(constraint: &Constraint) -> Constraint {
    let all = |parts: &[Constraint]| parts.iter().map(bare).collect();
    match constraint {
        Constraint::Test(leaf) => Constraint::Test(Leaf {
            test: leaf.test.clone(),
            text: Arc::from(""),
            pointer: Arc::from(""),
        }),
        Constraint::And(parts) => Constraint::And(all(parts)),
        Constraint::Or(parts) => Constraint::Or(all(parts)),
        Constraint::Xone(parts) => Constraint::Xone(all(parts)),
    }
}

fn bare_treatment(treatment: &Treatment) -> Treatment {
    Treatment { pointer: Arc::from(""), ..treatment.clone() }
}
