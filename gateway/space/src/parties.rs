//! What the space knows of the parties of contracts: keys with which it signs for them, and public halves
//! with which it checks that they have signed.
//!
//! In `contracts.party_keys_dir` PARTY.pem is a private key and PARTY.pub.pem a public one; both vouch for
//! the party. The space itself has its contract key. A contract counts when both parties have signed it; a
//! signature of a party without a known key counts only if an operator says so.

use guan_configs::SpaceConfig;
use guan_identity::{KeyFault, PartyKey, decode_public};
use guan_model::{PublicKey, Signer};
use guan_policy::{Contract, ContractError, TrustedKeys, key_id};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest public key file.
const PUBLIC_BYTES_MAX: u64 = 4096;

/// Why a contract does not count, or a key is not used.
#[derive(Debug, thiserror::Error)]
pub enum PartyFault {
    #[error("the key {} cannot be used", path.display())]
    Key { path: PathBuf, source: KeyFault },
    #[error("{} cannot be read", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "{} holds no public Ed25519 or P-256 key in PEM; `openssl pkey -pubout` writes one",
        path.display()
    )]
    Public { path: PathBuf },
    #[error("a key of a party cannot be trusted: {0}")]
    Trust(guan_policy::KeyFault),
    #[error("the contract does not count")]
    Contract(#[source] ContractError),
    #[error(
        "no key of {parties} is known here, so nothing tells who signed: put the public key as \
         PARTY.pub.pem into {place}, or take the signature unchecked with --trust-unknown-keys"
    )]
    Unknown { parties: String, place: String },
    #[error(
        "the key {found} is not {party}'s: {known} is known here; sign with that key, or change \
         what is in contracts.party_keys_dir"
    )]
    NotTheirs { party: String, found: String, known: String },
}

/// What becomes of signatures of parties without a known key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    Refused,
    /// They count, unchecked.
    Trusted,
}

/// A contract that both parties have signed, as far as that can be told here.
#[derive(Debug)]
pub struct Signed {
    contract: Contract,
    file: Vec<u8>,
    unchecked: Vec<String>,
}

impl Signed {
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// Parties whose signature nobody could check.
    pub fn unchecked(&self) -> &[String] {
        &self.unchecked
    }

    /// For tests of what comes after.
    #[cfg(test)]
    pub(crate) fn unseen(file: &[u8]) -> Self {
        let contract = Contract::draft(file).unwrap();
        Self { contract, file: file.to_vec(), unchecked: Vec::new() }
    }
}

/// Where the keys are.
#[derive(Clone)]
pub struct PartyKeys {
    space: String,
    key_file: PathBuf,
    parties_dir: Option<PathBuf>,
}

impl PartyKeys {
    pub fn new(config: &SpaceConfig) -> Self {
        Self {
            space: config.id.to_string(),
            key_file: config.contract_key_file.clone(),
            parties_dir: config.party_keys_dir.clone(),
        }
    }

    /// For tests that need keys of parties only.
    #[cfg(test)]
    pub(crate) fn of_folder(folder: PathBuf) -> Self {
        let (space, key_file) = ("space-1".to_owned(), folder.join("space.key"));
        Self { space, key_file, parties_dir: Some(folder) }
    }

    /// With which the space signs for a party; `None`: a person must.
    pub fn private(&self, party: &str) -> Result<Option<PartyKey>, PartyFault> {
        let path = match (party == self.space, &self.parties_dir) {
            (true, _) => self.key_file.clone(),
            (false, Some(folder)) => folder.join(format!("{party}.pem")),
            (false, None) => return Ok(None),
        };
        if !path.exists() {
            return Ok(None);
        }
        match PartyKey::load(&path, party) {
            Ok(key) => Ok(Some(key)),
            Err(source) => Err(PartyFault::Key { path, source }),
        }
    }

    /// Every key that is known to be a party's.
    pub fn known(&self, party: &str) -> Result<Vec<PublicKey>, PartyFault> {
        let mut known: Vec<PublicKey> =
            self.private(party)?.map(|key| key.public_key()).into_iter().collect();
        if let Some(folder) = &self.parties_dir {
            let path = folder.join(format!("{party}.pub.pem"));
            let public = read_public(&path)?;
            known.extend(public.filter(|key| !known.contains(key)));
        }
        Ok(known)
    }

    /// Refuses a key that is not the party's, as far as its keys are known.
    pub fn check_theirs(&self, party: &str, key: &PublicKey) -> Result<(), PartyFault> {
        let known = self.known(party)?;
        if known.is_empty() || known.contains(key) {
            return Ok(());
        }
        let known: Vec<String> = known.iter().map(key_id).collect();
        let (party, known) = (party.to_owned(), known.join(", "));
        Err(PartyFault::NotTheirs { party, found: key_id(key), known })
    }

    /// When a key was last added or taken away, as far as the disk tells.
    pub fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(self.parties_dir.as_ref()?).and_then(|folder| folder.modified()).ok()
    }

    /// The known keys of these parties.
    pub fn trusted(&self, parties: &[&str]) -> Result<TrustedKeys, PartyFault> {
        let mut keys = Vec::new();
        for party in parties {
            keys.extend(self.known(party)?.into_iter().map(|key| ((*party).to_owned(), key)));
        }
        TrustedKeys::new(keys).map_err(|mut faults| PartyFault::Trust(faults.remove(0)))
    }

    /// Reads a contract that both parties must have signed.
    pub fn judge(&self, file: Vec<u8>, strangers: Strangers) -> Result<Signed, PartyFault> {
        let draft = Contract::draft(&file).map_err(PartyFault::Contract)?;
        let parties = [draft.provider(), draft.consumer()];
        let keys = self.trusted(&parties)?.counting_strangers(true);
        // What is wrong with the file itself is said first.
        let contract = Contract::parse(&file, &keys).map_err(PartyFault::Contract)?;
        let unknown = parties.iter().filter(|party| !keys.knows(party));
        let unchecked: Vec<String> = unknown.map(|party| (*party).to_owned()).collect();
        if strangers == Strangers::Refused && !unchecked.is_empty() {
            let place = match &self.parties_dir {
                Some(folder) => folder.display().to_string(),
                None => "a folder that contracts.party_keys_dir names".to_owned(),
            };
            return Err(PartyFault::Unknown { parties: unchecked.join(" and "), place });
        }
        Ok(Signed { contract, file, unchecked })
    }
}

/// `None`: there is no such file.
fn read_public(path: &Path) -> Result<Option<PublicKey>, PartyFault> {
    let path_of = || path.to_path_buf();
    match std::fs::metadata(path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(file) if file.len() > PUBLIC_BYTES_MAX => {
            return Err(PartyFault::Public { path: path_of() });
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| PartyFault::File { path: path_of(), source })?;
    decode_public(&text).map(Some).ok_or_else(|| PartyFault::Public { path: path_of() })
}

#[cfg(test)]
mod tests;
