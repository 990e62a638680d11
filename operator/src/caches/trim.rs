//! What of an object is not looked at, and so not kept.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use mail_laser_crds::{DRAIN_LABEL, NAME_LABEL};

use crate::resources::labels::{ROUTES_GENERATION, TEMPLATE_HASH};

/// Field sets are never looked at, and `kubectl apply` keeps a copy of all in an annotation.
pub(super) fn trim_resource(resource: &mut impl Resource) {
    let meta = resource.meta_mut();
    meta.managed_fields = None;
    meta.annotations = None;
}

/// What [`crate::status::workload`] and [`crate::routes`] look at.
pub(super) fn trim_pod(pod: &mut Pod) {
    pod.metadata = ObjectMeta {
        name: pod.metadata.name.take(),
        namespace: pod.metadata.namespace.take(),
        labels: only(pod.metadata.labels.take(), &[NAME_LABEL, DRAIN_LABEL]),
        annotations: only(pod.metadata.annotations.take(), &[TEMPLATE_HASH, ROUTES_GENERATION]),
        resource_version: pod.metadata.resource_version.take(),
        creation_timestamp: pod.metadata.creation_timestamp.take(),
        deletion_timestamp: pod.metadata.deletion_timestamp.take(),
        ..ObjectMeta::default()
    };
    pod.spec = None;
    if let Some(status) = pod.status.take() {
        pod.status = Some(PodStatus {
            conditions: status.conditions,
            container_statuses: status.container_statuses,
            init_container_statuses: status.init_container_statuses,
            ..PodStatus::default()
        });
    }
}

fn only(map: Option<BTreeMap<String, String>>, keys: &[&str]) -> Option<BTreeMap<String, String>> {
    map.map(|mut map| {
        map.retain(|key, _| keys.contains(&key.as_str()));
        map
    })
}

/// What is asked of these is whether they exist, and in which version.
pub(super) fn trim_metadata<K>(object: &mut PartialObjectMeta<K>) {
    keep_version(&mut object.metadata);
}

/// What an object is called, and which version of it that is.
pub(crate) fn keep_version(meta: &mut ObjectMeta) {
    *meta = ObjectMeta {
        name: meta.name.take(),
        namespace: meta.namespace.take(),
        resource_version: meta.resource_version.take(),
        ..ObjectMeta::default()
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::status::workload::observe_set;

    /// No kubelet has said anything of it.
    #[test]
    fn a_trimmed_pod_without_a_node_has_its_deadline() {
        let annotations = json!({ TEMPLATE_HASH: "new" });
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a-0", "annotations": annotations, "creationTimestamp": "1970-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
        }))
        .unwrap();
        trim_pod(&mut pod);
        let set: StatefulSet = serde_json::from_value(json!({
            "metadata": {},
            "spec": {"serviceName": "", "selector": {}, "template": {"metadata": {"annotations": annotations}}},
        }))
        .unwrap();
        let problem = observe_set(Some(&set), 1, &[Arc::new(pod)], Timestamp::now()).problem.unwrap();
        assert!(problem.message.contains("0/1 nodes"), "{}", problem.message);
    }
}
