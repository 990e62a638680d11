//! Where the mail of a route goes.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::references::{CaBundleSource, SecretKeySelector, SecretSource};
use crate::webhook::{CircuitBreaker, ServiceRef, concurrency, max_retries, timeout_seconds};

/// The type of the Secrets that a route may refer to. One of another type could hold what the author of a route may
/// not read, and would send to himself.
pub const WEBHOOK_SECRET_TYPE: &str = "mail-laser.dev/webhook";

/// Where the mail of a route goes: one of `url`, `urlFrom` and `serviceRef`. Secrets, ConfigMaps and Services are of
/// the route's namespace, Secrets of type `mail-laser.dev/webhook`. What changes in them is in force without a restart.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(has(self.url) ? 1 : 0) + (has(self.urlFrom) ? 1 : 0) + (has(self.serviceRef) ? 1 : 0) == 1")
        .message("webhook must have one of url, urlFrom and serviceRef"),
    validation = Rule::new("!has(self.url) || (isURL(self.url) && url(self.url).getScheme() == 'https' && url(self.url).getHostname() != '')")
        .message("webhook.url must be an absolute https URL, such as https://api.example.com/inbound; plain http is permitted to a Service of the same namespace alone, by webhook.serviceRef"),
    validation = Rule::new("!has(self.url) || !has(self.bearerTokenFrom) || !self.url.matches('^[^/?#]*//[^/?#]*@')")
        .message("webhook.bearerTokenFrom must be absent when webhook.url names a user: a request has one Authorization"),
    validation = Rule::new("!has(self.headers) || !has(self.bearerTokenFrom) || !self.headers.exists(name, name.lowerAscii() == 'authorization')")
        .message("webhook.headers must not set Authorization beside webhook.bearerTokenFrom: a request has one"),
    validation = Rule::new("!has(self.url) || !has(self.headers) || !self.url.matches('^[^/?#]*//[^/?#]*@') || !self.headers.exists(name, name.lowerAscii() == 'authorization')")
        .message("webhook.headers must not set Authorization when webhook.url names a user: a request has one")
)]
#[serde(rename_all = "camelCase")]
pub struct RouteWebhook {
    /// Address of the webhook: https, at a public address. It is readable for everybody who can read this resource: an
    /// address that holds a secret belongs into `urlFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// Address of the webhook, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretSource>,
    /// A Service of the same namespace as the webhook, not of type ExternalName. Plain http is permitted to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
    /// Token that is sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_from: Option<SecretSource>,
    /// Certificates (PEM) that are trusted in addition to the system's.
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
    /// Headers of every request, readable for everybody who can read this resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[A-Za-z0-9_-]{1,128}$') && self[name].matches('^[ -~]*$'))")
            .message("webhook.headers must have names of letters, digits, '-' and '_', and values of visible ASCII"),
        validation = Rule::new("self.all(name, !(name.lowerAscii() in ['connection', 'content-length', 'content-type', 'host', 'te', 'transfer-encoding', 'upgrade', 'user-agent']) && !name.lowerAscii().startsWith('x-maillaser-') && !name.lowerAscii().startsWith('webhook-') && !name.lowerAscii().startsWith('idempotency-'))")
            .message("webhook.headers must not set what the daemon sets: Host, Content-Type, User-Agent, Idempotency-Key, X-MailLaser-*, Webhook-* and what belongs to the connection")
    )]
    pub headers: BTreeMap<String, String>,
    /// Headers of a mail whose names start with one of these, without regard to case, are part of the JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(prefix, prefix.matches('^[A-Za-z0-9_-]+$'))")
            .message("headerPrefixes must be starts of header names, such as X-Ticket: letters, digits, '-' and '_'")
    )]
    pub header_prefixes: Vec<String>,
    /// Signatures by which the webhook knows that a request is the gateway's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
}

impl Default for RouteWebhook {
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
            headers: BTreeMap::new(),
            header_prefixes: Vec::new(),
            signing: None,
        }
    }
}

/// What requests are signed with.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// The secrets, the newest first. Two during a rotation: `X-MailLaser-Signature-256` is made with the first, the
    /// header of Standard Webhooks has a signature of each.
    #[schemars(length(min = 1, max = 2))]
    pub secret_refs: Vec<SecretKeySelector>,
}
