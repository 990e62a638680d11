//! One reconciliation, from a resource to its objects and its status.
//!
//! The steps: guard (a resource that cannot be read) → validate (pure) → dereference (client) → build (pure)
//! → apply (client) → status (pure, then client). Status is written whatever happened before, so that a
//! person sees on the resource what is the matter.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::core::Resource;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use mail_laser_crds::conditions::{ConditionType, Reason};
use mail_laser_crds::{DeliveryMode, MailLaser, MailLaserStatus, MailRouteStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::apply::{Applier, Outcome, Removal, sent};
use crate::backoff;
use crate::caches::{Caches, Guarded};
use crate::clock;
use crate::dereference::Dereferencer;
use crate::error::{ReconcileError, RequestError, Verb, chain, is_namespace_terminating};
use crate::events::{events, left_behind};
use crate::health;
use crate::key::{Key, key};
use crate::kinds::Kind;
use crate::metrics::{Ending, Metrics};
use crate::problem::Problem;
use crate::resources::environment::TARGET_EMAILS;
use crate::resources::labels::MANAGER;
use crate::resources::{
    autoscaler, claim, dashboard, monitoring, network_policy, pod_disruption_budget, service, service_account,
};
use crate::routes::caches::GuardedRoute;
use crate::routes::program::Programmer;
use crate::routes::tables::Tables;
use crate::scope::Scope;
use crate::spool::report::Notes;
use crate::status::{HostInForce, Situation, is_awaited, status};
use crate::validate::{ValidatedMailLaser, sets, validate};
use crate::workload::{Observation, observe, observe_set};
use crate::workloads::{Taken, Workloads};
use crate::written::Statuses;

/// How long one reconciliation may take: several requests to an API server in trouble, but less than the
/// operator has when it is told to stop.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(25);

/// How much of that may go into reading and writing objects: what is left is for the status, which has to
/// say so when an API server, or a webhook in it, takes too long.
const WRITING_TIMEOUT: Duration = Duration::from_secs(18);

/// The kind that is reconciled here, as in metrics.
const KIND: &str = "MailLaser";

/// How long an Event may take. The loop of the controller waits for those of resources that are gone.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// What all reconciliations share.
pub struct Context {
    client: Client,
    image: String,
    ipv6: bool,
    caches: Caches,
    metrics: Metrics,
    recorder: Recorder,
    dereferencer: Dereferencer,
    applier: Applier,
    /// The reconciliations that are under way; closed when no more shall begin.
    under_way: TaskTracker,
    health: health::Controller,
    failures: Failures,
    statuses: Statuses<MailLaserStatus>,
    scope: Scope,
    programmer: Programmer,
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

    /// Drops what is remembered of a resource that is gone; whether that was anything.
    fn forget(&self, namespace: &str, name: &str) -> bool {
        self.applier.forget(namespace, name);
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.forget(namespace, name);
        self.statuses.forget(namespace, name);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
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

/// What one reconciliation found out.
struct Findings {
    problems: Vec<Problem>,
    /// A request that failed, and that another try may mend.
    failure: Option<ReconcileError>,
    /// Whether nothing that had to be written failed to be.
    is_intact: bool,
    /// Whether what runs the pods is what the resource says now; otherwise they tell of an earlier version.
    is_current: bool,
    /// What is to be said of claims.
    notes: Notes,
    webhook_host: HostInForce,
    /// How many routes have a recipient, if that is known anew.
    routes: Option<usize>,
    /// When there is more to write for routes.
    again: Option<Duration>,
}

impl Findings {
    /// Where everything was left as it is.
    fn untouched(problems: Vec<Problem>, failure: Option<ReconcileError>) -> Self {
        Self {
            problems,
            failure,
            is_intact: true,
            is_current: false,
            notes: Notes::default(),
            webhook_host: HostInForce::Unchanged,
            routes: None,
            again: None,
        }
    }
}

/// Brings a resource to what it says.
///
/// # Errors
/// When a request fails that is worth another try.
pub async fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let resource = match &guarded.0 {
        Ok(resource) => resource,
        Err(error) => {
            let (namespace, name) = (guarded.namespace(), guarded.name_any());
            tracing::warn!(namespace, name, %error, "resource cannot be read, left alone until it changes");
            context.metrics.reconciled(KIND, Ending::Unreadable, Duration::ZERO);
            return Ok(Action::await_change());
        }
    };
    if resource.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it, by owner references.
        return Ok(Action::await_change());
    }
    context.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key(resource));
    if !context.caches.lists().are_complete(resource.namespace().as_deref()) {
        // The last list wakes all that wait for it.
        return Ok(Action::await_change());
    }
    let task = reconcile_readable(Arc::clone(&guarded), Arc::clone(&context));
    let result = context.supervised(KIND, task).await;
    if result.is_ok() {
        context.failures.succeeded(resource);
    }
    result
}

async fn reconcile_readable(guarded: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (Ok(resource), context) = (&guarded.0, &*context) else { return Ok(Action::await_change()) };
    let findings = if resource.spec.suspend {
        Findings::untouched(Vec::new(), None)
    } else {
        match validate(resource, &context.image) {
            Ok(validated) => {
                let findings = tokio::time::timeout(WRITING_TIMEOUT, bring_about(&validated, context));
                findings.await.unwrap_or_else(|_elapsed| {
                    let error = ReconcileError::Timeout(WRITING_TIMEOUT);
                    let problem = Problem::new(Reason::RequestFailed, error.to_string());
                    Findings { is_intact: false, ..Findings::untouched(vec![problem], Some(error)) }
                })
            }
            Err(error) => Findings::untouched(vec![Problem::new(Reason::InvalidSpec, chain(&error))], None),
        }
    };
    let in_the_way = findings.problems.iter().any(|problem| {
        matches!(
            problem.reason,
            Reason::NameConflict | Reason::Refused | Reason::ClaimCannotGrow | Reason::WaitingForDeletion
        )
    });
    let is_awaited = report(resource, &findings, context).await?;
    match (findings.failure, findings.again) {
        (Some(failure), _) => Err(failure),
        (None, Some(again)) => Ok(Action::requeue(again)),
        (None, None) if in_the_way || is_awaited => {
            Ok(Action::requeue(backoff::look_again(backoff::random())))
        }
        (None, None) => Ok(Action::requeue(backoff::resync(backoff::random()))),
    }
}

/// Reads what the resource refers to, and writes what it owns.
async fn bring_about(resource: &ValidatedMailLaser, context: &Context) -> Findings {
    let references = match context.dereferencer.dereference(resource, &context.caches).await {
        Ok(references) => references,
        Err(error) => {
            let problem = error.problem();
            return Findings::untouched(vec![problem], Some(ReconcileError::Dereference(error)));
        }
    };
    let (name, dashboard) = (resource.name.as_str(), dashboard::name(&resource.name));
    let routes = context.caches.routes();
    let has_routes = routes.has_own(&resource.namespace, name);
    let wanted = [
        (Kind::ServiceAccount, name, Some(sent(Kind::ServiceAccount, &service_account::build(resource)))),
        (Kind::Service, name, Some(sent(Kind::Service, &service::build(resource)))),
        optional(Kind::PodDisruptionBudget, name, pod_disruption_budget::build(resource)),
        optional(Kind::NetworkPolicy, name, network_policy::build(resource, has_routes)),
        optional(Kind::HorizontalPodAutoscaler, name, autoscaler::build(resource)),
        optional(Kind::ConfigMap, &dashboard, dashboard::build(resource)),
        optional(Kind::PodMonitor, name, monitoring::pod_monitor(resource)),
        optional(Kind::PrometheusRule, name, monitoring::prometheus_rule(resource)),
    ];

    let mut problems = references.problems.clone();
    let mut failure = None;
    let mut identity_is_ours = false;
    // What the cluster has no kind for waits until it has, and a policy stays as it is until all routes are known.
    let are_known = routes.are_complete(&resource.namespace);
    let is_left = |kind: Kind| {
        !context.caches.has(kind, &resource.namespace)
            || (kind == Kind::NetworkPolicy
                && !are_known
                && context.applier.live(&context.caches, kind, &resource.namespace, name).is_some())
    };
    for (kind, name, object) in wanted.into_iter().filter(|(kind, ..)| !is_left(*kind)) {
        match put(kind, name, object, resource, context).await {
            Ok(Some(Outcome::InPlace(_))) if kind == Kind::ServiceAccount => identity_is_ours = true,
            Ok(Some(Outcome::Problem(problem))) => problems.push(problem),
            Ok(_) => {}
            Err(error) => {
                problems.push(error.problem());
                failure = Some(ReconcileError::Apply(error));
            }
        }
    }
    let programmed =
        context.programmer.program(resource, &context.caches, &context.applier, Instant::now()).await;
    problems.extend(programmed.problems);
    if let Some(error) = programmed.failure {
        problems.push(error.problem());
        failure = Some(ReconcileError::Apply(error));
    }
    let workloads = Workloads {
        resource,
        references: &references,
        ipv6: context.ipv6,
        caches: &context.caches,
        applier: &context.applier,
    };
    // Pods must not get what somebody bound to a ServiceAccount of his own.
    let taken = if identity_is_ours { workloads.bring_about().await } else { Taken::default() };
    problems.extend(taken.problems);
    if let Some(error) = taken.failure {
        problems.push(error.problem());
        failure = Some(ReconcileError::Apply(error));
    }
    let webhook_host =
        if taken.is_current { HostInForce::Now(references.webhook_host) } else { HostInForce::Unchanged };
    let (is_intact, is_current) = (failure.is_none(), taken.is_current);
    let (routes, again) = (programmed.routes, programmed.again);
    Findings { problems, failure, is_intact, is_current, notes: taken.notes, webhook_host, routes, again }
}

/// An object that comes and goes.
fn optional(kind: Kind, name: &str, object: Option<impl Serialize>) -> (Kind, &str, Option<Value>) {
    (kind, name, object.map(|object| sent(kind, &object)))
}

/// Writes an object, or deletes it when it is one that comes and goes.
async fn put(
    kind: Kind,
    name: &str,
    object: Option<Value>,
    resource: &ValidatedMailLaser,
    context: &Context,
) -> Result<Option<Outcome>, RequestError> {
    let (caches, applier) = (&context.caches, &context.applier);
    match object {
        Some(object) => {
            applier.apply(caches, kind, &resource.owner, &resource.namespace, &object).await.map(Some)
        }
        None => {
            let propagation = PropagationPolicy::Background;
            let removal = Removal { kind, name, uid: None, propagation };
            applier.delete(caches, &removal, &resource.owner, &resource.namespace).await.map(|()| None)
        }
    }
}

/// The object of a kind that is the resource's, as it is.
fn live<T: DeserializeOwned>(resource: &MailLaser, kind: Kind, context: &Context) -> Option<T> {
    let namespace = resource.namespace().unwrap_or_default();
    let live = context.applier.live(&context.caches, kind, &namespace, &resource.name_any())?;
    let ours =
        live.metadata.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true) && Some(&owner.uid) == resource.metadata.uid.as_ref()
        });
    let live = serde_json::to_value(live).ok().filter(|_| ours)?;
    serde_json::from_value(live).ok()
}

/// What the pods are up to: those of the mode of delivery that is wanted, and how many there are of the other.
fn observation(resource: &MailLaser, context: &Context, now: Timestamp) -> Observation {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let all = context.caches.pods(&namespace, &name);
    let is_of_set = |pod: &Arc<Pod>| claim::number(&pod.name_any(), &name).is_some();
    let (of_set, of_deployment): (Vec<_>, Vec<_>) = all.into_iter().partition(is_of_set);
    let deployment = live::<Deployment>(resource, Kind::Deployment, context);
    let set = live::<StatefulSet>(resource, Kind::StatefulSet, context);
    let (main, others) = if resource.spec.delivery.mode == DeliveryMode::Spool {
        (observe_set(set.as_ref(), resource.spec.replicas, &of_set, now), of_deployment)
    } else {
        (observe(deployment.as_ref(), &of_deployment, now), of_set)
    };
    let others = others.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
    Observation { others: i32::try_from(others).unwrap_or(i32::MAX), ..main }
}

/// Writes the status if it differs, and tells of what a person should notice. Whether something is waited for,
/// and no event tells when that is too long.
async fn report(
    resource: &MailLaser,
    findings: &Findings,
    context: &Context,
) -> Result<bool, ReconcileError> {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let previous = context.statuses.current(resource, resource.status.as_ref());
    let now = Timestamp::now();
    let mut observation = observation(resource, context, now);
    if !findings.is_current {
        // What the pods of an earlier version complain about may be mended in this one.
        observation.problem = None;
    }
    observation.hint = findings.notes.hint.clone().or(observation.hint);
    let problems = [&findings.problems[..], &findings.notes.problems].concat();
    let current = status(&Situation {
        name: &name,
        generation: resource.metadata.generation.unwrap_or_default(),
        previous: previous.as_ref(),
        suspended: resource.spec.suspend,
        problems: &problems,
        is_intact: findings.is_intact,
        observation: &observation,
        notes: &findings.notes,
        webhook_host: findings.webhook_host.clone(),
        routes: findings.routes,
        has_own_recipients: resource.spec.target_emails.is_some() || sets(&resource.spec, TARGET_EMAILS),
        now,
    });
    let is_awaited = is_awaited(&current);
    if previous.as_ref().is_some_and(|previous| own_conditions(previous) == current) {
        return Ok(is_awaited);
    }
    write_status(resource, &current, context)
        .await
        .map_err(|error| RequestError::new(Verb::Apply, "MailLaser/status", &namespace, &name, error))
        .map_err(ReconcileError::Status)?;
    for event in events(previous.as_ref(), &current) {
        let Event { reason, note, .. } = &event;
        tracing::info!(namespace, name, reason, note, "resource changed its state");
        context.publish(&event, &resource.object_ref(&())).await;
    }
    context.statuses.wrote(resource, current);
    Ok(is_awaited)
}

/// A status without the conditions that somebody else keeps in it.
fn own_conditions(status: &MailLaserStatus) -> MailLaserStatus {
    let mut status = status.clone();
    status
        .conditions
        .retain(|condition| ConditionType::ALL.iter().any(|own| own.as_str() == condition.type_));
    status
}

async fn write_status(
    resource: &MailLaser,
    status: &MailLaserStatus,
    context: &Context,
) -> Result<(), kube::Error> {
    let namespace = resource.namespace().unwrap_or_default();
    let api = Api::<MailLaser>::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": MailLaser::api_version(&()),
        "kind": MailLaser::kind(&()),
        // With the uid a status can never end up on a later resource of the same name.
        "metadata": {"name": resource.name_any(), "uid": resource.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&resource.name_any(), &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            context.metrics.wrote_status();
            Ok(())
        }
        // It was deleted in the meantime, and nobody asks for its status any more.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// When to try again.
#[allow(clippy::needless_pass_by_value)] // The signature is the controller's.
pub fn error_policy(resource: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.failures.failed(resource.as_ref());
    let wait = backoff::after_failure(failures, backoff::random());
    let (namespace, name) = (resource.namespace(), resource.name_any());
    tracing::warn!(namespace, name, error = chain(error), failures, ?wait, "reconciliation failed");
    Action::requeue(wait)
}
