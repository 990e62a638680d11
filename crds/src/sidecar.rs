//! Containers beside the daemon's.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::env::EnvVar;
use crate::mail_laser::{ImagePullPolicy, Resources};
use crate::reserved;
use crate::security::ContainerSecurityContext;
use crate::volume::VolumeMount;

/// A container beside the daemon's, such as a proxy on the way to the webhook. It is started before the daemon and
/// stopped after it, in pods that drain a spool, too: Kubernetes calls that a sidecar.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Name of the container.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Image of the container.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^\S+$"))]
    pub image: String,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// What is run; by default what the image says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Its arguments; by default what the image says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvVar>,
    /// Ports that it listens on. Those of the daemon are taken: 2525, 4465, 8080 and 9090.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["containerPort".to_owned()]), validation = ports_rule())]
    pub ports: Vec<SidecarPort>,
    /// CPU and memory.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Which volumes of `podTemplate.volumes` it sees, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".to_owned()]))]
    pub volume_mounts: Vec<VolumeMount>,
    /// When it has started; the daemon waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<SidecarProbe>,
    /// When it is restarted because it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<SidecarProbe>,
    /// When the pod gets mails, beside the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<SidecarProbe>,
    /// Who it is.
    #[serde(default)]
    pub security_context: ContainerSecurityContext,
}

/// A port of a container.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarPort {
    /// Name of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Number of the port; TCP.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: i32,
}

fn ports_rule() -> Rule {
    let numbers: Vec<_> = reserved::PORTS.iter().map(ToString::to_string).collect();
    let numbers = numbers.join(", ");
    let names = reserved::condition(reserved::PORT_NAMES, "p.name");
    Rule::new(format!("!self.exists(p, p.containerPort in [{numbers}] || (has(p.name) && {names}))")).message(
        format!(
            "ports of a container must not be the daemon's: {numbers}, {}",
            reserved::PORT_NAMES.join(", ")
        )
        .as_str(),
    )
}

/// How a container is asked for its health.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1")
        .message("a probe must have exactly one of httpGet, tcpSocket and exec")
)]
#[serde(rename_all = "camelCase")]
pub struct SidecarProbe {
    /// By a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// By a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocket>,
    /// By a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Seconds from the start of the container to the first question.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: i32,
    /// Seconds between questions.
    #[serde(default = "period_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
    /// Seconds within which the answer must come.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: i32,
    /// How many failures in a row count.
    #[serde(default = "failure_threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: i32,
}

// What Kubernetes would fill in.
fn period_seconds() -> i32 {
    10
}
fn timeout_seconds() -> i32 {
    1
}
fn failure_threshold() -> i32 {
    3
}

/// A request that asks for health; any status from 200 to 399 is a yes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Path of the request.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Port of the container.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

fn root_path() -> String {
    "/".to_owned()
}

/// A connection that asks for health.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpSocket {
    /// Port of the container.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A command that asks for health; its exit code 0 is a yes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// The command and its arguments.
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
}
