//! Who may come in: a certificate of this space's authority, enrolled, not revoked, of an accepted tier.

use crate::alarms::Alarms;
use crate::registry::{Registry, Rejection};
use guan_identity::{Tier, peer_identity};
use guan_link::driver::{Admit, Review};
use guan_model::{BoxId, Digest};
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sessions of one name that push each other out within [`RIVAL_WINDOW`] until it is an alarm.
pub const RIVALS_MAX: usize = 4;
const RIVAL_WINDOW: Duration = Duration::from_secs(600);
/// Most names that are watched.
const NAMES_MAX: usize = 4096;

/// Whose sessions pushed each other out, and when.
#[derive(Debug, Default)]
struct Rivals(BTreeMap<BoxId, Vec<Instant>>);

impl Rivals {
    /// Whether this is once too often.
    fn note(&mut self, box_id: &BoxId, now: Instant) -> bool {
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let times = self.0.entry(box_id.clone()).or_default();
        times.retain(|at| now.duration_since(*at) < RIVAL_WINDOW);
        times.push(now);
        if times.len() > RIVALS_MAX {
            times.remove(0);
        }
        times.len() == RIVALS_MAX
    }
}

/// Asks the registry for each box that connects, so that a revocation counts at once.
#[derive(Clone)]
pub struct Admission {
    registry: Registry,
    accepted: Arc<[Tier]>,
    alarms: Alarms,
    rivals: Arc<Mutex<Rivals>>,
}

impl Admission {
    pub fn new(registry: Registry, accepted: &[Tier], alarms: Alarms) -> Self {
        Self { registry, accepted: accepted.into(), alarms, rivals: Arc::default() }
    }

    /// Those of the connected boxes that were revoked, or that somebody wants a verdict on.
    fn changed(&self, connected: Vec<BoxId>) -> Vec<(BoxId, Review)> {
        let known = match self.registry.list() {
            Ok(known) => known,
            Err(fault) => {
                tracing::error!(%fault, "the registry of boxes cannot be read");
                return Vec::new();
            }
        };
        let reviewed = |id: BoxId| {
            let (_, enrolment) = known.iter().find(|(name, _)| name == id.as_str())?;
            let review = match (enrolment.revoked, enrolment.demand) {
                (true, _) => Review::Expel,
                (false, true) => Review::Ask,
                (false, false) => return None,
            };
            Some((id, review))
        };
        connected.into_iter().filter_map(reviewed).collect()
    }

    fn look(&self, certificate: &[u8]) -> Result<BoxId, String> {
        let (box_id, tier) = peer_identity(certificate).map_err(|fault| fault.to_string())?;
        let fingerprint = Digest::of(certificate);
        match self.registry.admit(&box_id, tier, fingerprint, &self.accepted) {
            Ok(Ok(())) => Ok(box_id),
            Ok(Err(rejection)) => {
                // It has a certificate of ours for another tier than it is known with.
                if matches!(rejection, Rejection::Tier { .. }) {
                    self.alarms.raise(&box_id, &rejection.to_string());
                }
                Err(rejection.to_string())
            }
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

    fn superseded(&self, box_id: &BoxId) {
        let mut rivals = self.rivals.lock().unwrap_or_else(PoisonError::into_inner);
        if rivals.note(box_id, Instant::now()) {
            self.alarms.raise(
                box_id,
                "its sessions push each other out again and again: two machines may have one identity",
            );
        }
    }

    async fn review(&self, connected: Vec<BoxId>) -> Vec<(BoxId, Review)> {
        let this = self.clone();
        let asked = tokio::task::spawn_blocking(move || this.changed(connected));
        // Whoever cannot be looked up now is looked up again soon.
        asked.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_no_rival_and_a_clone_is() {
        let (mut rivals, start) = (Rivals::default(), Instant::now());
        let (one, other) = (BoxId::parse("box-1").unwrap(), BoxId::parse("box-2").unwrap());
        let mut note = |id: &BoxId, after_s| rivals.note(id, start + Duration::from_secs(after_s));
        assert!(!note(&one, 0) && !note(&one, 10) && !note(&one, 20));
        assert!(!note(&other, 30), "another box");
        assert!(note(&one, 40) && note(&one, 50));
        assert!(!note(&one, 700), "the last were too long ago");
    }
}
