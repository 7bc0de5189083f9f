//! `guan contract check`.

use super::{Common, load, print_json};
use guan_edge::contracts::{compile, read_contracts};
use guan_edge::system_clock::{SharedClock, SystemClock};
use guan_edge::wiring;
use guan_link::driver::describe;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn check(common: &Common) -> anyhow::Result<ExitCode> {
    let config = load(&common.config)?;
    let keys = wiring::trusted_keys(&config)?;
    let set = read_contracts(&config.contracts.directory, &keys)?;
    let plan = compile(&set, &config.descriptors);
    let now = SharedClock::new(SystemClock::new(None)).read();
    let refused: Vec<String> = set.refused.iter().map(|fault| describe(fault)).collect();
    let warnings: Vec<String> = plan.warnings().iter().map(ToString::to_string).collect();
    if common.json {
        let contracts: Vec<_> = set
            .contracts
            .iter()
            .map(|contract| {
                json!({
                    "id": contract.id().to_string(), "version": contract.version(),
                    "provider": contract.provider(), "consumer": contract.consumer(),
                    "purpose": contract.purpose(), "is_valid_now": contract.valid_at(&now),
                    "datasets": contract.datasets().iter().map(ToString::to_string).collect::<Vec<_>>(),
                })
            })
            .collect();
        print_json(&json!({"contracts": contracts, "refused": refused, "warnings": warnings}))?;
    } else {
        for contract in &set.contracts {
            let datasets: Vec<_> = contract.datasets().iter().map(ToString::to_string).collect();
            let state = if contract.valid_at(&now) { "in force" } else { "NOT in force now" };
            println!(
                "{} v{}: {state}; {} to {}: {}",
                contract.id(),
                contract.version(),
                contract.provider(),
                contract.consumer(),
                datasets.join(", ")
            );
        }
        refused.iter().for_each(|text| println!("REFUSED {text}"));
        warnings.iter().for_each(|text| println!("warning: {text}"));
        if set.contracts.is_empty() {
            println!("no contract: nothing may leave this box");
        }
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
