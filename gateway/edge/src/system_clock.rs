//! The only reader of the system's clocks in this program.

use guan_model::{Clock, ClockQuality, Now, WallTime};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Source of `now` for the engine. A simulator brings its own.
pub trait TimeSource: Send + 'static {
    fn now(&mut self) -> Now;
    /// This moment is on disk: time may not fall behind it any more.
    fn handle_durable(&mut self, now: Now);
}

/// The clocks of the operating system, guarded by [`Clock`].
#[derive(Debug)]
pub struct SystemClock {
    clock: Clock,
    started: Instant,
}

impl SystemClock {
    /// `last_durable` is the newest moment found in the spool.
    pub fn new(last_durable: Option<WallTime>) -> Self {
        Self { clock: Clock::new(last_durable, Duration::ZERO), started: Instant::now() }
    }
}

/// One clock for all tasks, so that no two of them disagree about what time it is.
#[derive(Debug, Clone)]
pub struct SharedClock(Arc<Mutex<SystemClock>>);

impl SharedClock {
    pub fn new(clock: SystemClock) -> Self {
        Self(Arc::new(Mutex::new(clock)))
    }

    /// The moment as the box knows it.
    pub fn read(&self) -> Now {
        let mut guarded = self.0.lock().expect("nobody panics while holding it");
        let monotonic = guarded.started.elapsed();
        guarded.clock.observe(wall_time(), monotonic)
    }

    pub fn quality(&self) -> ClockQuality {
        self.read().quality
    }
}

impl TimeSource for SharedClock {
    fn now(&mut self) -> Now {
        self.read()
    }

    fn handle_durable(&mut self, now: Now) {
        self.0.lock().expect("nobody panics while holding it").clock.handle_durable(now);
    }
}

/// What the system's wall clock says, unguarded.
pub fn wall_time() -> WallTime {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    };
    WallTime(nanos)
}
