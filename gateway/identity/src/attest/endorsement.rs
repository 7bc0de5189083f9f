//! Who made a TPM: its endorsement certificate under the makers' roots that the space pins (TCG EK
//! Credential Profile for TPM 2.0, 3.2).

use super::object::{TpmKey, TpmPublic};
use guan_model::{Digest, WallTime};
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::BasicExtension;
use x509_parser::extensions::ExtendedKeyUsage;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as CertificateKey;

/// 2.23.133.8.1, tcg-kp-EKCertificate.
const EK_USAGE: &str = "2.23.133.8.1";
const EK_USAGE_DER: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// Most intermediates that a box may send, and roots that are tried.
pub const INTERMEDIATES_MAX: usize = 8;
/// Longest certificate of a maker.
pub const MAKER_CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// Why a TPM is not known to be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndorsementFault {
    #[error("a certificate of {length} bytes; the limit is {MAKER_CERTIFICATE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("{count} intermediate certificates; the limit is {INTERMEDIATES_MAX}")]
    TooMany { count: usize },
    #[error(
        "the endorsement certificate cannot be read: {detail}; where a maker's certificates are out of \
         standard, enrol the box by the digest of its endorsement key"
    )]
    Encoding { detail: String },
    #[error("the certificate is not for endorsement keys ({EK_USAGE})")]
    Usage,
    #[error("the certificate is for another key than the TPM's endorsement key")]
    OtherKey,
    #[error("no pinned maker vouches for the endorsement certificate: {detail}")]
    Chain { detail: String },
    #[error("a pinned root of a maker cannot be used: {detail}")]
    Root { detail: String },
}

/// Digest by which an endorsement key is listed: of its public area.
pub fn endorsement_digest(ek: &TpmPublic) -> Digest {
    Digest::of(ek.as_bytes())
}

/// Checks that a pinned maker vouches for this endorsement key.
pub fn check_endorsement(
    ek: &TpmPublic,
    certificate: &[u8],
    intermediates: &[Vec<u8>],
    roots: &[CertificateDer<'static>],
    now: WallTime,
) -> Result<(), EndorsementFault> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(EndorsementFault::TooMany { count: intermediates.len() });
    }
    let all = intermediates.iter().map(Vec::len).chain([certificate.len()]);
    if let Some(length) = all.max().filter(|length| *length > MAKER_CERTIFICATE_BYTES_MAX) {
        return Err(EndorsementFault::TooLong { length });
    }
    check_key(ek, certificate)?;
    let anchors: Result<Vec<_>, _> = roots.iter().map(anchor_from_trusted_cert).collect();
    let anchors = anchors.map_err(|fault| EndorsementFault::Root { detail: fault.to_string() })?;
    let intermediates: Vec<_> =
        intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let der = CertificateDer::from(certificate);
    let chain = |fault: webpki::Error| EndorsementFault::Chain { detail: fault.to_string() };
    let leaf = EndEntityCert::try_from(&der).map_err(chain)?;
    let seconds = u64::try_from(now.0.div_euclid(1_000_000_000)).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    // Makers leave the usage out of their intermediates; the leaf's was looked at above.
    let usage = KeyUsage::required_if_present(EK_USAGE_DER);
    let algorithms = default_provider().signature_verification_algorithms.all;
    leaf.verify_for_usage(algorithms, &anchors, &intermediates, now, usage, None, None)
        .map(|_| ())
        .map_err(chain)
}

fn check_key(ek: &TpmPublic, certificate: &[u8]) -> Result<(), EndorsementFault> {
    let encoding = |detail: String| EndorsementFault::Encoding { detail };
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|fault| encoding(fault.to_string()))?;
    let usage = parsed.extended_key_usage().map_err(|fault| encoding(fault.to_string()))?;
    let is_for_ek = |usage: BasicExtension<&ExtendedKeyUsage<'_>>| {
        usage.value.other.iter().any(|oid| oid.to_id_string() == EK_USAGE)
    };
    if !usage.is_some_and(is_for_ek) {
        return Err(EndorsementFault::Usage);
    }
    let key = parsed.public_key().parsed().map_err(|fault| encoding(fault.to_string()))?;
    let is_same = match (key, &ek.key) {
        (CertificateKey::RSA(certified), TpmKey::Rsa { modulus, exponent }) => {
            let trimmed = certified.modulus.iter().skip_while(|byte| **byte == 0);
            trimmed.eq(modulus) && certified.try_exponent() == Ok(u64::from(*exponent))
        }
        _ => false,
    };
    match is_same {
        true => Ok(()),
        false => Err(EndorsementFault::OtherKey),
    }
}
