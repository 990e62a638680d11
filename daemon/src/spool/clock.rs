//! The time of day, from a clock that never goes back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The wall clock as it was once, and a monotonic clock since: what is due is due by both, and a
/// clock that is set does not make a backlog of days due at once.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_ms: u64,
}

impl Clock {
    /// The clock of this moment.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), started_ms: millis(SystemTime::now()) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.started_ms + in_millis(self.started.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds since 1970; 0 before.
#[must_use]
pub fn millis(time: SystemTime) -> u64 {
    in_millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Milliseconds of a time.
#[must_use]
pub fn in_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
