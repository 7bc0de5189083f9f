//! TLS of both ends: mutual, 1.3 only, never resumed, signed through the model's `Signer`. Towards servers of others
//! (`foreign_client_config`) also 1.2, and without a certificate of ours.
//!
//! Resumption is off on both sides because a resumed session skips the check of the client's
//! certificate: a revoked box would get in while its ticket lives (research/tpm.md, section 5).
//!
//! A rejected box sees its handshake succeed before the refusal arrives (TLS 1.3's order of messages):
//! a session is up only after the space's first answer.

mod join;

pub use join::{join_client_config, join_server_config};

use guan_model::{PublicKey, Signer, WallTime};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring::default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey, public_key_to_spki};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, OtherError, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime, alg_id};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Why there is no TLS configuration; the operator named files that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    #[error("the key {key} is of another kind than P-256; use the box's or server's identity key")]
    KeyKind { key: String },
    #[error("the certificate was not issued for the key {key}; name the two that belong together")]
    KeyMismatch { key: String, source: rustls::Error },
    #[error("there is no certificate of our own; join the space first")]
    NoCertificate,
    #[error("no authority is trusted; name the file with the space's authority certificate")]
    NoRoots,
    #[error("an authority certificate cannot be used; get it from the space again")]
    Root(#[source] rustls::Error),
    #[error("the TLS library refused the configuration; please report this as a bug")]
    Library(#[source] rustls::Error),
}

/// TLS configuration of the box. `space_roots` are the authorities that may vouch for the space, `time`
/// judges their validity: the box's corrected clock, not the system's.
pub fn client_config(
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn Signer>,
    space_roots: Vec<CertificateDer<'static>>,
    alpn: &[u8],
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsFault> {
    let own = certified_key(chain, signer)?;
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsFault::Library)?
        .with_root_certificates(root_store(space_roots)?)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// TLS configuration towards a server that is none of the space's and asks for no certificate of ours, such as an
/// authority of time stamps.
pub fn foreign_client_config(
    roots: Vec<CertificateDer<'static>>,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, TlsFault> {
    let mut config = ClientConfig::builder_with_details(provider(), time)
        .with_safe_default_protocol_versions()
        .map_err(TlsFault::Library)?
        .with_root_certificates(root_store(roots)?)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// TLS configuration of the space. Only peers with a client certificate under `box_roots` get in.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn Signer>,
    box_roots: Vec<CertificateDer<'static>>,
    alpn: &[u8],
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, TlsFault> {
    let own = certified_key(chain, signer)?;
    let roots = Arc::new(root_store(box_roots)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|fault| TlsFault::Library(rustls::Error::General(fault.to_string())))?;
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsFault::Library)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Named here and not installed for the process, so that no other crate's choice can replace it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn root_store(roots: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsFault> {
    if roots.is_empty() {
        return Err(TlsFault::NoRoots);
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(TlsFault::Root)?;
    }
    Ok(store)
}

fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    signer: Arc<dyn Signer>,
) -> Result<CertifiedKey, TlsFault> {
    if chain.is_empty() {
        return Err(TlsFault::NoCertificate);
    }
    let name = signer.name().to_owned();
    let own = CertifiedKey::new(chain, Arc::new(SignerKey::new(signer)?));
    own.keys_match().map_err(|source| TlsFault::KeyMismatch { key: name, source })?;
    Ok(own)
}

/// Lets rustls sign with a P-256 key behind the model's `Signer`.
///
/// rustls calls it inside the task that drives the connection and waits: a signer that is slow (a
/// TPM) has to move its waiting off the runtime's threads by itself.
#[derive(Clone)]
pub struct SignerKey {
    signer: Arc<dyn Signer>,
    public_key: SubjectPublicKeyInfoDer<'static>,
}

impl SignerKey {
    pub fn new(signer: Arc<dyn Signer>) -> Result<Self, TlsFault> {
        let PublicKey::EcdsaP256(point) = signer.public_key() else {
            return Err(TlsFault::KeyKind { key: signer.name().to_owned() });
        };
        Ok(Self { signer, public_key: public_key_to_spki(&alg_id::ECDSA_P256, point) })
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignerKey").field(&self.signer.name()).finish()
    }
}

impl rustls::sign::SigningKey for SignerKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let fits = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        fits.then(|| Box::new(self.clone()) as Box<dyn rustls::sign::Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.public_key.clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl rustls::sign::Signer for SignerKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let outcome = self.signer.sign(message);
        outcome.map_err(|fault| rustls::Error::Other(OtherError(Arc::new(fault))))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// The moment by which certificates are judged, set by whoever knows the time.
#[derive(Debug)]
pub struct TimeCell(AtomicI64);

impl TimeCell {
    pub fn new(now: WallTime) -> Self {
        Self(AtomicI64::new(now.0))
    }

    pub fn set(&self, now: WallTime) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl TimeProvider for TimeCell {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.0.load(Ordering::Relaxed)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}

#[cfg(test)]
mod tests;
