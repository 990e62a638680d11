//! The kinds that the operator looks after objects of.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// A kind that the operator looks after objects of.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// The identity of the pods.
    ServiceAccount,
    /// What receives mails.
    Service,
    /// How many pods may be away.
    PodDisruptionBudget,
    /// Who may connect to the pods, and where they may.
    NetworkPolicy,
    /// What runs the pods that keep mail in memory.
    Deployment,
    /// What runs the pods that keep mail on disk, and makes their claims.
    StatefulSet,
    /// What delivers the mail that a removed pod left on its disk.
    Job,
    /// How many pods there should be, decided by load.
    HorizontalPodAutoscaler,
    /// The dashboard.
    ConfigMap,
    /// A part of the table of routes.
    Secret,
    /// By what Prometheus finds the pods.
    PodMonitor,
    /// What Prometheus tells people of.
    PrometheusRule,
    /// The disk of a pod. It is not owned: it outlives the resource.
    Claim,
}

impl Kind {
    /// The kinds that every cluster has, in the order in which they are written: what a pod needs comes before the pods.
    pub const ALL: [Self; 11] = [
        Self::ServiceAccount,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::Deployment,
        Self::StatefulSet,
        Self::Job,
        Self::HorizontalPodAutoscaler,
        Self::ConfigMap,
        Self::Secret,
        Self::Claim,
    ];

    /// The kinds that a cluster may not have.
    pub const OPTIONAL: [Self; 2] = [Self::PodMonitor, Self::PrometheusRule];

    /// As in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::Job => "Job",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PodMonitor => "PodMonitor",
            Self::PrometheusRule => "PrometheusRule",
            Self::Claim => "PersistentVolumeClaim",
        }
    }

    /// Whether a resource may have several objects of it, which are found by its label. All others have a name that is
    /// known from the resource's.
    pub fn has_several(self) -> bool {
        matches!(self, Self::Job | Self::Secret | Self::Claim)
    }

    /// Whether somebody may put something into one that no apply of ours can be beside: then the whole of it is written,
    /// see [`crate::apply::replacement`].
    pub fn has_fields_that_exclude_others(self) -> bool {
        matches!(self, Self::Deployment | Self::StatefulSet | Self::Service | Self::PodDisruptionBudget)
    }

    /// Has an object say that it is of this kind.
    pub fn name(self, object: &mut Value) {
        let resource = self.api_resource();
        object["apiVersion"] = resource.api_version.into();
        object["kind"] = resource.kind.into();
    }

    /// Where the API server has it.
    pub fn api_resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::PodMonitor => of_prometheus_operator("PodMonitor", "podmonitors"),
            Self::PrometheusRule => of_prometheus_operator("PrometheusRule", "prometheusrules"),
            Self::Claim => ApiResource::erase::<PersistentVolumeClaim>(&()),
        }
    }
}

fn of_prometheus_operator(kind: &str, plural: &str) -> ApiResource {
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", kind);
    ApiResource::from_gvk_with_plural(&kind, plural)
}
