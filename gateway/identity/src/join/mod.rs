//! Joining: how a new box shows a space which TPM it has, and gets its certificate.
//!
//! ```text
//! box    one-time token, EK with its maker's certificate, AK, TLS key, certified by the AK, request
//! space  a secret that only this EK can open for this AK
//! box    the secret
//! space  certificate, authority, tier
//! ```
//! Over TLS 1.3 in which the space alone shows a certificate; the box knows it by the digest of its authority,
//! which stands in the token's text. What the AK certifies is bound to that TLS session.
//!
//! Pure: the programs bring the connection, the clock and the registry.

mod judge;
mod message;
mod token;
mod upkeep;

pub use judge::{Enrolled, Grant, JoinRefusal, Maker, Pending, judge};
pub use message::{
    JOIN_MESSAGE_BYTES_MAX, JoinAnswer, JoinChallenge, JoinMessageFault, JoinRequest, JoinSecret,
    OwnerPasswords, PASSWORD_BYTES,
};
pub use token::{JoinToken, TOKEN_BYTES, TokenFault};

pub use upkeep::{
    UpkeepAnswer, UpkeepAsk, is_retired, judge_renewal, renewal_binding, retirement_binding,
};

use guan_model::Digest;

/// ALPN of the joining protocol.
pub const JOIN_ALPN: &[u8] = b"guan-join/1";
/// What the exporter is asked with (RFC 5705); there is no context.
pub const JOIN_EXPORTER_LABEL: &[u8] = b"EXPORTER-guankou-join-1";

/// What the AK certifies the TLS key with: this connection and this token, so that a certification that was
/// overheard elsewhere is worth nothing.
pub fn join_binding(exporter: &[u8; 32], token: &[u8; TOKEN_BYTES]) -> Digest {
    Digest::of_parts(&[b"guan-join-1", exporter, token])
}
