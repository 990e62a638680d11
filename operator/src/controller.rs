//! One reconciliation, from a resource to its objects and its status.
//!
//! The steps: guard (a resource that cannot be read) → validate (pure) → dereference (client) → build (pure)
//! → apply (client) → status (pure, then client). Status is written whatever happened before, so that a
//! person sees on the resource what is the matter.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::Resource;
use kube::runtime::controller::Action;
use kube::runtime::events::Recorder;
use kube::{Api, Client, ResourceExt};
use mail_laser_crds::conditions::{ConditionType, Reason};
use mail_laser_crds::{MailLaser, MailLaserStatus};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::apply::{Applier, Outcome};
use crate::backoff;
use crate::caches::{Caches, Guarded};
use crate::dereference::Dereferencer;
use crate::error::{ReconcileError, RequestError, Verb, chain, is_namespace_terminating};
use crate::events::event;
use crate::kinds::Kind;
use crate::metrics::{Ending, Metrics};
use crate::problem::Problem;
use crate::resources::labels::MANAGER;
use crate::resources::{deployment, pod_disruption_budget, service, service_account};
use crate::status::{HostInForce, Situation, status};
use crate::validate::{ValidatedMailLaser, validate};
use crate::workload::observe;

/// How long one reconciliation may take: several requests to an API server in trouble, but less than the
/// operator has when it is told to stop.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(25);

/// How much of that may go into reading and writing objects: what is left is for the status, which has to
/// say so when an API server, or a webhook in it, takes too long.
const WRITING_TIMEOUT: Duration = Duration::from_secs(18);

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
    /// How often each resource failed in a row.
    failures: Mutex<HashMap<Key, u32>>,
    /// The status that was written last, with the version that the resource had in the cache then: while the
    /// cache still has that version, its status is outdated.
    statuses: Mutex<HashMap<Key, (Option<String>, MailLaserStatus)>>,
}

/// A resource by namespace and name.
type Key = (String, String);

fn key(resource: &impl ResourceExt) -> Key {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

impl Context {
    /// What reconciliations share when they begin.
    pub fn new(client: Client, image: String, ipv6: bool, caches: Caches, metrics: Metrics) -> Self {
        Self {
            image,
            ipv6,
            caches,
            recorder: Recorder::new(client.clone(), MANAGER.into()),
            dereferencer: Dereferencer::new(client.clone()),
            applier: Applier::new(client.clone(), metrics.clone()),
            metrics,
            client,
            under_way: TaskTracker::new(),
            failures: Mutex::default(),
            statuses: Mutex::default(),
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

    /// Drops what is remembered of a resource that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.applier.forget(namespace, name);
        let key = (namespace.to_owned(), name.to_owned());
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    fn failed(&self, resource: &Guarded) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key(resource)).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn succeeded(&self, resource: &MailLaser) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(resource));
    }

    /// The status that the resource has: in the cache, or written since.
    fn status(&self, resource: &MailLaser) -> Option<MailLaserStatus> {
        let key = key(resource);
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match statuses.get(&key) {
            Some((version, status)) if *version == resource.resource_version() => Some(status.clone()),
            Some(_) => {
                statuses.remove(&key);
                resource.status.clone()
            }
            None => resource.status.clone(),
        }
    }

    fn wrote_status(&self, resource: &MailLaser, status: MailLaserStatus) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(key(resource), (resource.resource_version(), status));
    }
}

/// What one reconciliation found out.
struct Findings {
    problems: Vec<Problem>,
    /// A request that failed, and that another try may mend.
    failure: Option<ReconcileError>,
    /// Whether nothing that had to be written failed to be.
    is_intact: bool,
    /// Whether the Deployment is what the resource says now; otherwise its pods tell of an earlier version.
    is_current: bool,
    deployment: Option<Deployment>,
    webhook_host: HostInForce,
}

/// Brings a resource to what it says.
///
/// # Errors
/// When a request fails that is worth another try.
pub async fn reconcile(resource: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let resource = match &resource.0 {
        Ok(resource) => resource,
        Err(error) => {
            let (namespace, name) = (resource.namespace(), resource.name_any());
            tracing::warn!(namespace, name, %error, "resource cannot be read, left alone until it changes");
            context.metrics.reconciled(Ending::Unreadable, Duration::ZERO);
            return Ok(Action::await_change());
        }
    };
    if resource.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it, by owner references.
        return Ok(Action::await_change());
    }
    context.caches.lists().ready().await;
    // In this order nobody who finds it open is missed by who waits after closing it.
    let _under_way = context.under_way.token();
    if context.under_way.is_closed() {
        return Ok(Action::await_change());
    }
    let begin = Instant::now();
    let reconciliation = AssertUnwindSafe(reconcile_readable(resource, &context)).catch_unwind();
    let result = match tokio::time::timeout(RECONCILE_TIMEOUT, reconciliation).await {
        Ok(Ok(result)) => result,
        // A defect that one resource brings to light must not end the care for the others.
        Ok(Err(_panic)) => Err(ReconcileError::Panic),
        Err(_elapsed) => Err(ReconcileError::Timeout(RECONCILE_TIMEOUT)),
    };
    let ending = if result.is_ok() { Ending::Ok } else { Ending::Error };
    context.metrics.reconciled(ending, begin.elapsed());
    if result.is_ok() {
        context.succeeded(resource);
    }
    result
}

async fn reconcile_readable(resource: &MailLaser, context: &Context) -> Result<Action, ReconcileError> {
    let findings = if resource.spec.suspend {
        Findings {
            problems: Vec::new(),
            failure: None,
            is_intact: true,
            is_current: false,
            deployment: live_deployment(resource, context),
            webhook_host: HostInForce::Unchanged,
        }
    } else {
        match validate(resource, &context.image) {
            Ok(validated) => {
                let findings =
                    tokio::time::timeout(WRITING_TIMEOUT, bring_about(resource, &validated, context));
                findings.await.unwrap_or_else(|_elapsed| {
                    let error = ReconcileError::Timeout(WRITING_TIMEOUT);
                    Findings {
                        problems: vec![Problem::new(Reason::RequestFailed, error.to_string())],
                        failure: Some(error),
                        is_intact: false,
                        is_current: false,
                        deployment: live_deployment(resource, context),
                        webhook_host: HostInForce::Unchanged,
                    }
                })
            }
            Err(error) => Findings {
                problems: vec![Problem::new(Reason::InvalidSpec, chain(&error))],
                failure: None,
                is_intact: true,
                is_current: false,
                deployment: live_deployment(resource, context),
                webhook_host: HostInForce::Unchanged,
            },
        }
    };
    let in_the_way = findings.problems.iter().any(|problem| {
        matches!(problem.reason, Reason::NameConflict | Reason::Refused | Reason::WaitingForDeletion)
    });
    report(resource, &findings, context).await?;
    match findings.failure {
        Some(failure) => Err(failure),
        None if in_the_way => Ok(Action::requeue(backoff::look_again(backoff::random()))),
        None => Ok(Action::requeue(backoff::resync(backoff::random()))),
    }
}

/// Reads what the resource refers to, and writes what it owns.
async fn bring_about(resource: &MailLaser, validated: &ValidatedMailLaser, context: &Context) -> Findings {
    let references = match context.dereferencer.dereference(validated, &context.caches).await {
        Ok(references) => references,
        Err(error) => {
            return Findings {
                problems: vec![Problem::new(Reason::RequestFailed, error.chain())],
                failure: Some(ReconcileError::Dereference(error)),
                is_intact: true,
                is_current: false,
                deployment: live_deployment(resource, context),
                webhook_host: HostInForce::Unchanged,
            };
        }
    };
    // Pods with a missing Secret would not start; those that run are better left running, unless there
    // shall be none.
    let writable = references.complete() || validated.spec.replicas == 0;
    let deployment = writable.then(|| deployment::build(validated, &references, context.ipv6));
    let wanted = [
        (Kind::ServiceAccount, Some(sent(Kind::ServiceAccount, &service_account::build(validated)))),
        (Kind::Service, Some(sent(Kind::Service, &service::build(validated)))),
        (
            Kind::PodDisruptionBudget,
            pod_disruption_budget::build(validated).map(|budget| sent(Kind::PodDisruptionBudget, &budget)),
        ),
        (Kind::Deployment, deployment.map(|deployment| sent(Kind::Deployment, &deployment))),
    ];

    let mut problems = references.problems;
    let mut failure = None;
    let mut written = None;
    let mut identity_is_ours = false;
    for (kind, object) in wanted {
        // Pods must not get what somebody bound to a ServiceAccount of his own.
        if kind == Kind::Deployment && !identity_is_ours {
            continue;
        }
        match put(kind, object, validated, context).await {
            Ok(Some(Outcome::InPlace(live))) if kind == Kind::Deployment => written = Some(live),
            Ok(Some(Outcome::InPlace(_))) if kind == Kind::ServiceAccount => identity_is_ours = true,
            Ok(Some(Outcome::Problem(problem))) => problems.push(problem),
            Ok(_) => {}
            Err(error) => {
                problems.push(Problem::new(Reason::RequestFailed, error.chain()));
                failure = Some(ReconcileError::Apply(error));
            }
        }
    }
    let webhook_host =
        if written.is_some() { HostInForce::Now(references.webhook_host) } else { HostInForce::Unchanged };
    let (is_current, deployment) = match written {
        Some(live) => (true, typed(&live)),
        None => (false, live_deployment(resource, context)),
    };
    let is_intact = failure.is_none();
    Findings { problems, failure, is_intact, is_current, deployment, webhook_host }
}

/// Writes an object, or deletes it when it is one that comes and goes.
async fn put(
    kind: Kind,
    object: Option<Value>,
    resource: &ValidatedMailLaser,
    context: &Context,
) -> Result<Option<Outcome>, RequestError> {
    let (caches, applier) = (&context.caches, &context.applier);
    match object {
        Some(object) => {
            applier.apply(caches, kind, &resource.owner, &resource.namespace, &object).await.map(Some)
        }
        None if kind == Kind::PodDisruptionBudget => {
            applier.delete(caches, kind, &resource.owner, &resource.namespace).await.map(|()| None)
        }
        None => Ok(None),
    }
}

/// An object as it is sent: with its type, without what has no value.
fn sent(kind: Kind, object: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_else(|_| json!({}));
    kind.name(&mut value);
    value
}

fn typed(live: &DynamicObject) -> Option<Deployment> {
    live.clone().try_parse().ok()
}

/// The Deployment as it is, if it is the resource's.
fn live_deployment(resource: &MailLaser, context: &Context) -> Option<Deployment> {
    let namespace = resource.namespace().unwrap_or_default();
    let live = context.applier.live(&context.caches, Kind::Deployment, &namespace, &resource.name_any())?;
    let ours =
        live.metadata.owner_references.iter().flatten().any(|owner| {
            owner.controller == Some(true) && Some(&owner.uid) == resource.metadata.uid.as_ref()
        });
    if ours { typed(&live) } else { None }
}

/// Writes the status if it differs, and tells of what a person should notice.
async fn report(resource: &MailLaser, findings: &Findings, context: &Context) -> Result<(), ReconcileError> {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let previous = context.status(resource);
    let mut observation = observe(findings.deployment.as_ref(), &context.caches.pods(&namespace, &name));
    if !findings.is_current {
        // What the pods of an earlier version complain about may be mended in this one.
        observation.problem = None;
    }
    let current = status(&Situation {
        name: &name,
        generation: resource.metadata.generation.unwrap_or_default(),
        previous: previous.as_ref(),
        suspended: resource.spec.suspend,
        problems: &findings.problems,
        is_intact: findings.is_intact,
        observation: &observation,
        webhook_host: findings.webhook_host.clone(),
        now: Timestamp::now(),
    });
    if previous.as_ref().is_some_and(|previous| own_conditions(previous) == current) {
        return Ok(());
    }
    write_status(resource, &current, context)
        .await
        .map_err(|error| RequestError::new(Verb::Apply, "MailLaser/status", &namespace, &name, error))
        .map_err(ReconcileError::Status)?;
    if let Some(event) = event(previous.as_ref(), &current) {
        tracing::info!(
            namespace,
            name,
            reason = event.reason,
            note = event.note,
            "resource changed its state"
        );
        if let Err(error) = context.recorder.publish(&event, &resource.object_ref(&())).await
            && !is_namespace_terminating(&error)
        {
            // The status says the same, so nothing is lost that is worth another try.
            tracing::warn!(namespace, name, error = chain(&error), "event could not be written");
        }
    }
    context.wrote_status(resource, current);
    Ok(())
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
    let failures = context.failed(&resource);
    let wait = backoff::after_failure(failures, backoff::random());
    let (namespace, name) = (resource.namespace(), resource.name_any());
    tracing::warn!(namespace, name, error = chain(error), failures, ?wait, "reconciliation failed");
    Action::requeue(wait)
}
