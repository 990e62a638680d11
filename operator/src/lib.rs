//! Reconciles `MailLaser` resources into everything that the daemon needs in a cluster.
//!
//! [`run`] is the operator. It watches resources, what they own and what they refer to, and for each resource
//! that something happened to does what [`controller`] describes. Decisions are pure functions of API types:
//! [`validate`], [`resources`], [`spool`], [`diff`], [`ownership`], [`workload`], [`status`], [`events`]. Only
//! [`caches`], [`dereference`], [`apply`], [`workloads`] and [`controller`] have to do with a client.

mod admin;
pub mod apply;
mod backoff;
pub mod caches;
pub mod controller;
pub mod dereference;
pub mod diff;
pub mod error;
pub mod evaluate;
pub mod events;
pub mod kinds;
mod managed_fields;
mod metrics;
pub mod ownership;
pub mod problem;
mod quantity;
pub mod references;
mod replacement;
pub mod resources;
pub mod spool;
pub mod status;
pub mod validate;
pub mod workload;
mod workloads;

use std::net::{Ipv6Addr, TcpListener as StdTcpListener};
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use kube::runtime::controller::{Config as ControllerConfig, Error as ControllerError};
use kube::runtime::{Controller, watcher};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::caches::{Caches, Watches};
use crate::controller::Context;
use crate::error::{RunError, chain};
use crate::metrics::Metrics;

/// How many resources are reconciled at once. Each holds at most one request, so this also bounds what the
/// API server gets from the operator at a time.
const CONCURRENCY: u16 = 8;

/// What the operator is told.
#[derive(Debug)]
pub struct Config {
    /// Image of the daemon where a resource does not say.
    pub image: String,
    /// The namespace to watch; all when absent.
    pub namespace: Option<String>,
    /// Whether pods listen on IPv6, and by it on IPv4; see [`has_ipv6`].
    pub ipv6: bool,
    /// Where metrics and health are served; nowhere when absent.
    pub admin: Option<TcpListener>,
}

/// Whether this machine has IPv6, and with it, in all likelihood, the cluster.
pub fn has_ipv6() -> bool {
    StdTcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

/// Runs the operator until `shutdown`; reconciliations that are under way are finished.
///
/// # Errors
/// When the server of metrics and health fails, or a watch ends.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let (caches, watches) = Caches::start(&client, config.namespace.as_deref());
    let Watches { resources, tasks: mut watches, wake_ups } = watches;
    let lists = caches.lists().clone();
    let context = Arc::new(Context::new(client, config.image, config.ipv6, caches, metrics));

    let mut tasks = JoinSet::new();
    if let Some(listener) = config.admin {
        let server = admin::serve(listener, Arc::new(registry), lists.clone(), shutdown.clone());
        tasks.spawn(async { server.await.map_err(RunError::Admin) });
    }
    tasks.spawn(async move {
        lists.ready().await;
        tracing::info!("caches are filled");
        Ok(())
    });

    // The watch of resources is one of those that wake the controller, so it needs none of its own.
    let reconciliations = Controller::for_stream(futures::stream::pending(), resources)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .reconcile_on(stream(wake_ups))
        .run(controller::reconcile, controller::error_policy, Arc::clone(&context))
        .for_each(|result| async {
            if let Err(error) = result {
                note(&error, &context).await;
            }
        });
    // Reconciliations that are under way end only while the controller is polled.
    tokio::select! {
        () = stop(&shutdown, &context) => Ok(()),
        () = reconciliations => Err(RunError::WatchEnded),
        Some(_) = watches.join_next() => Err(RunError::WatchEnded),
        error = first_error(&mut tasks) => Err(error),
    }
}

async fn stop(shutdown: &CancellationToken, context: &Context) {
    shutdown.cancelled().await;
    context.finish().await;
}

fn stream<T>(receiver: mpsc::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|item| (item, receiver))
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

async fn note(error: &ControllerError<error::ReconcileError, watcher::Error>, context: &Context) {
    match error {
        // The error policy has said so already.
        ControllerError::ReconcilerFailed(..) => {}
        ControllerError::ObjectNotFound(resource) => {
            context.take_leave(resource).await;
        }
        // Neither can happen: the queue gives no errors, and a store is never dropped before its controller.
        error @ (ControllerError::QueueError(_) | ControllerError::RunnerError(_)) => {
            tracing::warn!(error = chain(error), "the queue of resources failed");
        }
    }
}
