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
        .message("service.loadBalancerClass must be absent unless service.type is LoadBalancer"),
    validation = Rule::new("self.type == 'LoadBalancer' || !has(self.loadBalancerSourceRanges)")
        .message("service.loadBalancerSourceRanges must be absent unless service.type is LoadBalancer"),
    validation = Rule::new("!has(self.ipFamilies) || self.ipFamilies.size() < 2 || self.ipFamilyPolicy != 'SingleStack'")
        .message("service.ipFamilies must be one family when service.ipFamilyPolicy is SingleStack: use PreferDualStack or RequireDualStack for two")
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
    /// Networks that the load balancer takes connections from; all by default. Not every load balancer can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 4, max = 43)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network))")
            .message("service.loadBalancerSourceRanges must be networks, such as 192.0.2.0/24 or 2001:db8::/32")
    )]
    pub load_balancer_source_ranges: Vec<String>,
    /// Which nodes pass traffic from outside on. `Local`: those with a ready pod, and pods see the client's
    /// address. `Cluster`: all, and pods see addresses of nodes, so that the limit of connections from one
    /// address is off. By default `Local`; `Cluster` where `proxyProtocolFrom` says who tells the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Of how many IP families the Service has addresses.
    #[serde(default)]
    pub ip_family_policy: IpFamilyPolicy,
    /// The families, the first one first; by default the cluster's. The cluster does not let the first one
    /// change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(
        validation = Rule::new("self.size() < 2 || self[0] != self[1]")
            .message("service.ipFamilies must name each family once")
    )]
    pub ip_families: Vec<IpFamily>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: port(),
            annotations: BTreeMap::new(),
            node_port: None,
            load_balancer_class: None,
            load_balancer_source_ranges: Vec::new(),
            external_traffic_policy: None,
            ip_family_policy: IpFamilyPolicy::default(),
            ip_families: Vec::new(),
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

/// Of how many IP families a Service has addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IpFamilyPolicy {
    /// Of one.
    #[default]
    SingleStack,
    /// Of both, where the cluster has both.
    PreferDualStack,
    /// Of both, and of none where the cluster does not have both.
    RequireDualStack,
}

impl IpFamilyPolicy {
    /// As in a Service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleStack => "SingleStack",
            Self::PreferDualStack => "PreferDualStack",
            Self::RequireDualStack => "RequireDualStack",
        }
    }
}

/// An IP family.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum IpFamily {
    /// 32 bits.
    IPv4,
    /// 128 bits.
    IPv6,
}

impl IpFamily {
    /// As in a Service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }
}
