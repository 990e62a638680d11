//! Reads what a resource refers to, as far as it is not known already.
//!
//! Whether a Secret exists, and in which version, is known from a watch of metadata, so an unchanged resource
//! needs no request. Content is read once for each version, and of content only hashes are kept: no value of
//! a Secret stays in memory, and none gets anywhere near a status, a log or an Event.

use std::collections::HashMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use mail_laser_crds::conditions::Reason;

use crate::caches::Caches;
use crate::error::{RequestError, Verb};
use crate::evaluate::{Content, Dereferenced, Found, evaluate};
use crate::problem::Problem;
use crate::references::{Holder, Reference, keys, service};
use crate::validate::ValidatedMailLaser;

/// An object by kind, namespace and name.
type Object = (Holder, String, String);
/// An object's version, and what was in it.
type Known = (String, Arc<Content>);

/// How many objects are remembered before it is worth to look for those that are gone.
const KNOWN_MIN: usize = 64;

/// Reads references, remembering by version what it read.
pub struct Dereferencer {
    client: Client,
    memory: Mutex<Memory>,
}

/// Objects that some resource refers to or did.
#[derive(Default)]
struct Memory {
    known: HashMap<Object, Known>,
    /// How many there were when those that are gone were dropped last.
    swept: usize,
}

impl Dereferencer {
    /// One that knows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, memory: Mutex::default() }
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
        let mut found = Found::new();
        for reference in &references {
            if let Entry::Vacant(entry) = found.entry((reference.holder, reference.name.clone())) {
                entry.insert(self.content(reference, &resource.namespace, caches).await?);
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

    async fn content(
        &self,
        reference: &Reference,
        namespace: &str,
        caches: &Caches,
    ) -> Result<Option<Arc<Content>>, RequestError> {
        let key = (reference.holder, namespace.to_owned(), reference.name.clone());
        let Some(version) = caches.version(reference.holder, namespace, &reference.name) else {
            self.forget(&key);
            return Ok(None);
        };
        if let Some(content) = self.remembered(&key, &version) {
            return Ok(Some(content));
        }
        let Some((version, content)) = self.read(reference, namespace).await? else {
            return Ok(None);
        };
        let content = Arc::new(content);
        self.remember(caches, key, version, &content);
        Ok(Some(content))
    }

    fn remembered(&self, key: &Object, version: &str) -> Option<Arc<Content>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.known.get(key).filter(|(of, _)| of == version).map(|(_, content)| Arc::clone(content))
    }

    /// Remembers an object. Each time that there are twice as many, those that are gone are dropped: where nobody refers
    /// to one any more, nothing else does.
    fn remember(&self, caches: &Caches, key: Object, version: String, content: &Arc<Content>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.known.insert(key, (version, Arc::clone(content)));
        if memory.known.len() > 2 * memory.swept.max(KNOWN_MIN) {
            memory
                .known
                .retain(|(holder, namespace, name), _| caches.version(*holder, namespace, name).is_some());
            memory.swept = memory.known.len();
        }
    }

    fn forget(&self, key: &Object) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).known.remove(key);
    }

    /// Version and content of an object; none when it does not exist.
    async fn read(
        &self,
        reference: &Reference,
        namespace: &str,
    ) -> Result<Option<(String, Content)>, RequestError> {
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
                    let version = secret.metadata.resource_version.unwrap_or_default();
                    (version, Content::new(secret.type_, &values))
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
                    (map.metadata.resource_version.unwrap_or_default(), Content::new(None, &values))
                }),
        })
    }
}
