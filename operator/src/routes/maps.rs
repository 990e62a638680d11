//! The content of ConfigMaps with certificates that routes refer to, read once for each version.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::webhook::{MapFound, Values};
use crate::caches::Caches;
use crate::error::{RequestError, Verb};
use crate::key::Key;
use crate::references::Holder;
use crate::references::dereference::values;
use crate::references::memory::Memory;

/// The content of maps, by version. Public certificates, each bounded by what a ConfigMap may have.
#[derive(Default)]
pub(crate) struct Maps(Memory<Values>);

impl Maps {
    /// A map as it is now; read where another version of it is there than the one that is known.
    ///
    /// # Errors
    /// When the API server does not give it.
    pub(crate) async fn find(
        &self,
        client: &Client,
        caches: &Caches,
        key: &Key,
    ) -> Result<MapFound, RequestError> {
        let (namespace, name) = key;
        let object = (Holder::ConfigMap, namespace.clone(), name.clone());
        let Some(version) = caches.version(Holder::ConfigMap, namespace, name) else {
            self.0.forget(&object);
            return Ok(MapFound::Missing);
        };
        if let Some(values) = self.0.find(&object, &version) {
            return Ok(MapFound::Values(values));
        }
        let failed = |error| RequestError::new(Verb::Get, Holder::ConfigMap.kind(), namespace, name, error);
        let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await;
        let Some(map) = found.map_err(failed)? else { return Ok(MapFound::Missing) };
        let version = map.metadata.resource_version.clone().unwrap_or_default();
        let values = Arc::new(values(map));
        self.0.remember(caches, object, version, &values);
        Ok(MapFound::Values(values))
    }
}
