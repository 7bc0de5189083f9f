//! What a box that has joined asks of its space later: a new certificate, and its release from service.
//!
//! Over its own session, so the space knows who asks; the AK's signature is bound to that session, so the
//! question cannot be carried to another.

use super::judge::{check_certified, check_tls};
use super::message::{ATTEST_BYTES_MAX, SIGNATURE_BYTES_MAX};
use super::message::{Fields, JoinMessageFault, PEM_BYTES_MAX, SCHEMA, TEXT_BYTES_MAX};
use super::{JoinRefusal, TOKEN_BYTES};
use crate::attest::{Attestation, Attested, PUBLIC_BYTES_MAX, TpmPublic, TpmSignature};
use crate::request::{REQUEST_BYTES_MAX, Request};
use guan_model::cbor::CborWriter;
use guan_model::{Digest, PublicKey};
use zeroize::Zeroizing;

const KIND_RENEW: u64 = 1;
const KIND_RETIRE: u64 = 2;
const KIND_CERTIFICATE: u64 = 1;
const KIND_RETIRED: u64 = 2;
const KIND_REFUSED: u64 = 3;
/// Longest password of a hierarchy.
const PASSWORD_BYTES_MAX: u64 = 32;

/// What the AK certifies a new TLS key with.
pub fn renewal_binding(exporter: &[u8; 32]) -> Digest {
    Digest::of_parts(&[b"guan-renew-1", exporter, &[0; TOKEN_BYTES]])
}

/// What the last quote of a box is bound to: this session, and the end of its log.
pub fn retirement_binding(exporter: &[u8; 32], log_size: u64, log_root: &Digest) -> Digest {
    Digest::of_parts(&[b"guan-retire-1", exporter, &log_size.to_be_bytes(), &log_root.0])
}

/// A question of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpkeepAsk {
    /// A certificate for a new key.
    Renew {
        /// TPMT_PUBLIC.
        tls_public: Vec<u8>,
        /// PKCS#10 in PEM.
        request: String,
        certified: Vec<u8>,
        certified_signature: Vec<u8>,
    },
    /// The box is about to be cleared, and says so with the last signature of its AK.
    Retire { quote: Vec<u8>, quote_signature: Vec<u8>, log_size: u64, log_root: Digest },
}

/// The space's answer.
#[derive(Clone, PartialEq, Eq)]
pub enum UpkeepAnswer {
    Certificate {
        pem: String,
    },
    /// The box is revoked, its confirmation is kept; with this it can clear its TPM.
    Retired {
        lockout_password: Zeroizing<Vec<u8>>,
    },
    Refused {
        text: String,
    },
}

impl UpkeepAsk {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = CborWriter::default();
        out.map(6);
        out.entry(1, SCHEMA);
        match self {
            Self::Renew { tls_public, request, certified, certified_signature } => {
                out.entry(2, KIND_RENEW);
                out.entry_bytes(3, tls_public);
                out.entry_text(4, request);
                out.entry_bytes(5, certified);
                out.entry_bytes(6, certified_signature);
            }
            Self::Retire { quote, quote_signature, log_size, log_root } => {
                out.entry(2, KIND_RETIRE);
                out.entry_bytes(3, quote);
                out.entry_bytes(4, quote_signature);
                out.entry(5, *log_size);
                out.entry_bytes(6, &log_root.0);
            }
        }
        out.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, JoinMessageFault> {
        let mut fields = Fields::open(bytes)?;
        let ask = match fields.number()? {
            KIND_RENEW => Self::Renew {
                tls_public: fields.bytes(PUBLIC_BYTES_MAX as u64)?,
                request: fields.text(REQUEST_BYTES_MAX)?,
                certified: fields.bytes(ATTEST_BYTES_MAX)?,
                certified_signature: fields.bytes(SIGNATURE_BYTES_MAX)?,
            },
            KIND_RETIRE => Self::Retire {
                quote: fields.bytes(ATTEST_BYTES_MAX)?,
                quote_signature: fields.bytes(SIGNATURE_BYTES_MAX)?,
                log_size: fields.number()?,
                log_root: Digest(fields.step()?.fixed_bytes()?),
            },
            kind => return Err(JoinMessageFault::Answer { kind }),
        };
        fields.close()?;
        Ok(ask)
    }
}

impl UpkeepAnswer {
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = CborWriter::default();
        out.map(3);
        out.entry(1, SCHEMA);
        match self {
            Self::Certificate { pem } => {
                out.entry(2, KIND_CERTIFICATE);
                out.entry_text(3, pem);
            }
            Self::Retired { lockout_password } => {
                out.entry(2, KIND_RETIRED);
                out.entry_bytes(3, lockout_password);
            }
            Self::Refused { text } => {
                out.entry(2, KIND_REFUSED);
                out.entry_text(3, &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
            }
        }
        Zeroizing::new(out.finish())
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, JoinMessageFault> {
        let mut fields = Fields::open(bytes)?;
        let answer = match fields.number()? {
            KIND_CERTIFICATE => Self::Certificate { pem: fields.text(PEM_BYTES_MAX)? },
            KIND_RETIRED => Self::Retired {
                lockout_password: Zeroizing::new(fields.bytes(PASSWORD_BYTES_MAX)?),
            },
            KIND_REFUSED => Self::Refused { text: fields.text(TEXT_BYTES_MAX)? },
            kind => return Err(JoinMessageFault::Answer { kind }),
        };
        fields.close()?;
        Ok(answer)
    }
}

/// Whether a new key may have a certificate: of this box's TPM, certified by its AK in this session, and
/// asked for by itself. The AK was activated when the box joined.
pub fn judge_renewal(
    ak: &PublicKey,
    tls_public: &[u8],
    request: &str,
    certified: (&[u8], &[u8]),
    exporter: &[u8; 32],
) -> Result<PublicKey, JoinRefusal> {
    let tls = TpmPublic::parse(tls_public)
        .map_err(|source| JoinRefusal::Public { what: "TLS key", source })?;
    let key = check_tls(&tls)?;
    check_certified(certified, ak, &tls, &renewal_binding(exporter))?;
    let asked = Request::parse(request).map_err(JoinRefusal::Request)?;
    match asked.public_key() == key {
        true => Ok(key),
        false => Err(JoinRefusal::OtherRequestKey),
    }
}

/// Whether the box's AK has said that the box goes.
pub fn is_retired(ak: &PublicKey, quote: &[u8], signature: &[u8], bound: &Digest) -> bool {
    let is_signed =
        TpmSignature::parse(signature).is_ok_and(|signature| signature.is_by(ak, quote));
    let statement = Attestation::parse(quote).ok().filter(|_| is_signed);
    statement.is_some_and(|statement| {
        matches!(statement.attested, Attested::Quote { .. }) && statement.extra == bound.0
    })
}
