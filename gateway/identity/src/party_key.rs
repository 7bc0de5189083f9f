//! The key with which a party signs contracts: Ed25519 or P-256, as its file says.

use crate::key_file::{Ed25519, KeyFault, KeyKind, P256, StoredKey};
use guan_model::{PublicKey, SignFault, Signer};
use std::path::Path;

/// Which kind of key a party makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartyAlgorithm {
    Ed25519,
    P256,
}

/// A party's private key in a file.
#[derive(Debug)]
pub enum PartyKey {
    Ed25519(StoredKey<Ed25519>),
    P256(StoredKey<P256>),
}

impl PartyKey {
    /// As [`StoredKey::create`].
    pub fn create(path: &Path, party: &str, algorithm: PartyAlgorithm) -> Result<Self, KeyFault> {
        match algorithm {
            PartyAlgorithm::Ed25519 => StoredKey::create(path, party).map(Self::Ed25519),
            PartyAlgorithm::P256 => StoredKey::create(path, party).map(Self::P256),
        }
    }

    /// As [`StoredKey::load`], for both kinds.
    pub fn load(path: &Path, party: &str) -> Result<Self, KeyFault> {
        match StoredKey::load(path, party) {
            Err(KeyFault::Kind { .. }) => {}
            other => return other.map(Self::Ed25519),
        }
        match StoredKey::load(path, party) {
            Err(KeyFault::Kind { .. }) => Err(KeyFault::Kind { kind: NAMES }),
            other => other.map(Self::P256),
        }
    }

    fn signer(&self) -> &dyn Signer {
        match self {
            Self::Ed25519(key) => key,
            Self::P256(key) => key,
        }
    }
}

const NAMES: &str = "Ed25519 or P-256";
const _: () = assert!(Ed25519::NAME.len() + P256::NAME.len() + 4 == NAMES.len());

impl Signer for PartyKey {
    fn name(&self) -> &str {
        self.signer().name()
    }

    fn public_key(&self) -> PublicKey {
        self.signer().public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.signer().sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode_public, encode_public};

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let check = |algorithm: PartyAlgorithm| {
            let path = folder.path().join(format!("{algorithm:?}.pem"));
            let made = PartyKey::create(&path, "depot-7", algorithm).unwrap().public_key();
            let read = PartyKey::load(&path, "depot-7").unwrap();
            assert_eq!(read.public_key(), made);
            assert_eq!(matches!(made, PublicKey::EcdsaP256(_)), algorithm == PartyAlgorithm::P256);
            assert_eq!(decode_public(&encode_public(&made)), Some(made));
        };
        check(PartyAlgorithm::Ed25519);
        check(PartyAlgorithm::P256);
        let other = folder.path().join("other.pem");
        let text = crate::pem::encode(crate::pem::PRIVATE_KEY, &[0x30, 0]);
        crate::secret_file::create(&other, text.as_bytes()).unwrap();
        let fault = PartyKey::load(&other, "depot-7").unwrap_err().to_string();
        assert!(fault.contains(NAMES), "{fault}");
        assert_eq!(decode_public(&text), None);
    }
}
