//! The kinds that the operator looks after objects of.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::ApiResource;
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
    /// The disk of a pod. It is not owned: it outlives the resource.
    Claim,
}

impl Kind {
    /// All kinds, in the order in which they are written: what a pod needs comes before the pods.
    pub const ALL: [Self; 9] = [
        Self::ServiceAccount,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::Deployment,
        Self::StatefulSet,
        Self::Job,
        Self::HorizontalPodAutoscaler,
        Self::Claim,
    ];

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
            Self::Claim => "PersistentVolumeClaim",
        }
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
            Self::Claim => ApiResource::erase::<PersistentVolumeClaim>(&()),
        }
    }
}
