//! What each field of `spec` does to the objects of a resource: a table, which the end-to-end test `fields` goes through
//! on the cluster. A field of the schema that no row sets is a failure of the unit test here.

mod additions;
mod rows;

use serde_json::{Value, json};

pub use additions::rows_of_prometheus;
pub use rows::rows;

/// One field, or some that only go together.
#[derive(Clone, Debug)]
pub struct Row {
    /// Unlike that of any other row; also the name of the resource, with dots as dashes.
    pub name: &'static str,
    /// What the resource has beside [`base`], as a merge patch of `spec`.
    pub base: Value,
    /// One value after the other. At the end all is as it was at the beginning.
    pub steps: Vec<Step>,
    /// Whether the value cannot be changed, only be set and removed.
    pub is_immutable: bool,
}

/// A value, and what it brings about.
#[derive(Clone, Debug)]
pub struct Step {
    /// A merge patch of `spec`.
    pub change: Value,
    /// Where it shows. Nothing of it may be there before the first step.
    pub effects: Vec<Effect>,
}

/// A place in an object of a resource.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Kind of the object.
    pub kind: &'static str,
    /// JSON pointer.
    pub pointer: String,
    /// What is there; `None` for nothing. An object may have more fields. `NAMESPACE` stands for the namespace.
    pub value: Option<Value>,
}

/// The spec of each row's resource: no pod runs.
#[must_use]
pub fn base() -> Value {
    json!({
        "targetEmails": ["inbox@example.com"],
        "webhook": {"serviceRef": {"name": "webhook", "port": 8080}},
        "replicas": 0,
    })
}

impl Effect {
    /// The name of the object.
    #[must_use]
    pub fn object(&self, resource: &str) -> String {
        match self.kind {
            // The dashboard, and the table of routes; of everything else there is one that is called as the resource is.
            "ConfigMap" => format!("{resource}-dashboard"),
            "Secret" => format!("{resource}-routes"),
            _ => resource.to_owned(),
        }
    }
}

impl Row {
    /// `spec` before the first step and after the last.
    #[must_use]
    pub fn spec(&self) -> Value {
        let mut spec = base();
        merge(&mut spec, &self.base);
        spec
    }

    /// The merge patch that takes these steps back, all at once.
    #[must_use]
    pub fn undo(&self, steps: &[Step]) -> Value {
        let spec = self.spec();
        steps.iter().fold(json!({}), |mut undo, step| {
            overlay(&mut undo, &inverse(&step.change, &spec));
            undo
        })
    }

    /// The name of the resource.
    #[must_use]
    pub fn resource(&self) -> String {
        self.name.to_ascii_lowercase().replace('.', "-")
    }
}

/// What RFC 7386 says.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            into.as_object_mut().map(|fields| fields.remove(name));
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// Puts a merge patch over another, so that one does what both do.
fn overlay(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                overlay(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// The merge patch that brings `before` back after `patch`.
fn inverse(patch: &Value, before: &Value) -> Value {
    match (patch, before) {
        (Value::Object(patch), Value::Object(before)) => patch
            .iter()
            .map(|(name, value)| (name.clone(), inverse(value, before.get(name).unwrap_or(&Value::Null))))
            .collect(),
        (_, before) => before.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::{documents, repository};

    /// The fields of a schema, each as its path, that none of these values has.
    fn fields_without_a_value<'a>(
        schema: &Value,
        values: impl Iterator<Item = &'a Value>,
    ) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        leaves("", schema, &mut missing);
        for value in values {
            let mut set = BTreeSet::new();
            leaves_of_value("", schema, value, &mut set);
            missing.retain(|leaf| !set.contains(leaf));
        }
        missing
    }

    fn leaves(path: &str, schema: &Value, all: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                leaves(&format!("{path}.{name}"), property, all);
            }
        } else if schema["items"]["properties"].is_object() {
            leaves(&format!("{path}[]"), &schema["items"], all);
        } else {
            all.insert(path.trim_start_matches('.').to_owned());
        }
    }

    fn leaves_of_value(path: &str, schema: &Value, value: &Value, all: &mut BTreeSet<String>) {
        if schema["properties"].is_object() {
            for (name, value) in value.as_object().into_iter().flatten() {
                leaves_of_value(&format!("{path}.{name}"), &schema["properties"][name], value, all);
            }
        } else if schema["items"]["properties"].is_object() {
            for item in value.as_array().into_iter().flatten() {
                leaves_of_value(&format!("{path}[]"), &schema["items"], item, all);
            }
        } else if !value.is_null() {
            all.insert(path.trim_start_matches('.').to_owned());
        }
    }

    /// The families of a Service: on a cluster of one there is nothing to choose from. The end-to-end test `service` has
    /// what there is to see.
    const WITHOUT_A_ROW: [&str; 2] = ["service.ipFamilies", "service.ipFamilyPolicy"];

    fn all_rows() -> Vec<Row> {
        [rows(), rows_of_prometheus()].concat()
    }

    fn schema_of_spec() -> Value {
        let path = repository().join("deploy/crd/mail-laser.dev_maillasers.yaml");
        let crd = documents(&fs::read_to_string(path).expect("the definition")).expect("YAML").remove(0);
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn every_field_of_the_schema_has_a_row_that_sets_changes_and_removes_it() {
        let rows = all_rows();
        let schema = schema_of_spec();
        let changes = rows.iter().flat_map(|row| &row.steps).map(|step| &step.change);
        let mut missing = fields_without_a_value(&schema, changes);
        for start in WITHOUT_A_ROW {
            let before = missing.len();
            missing.retain(|field| !field.starts_with(start));
            assert!(missing.len() < before, "every {start} has a row, or is gone: take it out of the list");
        }
        assert!(missing.is_empty(), "no row of tests/src/fields/rows.rs sets {missing:#?}");
        for row in &rows {
            assert!(row.steps.len() >= 2, "{} is not changed", row.name);
            assert!(row.steps.iter().all(|step| !step.effects.is_empty()), "{} shows nowhere", row.name);
        }
    }

    #[test]
    fn no_two_rows_share_a_resource() {
        let names: BTreeSet<_> = all_rows().iter().map(Row::resource).collect();
        assert_eq!(names.len(), all_rows().len());
        assert!(names.iter().all(|name| name.len() <= 40), "{names:?}");
    }

    #[test]
    fn a_field_that_is_new_in_the_schema_is_missed() {
        let schema = json!({"properties": {"a": {"type": "string"}, "b": {"items": {"properties": {"c": {}, "d": {}}}}}});
        let values = [json!({"a": "x"}), json!({"b": [{"c": 1}]}), json!({"b": [{"d": null}]})];
        assert_eq!(fields_without_a_value(&schema, values.iter()), BTreeSet::from(["b[].d".to_owned()]));
    }

    #[test]
    fn a_step_is_taken_back_field_by_field() {
        let before = json!({"a": {"b": 1, "c": 2}, "list": [1]});
        let patch = json!({"a": {"b": 5, "d": 6}, "list": [2], "new": {"x": 1}});
        let mut after = before.clone();
        merge(&mut after, &patch);
        assert_eq!(after, json!({"a": {"b": 5, "c": 2, "d": 6}, "list": [2], "new": {"x": 1}}));
        let mut back = json!({"a": {"z": 1}});
        overlay(&mut back, &inverse(&patch, &before));
        assert_eq!(back, json!({"a": {"b": 1, "d": null, "z": 1}, "list": [1], "new": null}));
        back["a"]["z"] = Value::Null;
        merge(&mut after, &back);
        assert_eq!(after, before);
    }
}
