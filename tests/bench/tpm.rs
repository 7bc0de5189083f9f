//! The emulated TPM of the benchmarks, with injected delays, and how they tell times.

use guan_demo::swtpm::Swtpm;
use guan_identity::tpm::{KeySlot, Tcti, Tpm, TpmOptions};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

pub(crate) fn start(swtpm: &Swtpm, folder: &Path, added_delay: Duration) -> Tpm {
    let tcti = Tcti::parse(&swtpm.tcti()).unwrap();
    Tpm::start(TpmOptions { tcti, folder: folder.to_path_buf(), added_delay }).unwrap()
}

/// Makes the keys of a box; says how long that took.
pub(crate) fn make_keys(tpm: &Tpm) -> Duration {
    let started = Instant::now();
    let made = tpm.call("make keys", |chip| {
        chip.make_attestation_key()?;
        chip.make_tls_key(KeySlot::TlsA).map(|_| ())
    });
    made.unwrap();
    started.elapsed()
}
