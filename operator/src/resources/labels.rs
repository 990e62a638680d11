//! Labels and annotations, and the name under which the operator writes.

use std::collections::BTreeMap;

use mail_laser_crds::{DRAIN_LABEL, NAME_LABEL};

/// The field manager of all writes, and the value of [`MANAGED_BY`].
pub const MANAGER: &str = "mail-laser-operator";
/// Who looks after an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The resource that an object belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// On pod templates: a hash of the content of all Secrets and ConfigMaps that pods read when they start, so
/// that a change of content rolls the pods, once.
pub const REFERENCES_HASH: &str = "mail-laser.dev/references-hash";
/// On pod templates: a hash of the rest of the template, by which a pod of the current template is known.
pub const TEMPLATE_HASH: &str = "mail-laser.dev/template-hash";
/// On pods: the generation of routes that they have been told of, and whether they were told twice. Its change makes
/// the kubelet look.
pub const ROUTES_GENERATION: &str = "mail-laser.dev/routes-generation";

/// On Jobs: the uid of the claim that it drains. A claim that only has the same name is another one.
pub const CLAIM_UID: &str = "mail-laser.dev/claim-uid";

const NAME: &str = "app.kubernetes.io/name";
const PRODUCT: &str = "mail-laser";

/// The labels of everything that the resource `name` owns.
pub fn owned(name: &str) -> BTreeMap<String, String> {
    [(NAME, PRODUCT), (INSTANCE, name), (MANAGED_BY, MANAGER)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels by which the pods of the resource `name` are selected. Nothing else selects by labels, so
/// that two resources can never share a pod.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [(NAME_LABEL.to_owned(), name.to_owned())].into()
}

/// [`selector`] as `kubectl` and the scale subresource write it.
pub fn selector_text(name: &str) -> String {
    format!("{NAME_LABEL}={name}")
}

/// The labels by which the pods that drain what the resource `name` left are known.
pub fn drain(name: &str) -> BTreeMap<String, String> {
    [(DRAIN_LABEL.to_owned(), name.to_owned())].into()
}
