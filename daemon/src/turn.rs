//! Who goes first among tasks.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Lets tasks that are ready go first, those that were just woken among them. The runtime's own
/// `yield_now` asks the system for more work in between, which takes longer than most of it.
pub(crate) async fn after_others() {
    let mut waited = false;
    poll_fn(|task| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Turns for work that thousands of tasks may have to do in the same moment, as when the webhooks that they wait for are
/// given up together: between some of them, all other tasks that are ready go first.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

/// A turn, which ends by [`Turn::end`].
#[derive(Debug)]
pub(crate) struct Turn<'t>(Option<SemaphorePermit<'t>>);

impl Turns {
    /// Turns of so many tasks at once.
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Semaphore::new(at_once))
    }

    /// Waits for a turn.
    pub(crate) async fn begin(&self) -> Turn<'_> {
        // It is never closed.
        Turn(self.0.acquire().await.ok())
    }
}

impl Turn<'_> {
    /// Lets others go first, and then the next.
    pub(crate) async fn end(self) {
        after_others().await;
        drop(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn others_go_first_between_turns() {
        const TASKS: usize = 1_000;
        let (turns, ended, all) =
            (Arc::new(Turns::new(8)), Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (turns, ended, all) = (Arc::clone(&turns), Arc::clone(&ended), all.clone());
                tokio::spawn(async move {
                    all.cancelled().await;
                    let turn = turns.begin().await;
                    ended.fetch_add(1, Ordering::Relaxed);
                    turn.end().await;
                })
            })
            .collect();
        tokio::task::yield_now().await;
        // All of them are ready in the same moment.
        all.cancel();
        let observer = tokio::spawn(async move {
            let mut before = 0;
            while before < TASKS {
                after_others().await;
                let now = ended.load(Ordering::Relaxed);
                // Those that end hand their turns on, in the same pass.
                assert!(now - before <= 2 * 8, "{} turns in one pass", now - before);
                before = now;
            }
        });
        observer.await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
