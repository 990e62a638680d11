//! Mails on their way to a destination: each waits for a delivery slot, and is delivered then.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::message::id::MailId;
use crate::metrics::Queued;
use crate::routes::Route;
use crate::webhook::client::Request;
use crate::webhook::destination::Delivery;
use crate::webhook::retry::Terms;

use super::intake::{Intake, Place, Taken};
use super::request::Prepared;
use super::{Answer, Incoming};

/// All mails of a mode that are on their way, a task for each and each of its destinations.
#[derive(Debug)]
pub(super) struct Journeys {
    intake: Intake,
    tasks: TaskTracker,
    /// Cancelled when those under way are given up.
    stop: CancellationToken,
}

/// One mail on its way to one destination.
pub(super) struct Journey {
    pub(super) id: MailId,
    route: Arc<Route>,
    request: Request,
    began_at: Instant,
    place: Place,
    queued: Queued,
    stop: CancellationToken,
}

/// How a journey ended.
pub(super) enum End {
    /// With what became of the delivery.
    Of(Delivery),
    /// There was no time for a delivery, or for all of it.
    NoTime,
    /// The delivery panicked.
    Defect,
}

impl Journeys {
    pub(super) fn new(intake: Intake) -> Self {
        Self { intake, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// What lets mails in.
    pub(super) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Takes a mail in: one journey to each of its destinations, in their order.
    ///
    /// # Errors
    /// The answer to a mail that must not, or cannot now, be delivered.
    pub(super) async fn begin(&self, incoming: Incoming) -> Result<Vec<Journey>, Answer> {
        let id = incoming.mail.id;
        let taken = self.intake.take(incoming).await?;
        let began_at = Instant::now();
        let begin = |Taken { prepared: Prepared { route, mut request, memory }, place, memory_share }| {
            let queued = route.destination.metrics().queued(request.body.len());
            request.hold((memory, memory_share));
            Journey { id, route, request, began_at, place, queued, stop: self.stop.clone() }
        };
        Ok(taken.into_iter().map(begin).collect())
    }

    /// Runs what takes a journey to its end.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Lets journeys come to their end until `grace` is over, then gives up what is left.
    pub(super) async fn finish(&self, grace: impl Future<Output = ()>) {
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

impl Journey {
    /// Takes the mail to its end. By then all that it took of the queue is given back, and what it took of memory with
    /// the last that is sent of it.
    pub(super) async fn end(self, terms: Terms) -> (Arc<Route>, End) {
        let Self { id, route, request, began_at, place, mut queued, stop } = self;
        let destination = &route.destination;
        let too_late = async {
            match terms {
                Terms::Insist | Terms::Patient => std::future::pending().await,
                Terms::Until(until) => sleep_until(until.into()).await,
            }
        };
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = too_late => None,
            slot = destination.slot() => slot,
        };
        drop(place);
        queued.leaves_the_queue();
        let end = match &slot {
            None => End::NoTime,
            // Boxed, so that a mail that only waits does not hold the room of an HTTP request.
            Some(_) => tokio::select! {
                biased;
                () = stop.cancelled() => End::NoTime,
                delivery = AssertUnwindSafe(Box::pin(destination.deliver(id, &request, terms))).catch_unwind() => {
                    delivery.map_or(End::Defect, End::Of)
                }
            },
        };
        drop((slot, queued, request));
        if matches!(end, End::Of(Delivery::Delivered)) {
            destination.metrics().delivered_after(began_at.elapsed().as_secs_f64());
        }
        (route, end)
    }
}
