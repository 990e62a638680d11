//! The Deployment that runs the daemon where mail is kept in memory.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::{self, Role};
use super::{REVISION_HISTORY_LIMIT, labels};
use crate::references::evaluate::Dereferenced;
use crate::validate::ValidatedMailLaser;

/// The default of Kubernetes. What has no deadline there has the same one here.
pub const PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// The Deployment of a resource.
pub fn build(resource: &ValidatedMailLaser, references: &Dereferenced, ipv6: bool) -> Deployment {
    Deployment {
        metadata: super::metadata(resource),
        spec: DeploymentSpec {
            replicas: Some(resource.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(labels::selector(&resource.name)),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: pod::template(resource, references, ipv6, Role::Memory),
            progress_deadline_seconds: Some(PROGRESS_DEADLINE_SECONDS),
            revision_history_limit: Some(REVISION_HISTORY_LIMIT),
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}
