//! Who a box is and how it proves it: keys, certificates, the space's small CA, TLS of both ends.
//!
//! - `key_file`: private keys in files of mode 0600, behind the model's `Signer`; a TPM comes behind
//!   the same trait.
//! - `party_key`: the key of a party to contracts, of either kind.
//! - `sealed_file`: the same under a key that the TPM gives out.
//! - `hpke`: sealing for one reader, whose key lies in a file.
//! - `tls`: rustls configurations that sign through a `Signer` and judge time by a given clock.
//! - `attest`: what a TPM says about itself and its boot, and what the space makes of it.
//! - `request`, `ca`, `certificate`: what a box asks for, what the space issues, what a peer shows.
//! - `join`: how a new box shows which TPM it has, and gets its certificate.
//! - `tpm` (a feature): the box's TPM.
//!
//! Invariants: the subject alternative names of a certificate are the only source of a box's id and
//! tier; a private key is never printed and never overwritten; TLS 1.3 only, never resumed.
//!
//! Never here: sockets, the system's clock, decisions about data. Files other than keys.
#![forbid(unsafe_code)]

pub mod attest;
pub mod ca;
pub mod certificate;
pub mod hpke;
pub mod join;
pub mod key_file;
mod party_key;
mod pem;
pub mod request;
mod sealed_file;
mod secret_file;
pub mod tier;
pub mod tls;
#[cfg(feature = "tpm")]
pub mod tpm;

pub use ca::{CaFault, SmallCa, authority_name, space_of_authority};
pub use certificate::{
    CertFault, Validity, certificate_key, common_name, is_self_issued, peer_identity,
    read_certificates, validity,
};
pub use hpke::{
    Opening, SEAL_KEY_BYTES, SEAL_TAG_BYTES, SealFault, SealKey, Sealing, seal_for, seal_key_id,
};
pub use key_file::{KeyFault, KeyFile, LogKeyFile};
pub use party_key::{PartyAlgorithm, PartyKey};
pub use pem::{PemFault, decode_public, decode_public_p256, encode_public, encode_public_p256};
pub use request::{RequestFault, certificate_request};
pub use sealed_file::{STORE_KEY_BYTES, SealedFault};
pub use secret_file::{FileFault, SECRET_FILE_BYTES_MAX};
pub use tier::{Tier, TierFault};
pub use tls::{
    SignerKey, TimeCell, TlsFault, client_config, foreign_client_config, join_client_config,
    join_server_config, server_config,
};
