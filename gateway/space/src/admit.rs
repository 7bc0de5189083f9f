//! Who may come in: a certificate of this space's authority, enrolled, not revoked, of an accepted tier.

use crate::registry::Registry;
use guan_identity::{Tier, peer_identity};
use guan_link::driver::Admit;
use guan_model::{BoxId, Digest};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// Asks the registry for each box that connects, so that a revocation counts at once.
#[derive(Clone)]
pub struct Admission {
    registry: Registry,
    accepted: Arc<[Tier]>,
}

impl Admission {
    pub fn new(registry: Registry, accepted: &[Tier]) -> Self {
        Self { registry, accepted: accepted.into() }
    }

    fn look(&self, certificate: &[u8]) -> Result<BoxId, String> {
        let (box_id, tier) = peer_identity(certificate).map_err(|fault| fault.to_string())?;
        let fingerprint = Digest::of(certificate);
        match self.registry.admit(&box_id, tier, fingerprint, &self.accepted) {
            Ok(Ok(())) => Ok(box_id),
            Ok(Err(rejection)) => Err(rejection.to_string()),
            Err(fault) => {
                tracing::error!(%box_id, %fault, "the registry of boxes cannot be read");
                Err("the space cannot read its registry; come again".to_owned())
            }
        }
    }
}

impl Admit for Admission {
    async fn admit(&self, chain: Vec<CertificateDer<'static>>) -> Result<BoxId, String> {
        let this = self.clone();
        // sled reads files, so it must not hold up the other sessions.
        let looked = tokio::task::spawn_blocking(move || match chain.first() {
            Some(certificate) => this.look(certificate),
            None => Err("a box needs a certificate of this space".to_owned()),
        });
        looked.await.unwrap_or_else(|_| Err("the space failed; come again".to_owned()))
    }
}
