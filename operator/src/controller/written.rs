//! Statuses that were written, until the watch tells of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;

use crate::key::{Key, key};

/// The status that was written last, with the version that the resource had in the cache then: while the cache still has
/// that version, its status is outdated.
pub(crate) struct Statuses<S>(Mutex<HashMap<Key, (Option<String>, S)>>);

impl<S> Default for Statuses<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Clone> Statuses<S> {
    fn written(&self) -> MutexGuard<'_, HashMap<Key, (Option<String>, S)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status that a resource has: `cached`, or what was written since.
    pub(crate) fn current(&self, resource: &impl ResourceExt, cached: Option<&S>) -> Option<S> {
        let key = key(resource);
        let mut written = self.written();
        match written.get(&key) {
            Some((version, status)) if *version == resource.resource_version() => Some(status.clone()),
            Some(_) => {
                written.remove(&key);
                cached.cloned()
            }
            None => cached.cloned(),
        }
    }

    /// A status was written on top of what the cache has.
    pub(crate) fn wrote(&self, resource: &impl ResourceExt, status: S) {
        self.written().insert(key(resource), (resource.resource_version(), status));
    }

    /// Drops what is remembered of a resource that is gone.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.written().remove(&(namespace.to_owned(), name.to_owned()));
    }
}
