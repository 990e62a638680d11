//! `forward`: the sender is answered once the mail waits in memory, and what cannot be delivered
//! is dropped, with a record for each mail.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::memory::Reservation;
use crate::message::id::MailId;
use crate::metrics::{MessageOutcome, Queued};
use crate::routes::Route;
use crate::webhook::LOG_TARGET;
use crate::webhook::client::Request;
use crate::webhook::destination;
use crate::webhook::retry::Terms;

use super::intake::Intake;
use super::request::Prepared;
use super::totals::Totals;
use super::{Answer, Incoming};

/// The queue of `forward`: a task for each mail that waits for a delivery slot or is delivered.
#[derive(Debug)]
pub struct Forward {
    intake: Intake,
    tasks: TaskTracker,
    stop: CancellationToken,
    totals: Arc<Totals>,
}

/// One mail on its way to one destination.
struct Journey {
    id: MailId,
    route: Arc<Route>,
    request: Request,
    accepted_at: Instant,
    memory: Reservation,
    place: OwnedSemaphorePermit,
    queued: Queued,
}

impl Forward {
    /// A queue of what `intake` lets in.
    #[must_use]
    pub fn new(intake: Intake) -> Self {
        Self { intake, tasks: TaskTracker::new(), stop: CancellationToken::new(), totals: Arc::default() }
    }

    /// What became of the mails so far.
    #[must_use]
    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) async fn accept(&self, incoming: Incoming) -> Answer {
        let id = incoming.mail.id;
        let taken = match self.intake.take(incoming).await {
            Ok(taken) => taken,
            Err(answer) => return answer,
        };
        let accepted_at = Instant::now();
        for (Prepared { route, request, memory }, place) in taken {
            let queued = route.destination.metrics().queued(request.body.len());
            let journey = Journey { id, route, request, accepted_at, memory, place, queued };
            self.tasks.spawn(deliver(journey, Arc::clone(&self.totals), self.stop.clone()));
        }
        after_others().await;
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
}

/// Lets tasks that are ready go first, deliveries that were just begun among them: the mail is on its
/// way before its sender is answered and the log is written. The runtime's own `yield_now` asks the
/// system for more work in between, which takes longer than all of it.
async fn after_others() {
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

/// What became of one mail at one destination.
enum End {
    Of(destination::Delivery),
    Shutdown,
    Defect,
}

/// Takes one mail to its end, which is recorded exactly once.
async fn deliver(journey: Journey, totals: Arc<Totals>, stop: CancellationToken) {
    let Journey { id, route, request, accepted_at, memory, place, mut queued } = journey;
    let destination = &route.destination;
    let metrics = destination.metrics();
    let slot = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        slot = destination.slot() => slot,
    };
    drop(place);
    queued.leaves_the_queue();
    let end = match &slot {
        None => End::Shutdown,
        // Boxed, so that a mail that only waits does not hold the room of an HTTP request.
        Some(_) => tokio::select! {
            biased;
            () = stop.cancelled() => End::Shutdown,
            delivery = AssertUnwindSafe(Box::pin(destination.deliver(id, &request, Terms::Insist))).catch_unwind() => {
                delivery.map_or(End::Defect, End::Of)
            }
        },
    };
    drop((slot, queued, memory));
    let route = destination.route();
    let (outcome, total) = match end {
        End::Of(destination::Delivery::Delivered) => {
            metrics.delivered_after(accepted_at.elapsed().as_secs_f64());
            (MessageOutcome::Forwarded, &totals.forwarded)
        }
        End::Of(destination::Delivery::Failed(_) | destination::Delivery::Refused(_)) => {
            (MessageOutcome::Failed, &totals.failed)
        }
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
