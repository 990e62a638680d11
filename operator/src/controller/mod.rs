//! One reconciliation, from a resource to its objects and its status.
//!
//! The steps: guard (a resource that cannot be read) → validate (pure) → dereference (client) → build (pure)
//! → apply (client) → status (pure, then client). Status is written whatever happened before, so that a
//! person sees on the resource what is the matter.

mod context;
mod report;
pub(crate) mod written;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::PropagationPolicy;
use kube::runtime::controller::Action;
use mail_laser_crds::conditions::Reason;
use serde::Serialize;
use serde_json::Value;

pub use self::context::Context;
use self::report::report;
use crate::apply::{Outcome, Removal, sent};
use crate::backoff;
use crate::caches::Guarded;
use crate::error::{ReconcileError, RequestError, chain};
use crate::kinds::Kind;
use crate::metrics::Ending;
use crate::problem::Problem;
use crate::resources::{
    autoscaler, dashboard, monitoring, network_policy, pod_disruption_budget, service, service_account,
};
use crate::spool::report::Notes;
use crate::status::HostInForce;
use crate::validate::{ValidatedMailLaser, validate};
use crate::workloads::{Taken, Workloads};

/// How much of the time of one reconciliation may go into reading and writing objects: what is left is for the status, which has to
/// say so when an API server, or a webhook in it, takes too long.
const WRITING_TIMEOUT: Duration = Duration::from_secs(18);

/// The kind that is reconciled here, as in metrics.
const KIND: &str = "MailLaser";

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
    context.met(resource);
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
        (Some(failure), Some(again)) => Err(ReconcileError::MoreToDo { failure: Box::new(failure), again }),
        (Some(failure), None) => Err(failure),
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

/// When to try again.
#[allow(clippy::needless_pass_by_value)] // The signature is the controller's.
pub fn error_policy(resource: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.failures.failed(resource.as_ref());
    let wait = backoff::after_failure(failures, backoff::random());
    let wait = match error {
        ReconcileError::MoreToDo { again, .. } => wait.min(*again),
        _ => wait,
    };
    let (namespace, name) = (resource.namespace(), resource.name_any());
    tracing::warn!(namespace, name, error = chain(error), failures, ?wait, "reconciliation failed");
    Action::requeue(wait)
}
