//! What a route's webhook comes to, given what it refers to: pure.
//!
//! Everything is of the route's own namespace. Secrets are of a type of their own, lest who may write routes sends
//! himself Secrets that he may not read. No value gets into a message.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kube::ResourceExt;
use mail_laser_crds::route_conditions::RouteReason;
use mail_laser_crds::{MailRoute, RouteWebhook, SecretKeySelector, ServiceRef, WEBHOOK_SECRET_TYPE};
use mail_laser_routes::files::Webhook;
use mail_laser_routes::reach::Reach;
use mail_laser_routes::roots::certificates;
use url::{Host, Url};

use crate::references::evaluate::host;
use crate::validate::service_url;

/// Octets of a URL, a token or a secret to sign with: more than servers of HTTP take in a header.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Octets of a bundle of certificates: all public authorities together are some 220 KB.
const BUNDLE_BYTES_MAX: usize = 256 * 1024;

/// Octets of a Secret's values. Each that has the type is kept in memory, whoever made it; a bundle that is larger is
/// public, and can be in a ConfigMap.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// The values of a Secret or a ConfigMap by key.
pub type Values = BTreeMap<String, Vec<u8>>;

/// What is known of a Secret.
#[derive(Clone, Debug)]
pub enum SecretFound {
    /// There is none.
    Missing,
    /// There is one of another type, whose content is nobody's business.
    WrongType,
    /// Its values are more than [`SECRET_BYTES_MAX`].
    TooLarge,
    /// Its values.
    Values(Arc<Values>),
}

/// What is known of a ConfigMap.
#[derive(Clone, Debug)]
pub enum MapFound {
    /// There is none.
    Missing,
    /// Its values.
    Values(Arc<Values>),
}

/// What is known of a Service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceFound {
    /// There is none.
    Missing,
    /// It is another name for a host anywhere.
    ExternalName,
    /// It is one of the cluster.
    InCluster,
}

/// What is known of objects, by namespace and name.
pub trait Known {
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> SecretFound;
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> MapFound;
    /// A Service.
    fn service(&self, namespace: &str, name: &str) -> ServiceFound;
}

/// Why a webhook cannot be used for now.
#[derive(Clone, Debug, PartialEq)]
pub struct Unresolved {
    /// As in the condition.
    pub reason: RouteReason,
    /// The object, and the way out.
    pub message: String,
}

impl Unresolved {
    fn new(reason: RouteReason, message: String) -> Self {
        Self { reason, message }
    }
}

/// The host of a webhook, where it can be told, and what the daemon is to have of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// For the status: without port, path and credentials.
    pub host: Option<String>,
    /// For the daemon.
    pub webhook: Webhook,
}

/// What a route's webhook comes to.
///
/// # Errors
/// The first thing that is missing or may not be used.
pub fn resolve(route: &MailRoute, allow_private: bool, known: &impl Known) -> Result<Resolved, Unresolved> {
    let namespace = route.namespace().unwrap_or_default();
    let spec = &route.spec.webhook;
    let reader = Reader { namespace: &namespace, known };
    let url = reader.url(spec)?;
    let is_service = spec.service_ref.is_some();
    let parsed = Url::parse(&url).ok().filter(|url| url.host_str().is_some());
    let parsed = parsed.filter(|url| url.scheme() == "https" || (is_service && url.scheme() == "http"));
    let Some(parsed) = parsed else {
        let field = if spec.url_from.is_some() { "urlFrom" } else { "url" };
        return Err(invalid(format!(
            "what spec.webhook.{field} gives is no https URL with a host: correct it"
        )));
    };
    let allow_private = is_service || allow_private;
    let reach = if allow_private { Reach::Inner } else { Reach::Public };
    if ip(&parsed).is_some_and(|ip| !reach.permits(ip)) {
        return Err(invalid(
            "the address of the webhook is not a public one, and the gateway permits no others: correct it, or ask who \
             runs the gateway for allowPrivateAddresses"
                .to_owned(),
        ));
    }
    let bearer_token = match &spec.bearer_token_from {
        Some(source) => Some(reader.token(&source.secret_key_ref)?),
        None => None,
    };
    one_authorization(spec, &parsed)?;
    let signing = spec.signing.iter().flat_map(|signing| &signing.secret_refs);
    let signing_secrets =
        signing.map(|key| reader.text(key, "signing.secretRefs")).collect::<Result<Vec<_>, _>>()?;
    // The schema has the bounds; what was written before them is no reason to fail here.
    let number = |number: i32| u32::try_from(number).unwrap_or_default();
    let webhook = Webhook {
        bearer_token,
        ca_bundle: reader.ca_bundle(spec)?,
        timeout_seconds: number(spec.timeout_seconds),
        max_retries: number(spec.max_retries),
        circuit_breaker_threshold: number(spec.circuit_breaker.threshold),
        circuit_breaker_reset_seconds: number(spec.circuit_breaker.reset_seconds),
        concurrency: number(spec.concurrency),
        header_prefixes: spec.header_prefixes.clone(),
        headers: spec.headers.clone(),
        signing_secrets,
        allow_http: is_service && parsed.scheme() == "http",
        allow_private,
        url,
    };
    Ok(Resolved { host: host(&webhook.url), webhook })
}

/// Refuses a webhook with several `Authorization`s: the schema sees no user in a URL that a Secret holds.
fn one_authorization(spec: &RouteWebhook, url: &Url) -> Result<(), Unresolved> {
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_header = spec.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
    let there: Vec<&str> = [
        (spec.bearer_token_from.is_some(), "spec.webhook.bearerTokenFrom"),
        (has_user, "a user in the URL"),
        (has_header, "Authorization in spec.webhook.headers"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| is_there.then_some(what))
    .collect();
    if there.len() > 1 {
        return Err(invalid(format!(
            "a request has one Authorization, and the webhook has {}: remove all but one",
            there.join(" and ")
        )));
    }
    Ok(())
}

/// The host, if it is an address. What a name leads to is checked when a connection is made.
fn ip(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
    }
}

fn invalid(message: String) -> Unresolved {
    Unresolved::new(RouteReason::InvalidWebhook, message)
}

struct Reader<'k, K> {
    namespace: &'k str,
    known: &'k K,
}

impl<K: Known> Reader<'_, K> {
    fn url(&self, spec: &RouteWebhook) -> Result<String, Unresolved> {
        match (&spec.url, &spec.url_from, &spec.service_ref) {
            (Some(url), None, None) => Ok(url.clone()),
            (None, Some(source), None) => {
                self.text(&source.secret_key_ref, "urlFrom").map(|text| text.trim().to_owned())
            }
            (None, None, Some(service)) => self.service(service),
            _ => Err(invalid(
                "spec.webhook must have one of url, urlFrom and serviceRef: correct it".to_owned(),
            )),
        }
    }

    fn service(&self, service: &ServiceRef) -> Result<String, Unresolved> {
        let (name, namespace) = (&service.name, self.namespace);
        match self.known.service(namespace, name) {
            ServiceFound::InCluster => Ok(service_url(service, namespace)),
            ServiceFound::Missing => Err(Unresolved::new(
                RouteReason::ServiceNotFound,
                format!(
                    "Service {name} of spec.webhook.serviceRef does not exist in namespace {namespace}: create it, or \
                     correct the field"
                ),
            )),
            ServiceFound::ExternalName => Err(Unresolved::new(
                RouteReason::RefNotPermitted,
                format!(
                    "Service {name} of spec.webhook.serviceRef is of type ExternalName, which a route may not have: \
                     write the host into spec.webhook.url"
                ),
            )),
        }
    }

    fn values(&self, name: &str, field: &str) -> Result<Arc<Values>, Unresolved> {
        let namespace = self.namespace;
        match self.known.secret(namespace, name) {
            SecretFound::Values(values) => Ok(values),
            SecretFound::Missing => Err(Unresolved::new(
                RouteReason::SecretNotFound,
                format!(
                    "Secret {name} of type {WEBHOOK_SECRET_TYPE}, which spec.webhook.{field} refers to, does not exist \
                     in namespace {namespace}: create it, or correct the field"
                ),
            )),
            SecretFound::WrongType => Err(Unresolved::new(
                RouteReason::WrongSecretType,
                format!(
                    "Secret {name} in namespace {namespace}, which spec.webhook.{field} refers to, is not of type \
                     {WEBHOOK_SECRET_TYPE}: delete it and create it anew (`kubectl create secret generic {name} \
                     --type={WEBHOOK_SECRET_TYPE}`), or correct the field"
                ),
            )),
            SecretFound::TooLarge => Err(invalid(format!(
                "Secret {name} in namespace {namespace}, which spec.webhook.{field} refers to, holds more than \
                 {SECRET_BYTES_MAX} octets: split it, or have a bundle of certificates in a ConfigMap"
            ))),
        }
    }

    fn value(&self, key: &SecretKeySelector, field: &str) -> Result<Vec<u8>, Unresolved> {
        let SecretKeySelector { name, key } = key;
        self.values(name, field)?.get(key).cloned().ok_or_else(|| {
            Unresolved::new(
                RouteReason::SecretNotFound,
                format!(
                    "Secret {name} in namespace {} has no key {key}, which spec.webhook.{field} refers to: add it, or \
                     correct the field",
                    self.namespace
                ),
            )
        })
    }

    fn text(&self, key: &SecretKeySelector, field: &str) -> Result<String, Unresolved> {
        let text = String::from_utf8(self.value(key, field)?).ok().filter(|text| !text.trim().is_empty());
        text.filter(|text| text.len() <= TEXT_BYTES_MAX).ok_or_else(|| {
            invalid(format!(
                "key {} of Secret {}, which spec.webhook.{field} refers to, is empty, no text, or longer than \
                 {TEXT_BYTES_MAX} octets: correct it",
                key.key, key.name
            ))
        })
    }

    fn token(&self, key: &SecretKeySelector) -> Result<String, Unresolved> {
        let token = self.text(key, "bearerTokenFrom")?.trim().to_owned();
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(token);
        }
        Err(invalid(format!(
            "key {} of Secret {}, which spec.webhook.bearerTokenFrom refers to, is no token of visible ASCII: correct it",
            key.key, key.name
        )))
    }

    fn ca_bundle(&self, spec: &RouteWebhook) -> Result<Option<String>, Unresolved> {
        let Some(source) = &spec.ca_bundle_from else { return Ok(None) };
        let bytes = match (&source.secret_key_ref, &source.config_map_key_ref) {
            (Some(key), _) => self.value(key, "caBundleFrom")?,
            (None, Some(key)) => self.of_map(&key.name, &key.key)?,
            (None, None) => return Ok(None),
        };
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(invalid(format!(
                "what spec.webhook.caBundleFrom refers to is longer than {BUNDLE_BYTES_MAX} octets: leave out what the \
                 webhook does not need"
            )));
        }
        // As the daemon reads it: what that refuses must not be told to be in force.
        let pem = certificates(&bytes).and_then(|_| String::from_utf8(bytes).ok());
        pem.map(Some).ok_or_else(|| {
            invalid(
                "what spec.webhook.caBundleFrom refers to holds no certificates in PEM, or one that cannot be a root \
                 of trust: correct it"
                    .to_owned(),
            )
        })
    }

    fn of_map(&self, name: &str, key: &str) -> Result<Vec<u8>, Unresolved> {
        let not_found = |message| Unresolved::new(RouteReason::ConfigMapNotFound, message);
        let namespace = self.namespace;
        match self.known.config_map(namespace, name) {
            MapFound::Values(values) => values.get(key).cloned().ok_or_else(|| {
                not_found(format!(
                    "ConfigMap {name} in namespace {namespace} has no key {key}, which spec.webhook.caBundleFrom \
                     refers to: add it, or correct the field"
                ))
            }),
            MapFound::Missing => Err(not_found(format!(
                "ConfigMap {name}, which spec.webhook.caBundleFrom refers to, does not exist in namespace {namespace}: \
                 create it, or correct the field"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use mail_laser_crds::MailRouteSpec;
    use serde_json::{Value, json};

    use super::*;

    /// A certificate in PEM.
    static PEM: LazyLock<String> = LazyLock::new(|| {
        let names = vec!["api.example.com".to_owned()];
        rcgen::generate_simple_self_signed(names).unwrap().cert.pem()
    });

    /// What there is in the namespace `b`.
    struct World;

    impl Known for World {
        fn secret(&self, namespace: &str, name: &str) -> SecretFound {
            match (namespace, name) {
                ("b", "hook") => SecretFound::Values(Arc::new(
                    [
                        ("token", "t0ken\n"),
                        ("url", "https://user:word@api.example.com/in?key=secret\n"),
                        ("bare", "https://api.example.com/"),
                        ("plain", "http://api.example.com/"),
                        ("two words", "a b"),
                        ("empty", " "),
                        ("sign", "key"),
                        ("long", &"x".repeat(TEXT_BYTES_MAX + 1)),
                        ("cut", &PEM[..PEM.len() / 2]),
                        (
                            "odd",
                            &format!(
                                "{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                                *PEM
                            ),
                        ),
                    ]
                    .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                    .into(),
                )),
                ("b", "pull") => SecretFound::WrongType,
                ("b", "huge") => SecretFound::TooLarge,
                _ => SecretFound::Missing,
            }
        }

        fn config_map(&self, namespace: &str, name: &str) -> MapFound {
            match (namespace, name) {
                ("b", "roots") => MapFound::Values(Arc::new(
                    [
                        ("ca.crt", PEM.as_bytes().to_vec()),
                        ("no", vec![1]),
                        ("long", PEM.repeat(BUNDLE_BYTES_MAX / PEM.len() + 1).into_bytes()),
                    ]
                    .map(|(key, value)| (key.to_owned(), value))
                    .into(),
                )),
                _ => MapFound::Missing,
            }
        }

        fn service(&self, namespace: &str, name: &str) -> ServiceFound {
            match (namespace, name) {
                ("b", "api") => ServiceFound::InCluster,
                ("b", "elsewhere") => ServiceFound::ExternalName,
                _ => ServiceFound::Missing,
            }
        }
    }

    fn resolved(webhook: Value, allow_private: bool) -> Result<Resolved, Unresolved> {
        let webhook = serde_json::from_value(webhook).unwrap();
        let mut route = MailRoute::new("r", MailRouteSpec { webhook, ..MailRouteSpec::default() });
        route.metadata.namespace = Some("b".to_owned());
        resolve(&route, allow_private, &World)
    }

    fn reason(webhook: Value) -> RouteReason {
        let error = resolved(webhook, false).unwrap_err();
        assert!(!["t0ken", "key=secret", "word@"].iter().any(|it| error.message.contains(it)), "{error:?}");
        error.reason
    }

    fn key(name: &str, key: &str) -> Value {
        json!({"secretKeyRef": {"name": name, "key": key}})
    }

    #[test]
    fn what_is_there_is_given_to_the_daemon() {
        let url = json!({
            "url": "https://api.example.com:8443/in",
            "bearerTokenFrom": key("hook", "token"),
            "caBundleFrom": {"configMapKeyRef": {"name": "roots", "key": "ca.crt"}},
            "headers": {"X-Team": "b"},
            "signing": {"secretRefs": [{"name": "hook", "key": "sign"}]},
        });
        let Resolved { host, webhook } = resolved(url, false).unwrap();
        assert_eq!(host.as_deref(), Some("api.example.com"));
        assert_eq!(webhook.bearer_token.as_deref(), Some("t0ken"));
        assert_eq!(webhook.ca_bundle.as_ref(), Some(&*PEM));
        assert_eq!(webhook.signing_secrets, ["key"]);
        assert_eq!((webhook.timeout_seconds, webhook.concurrency), (30, 64));
        assert!(!webhook.allow_http && !webhook.allow_private);
        assert!(resolved(json!({"url": "https://10.0.0.7/"}), true).unwrap().webhook.allow_private);
        assert!(resolved(json!({"url": "https://127.0.0.1/"}), true).is_err());

        let service = resolved(json!({"serviceRef": {"name": "api", "port": 80}}), false).unwrap().webhook;
        assert_eq!(service.url, "http://api.b.svc:80/");
        assert!(service.allow_http && service.allow_private);
        let from = resolved(json!({"urlFrom": key("hook", "url")}), false).unwrap();
        assert_eq!(from.webhook.url, "https://user:word@api.example.com/in?key=secret");
        assert_eq!(from.host.as_deref(), Some("api.example.com"));
    }

    #[test]
    fn more_than_one_authorization_is_refused() {
        for (token, user, header) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (true, true, false),
            (true, false, true),
            (false, true, true),
            (true, true, true),
        ] {
            let mut webhook = json!({"urlFrom": key("hook", if user { "url" } else { "bare" })});
            if token {
                webhook["bearerTokenFrom"] = key("hook", "token");
            }
            if header {
                webhook["headers"] = json!({"AUTHORIZATION": "Basic eA=="});
            }
            let named = [(token, "bearerTokenFrom"), (user, "a user in the URL"), (header, "headers")];
            match resolved(webhook.clone(), false) {
                Ok(_) => assert!([token, user, header].into_iter().filter(|it| *it).count() < 2, "{webhook}"),
                Err(Unresolved { reason, message }) => {
                    assert_eq!(reason, RouteReason::InvalidWebhook, "{webhook}");
                    for (is_there, name) in named {
                        assert_eq!(message.contains(name), is_there, "{webhook}: {message}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_missing_or_not_permitted_has_its_reason() {
        use RouteReason::*;
        let url = "https://api.example.com/";
        for (webhook, expected) in [
            (json!({"serviceRef": {"name": "none", "port": 80}}), ServiceNotFound),
            (json!({"serviceRef": {"name": "elsewhere", "port": 80}}), RefNotPermitted),
            (json!({"urlFrom": key("none", "url")}), SecretNotFound),
            (json!({"urlFrom": key("hook", "none")}), SecretNotFound),
            (json!({"urlFrom": key("pull", "url")}), WrongSecretType),
            (json!({"urlFrom": key("hook", "plain")}), InvalidWebhook),
            (json!({"urlFrom": key("hook", "empty")}), InvalidWebhook),
            (json!({"url": url, "bearerTokenFrom": key("hook", "long")}), InvalidWebhook),
            (json!({"url": url, "bearerTokenFrom": key("huge", "any")}), InvalidWebhook),
            (json!({"url": url, "caBundleFrom": key("hook", "cut")}), InvalidWebhook),
            (json!({"url": url, "caBundleFrom": key("hook", "odd")}), InvalidWebhook),
            (
                json!({"url": url, "caBundleFrom": {"configMapKeyRef": {"name": "roots", "key": "long"}}}),
                InvalidWebhook,
            ),
            (json!({"url": "http://api.example.com/"}), InvalidWebhook),
            (json!({}), InvalidWebhook),
            (json!({"url": "https://10.0.0.7/"}), InvalidWebhook),
            (json!({"url": "https://169.254.169.254/latest"}), InvalidWebhook),
            (json!({"url": "https://[::1]/"}), InvalidWebhook),
            (json!({"url": url, "bearerTokenFrom": key("hook", "two words")}), InvalidWebhook),
            (json!({"urlFrom": key("hook", "url"), "bearerTokenFrom": key("hook", "token")}), InvalidWebhook),
            (json!({"url": url, "caBundleFrom": key("pull", "ca")}), WrongSecretType),
            (
                json!({"url": url, "caBundleFrom": {"configMapKeyRef": {"name": "none", "key": "x"}}}),
                ConfigMapNotFound,
            ),
            (
                json!({"url": url, "caBundleFrom": {"configMapKeyRef": {"name": "roots", "key": "x"}}}),
                ConfigMapNotFound,
            ),
            (
                json!({"url": url, "caBundleFrom": {"configMapKeyRef": {"name": "roots", "key": "no"}}}),
                InvalidWebhook,
            ),
            (json!({"url": url, "signing": {"secretRefs": [{"name": "none", "key": "x"}]}}), SecretNotFound),
        ] {
            assert_eq!(reason(webhook.clone()), expected, "{webhook}");
        }
    }
}
