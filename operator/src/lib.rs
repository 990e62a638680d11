//! Reconciles `MailLaser` resources into everything that the daemon needs in a cluster.
//!
//! [`run`] is the operator. Several may run, of which [`leader`] lets one lead. It watches resources, what they own and
//! what they refer to, and for each resource that something happened to does what [`controller`] describes. Decisions are
//! pure functions of API types: [`scope`], [`validate`], [`resources`], [`spool`], [`status`], [`events`], and much of
//! [`apply`] and [`references`]. Only [`caches`], [`references::dereference`], [`apply`], [`workloads`], [`routes::program`]
//! and the controllers have to do with a client.

mod admin;
pub mod apply;
mod backoff;
pub mod caches;
pub mod clock;
pub mod controller;
pub mod definition;
pub mod error;
pub mod events;
pub mod health;
pub mod key;
pub mod kinds;
pub mod leader;
mod metrics;
pub mod problem;
mod quantity;
pub mod references;
pub mod resources;
pub mod routes;
pub mod scope;
pub mod spool;
pub mod status;
pub mod validate;
mod version;
mod workloads;

use std::net::{Ipv6Addr, TcpListener as StdTcpListener};
use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use kube::Client;
use kube::api::DynamicObject;
use kube::runtime::controller::{Config as ControllerConfig, Error as ControllerError};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::caches::lists::Lists;
use crate::caches::{Caches, Watches};
use crate::controller::Context;
use crate::error::{RunError, chain};
use crate::health::{Health, QUEUE_LOOK};
use crate::leader::election::{Election, Terms};
use crate::leader::fence::Fence;
use crate::metrics::Metrics;
use crate::scope::Scope;

/// How many resources, and how many routes, are reconciled at once. Each holds few requests, so this also bounds what the
/// API server gets from the operator at a time. An API server gives addresses to Services one after the other: when many
/// resources are new, most of these wait for that, and the rest has to be enough for all else.
const CONCURRENCY: u16 = 32;

/// How many routes that are to be told something may wait for the controller's look at its queue.
const WAKE_UPS_MAX: usize = 1024;

/// What the operator is told.
#[derive(Debug)]
pub struct Config {
    /// Image of the daemon where a resource does not say.
    pub image: String,
    /// Which resources are looked after.
    pub scope: Scope,
    /// The namespace of the Lease; the operator's own when absent.
    pub lease_namespace: Option<String>,
    /// Whether pods listen on IPv6, and by it on IPv4; see [`has_ipv6`].
    pub ipv6: bool,
    /// Where metrics and health are served; nowhere when absent.
    pub admin: Option<TcpListener>,
}

/// Whether this machine has IPv6, and with it, in all likelihood, the cluster.
pub fn has_ipv6() -> bool {
    StdTcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Runs the operator until `shutdown`. It reconciles while it holds the Lease, and stands by while another does;
/// reconciliations that are under way at the end are finished before the Lease is released.
///
/// # Errors
/// When there is no way to the API server, the server of metrics and health fails, or a loop ends that never should.
pub async fn run(cluster: kube::Config, config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let health = Health::new(clock::now());
    let Config { image, scope, lease_namespace, ipv6, admin } = config;
    let mut servers = JoinSet::new();
    if let Some(listener) = admin {
        let server = admin::serve(listener, Arc::new(registry), health.clone(), shutdown.clone());
        servers.spawn(async { server.await.map_err(RunError::Admin) });
    }

    // A client of its own: the requests of the controllers do not stand before a renewal.
    let client = Client::try_from(cluster.clone()).map_err(RunError::Client)?;
    let lease_namespace = lease_namespace.unwrap_or_else(|| cluster.default_namespace.clone());
    servers.spawn(definition::check(client.clone()).map(Ok));
    servers.spawn(leader::rights::try_them(client.clone(), scope.clone(), health.clone()).map(Ok));
    let (election, mut terms) = Election::new(client, &lease_namespace, health.clone(), metrics.clone());
    let resign = CancellationToken::new();
    let election = tokio::spawn(election.run(resign.clone()));

    let leader = Leader { cluster, image, scope, ipv6, health, metrics };
    let outcome = tokio::select! {
        outcome = leader.serve(&mut terms, &shutdown) => outcome,
        error = first_error(&mut servers) => Err(error),
    };
    resign.cancel();
    // It does not fail; and if it panicked, the Lease ends by itself.
    let _ = election.await;
    outcome
}

/// What a term begins with.
struct Leader {
    cluster: kube::Config,
    image: String,
    scope: Scope,
    ipv6: bool,
    health: Health,
    metrics: Metrics,
}

impl Leader {
    /// Serves one term after the other, until `shutdown`. Between them nothing is kept: to stand by costs no memory
    /// and no watches, and what another leader did meanwhile is not taken for what this one did.
    async fn serve(&self, terms: &mut Terms, shutdown: &CancellationToken) -> Result<(), RunError> {
        loop {
            let fence = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                term = terms.wait_for(Option::is_some) => term.map_err(|_| RunError::ElectionEnded)?.clone(),
            };
            let Some(fence) = fence else { continue };
            let outcome = tokio::select! {
                outcome = self.lead(fence.clone(), shutdown) => Some(outcome),
                over = terms.wait_for(|term| is_over(&fence, term.as_ref())) => {
                    over.err().map(|_| Err(RunError::ElectionEnded))
                }
            };
            self.health.lead(Vec::new());
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Runs the controller until `shutdown`. All that it started ends when this is dropped.
    async fn lead(&self, fence: Fence, shutdown: &CancellationToken) -> Result<(), RunError> {
        let client = leader::fence::client(&self.cluster, fence).map_err(RunError::Client)?;
        let (caches, watches) = Caches::start(&client, &self.scope);
        let Watches { resources, routes, tasks: mut watches, wake_ups } = watches;
        let controller = health::Controller::new(caches.lists().clone(), clock::now());
        // Its work begins where that of the other one ends, so it waits for no lists.
        let of_routes = health::Controller::new(Lists::default(), clock::now());
        self.health.lead(vec![controller.clone(), of_routes.clone()]);
        let (wake_routes, woken_routes) = mpsc::channel(WAKE_UPS_MAX);
        let context = Arc::new(Context::new(
            client,
            self.image.clone(),
            self.ipv6,
            caches,
            self.metrics.clone(),
            controller.clone(),
            self.scope.clone(),
            wake_routes,
        ));
        let config = ControllerConfig::default().concurrency(CONCURRENCY);
        // The watches are what wakes the controllers, so these need none of their own.
        let reconciliations = Controller::for_stream(futures::stream::pending(), resources)
            .with_config(config.clone())
            .reconcile_on(queue(wake_ups, controller))
            .run(controller::reconcile, controller::error_policy, Arc::clone(&context))
            .for_each(|result| async {
                if let Err(error) = result
                    && let Some(gone) = gone(&error)
                {
                    context.take_leave(gone).await;
                }
            });
        let of_routes = Controller::for_stream(futures::stream::pending(), routes)
            .with_config(config)
            .reconcile_on(queue(woken_routes, of_routes))
            .run(routes::controller::reconcile, routes::controller::error_policy, Arc::clone(&context))
            .for_each(|result| async {
                if let Err(error) = result
                    && let Some(gone) = gone(&error)
                {
                    context.forget_route(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
            });
        // Reconciliations that are under way end only while the controllers are polled.
        tokio::select! {
            () = stop(shutdown, &context) => Ok(()),
            () = reconciliations => Err(RunError::WatchEnded),
            () = of_routes => Err(RunError::WatchEnded),
            Some(_) = watches.join_next() => Err(RunError::WatchEnded),
        }
    }
}

/// Another term may have begun meanwhile.
fn is_over(term: &Fence, now: Option<&Fence>) -> bool {
    now.is_none_or(|now| !now.is_same(term))
}

async fn stop(shutdown: &CancellationToken, context: &Context) {
    shutdown.cancelled().await;
    context.finish().await;
}

/// What wakes a controller. It says that the controller goes on, for only the controller's own loop gets it to.
fn queue<T>(wake_ups: mpsc::Receiver<T>, health: health::Controller) -> impl futures::Stream<Item = T> {
    let look = tokio::time::interval(QUEUE_LOOK);
    futures::stream::unfold((wake_ups, look, health), |(mut wake_ups, mut look, health)| async {
        loop {
            tokio::select! {
                item = wake_ups.recv() => return item.map(|item| (item, (wake_ups, look, health))),
                _ = look.tick() => health.goes_on(clock::now()),
            }
        }
    })
}

/// The first error of a task. Never returns when there is none.
async fn first_error(tasks: &mut JoinSet<Result<(), RunError>>) -> RunError {
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            return error;
        }
    }
    std::future::pending().await
}

/// What was to be reconciled and is not there any more.
fn gone(error: &ControllerError<error::ReconcileError, watcher::Error>) -> Option<&ObjectRef<DynamicObject>> {
    match error {
        // The error policy has said so already.
        ControllerError::ReconcilerFailed(..) => None,
        ControllerError::ObjectNotFound(resource) => Some(resource),
        // Neither can happen: the queue gives no errors, and a store is never dropped before its controller.
        error @ (ControllerError::QueueError(_) | ControllerError::RunnerError(_)) => {
            tracing::warn!(error = chain(error), "the queue of resources failed");
            None
        }
    }
}
