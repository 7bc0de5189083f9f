//! Attestation beside the session: who makes evidence, who judges it, and what ties it to a connection.
//!
//! After the handshake, because relays were found against every binding inside it (research/tpm.md, 7).

use super::fault::LinkFault;
use super::transport::Connection;
use crate::frame::{NONCE_BYTES, Question};
use crate::gate::GateOutcome;
use bytes::Bytes;
use guan_model::BoxId;
use rustls::pki_types::CertificateDer;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What the exporter is asked with (RFC 5705); its context is the nonce.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-guankou-attestation-1";

/// One connection as one end sees it.
#[derive(Debug, Clone)]
pub struct Bound {
    pub nonce: [u8; NONCE_BYTES],
    /// Secret of this TLS session alone.
    pub exporter: [u8; NONCE_BYTES],
    /// Certificate of the other end.
    pub peer_leaf: CertificateDer<'static>,
}

impl Bound {
    /// Without an exporter or a certificate there is nothing to bind to, and so no going on.
    pub(super) fn new(
        connection: &Connection,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self, LinkFault> {
        let mut exporter = [0; NONCE_BYTES];
        connection.export(&mut exporter, EXPORTER_LABEL, &nonce).ok_or(LinkFault::Unbound)?;
        let peer_leaf = leaf(connection).ok_or(LinkFault::Unbound)?;
        Ok(Self { nonce, exporter, peer_leaf })
    }
}

/// Certificate of the other end.
pub(super) fn leaf(connection: &Connection) -> Option<CertificateDer<'static>> {
    connection.chain()?.into_iter().next()
}

/// What is underway elsewhere.
pub type Underway<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The box's side: makes evidence, which may take a TPM seconds.
pub trait Attest: Send + Sync {
    /// The error is for the operator.
    fn attest(&self, bound: Bound, question: Question) -> Underway<Result<Bytes, String>>;

    /// The space's verdict, for people.
    fn verdict(&self, outcome: GateOutcome, document: Bytes);

    /// What the box wants next of a session in which it is known; awaited again after each wish.
    fn wish(&self, bound: Bound) -> Underway<Wish> {
        drop(bound);
        Box::pin(std::future::pending())
    }

    /// The space's answer to what was asked.
    fn answered(&self, answer: Bytes) {
        drop(answer);
    }
}

/// What a box wants of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To ask the space something about its identity.
    Ask(Bytes),
    /// To come again with other credentials.
    Reconnect,
}

/// Nonce of what binds a question: it needs none, as each connection has an exporter of its own.
const NO_NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

impl Bound {
    pub(super) fn without_nonce(connection: &Connection) -> Result<Self, LinkFault> {
        Self::new(connection, NO_NONCE)
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub struct Proof {
    pub box_id: BoxId,
    pub bound: Bound,
    pub evidence: Bytes,
}

/// A judgement.
#[derive(Debug, Clone)]
pub struct Appraisal {
    pub outcome: GateOutcome,
    pub holds_for: Duration,
    /// Why, in a line.
    pub text: String,
    /// The signed verdict, for the box.
    pub document: Bytes,
}

/// The space's side.
pub trait Appraise: Send + Sync {
    /// Whether a box with this certificate must prove itself.
    fn must_prove(&self, leaf: &CertificateDer<'_>) -> bool;

    /// What to ask this box; the nonce is never the same twice.
    fn question(&self, box_id: BoxId) -> Underway<Question>;

    fn appraise(&self, proof: Proof) -> Underway<Appraisal>;

    /// Answers what a known box asks; `evidence` of the proof is the question.
    fn answer(&self, ask: Proof) -> Underway<Bytes> {
        drop(ask);
        Box::pin(std::future::ready(Bytes::new()))
    }
}
