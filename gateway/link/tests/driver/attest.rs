//! No data before a verdict, and none without one.

use super::*;
use guan_link::GateOutcome;
use guan_link::driver::{Appraisal, Bound, Proof, Underway};
use guan_link::frame::Question;
use rustls::pki_types::CertificateDer;

/// Says what it sees of the connection.
#[derive(Default)]
struct Prover {
    verdicts: Mutex<Vec<GateOutcome>>,
}

fn words(bound: &Bound) -> Bytes {
    let parts = [&bound.nonce[..], &bound.exporter, &bound.peer_leaf];
    Bytes::from(parts.concat())
}

impl Attest for Prover {
    fn attest(&self, bound: Bound, question: Question) -> Underway<Result<Bytes, String>> {
        assert_eq!((question.ima_start, question.nonce), (3, bound.nonce));
        Box::pin(async move { Ok(words(&bound)) })
    }

    fn verdict(&self, outcome: GateOutcome, document: Bytes) {
        assert_eq!(document, "signed");
        self.verdicts.lock().unwrap().push(outcome);
    }
}

/// Judges as it is told, after it has seen the same connection as the box.
struct Judge {
    outcome: GateOutcome,
    inbox: Memory,
}

impl Appraise for Judge {
    fn must_prove(&self, _leaf: &CertificateDer<'_>) -> bool {
        true
    }

    fn question(&self, _box_id: BoxId) -> Underway<Question> {
        let nothing = guan_model::Digest([0; 32]);
        let question =
            Question { nonce: [7; 32], ima_start: 3, ima_value: nothing, boot_log: nothing };
        Box::pin(std::future::ready(question))
    }

    fn appraise(&self, proof: Proof) -> Underway<Appraisal> {
        assert!(self.inbox.stored.lock().unwrap().items.is_empty(), "nothing before the verdict");
        assert_eq!(
            proof.evidence,
            words(&proof.bound),
            "both see one nonce, exporter and certificate"
        );
        let outcome = self.outcome;
        let (text, document) = ("because".to_owned(), Bytes::from_static(b"signed"));
        let holds_for = std::time::Duration::from_secs(900);
        Box::pin(async move { Appraisal { outcome, holds_for, text, document } })
    }
}

struct Parts {
    inbox: Memory,
    space: Space,
    edge: Edge,
    prover: Arc<Prover>,
}

fn start(transport: Transport, outcome: GateOutcome) -> Parts {
    let (certificates, inbox) = (Certificates::new(transport), Memory::default());
    let judge = Arc::new(Judge { outcome, inbox: inbox.clone() });
    let space = Space::start_with(&certificates, inbox.clone(), true, loopback(), Some(judge));
    let prover = Arc::new(Prover::default());
    let edge = Edge::start_with(&certificates, space.address, Some(prover.clone()));
    edge.commit(5);
    Parts { inbox, space, edge, prover }
}

async fn data_flows_after_a_good_verdict(transport: Transport) {
    let mut parts = start(transport, GateOutcome::Allow);
    parts.edge.released(5).await;
    assert_eq!(*parts.prover.verdicts.lock().unwrap(), [GateOutcome::Allow]);
    parts.edge.stop().await;
    parts.space.stop().await;
}

async fn a_refused_box_is_told_why_and_not_heard(transport: Transport) {
    let mut parts = start(transport, GateOutcome::Refuse);
    let text = parts.edge.event(disconnected).await;
    assert!(text.contains("Unauthorized") && text.contains("because"), "{text}");
    parts.edge.stop().await;
    parts.space.stop().await;
    assert!(parts.inbox.stored.lock().unwrap().items.is_empty());
}

async fn a_box_that_cannot_prove_anything_says_so(transport: Transport) {
    let (certificates, inbox) = (Certificates::new(transport), Memory::default());
    let judge = Arc::new(Judge { outcome: GateOutcome::Allow, inbox: inbox.clone() });
    let space = Space::start_with(&certificates, inbox.clone(), true, loopback(), Some(judge));
    let mut edge = Edge::start(&certificates, space.address);
    edge.commit(1);
    let text = edge.event(disconnected).await;
    assert!(text.contains("identity.tpm"), "{text}");
    edge.stop().await;
    space.stop().await;
    assert!(inbox.stored.lock().unwrap().items.is_empty());
}

over_both!(
    data_flows_after_a_good_verdict,
    a_refused_box_is_told_why_and_not_heard,
    a_box_that_cannot_prove_anything_says_so
);
