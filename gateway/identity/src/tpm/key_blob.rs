//! Keys that only their TPM can open, as files. Nothing secret is in them, but who loses them must join
//! again.
//!
//! Bytes: `GUANKEY1`, then public and private part of the key, each after its length (TPM2B, big endian).

use super::fault::TpmFault;
use crate::attest::TpmPublic;
use guan_model::PublicKey;
use rustls::sign::public_key_to_spki;
use rustls_pki_types::alg_id;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"GUANKEY1";
const FILE_BYTES_MAX: u64 = 4096;

/// Which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySlot {
    /// Signs quotes and certifies the others.
    Attestation,
    /// TLS, in two places: the next is tried before the last is given up.
    TlsA,
    TlsB,
    /// No key to the TPM, but a secret for us.
    Store,
}

impl KeySlot {
    pub fn name(self) -> &'static str {
        match self {
            Self::Attestation => "attestation key",
            Self::TlsA => "TLS key A",
            Self::TlsB => "TLS key B",
            Self::Store => "sealed key of the store",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Attestation => "ak.key",
            Self::TlsA => "tls-a.key",
            Self::TlsB => "tls-b.key",
            Self::Store => "store.key",
        }
    }

    /// The public key in this slot, from its file: needs no TPM.
    pub fn public(self, folder: &Path) -> Result<PublicKey, TpmFault> {
        let blob = KeyBlob::load(folder, self)?;
        let unusable = || TpmFault::KeyFile { path: self.path(folder).display().to_string() };
        let public = TpmPublic::parse(&blob.public).map_err(|_| unusable())?;
        public.p256().cloned().ok_or_else(unusable)
    }

    /// The same in PEM, for tools of others.
    pub fn public_pem(self, folder: &Path) -> Result<String, TpmFault> {
        let PublicKey::EcdsaP256(point) = self.public(folder)? else {
            return Err(TpmFault::NoKey { what: self.name() });
        };
        let spki = public_key_to_spki(&alg_id::ECDSA_P256, point);
        Ok(crate::pem::encode("PUBLIC KEY", &spki).to_string())
    }

    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(self.file())
    }
}

/// A wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyBlob {
    /// TPMT_PUBLIC.
    pub(super) public: Vec<u8>,
    /// Contents of a TPM2B_PRIVATE.
    pub(super) private: Vec<u8>,
}

impl KeyBlob {
    pub(super) fn load(folder: &Path, slot: KeySlot) -> Result<Self, TpmFault> {
        let path = slot.path(folder);
        let unusable = || TpmFault::KeyFile { path: path.display().to_string() };
        let file = fs::File::open(&path).map_err(|fault| match fault.kind() {
            io::ErrorKind::NotFound => TpmFault::NoKey { what: slot.name() },
            _ => unusable(),
        })?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|_| unusable())?;
        Self::decode(&bytes).ok_or_else(unusable)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (public, rest) = sized(bytes.strip_prefix(MAGIC)?)?;
        let (private, rest) = sized(rest)?;
        let (public, private) = (public.to_vec(), private.to_vec());
        rest.is_empty().then_some(Self { public, private })
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = MAGIC.to_vec();
        for part in [&self.public, &self.private] {
            bytes.extend_from_slice(&u16::try_from(part.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Some(bytes)
    }

    /// Replaces what is in the slot, durably: name and content change together.
    pub(super) fn store(&self, folder: &Path, slot: KeySlot) -> Result<(), TpmFault> {
        let bytes = self
            .encode()
            .ok_or_else(|| TpmFault::KeyFile { path: slot.path(folder).display().to_string() })?;
        crate::secret_file::replace(&slot.path(folder), &bytes)
            .map_err(|fault| TpmFault::Folder { detail: fault.to_string() })
    }
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::from(length))
}
