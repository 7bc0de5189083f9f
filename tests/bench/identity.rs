//! What a TPM costs: keys, handshakes, evidence and appraisal, at injected delays of a request.
//!
//! `cargo bench -p guan-tests --bench identity`. Ends with one line of JSON. The TPM is swtpm.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

#[path = "../tpm/ends.rs"]
mod ends;
mod tpm;

use ends::Ends;
use guan_demo::swtpm::Swtpm;
use guan_edge::joining;
use guan_identity::attest::{
    Binding, Claims, Evidence, KnownBox, Logs, PCRS_REQUIRED, Policy, Session, appraise,
};
use guan_identity::join::{Grant, Maker, join_binding, judge};
use guan_identity::tpm::{KeySlot, Tpm, TpmSigner};
use guan_identity::{KeyFile, SmallCa, Tier, read_certificates};
use guan_model::{BoxId, Digest, Signer, WallTime};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tpm::{make_keys, median, millis, start};
use zeroize::Zeroizing;

const DELAYS_MS: [u64; 3] = [0, 200, 1000];
/// Median of so many, where nothing is delayed.
const RUNS: usize = 25;

/// Median of handshakes, and the worst that another task's timer was late meanwhile.
async fn handshakes(signer: Arc<dyn Signer>, runs: usize) -> (Duration, Duration) {
    let ends = Ends::new(signer);
    let worst_us = Arc::new(AtomicU64::new(0));
    let seen = worst_us.clone();
    let ticker = tokio::spawn(async move {
        loop {
            let started = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let late = started.elapsed().saturating_sub(Duration::from_millis(5));
            seen.fetch_max(u64::try_from(late.as_micros()).unwrap(), Ordering::Relaxed);
        }
    });
    let mut times = Vec::new();
    for _ in 0..runs {
        let started = Instant::now();
        ends.shake_hands().await.unwrap();
        times.push(started.elapsed());
    }
    ticker.abort();
    (median(times), Duration::from_micros(worst_us.load(Ordering::Relaxed)))
}

/// Bytes of evidence without logs, and the median time to judge it.
fn appraisal(tpm: &Tpm) -> (usize, Duration) {
    let zero = Digest([0; 32]);
    let (nonce, exporter) = ([1; 32], [2; 32]);
    let binding = Binding { nonce, exporter, box_leaf: zero, space_leaf: zero };
    let counter = tpm.call("count", |chip| chip.count_release("2026.11")).unwrap();
    let claims = Claims {
        release: "2026.11".to_owned(),
        boot: 4,
        log_size: 9,
        log_root: zero,
        counter,
        ima_start: 0,
        tier: Tier::Emulated,
    };
    let claims_bytes = claims.encode();
    let qualifying = binding.qualify(&claims_bytes);
    let quoted = tpm.call("quote", move |chip| {
        let counted = chip.certify_counter(&qualifying)?;
        let ak = chip.public(KeySlot::Attestation)?;
        Ok((chip.quote(&PCRS_REQUIRED, &qualifying)?, counted, ak))
    });
    let ((quote, pcrs), counted, ak) = quoted.unwrap();
    let evidence = Evidence {
        claims_bytes,
        claims,
        quote: quote.statement,
        quote_signature: quote.signature,
        pcrs,
        boot_log: Vec::new(),
        ima_list: Vec::new(),
        counted: counted.statement,
        counted_signature: counted.signature,
    };
    let bytes = evidence.encode();
    let ak = ak.p256().unwrap().clone();
    let known = KnownBox {
        tier: Tier::Emulated,
        is_revoked: false,
        ak: ak.clone(),
        tls_key: ak.clone(),
        last: None,
    };
    let session = Session { binding, tls_key: ak };
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let evidence = Evidence::decode(&bytes).unwrap();
        let now = WallTime(1_800_000_000_000_000_000);
        let (_, seen) =
            appraise(&known, &session, &Policy::default(), &evidence, &Logs::default(), now);
        times.push(started.elapsed());
        assert!(seen.is_some(), "the evidence is good");
    }
    (bytes.len(), median(times))
}

/// From the first question to the certificate: every call of `guan join` on the TPM, and the space's judgement,
/// without the network.
fn join(tpm: &Tpm, swtpm: &Swtpm, folder: &Path) -> Duration {
    let now = WallTime(1_800_000_000_000_000_000);
    let certificates = swtpm
        .makers()
        .map(|path| read_certificates(&std::fs::read_to_string(path).unwrap()).unwrap().remove(0));
    let [root, between] = certificates;
    let maker = Maker {
        name: "test CA".to_owned(),
        tier: Tier::Emulated,
        roots: vec![root],
        intermediates: vec![between.to_vec()],
    };
    let box_id = BoxId::parse("depot-7").unwrap();
    let key: Arc<dyn Signer> = Arc::new(KeyFile::generate("ca").unwrap().0);
    let authority = SmallCa::create("ca", key, now, 3650).unwrap();
    let expires_at = now.saturating_add(Duration::from_secs(3600));
    let grant = Grant { box_id: box_id.clone(), expires_at, endorsement: None };
    let (exporter, token) = ([1; 32], Zeroizing::new([2; 16]));
    let binding = join_binding(&exporter, &token);
    let started = Instant::now();
    let request = joining::request(tpm, KeySlot::TlsB, box_id.clone(), token, binding).unwrap();
    let tier = [Tier::Emulated];
    let pending = judge(&request, &grant, &[maker], &tier, &binding, now).unwrap();
    let challenge = pending.challenge.clone();
    let opened =
        tpm.call("open", move |chip| chip.activate(&challenge.blob, &challenge.encrypted_seed));
    let secret = <[u8; 32]>::try_from(&opened.unwrap()[..]).unwrap();
    let enrolled = pending.confirm(&secret).unwrap();
    authority.issue_box(&request.request, &box_id, enrolled.tier, now, 30).unwrap();
    let took = started.elapsed();
    assert!(KeySlot::TlsB.public(folder).is_ok());
    took
}

/// Counter and quote for one challenge.
fn evidence_time(tpm: &Tpm) -> Duration {
    let started = Instant::now();
    let made = tpm.call("prove", |chip| {
        chip.count_release("2026.11")?;
        let zero = Digest([0; 32]);
        chip.certify_counter(&zero)?;
        chip.quote(&PCRS_REQUIRED, &zero)
    });
    made.unwrap();
    started.elapsed()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if !Swtpm::is_installed() {
        return println!("SKIP: swtpm is not installed; cargo verify does it");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let swtpm = Swtpm::make(&path.join("tpm"), &path.join("ca")).unwrap();
    let tpm = start(&swtpm, path, Duration::ZERO);
    let keys = make_keys(&tpm);
    let software: Arc<dyn Signer> = Arc::new(KeyFile::generate("box").unwrap().0);
    let (soft, soft_stall) = handshakes(software, RUNS).await;
    println!("key                 delay ms  handshake ms  worst stall ms  join ms  evidence ms");
    println!("software            {:>8}  {:>12}  {:>14}", 0, millis(soft), millis(soft_stall));
    let mut rows = Vec::new();
    for delay_ms in DELAYS_MS {
        let tpm = start(&swtpm, path, Duration::from_millis(delay_ms));
        let signer = Arc::new(TpmSigner::load(tpm.clone(), KeySlot::TlsA, path).unwrap());
        let runs = if delay_ms == 0 { RUNS } else { 3 };
        let (time, stall) = handshakes(signer, runs).await;
        let joined = median((0..3).map(|_| join(&tpm, &swtpm, path)).collect());
        let proved = median((0..3).map(|_| evidence_time(&tpm)).collect());
        println!(
            "TPM                 {delay_ms:>8}  {:>12}  {:>14}  {:>7}  {:>11}",
            millis(time),
            millis(stall),
            millis(joined),
            millis(proved)
        );
        rows.push(json!({
            "delay_ms": delay_ms, "handshake_ms": millis(time), "worst_stall_ms": millis(stall),
            "join_ms": millis(joined), "evidence_ms": millis(proved),
        }));
    }
    let (bytes, appraised) = appraisal(&tpm);
    println!("AK and TLS key made in {} ms (first use makes EK and SRK too)", millis(keys));
    println!(
        "evidence            {bytes} bytes without logs, appraised in {} ms",
        millis(appraised)
    );
    let report = json!({
        "keys_ms": millis(keys),
        "software_handshake_ms": millis(soft),
        "tpm": rows,
        "evidence_bytes": bytes,
        "appraisal_ms": millis(appraised),
    });
    println!("{report}");
}
