//! The `MailLaser` kind.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::allowed_routes::AllowedRoutes;
use crate::autoscaling::Autoscaling;
use crate::delivery::Delivery;
use crate::env::EnvVar;
use crate::monitoring::Monitoring;
use crate::network_policy::NetworkPolicy;
use crate::pod_template::PodTemplate;
use crate::probes::Probes;
use crate::references::LocalReference;
use crate::reserved;
use crate::route::{atom, domain_pattern, is_short};
use crate::service::Service;
use crate::status::MailLaserStatus;
use crate::tls::Tls;
use crate::webhook::Webhook;

/// Longest name of a `MailLaser`, in characters. A Service's name may have 63; this leaves room for what
/// Deployments, StatefulSets and Jobs append to it for their pods.
pub const NAME_LENGTH_MAX: usize = 40;

/// What a `MailLaser` should be.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "mail-laser.dev",
    version = "v1alpha1",
    kind = "MailLaser",
    plural = "maillasers",
    singular = "maillaser",
    shortname = "ml",
    namespaced,
    status = "MailLaserStatus",
    derive = "PartialEq",
    doc = "An SMTP server that hands mails to a webhook as JSON.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Delivery", type_ = "string", json_path = ".spec.delivery.mode"),
    printcolumn(name = "Routes", type_ = "integer", json_path = ".status.routes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Webhook", type_ = "string", json_path = ".status.webhookHost", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    validation = name_rule()
)]
#[x_kube(
    validation = Rule::new("!has(self.targetEmails) && !(has(self.env) && self.env.exists(e, e.name == 'MAIL_LASER_TARGET_EMAILS')) || (has(self.webhook) && (has(self.webhook.url) || has(self.webhook.urlFrom) || has(self.webhook.serviceRef))) || (has(self.env) && self.env.exists(e, e.name == 'MAIL_LASER_WEBHOOK_URL'))")
        .message("spec.webhook is required with spec.targetEmails: set one of url, urlFrom and serviceRef in it, or MAIL_LASER_WEBHOOK_URL in spec.env"),
    validation = Rule::new("has(self.targetEmails) || (has(self.env) && self.env.exists(e, e.name == 'MAIL_LASER_TARGET_EMAILS')) || !((has(self.webhook) && (has(self.webhook.url) || has(self.webhook.urlFrom) || has(self.webhook.serviceRef))) || (has(self.env) && self.env.exists(e, e.name == 'MAIL_LASER_WEBHOOK_URL')))")
        .message("spec.targetEmails is required with spec.webhook: list at least one address, or set MAIL_LASER_TARGET_EMAILS in spec.env; mail that comes by routes alone needs neither"),
    validation = Rule::new("size(self.allowedRoutes) > 0 || has(self.targetEmails) || (has(self.env) && self.env.exists(e, e.name == 'MAIL_LASER_TARGET_EMAILS'))")
        .message("spec.targetEmails is required when spec.allowedRoutes is empty: list at least one address, or set MAIL_LASER_TARGET_EMAILS in spec.env"),
    validation = Rule::new("!has(self.tls.smtpsPort) || self.tls.smtpsPort != self.service.port")
        .message("tls.smtpsPort must differ from service.port: a port speaks TLS from the first byte, or it does not"),
    validation = Rule::new("!has(self.autoscaling) || !has(self.autoscaling.targetCPUUtilizationPercentage) || (has(self.resources) && has(self.resources.requests) && 'cpu' in self.resources.requests)")
        .message("autoscaling.targetCPUUtilizationPercentage is a part of resources.requests.cpu: set that")
)]
#[serde(rename_all = "camelCase")]
pub struct MailLaserSpec {
    /// Addresses that mail is accepted for, without regard to case. They need a `webhook`, and beat every route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 3, max = 254)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = target_emails_rule()
    )]
    pub target_emails: Option<Vec<String>>,
    /// The webhook that gets the mails of `targetEmails`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Whose `MailRoutes` may claim recipients of this gateway, and which; those of its own namespace by default, none
    /// when it is empty.
    #[serde(default = "AllowedRoutes::of_same_namespace")]
    #[schemars(length(max = 32))]
    pub allowed_routes: Vec<AllowedRoutes>,
    /// When a sender is told that its mail was accepted.
    #[serde(default)]
    pub delivery: Delivery,
    /// TLS between senders and the pods.
    #[serde(default)]
    pub tls: Tls,
    /// Networks or addresses of load balancers, as the pods see them, that say by a PROXY header (version 1
    /// or 2) who the client is. They have to, and nobody else may. Probes are asked on another port, and
    /// need no header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 2, max = 43)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(network, isCIDR(network) || isIP(network))")
            .message("proxyProtocolFrom must be networks or addresses, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
    )]
    pub proxy_protocol_from: Vec<String>,
    /// Headers whose names start with one of these, without regard to case, are part of the JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(prefix, prefix.matches('^[A-Za-z0-9_-]+$'))")
            .message("headerPrefixes must be starts of header names, such as X-Ticket: letters, digits, '-' and '_'")
    )]
    pub header_prefixes: Vec<String>,
    /// How many pods there should be; 0 stops the service but keeps its address. With `autoscaling` leave it out of
    /// what you apply.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How many pods there should be, decided by load: within bounds this changes `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// Other variables of the daemon. They win over the fields of this resource. Ports, addresses, paths and
    /// the mode of delivery are the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]), validation = env_rule())]
    pub env: Vec<EnvVar>,
    /// Image of the daemon; by default the one that the operator was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub image_pull_secrets: Vec<LocalReference>,
    /// CPU and memory of each pod.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// The Service in front of the pods.
    #[serde(default)]
    pub service: Service,
    /// When the kubelet asks a pod for its health.
    #[serde(default)]
    pub probes: Probes,
    /// Additions to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
    /// Who may connect to the pods, and where they may connect to; everybody, and everywhere, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// What watches the pods from outside; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// Whether the operator leaves everything as it is and only reports.
    #[serde(default)]
    pub suspend: bool,
}

impl Default for MailLaserSpec {
    fn default() -> Self {
        Self {
            target_emails: None,
            webhook: None,
            allowed_routes: AllowedRoutes::of_same_namespace(),
            delivery: Delivery::default(),
            tls: Tls::default(),
            proxy_protocol_from: Vec::new(),
            header_prefixes: Vec::new(),
            replicas: replicas(),
            autoscaling: None,
            env: Vec::new(),
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            resources: Resources::default(),
            service: Service::default(),
            probes: Probes::default(),
            pod_template: None,
            network_policy: None,
            monitoring: None,
            suspend: false,
        }
    }
}

fn replicas() -> i32 {
    1
}

fn name_rule() -> Rule {
    Rule::new(format!(
        "self.metadata.name.size() <= {NAME_LENGTH_MAX} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
    ))
    .message(
        format!(
            "metadata.name must be the name of a Service with at most {NAME_LENGTH_MAX} characters: lower-case \
             letters, digits and '-', starting with a letter and ending with a letter or a digit"
        )
        .as_str(),
    )
}

/// What the daemon takes, apart from quoted local parts: those could hold the comma that separates addresses
/// in its environment.
fn target_emails_rule() -> Rule {
    let atom = atom("*");
    let domain = domain_pattern();
    let literal = r"\[[A-Za-z0-9.:]+\]";
    let pattern = format!(r"^{atom}(\.{atom})*@({domain}|{literal})$");
    Rule::new(format!("self.all(address, address.matches(r\"{pattern}\") && {})", is_short("address"))).message(
        "targetEmails must be plain addresses such as support@example.com: at most 64 octets, then '@', then \
         a domain; no commas, no blanks",
    )
}

fn env_rule() -> Rule {
    let names = reserved::VARIABLES;
    Rule::new(format!("!self.exists(e, {})", reserved::condition(names, "e.name")))
        .message(format!("env must not set what the operator sets: {}", names.join(", ")).as_str())
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ImagePullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// As in a pod.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// CPU and memory of a pod.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What a pod may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
    /// What is set aside for a pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
}

impl Resources {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.requests.is_empty()
    }
}
