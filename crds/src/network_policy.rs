//! Who may connect to the pods, and where they may connect to.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

/// A NetworkPolicy for the pods, those that drain a spool among them. It has an effect where the cluster's network
/// enforces such policies.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether there is one.
    pub enabled: bool,
    /// Who may send mail; everybody by default. Where addresses of clients do not reach the pods, the nodes or the
    /// load balancer are who sends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = peers_rule("from"))]
    pub from: Vec<NetworkPolicyPeer>,
    /// Who may read metrics; everybody by default. Health can always be asked for, because it is the nodes that do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = peers_rule("metricsFrom"))]
    pub metrics_from: Vec<NetworkPolicyPeer>,
    /// What the pods may connect to, on every port, beside the DNS: where the webhook is. By default for `serviceRef`
    /// all pods of the namespace; for a `url` with a name of the cluster all pods; for any other everything on its
    /// port; and everything for one that a Secret or ConfigMap holds, and where routes of other namespaces are allowed, or
    /// there are some of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = peers_rule("to"))]
    pub to: Vec<NetworkPolicyPeer>,
}

fn peers_rule(field: &str) -> Rule {
    let is_block =
        "has(p.ipBlock) && !has(p.podSelector) && !has(p.namespaceSelector) && isCIDR(p.ipBlock.cidr)";
    let is_pods = "!has(p.ipBlock) && (has(p.podSelector) || has(p.namespaceSelector))";
    Rule::new(format!("self.all(p, ({is_block}) || ({is_pods}))")).message(
        format!(
            "networkPolicy.{field} must be peers, each with an ipBlock that has a network, or with podSelector, \
             namespaceSelector or both"
        )
        .as_str(),
    )
}
