//! How many pods there should be, decided by load.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A HorizontalPodAutoscaler that changes `spec.replicas` of this resource, so that the spool of a pod that goes is
/// drained. Leave `spec.replicas` out of what you apply: it is the autoscaler's then.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas")
        .message("autoscaling.minReplicas must be at most autoscaling.maxReplicas"),
    validation = Rule::new("has(self.targetCPUUtilizationPercentage) || has(self.metrics)")
        .message("autoscaling must have targetCPUUtilizationPercentage, metrics or both")
)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// The fewest pods.
    #[serde(default = "min_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: i32,
    /// The most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// How much of the CPU that `spec.resources.requests` sets aside the daemon should use, on the average of all
    /// pods, in percent. Further containers do not count.
    #[serde(default, rename = "targetCPUUtilizationPercentage", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization_percentage: Option<i32>,
    /// Metrics of the pods, as an adapter serves them by the API `custom.metrics.k8s.io`: those of the daemon, such as
    /// `mail_laser_smtp_sessions`. Of several targets that which takes most pods counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub metrics: Vec<AutoscalingMetric>,
    /// For how long the load has to be lower before pods go, in seconds. A pod with a spool that goes takes a drain.
    #[serde(default = "scale_down_stabilization_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
}

/// A metric of the pods, and what it should be.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingMetric {
    /// Name of the metric, as the adapter has it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub name: String,
    /// What it should be on the average of all pods.
    pub target_average_value: Quantity,
}

// Both are the defaults of Kubernetes.
fn min_replicas() -> i32 {
    1
}
fn scale_down_stabilization_seconds() -> i32 {
    300
}
