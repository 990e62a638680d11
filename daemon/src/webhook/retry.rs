//! The fast lane: when a failed attempt is followed by another. Pure.

use std::time::{Duration, Instant};

use super::outcome::Outcome;

/// The delay before the first retry; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// How often one delivery is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastLane {
    retries_max: u32,
}

/// How the answers of one delivery are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// Every answer but 2xx is a failure like any other.
    Insist,
    /// A permanent refusal ends the delivery, `Retry-After` is heeded, and no attempt begins at
    /// this time or later.
    Until(Instant),
    /// A permanent refusal ends the delivery, and so does a webhook that asks to be left alone: there
    /// will be others.
    Patient,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another attempt, after this delay.
    Retry(Duration),
    /// None: the delivery has failed.
    GiveUp,
    /// None: the webhook will never take this mail.
    Refused,
}

impl FastLane {
    /// Retries of a lane, at most: with ten, the last delay is 51.2 s.
    pub const RETRIES_MAX: u32 = 10;

    /// A lane with up to `retries_max` retries, which is cut to [`Self::RETRIES_MAX`].
    #[must_use]
    pub fn new(retries_max: u32) -> Self {
        Self { retries_max: retries_max.min(Self::RETRIES_MAX) }
    }

    /// What follows the failed attempt number `attempts`, which ended at `now` with `outcome`.
    #[must_use]
    pub fn after(self, outcome: &Outcome, attempts: u32, terms: Terms, now: Instant) -> Step {
        let delay = self.delay_after(attempts);
        let permanent = matches!(outcome, Outcome::Refused(refusal) if refusal.is_permanent());
        match (terms, delay) {
            (Terms::Until(_) | Terms::Patient, _) if permanent => Step::Refused,
            (_, None) => Step::GiveUp,
            (Terms::Insist, Some(delay)) => Step::Retry(delay),
            (Terms::Patient, Some(delay)) => {
                if outcome.retry_after().is_some() {
                    Step::GiveUp
                } else {
                    Step::Retry(delay)
                }
            }
            (Terms::Until(until), Some(delay)) => {
                let delay = delay.max(outcome.retry_after().unwrap_or_default());
                let in_time = now.checked_add(delay).is_some_and(|at| at < until);
                if in_time { Step::Retry(delay) } else { Step::GiveUp }
            }
        }
    }

    /// The delay after `attempts` failed attempts, or `None` when there is to be no other.
    fn delay_after(self, attempts: u32) -> Option<Duration> {
        let retry = attempts.max(1);
        (retry <= self.retries_max).then(|| FIRST_DELAY * 2u32.pow(retry - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::outcome::Refusal;

    fn delays(retries_max: u32) -> Vec<u128> {
        let lane = FastLane::new(retries_max);
        (1..).map_while(|attempts| lane.delay_after(attempts)).map(|delay| delay.as_millis()).collect()
    }

    fn refused(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::of(Refusal { status, retry_after: retry_after.map(Duration::from_secs), problem: None })
    }

    #[test]
    fn delays_double_from_100_ms() {
        assert_eq!(delays(3), [100, 200, 400]);
        assert_eq!(delays(0), [0u128; 0]);
        assert_eq!(delays(10).last(), Some(&51_200));
        assert_eq!(delays(99).len(), 10);
    }

    #[test]
    fn who_insists_retries_whatever_the_answer_is() {
        let (lane, now) = (FastLane::new(1), Instant::now());
        for outcome in [refused(400, None), refused(503, Some(3600)), Outcome::TimedOut] {
            assert_eq!(lane.after(&outcome, 1, Terms::Insist, now), Step::Retry(FIRST_DELAY));
            assert_eq!(lane.after(&outcome, 2, Terms::Insist, now), Step::GiveUp);
        }
    }

    #[test]
    fn within_a_time_refusals_and_retry_after_are_heeded() {
        let (lane, now) = (FastLane::new(3), Instant::now());
        let after = |outcome: Outcome, left| lane.after(&outcome, 1, Terms::Until(now + left), now);
        let left = Duration::from_secs(10);
        assert_eq!(after(refused(400, None), left), Step::Refused);
        assert_eq!(after(refused(400, None), Duration::ZERO), Step::Refused);
        assert_eq!(after(refused(404, None), left), Step::Retry(FIRST_DELAY));
        assert_eq!(after(refused(429, Some(9)), left), Step::Retry(Duration::from_secs(9)));
        assert_eq!(after(refused(429, Some(0)), left), Step::Retry(FIRST_DELAY));
        assert_eq!(after(refused(429, Some(10)), left), Step::GiveUp);
        assert_eq!(after(refused(429, Some(u64::MAX)), left), Step::GiveUp);
        assert_eq!(after(Outcome::TimedOut, FIRST_DELAY), Step::GiveUp);
    }

    #[test]
    fn who_is_patient_heeds_refusals_and_leaves_a_webhook_alone_that_asks_for_it() {
        let (lane, now) = (FastLane::new(1), Instant::now());
        for (outcome, attempts, step) in [
            (refused(422, None), 1, Step::Refused),
            (refused(422, None), 2, Step::Refused),
            (refused(503, None), 1, Step::Retry(FIRST_DELAY)),
            (refused(503, None), 2, Step::GiveUp),
            (refused(503, Some(0)), 1, Step::GiveUp),
            (refused(429, Some(3_600)), 1, Step::GiveUp),
            (Outcome::TimedOut, 1, Step::Retry(FIRST_DELAY)),
        ] {
            assert_eq!(lane.after(&outcome, attempts, Terms::Patient, now), step, "{outcome:?}");
        }
    }
}
