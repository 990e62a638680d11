//! What a resource is told: its status, and Events.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::Event;
use kube::{Api, Resource, ResourceExt};
use mail_laser_crds::conditions::ConditionType;
use mail_laser_crds::{DeliveryMode, MailLaser, MailLaserStatus};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Context, Findings};
use crate::error::{ReconcileError, RequestError, Verb};
use crate::events::events;
use crate::kinds::Kind;
use crate::resources::claim;
use crate::resources::environment::TARGET_EMAILS;
use crate::resources::labels::MANAGER;
use crate::status::workload::{Observation, observe, observe_set};
use crate::status::{Situation, is_awaited, status};
use crate::validate::sets;

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
pub(super) async fn report(
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
    let api = Api::<MailLaser>::namespaced(context.client(), &namespace);
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
