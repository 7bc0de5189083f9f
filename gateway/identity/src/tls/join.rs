//! TLS of joining: the space shows a certificate, the box has none yet and knows the space's authority by
//! a digest.

use super::{TlsFault, certified_key, provider};
use crate::join::JOIN_ALPN;
use guan_model::{Digest, Signer};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// TLS configuration of a box that joins the space whose authority has this digest (SHA-256 over DER).
pub fn join_client_config(
    authority: Digest,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsFault> {
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsFault::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { authority }))
        .with_no_client_auth();
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// TLS configuration of the space for boxes that join; the authority's certificate ends the chain.
pub fn join_server_config(
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn Signer>,
    authority: CertificateDer<'static>,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, TlsFault> {
    let chain = chain.into_iter().chain([authority]).collect();
    let own = certified_key(chain, signer)?;
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsFault::Library)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Takes a server whose chain contains the pinned authority, and then verifies it under that as usual.
#[derive(Debug)]
struct PinnedAuthority {
    authority: Digest,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| Digest::of(shown) == self.authority;
        let authority = intermediates.iter().find(is_pinned);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|fault| Error::General(fault.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
