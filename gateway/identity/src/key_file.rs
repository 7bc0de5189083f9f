//! Private keys that live in files, behind the model's `Signer`.
//!
//! Two kinds that cannot be swapped: `KeyFile` (P-256) is the box's or the space's identity in TLS and
//! the key of the small CA; `LogKeyFile` (Ed25519) signs checkpoints and contracts.
//!
//! Secrets are wiped from every buffer of ours. `ring` does not wipe its own copy of a P-256 key when
//! it is dropped; a key that must not lie in memory belongs in a TPM.

use crate::pem::{self, PemFault};
use crate::sealed_file::{self, STORE_KEY_BYTES, SealedFault};
use crate::secret_file::{self, FileFault};
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use guan_model::{PublicKey, SignFault, Signer};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// Why there is no key. Nothing of the key itself is ever part of the text.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    #[error("the key file cannot be used")]
    File(#[source] FileFault),
    #[error("the key is not readable PEM")]
    Pem(#[source] PemFault),
    #[error("the file is not text; check that the path names a key in PEM")]
    NotText,
    #[error("the key is no {kind} key in PKCS#8; check that the path names the right key")]
    Kind { kind: &'static str },
    #[error("the key file stays shut")]
    Sealed(#[source] SealedFault),
    #[error("the system gave no random bytes; without them no key can be made")]
    Random,
}

/// An algorithm that a [`StoredKey`] can have.
pub trait KeyKind: Sized + Send + Sync {
    const NAME: &'static str;
    /// A new key as PKCS#8 DER.
    fn generate() -> Result<Zeroizing<Vec<u8>>, KeyFault>;
    fn from_pkcs8(der: &[u8]) -> Option<Self>;
    fn public_key(&self) -> PublicKey;
    /// `None` when the system gave no random bytes.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

/// ECDSA on P-256 with SHA-256 (FIPS 186-5), signatures in ASN.1 DER.
pub struct P256(EcdsaKeyPair);

impl KeyKind for P256 {
    const NAME: &'static str = "P-256";

    fn generate() -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_| KeyFault::Random)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new()).ok().map(Self)
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.0.public_key().as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

/// Ed25519 (RFC 8032).
pub struct Ed25519(ed25519_dalek::SigningKey);

impl KeyKind for Ed25519 {
    const NAME: &'static str = "Ed25519";

    fn generate() -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        // Without the public half, as RFC 8410 shows it: older OpenSSL does not read the longer form.
        let pair = KeypairBytes { secret_key: *random::<32>()?, public_key: None };
        let document = pair.to_pkcs8_der().expect("32 bytes are always encoded");
        Ok(Zeroizing::new(document.as_bytes().to_vec()))
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        ed25519_dalek::SigningKey::from_pkcs8_der(der).ok().map(Self)
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::Ed25519(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.sign(message).to_bytes().to_vec())
    }
}

/// A private key that was, or can be, stored in a file.
pub struct StoredKey<K> {
    name: String,
    key: K,
}

/// The key of a box, of the space's server or of its CA: P-256.
pub type KeyFile = StoredKey<P256>;
/// The key of an evidence log, of a witness or of a contract's signer: Ed25519.
pub type LogKeyFile = StoredKey<Ed25519>;

impl<K: KeyKind> StoredKey<K> {
    /// Makes a key in memory. The PEM is the only copy that can be stored.
    pub fn generate(name: &str) -> Result<(Self, Zeroizing<String>), KeyFault> {
        let der = K::generate()?;
        let key = K::from_pkcs8(&der).expect("a key just made is a key");
        Ok((Self { name: name.to_owned(), key }, pem::encode(pem::PRIVATE_KEY, &der)))
    }

    /// Makes a key and its file of mode 0600, durable when this returns. An existing file is refused.
    pub fn create(path: &Path, name: &str) -> Result<Self, KeyFault> {
        let (key, pem) = Self::generate(name)?;
        secret_file::create(path, pem.as_bytes()).map_err(KeyFault::File)?;
        Ok(key)
    }

    /// As [`create`](Self::create), under the store key.
    pub fn create_sealed(
        path: &Path,
        name: &str,
        store_key: &[u8; STORE_KEY_BYTES],
    ) -> Result<Self, KeyFault> {
        let (key, pem) = Self::generate(name)?;
        let sealed = sealed_file::seal(store_key, pem.as_bytes()).map_err(KeyFault::Sealed)?;
        secret_file::create(path, &sealed).map_err(KeyFault::File)?;
        Ok(key)
    }

    /// Reads what [`create_sealed`](Self::create_sealed) made.
    pub fn load_sealed(
        path: &Path,
        name: &str,
        store_key: &[u8; STORE_KEY_BYTES],
    ) -> Result<Self, KeyFault> {
        let bytes = secret_file::read(path).map_err(KeyFault::File)?;
        let opened = sealed_file::open(store_key, &bytes).map_err(KeyFault::Sealed)?;
        Self::from_pem(std::str::from_utf8(&opened).map_err(|_| KeyFault::NotText)?, name)
    }

    /// Puts the key in one file in the place of that in another, which is overwritten. Durable when this returns.
    pub fn install(next: &Path, path: &Path) -> Result<(), KeyFault> {
        secret_file::take_place(next, path).map_err(KeyFault::File)
    }

    /// Reads a key file; refuses one that group or others may touch.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyFault> {
        let bytes = secret_file::read(path).map_err(KeyFault::File)?;
        Self::from_pem(std::str::from_utf8(&bytes).map_err(|_| KeyFault::NotText)?, name)
    }

    /// `name` is what people and checkpoints call the key.
    pub fn from_pem(text: &str, name: &str) -> Result<Self, KeyFault> {
        let der = pem::decode_private(text).map_err(KeyFault::Pem)?;
        let key = K::from_pkcs8(&der).ok_or(KeyFault::Kind { kind: K::NAME })?;
        Ok(Self { name: name.to_owned(), key })
    }
}

impl<K: KeyKind> Signer for StoredKey<K> {
    fn name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault> {
        self.key.sign(message).ok_or_else(|| SignFault::Device {
            key: self.name.clone(),
            detail: "the system gave no random bytes".to_owned(),
        })
    }
}

impl<K: KeyKind> fmt::Debug for StoredKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {:?}", K::NAME, self.name)
    }
}

/// Bytes from the system's random source.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, KeyFault> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| KeyFault::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
