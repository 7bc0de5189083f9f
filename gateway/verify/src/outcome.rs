//! What the entries of a bundle say came of each contract and of what was kept under it.

use crate::terminal::say;
use guan_evidence::account::{Account, Fates, Line};
use guan_evidence::view::account_line;
use guan_evidence::{ContractOutcome, Leaf, LeafBody};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One contract, as far as the entries tell.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    line: Line,
    /// Entry and what it says, the last one.
    last: Option<(u64, ContractOutcome)>,
    /// The entry by which the key of what was kept is gone.
    destroyed: Option<u64>,
}

pub(crate) fn outcomes(entries: &[Leaf]) -> BTreeMap<String, Outcome> {
    let mut fates = Fates::default();
    entries.iter().for_each(|leaf| fates.handle_leaf(leaf));
    let mut account = Account::new(&fates);
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    for leaf in entries {
        account.handle_leaf(leaf, true);
        let LeafBody::ContractChange { contract, outcome, .. } = &leaf.body else { continue };
        let found = outcomes.entry(contract.to_string()).or_default();
        found.last = Some((leaf.seq, *outcome));
        if *outcome == ContractOutcome::Destroyed {
            found.destroyed = Some(leaf.seq);
        }
    }
    for ((contract, _), line) in account.lines() {
        outcomes.entry(contract.to_string()).or_default().line.add(&line);
    }
    outcomes
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        let mut json = account_line(&self.line);
        json["outcome"] = json!(self.last.map(|(_, outcome)| outcome.name()));
        json["outcome_entry"] = json!(self.last.map(|(entry, _)| entry));
        json["destroyed_entry"] = json!(self.destroyed);
        json
    }

    pub(crate) fn print(&self, contract: &str) {
        let Line { kept, sent, given_up, .. } = &self.line;
        say!(
            "contract    {contract}: {} readings in {} batches kept, {} of them received by the space",
            kept.rows,
            kept.batches,
            sent.rows
        );
        for (reason, gone) in given_up {
            say!(
                "            {} readings in {} batches never left: {}",
                gone.rows,
                gone.batches,
                reason.name()
            );
        }
        if let Some((entry, outcome)) = self.last {
            say!("            {} by entry {entry}", outcome.name());
        }
        if let Some(entry) = self.destroyed {
            say!("            the key of what was kept is destroyed by entry {entry}");
        }
    }
}
