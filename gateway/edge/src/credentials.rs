//! What the box shows of itself: its certificate, and a renewed one until the space has taken it.
//!
//! Invariant: the old certificate and its key stay until a session with the new one is up.

use guan_link::driver::ClientTls;
use guan_model::Digest;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One certificate, ready to connect with.
#[derive(Clone)]
pub struct Candidate {
    pub tls: ClientTls,
    /// Of the certificate.
    pub leaf: Digest,
}

/// Shared by the link, which connects, and by the upkeep, which renews.
#[derive(Clone)]
pub struct Credentials(Arc<Mutex<Slots>>);

struct Slots {
    current: Candidate,
    next: Option<Candidate>,
    is_next_in_use: bool,
}

impl Credentials {
    pub fn new(current: Candidate, next: Option<Candidate>) -> Self {
        Self(Arc::new(Mutex::new(Slots { current, next, is_next_in_use: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to try now: the renewed one first, then in turn, as nobody knows which of them the space takes.
    pub fn next_attempt(&self) -> ClientTls {
        let mut slots = self.lock();
        slots.is_next_in_use = slots.next.is_some() && !slots.is_next_in_use;
        match &slots.next {
            Some(next) if slots.is_next_in_use => next.tls.clone(),
            _ => slots.current.tls.clone(),
        }
    }

    /// Of the certificate that was tried last.
    pub fn leaf(&self) -> Digest {
        let slots = self.lock();
        match &slots.next {
            Some(next) if slots.is_next_in_use => next.leaf,
            _ => slots.current.leaf,
        }
    }

    /// Whether a renewed certificate waits to be tried.
    pub fn has_next(&self) -> bool {
        self.lock().next.is_some()
    }

    pub fn offer(&self, next: Candidate) {
        let mut slots = self.lock();
        slots.next = Some(next);
        slots.is_next_in_use = false;
    }

    /// The space has welcomed the box; whether with the renewed certificate, which is the only one from now on.
    pub fn handle_welcome(&self) -> bool {
        let mut slots = self.lock();
        if !slots.is_next_in_use {
            return false;
        }
        slots.is_next_in_use = false;
        if let Some(next) = slots.next.take() {
            slots.current = next;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guan_identity::{
        KeyFile, SmallCa, Tier, TimeCell, certificate_request, client_config, read_certificates,
    };
    use guan_model::{BoxId, WallTime};
    use quinn::crypto::rustls::QuicClientConfig;

    fn candidate(mark: u8) -> Candidate {
        let now = WallTime(1_800_000_000_000_000_000);
        let key = |name: &str| Arc::new(KeyFile::generate(name).unwrap().0);
        let ca = SmallCa::create("ca", key("ca"), now, 3650).unwrap();
        let (id, own) = (BoxId::parse("box-1").unwrap(), key("box"));
        let request = certificate_request(own.clone(), &id).unwrap();
        let chain = ca.issue_box(&request, &id, Tier::Unattested, now, 30).unwrap();
        let chain = read_certificates(&chain).unwrap();
        let roots = vec![ca.certificate().clone()];
        let tls = client_config(chain, own, roots, b"x", Arc::new(TimeCell::new(now))).unwrap();
        let crypto = Arc::new(QuicClientConfig::try_from(tls).unwrap());
        Candidate { tls: quinn::ClientConfig::new(crypto).into(), leaf: Digest([mark; 32]) }
    }

    #[test]
    fn a_renewed_certificate_is_tried_before_it_replaces() {
        let credentials = Credentials::new(candidate(1), None);
        let tried = || {
            credentials.next_attempt();
            credentials.leaf().0[0]
        };
        assert_eq!((tried(), tried()), (1, 1));
        assert!(!credentials.handle_welcome());
        credentials.offer(candidate(2));
        // The space may not take it: the old one gets its turn, and stays.
        assert_eq!((tried(), tried(), tried(), tried()), (2, 1, 2, 1));
        assert!(!credentials.handle_welcome() && credentials.has_next());
        assert_eq!(tried(), 2);
        assert!(credentials.handle_welcome() && !credentials.has_next());
        assert_eq!((tried(), tried()), (2, 2));
    }
}
