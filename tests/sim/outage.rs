//! A month without the space, in virtual time: nothing is lost, nothing grows but the backlog, and all of it arrives once.

use crate::checks;
use crate::medium::Medium;
use crate::world::{Breakage, Fault, Habit, Outcome, Shared};
use crate::{box_host, space_host};
use guan_evidence::VerifierKey;
use guan_line::{Net, SPACE, Shape, in_virtual_time};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// With the space, before and after.
const TOGETHER: Duration = Duration::from_secs(60);
/// By then the backlog must have arrived, with the wait for the next call.
const DRAIN_MAX: Duration = Duration::from_secs(900 + 600);
/// From one message to the next: ten minutes on the mean.
const PAUSE_MS_MAX: u64 = 1_200_000;
/// For the last head to be signed.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);
const MOBILE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 10,
    queue_bytes: 64 << 10,
};
const CUT: Shape = Shape { loss_permille: 1000, ..MOBILE };

/// What an outage amounted to.
#[derive(Debug)]
pub(crate) struct Outage {
    pub(crate) readings: u64,
    /// Batches that waited at its end.
    pub(crate) queued: u64,
    pub(crate) drained_in: Duration,
    /// What the box sent into the void.
    pub(crate) calls_bytes: u64,
}

pub(crate) fn run(days: u32) -> Result<Outage, Fault> {
    let workload = TOGETHER + DAY * days;
    let live_after = Some(Duration::from_secs(30));
    let habit = Habit { workload, pause_ms_max: PAUSE_MS_MAX, burst_max: 1, live_after };
    let (shared, outage) = in_virtual_time(async {
        let net = Net::new(MOBILE, 1, SPACE);
        let medium = Medium::Line { net: net.clone(), started: tokio::time::Instant::now() };
        let shared = Shared::new(1, Breakage::None, medium, habit);
        let space = tokio::task::LocalSet::new();
        let outage = space
            .run_until(async {
                tokio::task::spawn_local(space_host::boot(shared.clone()));
                let running = tokio::task::spawn_local(box_host::boot(shared.clone()));
                let outage = live_through(&shared, &net, days);
                tokio::select! {
                    outage = outage => outage,
                    ended = running => Err(Fault(format!("the box ended: {ended:?}"))),
                }
            })
            .await;
        (shared, outage)
    });
    let outage = outage?;
    let key = VerifierKey::of(shared.log_key.as_ref()).unwrap();
    let Outcome { readings, .. } = checks::check(&shared, &key, |_, _, leaf| Some(leaf))?;
    Ok(Outage { readings, ..outage })
}

async fn live_through(shared: &Shared, net: &Net, days: u32) -> Result<Outage, Fault> {
    tokio::time::sleep(TOGETHER).await;
    net.set_shape(CUT);
    let before = net.counts().0.offered_bytes;
    tokio::time::sleep(DAY * days).await;
    let calls_bytes = net.counts().0.offered_bytes - before;
    let queued = shared.queued.lock().unwrap().unwrap_or(0);
    net.set_shape(MOBILE);
    let healed = tokio::time::Instant::now();
    let left = || shared.queued.lock().unwrap().unwrap_or(u64::MAX);
    while left() > 0 {
        if healed.elapsed() > DRAIN_MAX {
            return Err(Fault(format!("does not drain: {} of {queued} batches are left", left())));
        }
        tokio::time::sleep(LOOK).await;
    }
    let drained_in = healed.elapsed();
    tokio::time::sleep(Duration::from_millis(PAUSE_MS_MAX)).await;
    if !shared.ledger.lock().unwrap().is_done || left() > 0 {
        return Err(Fault("what came last did not arrive".to_owned()));
    }
    tokio::time::sleep(LAST_WORDS).await;
    Ok(Outage { readings: 0, queued, drained_in, calls_bytes })
}
