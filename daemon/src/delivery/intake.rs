//! What every mode does first: a place in the queue for a mail, and its requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::request::{Prepared, prepare, workers};
use super::{Answer, Incoming};

/// The bounds on mails that wait and on mails that are being read.
#[derive(Debug)]
pub struct Intake {
    queue: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    attachment_bytes_max: usize,
}

impl Intake {
    /// An intake for up to `messages_max` mails that wait for a delivery slot.
    #[must_use]
    pub fn new(messages_max: u32, attachment_bytes_max: usize) -> Self {
        Self {
            queue: Arc::new(Semaphore::new(usize::try_from(messages_max).unwrap_or(Semaphore::MAX_PERMITS))),
            workers: workers(),
            attachment_bytes_max,
        }
    }

    /// The requests of a mail, one for each of its destinations, each with a place in the queue.
    /// All of them or none: no destination gets a mail that another had no place for.
    ///
    /// # Errors
    /// The answer to a mail that must not, or cannot now, be delivered.
    pub(super) async fn take(
        &self,
        incoming: Incoming,
    ) -> Result<Vec<(Prepared, OwnedSemaphorePermit)>, Answer> {
        let mut places = self.places(incoming.destinations.len()).ok_or(Answer::QueueFull)?;
        let prepared = prepare(incoming, self.attachment_bytes_max, &self.workers).await?;
        prepared.into_iter().map(|request| Ok((request, places.split(1).ok_or(Answer::QueueFull)?))).collect()
    }

    fn places(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).ok()?;
        Arc::clone(&self.queue).try_acquire_many_owned(count).ok()
    }
}
