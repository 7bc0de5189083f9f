//! Who signed a contract: trusted keys, checking and making signatures.
//!
//! Ed25519 or ECDSA P-256 over the line `guan-contract/1` and the canonical bytes of the contract object. The line
//! keeps a signature from being used for anything else that the same key signs.

use crate::contract::{Asked, Contract, Document, SignatureEntry, WireForm, read_document};
use crate::fault::{ContractError, Faults, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use guan_model::{Digest, PublicKey, Signer};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::json;

/// First line of what is signed.
const DOMAIN: &[u8] = b"guan-contract/1\n";

/// How a signature was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 8032, 64 bytes.
    Ed25519,
    /// FIPS 186-5 over SHA-256, ASN.1 DER.
    EcdsaP256,
}

impl Algorithm {
    pub(crate) const WORDS: [(&'static str, Self); 2] =
        [("Ed25519", Self::Ed25519), ("ECDSA-P256-SHA256", Self::EcdsaP256)];

    fn name(self) -> &'static str {
        let row = Self::WORDS.iter().find(|(_, algorithm)| *algorithm == self);
        row.expect("every algorithm is in the table").0
    }
}
/// Most keys that a box or space trusts.
pub const TRUSTED_KEYS_MAX: usize = 256;

/// Why a key cannot be trusted; the operator who listed it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the key of {party:?} is no usable Ed25519 or P-256 public key; copy it again")]
    Point { party: String },
    #[error("{party:?} cannot name a party: {detail}")]
    Party { party: String, detail: String },
    #[error("the key {key_id} is listed twice; keep one")]
    Duplicate { key_id: String },
    #[error("{count} keys are trusted, the limit is {TRUSTED_KEYS_MAX}")]
    TooMany { count: usize },
}

/// How a key is named in a contract file: the first 8 hex digits of SHA-256 of the key.
pub fn key_id(key: &PublicKey) -> String {
    let bytes: &[u8] = match key {
        PublicKey::Ed25519(bytes) => bytes,
        PublicKey::EcdsaP256(point) => point,
    };
    Digest::of(bytes).to_string()[..8].to_owned()
}

#[derive(Debug, Clone)]
enum Key {
    Ed25519(VerifyingKey),
    EcdsaP256(Vec<u8>),
}

#[derive(Debug, Clone)]
struct TrustedKey {
    party: String,
    key_id: String,
    key: Key,
}

impl TrustedKey {
    fn verifies(&self, entry: &SignatureEntry, message: &[u8]) -> bool {
        match (&self.key, entry.algorithm) {
            (Key::Ed25519(key), Algorithm::Ed25519) => Signature::from_slice(&entry.signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            (Key::EcdsaP256(point), Algorithm::EcdsaP256) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
                key.verify(message, &entry.signature).is_ok()
            }
            _ => false,
        }
    }
}

/// The keys of the parties whose contracts count here.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: Vec<TrustedKey>,
    accepts_single: bool,
    counts_strangers: bool,
}

impl TrustedKeys {
    /// Parties and their keys. All faults are reported at once.
    pub fn new(keys: Vec<(String, PublicKey)>) -> Result<Self, Vec<KeyFault>> {
        let mut faults = Vec::new();
        let mut trusted: Vec<TrustedKey> = Vec::new();
        if keys.len() > TRUSTED_KEYS_MAX {
            return Err(vec![KeyFault::TooMany { count: keys.len() }]);
        }
        for (party, public) in keys {
            if let Err(fault) = crate::contract::check_party(&party) {
                faults.push(KeyFault::Party { party: party.clone(), detail: fault.to_string() });
            }
            let key_id = key_id(&public);
            if trusted.iter().any(|key| key.key_id == key_id) {
                faults.push(KeyFault::Duplicate { key_id: key_id.clone() });
            }
            match usable(public) {
                Some(key) => trusted.push(TrustedKey { party, key_id, key }),
                None => faults.push(KeyFault::Point { party }),
            }
        }
        match faults.is_empty() {
            true => Ok(Self { keys: trusted, ..Self::default() }),
            false => Err(faults),
        }
    }

    /// Contracts of schema 1 count with the signature of one party, as the first release took them.
    /// Whoever holds one party's key can then write such contracts alone.
    #[must_use]
    pub fn accepting_single(self, accepts_single: bool) -> Self {
        Self { accepts_single, ..self }
    }

    /// Whether any key of a party is known.
    pub fn knows(&self, party: &str) -> bool {
        self.keys.iter().any(|key| key.party == party)
    }

    /// Signatures of parties of which no key is known count, unchecked. Whoever writes a file then has only
    /// to write their names.
    #[must_use]
    pub fn counting_strangers(self, counts_strangers: bool) -> Self {
        Self { counts_strangers, ..self }
    }

    /// Notes every signature that must not be there and the lack of those that must.
    pub(crate) fn check(&self, document: &Document, contract: &Contract, faults: &mut Faults) {
        let message = message(&document.canonical);
        let parties = [contract.provider(), contract.consumer()];
        let is_single = self.accepts_single && contract.form() == WireForm::First;
        let quorum = if is_single { 1 } else { parties.len() };
        self.check_parties(&parties, quorum, &document.signatures, &message, faults);
    }

    /// Notes every signature that must not be there, and each party that has not signed unless a quorum
    /// has.
    pub(crate) fn check_parties(
        &self,
        parties: &[&str],
        quorum: usize,
        signatures: &[SignatureEntry],
        message: &[u8],
        faults: &mut Faults,
    ) {
        let mut signed: Vec<&str> = Vec::new();
        let mut unknown = Vec::new();
        for entry in signatures {
            match self.check_one(entry, message) {
                Ok(true) => signed.push(&entry.party),
                Ok(false) if self.counts_strangers && !self.knows(&entry.party) => {
                    signed.push(&entry.party);
                }
                Ok(false) => unknown.push(entry.key_id.as_str()),
                Err(problem) => faults.add(&entry.pointer, problem),
            }
        }
        let missing: Vec<&&str> = parties.iter().filter(|one| !signed.contains(*one)).collect();
        if parties.len() - missing.len() < quorum {
            for party in missing {
                let unknown =
                    if unknown.is_empty() { "none".to_owned() } else { unknown.join(", ") };
                let party = (**party).to_owned();
                faults.add("/signatures", Problem::NotSigned { party, unknown });
            }
        }
    }

    /// Whether a trusted key made the signature; `false` for an unknown key.
    fn check_one(&self, entry: &SignatureEntry, message: &[u8]) -> Result<bool, Problem> {
        let Some(trusted) = self.keys.iter().find(|key| key.key_id == entry.key_id) else {
            return Ok(false);
        };
        if trusted.party != entry.party {
            return Err(Problem::WrongParty {
                key_id: entry.key_id.clone(),
                owner: trusted.party.clone(),
                party: entry.party.clone(),
            });
        }
        match trusted.verifies(entry, message) {
            true => Ok(true),
            false => {
                Err(Problem::Forged { party: entry.party.clone(), key_id: entry.key_id.clone() })
            }
        }
    }
}

/// A key of small order would accept signatures that nobody made.
fn usable(public: PublicKey) -> Option<Key> {
    match public {
        PublicKey::Ed25519(bytes) => {
            let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak());
            key.map(Key::Ed25519)
        }
        PublicKey::EcdsaP256(point) => {
            (point.len() == 65 && point[0] == 4).then_some(Key::EcdsaP256(point))
        }
    }
}

fn message(canonical: &[u8]) -> Vec<u8> {
    [DOMAIN, canonical].concat()
}

/// Signs a bare contract object or adds a signature to a file. The result is the whole file; an
/// earlier signature by the same key is replaced, others stay as they are and are not checked.
pub fn sign(
    contract_json: &[u8],
    party: &str,
    signer: &dyn Signer,
) -> Result<Vec<u8>, ContractError> {
    let mut faults = Faults::default();
    let document = read_document(contract_json, Asked::Sense, &mut faults);
    let contract = document.as_ref().and_then(|document| document.contract.as_ref());
    if let Some(contract) = contract
        && ![contract.provider(), contract.consumer()].contains(&party)
    {
        faults.add("", Problem::NotAParty { party: crate::fault::shown(party) });
    }
    let Some(document) = document.filter(|_| faults.is_empty()) else {
        return faults.finish(None);
    };
    let added = match signature_json(party, signer, &message(&document.canonical)) {
        Ok(added) => added,
        Err(detail) => {
            faults.add("", Problem::Signer { detail });
            return faults.finish(None);
        }
    };
    let new_id = key_id(&signer.public_key());
    let kept = document.signatures.iter().filter(|entry| entry.key_id != new_id);
    let kept = kept.map(|one| entry_json(&one.party, &one.key_id, one.algorithm, &one.signature));
    let signatures: Vec<_> = kept.chain([added]).collect();
    let file = json!({
        "schema": crate::contract::schema_of(&document.object),
        "contract": document.object,
        "signatures": signatures,
    });
    let bytes = format!("{file:#}\n").into_bytes();
    // What nobody could read back is not handed out.
    read_document(&bytes, Asked::Whole, &mut faults);
    faults.finish(Some(bytes))
}

/// A new entry of a list of signatures; the error is the signer's.
pub(crate) fn signature_json(
    party: &str,
    signer: &dyn Signer,
    message: &[u8],
) -> Result<serde_json::Value, String> {
    let signature = signer.sign(message).map_err(|fault| fault.to_string())?;
    let public = signer.public_key();
    let algorithm = match public {
        PublicKey::Ed25519(_) => Algorithm::Ed25519,
        PublicKey::EcdsaP256(_) => Algorithm::EcdsaP256,
    };
    Ok(entry_json(party, &key_id(&public), algorithm, &signature))
}

fn entry_json(
    party: &str,
    key_id: &str,
    algorithm: Algorithm,
    signature: &[u8],
) -> serde_json::Value {
    json!({
        "party": party,
        "key_id": key_id,
        "algorithm": algorithm.name(),
        "signature": STANDARD.encode(signature),
    })
}
