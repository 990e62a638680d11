//! What reconciliations share, and how each is run.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use mail_laser_crds::{MailLaser, MailLaserStatus, MailRouteStatus};
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::written::Statuses;
use crate::apply::Applier;
use crate::caches::Caches;
use crate::clock;
use crate::error::{ReconcileError, chain, is_namespace_terminating};
use crate::events::left_behind;
use crate::health;
use crate::key::{Key, key};
use crate::kinds::Kind;
use crate::metrics::{Ending, Metrics};
use crate::references::dereference::Dereferencer;
use crate::resources::claim;
use crate::resources::labels::MANAGER;
use crate::routes::caches::GuardedRoute;
use crate::routes::program::Programmer;
use crate::routes::tables::Tables;
use crate::scope::Scope;

/// How long one reconciliation may take: several requests to an API server in trouble, but less than the
/// operator has when it is told to stop.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long an Event may take. The loop of the controller waits for those of resources that are gone.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What all reconciliations share.
pub struct Context {
    client: Client,
    pub(super) image: String,
    pub(super) ipv6: bool,
    pub(super) caches: Caches,
    pub(super) metrics: Metrics,
    recorder: Recorder,
    pub(super) dereferencer: Dereferencer,
    pub(super) applier: Applier,
    /// The reconciliations that are under way; closed when no more shall begin.
    under_way: TaskTracker,
    health: health::Controller,
    pub(super) failures: Failures,
    pub(super) statuses: Statuses<MailLaserStatus>,
    scope: Scope,
    pub(super) programmer: Programmer,
    route_failures: Failures,
    route_statuses: Statuses<MailRouteStatus>,
    /// The resources that were there since the operator began.
    known: Mutex<HashSet<Key>>,
}

/// How often each resource failed in a row.
#[derive(Default)]
pub(crate) struct Failures(Mutex<HashMap<Key, u32>>);

impl Failures {
    fn counts(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more.
    pub(crate) fn failed(&self, resource: &impl ResourceExt) -> u32 {
        let mut counts = self.counts();
        let count = counts.entry(key(resource)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Begins anew.
    pub(crate) fn succeeded(&self, resource: &impl ResourceExt) {
        self.counts().remove(&key(resource));
    }

    fn forget(&self, namespace: &str, name: &str) {
        self.counts().remove(&(namespace.to_owned(), name.to_owned()));
    }
}

impl Context {
    /// What reconciliations share when they begin; `routes` takes the routes that are to be told something.
    #[allow(clippy::too_many_arguments)] // Each is used once, and none is like another.
    pub fn new(
        client: Client,
        image: String,
        ipv6: bool,
        caches: Caches,
        metrics: Metrics,
        health: health::Controller,
        scope: Scope,
        routes: mpsc::Sender<ObjectRef<GuardedRoute>>,
    ) -> Self {
        Self {
            scope,
            programmer: Programmer::new(client.clone(), metrics.clone(), routes),
            route_failures: Failures::default(),
            route_statuses: Statuses::default(),
            image,
            ipv6,
            caches,
            recorder: Recorder::new(client.clone(), MANAGER.into()),
            dereferencer: Dereferencer::new(client.clone()),
            applier: Applier::new(client.clone(), metrics.clone()),
            metrics,
            client,
            under_way: TaskTracker::new(),
            health,
            failures: Failures::default(),
            statuses: Statuses::default(),
            known: Mutex::default(),
        }
    }

    /// Lets no more reconciliations begin, and waits for those that have.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// What is known of the cluster.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Tells of the claims of a resource that is gone, once, and drops what is remembered of it.
    pub async fn take_leave(&self, resource: &ObjectRef<DynamicObject>) {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        let name = resource.name.as_str();
        self.programmer.take_leave(&self.caches, &(namespace.to_owned(), name.to_owned())).await;
        if !self.forget(namespace, name) {
            return;
        }
        let claims = self.applier.labelled(&self.caches, Kind::Claim, namespace, name);
        let mut names: Vec<_> = claims.iter().map(ResourceExt::name_any).collect();
        names.retain(|claim| claim::ordinal(name, claim).is_some());
        let Some(event) = left_behind(name, &names) else { return };
        match tokio::time::timeout(EVENT_TIMEOUT, self.exists(namespace, name)).await {
            Ok(Ok(false)) => {
                tracing::info!(namespace, name, note = event.note, "resource is gone, and its claims stay");
                self.publish(&event, &resource.clone().into()).await;
            }
            Ok(Ok(true)) => tracing::info!(namespace, name, "resource is looked after no more"),
            Ok(Err(error)) => {
                tracing::warn!(
                    namespace,
                    name,
                    error = chain(&error),
                    "resource may be gone, and its claims stay"
                );
            }
            Err(_elapsed) => tracing::warn!(namespace, name, "resource may be gone, and its claims stay"),
        }
    }

    /// Whether a resource is in the cluster. One whose labels changed may be, and is not seen any more. It is listed, for
    /// which there is a right.
    async fn exists(&self, namespace: &str, name: &str) -> Result<bool, kube::Error> {
        let resources = Api::<MailLaser>::namespaced(self.client.clone(), namespace);
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        Ok(!resources.list_metadata(&named).await?.items.is_empty())
    }

    /// The status says the same, so nothing is lost with an Event that would be worth another try.
    pub(crate) async fn publish(&self, event: &Event, about: &ObjectReference) {
        let (namespace, name) = (&about.namespace, &about.name);
        match tokio::time::timeout(EVENT_TIMEOUT, self.recorder.publish(event, about)).await {
            Ok(Err(error)) if !is_namespace_terminating(&error) => {
                tracing::warn!(namespace, name, error = chain(&error), "event could not be written");
            }
            Ok(_) => {}
            Err(_elapsed) => tracing::warn!(namespace, name, "event could not be written in time"),
        }
    }

    /// Remembers that a resource was there, for when it is gone.
    pub(super) fn met(&self, resource: &MailLaser) {
        self.known().insert(key(resource));
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is remembered of a resource that is gone; whether that was anything.
    fn forget(&self, namespace: &str, name: &str) -> bool {
        self.applier.forget(namespace, name);
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.forget(namespace, name);
        self.statuses.forget(namespace, name);
        self.known().remove(&key)
    }

    /// What the API server is asked by.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Where writes are counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What gateways have said of routes.
    pub(crate) fn tables(&self) -> &Tables {
        self.programmer.tables()
    }

    /// Statuses of routes that were written.
    pub(crate) fn route_statuses(&self) -> &Statuses<MailRouteStatus> {
        &self.route_statuses
    }

    /// How often each route failed.
    pub(crate) fn route_failures(&self) -> &Failures {
        &self.route_failures
    }

    /// Whether a gateway is known not to exist. Of one that another operator may look after nothing is known.
    pub(crate) fn is_missing(&self, (namespace, name): &Key) -> bool {
        self.scope.selector().is_none()
            && self.scope.places().iter().any(|place| place.covers(Some(namespace)))
            && self.caches.lists().are_complete(Some(namespace))
            && self.caches.resource(namespace, name).is_none()
    }

    /// Drops what is remembered of a route that is gone.
    pub(crate) fn forget_route(&self, namespace: &str, name: &str) {
        self.route_failures.forget(namespace, name);
        self.route_statuses.forget(namespace, name);
    }

    /// Runs a reconciliation unless the operator is about to end, within its time, and counts it.
    ///
    /// # Errors
    /// Those of the reconciliation, and when it takes too long or panics: a defect that one resource brings to light must
    /// not end the care for the others.
    pub(crate) async fn supervised(
        &self,
        kind: &'static str,
        reconciliation: impl Future<Output = Result<Action, ReconcileError>> + Send + 'static,
    ) -> Result<Action, ReconcileError> {
        // In this order nobody who finds it open is missed by who waits after closing it.
        let _under_way = self.under_way.token();
        if self.under_way.is_closed() {
            return Ok(Action::await_change());
        }
        let _watched = self.health.begin(clock::now());
        let begin = Instant::now();
        // On a task of its own: all of a controller would share one processor with its loop otherwise.
        let task = AbortOnDropHandle::new(tokio::spawn(reconciliation));
        let result = match tokio::time::timeout(RECONCILE_TIMEOUT, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(ReconcileError::Panic),
            Err(_elapsed) => Err(ReconcileError::Timeout(RECONCILE_TIMEOUT)),
        };
        let ending = if result.is_ok() { Ending::Ok } else { Ending::Error };
        self.metrics.reconciled(kind, ending, begin.elapsed());
        result
    }
}
