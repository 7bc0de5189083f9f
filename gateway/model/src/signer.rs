//! The port through which a key signs: a file today, a TPM with its own issue.

/// Why a signature could not be made; the device or the key is to blame, never the message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SignFault {
    #[error("the key {key} is not there: {detail}")]
    Missing { key: String, detail: String },
    #[error("the device that holds {key} failed: {detail}")]
    Device { key: String, detail: String },
}

/// Public half of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// 32 bytes, RFC 8032.
    Ed25519([u8; 32]),
    /// Uncompressed point, SEC 1: 65 bytes.
    EcdsaP256(Vec<u8>),
}

/// Signs with a key whose private half stays behind this trait. May block for a second (a TPM does).
pub trait Signer: Send + Sync {
    /// Name for people and for checkpoints.
    fn name(&self) -> &str;
    fn public_key(&self) -> PublicKey;
    /// Ed25519: 64 bytes over the message. P-256: ASN.1 DER over SHA-256 of the message.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignFault>;
}
