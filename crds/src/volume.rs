//! Volumes of the pods, as far as they are open to choice: nothing of the node, no token.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reserved;

/// A further volume of the pods.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.emptyDir) ? 1 : 0) + (has(self.persistentVolumeClaim) ? 1 : 0) == 1")
        .message("a volume must have exactly one of configMap, secret, emptyDir and persistentVolumeClaim")
)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Files from a ConfigMap of the same namespace. When its content changes, the pods are rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// Files from a Secret of the same namespace. When its content changes, the pods are rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// A directory that is empty when the pod starts, and goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirVolume>,
    /// A claim of the same namespace. All pods share it, those that drain a spool, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
}

/// Files from a ConfigMap.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The keys that become files; all by default, each under its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<VolumeItem>,
    /// Permissions of the files; 420, which is 0644, by default.
    #[serde(default = "default_mode")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: i32,
    /// Whether pods may start without the ConfigMap or its keys.
    #[serde(default)]
    pub optional: bool,
}

/// Files from a Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The keys that become files; all by default, each under its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub items: Vec<VolumeItem>,
    /// Permissions of the files; 420, which is 0644, by default.
    #[serde(default = "default_mode")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: i32,
    /// Whether pods may start without the Secret or its keys.
    #[serde(default)]
    pub optional: bool,
}

/// The default of Kubernetes.
fn default_mode() -> i32 {
    0o644
}

/// A key that becomes a file.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeItem {
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// The file, relative to where the volume is mounted.
    #[schemars(length(min = 1, max = 253))]
    pub path: String,
}

/// A directory that is empty when the pod starts.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDirVolume {
    /// Where it is: on the node's disk by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<EmptyDirMedium>,
    /// How much it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// Where an empty directory is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EmptyDirMedium {
    /// In memory, which counts as that of the container that writes.
    Memory,
}

/// A claim.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// Name of the claim; not of a spool's, `spool-*`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = claim_rule())]
    pub claim_name: String,
    /// Whether it is mounted for reading alone.
    #[serde(default)]
    pub read_only: bool,
}

fn claim_rule() -> Rule {
    Rule::new(format!("!{}", reserved::condition(reserved::CLAIMS, "self")))
        .message("a volume must not be a claim of a spool (spool-*): each has one writer")
}

/// Where a volume is mounted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The directory, or with `subPath` of a file the file.
    #[schemars(length(min = 2, max = 253), regex(pattern = r"^(/[^/:]+)+$"))]
    pub mount_path: String,
    /// The part of the volume that is mounted; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub sub_path: Option<String>,
    /// Whether it is mounted for reading alone.
    #[serde(default)]
    pub read_only: bool,
}
