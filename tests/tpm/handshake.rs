//! TLS with the key in the TPM: other work goes on meanwhile, and a TPM that dies is named.

use super::ends::Ends;
use super::{Bench, bench, bench_with};
use guan_identity::tpm::{KeySlot, TpmSigner};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

fn signer(bench: &Bench) -> Arc<TpmSigner> {
    bench.keys();
    Arc::new(TpmSigner::load(bench.tpm.clone(), KeySlot::TlsA, bench.folder.path()).unwrap())
}

/// The delay is a whole second; plain blocking would stall the timer for as long. `cargo bench -p guan-tests
/// --bench identity` prints the worst stall, which this test only bounds from far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_takes_a_second_stalls_nobody_else() {
    const DELAY: Duration = Duration::from_secs(1);
    let Some(bench) = bench_with(DELAY) else { return };
    let ends = Ends::new(signer(&bench));
    let worst_ms = Arc::new(AtomicU64::new(0));
    let seen = worst_ms.clone();
    let ticker = tokio::spawn(async move {
        loop {
            let started = Instant::now();
            sleep(Duration::from_millis(5)).await;
            let late = started.elapsed().saturating_sub(Duration::from_millis(5));
            seen.fetch_max(u64::try_from(late.as_millis()).unwrap(), Ordering::Relaxed);
        }
    });
    let started = Instant::now();
    ends.shake_hands().await.unwrap();
    assert!(started.elapsed() >= DELAY, "the TPM was not asked");
    ticker.abort();
    let worst = worst_ms.load(Ordering::Relaxed);
    println!("worst stall {worst} ms");
    assert!(u128::from(worst) < DELAY.as_millis() / 2, "a timer was {worst} ms late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_one_after_another_and_at_once() {
    let Some(bench) = bench() else { return };
    let ends = Arc::new(Ends::new(signer(&bench)));
    for _ in 0..20 {
        ends.shake_hands().await.unwrap();
    }
    let all = (0..20).map(|_| {
        let ends = ends.clone();
        tokio::spawn(async move { ends.shake_hands().await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(bench.tpm.rebuilds(), 0, "no handle and no session was left over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_dies_in_mid_handshake_fails_it_and_the_next_succeeds() {
    let Some(mut bench) = bench() else { return };
    let ends = Ends::new(signer(&bench));
    ends.shake_hands().await.unwrap();
    bench.swtpm.kill().unwrap();
    let fault = ends.shake_hands().await.unwrap_err();
    assert!(fault.contains("TPM"), "{fault}");
    bench.swtpm.start().unwrap();
    ends.shake_hands().await.unwrap();
}
