//! When the kubelet asks a pod for its health. What it asks, `GET /health`, is not open to choice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The timing of the probes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// When a pod is restarted because it does not answer.
    #[serde(default)]
    pub liveness: LivenessProbe,
    /// When a pod gets mails.
    #[serde(default)]
    pub readiness: ReadinessProbe,
}

/// Timing of the liveness probe.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LivenessProbe {
    /// Seconds from the start of the container to the first question.
    #[serde(default = "liveness_initial_delay_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: i32,
    /// Seconds between questions.
    #[serde(default = "liveness_period_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
    /// Seconds within which the answer must come.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: i32,
    /// After how many failures in a row the container is restarted.
    #[serde(default = "failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
}

/// Timing of the readiness probe.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessProbe {
    /// Seconds from the start of the container to the first question.
    #[serde(default = "readiness_initial_delay_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: i32,
    /// Seconds between questions.
    #[serde(default = "readiness_period_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
    /// Seconds within which the answer must come.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: i32,
    /// After how many failures in a row the pod gets no more mails.
    #[serde(default = "failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
}

// Delays and periods are the original's; timeout and threshold are what Kubernetes would fill in.
fn liveness_initial_delay_seconds() -> i32 {
    5
}
fn liveness_period_seconds() -> i32 {
    30
}
fn readiness_initial_delay_seconds() -> i32 {
    2
}
fn readiness_period_seconds() -> i32 {
    10
}
fn timeout_seconds() -> i32 {
    1
}
fn failure_threshold() -> i32 {
    3
}

impl Default for LivenessProbe {
    fn default() -> Self {
        Self {
            initial_delay_seconds: liveness_initial_delay_seconds(),
            period_seconds: liveness_period_seconds(),
            timeout_seconds: timeout_seconds(),
            failure_threshold: failure_threshold(),
        }
    }
}

impl Default for ReadinessProbe {
    fn default() -> Self {
        Self {
            initial_delay_seconds: readiness_initial_delay_seconds(),
            period_seconds: readiness_period_seconds(),
            timeout_seconds: timeout_seconds(),
            failure_threshold: failure_threshold(),
        }
    }
}

/// What both probes have in common. The two types above differ in their defaults alone, which a schema
/// holds by field, so each probe has a type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbeTiming {
    /// Seconds from the start of the container to the first question.
    pub initial_delay_seconds: i32,
    /// Seconds between questions.
    pub period_seconds: i32,
    /// Seconds within which the answer must come.
    pub timeout_seconds: i32,
    /// Failures in a row that count.
    pub failure_threshold: i32,
}

impl From<&LivenessProbe> for ProbeTiming {
    fn from(probe: &LivenessProbe) -> Self {
        Self {
            initial_delay_seconds: probe.initial_delay_seconds,
            period_seconds: probe.period_seconds,
            timeout_seconds: probe.timeout_seconds,
            failure_threshold: probe.failure_threshold,
        }
    }
}

impl From<&ReadinessProbe> for ProbeTiming {
    fn from(probe: &ReadinessProbe) -> Self {
        Self {
            initial_delay_seconds: probe.initial_delay_seconds,
            period_seconds: probe.period_seconds,
            timeout_seconds: probe.timeout_seconds,
            failure_threshold: probe.failure_threshold,
        }
    }
}
