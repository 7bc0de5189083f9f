//! What a certificate says (RFC 5280), for those that its issuer has already been checked for.
//!
//! A box's certificate carries two names: `urn:guan:box:<id>` and `urn:guan:tier:<tier>`. They, and
//! never the subject, say who the peer is. Nothing here verifies a signature: rustls does.

use crate::tier::{Tier, TierFault};
use guan_model::{BoxId, IdFault, PublicKey, WallTime};
use rustls::sign::public_key_to_spki;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, alg_id};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Longest certificate that is read, in DER; ours have about 600 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Most certificates in one file: a chain, or the roots that are trusted.
pub const CERTIFICATES_MAX: usize = 16;

pub(crate) const BOX_URN: &str = "urn:guan:box:";
pub(crate) const TIER_URN: &str = "urn:guan:tier:";

/// Why a certificate does not say what it should; the peer, or the operator that named the file, is
/// to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertFault {
    #[error("the certificate has {length} bytes; the limit is {CERTIFICATE_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the certificate cannot be decoded; it is damaged or no X.509 certificate")]
    Encoding,
    #[error("the certificate has no name {urn}...; have the space issue one for this box")]
    NameMissing { urn: &'static str },
    #[error("the certificate has more than one name {urn}...; a box has exactly one")]
    NameTwice { urn: &'static str },
    #[error("the box id in the certificate is not valid")]
    BoxId(#[source] IdFault),
    #[error("the tier in the certificate is not valid")]
    Tier(#[source] TierFault),
    #[error("the text is not PEM; check that the path names a certificate file")]
    Pem,
    #[error("the file holds no certificate; check that the path names a certificate file")]
    NoCertificate,
    #[error("the file holds more than {CERTIFICATES_MAX} certificates; remove what is not needed")]
    TooMany,
}

/// When a certificate may be used, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: WallTime,
    pub not_after: WallTime,
}

/// Who the peer is, from its end-entity certificate, which TLS must have verified before.
pub fn peer_identity(certificate: &[u8]) -> Result<(BoxId, Tier), CertFault> {
    let certificate = parse(certificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| CertFault::Encoding)?;
    let names = names.as_ref().map_or(&[][..], |names| &names.value.general_names);
    let box_id = BoxId::parse(only(names, BOX_URN)?).map_err(CertFault::BoxId)?;
    let tier = Tier::parse(only(names, TIER_URN)?).map_err(CertFault::Tier)?;
    Ok((box_id, tier))
}

fn only<'a>(names: &[GeneralName<'a>], urn: &'static str) -> Result<&'a str, CertFault> {
    let mut found = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(urn),
        _ => None,
    });
    let first = found.next().ok_or(CertFault::NameMissing { urn })?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err(CertFault::NameTwice { urn }),
    }
}

/// Common name of a client certificate of the site's own authority, which TLS must have verified before.
/// `None` when there is none or more than one.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = parse(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// Whether subject and issuer are one: a root, whose signature nobody needs to check.
pub fn is_self_issued(certificate: &[u8]) -> bool {
    parse(certificate)
        .is_ok_and(|certificate| certificate.subject().as_raw() == certificate.issuer().as_raw())
}

/// The key that a certificate is for; `Encoding` when it is not of P-256.
pub fn certificate_key(certificate: &[u8]) -> Result<PublicKey, CertFault> {
    let certificate = parse(certificate)?;
    let spki = certificate.public_key();
    let point = spki.subject_public_key.data.as_ref();
    // The whole structure is compared, so that no other curve passes with a point of this length.
    match spki.raw == public_key_to_spki(&alg_id::ECDSA_P256, point).as_ref() {
        true => Ok(PublicKey::EcdsaP256(point.to_vec())),
        false => Err(CertFault::Encoding),
    }
}

/// When the certificate may be used.
pub fn validity(certificate: &[u8]) -> Result<Validity, CertFault> {
    let certificate = parse(certificate)?;
    let validity = certificate.validity();
    Ok(Validity {
        not_before: WallTime::from_seconds(validity.not_before.timestamp()),
        not_after: WallTime::from_seconds(validity.not_after.timestamp()),
    })
}

/// The certificates of a PEM file in their order: for a chain, the end-entity certificate first.
pub fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertFault> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| CertFault::Pem)?;
        if certificates.len() == CERTIFICATES_MAX {
            return Err(CertFault::TooMany);
        }
        parse(&certificate)?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(CertFault::NoCertificate);
    }
    Ok(certificates)
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertFault> {
    if der.len() > CERTIFICATE_BYTES_MAX {
        return Err(CertFault::TooLong { length: der.len() });
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertFault::Encoding)?;
    if rest.is_empty() { Ok(certificate) } else { Err(CertFault::Encoding) }
}

#[cfg(test)]
mod tests;
