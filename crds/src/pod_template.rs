//! What of the pods is open to choice.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Additions to the pods. Service account, host namespaces, volumes and privileges are not open to
/// choice: pods satisfy the Pod Security Standard `restricted`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('mail-laser.dev/') && !(key in ['app.kubernetes.io/name', 'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by']))")
            .message("podTemplate.labels must not have the operator's own labels: mail-laser.dev/*, app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/managed-by")
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(key, !key.startsWith('mail-laser.dev/'))")
            .message("podTemplate.annotations must not have the operator's own annotations: mail-laser.dev/*"),
        validation = Rule::new("self.all(key, !key.startsWith('container.apparmor.security.beta.kubernetes.io/') && !key.startsWith('container.seccomp.security.alpha.kubernetes.io/') && key != 'seccomp.security.alpha.kubernetes.io/pod')")
            .message("podTemplate.annotations must not loosen the pods' confinement: no AppArmor and no seccomp annotations")
    )]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Rules for the choice of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over nodes and zones. A constraint without a `labelSelector` counts the pods
    /// of this resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}
