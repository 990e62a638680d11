//! Objects as text. As a tree of values, each with an allocation or two, a Deployment takes ten times the memory that it
//! takes as JSON, and what is kept of thousands of objects has to be small: it is read again when it is looked at.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::DynamicObject;
use kube::core::DynamicResourceScope;
use mail_laser_crds::MailLaser;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::kinds::Kind;
use crate::resources::labels::{INSTANCE, MANAGED_BY, MANAGER};

/// Octets of an object that no resource controls: anybody may put our label on anything, and ours are far smaller, claims
/// above all, which nothing controls. Of a larger one no more is kept than whose it is, which is all that is asked of it.
const STRAY_BYTES_MAX: usize = 64 * 1024;

/// An object without the field sets of others, which are never looked at, and are most of it.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What is looked at without reading the rest: whose it is, and in which version.
    metadata: ObjectMeta,
    json: Box<[u8]>,
}

impl Packed {
    fn new(mut object: DynamicObject) -> Result<Self, serde_json::Error> {
        if let Some(fields) = &mut object.metadata.managed_fields {
            fields.retain(|entry| entry.manager.as_deref() == Some(MANAGER));
        }
        let mut json = serde_json::to_vec(&object)?.into_boxed_slice();
        if json.len() > STRAY_BYTES_MAX && !is_controlled(&object.metadata) {
            object.data = Value::Object(Map::new());
            object.metadata.annotations = None;
            object.metadata.managed_fields = None;
            object.metadata.labels.iter_mut().for_each(|labels| labels.retain(|label, _| is_ours(label)));
            json = serde_json::to_vec(&object)?.into_boxed_slice();
        }
        let all = object.metadata;
        let metadata = ObjectMeta {
            name: all.name,
            namespace: all.namespace,
            resource_version: all.resource_version,
            owner_references: all.owner_references,
            labels: all.labels.map(|mut labels| {
                labels.retain(|label, _| label == INSTANCE);
                labels
            }),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, json })
    }

    /// The object.
    pub fn unpack(&self) -> Option<DynamicObject> {
        // It was written from one.
        serde_json::from_slice(&self.json).ok()
    }
}

fn is_ours(label: &str) -> bool {
    [INSTANCE, MANAGED_BY].contains(&label)
}

fn is_controlled(metadata: &ObjectMeta) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.kind == MailLaser::kind(&()))
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(DynamicObject::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Resource for Packed {
    /// It is in the key of each object that is kept, so it is one that takes next to nothing.
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn group(kind: &Kind) -> Cow<'_, str> {
        kind.api_resource().group.into()
    }

    fn version(kind: &Kind) -> Cow<'_, str> {
        kind.api_resource().version.into()
    }

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.as_str().into()
    }

    fn api_version(kind: &Kind) -> Cow<'_, str> {
        kind.api_resource().api_version.into()
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.api_resource().plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unpacked_is_the_object_without_the_fields_of_others() {
        let mut object = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "a", "namespace": "b", "resourceVersion": "7", "uid": "1",
                "labels": {INSTANCE: "a", "team": "c"},
                "managedFields": [{"manager": MANAGER, "operation": "Apply"}, {"manager": "kubectl"}],
            },
            "spec": {"replicas": 1},
        });
        let packed: Packed = serde_json::from_value(object.clone()).unwrap();
        object["metadata"]["managedFields"].as_array_mut().unwrap().pop();
        assert_eq!(serde_json::to_value(packed.unpack().unwrap()).unwrap(), object);
        let meta = packed.meta();
        assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("a"), Some("7")));
        assert_eq!(meta.labels.as_ref().unwrap().len(), 1, "the others are in the text");
    }

    /// Anybody may put our label on anything.
    #[test]
    fn of_a_large_object_that_no_resource_controls_it_is_kept_whose_it_is() {
        let packed = |owners: Value, bytes: usize| {
            let labels = json!({INSTANCE: "a", MANAGED_BY: MANAGER, "team": "c"});
            let metadata = json!({"name": "a", "uid": "1", "labels": labels, "ownerReferences": owners});
            let object = json!({"metadata": metadata, "data": {"key": "x".repeat(bytes)}});
            serde_json::from_value::<Packed>(object).unwrap()
        };
        let owner = json!([{"apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailLaser", "name": "a",
                            "uid": "2", "controller": true}]);
        assert!(packed(owner, 1_000_000).json.len() > 1_000_000);
        assert!(packed(json!([]), 60_000).json.len() > 60_000);
        let stray = packed(json!([]), 1_000_000);
        assert!(stray.json.len() < 1_000, "{}", stray.json.len());
        let stray = stray.unpack().unwrap();
        let labels: Vec<&str> =
            stray.metadata.labels.iter().flatten().map(|(label, _)| label.as_str()).collect();
        assert_eq!((stray.metadata.uid.as_deref(), labels), (Some("1"), vec![INSTANCE, MANAGED_BY]));
    }
}
