//! Security contexts, as far as the Pod Security Standard `restricted` leaves a choice.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who the containers of a pod are. They are never root, gain no privileges, and have no capabilities.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurityContext {
    /// The user; 65532 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// The group; 65532 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
    /// The group that volumes are made writable for; 65532 by default with a spool, and none without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub fs_group: Option<i64>,
    /// Further groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 1, max = 2_147_483_647)))]
    pub supplemental_groups: Vec<i64>,
    /// Which system calls are open; `RuntimeDefault` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<Profile>,
    /// What AppArmor permits; by default what the node's runtime does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_armor_profile: Option<Profile>,
    /// The labels of SELinux; by default the runtime chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se_linux_options: Option<SeLinuxOptions>,
}

/// A profile of seccomp or AppArmor.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(self.type == 'Localhost') == has(self.localhostProfile)")
        .message("localhostProfile is required with type Localhost, and must be absent without")
)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Whose profile it is.
    #[serde(rename = "type")]
    pub type_: ProfileType,
    /// The profile of the node, with type `Localhost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub localhost_profile: Option<String>,
}

/// Whose profile it is; there has to be one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ProfileType {
    /// That of the container runtime.
    RuntimeDefault,
    /// One of the node's.
    Localhost,
}

impl ProfileType {
    /// As in a pod.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuntimeDefault => "RuntimeDefault",
            Self::Localhost => "Localhost",
        }
    }
}

/// The labels of SELinux.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeLinuxOptions {
    /// The level, such as `s0:c123,c456`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub level: Option<String>,
}

/// Who one container is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSecurityContext {
    /// The user; by default that of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,
    /// The group; by default that of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,
    /// Whether nothing but volumes can be written.
    #[serde(default = "read_only_root_filesystem")]
    pub read_only_root_filesystem: bool,
}

impl Default for ContainerSecurityContext {
    fn default() -> Self {
        Self { run_as_user: None, run_as_group: None, read_only_root_filesystem: read_only_root_filesystem() }
    }
}

fn read_only_root_filesystem() -> bool {
    true
}
