//! The time of day, from a clock that never jumps by itself, and the corrections that were made to it.
//!
//! Due times and lifetimes survive the process, so they are times of day. A computer's clock may be hours wrong, and then
//! be corrected: messages would be tried too late, or be given up all at once. So there is one clock for all of a spool:
//! the wall clock as it was at the start, and a monotonic clock since. When the two diverge, the spool's clock is
//! corrected, and every time that was noted before moves with it ([`Corrections`]): an hour of waiting stays an hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::segment::SegmentId;

/// By how much the wall clock may differ before the spool's clock follows it. Waits are minutes, and a clock that is
/// slewed or a leap second makes less.
const DIVERGENCE_MAX_MS: u64 = 10_000;

/// Corrections that are remembered: a clock that is set every hour has them for a week. The oldest are joined beyond that.
const CORRECTIONS_MAX: usize = 168;

/// The clock of a spool. A clone shows the same time.
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    /// The time of day at the start, corrections included, in milliseconds since 1970.
    started_ms: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that starts with the wall clock's time.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), started_ms: Arc::new(AtomicU64::new(millis(SystemTime::now()))) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.started_ms.load(Ordering::Acquire).saturating_add(in_millis(self.started.elapsed()))
    }

    /// By how many milliseconds the clock has to be corrected to follow the wall clock, if it has to.
    #[must_use]
    pub fn divergence_ms(&self, wall: SystemTime) -> Option<i64> {
        divergence(self.now_ms(), millis(wall))
    }

    /// Corrects the clock, for all clones.
    pub fn correct(&self, by_ms: i64) {
        let corrected = |ms: u64| Some(ms.saturating_add_signed(by_ms));
        // The function always has a result.
        let _ = self.started_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, corrected);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn divergence(now_ms: u64, wall_ms: u64) -> Option<i64> {
    let by_ms = i64::try_from(i128::from(wall_ms) - i128::from(now_ms)).ok()?;
    (by_ms.unsigned_abs() > DIVERGENCE_MAX_MS).then_some(by_ms)
}

/// Corrections of the clock, each with the number of the first segment whose times were noted after it.
///
/// The times in a segment's files are those of the clock when the segment was begun, so a correction is one short line on
/// disk, however many messages wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrections(Vec<(SegmentId, i64)>);

impl Corrections {
    /// Adds a correction; segments from `next` on are written after it.
    pub fn add(&mut self, next: SegmentId, by_ms: i64) {
        self.0.push((next, by_ms));
        if self.0.len() > CORRECTIONS_MAX {
            let (_, oldest) = self.0.remove(0);
            self.0[0].1 = self.0[0].1.saturating_add(oldest);
        }
    }

    /// Forgets corrections that no segment from `oldest` on needs.
    pub fn prune(&mut self, oldest: SegmentId) {
        self.0.retain(|(next, _)| oldest < *next);
    }

    /// By how many milliseconds the times in a segment's files differ from those of the clock now.
    #[must_use]
    pub fn of(&self, segment: SegmentId) -> i64 {
        let later = self.0.iter().filter(|(next, _)| segment < *next);
        later.fold(0, |sum: i64, (_, by_ms)| sum.saturating_add(*by_ms))
    }

    /// The highest number that a correction names: numbers below it must not be used again, or their segments would be
    /// taken for older ones.
    #[must_use]
    pub fn next_segment(&self) -> SegmentId {
        self.0.iter().map(|(next, _)| *next).max().unwrap_or(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_follows_the_wall_clock_only_when_that_is_set() {
        let clock = Clock::new();
        let copy = clock.clone();
        let before = clock.now_ms();
        for (by_seconds, diverges) in [(0, false), (9, false), (-9, false), (11, true), (-7_200, true)] {
            let wall_ms = before.saturating_add_signed(by_seconds * 1_000);
            assert_eq!(divergence(before, wall_ms).is_some(), diverges, "{by_seconds} s");
        }
        clock.correct(-7_200_000);
        assert!(copy.now_ms().abs_diff(before - 7_200_000) < 5_000);
    }

    #[test]
    fn corrections_move_the_times_of_older_segments_alone() {
        let mut corrections = Corrections::default();
        corrections.add(5, 1_000);
        corrections.add(9, -300);
        let of = |corrections: &Corrections| [4, 5, 8, 9].map(|segment| corrections.of(segment));
        assert_eq!(of(&corrections), [700, -300, -300, 0]);
        assert_eq!(corrections.next_segment(), 9);
        corrections.prune(5);
        assert_eq!(of(&corrections)[1..], [-300, -300, 0]);
        corrections.prune(9);
        assert!(corrections.is_empty());
    }

    #[test]
    fn corrections_have_a_bound_and_the_sum_stays() {
        let mut corrections = Corrections::default();
        (0..3 * CORRECTIONS_MAX as u64).for_each(|n| corrections.add(n + 1, 10));
        assert_eq!(corrections.0.len(), CORRECTIONS_MAX);
        assert_eq!(corrections.of(0), 30 * CORRECTIONS_MAX as i64);
    }
}
