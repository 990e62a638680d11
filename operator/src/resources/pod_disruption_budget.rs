//! How many pods may be away at once when nodes are drained.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels;
use crate::validate::ValidatedMailLaser;

/// From how many replicas on there is a budget: with fewer it could only block drains.
const REPLICAS_MIN: i32 = 2;

/// The PodDisruptionBudget of a resource; none below two replicas.
///
/// A pod that is not ready may always be evicted: it serves nobody, and must not hold up a drain.
pub fn build(resource: &ValidatedMailLaser) -> Option<PodDisruptionBudget> {
    (resource.spec.replicas >= REPLICAS_MIN).then(|| PodDisruptionBudget {
        metadata: super::metadata(resource),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&resource.name)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
