//! One thread that owns the TPM's context: a TPM does one thing at a time, and a context that several
//! threads share answers "bad sequence" for ever.

use super::chip::Chip;
use super::fault::TpmFault;
use super::tcti::Tcti;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Requests that may wait for the TPM.
pub const QUEUE_MAX: usize = 64;
/// Longest wait for an answer, others' requests before it included.
pub const CALL_WAIT: Duration = Duration::from_secs(30);
/// A request that runs longer hangs: the program should be restarted.
pub const HANG_AFTER: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a busy TPM is asked again.
const BUSY_TRIES: u32 = 8;
/// How often the context is made anew for one request.
const REBUILDS: u32 = 1;
const IDLE: u64 = u64::MAX;

/// How the TPM is reached, and where its wrapped keys lie.
#[derive(Debug, Clone)]
pub struct TpmOptions {
    pub tcti: Tcti,
    /// Folder of the wrapped keys: useless without this TPM.
    pub folder: PathBuf,
    /// Added to each request, for tests and benchmarks of slow chips.
    pub added_delay: Duration,
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A TPM behind its thread. Cloning shares it.
#[derive(Clone)]
pub struct Tpm {
    jobs: SyncSender<Job>,
    health: Arc<Health>,
}

struct Health {
    started: Instant,
    /// Milliseconds after `started` at which the running request began, or `IDLE`.
    busy_since_ms: AtomicU64,
    rebuilds: AtomicU64,
}

struct Worker {
    options: TpmOptions,
    chip: Option<Chip>,
    health: Arc<Health>,
}

impl Tpm {
    /// Starts the thread. The TPM is opened at the first request, so that a box without it collects on.
    pub fn start(options: TpmOptions) -> Result<Self, TpmFault> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let health = Arc::new(Health {
            started: Instant::now(),
            busy_since_ms: AtomicU64::new(IDLE),
            rebuilds: AtomicU64::new(0),
        });
        let worker = Worker { options, chip: None, health: health.clone() };
        let spawned =
            thread::Builder::new().name("tpm".to_owned()).spawn(move || worker.run(queue));
        spawned.map_err(|fault| TpmFault::Folder { detail: fault.to_string() })?;
        Ok(Self { jobs, health })
    }

    /// Asks the TPM and waits. Blocks: asynchronous callers go through `block_in_place`.
    ///
    /// `ask` may run again after the context was rebuilt.
    pub fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnMut(&mut Chip) -> Result<T, TpmFault> + Send + 'static,
    ) -> Result<T, TpmFault> {
        self.call_within(CALL_WAIT, what, ask)
    }

    /// As [`call`](Self::call), with a limit of the caller's own.
    pub fn call_within<T: Send + 'static>(
        &self,
        limit: Duration,
        what: &'static str,
        ask: impl FnMut(&mut Chip) -> Result<T, TpmFault> + Send + 'static,
    ) -> Result<T, TpmFault> {
        let (reply, answer) = sync_channel(1);
        let job = Box::new(move |worker: &mut Worker| {
            // The caller may have given up.
            let _ = reply.send(worker.attempt(ask));
        });
        self.jobs.try_send(job).map_err(|fault| match fault {
            TrySendError::Full(_) => TpmFault::Full { limit: QUEUE_MAX },
            TrySendError::Disconnected(_) => TpmFault::Slow { what, limit: Duration::ZERO },
        })?;
        match answer.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(TpmFault::Slow { what, limit })
            }
        }
    }

    /// Whether a request has been running for longer than [`HANG_AFTER`].
    pub fn is_hung(&self) -> bool {
        let since = self.health.busy_since_ms.load(Ordering::Relaxed);
        let limit = u128::from(since) + HANG_AFTER.as_millis();
        since != IDLE && self.health.started.elapsed().as_millis() > limit
    }

    /// How often the context had to be made anew.
    pub fn rebuilds(&self) -> u64 {
        self.health.rebuilds.load(Ordering::Relaxed)
    }
}

impl Worker {
    fn run(mut self, queue: Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            let since =
                u64::try_from(self.health.started.elapsed().as_millis()).unwrap_or(IDLE - 1);
            self.health.busy_since_ms.store(since, Ordering::Relaxed);
            thread::sleep(self.options.added_delay);
            job(&mut self);
            self.health.busy_since_ms.store(IDLE, Ordering::Relaxed);
        }
    }

    fn attempt<T>(
        &mut self,
        mut ask: impl FnMut(&mut Chip) -> Result<T, TpmFault>,
    ) -> Result<T, TpmFault> {
        let (mut rebuilds, mut tries, mut wait) = (0, 0, BACKOFF_MIN);
        loop {
            let outcome = self.chip().and_then(&mut ask);
            let Err(fault) = outcome else { return outcome };
            if fault.ends_context() && rebuilds < REBUILDS {
                rebuilds += 1;
                tracing::warn!(%fault, "the TPM's context is made anew");
                self.health.rebuilds.fetch_add(1, Ordering::Relaxed);
                self.chip = None;
            } else if fault.may_pass() && tries < BUSY_TRIES {
                tries += 1;
                // A new context gives back all objects and sessions that we hold.
                self.chip = None;
                thread::sleep(wait);
                wait = (wait * 2).min(BACKOFF_MAX);
            } else {
                if fault.ends_context() {
                    self.chip = None;
                }
                return Err(fault);
            }
        }
    }

    fn chip(&mut self) -> Result<&mut Chip, TpmFault> {
        if self.chip.is_none() {
            self.chip = Some(Chip::open(&self.options.tcti, self.options.folder.clone())?);
        }
        Ok(self.chip.as_mut().expect("it was just opened"))
    }
}
