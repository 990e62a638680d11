//! The last resort when an apply is refused as invalid: the object as it would be if only the operator had
//! ever written it.
//!
//! An apply cannot remove what someone else put beside a field of ours, and some pairs exclude each other: an
//! `exec` in a probe that has our `httpGet`, a `minAvailable` beside our `maxUnavailable`, a port of the same name with
//! another number.

use serde_json::Value;

use crate::kinds::Kind;

/// What the cluster chose for a Service, and must stay where the resource does not say otherwise: its addresses.
const SERVICE_FIELDS_KEPT: &[&str] =
    &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"];

/// `live` with its specification replaced by that of `sent`. Metadata of others (labels, annotations) stays.
pub(crate) fn replacement(kind: Kind, sent: &Value, live: &Value) -> Value {
    let mut object = live.clone();
    for field in ["labels", "annotations"] {
        for (name, value) in sent["metadata"][field].as_object().into_iter().flatten() {
            object["metadata"][field][name] = value.clone();
        }
    }
    object["metadata"]["ownerReferences"] = sent["metadata"]["ownerReferences"].clone();
    if let Some(spec) = sent.get("spec") {
        object["spec"] = spec.clone();
    }
    if kind == Kind::Service {
        for field in SERVICE_FIELDS_KEPT {
            if let (None, Some(value)) = (sent["spec"].get(field), live["spec"].get(field)) {
                object["spec"][*field] = value.clone();
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_put_beside_a_field_goes() {
        let sent = json!({"metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "1"}]},
            "spec": {"probe": {"httpGet": {}}}});
        let live = json!({"metadata": {"resourceVersion": "7", "labels": {"b": "2"}},
            "spec": {"probe": {"exec": {}}}, "status": {"x": 1}});
        assert_eq!(
            replacement(Kind::Deployment, &sent, &live),
            json!({
                "metadata": {"resourceVersion": "7", "labels": {"a": "1", "b": "2"}, "ownerReferences": [{"uid": "1"}]},
                "spec": {"probe": {"httpGet": {}}}, "status": {"x": 1},
            })
        );
    }

    #[test]
    fn a_service_keeps_its_address() {
        let sent = json!({"metadata": {}, "spec": {"type": "ClusterIP"}});
        let live = json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.0.0.1"}});
        let spec = json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"});
        assert_eq!(replacement(Kind::Service, &sent, &live)["spec"], spec);
    }

    #[test]
    fn what_the_resource_says_of_families_is_sent() {
        let sent = json!({"metadata": {}, "spec": {"ipFamilyPolicy": "PreferDualStack"}});
        let live = json!({"metadata": {}, "spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}});
        let spec = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]});
        assert_eq!(replacement(Kind::Service, &sent, &live)["spec"], spec);
    }
}
