//! Reads what a resource refers to, as far as it is not known already.
//!
//! Whether a Secret exists, and in which version, is known from a watch of metadata, so an unchanged resource
//! needs no request. Content is read once for each version, and of content only hashes are kept: no value of
//! a Secret stays in memory, and none gets anywhere near a status, a log or an Event.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use mail_laser_crds::conditions::Reason;

use super::evaluate::{Content, Dereferenced, Found, evaluate};
use super::memory::Memory;
use super::{Holder, Reference, keys, service};
use crate::caches::Caches;
use crate::error::{RequestError, Verb};
use crate::problem::Problem;
use crate::validate::ValidatedMailLaser;

/// Reads references, remembering by version what it read.
pub struct Dereferencer {
    client: Client,
    memory: Memory<Content>,
}

impl Dereferencer {
    /// One that knows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, memory: Memory::default() }
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
            self.memory.forget(&key);
            return Ok(None);
        };
        if let Some(content) = self.memory.find(&key, &version) {
            return Ok(Some(content));
        }
        let Some((version, content)) = self.read(reference, namespace).await? else {
            return Ok(None);
        };
        let content = Arc::new(content);
        self.memory.remember(caches, key, version, &content);
        Ok(Some(content))
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
                    let version = map.metadata.resource_version.clone().unwrap_or_default();
                    (version, Content::new(None, &values(map)))
                }),
        })
    }
}

/// What is in a ConfigMap, by key.
pub(crate) fn values(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let texts = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binaries = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    texts.chain(binaries).collect()
}
