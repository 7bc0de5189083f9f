//! The link's budgets, shared by the reader of the spool and the task that lets the link up and down.
//!
//! Kept in the metadata each [`KEEP_INTERVAL`] while it changes: an end of the program forgets the bytes since then,
//! and at most those.

use crate::metadata::{Metadata, MetadataError};
use guan_configs::edge::{BudgetConfig, UseConfig};
use guan_link::rota::{Budget, Usage};
use guan_model::{ContractId, WallTime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often a ledger that has changed is written.
pub const KEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Clones share the ledger.
#[derive(Debug, Clone, Default)]
pub struct LinkLedger {
    usage: Arc<Mutex<Usage>>,
    kept: Arc<Mutex<Usage>>,
    contracts: Arc<BTreeMap<ContractId, Budget>>,
    metadata: Option<Metadata>,
}

pub(crate) fn budget(config: BudgetConfig) -> Budget {
    let BudgetConfig { day_bytes_max, month_bytes_max } = config;
    Budget { day_bytes_max, month_bytes_max }
}

impl LinkLedger {
    /// Goes on with what is kept; without budgets nothing is written.
    pub fn open(metadata: &Metadata, config: &UseConfig) -> Result<Self, MetadataError> {
        let contracts: BTreeMap<ContractId, Budget> =
            config.contracts.iter().map(|one| (one.contract.clone(), budget(one.budget))).collect();
        let is_counted = config.budget != BudgetConfig::default() || !contracts.is_empty();
        let usage = match metadata.link_usage()?.map(|bytes| Usage::decode(&bytes)) {
            Some(Ok(usage)) => usage,
            Some(Err(fault)) => {
                tracing::warn!(%fault, "budgets of the link begin anew");
                Usage::default()
            }
            None => Usage::default(),
        };
        Ok(Self {
            kept: Arc::new(Mutex::new(usage.clone())),
            usage: Arc::new(Mutex::new(usage)),
            contracts: Arc::new(contracts),
            metadata: is_counted.then(|| metadata.clone()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().expect("nobody panics while holding it")
    }

    /// Whether a batch of this contract may leave now, as far as its budget goes.
    pub fn allows(&self, contract: &ContractId) -> bool {
        let Some(budget) = self.contracts.get(contract) else { return true };
        self.lock().contract_spent(contract, budget).is_none()
    }

    /// A batch leaves; repetitions count, too.
    pub fn handle_batch(&self, contract: &ContractId, bytes: u64) {
        if self.contracts.contains_key(contract) {
            self.lock().handle_contract(contract, bytes);
        }
    }

    pub fn handle_link(&self, wall: Option<WallTime>, bytes: u64) {
        let mut usage = self.lock();
        if let Some(wall) = wall {
            usage.handle_time(wall);
        }
        usage.handle_link(bytes);
    }

    pub fn usage(&self) -> Usage {
        self.lock().clone()
    }

    /// What contracts with a budget have used: id, bytes of the day and of the month, and whether it is spent.
    pub fn contracts(&self) -> Vec<(ContractId, (u64, u64), bool)> {
        let usage = self.usage();
        let line = |(contract, budget): (&ContractId, &Budget)| {
            let is_spent = usage.contract_spent(contract, budget).is_some();
            (contract.clone(), usage.contract_bytes(contract), is_spent)
        };
        self.contracts.iter().map(line).collect()
    }

    /// Writes it, if there are budgets and it has changed.
    pub fn keep(&self) -> Result<(), MetadataError> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let usage = self.usage();
        let mut kept = self.kept.lock().expect("nobody panics while holding it");
        if *kept != usage {
            metadata.set_link_usage(&usage.encode())?;
            *kept = usage;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_configs::EdgeConfig;
    use std::path::Path;

    const NOON: WallTime = WallTime(1_795_435_200_000_000_000);

    fn config() -> UseConfig {
        let text = r#"schema = 1
            [box]
            id = "b"
            state_dir = "s"
            [identity]
            tier = "unattested"
            [link]
            space = "localhost:4433"
            [[link.contract]]
            id = "C-1"
            bytes_per_day_max = 100000
            "#;
        EdgeConfig::parse(text, "edge.toml", Path::new("/")).unwrap().link.use_of_link
    }

    #[test]
    fn a_spent_contract_waits_for_the_day_after_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = ["C-1", "C-2"].map(|id| ContractId::parse(id).unwrap()).into();
        let open = || {
            let metadata = Metadata::open(folder.path()).unwrap();
            LinkLedger::open(&metadata, &config()).unwrap()
        };
        let ledger = open();
        ledger.handle_link(Some(NOON), 7);
        ledger.handle_batch(&one, 99_999);
        ledger.handle_batch(&other, 1_000_000);
        assert!(ledger.allows(&one) && ledger.allows(&other));
        ledger.handle_batch(&one, 1);
        assert!(!ledger.allows(&one) && ledger.allows(&other));
        ledger.keep().unwrap();
        drop(ledger);
        let again = open();
        assert!(!again.allows(&one));
        assert_eq!(again.usage().link_bytes(), (7, 7));
        assert_eq!(again.contracts(), [(one.clone(), (100_000, 100_000), true)]);
        again.handle_link(Some(NOON.saturating_add(Duration::from_secs(86_400))), 0);
        assert!(again.allows(&one));
    }
}
