//! The only reader of the system's clocks in this program.

use guan_model::{Clock, Now, WallTime};
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

impl TimeSource for SystemClock {
    fn now(&mut self) -> Now {
        self.clock.observe(wall_time(), self.started.elapsed())
    }

    fn handle_durable(&mut self, now: Now) {
        self.clock.handle_durable(now);
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
