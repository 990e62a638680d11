//! What every mode does first: a place in the queue for a mail, and its requests.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::webhook::destination::Destination;
use crate::webhook::share::{Held, Share};

use super::request::{Prepared, prepare, workers};
use super::{Answer, Incoming};

/// The bounds on mails that wait and on mails that are being read.
#[derive(Debug)]
pub struct Intake {
    queue: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    attachment_bytes_max: usize,
    /// Whether a destination has to leave others something of the queue and of the memory.
    is_shared: bool,
}

/// A place in the queue; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// A request that has a place, and its share of the memory.
pub(super) struct Taken {
    pub(super) prepared: Prepared,
    pub(super) place: Place,
    pub(super) memory_share: Option<Share>,
}

impl Intake {
    /// An intake for up to `messages_max` mails that wait for a delivery slot; `is_shared` by
    /// destinations that do not know each other.
    #[must_use]
    pub fn new(messages_max: u32, attachment_bytes_max: usize, is_shared: bool) -> Self {
        Self {
            queue: Arc::new(Semaphore::new(usize::try_from(messages_max).unwrap_or(Semaphore::MAX_PERMITS))),
            workers: workers(),
            attachment_bytes_max,
            is_shared,
        }
    }

    /// The requests of a mail, one for each of its destinations, each with a place in the queue.
    /// All of them or none: no destination gets a mail that another had no place for.
    ///
    /// # Errors
    /// The answer to a mail that must not, or cannot now, be delivered.
    pub(super) async fn take(&self, incoming: Incoming) -> Result<Vec<Taken>, Answer> {
        let places: Option<Vec<Place>> =
            incoming.destinations.iter().map(|(route, _)| self.place(&route.destination)).collect();
        let places = places.ok_or(Answer::QueueFull)?;
        let prepared = prepare(incoming, self.attachment_bytes_max, &self.workers).await?;
        let taken = prepared.into_iter().zip(places).map(|(prepared, place)| {
            let (held, memory) = (prepared.route.destination.held_bytes(), &prepared.memory);
            let memory_share = self.share(held, memory.bytes(), memory.free_for_deliveries())?;
            Some(Taken { prepared, place, memory_share })
        });
        taken.collect::<Option<_>>().ok_or(Answer::QueueFull)
    }

    /// Whether a destination may have another mail, if that is small.
    pub(super) fn has_share_for(&self, destination: &Destination, memory_free_bytes: usize) -> bool {
        let has = |held: &Held, free| !self.is_shared || held.is_below(free);
        has(destination.held_places(), self.queue.available_permits())
            && has(destination.held_bytes(), memory_free_bytes)
    }

    fn place(&self, destination: &Destination) -> Option<Place> {
        let share = self.share(destination.held_places(), 1, self.queue.available_permits())?;
        let permit = Arc::clone(&self.queue).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, _share: share })
    }

    /// A share where there are others; `None` when there is none left.
    fn share(&self, held: &Held, amount: usize, free: usize) -> Option<Option<Share>> {
        if self.is_shared { held.take(amount, free).map(Some) } else { Some(None) }
    }
}
