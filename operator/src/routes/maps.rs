//! The content of ConfigMaps with certificates that routes refer to, read once for each version.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::Key;
use super::webhook::{MapFound, Values};
use crate::caches::Caches;
use crate::error::{RequestError, Verb};
use crate::references::Holder;

/// The content of maps, by version. Public certificates, each bounded by what a ConfigMap may have.
#[derive(Default)]
pub(crate) struct Maps(Mutex<HashMap<Key, (String, Arc<Values>)>>);

impl Maps {
    /// A map as it is now; read where another version of it is there than the one that is known.
    pub(crate) async fn find(&self, client: &Client, caches: &Caches, key: &Key) -> MapFound {
        let (namespace, name) = key;
        let Some(version) = caches.version(Holder::ConfigMap, namespace, name) else {
            self.known().remove(key);
            return MapFound::Missing;
        };
        if let Some((of, values)) = self.known().get(key)
            && *of == version
        {
            return MapFound::Values(Arc::clone(values));
        }
        let found = match Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await {
            Ok(Some(found)) => found,
            Ok(None) => return MapFound::Missing,
            Err(error) => {
                let error = RequestError::new(Verb::Get, Holder::ConfigMap.kind(), namespace, name, error);
                return MapFound::Unread(error.problem().message);
            }
        };
        let texts = found.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
        let binaries = found.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let values = Arc::new(texts.chain(binaries).collect());
        let mut known = self.known();
        known.retain(|(namespace, name), _| caches.version(Holder::ConfigMap, namespace, name).is_some());
        let version = found.metadata.resource_version.unwrap_or_default();
        known.insert(key.clone(), (version, Arc::clone(&values)));
        MapFound::Values(values)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, Arc<Values>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
