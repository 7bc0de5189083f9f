//! Certificate requests (PKCS#10, RFC 2986): the box proves that it holds the key it wants certified.
//!
//! A request comes from a peer that nobody knows yet. Only its key and its common name are read; what
//! else it asks for (names, usages) is ignored, because the space alone decides that.

use guan_model::{BoxId, PublicKey, SignFault, Signer};
use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SignatureAlgorithm};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::sign::public_key_to_spki;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateSigningRequestDer, alg_id};
use std::sync::{Arc, Mutex};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Longest request that is read, in PEM; ours have about 400 bytes.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// An uncompressed point of P-256 (SEC 1, 2.3.3).
const POINT_BYTES: usize = 65;

/// Why a request cannot be made or answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestFault {
    #[error("the request has {length} bytes; the limit is {REQUEST_BYTES_MAX}")]
    TooLong { length: usize },
    #[error("the request cannot be decoded; send a PKCS#10 request in PEM")]
    Encoding,
    #[error("the key is of another kind than P-256, the only one that certificates are made for")]
    KeyKind,
    #[error("the request is not signed by the key that it names")]
    Signature,
    #[error("the request has {count} common names; it must have one, the id of the box")]
    CommonNames { count: usize },
    #[error("the key could not sign")]
    Sign(#[source] SignFault),
    #[error("the certificate library failed: {0}")]
    Library(#[source] rcgen::Error),
}

/// A request in PEM for the box's key, signed by it. Blocks as long as the signer does.
pub fn certificate_request(
    signer: Arc<dyn Signer>,
    box_id: &BoxId,
) -> Result<String, RequestFault> {
    let key = CertificateKey::new(signer).ok_or(RequestFault::KeyKind)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(box_id.as_str());
    let request = params.serialize_request(&key);
    request.and_then(|request| request.pem()).map_err(|fault| match key.take_fault() {
        Some(cause) => RequestFault::Sign(cause),
        None => RequestFault::Library(fault),
    })
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// What a valid request says.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) common_name: String,
    pub(crate) key: SubjectKey,
}

impl Request {
    /// Reads a request and verifies that its key signed it.
    pub(crate) fn parse(pem: &str) -> Result<Self, RequestFault> {
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(RequestFault::TooLong { length: pem.len() });
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| RequestFault::Encoding)?;
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| RequestFault::Encoding)?;
        if !rest.is_empty() || request.signature_value.unused_bits != 0 {
            return Err(RequestFault::Encoding);
        }
        let info = &request.certification_request_info;
        let point = info.subject_pki.subject_public_key.data.as_ref();
        let key = SubjectKey::new(point).ok_or(RequestFault::KeyKind)?;
        // The whole structure is compared, so that no other curve passes with a point of this length.
        if info.subject_pki.raw != public_key_to_spki(&alg_id::ECDSA_P256, point).as_ref() {
            return Err(RequestFault::KeyKind);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| RequestFault::Signature)?;
        let names: Vec<_> = info.subject.iter_common_name().collect();
        let [name] = names.as_slice() else {
            return Err(RequestFault::CommonNames { count: names.len() });
        };
        let common_name = name.as_str().map_err(|_| RequestFault::Encoding)?.to_owned();
        Ok(Self { common_name, key })
    }

    /// The key that signed it.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey::EcdsaP256(self.key.0.clone())
    }
}

/// The public key that a certificate is made for.
#[derive(Debug)]
pub(crate) struct SubjectKey(Vec<u8>);

impl SubjectKey {
    pub(crate) fn new(point: &[u8]) -> Option<Self> {
        let fits = point.len() == POINT_BYTES && point[0] == 4;
        fits.then(|| Self(point.to_vec()))
    }
}

impl PublicKeyData for SubjectKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// Lets rcgen sign with a key behind the model's `Signer`.
pub(crate) struct CertificateKey {
    signer: Arc<dyn Signer>,
    public: SubjectKey,
    /// rcgen's error has no room for the cause of a failed signature, so it waits here.
    fault: Mutex<Option<SignFault>>,
}

impl CertificateKey {
    /// `None` for a key that is not P-256.
    pub(crate) fn new(signer: Arc<dyn Signer>) -> Option<Self> {
        let PublicKey::EcdsaP256(point) = signer.public_key() else { return None };
        let public = SubjectKey::new(&point)?;
        Some(Self { signer, public, fault: Mutex::new(None) })
    }

    pub(crate) fn take_fault(&self) -> Option<SignFault> {
        self.fault.lock().expect("no code panics under this lock").take()
    }
}

impl PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|fault| {
            *self.fault.lock().expect("no code panics under this lock") = Some(fault);
            rcgen::Error::RemoteKeyError
        })
    }
}

#[cfg(test)]
mod tests;
