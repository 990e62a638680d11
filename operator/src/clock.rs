//! The clock by which leadership is decided.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment, as the time since the machine started. Nobody sets this clock, and unlike that of `Instant` it goes on
/// while the machine sleeps: who wakes up has lost his Lease.
pub type SinceBoot = Duration;

/// Now.
pub fn now() -> SinceBoot {
    let time = clock_gettime(ClockId::Boottime);
    // It is never negative, and less than a second's worth of nanoseconds.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let before = now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(now() >= before + Duration::from_millis(2));
    }
}
