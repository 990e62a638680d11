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
    pub(crate) async fn find(&self, client: &Client, caches: &Caches, key: &Key) -> MapFound {
        let (namespace, name) = key;
        let object = (Holder::ConfigMap, namespace.clone(), name.clone());
        let Some(version) = caches.version(Holder::ConfigMap, namespace, name) else {
            self.0.forget(&object);
            return MapFound::Missing;
        };
        if let Some(values) = self.0.find(&object, &version) {
            return MapFound::Values(values);
        }
        let map = match Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await {
            Ok(Some(map)) => map,
            Ok(None) => return MapFound::Missing,
            Err(error) => {
                let error = RequestError::new(Verb::Get, Holder::ConfigMap.kind(), namespace, name, error);
                return MapFound::Unread(error.problem().message);
            }
        };
        let version = map.metadata.resource_version.clone().unwrap_or_default();
        let values = Arc::new(values(map));
        self.0.remember(caches, object, version, &values);
        MapFound::Values(values)
    }
}
