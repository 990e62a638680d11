//! How senders are met: TLS, and the certificate that they see.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS between senders and the pods.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("self.mode != 'Off' || !has(self.smtpsPort)")
        .message("tls.smtpsPort must be absent when tls.mode is Off: use mode Opportunistic or Require")
)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether TLS is offered, or needed. In YAML "Off" needs its quotes: bare it is a boolean.
    #[serde(default)]
    pub mode: TlsMode,
    /// A Secret of type `kubernetes.io/tls` with the certificate that senders see; without one the pods make
    /// self-signed certificates. A renewed certificate is taken up within two minutes and restarts nothing.
    /// When the Secret is deleted, pods that run keep what they have. With mode `Off` it is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
            .message("tls.secretName must be the name of a Secret: lower-case letters, digits, '-' and '.', starting and ending with a letter or a digit")
    )]
    pub secret_name: Option<String>,
    /// A further port of the Service, with TLS from the first byte; 465 by convention. `service.nodePort` is
    /// not its: of a Service that has node ports the cluster takes a free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub smtps_port: Option<i32>,
}

impl Tls {
    /// The Secret with the certificate, if one is used.
    pub fn secret(&self) -> Option<&str> {
        self.secret_name.as_deref().filter(|_| self.mode != TlsMode::Off)
    }
}

/// Whether a session has to be secured.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum TlsMode {
    /// There is no TLS.
    Off,
    /// STARTTLS is offered, and mail is taken without it, too.
    #[default]
    Opportunistic,
    /// No mail is taken without TLS.
    Require,
}

impl TlsMode {
    /// As in the daemon's configuration.
    pub fn as_env(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Require => "require",
        }
    }
}
