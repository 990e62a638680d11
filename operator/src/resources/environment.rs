//! From the fields of a resource to the environment of the daemon.

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector, SecretKeySelector,
};
use mail_laser_crds::{DeliveryMode, MailLaserSpec, SecretSource, Tls, Webhook};

use super::pod::SMTPS_PORT;
use super::routes::{ROUTES_DIRECTORY, parts_max};
use super::service::shows_client_addresses;
use super::volumes::{CA_DIRECTORY, CA_FILE_NAME, SPOOL_DIRECTORY, TLS_CERTIFICATE, TLS_DIRECTORY, TLS_KEY};
use crate::validate::{Destination, ValidatedMailLaser, sets};

/// Name of the variable with the accepted addresses.
pub const TARGET_EMAILS: &str = "MAIL_LASER_TARGET_EMAILS";
/// Name of the variable with the webhook's address.
pub const WEBHOOK_URL: &str = "MAIL_LASER_WEBHOOK_URL";
/// Name of the variable with the webhook's token.
pub const BEARER_TOKEN: &str = "MAIL_LASER_WEBHOOK_BEARER_TOKEN";

/// Name of the variable with the load balancers that tell the client's address.
const PROXY_PROTOCOL_FROM: &str = "MAIL_LASER_PROXY_PROTOCOL_FROM";

/// How long a daemon that was told to stop may take, in seconds.
pub const SHUTDOWN_GRACE_SECONDS: i64 = 25;

/// How much of a disk mails that wait may take, in percent. Dead letters take a quarter of that again, which
/// makes 87.5. The rest is for what the spool writes beside mails while it tidies up, and for what a file
/// system keeps for itself: ext4 some 2 % for its tables, and 5 % that only root may write.
const SPOOL_PERCENT: u64 = 70;

/// How long a mail is tried, in seconds.
pub const SPOOL_LIFETIME: &str = "MAIL_LASER_SPOOL_LIFETIME";

/// The disk that a pod keeps mail on.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Its size in bytes; of several pods, that of the smallest.
    pub bytes: u64,
    /// How long a mail is tried, in seconds, if the resource says so.
    pub lifetime_seconds: Option<i32>,
}

impl Disk {
    fn spool_bytes_max(&self) -> u64 {
        // In this order no size that a quantity can have is too large.
        self.bytes / 100 * SPOOL_PERCENT
    }
}

/// The environment of the daemon's container, with a disk for mails or without. Entries of `spec.env` win over
/// fields: they take the place of the variable, which therefore is never there twice.
pub fn build(resource: &ValidatedMailLaser, ipv6: bool, disk: Option<&Disk>) -> Vec<EnvVar> {
    let mut variables = from_fields(resource, ipv6, disk);
    for entry in &resource.spec.env {
        let entry = from_entry(entry);
        match variables.iter_mut().find(|variable| variable.name == entry.name) {
            Some(variable) => *variable = entry,
            None => variables.push(entry),
        }
    }
    variables
}

fn from_fields(resource: &ValidatedMailLaser, ipv6: bool, disk: Option<&Disk>) -> Vec<EnvVar> {
    let spec = &resource.spec;
    let mut variables = Vec::new();
    if let Some(addresses) = &spec.target_emails {
        variables.push(literal(TARGET_EMAILS, &addresses.join(",")));
    }
    variables.extend(match &resource.destination {
        Destination::Url(url) | Destination::Service(url) => Some(literal(WEBHOOK_URL, url)),
        Destination::Secret(key) => Some(secret(WEBHOOK_URL, &SecretSource { secret_key_ref: key.clone() })),
        Destination::Environment | Destination::Nowhere => None,
    });
    if parts_max(spec) > 0 {
        variables.push(literal("MAIL_LASER_ROUTES", ROUTES_DIRECTORY));
    }
    if let Some(webhook) = &spec.webhook {
        variables.extend(from_webhook(webhook, resource));
    }
    if !spec.header_prefixes.is_empty() {
        variables.push(literal("MAIL_LASER_HEADER_PREFIX", &spec.header_prefixes.join(",")));
    }
    variables.extend(from_tls(&spec.tls));
    if !spec.proxy_protocol_from.is_empty() {
        variables.push(literal(PROXY_PROTOCOL_FROM, &spec.proxy_protocol_from.join(",")));
    }
    // What is on a disk is delivered from there, whatever the mode is by now.
    let mode = if disk.is_some() { DeliveryMode::Spool } else { spec.delivery.mode };
    variables.push(literal("MAIL_LASER_DELIVERY", mode.as_env()));
    variables.extend(disk.into_iter().flat_map(from_disk));
    variables.push(literal("MAIL_LASER_SHUTDOWN_GRACE", &SHUTDOWN_GRACE_SECONDS.to_string()));
    if ipv6 {
        // One socket for both families: the kernel maps IPv4 into it.
        for name in
            ["MAIL_LASER_BIND_ADDRESS", "MAIL_LASER_HEALTH_BIND_ADDRESS", "MAIL_LASER_METRICS_BIND_ADDRESS"]
        {
            variables.push(literal(name, "::"));
        }
    }
    if !shows_client_addresses(spec) && !is_told_of_clients(spec) {
        // All clients would share the addresses of a few nodes.
        variables.push(literal("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0"));
    }
    variables
}

/// Whether a load balancer tells the pods who the client is.
pub fn is_told_of_clients(spec: &MailLaserSpec) -> bool {
    !spec.proxy_protocol_from.is_empty() || sets(spec, PROXY_PROTOCOL_FROM)
}

fn from_webhook(webhook: &Webhook, resource: &ValidatedMailLaser) -> Vec<EnvVar> {
    let mut variables = Vec::new();
    if webhook.allow_http || is_plain_service(resource) {
        variables.push(literal("MAIL_LASER_WEBHOOK_ALLOW_HTTP", "true"));
    }
    if let Some(source) = &webhook.bearer_token_from {
        variables.push(secret(BEARER_TOKEN, source));
    }
    if webhook.ca_bundle_from.is_some() {
        variables.push(literal("MAIL_LASER_WEBHOOK_CA_FILE", &format!("{CA_DIRECTORY}/{CA_FILE_NAME}")));
    }
    for (name, value) in [
        ("MAIL_LASER_WEBHOOK_TIMEOUT", webhook.timeout_seconds),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", webhook.max_retries),
        ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", webhook.circuit_breaker.threshold),
        ("MAIL_LASER_CIRCUIT_BREAKER_RESET", webhook.circuit_breaker.reset_seconds),
        ("MAIL_LASER_WEBHOOK_CONCURRENCY", webhook.concurrency),
    ] {
        variables.push(literal(name, &value.to_string()));
    }
    variables
}

fn from_disk(disk: &Disk) -> impl Iterator<Item = EnvVar> {
    let bytes_max = disk.spool_bytes_max().to_string();
    let lifetime = disk.lifetime_seconds.map(|seconds| seconds.to_string());
    [
        ("MAIL_LASER_SPOOL_DIR", Some(SPOOL_DIRECTORY.to_owned())),
        ("MAIL_LASER_SPOOL_MAX_BYTES", Some(bytes_max)),
        (SPOOL_LIFETIME, lifetime),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(literal(name, &value?)))
}

fn from_tls(tls: &Tls) -> Vec<EnvVar> {
    let mut variables = vec![literal("MAIL_LASER_TLS", tls.mode.as_env())];
    if tls.secret().is_some() {
        variables.extend(
            [("MAIL_LASER_TLS_CERT_FILE", TLS_CERTIFICATE), ("MAIL_LASER_TLS_KEY_FILE", TLS_KEY)]
                .map(|(name, file)| literal(name, &format!("{TLS_DIRECTORY}/{file}"))),
        );
    }
    if tls.smtps_port.is_some() {
        variables.push(literal("MAIL_LASER_SMTPS_PORT", &SMTPS_PORT.to_string()));
    }
    variables
}

/// Whether mails go to a Service by plain http. Another address in `spec.env` has no part in that permission.
fn is_plain_service(resource: &ValidatedMailLaser) -> bool {
    matches!(&resource.destination, Destination::Service(url) if url.starts_with("http://"))
        && !sets(&resource.spec, WEBHOOK_URL)
}

/// A variable with exactly this value. In a pod `$(NAME)` stands for another variable and `$$` for `$`, so
/// what a field says needs its `$` doubled.
fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), ..EnvVar::default() }
}

fn secret(name: &str, source: &SecretSource) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: source.secret_key_ref.name.clone(),
                key: source.secret_key_ref.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// An entry of `env`, as a pod has it.
pub fn from_entry(entry: &mail_laser_crds::EnvVar) -> EnvVar {
    EnvVar {
        name: entry.name.clone(),
        value: entry.value.clone(),
        value_from: entry.value_from.as_ref().map(|source| EnvVarSource {
            secret_key_ref: source.secret_key_ref.as_ref().map(|key| SecretKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: key.optional,
            }),
            config_map_key_ref: source.config_map_key_ref.as_ref().map(|key| ConfigMapKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: key.optional,
            }),
            field_ref: source.field_ref.as_ref().map(|field| ObjectFieldSelector {
                field_path: field.field_path.clone(),
                api_version: Some("v1".to_owned()),
            }),
            resource_field_ref: source.resource_field_ref.as_ref().map(|field| ResourceFieldSelector {
                resource: field.resource.clone(),
                divisor: field.divisor.clone(),
                ..ResourceFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
    }
}
