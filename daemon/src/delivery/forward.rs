//! `forward`: the sender is answered once the mail waits in memory, and what cannot be delivered
//! is dropped, with a record for each mail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{error, warn};

use crate::metrics::MessageOutcome;
use crate::turn::after_others;
use crate::webhook::LOG_TARGET;
use crate::webhook::destination::Delivery;
use crate::webhook::retry::Terms;

use super::intake::Intake;
use super::journey::{End, Journey, Journeys};
use super::totals::Totals;
use super::{Answer, Incoming};

/// The queue of `forward`.
#[derive(Debug)]
pub struct Forward {
    journeys: Journeys,
    totals: Arc<Totals>,
}

impl Forward {
    /// A queue of what `intake` lets in.
    #[must_use]
    pub fn new(intake: Intake) -> Self {
        Self { journeys: Journeys::new(intake), totals: Arc::default() }
    }

    /// What became of the mails so far.
    #[must_use]
    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn intake(&self) -> &Intake {
        self.journeys.intake()
    }

    pub(super) async fn accept(&self, incoming: Incoming) -> Answer {
        let id = incoming.mail.id;
        let begun = match self.journeys.begin(incoming).await {
            Ok(begun) => begun,
            Err(answer) => return answer,
        };
        for journey in begun {
            self.journeys.spawn(deliver(journey, Arc::clone(&self.totals)));
        }
        // The mail is on its way before its sender is answered and the log is written.
        after_others().await;
        Answer::Accepted(id)
    }

    /// Delivers what waits until `grace` is over, then drops what is left.
    pub async fn finish(&self, grace: impl Future<Output = ()>) {
        self.journeys.finish(grace).await;
    }
}

/// Takes one mail to its end, which is recorded exactly once.
async fn deliver(journey: Journey, totals: Arc<Totals>) {
    let id = journey.id;
    let (route, end) = journey.end(Terms::Insist).await;
    let metrics = route.destination.metrics();
    let route = route.destination.route();
    let (outcome, total) = match end {
        End::Of(Delivery::Delivered) => (MessageOutcome::Forwarded, &totals.forwarded),
        End::Of(Delivery::Failed { .. } | Delivery::Refused(_)) => (MessageOutcome::Failed, &totals.failed),
        End::Of(Delivery::CircuitOpen) => {
            warn!(target: LOG_TARGET, %id, route, "mail dropped: the circuit is open");
            (MessageOutcome::Dropped, &totals.dropped)
        }
        End::NoTime => {
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
