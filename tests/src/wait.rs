//! Waiting for a state, never for a duration.

use std::future::Future;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::time::{Instant, sleep};

const PAUSE: Duration = Duration::from_millis(200);

/// Asks until the answer is `Ok`, for at most `limit`.
///
/// An `Err` of `probe` says what there is instead: the last one is in the error that a wait in vain ends with.
///
/// # Errors
/// When the limit is reached first.
pub async fn wait_for<T, F, P>(what: &str, limit: Duration, mut probe: P) -> anyhow::Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    let deadline = Instant::now() + limit;
    let mut last = anyhow!("it was not looked at once");
    loop {
        // A probe that hangs must not outlast the limit.
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last = state,
            Err(_) => bail!(
                "waited {limit:?} in vain for {what}; the last look did not come back, before it: {last:#}"
            ),
        }
        if Instant::now() + PAUSE >= deadline {
            bail!("waited {limit:?} in vain for {what}; last seen: {last:#}");
        }
        sleep(PAUSE).await;
    }
}

/// Looks again and again for the whole `period`: for what must not change, or must not happen.
///
/// # Errors
/// The first error of `probe`.
pub async fn wait_while<F, P>(what: &str, period: Duration, mut probe: P) -> anyhow::Result<()>
where
    P: FnMut() -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(error) = probe().await {
            return Err(error.context(format!("{what}: not so after {:?}", start.elapsed())));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_tells_what_was_seen_last() {
        let mut looks = 0;
        let error = wait_for::<(), _, _>("the moon", Duration::from_secs(1), || {
            looks += 1;
            std::future::ready(Err(anyhow!("look {looks}: clouds")))
        })
        .await
        .expect_err("no moon");
        let message = error.to_string();
        assert!(message.contains("the moon") && message.contains("clouds"), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_ends_at_the_limit() {
        let error = wait_for::<(), _, _>("godot", Duration::from_secs(1), std::future::pending).await;
        assert!(error.is_err());
    }
}
