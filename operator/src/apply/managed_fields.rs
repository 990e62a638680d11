//! The field sets that the API server keeps for this operator.
//!
//! A created object has its fields in a set of operation `Update`. An apply makes a second one, of operation
//! `Apply`, and removes only what was in that: a field that was set at creation and is no longer sent would
//! stay for ever. So before an apply that leaves such a field out, the first set becomes the second. Most applies
//! leave nothing out, and that is two requests that they do not wait for.

use serde_json::{Map, Value, json};

use crate::resources::labels::MANAGER;

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";

/// The operator's field sets of an object, apart from those of subresources.
pub(crate) fn ours(object: &Value) -> impl Iterator<Item = &Value> {
    entries(object).iter().filter(|entry| is_ours(entry)).map(|entry| &entry["fieldsV1"])
}

/// The operator's sets of operation `Update`: what is in them stays when an apply leaves it out.
pub(crate) fn of_updates(object: &Value) -> impl Iterator<Item = &Value> {
    let of_updates = entries(object).iter().filter(|entry| is_ours(entry) && entry["operation"] == UPDATE);
    of_updates.map(|entry| &entry["fieldsV1"])
}

/// A merge patch that turns the operator's sets into one of operation `Apply`. It only succeeds while the
/// object is of the version that `object` has.
pub(crate) fn migration(object: &Value) -> Value {
    let (ours, mut entries): (Vec<_>, Vec<_>) = entries(object).iter().cloned().partition(is_ours);
    let mut fields = json!({});
    for entry in &ours {
        merge(&mut fields, &entry["fieldsV1"]);
    }
    if let Some(mut entry) = ours.into_iter().next() {
        entry["operation"] = APPLY.into();
        entry["fieldsV1"] = fields;
        entries.push(entry);
    }
    json!({"metadata": {
        "resourceVersion": object["metadata"]["resourceVersion"],
        "managedFields": entries,
    }})
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

fn is_ours(entry: &Value) -> bool {
    let subresource = entry["subresource"].as_str().unwrap_or_default();
    entry["manager"] == MANAGER && subresource.is_empty()
}

/// The union of two field sets.
fn merge(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (name, value) in from {
        merge(into.entry(name).or_insert_with(|| Value::Object(Map::new())), value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // JSON literals read better by value.

    use super::*;

    fn entry(manager: &str, operation: &str, subresource: &str, fields: Value) -> Value {
        let mut entry =
            json!({"manager": manager, "operation": operation, "fieldsV1": fields, "apiVersion": "v1"});
        if !subresource.is_empty() {
            entry["subresource"] = subresource.into();
        }
        entry
    }

    #[test]
    fn both_sets_become_one_and_others_stay() {
        let kubectl = entry("kubectl", UPDATE, "", json!({"f:x": {}}));
        let status = entry(MANAGER, UPDATE, "status", json!({"f:status": {}}));
        let object = json!({"metadata": {"resourceVersion": "7", "managedFields": [
            entry(MANAGER, UPDATE, "", json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}})),
            kubectl,
            entry(MANAGER, APPLY, "", json!({"f:spec": {"f:b": {"f:d": {}}}})),
            status,
        ]}});
        assert_eq!(of_updates(&object).count(), 1);
        assert_eq!(ours(&object).count(), 2);
        let patch = migration(&object);
        let union = json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}}});
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7", "managedFields": [
                kubectl, status, entry(MANAGER, APPLY, "", union),
            ]}})
        );
        assert_eq!(of_updates(&patch).count(), 0);
    }

    #[test]
    fn an_object_of_someone_else_needs_none() {
        let object = json!({"metadata": {"managedFields": [entry("kubectl", UPDATE, "", json!({}))]}});
        assert_eq!(of_updates(&object).count(), 0);
        assert_eq!(of_updates(&json!({})).count(), 0);
    }
}
