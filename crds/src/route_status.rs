//! What the operator reports of a route, for each gateway, as Gateway API does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::route::ParentRef;

/// Who writes an entry of [`MailRouteStatus::parents`].
pub const CONTROLLER_NAME: &str = "mail-laser.dev/operator";

/// What the operator reports.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteStatus {
    /// The host of the webhook, without port, path and credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub destination: Option<String>,
    /// What came of the route at each gateway. Entries of other controllers are left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parents: Vec<RouteParentStatus>,
}

/// What came of a route at a gateway.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The gateway, as `spec.parentRefs` has it.
    pub parent_ref: ParentRef,
    /// Who says so: `mail-laser.dev/operator`.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs` and `Programmed`; all three are always there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
