//! What watches the pods from outside.

use std::collections::BTreeMap;

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use crate::reserved;

/// Objects for the Prometheus Operator and Grafana. What the cluster has no kind for is left out until it has.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// A PodMonitor, by which Prometheus reads the pods' metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_monitor: Option<PodMonitor>,
    /// A PrometheusRule with alerts on what the PodMonitor has Prometheus read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus_rule: Option<PrometheusRule>,
    /// A ConfigMap `<name>-dashboard` with a dashboard for Grafana of what the PodMonitor has Prometheus read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<Dashboard>,
}

/// By what Prometheus reads the pods' metrics.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitor {
    /// Whether there is one.
    pub enabled: bool,
    /// Labels by which a Prometheus selects it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = labels_rule("podMonitor"))]
    pub labels: BTreeMap<String, String>,
    /// Seconds between two readings; by default what Prometheus has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: Option<i32>,
}

/// Alerts.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusRule {
    /// Whether there are any.
    pub enabled: bool,
    /// Labels by which a Prometheus selects them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = labels_rule("prometheusRule"))]
    pub labels: BTreeMap<String, String>,
}

/// A dashboard for Grafana.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// Whether there is one.
    pub enabled: bool,
    /// Labels beside `grafana_dashboard: "1"`, by which Grafana's sidecar finds it. That one may be here, too, with
    /// another value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = labels_rule("dashboard"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations, such as `grafana_folder`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

fn labels_rule(field: &str) -> Rule {
    let own = reserved::LABELS;
    Rule::new(format!("!self.exists(key, {})", reserved::condition(own, "key"))).message(
        format!("monitoring.{field}.labels must not have the operator's own labels: {}", own.join(", "))
            .as_str(),
    )
}
