//! The identity of the pods: one without rights and without a token.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::validate::ValidatedMailLaser;

/// The ServiceAccount of a resource. The daemon never talks to the Kubernetes API.
pub fn build(resource: &ValidatedMailLaser) -> ServiceAccount {
    ServiceAccount {
        metadata: super::metadata(resource),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
