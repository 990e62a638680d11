//! When a sender is told that its mail was accepted, and who keeps the mail until it is delivered.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a sender is told that its mail was accepted.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.mode != 'Spool' || has(self.spool)")
        .message("delivery.spool is required when delivery.mode is Spool: set its size, such as 10Gi"),
    validation = Rule::new("self.mode == 'Spool' || !has(self.spool)")
        .message("delivery.spool must be absent unless delivery.mode is Spool: what a spool holds is delivered after the change, without it")
)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The mode of delivery. `Forward`: once the mail is queued in memory; what cannot be delivered is dropped,
    /// with a warning. `Confirm`: once the webhook has answered `2xx`; until then the sender waits and keeps
    /// the mail. `Spool`: once the mail is on disk; it is kept there until it is delivered. After a change the
    /// new pods are ready before the old ones go, and a spool is drained.
    #[serde(default)]
    pub mode: DeliveryMode,
    /// The disk of each pod, with mode `Spool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<Spool>,
}

/// Modes of delivery.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeliveryMode {
    /// A mail is accepted when it is queued in memory. What cannot be delivered is dropped, with a warning.
    #[default]
    Forward,
    /// A mail is accepted when the webhook has answered `2xx`. Until then the sender waits, and it is told what
    /// the webhook says instead: `451`, and it tries again later, or `554`, where the webhook will never take
    /// the mail.
    Confirm,
    /// A mail is accepted when it is on disk. It is tried for days, and then kept as a dead letter.
    Spool,
}

impl DeliveryMode {
    /// As in the daemon's configuration.
    pub fn as_env(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Confirm => "confirm",
            Self::Spool => "spool",
        }
    }
}

/// The disk of each pod: a claim of its own, `spool-<name>-<number of the pod>`. Claims outlive the resource, and
/// one of the same name takes them up again.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("delivery.spool.size only grows, because a volume cannot shrink: for smaller ones set delivery.mode to Confirm, wait until the spool is drained, and set Spool with the new size"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("delivery.spool.storageClassName cannot change, because a volume cannot move: set delivery.mode to Confirm, wait until the spool is drained, and set Spool with the other class")
)]
#[serde(rename_all = "camelCase")]
pub struct Spool {
    /// Size of each claim, such as 10Gi; from 256Mi to 64Ti. 70 % of it are for mails that wait, which has to be
    /// enough for those of the longest time that the webhook may be away. It can grow later if the storage class
    /// can.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[0-9]+(\.[0-9]+)?([KMGT]i|[kMGT])?$"))]
    #[x_kube(
        validation = Rule::new("quantity(self).compareTo(quantity('256Mi')) >= 0 && quantity(self).compareTo(quantity('64Ti')) <= 0")
            .message("delivery.spool.size must be from 256Mi to 64Ti")
    )]
    pub size: String,
    /// Storage class of the claims; by default the cluster's. `ReadWriteOnce` is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
            .message("delivery.spool.storageClassName must be the name of a StorageClass: lower-case letters, digits, '-' and '.', starting and ending with a letter or a digit")
    )]
    pub storage_class_name: Option<String>,
    /// How long a mail is tried before it becomes a dead letter, in seconds. The default is the five days after
    /// which mail servers give up (RFC 5321).
    #[serde(default = "lifetime_seconds")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub lifetime_seconds: i32,
}

fn lifetime_seconds() -> i32 {
    432_000
}
