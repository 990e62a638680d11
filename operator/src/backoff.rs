//! How long to wait. Pure but for [`random`]: the random part is an argument.

use std::time::Duration;

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// 2^6 s is beyond `RETRY_MAX`.
const DOUBLINGS_MAX: u32 = 6;
/// A watch is one request, and while there is none nothing is noticed.
const WATCH_MAX: Duration = Duration::from_secs(15);
/// When all is well: often enough to mend what a lost event left, too seldom to be noticed.
const RESYNC: Duration = Duration::from_secs(600);
/// When someone else's object is in the way, of which there are no events. Within a minute, jitter included.
const LOOK_AGAIN: Duration = Duration::from_secs(45);

/// The wait before try number `failures` + 1, of an object that failed `failures` times in a row. `random`
/// is from 0 to 1 and takes up to half of the wait away, so that many do not come back at once.
pub(crate) fn after_failure(failures: u32, random: f64) -> Duration {
    let full = RETRY_MIN * 2_u32.pow(failures.saturating_sub(1).min(DOUBLINGS_MAX));
    full.min(RETRY_MAX).mul_f64(1.0 - random / 2.0)
}

/// The wait before a watch is tried again that was interrupted `failures` times in a row.
pub(crate) fn after_interruption(failures: u32, random: f64) -> Duration {
    after_failure(failures, random).min(WATCH_MAX)
}

/// The wait when all is well.
pub(crate) fn resync(random: f64) -> Duration {
    RESYNC.mul_f64(0.8 + 0.4 * random)
}

/// The wait when something is in the way that tells nobody when it goes.
pub(crate) fn look_again(random: f64) -> Duration {
    LOOK_AGAIN.mul_f64(0.7 + 0.6 * random)
}

/// A number from 0 to 1.
pub(crate) fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_a_minute() {
        let waits: Vec<_> = (1..=8).map(|failures| after_failure(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after_failure(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(after_failure(0, 0.0), Duration::from_secs(1));
        assert_eq!(after_interruption(2, 0.0), Duration::from_secs(2));
        assert_eq!(after_interruption(9, 0.0), WATCH_MAX);
    }

    #[test]
    fn a_conflict_is_looked_at_within_a_minute() {
        for random in [0.0, 0.5, 1.0] {
            assert!(look_again(random) <= Duration::from_secs(60));
            assert!(look_again(random) >= Duration::from_secs(30));
        }
        assert_eq!(resync(0.5), Duration::from_secs(600));
    }
}
