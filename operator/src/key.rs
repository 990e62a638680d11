//! What resources are remembered by.

use kube::ResourceExt;

/// A resource by namespace and name.
pub type Key = (String, String);

/// The key of a resource.
pub(crate) fn key(resource: &impl ResourceExt) -> Key {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}
