//! Who goes first among tasks.

use std::future::poll_fn;
use std::task::Poll;

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
