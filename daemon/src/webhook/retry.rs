//! The fast lane: when a failed attempt is followed by another. Pure.

use std::time::Duration;

/// The delay before the first retry; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How often one delivery is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastLane {
    retries_max: u32,
}

impl FastLane {
    /// Retries of a lane, at most: with ten, the last delay is 51.2 s.
    pub const RETRIES_MAX: u32 = 10;

    /// A lane with up to `retries_max` retries, which is cut to [`Self::RETRIES_MAX`].
    #[must_use]
    pub fn new(retries_max: u32) -> Self {
        Self { retries_max: retries_max.min(Self::RETRIES_MAX) }
    }

    /// The delay after `attempts` failed attempts, or `None` when there is to be no other.
    #[must_use]
    pub fn delay_after(self, attempts: u32) -> Option<Duration> {
        let retry = attempts.max(1);
        (retry <= self.retries_max).then(|| FIRST_DELAY * 2u32.pow(retry - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(retries_max: u32) -> Vec<u128> {
        let lane = FastLane::new(retries_max);
        (1..).map_while(|attempts| lane.delay_after(attempts)).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn delays_double_from_100_ms() {
        assert_eq!(delays(3), [100, 200, 400]);
        assert_eq!(delays(0), [0u128; 0]);
        assert_eq!(delays(10).last(), Some(&51_200));
        assert_eq!(delays(99).len(), 10);
    }
}
