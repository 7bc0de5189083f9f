//! A relay: the box proves itself on its own connection, and an attacker shows that on his.

use super::ends::Ends;
use super::{Bench, bench};
use guan_identity::Tier;
use guan_identity::attest::{
    AttestationOutcome, Binding, Claims, Evidence, Finding, KnownBox, Logs, PCRS_REQUIRED, Policy,
    Session, Verdict, appraise,
};
use guan_identity::tpm::KeySlot;
use guan_model::{Digest, WallTime};
use std::sync::Arc;

const LABEL: &[u8] = b"EXPORTER-guankou-attestation-1";
const LEAF: Digest = Digest([3; 32]);

/// The box's TPM answers for this connection.
fn prove(bench: &Bench, binding: &Binding) -> Evidence {
    let counter = bench.tpm.call("test", |chip| chip.count_release("2026.11")).unwrap();
    let claims = Claims {
        release: "2026.11".to_owned(),
        boot: 1,
        log_size: 0,
        log_root: LEAF,
        counter,
        ima_start: 0,
        tier: Tier::Emulated,
    };
    let claims_bytes = claims.encode();
    let bound = binding.qualify(&claims_bytes);
    let ((quote, pcrs), counted) = bench
        .tpm
        .call("test", move |chip| {
            Ok((chip.quote(&PCRS_REQUIRED, &bound)?, chip.certify_counter(&bound)?))
        })
        .unwrap();
    Evidence {
        claims_bytes,
        claims,
        quote: quote.statement,
        quote_signature: quote.signature,
        pcrs,
        boot_log: Vec::new(),
        ima_list: Vec::new(),
        counted: counted.statement,
        counted_signature: counted.signature,
    }
}

fn judge(bench: &Bench, binding: &Binding, evidence: &Evidence) -> Verdict {
    let key = |slot: KeySlot| slot.public(bench.folder.path()).unwrap();
    let known = KnownBox {
        tier: Tier::Emulated,
        is_revoked: false,
        ak: key(KeySlot::Attestation),
        tls_key: key(KeySlot::TlsA),
        last: None,
    };
    let session = Session { binding: binding.clone(), tls_key: key(KeySlot::TlsA) };
    let (policy, logs) = (Policy::default(), Logs::default());
    appraise(&known, &session, &policy, evidence, &logs, WallTime(1_800_000_000_000_000_000)).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_relayed_through_a_second_connection_is_refused() {
    let Some(bench) = bench() else { return };
    bench.keys();
    let ends = Ends::new(Arc::new(bench.signer()));
    // The same box, certificate and space, and even the same nonce: only the connections differ.
    let (own, other) = (ends.connect().await.unwrap(), ends.connect().await.unwrap());
    let nonce = [1; 32];
    let binding = |connection: &quinn::Connection| {
        let mut exporter = [0; 32];
        connection.export_keying_material(&mut exporter, LABEL, &nonce).unwrap();
        Binding { nonce, exporter, box_leaf: LEAF, space_leaf: LEAF }
    };
    let (own, other) = (binding(&own), binding(&other));
    let evidence = prove(&bench, &own);
    assert_eq!(judge(&bench, &own, &evidence).outcome, AttestationOutcome::Allow);
    let relayed = judge(&bench, &other, &evidence);
    assert_eq!(relayed.outcome, AttestationOutcome::Refuse);
    assert!(relayed.findings.contains(&Finding::Binding), "{:?}", relayed.findings);
}
