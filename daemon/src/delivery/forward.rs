//! `forward`: the sender is answered once the mail waits in memory, and what cannot be delivered
//! is dropped, with a record for each mail.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::memory::Reservation;
use crate::message::id::MailId;
use crate::metrics::MessageOutcome;
use crate::routes::Route;
use crate::webhook::LOG_TARGET;
use crate::webhook::client::Request;
use crate::webhook::destination;

use super::request::{Prepared, prepare};
use super::{Answer, Incoming};

/// The queue of `forward`: a task for each mail that waits for a delivery slot or is delivered.
#[derive(Debug)]
pub struct Forward {
    queue: Arc<Semaphore>,
    /// Mails that are read and written at the same time: more than the host has processors would
    /// only take each other's memory.
    workers: Arc<Semaphore>,
    attachment_bytes_max: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
    totals: Arc<Totals>,
}

/// What became of all mails; one mail counts once for each of its destinations.
#[derive(Debug, Default)]
pub struct Totals {
    forwarded: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Totals {
    /// Mails that the webhook has, mails whose attempts all failed, and mails that were dropped.
    #[must_use]
    pub fn snapshot(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.forwarded), load(&self.failed), load(&self.dropped))
    }
}

/// One mail on its way to one destination.
struct Queued {
    id: MailId,
    route: Arc<Route>,
    request: Request,
    accepted_at: Instant,
    memory: Reservation,
    place: OwnedSemaphorePermit,
}

impl Forward {
    /// A queue for up to `messages_max` mails that wait for a delivery slot.
    #[must_use]
    pub fn new(messages_max: u32, attachment_bytes_max: usize) -> Self {
        Self {
            queue: Arc::new(Semaphore::new(usize::try_from(messages_max).unwrap_or(Semaphore::MAX_PERMITS))),
            workers: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            attachment_bytes_max,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            totals: Arc::default(),
        }
    }

    /// What became of the mails so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) async fn accept(&self, incoming: Incoming) -> Answer {
        let id = incoming.mail.id;
        let Some(mut places) = self.places(incoming.destinations.len()) else {
            return Answer::QueueFull;
        };
        let prepared = match prepare(incoming, self.attachment_bytes_max, &self.workers).await {
            Ok(prepared) => prepared,
            Err(answer) => return answer,
        };
        let accepted_at = Instant::now();
        for Prepared { route, request, memory } in prepared {
            let Some(place) = places.split(1) else {
                return Answer::QueueFull;
            };
            self.spawn(Queued { id, route, request, accepted_at, memory, place });
        }
        Answer::Accepted(id)
    }

    /// Delivers what waits until `grace` is over, then drops what is left.
    pub async fn finish(&self, grace: impl Future<Output = ()>) {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = grace => {
                self.stop.cancel();
                self.tasks.wait().await;
            }
        }
    }

    /// Logs what became of all mails.
    pub fn log_totals(&self) {
        let (forwarded, failed, dropped) = self.totals.snapshot();
        info!(target: LOG_TARGET, forwarded, failed, dropped, "deliveries ended");
    }

    /// All places that a mail needs, or none: no destination gets a mail that another refused.
    fn places(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(count).ok()?;
        Arc::clone(&self.queue).try_acquire_many_owned(count).ok()
    }

    fn spawn(&self, queued: Queued) {
        let metrics = queued.route.destination.metrics();
        metrics.queue_messages().inc();
        metrics.queue_bytes().inc_by(gauge(queued.request.body.len()));
        let (totals, stop) = (Arc::clone(&self.totals), self.stop.clone());
        self.tasks.spawn(deliver(queued, totals, stop));
    }
}

/// What became of one mail at one destination.
enum End {
    Of(destination::Delivery),
    Shutdown,
    Defect,
}

/// Takes one mail to its end, which is recorded exactly once.
async fn deliver(queued: Queued, totals: Arc<Totals>, stop: CancellationToken) {
    let Queued { id, route, request, accepted_at, memory, place } = queued;
    let destination = &route.destination;
    let metrics = destination.metrics();
    let slot = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        slot = destination.slot() => slot,
    };
    drop(place);
    metrics.queue_messages().dec();
    let end = match &slot {
        None => End::Shutdown,
        // Boxed, so that a mail that only waits does not hold the room of an HTTP request.
        Some(_) => tokio::select! {
            biased;
            () = stop.cancelled() => End::Shutdown,
            delivery = AssertUnwindSafe(Box::pin(destination.deliver(id, &request))).catch_unwind() => {
                delivery.map_or(End::Defect, End::Of)
            }
        },
    };
    drop(slot);
    metrics.queue_bytes().dec_by(gauge(request.body.len()));
    drop(memory);
    let route = destination.route();
    let (outcome, total) = match end {
        End::Of(destination::Delivery::Delivered) => {
            metrics.delivered_after(accepted_at.elapsed().as_secs_f64());
            (MessageOutcome::Forwarded, &totals.forwarded)
        }
        End::Of(destination::Delivery::Failed) => (MessageOutcome::Failed, &totals.failed),
        End::Of(destination::Delivery::CircuitOpen) => {
            warn!(target: LOG_TARGET, %id, route, "mail dropped: the circuit is open");
            (MessageOutcome::Dropped, &totals.dropped)
        }
        End::Shutdown => {
            warn!(target: LOG_TARGET, %id, route, "mail dropped: not delivered before the shutdown");
            (MessageOutcome::Dropped, &totals.dropped)
        }
        End::Defect => {
            error!(target: LOG_TARGET, %id, route, "mail dropped: its delivery panicked, which is a defect");
            (MessageOutcome::Dropped, &totals.dropped)
        }
    };
    metrics.message(outcome);
    total.fetch_add(1, Ordering::Relaxed);
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
