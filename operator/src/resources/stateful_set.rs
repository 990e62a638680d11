//! The StatefulSet that runs the daemon where mail is kept on disk: each pod has a claim of its own, which
//! stays when the pod goes.

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::claim::{self, Ordinal};
use super::environment::{Disk, SPOOL_LIFETIME};
use super::pod::{self, Role};
use super::{REVISION_HISTORY_LIMIT, labels};
use crate::apply::diff;
use crate::references::evaluate::Dereferenced;
use crate::validate::ValidatedMailLaser;

/// The fields that cannot change: with others the StatefulSet has to be made anew, around its pods.
const IMMUTABLE: [&str; 4] = ["podManagementPolicy", "selector", "serviceName", "volumeClaimTemplates"];

/// The StatefulSet of a resource.
pub fn build(
    resource: &ValidatedMailLaser,
    references: &Dereferenced,
    ipv6: bool,
    disk: &Disk,
    claims: &claim::Template,
    replicas: Ordinal,
) -> StatefulSet {
    let retain = || Some("Retain".to_owned());
    StatefulSet {
        metadata: super::metadata(resource),
        spec: StatefulSetSpec {
            // The schema permits 1000 at most.
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&resource.name)),
                ..LabelSelector::default()
            },
            service_name: Some(resource.name.clone()),
            // No pod needs another; and one that does not start must not keep the others from being mended.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    ..RollingUpdateStatefulSetStrategy::default()
                }),
            }),
            // Who deletes a claim has to know that it is empty, which only the operator does.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: retain(),
                when_scaled: retain(),
            }),
            revision_history_limit: Some(REVISION_HISTORY_LIMIT),
            template: pod::template(resource, references, ipv6, Role::Spool(disk)),
            volume_claim_templates: Some(vec![claim::template(&resource.name, claims)]),
            ..StatefulSetSpec::default()
        },
        ..StatefulSet::default()
    }
}

/// Whether `live` can become `sent` by a change.
pub fn can_become(live: &Value, sent: &Value) -> bool {
    let same = |field: &str| diff::changed(&sent["spec"][field], &live["spec"][field]).is_none();
    IMMUTABLE.into_iter().all(same) && class(sent) == class(live)
}

/// A class that is no longer wanted is no difference for [`diff::changed`], which looks at what is sent.
fn class(set: &Value) -> Option<&str> {
    set.pointer("/spec/volumeClaimTemplates/0/spec/storageClassName")?.as_str()
}

/// How long its pods try to deliver a mail, in seconds, where it says so.
pub fn lifetime_seconds(set: &StatefulSet) -> Option<i32> {
    let containers = &set.spec.template.spec.as_ref()?.containers;
    let mut variables = containers.iter().flat_map(|container| container.env.iter().flatten());
    variables.find(|variable| variable.name == SPOOL_LIFETIME)?.value.as_ref()?.parse().ok()
}

/// What the claims of a StatefulSet are made like.
pub fn claims(set: &StatefulSet) -> Option<claim::Template> {
    let spec = set.spec.volume_claim_templates.as_ref()?.first()?.spec.as_ref()?;
    let size = spec.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone();
    Some(claim::Template { size, class: spec.storage_class_name.clone() })
}
