//! What a resource refers to: Secrets, ConfigMaps and Services of its own namespace.

pub mod dereference;
pub mod evaluate;
pub(crate) mod memory;

use std::collections::BTreeSet;

use mail_laser_crds::{EnvVar, MailLaserSpec, PodTemplate, Volume};

use crate::resources::environment::{BEARER_TOKEN, WEBHOOK_URL};
use crate::resources::volumes::{TLS_CERTIFICATE, TLS_KEY};
use crate::validate::sets;

/// The kind of what a webhook may be, as [`Holder::kind`] names the others.
pub const SERVICE: &str = "Service";

/// The kinds that hold values.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Holder {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Holder {
    /// Name of the kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// A reference to a key or to all keys of an object, and the field that makes it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    /// The kind of the object.
    pub holder: Holder,
    /// The name of the object.
    pub name: String,
    /// The key in it; all when absent.
    pub key: Option<String>,
    /// The field that refers to it, as in a message.
    pub field: String,
    /// Whether pods start without it.
    pub optional: bool,
    /// What a pod needs it for.
    pub purpose: Purpose,
}

/// What a pod needs a value for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// The daemon reads it when it starts: new content needs new pods.
    Start,
    /// The daemon shows it to senders, and takes a renewed one up by itself.
    Certificate,
}

impl Purpose {
    /// The type that the Secret must have.
    pub fn secret_type(self) -> Option<&'static str> {
        match self {
            Self::Start => None,
            Self::Certificate => Some("kubernetes.io/tls"),
        }
    }
}

/// All references to keys that pods would need. A field that an entry of `spec.env` replaces refers to
/// nothing.
pub fn keys(spec: &MailLaserSpec) -> Vec<Reference> {
    let mut references = Vec::new();
    let mut add = |holder, name: &str, key: &str, field: String, optional: bool| {
        references.push(start(holder, name, Some(key), field, optional));
    };
    if let Some(webhook) = &spec.webhook {
        if let (Some(source), false) = (&webhook.url_from, sets(spec, WEBHOOK_URL)) {
            let key = &source.secret_key_ref;
            add(Holder::Secret, &key.name, &key.key, "spec.webhook.urlFrom".to_owned(), false);
        }
        if let (Some(source), false) = (&webhook.bearer_token_from, sets(spec, BEARER_TOKEN)) {
            let key = &source.secret_key_ref;
            add(Holder::Secret, &key.name, &key.key, "spec.webhook.bearerTokenFrom".to_owned(), false);
        }
        if let Some(source) = &webhook.ca_bundle_from {
            let field = || "spec.webhook.caBundleFrom".to_owned();
            if let Some(key) = &source.secret_key_ref {
                add(Holder::Secret, &key.name, &key.key, field(), false);
            }
            if let Some(key) = &source.config_map_key_ref {
                add(Holder::ConfigMap, &key.name, &key.key, field(), false);
            }
        }
    }
    references.extend(spec.env.iter().filter_map(|entry| of_variable(entry, "spec.env")));
    references.extend(spec.pod_template.iter().flat_map(of_additions));
    if let Some(name) = spec.tls.secret() {
        references.extend([TLS_CERTIFICATE, TLS_KEY].map(|key| Reference {
            holder: Holder::Secret,
            name: name.to_owned(),
            key: Some(key.to_owned()),
            field: "spec.tls.secretName".to_owned(),
            optional: false,
            purpose: Purpose::Certificate,
        }));
    }
    references
}

fn start(holder: Holder, name: &str, key: Option<&str>, field: String, optional: bool) -> Reference {
    let (name, key) = (name.to_owned(), key.map(str::to_owned));
    Reference { holder, name, key, field, optional, purpose: Purpose::Start }
}

fn of_variable(entry: &EnvVar, list: &str) -> Option<Reference> {
    let source = entry.value_from.as_ref()?;
    let field = format!("{list}[{}]", entry.name);
    let secret = source
        .secret_key_ref
        .as_ref()
        .map(|key| (Holder::Secret, &key.name, &key.key, key.optional.unwrap_or(false)));
    let config_map = source
        .config_map_key_ref
        .as_ref()
        .map(|key| (Holder::ConfigMap, &key.name, &key.key, key.optional.unwrap_or(false)));
    let (holder, name, key, optional) = secret.or(config_map)?;
    Some(start(holder, name, Some(key), field, optional))
}

/// What further volumes and containers need.
fn of_additions(template: &PodTemplate) -> Vec<Reference> {
    let variables = template.containers.iter().flat_map(|container| {
        let list = format!("spec.podTemplate.containers[{}].env", container.name);
        container.env.iter().filter_map(move |entry| of_variable(entry, &list))
    });
    template.volumes.iter().flat_map(of_volume).chain(variables).collect()
}

fn of_volume(volume: &Volume) -> Vec<Reference> {
    let secret = volume.secret.as_ref().map(|it| (Holder::Secret, &it.secret_name, &it.items, it.optional));
    let config_map =
        volume.config_map.as_ref().map(|it| (Holder::ConfigMap, &it.name, &it.items, it.optional));
    let Some((holder, name, items, optional)) = secret.or(config_map) else { return Vec::new() };
    let reference = |key: Option<&str>| {
        start(holder, name, key, format!("spec.podTemplate.volumes[{}]", volume.name), optional)
    };
    if items.is_empty() {
        return vec![reference(None)];
    }
    items.iter().map(|item| reference(Some(&item.key))).collect()
}

/// The Service that mails go to, if the webhook is one.
pub fn service(spec: &MailLaserSpec) -> Option<&str> {
    if sets(spec, WEBHOOK_URL) {
        return None;
    }
    Some(spec.webhook.as_ref()?.service_ref.as_ref()?.name.as_str())
}

/// The objects that the resource refers to, by kind and name.
pub fn objects(spec: &MailLaserSpec) -> BTreeSet<(&'static str, String)> {
    let holders = keys(spec).into_iter().map(|reference| (reference.holder.kind(), reference.name));
    holders.chain(service(spec).map(|name| (SERVICE, name.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> MailLaserSpec {
        serde_yaml_ng::from_str(yaml).unwrap()
    }

    #[test]
    fn every_field_that_can_refer_does() {
        let spec = spec(
            "
            webhook:
              urlFrom: {secretKeyRef: {name: hook, key: url}}
              bearerTokenFrom: {secretKeyRef: {name: hook, key: token}}
              caBundleFrom: {configMapKeyRef: {name: roots, key: ca.crt}}
            env:
            - {name: A, valueFrom: {secretKeyRef: {name: s, key: a, optional: true}}}
            - {name: B, valueFrom: {configMapKeyRef: {name: c, key: b}}}
            - {name: C, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: D, value: d}
            tls: {secretName: pair}
            podTemplate:
              volumes:
              - {name: v, secret: {secretName: whole}}
              - {name: w, configMap: {name: parts, optional: true, items: [{key: a, path: b}]}}
              - {name: x, emptyDir: {}}
              containers:
              - name: proxy
                image: i
                env: [{name: E, valueFrom: {secretKeyRef: {name: p, key: e}}}]
            ",
        );
        let found: Vec<_> = keys(&spec)
            .into_iter()
            .map(|r| {
                let key = r.key.as_deref().unwrap_or("*");
                format!("{} {}/{key} {} {}", r.holder.kind(), r.name, r.field, r.optional)
            })
            .collect();
        assert_eq!(
            found,
            [
                "Secret hook/url spec.webhook.urlFrom false",
                "Secret hook/token spec.webhook.bearerTokenFrom false",
                "ConfigMap roots/ca.crt spec.webhook.caBundleFrom false",
                "Secret s/a spec.env[A] true",
                "ConfigMap c/b spec.env[B] false",
                "Secret whole/* spec.podTemplate.volumes[v] false",
                "ConfigMap parts/a spec.podTemplate.volumes[w] true",
                "Secret p/e spec.podTemplate.containers[proxy].env[E] false",
                "Secret pair/tls.crt spec.tls.secretName false",
                "Secret pair/tls.key spec.tls.secretName false",
            ]
        );
        let objects: Vec<_> =
            objects(&spec).into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
        assert_eq!(
            objects,
            [
                "ConfigMap c",
                "ConfigMap parts",
                "ConfigMap roots",
                "Secret hook",
                "Secret p",
                "Secret pair",
                "Secret s",
                "Secret whole",
            ]
        );
    }

    #[test]
    fn what_the_environment_replaces_is_not_needed() {
        let spec = spec(
            "
            webhook:
              urlFrom: {secretKeyRef: {name: hook, key: url}}
              bearerTokenFrom: {secretKeyRef: {name: hook, key: token}}
            env:
            - {name: MAIL_LASER_WEBHOOK_URL, value: 'https://example.com/'}
            - {name: MAIL_LASER_WEBHOOK_BEARER_TOKEN, value: t}
            ",
        );
        assert_eq!(keys(&spec), []);
        assert_eq!(service(&spec), None);
    }

    #[test]
    fn a_certificate_is_needed_where_there_is_tls() {
        for (mode, needed) in [("Off", false), ("Opportunistic", true), ("Require", true)] {
            let spec = spec(&format!("tls: {{mode: {mode}, secretName: pair}}"));
            assert_eq!(!objects(&spec).is_empty(), needed, "{mode}");
        }
    }

    #[test]
    fn a_service_is_a_reference_too() {
        let spec = spec("webhook: {serviceRef: {name: receiver, port: 80}}");
        assert_eq!(service(&spec), Some("receiver"));
        assert_eq!(objects(&spec), BTreeSet::from([(SERVICE, "receiver".to_owned())]));
    }
}
