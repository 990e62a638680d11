//! From a `MailLaser` as it was written to one that can be built.
//!
//! The schema refuses what is wrong before it gets here. A resource may be older than a rule of the schema,
//! though, so nothing below relies on it: what cannot be built is an error that becomes a condition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use mail_laser_crds::{
    DeliveryMode, MailLaser, MailLaserSpec, PodTemplate, SecretKeySelector, ServiceRef, TlsMode,
    reserved_env_name,
};

use crate::quantity;
use crate::resources::environment::{TARGET_EMAILS, WEBHOOK_URL};

/// A resource with all decisions made that need nothing but the resource. The input of every builder.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedMailLaser {
    /// Name of the resource, and of everything that it owns.
    pub name: String,
    /// Namespace of the resource.
    pub namespace: String,
    /// The controller reference that everything owned carries.
    pub owner: OwnerReference,
    /// Where mails go.
    pub destination: Destination,
    /// The disks of the pods, if they keep mail on disk.
    pub spool: Option<Spool>,
    /// The image of the daemon.
    pub image: String,
    /// What was asked for.
    pub spec: MailLaserSpec,
}

/// The disks of pods, as the resource wants them.
#[derive(Clone, Debug, PartialEq)]
pub struct Spool {
    /// Size of each, as it was written.
    pub size: String,
    /// Size of each, in bytes.
    pub bytes: u64,
    /// Their storage class; the cluster's default when absent.
    pub class: Option<String>,
    /// How long a mail is tried, in seconds.
    pub lifetime_seconds: i32,
}

/// Where mails go, by the fields of the resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// A URL that the resource gives.
    Url(String),
    /// A URL in a Secret.
    Secret(SecretKeySelector),
    /// The URL of a Service of the same namespace.
    Service(String),
    /// The fields say nothing; `spec.env` does.
    Environment,
    /// All mail comes by routes.
    Nowhere,
}

/// Why a resource cannot be built.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ValidationError {
    /// The API server gives each of these to every object.
    #[error("metadata.{0} is missing: read the resource from the API server")]
    Incomplete(&'static str),
    /// More than one of the fields that exclude each other.
    #[error("spec.webhook must have only one of url, urlFrom and serviceRef: remove the others")]
    SeveralWebhooks,
    /// No address.
    #[error(
        "spec.webhook is required with spec.targetEmails: set one of url, urlFrom and serviceRef in it, or {WEBHOOK_URL} in \
         spec.env"
    )]
    NoWebhook,
    /// No recipients, for which there is a webhook, or which no routes make up for.
    #[error(
        "spec.targetEmails is required with spec.webhook and without spec.allowedRoutes: list at least one address, or set \
         {TARGET_EMAILS} in spec.env"
    )]
    NoRecipients,
    /// A variable of the operator's.
    #[error("spec.env must not set {0}, which the operator sets: remove it")]
    ReservedVariable(String),
    /// A name, port or path in `spec.podTemplate` that is the operator's.
    #[error("spec.podTemplate.{0} must not have {1}, which is the operator's: choose another")]
    ReservedInPods(&'static str, String),
    /// A port that needs TLS, and none.
    #[error(
        "spec.tls.smtpsPort must be absent when spec.tls.mode is Off: remove it, or use mode Opportunistic or Require"
    )]
    SmtpsWithoutTls,
    /// A spool without a disk.
    #[error("spec.delivery.spool is required when spec.delivery.mode is Spool: set its size, such as 10Gi")]
    NoSpool,
    /// A size that is none.
    #[error("spec.delivery.spool.size is {0}, which is no size: write one such as 10Gi")]
    SpoolSize(String),
    /// Two ports of the Service with one number.
    #[error("spec.tls.smtpsPort and spec.service.port are both {0}: change one of them")]
    SamePort(i32),
}

/// Checks a resource and makes the decisions that need nothing else.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn validate(resource: &MailLaser, default_image: &str) -> Result<ValidatedMailLaser, ValidationError> {
    let meta = &resource.metadata;
    let name = meta.name.clone().ok_or(ValidationError::Incomplete("name"))?;
    let namespace = meta.namespace.clone().ok_or(ValidationError::Incomplete("namespace"))?;
    let owner = resource.controller_owner_ref(&()).ok_or(ValidationError::Incomplete("uid"))?;
    let spec = resource.spec.clone();

    if let Some(entry) = spec.env.iter().find(|entry| reserved_env_name(&entry.name)) {
        return Err(ValidationError::ReservedVariable(entry.name.clone()));
    }
    if let Some((field, what)) = spec.pod_template.as_ref().and_then(PodTemplate::clash) {
        return Err(ValidationError::ReservedInPods(field, what));
    }
    let has_recipients =
        spec.target_emails.as_ref().is_some_and(|all| !all.is_empty()) || sets(&spec, TARGET_EMAILS);
    if let Some(port) = spec.tls.smtps_port {
        if spec.tls.mode == TlsMode::Off {
            return Err(ValidationError::SmtpsWithoutTls);
        }
        if port == spec.service.port {
            return Err(ValidationError::SamePort(port));
        }
    }
    let destination = destination(&spec, &namespace)?;
    match (has_recipients, &destination) {
        (true, Destination::Nowhere) => return Err(ValidationError::NoWebhook),
        (false, Destination::Nowhere) if !spec.allowed_routes.is_empty() => {}
        (false, _) => return Err(ValidationError::NoRecipients),
        (true, _) => {}
    }
    let spool = spool(&spec)?;
    let image = spec.image.clone().unwrap_or_else(|| default_image.to_owned());
    Ok(ValidatedMailLaser { name, namespace, owner, destination, spool, image, spec })
}

fn spool(spec: &MailLaserSpec) -> Result<Option<Spool>, ValidationError> {
    if spec.delivery.mode != DeliveryMode::Spool {
        return Ok(None);
    }
    let spool = spec.delivery.spool.as_ref().ok_or(ValidationError::NoSpool)?;
    let size = spool.size.clone();
    let bytes = quantity::bytes(&size).ok_or_else(|| ValidationError::SpoolSize(size.clone()))?;
    let (class, lifetime_seconds) = (spool.storage_class_name.clone(), spool.lifetime_seconds);
    Ok(Some(Spool { size, bytes, class, lifetime_seconds }))
}

fn destination(spec: &MailLaserSpec, namespace: &str) -> Result<Destination, ValidationError> {
    let webhook = spec.webhook.as_ref();
    let mut destinations = [
        webhook.and_then(|webhook| webhook.url.clone()).map(Destination::Url),
        webhook
            .and_then(|webhook| webhook.url_from.clone())
            .map(|source| Destination::Secret(source.secret_key_ref)),
        webhook
            .and_then(|webhook| webhook.service_ref.as_ref())
            .map(|service| Destination::Service(service_url(service, namespace))),
    ]
    .into_iter()
    .flatten();
    match (destinations.next(), destinations.next()) {
        (_, Some(_)) => Err(ValidationError::SeveralWebhooks),
        (Some(destination), None) => Ok(destination),
        (None, None) if sets(spec, WEBHOOK_URL) => Ok(Destination::Environment),
        (None, None) => Ok(Destination::Nowhere),
    }
}

/// The URL of a Service of a namespace.
pub(crate) fn service_url(service: &ServiceRef, namespace: &str) -> String {
    format!("{}://{}.{namespace}.svc:{}{}", service.scheme.as_str(), service.name, service.port, service.path)
}

/// Whether `spec.env` sets the variable.
pub fn sets(spec: &MailLaserSpec, name: &str) -> bool {
    spec.env.iter().any(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::{EnvVar, SecretSource, Tls, Webhook};

    use super::*;

    fn resource(spec: MailLaserSpec) -> MailLaser {
        let mut resource = MailLaser::new("alarms", spec);
        resource.metadata.namespace = Some("ops".to_owned());
        resource.metadata.uid = Some("4f7c".to_owned());
        resource
    }

    fn spec(webhook: Option<Webhook>) -> MailLaserSpec {
        MailLaserSpec {
            target_emails: Some(vec!["a@example.com".to_owned()]),
            webhook,
            ..MailLaserSpec::default()
        }
    }

    fn variable(name: &str) -> EnvVar {
        EnvVar { name: name.to_owned(), value: Some("x".to_owned()), value_from: None }
    }

    #[test]
    fn a_service_becomes_a_url_of_the_resources_namespace() {
        let webhook = Webhook { service_ref: Some(ServiceRef::new("receiver", 8080)), ..Webhook::default() };
        let validated = validate(&resource(spec(Some(webhook))), "default:1").unwrap();
        assert_eq!(validated.destination, Destination::Service("http://receiver.ops.svc:8080/".to_owned()));
        assert_eq!(validated.image, "default:1");
        assert_eq!(validated.owner.controller, Some(true));
        assert_eq!(validated.owner.uid, "4f7c");
    }

    #[test]
    fn the_image_of_the_resource_wins() {
        let webhook = Webhook { url: Some("https://example.com/".to_owned()), ..Webhook::default() };
        let mut spec = spec(Some(webhook));
        spec.image = Some("own:2".to_owned());
        assert_eq!(validate(&resource(spec), "default:1").unwrap().image, "own:2");
    }

    #[test]
    fn what_the_schema_refuses_is_refused_here_too() {
        let url = || Some("https://example.com/".to_owned());
        let both = Webhook {
            url: url(),
            url_from: Some(SecretSource {
                secret_key_ref: SecretKeySelector { name: "s".to_owned(), key: "k".to_owned() },
            }),
            ..Webhook::default()
        };
        let good = Webhook { url: url(), ..Webhook::default() };
        let nobody = MailLaserSpec { target_emails: None, ..spec(Some(good.clone())) };
        let reserved =
            MailLaserSpec { env: vec![variable("MAIL_LASER_HEALTH_PORT")], ..spec(Some(good.clone())) };
        let smtps = |mode, port| MailLaserSpec {
            tls: Tls { mode, smtps_port: Some(port), ..Tls::default() },
            ..spec(Some(good.clone()))
        };
        for (spec, expected) in [
            (spec(Some(both)), ValidationError::SeveralWebhooks),
            (spec(None), ValidationError::NoWebhook),
            (spec(Some(Webhook::default())), ValidationError::NoWebhook),
            (nobody, ValidationError::NoRecipients),
            (smtps(TlsMode::Off, 465), ValidationError::SmtpsWithoutTls),
            (smtps(TlsMode::Require, 25), ValidationError::SamePort(25)),
            (reserved, ValidationError::ReservedVariable("MAIL_LASER_HEALTH_PORT".to_owned())),
        ] {
            assert_eq!(validate(&resource(spec), "i").unwrap_err(), expected);
        }
    }

    #[test]
    fn what_is_the_operators_in_a_pod_is_refused_here_too() {
        let container = "containers: [{name: a, image: i";
        for (template, expected) in [
            ("volumes: [{name: spool, emptyDir: {}}]".to_owned(), Some("volumes")),
            ("volumes: [{name: routes-0, emptyDir: {}}]".to_owned(), Some("volumes")),
            (
                "volumes: [{name: a, persistentVolumeClaim: {claimName: spool-b-0}}]".to_owned(),
                Some("volumes"),
            ),
            ("volumeMounts: [{name: a, mountPath: /a}]".to_owned(), Some("volumeMounts")),
            (
                "{volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, mountPath: /etc}]}".to_owned(),
                Some("volumeMounts"),
            ),
            (
                "{volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, mountPath: /a/../etc}]}"
                    .to_owned(),
                Some("volumeMounts"),
            ),
            (
                "{volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, mountPath: /a}]}".to_owned(),
                None,
            ),
            ("containers: [{name: mail-laser, image: i}]".to_owned(), Some("containers")),
            (format!("{container}, volumeMounts: [{{name: spool, mountPath: /a}}]}}]"), Some("volumeMounts")),
            (format!("{container}, ports: [{{containerPort: 2525}}]}}]"), Some("containers")),
            (format!("{container}, ports: [{{containerPort: 1, name: smtp}}]}}]"), Some("containers")),
            (format!("{container}, ports: [{{containerPort: 1, name: x}}]}}]"), None),
        ] {
            let webhook = Webhook { url: Some("https://example.com/".to_owned()), ..Webhook::default() };
            let pod_template = Some(serde_yaml_ng::from_str(&template).unwrap());
            let spec = MailLaserSpec { pod_template, ..spec(Some(webhook)) };
            let found = match validate(&resource(spec), "i") {
                Err(ValidationError::ReservedInPods(field, _)) => Some(field),
                other => other.map(|_| None).unwrap(),
            };
            assert_eq!(found, expected, "{template}");
        }
    }

    #[test]
    fn the_environment_may_say_it_all() {
        let spec = MailLaserSpec {
            env: vec![variable(TARGET_EMAILS), variable(WEBHOOK_URL)],
            ..MailLaserSpec::default()
        };
        assert_eq!(validate(&resource(spec), "i").unwrap().destination, Destination::Environment);
    }

    #[test]
    fn an_object_that_is_not_from_the_server_is_incomplete() {
        let resource = MailLaser::new("alarms", MailLaserSpec::default());
        assert_eq!(validate(&resource, "i").unwrap_err(), ValidationError::Incomplete("namespace"));
    }
}
