//! Where mails go, and how hard delivery is tried.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::{CaBundleSource, SecretSource};

/// The webhook that gets the mails. Its address is one of `url`, `urlFrom` and `serviceRef`, or the
/// variable `MAIL_LASER_WEBHOOK_URL` in `spec.env`.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(has(self.url) ? 1 : 0) + (has(self.urlFrom) ? 1 : 0) + (has(self.serviceRef) ? 1 : 0) <= 1")
        .message("webhook must have only one of url, urlFrom and serviceRef"),
    validation = Rule::new("!has(self.url) || (isURL(self.url) && url(self.url).getScheme() in ['http', 'https'] && url(self.url).getHostname() != '')")
        .message("webhook.url must be an absolute http or https URL, such as https://api.example.com/inbound"),
    validation = Rule::new("!has(self.url) || self.allowHTTP || !isURL(self.url) || url(self.url).getScheme() != 'http' || url(self.url).getHostname() in ['localhost', '127.0.0.1', '::1']")
        .message("webhook.url must be https: plain http needs webhook.allowHTTP: true, or a Service by webhook.serviceRef"),
    validation = Rule::new("!has(self.url) || !has(self.bearerTokenFrom) || !self.url.matches('^[^/?#]*//[^/?#]*@')")
        .message("webhook.bearerTokenFrom must be absent when webhook.url names a user: a request has one Authorization")
)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Address of the webhook. It must be https, unless `allowHTTP` is true or the host is the pod itself.
    /// It is readable for everybody who can read this resource: an address that holds a secret belongs
    /// into `urlFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// Address of the webhook, from a Secret. When its content changes, the pods are rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// A Service of the same namespace as the webhook. Plain http is permitted to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// Token that is sent as `Authorization: Bearer`. When its content changes, the pods are rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_from: Option<SecretSource>,
    /// Certificates (PEM) that are trusted in addition to the system's. When their content changes, the
    /// pods are rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_from: Option<CaBundleSource>,
    /// How long one attempt may take, in seconds.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 300))]
    pub timeout_seconds: i32,
    /// How often a failed delivery is tried again at once; 0 disables retries.
    #[serde(default = "max_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: i32,
    /// When the webhook is left alone because it fails.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// How many deliveries are under way at once.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: i32,
    /// Whether plain http is permitted.
    #[serde(default, rename = "allowHTTP")]
    pub allow_http: bool,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            url_from: None,
            service_ref: None,
            bearer_token_from: None,
            ca_bundle_from: None,
            timeout_seconds: timeout_seconds(),
            max_retries: max_retries(),
            circuit_breaker: CircuitBreaker::default(),
            concurrency: concurrency(),
            allow_http: false,
        }
    }
}

// The defaults of the original daemon.
pub(crate) fn timeout_seconds() -> i32 {
    30
}
pub(crate) fn max_retries() -> i32 {
    3
}
pub(crate) fn concurrency() -> i32 {
    64
}
fn threshold() -> i32 {
    5
}
fn reset_seconds() -> i32 {
    60
}

/// The circuit breaker, in the electrical sense: open means that nothing is sent.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// After how many failed deliveries in a row the circuit opens.
    #[serde(default = "threshold")]
    #[schemars(range(min = 1, max = 1000))]
    pub threshold: i32,
    /// After how many seconds an open circuit lets one delivery through as a probe.
    #[serde(default = "reset_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub reset_seconds: i32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { threshold: threshold(), reset_seconds: reset_seconds() }
    }
}

/// A Service of the same namespace: `<scheme>://<name>.<namespace>.svc:<port><path>`.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
            .message("serviceRef.name must be the name of a Service: lower-case letters, digits and '-', starting with a letter")
    )]
    pub name: String,
    /// Port of the Service, by number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path of the request, with the query if there is one.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("self.matches('^/[!-\"$-~]*$')")
            .message("serviceRef.path must start with '/' and have neither blanks nor '#'")
    )]
    pub path: String,
    /// Protocol.
    #[serde(default)]
    pub scheme: Scheme,
}

impl ServiceRef {
    /// A reference to `port` of the Service `name`, with the defaults for the rest.
    pub fn new(name: &str, port: i32) -> Self {
        Self { name: name.to_owned(), port, path: root_path(), scheme: Scheme::default() }
    }
}

fn root_path() -> String {
    "/".to_owned()
}

/// Protocol of a webhook that is a Service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain http.
    #[default]
    Http,
    /// http over TLS; the Service's certificate must name `<name>.<namespace>.svc`.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
