//! What an installer is given: a secret that works once, and the digest by which the space is known.
//!
//! `guan-<32 hex digits>-<64 hex digits>`: the secret, and SHA-256 of the authority's certificate.

use guan_model::Digest;
use std::fmt;
use zeroize::Zeroizing;

pub const TOKEN_BYTES: usize = 16;
const PREFIX: &str = "guan";

/// A one-time token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub secret: Zeroizing<[u8; TOKEN_BYTES]>,
    /// Of the space's authority.
    pub authority: Digest,
}

/// Why a text is no token. The text is not repeated: it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token is not whole: copy all of guan-<32 digits>-<64 digits> that `guan-space token new` printed"
)]
pub struct TokenFault;

impl JoinToken {
    pub fn parse(text: &str) -> Result<Self, TokenFault> {
        let mut parts = text.trim().split('-');
        let (prefix, secret, authority) = (parts.next(), parts.next(), parts.next());
        if prefix != Some(PREFIX) || parts.next().is_some() {
            return Err(TokenFault);
        }
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        hex::decode_to_slice(secret.ok_or(TokenFault)?, &mut *bytes).map_err(|_| TokenFault)?;
        let authority = authority.and_then(Digest::from_hex).ok_or(TokenFault)?;
        Ok(Self { secret: bytes, authority })
    }

    /// The whole text, for the installer alone.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}-{}-{}", hex::encode(*self.secret), self.authority))
    }

    /// By which the space keeps it: whoever reads the registry cannot use it.
    pub fn digest(secret: &[u8; TOKEN_BYTES]) -> Digest {
        Digest::of_parts(&[b"guan-token", secret])
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("authority", &self.authority).finish_non_exhaustive()
    }
}
