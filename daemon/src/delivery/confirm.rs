//! `confirm`: the sender is answered with what the webhook says, and keeps the mail until then.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::address::Address;
use crate::metrics::MessageOutcome;
use crate::routes::Route;
use crate::webhook::LOG_TARGET;
use crate::webhook::destination::Delivery;
use crate::webhook::retry::Terms;

use super::intake::Intake;
use super::journey::{End, Journey, Journeys};
use super::recent::{Key, Known, Recent};
use super::totals::Totals;
use super::verdict::{Verdict, worst};
use super::{Answer, Incoming};

const NOT_IN_TIME: &str = "the webhook has not confirmed the mail in time";
const CIRCUIT_OPEN: &str = "the webhook's circuit is open";

/// Deliveries that senders wait for.
#[derive(Debug)]
pub struct Confirm {
    journeys: Journeys,
    timeout: Duration,
    /// Cancelled when no sender is held any more.
    release: CancellationToken,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    recent: Mutex<Recent>,
    totals: Totals,
}

impl Shared {
    /// A panic elsewhere cannot leave it half-changed: it holds no lock across one.
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pair of message and destination that one session delivers. However that ends, the pair is no longer under way then.
struct UnderWay {
    shared: Arc<Shared>,
    key: Key,
    sender: watch::Sender<Option<Verdict>>,
    verdict: Option<Verdict>,
}

impl UnderWay {
    /// Ends it with a verdict, which those that wait for it get.
    fn end(mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
        drop(self);
    }
}

/// A destination whose delivery this session begins.
struct Claimed {
    route: Arc<Route>,
    recipients: Vec<Address>,
    under_way: UnderWay,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.recent().end(&self.key, self.verdict.as_ref());
        self.sender.send_replace(self.verdict.take());
    }
}

impl Confirm {
    /// Holds a sender for up to `timeout`.
    #[must_use]
    pub fn new(intake: Intake, timeout: Duration) -> Self {
        Self {
            journeys: Journeys::new(intake),
            timeout,
            release: CancellationToken::new(),
            shared: Arc::default(),
        }
    }

    /// What became of the mails so far.
    #[must_use]
    pub(super) fn totals(&self) -> &Totals {
        &self.shared.totals
    }

    pub(super) fn intake(&self) -> &Intake {
        self.journeys.intake()
    }

    /// Dropping the future means that the sender has gone: what its mail comes to is remembered
    /// for the retry.
    pub(super) async fn accept(&self, incoming: Incoming) -> Answer {
        let id = incoming.mail.id;
        let keys: Vec<Key> =
            incoming.destinations.iter().map(|(route, _)| route.idempotency_key(id)).collect();
        let until = Instant::now() + self.timeout;
        let pending = match self.begin(incoming, &keys, until).await {
            Ok(pending) => pending,
            Err(answer) => return answer,
        };
        let answer = worst(id, join_all(pending.into_iter().map(|known| self.hear(known, until))).await);
        if !matches!(answer, Answer::Deferred(_)) {
            let mut recent = self.shared.recent();
            keys.iter().for_each(|key| recent.forget(key));
        }
        answer
    }

    /// Answers no later than now: senders are not held any more.
    pub fn release(&self) {
        self.release.cancel();
    }

    /// Lets deliveries under way come to their end until `grace` is over.
    pub async fn finish(&self, grace: impl Future<Output = ()>) {
        self.journeys.finish(grace).await;
    }

    /// Begins to deliver to those destinations of which nothing is known; returns what is known of all of them then.
    ///
    /// # Errors
    /// The answer to a message that is not delivered now. Its destinations are counted by then: those whose verdict is known
    /// were counted with it.
    async fn begin(
        &self,
        mut incoming: Incoming,
        keys: &[Key],
        until: Instant,
    ) -> Result<Vec<Known>, Answer> {
        let (mut known, claimed) = self.claim(std::mem::take(&mut incoming.destinations), keys);
        if claimed.is_empty() {
            return Ok(known);
        }
        let id = incoming.mail.id;
        // Nobody goes without the mail because of another's webhook.
        let (open, closed): (Vec<_>, Vec<_>) =
            claimed.into_iter().partition(|claimed| claimed.route.destination.is_open());
        for Claimed { route, under_way, .. } in open {
            warn!(target: LOG_TARGET, %id, route = route.destination.route(), "mail deferred: the circuit is open");
            route.destination.metrics().message(MessageOutcome::Deferred);
            let verdict = Verdict::Temporary(CIRCUIT_OPEN.to_owned());
            under_way.end(verdict.clone());
            known.push(Known::Ended(verdict));
        }
        if closed.is_empty() {
            return Err(Answer::CircuitOpen);
        }
        let mut under_way = Vec::new();
        for claimed in closed {
            under_way.push(claimed.under_way);
            incoming.destinations.push((claimed.route, claimed.recipients));
        }
        let routes: Vec<Arc<Route>> =
            incoming.destinations.iter().map(|(route, _)| Arc::clone(route)).collect();
        let journeys = self.journeys.begin(incoming).await.inspect_err(|answer| answer.count(&routes))?;
        for (journey, under_way) in journeys.into_iter().zip(under_way) {
            known.push(Known::UnderWay(under_way.sender.subscribe()));
            self.journeys.spawn(deliver(journey, until, under_way));
        }
        Ok(known)
    }

    /// Parts destinations into those of which something is known, and those that this session delivers to: in one step, so
    /// that sessions that end the same message at the same time post it once.
    fn claim(
        &self,
        destinations: Vec<(Arc<Route>, Vec<Address>)>,
        keys: &[Key],
    ) -> (Vec<Known>, Vec<Claimed>) {
        let (mut known, mut claimed) = (Vec::new(), Vec::new());
        let mut recent = self.shared.recent();
        for ((route, recipients), key) in destinations.into_iter().zip(keys) {
            match recent.begin(key) {
                Ok(what) => known.push(what),
                Err(sender) => {
                    let shared = Arc::clone(&self.shared);
                    let under_way = UnderWay { shared, key: key.clone(), sender, verdict: None };
                    claimed.push(Claimed { route, recipients, under_way });
                }
            }
        }
        (known, claimed)
    }

    /// What a destination says by `until`.
    async fn hear(&self, known: Known, until: Instant) -> Verdict {
        let mut pending = match known {
            Known::Ended(verdict) => return verdict,
            Known::UnderWay(pending) => pending,
        };
        tokio::select! {
            biased;
            ended = pending.wait_for(Option::is_some) => {
                let verdict = ended.ok().and_then(|verdict| verdict.clone());
                verdict.unwrap_or_else(|| Verdict::Temporary("the delivery was given up".to_owned()))
            }
            () = self.release.cancelled() => Verdict::Temporary("this server shuts down".to_owned()),
            () = sleep_until(until) => Verdict::Temporary(NOT_IN_TIME.to_owned()),
        }
    }
}

/// Takes one mail to what one destination says of it.
async fn deliver(journey: Journey, until: Instant, under_way: UnderWay) {
    let id = journey.id;
    let (route, end) = journey.end(Terms::Until(until.into_std())).await;
    let metrics = route.destination.metrics();
    let route = route.destination.route();
    let totals = &under_way.shared.totals;
    let (verdict, outcome) = match end {
        End::Of(Delivery::Delivered) => {
            totals.forwarded.fetch_add(1, Ordering::Relaxed);
            (Verdict::Delivered, MessageOutcome::Forwarded)
        }
        End::Of(Delivery::Refused(why)) => {
            totals.failed.fetch_add(1, Ordering::Relaxed);
            (Verdict::Permanent(why), MessageOutcome::Rejected)
        }
        End::Of(Delivery::Failed { reason: why, .. }) => {
            totals.failed.fetch_add(1, Ordering::Relaxed);
            (Verdict::Temporary(why), MessageOutcome::Deferred)
        }
        End::Of(Delivery::CircuitOpen) => {
            warn!(target: LOG_TARGET, %id, route, "mail deferred: the circuit is open");
            (Verdict::Temporary(CIRCUIT_OPEN.to_owned()), MessageOutcome::Deferred)
        }
        End::Defect => {
            error!(target: LOG_TARGET, %id, route, "mail deferred: its delivery panicked, which is a defect");
            (Verdict::Temporary("the delivery failed".to_owned()), MessageOutcome::Deferred)
        }
        End::NoTime => {
            warn!(target: LOG_TARGET, %id, route, "mail deferred: there was no time for an attempt");
            (Verdict::Temporary(NOT_IN_TIME.to_owned()), MessageOutcome::Deferred)
        }
    };
    metrics.message(outcome);
    under_way.end(verdict);
}
