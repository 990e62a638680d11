//! One reconciliation of a route: what its gateways have said of it gets into its status.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource, ResourceExt};
use mail_laser_crds::route_conditions::{RouteConditionType, RouteReason};
use mail_laser_crds::{MailRoute, MailRouteStatus, RouteParentStatus};
use serde_json::json;

use super::caches::{GuardedRoute, namespace_of};
use super::status::{Answer, find, status};
use crate::backoff;
use crate::controller::Context;
use crate::error::{ReconcileError, RequestError, Verb, chain};
use crate::events::cut_note;
use crate::key::key;
use crate::resources::labels::MANAGER;

/// The kind that is reconciled here, as in metrics.
const KIND: &str = "MailRoute";

/// Tells a route what came of it.
///
/// # Errors
/// When the status cannot be written.
pub async fn reconcile(route: Arc<GuardedRoute>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let route = match &route.0 {
        Ok(route) => route,
        Err(error) => {
            let (namespace, name) = (route.namespace(), route.name_any());
            tracing::warn!(namespace, name, %error, "route cannot be read, left alone until it changes");
            return Ok(Action::await_change());
        }
    };
    if route.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let result = context.supervised(KIND, tell(route.clone(), Arc::clone(&context))).await;
    if result.is_ok() {
        context.route_failures().succeeded(route);
    }
    result
}

async fn tell(mut route: MailRoute, context: Arc<Context>) -> Result<Action, ReconcileError> {
    route.status = context.route_statuses().current(&route, route.status.as_ref());
    let answers: Vec<_> = route
        .spec
        .parent_refs
        .iter()
        .map(|parent| {
            let gateway = (namespace_of(parent, &route).to_owned(), parent.name.clone());
            let answer = match context.tables().verdict(&gateway, &key(&route)) {
                Some(verdict) => Answer::Verdict(verdict),
                None if context.is_missing(&gateway) => Answer::NoParent,
                None => Answer::Unknown,
            };
            (parent.clone(), answer)
        })
        .collect();
    let current = status(&route, &answers, Timestamp::now());
    if route.status.as_ref().unwrap_or(&MailRouteStatus::default()) == &current {
        return Ok(Action::await_change());
    }
    let (namespace, name) = key(&route);
    let failed = |error| RequestError::new(Verb::Patch, "MailRoute/status", &namespace, &name, error);
    // Entries of others are in the same list, so what is written rests on the version that was read.
    let patch = json!({
        "metadata": {"resourceVersion": route.resource_version(), "uid": route.uid()},
        "status": {"destination": current.destination, "parents": current.parents},
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let api = Api::<MailRoute>::namespaced(context.client(), &namespace);
    match api.patch_status(&name, &params, &Patch::Merge(patch)).await {
        Ok(_) => context.metrics().wrote_route_status(),
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Action::await_change()),
        Err(error) => return Err(ReconcileError::Status(failed(error))),
    }
    for event in events(route.status.as_ref(), &current) {
        tracing::info!(namespace, name, reason = event.reason, note = event.note, "route changed its state");
        context.publish(&event, &route.object_ref(&())).await;
    }
    context.route_statuses().wrote(&route, current);
    Ok(Action::await_change())
}

/// What a route is told first when all is as it was asked for.
const AS_ASKED: [RouteReason; 2] = [RouteReason::Accepted, RouteReason::ResolvedRefs];

/// What a person should notice, once: what is in the way, and each change.
fn events(previous: Option<&MailRouteStatus>, current: &MailRouteStatus) -> Vec<Event> {
    let before = |parent: &RouteParentStatus| {
        let parents = previous.into_iter().flat_map(|status| &status.parents);
        parents
            .into_iter()
            .find(|it| it.parent_ref == parent.parent_ref && it.controller_name == parent.controller_name)
    };
    let told = current.parents.iter().flat_map(|parent| {
        [RouteConditionType::Accepted, RouteConditionType::ResolvedRefs].into_iter().filter_map(
            move |type_| {
                let now = find(parent, type_)?;
                let was = before(parent).and_then(|before| find(before, type_));
                let is_news = match was {
                    Some(was) => was.reason != now.reason,
                    // That all is as it was asked for needs no notice.
                    None => !AS_ASKED.iter().any(|reason| reason.as_str() == now.reason),
                };
                is_news.then(|| Event {
                    type_: if now.status == "True" { EventType::Normal } else { EventType::Warning },
                    reason: now.reason.clone(),
                    note: Some(cut_note(&format!("{}: {}", parent.parent_ref.name, now.message))),
                    action: "Attach".to_owned(),
                    secondary: None,
                })
            },
        )
    });
    told.collect()
}

/// When to try again.
#[allow(clippy::needless_pass_by_value)] // The signature is the controller's.
pub fn error_policy(route: Arc<GuardedRoute>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.route_failures().failed(route.as_ref());
    let wait = backoff::after_failure(failures, backoff::random());
    let (namespace, name) = (route.namespace(), route.name_any());
    tracing::warn!(
        namespace,
        name,
        error = chain(error),
        failures,
        ?wait,
        "reconciliation of a route failed"
    );
    Action::requeue(wait)
}
