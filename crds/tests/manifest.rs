//! The manifests that users apply: up to date, small enough for `kubectl apply`, bounded everywhere.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use mail_laser_crds::{MailLaser, MailRoute, crds, manifest};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// `kubectl apply` keeps the object as JSON in an annotation, and annotations end at 262,144 bytes.
const BYTES_MAX: usize = 240_000;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn root_schema(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

fn schema_of(kind: &str) -> Value {
    root_schema(crds().unwrap().iter().find(|crd| crd.spec.names.kind == kind).unwrap())
}

/// Calls `visit` with the path and the schema of every field below `schema`.
fn walk(path: &str, schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&format!("{path}{{}}"), &schema["additionalProperties"], visit);
    }
}

fn fields_where(condition: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for crd in crds().unwrap() {
        walk("", &root_schema(&crd), &mut |path, schema| {
            if condition(schema) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

#[test]
fn the_generated_files_are_up_to_date() {
    for crd in crds().unwrap() {
        let path = deploy(&format!("crd/{}_{}.yaml", crd.spec.group, crd.spec.names.plural));
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == manifest(&crd).unwrap(), "{} is stale: run `make generate`", path.display());
    }
}

#[test]
fn a_client_side_apply_can_hold_them() {
    for crd in crds().unwrap() {
        let bytes = serde_json::to_vec(&crd).unwrap().len();
        assert!(bytes < BYTES_MAX, "a manifest has {bytes} bytes of JSON, at most {BYTES_MAX} are safe");
    }
}

#[test]
fn no_field_is_nullable() {
    let nullable = |schema: &Value| {
        schema.get("nullable").is_some()
            || schema["enum"].as_array().is_some_and(|values| values.contains(&Value::Null))
    };
    assert_eq!(fields_where(nullable), Vec::<String>::new());
}

#[test]
fn every_string_list_and_map_is_bounded() {
    let unbounded = |schema: &Value| match schema["type"].as_str() {
        Some("string") => ["maxLength", "enum", "format"].iter().all(|key| schema.get(key).is_none()),
        Some("array") => schema.get("maxItems").is_none(),
        Some("object") => {
            schema.get("additionalProperties").is_some() && schema.get("maxProperties").is_none()
        }
        _ => false,
    };
    assert_eq!(fields_where(unbounded), Vec::<String>::new());
}

#[test]
fn every_integer_of_the_spec_that_is_ours_is_bounded() {
    let unbounded = |schema: &Value| {
        schema["type"] == "integer" && (schema.get("minimum").is_none() || schema.get("maximum").is_none())
    };
    let ours: Vec<_> = fields_where(unbounded)
        .into_iter()
        .filter(|path| path.starts_with(".spec") && !path.starts_with(".spec.podTemplate"))
        .collect();
    assert_eq!(ours, Vec::<String>::new());
}

#[test]
fn every_field_has_a_description() {
    let undescribed: Vec<_> = fields_where(|schema| schema.get("description").is_none())
        .into_iter()
        .filter(|path| !path.ends_with("{}") && !path.ends_with("[]"))
        .collect();
    assert_eq!(undescribed, Vec::<String>::new());
}

#[test]
fn an_unseen_resource_is_not_settled() {
    let default = &schema_of("MailLaser")["properties"]["status"]["default"];
    assert_eq!(*default, serde_json::json!({"observedGeneration": -1}));
}

#[test]
fn the_schema_and_the_types_have_the_same_defaults() {
    let webhook = serde_json::json!({"webhook": {}, "allowedRoutes": [{}]});
    same_defaults::<mail_laser_crds::MailLaserSpec>("MailLaser", webhook);
    let route = serde_json::json!({"parentRefs": [{"name": "edge"}], "recipients": ["a@b"], "webhook": {}});
    same_defaults::<mail_laser_crds::MailRouteSpec>("MailRoute", route);
    same_defaults::<mail_laser_crds::MailLaserSpec>("MailLaser", serde_json::json!({}));
}

fn same_defaults<T: Serialize + DeserializeOwned>(kind: &str, mut spec: Value) {
    let typed: T = serde_json::from_value(spec.clone()).unwrap();
    fill_in_defaults(&schema_of(kind)["properties"]["spec"], &mut spec);
    assert_eq!(serde_json::to_value(typed).unwrap(), spec);
}

/// What the API server does with `default`.
fn fill_in_defaults(schema: &Value, value: &mut Value) {
    value.as_array_mut().into_iter().flatten().for_each(|item| fill_in_defaults(&schema["items"], item));
    let Some(object) = value.as_object_mut() else { return };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = property.get("default") {
            object.entry(name).or_insert_with(|| default.clone());
        }
        if let Some(inner) = object.get_mut(name) {
            fill_in_defaults(property, inner);
        }
    }
}

#[test]
fn every_valid_sample_is_read_whole() {
    let mut read = 0;
    for entry in std::fs::read_dir(deploy("samples/valid")).unwrap() {
        let path = entry.unwrap().path();
        for document in serde_yaml_ng::Deserializer::from_str(&std::fs::read_to_string(&path).unwrap()) {
            let sample: Value = serde::Deserialize::deserialize(document).unwrap();
            let written = match sample["kind"].as_str() {
                Some("MailLaser") => read_and_written::<MailLaser>(&sample),
                Some("MailRoute") => read_and_written::<MailRoute>(&sample),
                _ => continue,
            };
            assert_eq!(lost(&sample["spec"], &written["spec"]), None, "{}", path.display());
            read += 1;
        }
    }
    assert!(read > 0, "there is no valid sample");
}

fn read_and_written<T: Serialize + DeserializeOwned>(sample: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(sample.clone()).unwrap()).unwrap()
}

/// The first field of `sample` that did not make it into `written`.
fn lost(sample: &Value, written: &Value) -> Option<String> {
    match (sample, written) {
        (Value::Object(sample), Value::Object(written)) => {
            sample.iter().find_map(|(name, value)| match written.get(name) {
                None => Some(name.clone()),
                Some(inner) => lost(value, inner).map(|path| format!("{name}.{path}")),
            })
        }
        (Value::Array(sample), Value::Array(written)) if sample.len() == written.len() => {
            sample.iter().zip(written).find_map(|(sample, written)| lost(sample, written))
        }
        _ => (sample != written).then(|| format!("{sample} became {written}")),
    }
}

#[test]
fn every_invalid_sample_says_what_it_is_refused_with() {
    for entry in std::fs::read_dir(deploy("samples/invalid")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let message = text.lines().next().and_then(|line| line.strip_prefix("# refused: "));
        assert!(
            message.is_some_and(|message| !message.is_empty()),
            "{} must begin with `# refused: <part of the API server's message>`",
            path.display()
        );
    }
}
