//! How long batches take that are made while the backlog of their own contract drains.

use crate::checks::{self, Came};
use crate::medium::Medium;
use crate::world::{Breakage, Fault, Habit, Shared};
use crate::{box_host, space_host};
use guan_evidence::{Leaf, LeafBody, VerifierKey};
use guan_line::{Net, SPACE, Shape, in_virtual_time};
use guan_log::LogReader;
use guan_model::Digest;
use guan_space::store::read_leaves;
use std::collections::BTreeMap;
use std::time::Duration;

const TOGETHER: Duration = Duration::from_secs(60);
const OUTAGE: Duration = Duration::from_secs(3600);
/// With the quarter of an hour after which the box calls again at the latest.
const AFTER: Duration = Duration::from_secs(1500);
const PAUSE_MS_MAX: u64 = 1000;
const LAST_WORDS: Duration = Duration::from_secs(5);
const SLOW: Shape = Shape {
    rate_bits_per_s: 64_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 0,
    queue_bytes: 16 << 10,
};
const CUT: Shape = Shape { loss_permille: 1000, ..SLOW };

/// What came to be.
#[derive(Debug)]
pub(crate) struct Overtaking {
    /// Batches that were made while the backlog drained.
    pub(crate) during: usize,
    /// From their commit at the box to the commit at the space.
    pub(crate) median: Duration,
    pub(crate) worst: Duration,
    pub(crate) drained_in: Duration,
    pub(crate) overtaking: u64,
}

/// One contract, through an outage and its end.
pub(crate) fn run(live_after: Option<Duration>) -> Result<Overtaking, Fault> {
    let workload = TOGETHER + OUTAGE + AFTER;
    let habit = Habit { workload, pause_ms_max: PAUSE_MS_MAX, burst_max: 1, live_after };
    let shared = in_virtual_time(async {
        let net = Net::new(SLOW, 1, SPACE);
        let medium = Medium::Line { net: net.clone(), started: tokio::time::Instant::now() };
        let shared = Shared::new(1, Breakage::None, medium, habit);
        let local = tokio::task::LocalSet::new();
        let lived = local.run_until(async {
            tokio::task::spawn_local(space_host::boot(shared.clone()));
            let running = tokio::task::spawn_local(box_host::boot(shared.clone()));
            tokio::select! {
                () = live_through(&shared, &net) => Ok(()),
                ended = running => Err(Fault(format!("the box ended: {ended:?}"))),
            }
        });
        lived.await.map(|()| shared)
    })?;
    let key = VerifierKey::of(shared.log_key.as_ref()).unwrap();
    let outcome = checks::check(&shared, &key, |_, _, leaf| Some(leaf))?;
    let overtaking = judge(&checks::came(&shared), &stored_at(&shared));
    Ok(Overtaking { overtaking: outcome.overtaking, ..overtaking })
}

async fn live_through(shared: &Shared, net: &Net) {
    tokio::time::sleep(TOGETHER).await;
    net.set_shape(CUT);
    tokio::time::sleep(OUTAGE).await;
    net.set_shape(SLOW);
    tokio::time::sleep(AFTER).await;
    let is_done =
        || shared.ledger.lock().unwrap().is_done && *shared.queued.lock().unwrap() == Some(0);
    while !is_done() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(LAST_WORDS).await;
}

/// When the space committed each batch. Both clocks began with the world.
fn stored_at(shared: &Shared) -> BTreeMap<Digest, Duration> {
    let journal = read_leaves(&shared.space_disk, shared.space_disk.clone()).unwrap();
    let reader = LogReader::open(shared.space_disk.clone(), None, journal).unwrap();
    let mut times = BTreeMap::new();
    let read = reader.for_each(&mut |_, bytes| {
        let leaf = Leaf::decode(bytes).unwrap();
        if let LeafBody::Received(one) = leaf.body {
            times.insert(one.batch, leaf.monotonic);
        }
    });
    read.unwrap();
    times
}

fn judge(came: &[Came], stored_at: &BTreeMap<Digest, Duration>) -> Overtaking {
    let arrived = |one: &Came| stored_at[&one.batch];
    let healed = TOGETHER + OUTAGE;
    let again = came.iter().map(arrived).filter(|at| *at > healed).min().unwrap();
    let backlog = came.iter().filter(|one| one.committed < again);
    let drained = backlog.map(arrived).max().unwrap();
    let during = came.iter().filter(|one| (again..drained).contains(&one.committed));
    let mut took: Vec<Duration> =
        during.map(|one| arrived(one).saturating_sub(one.committed)).collect();
    took.sort();
    Overtaking {
        during: took.len(),
        median: took.get(took.len() / 2).copied().unwrap_or_default(),
        worst: took.last().copied().unwrap_or_default(),
        drained_in: drained - again,
        overtaking: 0,
    }
}
