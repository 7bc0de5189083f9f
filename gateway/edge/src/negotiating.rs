//! What this box does of itself in a negotiation: it is the provider, for the owner of its data.
//!
//! A mandate says what it may agree to; without one, or beside it, a person decides. It finalizes only a
//! contract that it would take from the space, too: signed by both parties with trusted keys.

use crate::wiring::{self, WiringFault};
use guan_configs::EdgeConfig;
use guan_identity::PartyKey;
use guan_model::{DatasetId, Now, Signer};
use guan_negotiation::{Conduct, Ledger};
use guan_policy::negotiation::{
    CommandFault, MANDATE_BYTES_MAX, Mandate, MessageError, Negotiation, Role, Signatures, State,
    Verdict,
};
use guan_policy::{Contract, TrustedKeys, sign};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Folder in `box.state_dir`.
pub const NEGOTIATIONS_DIR: &str = "negotiations";
/// The other end, as the box knows it.
const PEER: &str = "space";
/// Where this end takes messages: on the link, and nowhere else.
const CALLBACK: &str = "urn:guankou:link:box";

/// Why the box cannot negotiate.
#[derive(Debug, thiserror::Error)]
pub enum NegotiatingFault {
    #[error("the mandate {path} cannot be read")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the mandate {path} is refused")]
    Mandate { path: PathBuf, source: MessageError },
    #[error(transparent)]
    Wiring(#[from] WiringFault),
}

/// Where the box keeps its negotiations.
pub fn ledger(config: &EdgeConfig) -> Ledger {
    Ledger::new(&config.state_dir.join(NEGOTIATIONS_DIR), Role::Provider, PEER, CALLBACK)
}

/// The box as provider.
pub struct Provider {
    keys: TrustedKeys,
    mandate: Option<Mandate>,
    key_file: Option<PathBuf>,
    datasets: BTreeSet<DatasetId>,
}

impl Provider {
    pub fn new(config: &EdgeConfig) -> Result<Self, NegotiatingFault> {
        let mandate = config.contracts.mandate_file.as_deref().map(read_mandate).transpose()?;
        let datasets = config.descriptors.datasets();
        Ok(Self {
            keys: wiring::trusted_keys(config)?,
            mandate,
            key_file: config.contracts.party_key_file.clone(),
            datasets,
        })
    }

    /// Judges what the consumer wants.
    fn judge(&self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault> {
        let Some(proposal) = negotiation.proposal() else { return Ok(()) };
        let contract = match Contract::lint(&proposal.to_json()) {
            Ok(contract) => contract,
            Err(fault) => {
                let reasons = vec![guan_link::driver::describe(&fault)];
                return negotiation.terminate(now, Some("bad-contract".to_owned()), reasons);
            }
        };
        let unknown: Vec<String> = contract
            .datasets()
            .difference(&self.datasets)
            .map(|dataset| format!("this box has no dataset {dataset}"))
            .collect();
        if !unknown.is_empty() {
            return negotiation.terminate(now, Some("unknown-dataset".to_owned()), unknown);
        }
        match self.mandate.as_ref().map(|mandate| mandate.judge(&contract)) {
            Some(Verdict::Accept) => self.agree(now, negotiation, contract.provider()),
            Some(Verdict::Refuse(reasons)) => {
                let reasons = reasons.iter().map(ToString::to_string).collect();
                negotiation.terminate(now, Some("mandate".to_owned()), reasons)
            }
            // A person decides.
            Some(Verdict::AskOperator(_)) | None => Ok(()),
        }
    }

    /// Agrees with the owner's signature; without a key for it a person must.
    fn agree(
        &self,
        now: Now,
        negotiation: &mut Negotiation,
        party: &str,
    ) -> Result<(), CommandFault> {
        let Some(file) = &self.key_file else { return Ok(()) };
        match PartyKey::load(file, party) {
            Ok(key) => agree(now, negotiation, &key, party),
            Err(fault) => {
                tracing::warn!(%fault, "the box cannot sign for {party}; a person must agree");
                Ok(())
            }
        }
    }

    fn finalize(&self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault> {
        let file = negotiation.contract_file().unwrap_or_default();
        match Contract::parse(&file, &self.keys) {
            Ok(_) => negotiation.finalize(now),
            Err(fault) => {
                let reasons = vec![guan_link::driver::describe(&fault)];
                negotiation.terminate(now, Some("signature".to_owned()), reasons)
            }
        }
    }
}

impl Conduct for Provider {
    fn act(&mut self, now: Now, negotiation: &mut Negotiation) -> Result<(), CommandFault> {
        match negotiation.state() {
            Some(State::Requested) => self.judge(now, negotiation),
            // What was accepted is this end's own offer.
            Some(State::Accepted) => match party(negotiation) {
                Some(party) => self.agree(now, negotiation, &party),
                None => Ok(()),
            },
            Some(State::Verified) => self.finalize(now, negotiation),
            _ => Ok(()),
        }
    }

    /// The space puts the contract into the box's set, which brings it in force here.
    fn conclude(&mut self, _: Now, negotiation: &Negotiation) {
        let agreement = negotiation.agreement().and_then(|terms| {
            let contract = Contract::draft(&terms.to_json()).ok()?;
            Some(format!("{} v{}", contract.id(), contract.version()))
        });
        let contract = agreement.unwrap_or_default();
        tracing::info!(%contract, "a contract was agreed on");
    }
}

/// The party for which the box agrees.
pub fn party(negotiation: &Negotiation) -> Option<String> {
    let contract = Contract::draft(&negotiation.proposal()?.to_json()).ok()?;
    Some(contract.provider().to_owned())
}

/// Agrees to the last proposal, signed by a party.
pub fn agree(
    now: Now,
    negotiation: &mut Negotiation,
    key: &dyn Signer,
    party: &str,
) -> Result<(), CommandFault> {
    let Some(terms) = negotiation.proposal().map(|terms| terms.to_agreement()) else {
        return Ok(());
    };
    let signed = sign(&terms.to_json(), party, key).map_err(MessageError::from);
    let signatures = signed.and_then(|file| Signatures::of_file(&file));
    negotiation.agree(now, terms, signatures.map_err(CommandFault::Message)?)
}

fn read_mandate(path: &Path) -> Result<Mandate, NegotiatingFault> {
    let path = path.to_owned();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(MANDATE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Mandate::read(&bytes).map_err(|source| NegotiatingFault::Mandate { path, source }),
        Err(source) => Err(NegotiatingFault::File { path, source }),
    }
}
