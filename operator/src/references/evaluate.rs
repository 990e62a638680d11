//! What the objects that a resource refers to come to: what is missing, and a hash of the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_laser_crds::conditions::Reason;
use sha2::{Digest, Sha256};

use super::{Holder, Purpose, Reference};
use crate::problem::Problem;
use crate::resources::environment::WEBHOOK_URL;
use crate::validate::{Destination, ValidatedMailLaser};

/// What the references of a resource come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dereferenced {
    /// Hash of the content of all keys that pods read when they start; absent when there are none.
    pub hash: Option<String>,
    /// Host of the webhook, if it can be known.
    pub webhook_host: Option<String>,
    /// What is missing.
    pub problems: Vec<Problem>,
}

impl Dereferenced {
    /// Whether pods with this would start.
    pub fn complete(&self) -> bool {
        self.problems.iter().all(|problem| problem.reason == Reason::ServiceNotFound)
    }
}

/// Longest host that a status can hold: that of a name in the DNS.
const HOST_LENGTH_MAX: usize = 253;

/// What is kept of the value of a key.
#[derive(Clone, Debug, PartialEq)]
struct KeyDigest {
    sha256: [u8; 32],
    /// The host, if the value is a URL.
    host: Option<String>,
}

/// What is kept of an object: hashes, and no value.
#[derive(Debug, PartialEq)]
pub struct Content {
    /// The type of a Secret.
    type_: Option<String>,
    keys: BTreeMap<String, KeyDigest>,
}

impl Content {
    /// What is kept of an object with these values; `type_` is that of a Secret.
    pub fn new(type_: Option<String>, values: &BTreeMap<String, Vec<u8>>) -> Self {
        let keys = values.iter().map(|(key, value)| (key.clone(), digest(value))).collect();
        Self { type_, keys }
    }

    /// Whether there is such a key, or is meant none in particular.
    fn has(&self, key: Option<&str>) -> bool {
        key.is_none_or(|key| self.keys.contains_key(key))
    }

    /// The hash of a key's value, or of all.
    fn sha256(&self, key: Option<&str>) -> Option<[u8; 32]> {
        let Some(key) = key else {
            let mut hasher = Sha256::new();
            for (key, digest) in &self.keys {
                // No key can hold a NUL, so no two objects give the same bytes.
                hasher.update(format!("{key}\0"));
                hasher.update(digest.sha256);
            }
            return Some(hasher.finalize().into());
        };
        self.keys.get(key).map(|digest| digest.sha256)
    }
}

/// The objects that references name, as far as they exist.
pub type Found = BTreeMap<(Holder, String), Option<Arc<Content>>>;

fn digest(value: &[u8]) -> KeyDigest {
    let host = std::str::from_utf8(value).ok().and_then(host);
    KeyDigest { sha256: Sha256::digest(value).into(), host }
}

/// The host of a URL, without port, path and credentials.
pub(crate) fn host(url: &str) -> Option<String> {
    let url = url::Url::parse(url.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str().filter(|host| host.len() <= HOST_LENGTH_MAX).map(str::to_owned)
}

/// What the references come to, given the objects.
pub fn evaluate(resource: &ValidatedMailLaser, references: &[Reference], found: &Found) -> Dereferenced {
    let content_of = |reference: &Reference| found.get(&(reference.holder, reference.name.clone()))?.as_ref();
    let digest_of = |reference: &Reference| content_of(reference)?.keys.get(reference.key.as_ref()?);
    let hash_of = |reference: &Reference| content_of(reference)?.sha256(reference.key.as_deref());
    let problem_of = |reference: &Reference| match content_of(reference) {
        None => Some(missing(reference, &resource.namespace)),
        Some(content) => unusable(reference, &resource.namespace, content),
    };
    let mut problems: Vec<Problem> =
        references.iter().filter(|reference| !reference.optional).filter_map(problem_of).collect();
    // The keys of one Secret have its absence and its type in common.
    problems.dedup();
    Dereferenced {
        hash: hash(references, &hash_of),
        webhook_host: webhook_host(resource, references, &digest_of),
        problems,
    }
}

fn not_found(holder: Holder) -> Reason {
    match holder {
        Holder::Secret => Reason::SecretNotFound,
        Holder::ConfigMap => Reason::ConfigMapNotFound,
    }
}

fn missing(reference: &Reference, namespace: &str) -> Problem {
    let Reference { holder, name, key, field, purpose, .. } = reference;
    let what = match (purpose.secret_type(), key) {
        (Some(type_), _) => format!(" of type {type_}"),
        (None, Some(key)) => format!(" (key {key})"),
        (None, None) => String::new(),
    };
    let kind = holder.kind();
    Problem::new(
        not_found(*holder),
        format!(
            "{kind} {name}{what}, which {field} refers to, does not exist in namespace {namespace}: create it, or correct the field"
        ),
    )
}

/// What keeps an object that exists from being used.
fn unusable(reference: &Reference, namespace: &str, content: &Content) -> Option<Problem> {
    let Reference { holder, name, key, field, purpose, .. } = reference;
    let kind = holder.kind();
    let type_ = content.type_.as_deref().unwrap_or_default();
    match purpose.secret_type() {
        Some(expected) if type_ != expected => Some(Problem::new(
            Reason::WrongSecretType,
            format!(
                "{kind} {name} in namespace {namespace}, which {field} refers to, is of type {type_} instead of {expected}: delete it and create it anew (`kubectl create secret tls`), or correct the field"
            ),
        )),
        _ if content.has(key.as_deref()) => None,
        _ => Some(Problem::new(
            not_found(*holder),
            format!(
                "{kind} {name} in namespace {namespace} has no key {}, which {field} refers to: add it, or correct the field",
                key.as_deref().unwrap_or_default()
            ),
        )),
    }
}

/// A hash of content, not of versions: a Secret that is written again as it was rolls no pods. Nor does a
/// renewed certificate, which the daemon takes up by itself.
fn hash(references: &[Reference], hash_of: &dyn Fn(&Reference) -> Option<[u8; 32]>) -> Option<String> {
    let mut entries: Vec<_> = references
        .iter()
        .filter(|reference| reference.purpose == Purpose::Start)
        .map(|reference| {
            let key = reference.key.as_deref().unwrap_or_default();
            (reference.holder, &reference.name, key, hash_of(reference))
        })
        .collect();
    if entries.is_empty() {
        return None;
    }
    entries.sort();
    entries.dedup();
    let mut hasher = Sha256::new();
    for (holder, name, key, content) in entries {
        // Neither names nor keys can hold a NUL, so no two lists give the same bytes.
        hasher.update(format!("{}\0{name}\0{key}\0{}\0", holder.kind(), content.is_some()));
        hasher.update(content.unwrap_or_default());
    }
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn webhook_host<'a>(
    resource: &ValidatedMailLaser,
    references: &[Reference],
    digest_of: &dyn Fn(&Reference) -> Option<&'a KeyDigest>,
) -> Option<String> {
    let by_reference =
        |field: &str| digest_of(references.iter().find(|reference| reference.field == field)?)?.host.clone();
    if let Some(entry) = resource.spec.env.iter().find(|entry| entry.name == WEBHOOK_URL) {
        return match &entry.value {
            Some(value) => host(value),
            None => by_reference(&format!("spec.env[{WEBHOOK_URL}]")),
        };
    }
    match &resource.destination {
        Destination::Url(url) | Destination::Service(url) => host(url),
        Destination::Secret(_) => by_reference("spec.webhook.urlFrom"),
        Destination::Environment | Destination::Nowhere => None,
    }
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::MailLaser;

    use super::super::keys;
    use super::*;
    use crate::validate::validate;

    fn resource(spec: &str) -> ValidatedMailLaser {
        let spec = serde_yaml_ng::from_str(spec).unwrap();
        let mut resource = MailLaser::new("alarms", spec);
        resource.metadata.namespace = Some("ops".to_owned());
        resource.metadata.uid = Some("1".to_owned());
        validate(&resource, "i").unwrap()
    }

    fn by_secret() -> ValidatedMailLaser {
        resource(
            "
            targetEmails: [a@example.com]
            webhook: {urlFrom: {secretKeyRef: {name: hook, key: url}}}
            env:
            - {name: A, valueFrom: {configMapKeyRef: {name: more, key: a, optional: true}}}
            ",
        )
    }

    fn content(type_: &str, values: &[(&str, &str)]) -> Arc<Content> {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_owned()));
        Arc::new(Content::new(Some(type_.to_owned()), &values.collect()))
    }

    /// With a Secret `hook` and a ConfigMap `more` that hold this.
    fn with(
        resource: &ValidatedMailLaser,
        hook: Option<&[(&str, &str)]>,
        more: Option<&[(&str, &str)]>,
    ) -> Dereferenced {
        let found = BTreeMap::from([
            ((Holder::Secret, "hook".to_owned()), hook.map(|values| content("Opaque", values))),
            ((Holder::ConfigMap, "more".to_owned()), more.map(|values| content("", values))),
        ]);
        evaluate(resource, &keys(&resource.spec), &found)
    }

    const URL: (&str, &str) = ("url", "https://user:password@hook.example.com:8443/secret?key=1\n");

    #[test]
    fn only_the_host_of_a_secret_address_is_known() {
        let found = with(&by_secret(), Some(&[URL]), None);
        assert_eq!(found.webhook_host.as_deref(), Some("hook.example.com"));
        assert_eq!(found.problems, []);
        assert!(found.complete());
        let all = format!("{found:?}");
        assert!(!all.contains("password") && !all.contains("8443") && !all.contains("key=1"), "{all}");
    }

    #[test]
    fn what_is_missing_is_named_with_its_field() {
        for (hook, parts) in [
            (None, ["Secret hook (key url)", "spec.webhook.urlFrom", "namespace ops", "create it"]),
            (Some(&[("x", "y")][..]), ["Secret hook", "no key url", "spec.webhook.urlFrom", "add it"]),
        ] {
            let found = with(&by_secret(), hook, None);
            assert!(!found.complete());
            assert_eq!(found.problems.len(), 1, "the ConfigMap is optional");
            assert_eq!(found.problems[0].reason, Reason::SecretNotFound);
            for part in parts {
                assert!(found.problems[0].message.contains(part), "{}", found.problems[0].message);
            }
        }
    }

    #[test]
    fn the_hash_follows_the_content_of_the_keys_that_are_referred_to() {
        let hash = |hook: &[(&str, &str)], more: Option<&[(&str, &str)]>| {
            with(&by_secret(), Some(hook), more).hash.unwrap()
        };
        let before = hash(&[URL], None);
        assert_eq!(hash(&[URL, ("other", "x")], None), before);
        let after = [
            hash(&[("url", "https://x.example.com/")], None),
            hash(&[URL], Some(&[("a", "")])),
            hash(&[URL], Some(&[("a", "1")])),
        ];
        assert!(!after.contains(&before));
        assert_ne!(after[1], after[2]);
    }

    /// A resource with a certificate, and what is to be found of its Secret.
    fn with_certificate(secret: Option<(&str, &[(&str, &str)])>) -> Dereferenced {
        let resource = resource(
            "
            targetEmails: [a@example.com]
            webhook: {url: 'https://x.example.com/'}
            tls: {secretName: pair}
            ",
        );
        let secret = secret.map(|(type_, values)| content(type_, values));
        let found = BTreeMap::from([((Holder::Secret, "pair".to_owned()), secret)]);
        evaluate(&resource, &keys(&resource.spec), &found)
    }

    #[test]
    fn a_renewed_certificate_changes_nothing() {
        let with = |certificate: &str| {
            with_certificate(Some(("kubernetes.io/tls", &[("tls.crt", certificate), ("tls.key", "key")])))
        };
        let found = with("first");
        assert_eq!((&found.hash, found.complete()), (&None, true));
        assert_eq!(with("second"), found);
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_one_problem() {
        let pair = [("tls.crt", "c"), ("tls.key", "k")];
        for (secret, reason, parts) in [
            (None, Reason::SecretNotFound, ["Secret pair of type kubernetes.io/tls", "does not exist"]),
            (
                Some(("kubernetes.io/tls", &pair[..1])),
                Reason::SecretNotFound,
                ["Secret pair", "no key tls.key"],
            ),
            (
                Some(("Opaque", &pair[..])),
                Reason::WrongSecretType,
                ["Secret pair", "is of type Opaque instead of kubernetes.io/tls"],
            ),
            (Some(("Opaque", &[][..])), Reason::WrongSecretType, ["Secret pair", "create it anew"]),
        ] {
            let found = with_certificate(secret);
            assert!(!found.complete());
            assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
            assert_eq!(found.problems[0].reason, reason);
            for part in parts.into_iter().chain(["namespace ops", "spec.tls.secretName"]) {
                assert!(found.problems[0].message.contains(part), "{}", found.problems[0].message);
            }
        }
    }

    #[test]
    fn a_resource_that_refers_to_nothing_has_no_hash() {
        let resource =
            resource("{targetEmails: [a@example.com], webhook: {url: 'https://x.example.com:1/y'}}");
        let found = with(&resource, None, None);
        assert_eq!(found.hash, None);
        assert_eq!(found.webhook_host.as_deref(), Some("x.example.com"));
    }

    #[test]
    fn an_address_in_the_environment_is_the_one_in_force() {
        let resource = resource(
            "
            targetEmails: [a@example.com]
            webhook: {url: 'https://field.example.com/'}
            env: [{name: MAIL_LASER_WEBHOOK_URL, value: 'https://env.example.com/'}]
            ",
        );
        assert_eq!(with(&resource, None, None).webhook_host.as_deref(), Some("env.example.com"));
    }
}
