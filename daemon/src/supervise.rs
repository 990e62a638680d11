//! Keeps a task running, and gives up on one that keeps failing.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use tracing::{Instrument, error, info_span};

/// Failures within [`FAILURE_WINDOW`] after which a task is given up.
const FAILURES_MAX: usize = 5;
/// How long a failure counts.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// A task failed too often to be started again.
#[derive(Debug, thiserror::Error)]
#[error("the {0} task failed {FAILURES_MAX} times within a minute; the log has each failure")]
pub struct GaveUp(&'static str);

/// The failures that still count.
#[derive(Debug, Default)]
struct Failures(VecDeque<Instant>);

impl Failures {
    /// Notes a failure; `true` when there are too many.
    fn record(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|failure| now.duration_since(*failure) >= FAILURE_WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() >= FAILURES_MAX
    }
}

/// Runs what `start` makes, in a task of its own, and starts it again when it fails or panics.
/// Returns once it ends without an error.
///
/// # Errors
/// [`GaveUp`] after five failures in a minute.
pub(crate) async fn supervise<F>(name: &'static str, mut start: impl FnMut() -> F) -> Result<(), GaveUp>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut failures = Failures::default();
    loop {
        match tokio::spawn(start().instrument(info_span!("task", name))).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error!(task = name, %error, "task failed and is started again"),
            Err(error) => error!(task = name, %error, "task panicked and is started again"),
        }
        if failures.record(tokio::time::Instant::now().into_std()) {
            return Err(GaveUp(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn only_failures_of_the_last_minute_count() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for seconds in [0, 20, 40, 59, 60, 80] {
            assert!(!failures.record(start + Duration::from_secs(seconds)), "{seconds}");
        }
        assert!(failures.record(start + Duration::from_secs(81)));
    }

    #[tokio::test]
    async fn a_task_that_panics_or_fails_is_started_again_and_finally_given_up() {
        let starts = Arc::new(AtomicUsize::new(0));
        let result = supervise("flaky", || {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            async move {
                match start {
                    0 => panic!("a defect"),
                    1 => Err(io::ErrorKind::Other.into()),
                    _ => Ok(()),
                }
            }
        });
        assert!(result.await.is_ok());
        assert_eq!(starts.load(Ordering::Relaxed), 3);

        let starts = Arc::new(AtomicUsize::new(0));
        let result = supervise("broken", || {
            starts.fetch_add(1, Ordering::Relaxed);
            async { Err(io::ErrorKind::Other.into()) }
        });
        assert!(result.await.is_err());
        assert_eq!(starts.load(Ordering::Relaxed), FAILURES_MAX);
    }
}
