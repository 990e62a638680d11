//! Reads what a resource refers to, as far as it is not known already.
//!
//! Whether a Secret exists, and in which version, is known from a watch of metadata, so an unchanged resource
//! needs no request. Content is read once for each version, and of content only hashes are kept: no value of
//! a Secret stays in memory, and none gets anywhere near a status, a log or an Event.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use mail_laser_crds::conditions::Reason;
use sha2::{Digest, Sha256};

use crate::caches::Caches;
use crate::error::{RequestError, Verb};
use crate::problem::Problem;
use crate::references::{Holder, Reference, keys, service};
use crate::resources::environment::WEBHOOK_URL;
use crate::validate::{Destination, ValidatedMailLaser};

/// What the references of a resource come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dereferenced {
    /// Hash of the content of all keys that the resource refers to; absent when there are none.
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

type Digests = Arc<BTreeMap<String, KeyDigest>>;
/// An object by kind, namespace and name.
type Object = (Holder, String, String);
/// An object's version, and what was in it.
type Known = (String, Digests);

/// Reads references, remembering by version what it read.
pub struct Dereferencer {
    client: Client,
    /// Holds objects that some resource refers to or did; [`Self::forget`] drops those that are gone.
    known: Mutex<HashMap<Object, Known>>,
}

impl Dereferencer {
    /// One that knows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Reads what the resource refers to.
    ///
    /// # Errors
    /// When the API server cannot be asked. What is missing is no error, but a problem in the result.
    pub async fn dereference(
        &self,
        resource: &ValidatedMailLaser,
        caches: &Caches,
    ) -> Result<Dereferenced, RequestError> {
        let references = keys(&resource.spec);
        let mut found: BTreeMap<(Holder, String), Option<Digests>> = BTreeMap::new();
        for reference in &references {
            if let Entry::Vacant(entry) = found.entry((reference.holder, reference.name.clone())) {
                entry.insert(self.digests(reference, &resource.namespace, caches).await?);
            }
        }
        let mut result = evaluate(resource, &references, &found);
        if let Some(name) = service(&resource.spec)
            && !caches.service_exists(&resource.namespace, name)
        {
            result.problems.push(Problem::new(
                Reason::ServiceNotFound,
                format!(
                    "Service {name} of spec.webhook.serviceRef does not exist in namespace {}: create it, or correct the field",
                    resource.namespace
                ),
            ));
        }
        Ok(result)
    }

    async fn digests(
        &self,
        reference: &Reference,
        namespace: &str,
        caches: &Caches,
    ) -> Result<Option<Digests>, RequestError> {
        let key = (reference.holder, namespace.to_owned(), reference.name.clone());
        let Some(version) = caches.version(reference.holder, namespace, &reference.name) else {
            self.forget(&key);
            return Ok(None);
        };
        if let Some(digests) = self.remembered(&key, &version) {
            return Ok(Some(digests));
        }
        let Some((version, values)) = self.read(reference, namespace).await? else {
            return Ok(None);
        };
        let digests: Digests =
            Arc::new(values.iter().map(|(key, value)| (key.clone(), digest(value))).collect());
        self.remember(caches, key, version, &digests);
        Ok(Some(digests))
    }

    fn remembered(&self, key: &Object, version: &str) -> Option<Digests> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(of, _)| of == version).map(|(_, digests)| Arc::clone(digests))
    }

    /// Remembers an object, and drops those that are gone: nobody may refer to them any more.
    fn remember(&self, caches: &Caches, key: Object, version: String, digests: &Digests) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(holder, namespace, name), _| caches.version(*holder, namespace, name).is_some());
        known.insert(key, (version, Arc::clone(digests)));
    }

    fn forget(&self, key: &Object) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Version and values of an object; none when it does not exist.
    async fn read(
        &self,
        reference: &Reference,
        namespace: &str,
    ) -> Result<Option<(String, BTreeMap<String, Vec<u8>>)>, RequestError> {
        let name = &reference.name;
        let failed = |source| RequestError::new(Verb::Get, reference.holder.kind(), namespace, name, source);
        Ok(match reference.holder {
            Holder::Secret => Api::<Secret>::namespaced(self.client.clone(), namespace)
                .get_opt(name)
                .await
                .map_err(failed)?
                .map(|secret| {
                    let values = secret.data.unwrap_or_default();
                    let values = values.into_iter().map(|(key, value)| (key, value.0)).collect();
                    (secret.metadata.resource_version.unwrap_or_default(), values)
                }),
            Holder::ConfigMap => Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
                .get_opt(name)
                .await
                .map_err(failed)?
                .map(|map| {
                    let texts = map.data.unwrap_or_default();
                    let binaries = map.binary_data.unwrap_or_default();
                    let values = texts
                        .into_iter()
                        .map(|(key, value)| (key, value.into_bytes()))
                        .chain(binaries.into_iter().map(|(key, value)| (key, value.0)))
                        .collect();
                    (map.metadata.resource_version.unwrap_or_default(), values)
                }),
        })
    }
}

fn digest(value: &[u8]) -> KeyDigest {
    let host = std::str::from_utf8(value).ok().and_then(host);
    KeyDigest { sha256: Sha256::digest(value).into(), host }
}

/// The host of a URL, without port, path and credentials.
fn host(url: &str) -> Option<String> {
    let url = url::Url::parse(url.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.host_str().filter(|host| host.len() <= HOST_LENGTH_MAX).map(str::to_owned)
}

/// What the references come to, given the objects.
fn evaluate(
    resource: &ValidatedMailLaser,
    references: &[Reference],
    found: &BTreeMap<(Holder, String), Option<Digests>>,
) -> Dereferenced {
    let digest_of = |reference: &Reference| {
        found.get(&(reference.holder, reference.name.clone()))?.as_ref()?.get(&reference.key)
    };
    let problems = references
        .iter()
        .filter(|reference| !reference.optional && digest_of(reference).is_none())
        .map(|reference| {
            let exists = found.get(&(reference.holder, reference.name.clone())).is_some_and(Option::is_some);
            missing(reference, &resource.namespace, exists)
        })
        .collect();
    Dereferenced {
        hash: (!references.is_empty()).then(|| hash(references, &digest_of)),
        webhook_host: webhook_host(resource, references, &digest_of),
        problems,
    }
}

fn missing(reference: &Reference, namespace: &str, exists: bool) -> Problem {
    let Reference { holder, name, key, field, .. } = reference;
    let reason = match holder {
        Holder::Secret => Reason::SecretNotFound,
        Holder::ConfigMap => Reason::ConfigMapNotFound,
    };
    let kind = holder.kind();
    let message = if exists {
        format!(
            "{kind} {name} in namespace {namespace} has no key {key}, which {field} refers to: add it, or correct the field"
        )
    } else {
        format!(
            "{kind} {name} (key {key}), which {field} refers to, does not exist in namespace {namespace}: create it, or correct the field"
        )
    };
    Problem::new(reason, message)
}

/// A hash of content, not of versions: a Secret that is written again as it was rolls no pods.
fn hash<'a>(references: &[Reference], digest_of: &dyn Fn(&Reference) -> Option<&'a KeyDigest>) -> String {
    let mut entries: Vec<_> = references
        .iter()
        .map(|reference| {
            let content = digest_of(reference).map(|digest| digest.sha256);
            (reference.holder, &reference.name, &reference.key, content)
        })
        .collect();
    entries.sort();
    entries.dedup();
    let mut hasher = Sha256::new();
    for (holder, name, key, content) in entries {
        // Neither names nor keys can hold a NUL, so no two lists give the same bytes.
        hasher.update(format!("{}\0{name}\0{key}\0{}\0", holder.kind(), content.is_some()));
        hasher.update(content.unwrap_or_default());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
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
        Destination::Environment => None,
    }
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::MailLaser;

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

    /// With a Secret `hook` and a ConfigMap `more` that hold this.
    fn with(
        resource: &ValidatedMailLaser,
        hook: Option<&[(&str, &str)]>,
        more: Option<&[(&str, &str)]>,
    ) -> Dereferenced {
        let digests = |values: &[(&str, &str)]| {
            let digests = values.iter().map(|(key, value)| ((*key).to_owned(), digest(value.as_bytes())));
            Arc::new(digests.collect::<BTreeMap<_, _>>())
        };
        let found = BTreeMap::from([
            ((Holder::Secret, "hook".to_owned()), hook.map(digests)),
            ((Holder::ConfigMap, "more".to_owned()), more.map(digests)),
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
