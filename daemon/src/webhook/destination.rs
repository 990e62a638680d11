//! One destination: its breaker, its delivery slots and its fast lane around the client.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::config::WebhookConfig;
use crate::message::id::MailId;
use crate::metrics::RouteMetrics;

use super::LOG_TARGET;
use super::TlsError;
use super::breaker::{Admission, Breaker, CircuitState, Transition};
use super::client::{Client, Request};
use super::connectors::Connectors;
use super::outcome::Outcome;
use super::retry::{FastLane, Step, Terms};
use super::share::{Held, Holdings};

/// Where mail goes, with everything that is its own: nothing here is shared with another
/// destination but what connections are made by.
#[derive(Debug)]
pub struct Destination {
    route: String,
    client: Client,
    fast_lane: FastLane,
    breaker: Mutex<Breaker>,
    slots: Arc<Semaphore>,
    concurrency: u32,
    holdings: Holdings,
    held_disk: Held,
    coming_in: Held,
    metrics: RouteMetrics,
    /// Whether another has taken its place, and shows its state instead.
    is_replaced: AtomicBool,
}

/// What became of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The webhook has the mail.
    Delivered,
    /// The webhook will never take the mail. What it said.
    Refused(String),
    /// All attempts failed.
    Failed {
        /// What the last one came to.
        reason: String,
        /// How long the webhook wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// The circuit is open: no attempt was made.
    CircuitOpen,
}

impl Destination {
    /// The destination of `config`; `route` names it in logs and metrics.
    ///
    /// # Errors
    /// When its client cannot be made: see [`Client::new`].
    pub fn new(
        route: &str,
        config: &WebhookConfig,
        connectors: &Connectors,
        metrics: RouteMetrics,
    ) -> Result<Self, TlsError> {
        let destination = Self {
            route: route.to_owned(),
            client: Client::new(config, connectors)?,
            fast_lane: FastLane::new(config.retries_max),
            breaker: Mutex::new(Breaker::new(config.breaker_threshold, config.breaker_reset)),
            slots: Arc::new(Semaphore::new(usize::try_from(config.concurrency.get()).unwrap_or(usize::MAX))),
            concurrency: config.concurrency.get(),
            holdings: Holdings::default(),
            held_disk: Held::default(),
            coming_in: Held::default(),
            metrics,
            is_replaced: AtomicBool::new(false),
        };
        // Another of this name may have shown something else.
        destination.show(&destination.breaker());
        Ok(destination)
    }

    /// Takes the place of another of its name: what the mails of that one hold counts for this one, which would get a
    /// further share with each change otherwise.
    #[must_use]
    pub fn in_place_of(self, before: &Self) -> Self {
        {
            let _shows_nothing_now = before.breaker();
            before.is_replaced.store(true, Ordering::Release);
            before.metrics.hide_circuit();
        }
        self.show(&self.breaker());
        Self {
            held_disk: before.held_disk.clone(),
            coming_in: before.coming_in.clone(),
            ..self.holding(before.holdings.clone())
        }
    }

    /// Has what mails of an earlier route of this name hold count for this one.
    #[must_use]
    pub fn holding(self, holdings: Holdings) -> Self {
        Self { holdings, ..self }
    }

    /// What it holds in memory of what all have together.
    #[must_use]
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Its series.
    #[must_use]
    pub fn metrics(&self) -> &RouteMetrics {
        &self.metrics
    }

    /// What it holds of the places in the queue.
    #[must_use]
    pub fn held_places(&self) -> &Held {
        &self.holdings.places
    }

    /// What its mails hold of the memory.
    #[must_use]
    pub fn held_bytes(&self) -> &Held {
        &self.holdings.bytes
    }

    /// What its mails hold of the disk.
    #[must_use]
    pub fn held_disk(&self) -> &Held {
        &self.held_disk
    }

    /// What its mails will hold of the disk that are on their way there.
    #[must_use]
    pub fn coming_in(&self) -> &Held {
        &self.coming_in
    }

    /// Waits for a delivery slot; who waits longest gets the next.
    ///
    /// `None` never comes: the slots are not closed while the destination exists.
    pub async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Whether the circuit lets no delivery through now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.breaker().would_admit(Instant::now().into_std())
    }

    /// Where the circuit stands; half-open as soon as the next delivery is the probe.
    #[must_use]
    pub fn circuit(&self) -> CircuitState {
        let breaker = self.breaker();
        match breaker.state() {
            CircuitState::Closed => CircuitState::Closed,
            _ if breaker.would_admit(Instant::now().into_std()) => CircuitState::HalfOpen,
            CircuitState::HalfOpen | CircuitState::Open => CircuitState::Open,
        }
    }

    /// Deliveries at the same time, at most.
    #[must_use]
    pub fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// Delivers one mail: asks the breaker, then makes the attempts of the fast lane.
    ///
    /// Dropping the future gives the delivery up; a probe that is given up does not leave the
    /// circuit half-open.
    pub async fn deliver(&self, id: MailId, request: &Request, terms: Terms) -> Delivery {
        let Some(admission) = self.admit() else {
            return Delivery::CircuitOpen;
        };
        let delivery = self.attempts(id, request, terms).await;
        // Who refuses a mail for good is there, and takes others.
        admission.record(!matches!(delivery, Delivery::Failed { .. }));
        delivery
    }

    async fn attempts(&self, id: MailId, request: &Request, terms: Terms) -> Delivery {
        let (route, webhook) = (self.route.as_str(), self.client.url());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let started = Instant::now();
            let outcome = self.client.attempt(request).await;
            let elapsed = started.elapsed();
            self.metrics.attempt(outcome.label(), elapsed.as_secs_f64());
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            if let Outcome::Delivered(status) = outcome {
                info!(target: LOG_TARGET, %id, route, %webhook, attempt, status, elapsed_ms, "mail delivered");
                return Delivery::Delivered;
            }
            let reason = outcome.to_string();
            warn!(target: LOG_TARGET, %id, route, %webhook, attempt, elapsed_ms, reason, "delivery attempt failed");
            let delay = match self.fast_lane.after(&outcome, attempt, terms, Instant::now().into_std()) {
                Step::Retry(delay) => delay,
                Step::GiveUp => {
                    error!(target: LOG_TARGET, %id, route, %webhook, attempt, reason, "delivery failed, retries exhausted");
                    return Delivery::Failed { reason, retry_after: outcome.retry_after() };
                }
                Step::Refused => {
                    error!(target: LOG_TARGET, %id, route, %webhook, attempt, reason, "mail refused by the webhook for good");
                    return Delivery::Refused(reason);
                }
            };
            tokio::time::sleep(delay).await;
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            info!(target: LOG_TARGET, %id, route, %webhook, attempt = attempt + 1, delay_ms, "retrying delivery");
        }
    }

    fn admit(&self) -> Option<Admitted<'_>> {
        let mut breaker = self.breaker();
        let admission = breaker.admit(Instant::now().into_std());
        let state = self.show(&breaker);
        drop(breaker);
        debug!(target: LOG_TARGET, route = self.route, ?state, admitted = admission.is_some(), "breaker asked");
        admission.map(|admission| Admitted { destination: self, admission: Some(admission) })
    }

    fn record(&self, admission: Admission, delivered: bool) {
        let mut breaker = self.breaker();
        let transition = breaker.record(admission, delivered, Instant::now().into_std());
        self.show(&breaker);
        drop(breaker);
        let (route, webhook) = (self.route.as_str(), self.client.url());
        match transition {
            Some(Transition::Opened) => {
                error!(target: LOG_TARGET, route, %webhook, "circuit opened: deliveries are not attempted until it resets");
            }
            Some(Transition::Closed) => {
                info!(target: LOG_TARGET, route, %webhook, "circuit closed: the webhook takes mail again");
            }
            None => {}
        }
    }

    fn abandon(&self, admission: Admission) {
        let mut breaker = self.breaker();
        breaker.abandon(admission, Instant::now().into_std());
        self.show(&breaker);
    }

    /// Shows the state while the breaker is locked, so that an older state never overwrites a newer.
    fn show(&self, breaker: &Breaker) -> CircuitState {
        let state = breaker.state();
        if !self.is_replaced.load(Ordering::Acquire) {
            self.metrics.circuit_state(state);
        }
        state
    }

    /// A panic elsewhere cannot leave the breaker half-changed: it holds no lock across one.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An admission that is recorded once, or abandoned when it is dropped.
struct Admitted<'d> {
    destination: &'d Destination,
    admission: Option<Admission>,
}

impl Admitted<'_> {
    fn record(mut self, delivered: bool) {
        if let Some(admission) = self.admission.take() {
            self.destination.record(admission, delivered);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.destination.abandon(admission);
        }
    }
}
