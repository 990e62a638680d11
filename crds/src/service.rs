//! The Service in front of the pods.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service that receives the mails. It is never deleted and made anew, because its address may be
/// an MX record.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.type != 'ClusterIP' || (!has(self.nodePort) && !has(self.externalTrafficPolicy))")
        .message("service.nodePort and service.externalTrafficPolicy must be absent when service.type is ClusterIP: use type NodePort or LoadBalancer"),
    validation = Rule::new("self.type == 'LoadBalancer' || !has(self.loadBalancerClass)")
        .message("service.loadBalancerClass must be absent unless service.type is LoadBalancer")
)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// How the Service is reached.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Port of the Service.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Annotations of the Service, for cloud load balancers and DNS controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Port on every node; by default the cluster takes a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Which load balancer implementation is meant. The cluster does not let it change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
    /// `Local` keeps the address of the client, and with it the limit of connections from one address;
    /// with `Cluster` the pods see addresses of nodes, so that limit is off, unless `proxyProtocolFrom` says
    /// who tells them the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: port(),
            annotations: BTreeMap::new(),
            node_port: None,
            load_balancer_class: None,
            external_traffic_policy: None,
        }
    }
}

fn port() -> i32 {
    25
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    /// From inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node, too.
    NodePort,
    /// Through a load balancer of the cloud, too.
    LoadBalancer,
}

impl ServiceType {
    /// As in a Service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Which nodes pass traffic from outside on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ExternalTrafficPolicy {
    /// Every node, hiding the client's address.
    Cluster,
    /// Nodes with a ready pod, keeping the client's address.
    Local,
}

impl ExternalTrafficPolicy {
    /// As in a Service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}
