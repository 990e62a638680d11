//! From the types to the CustomResourceDefinitions that the API server gets.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::{MailLaser, MailRoute};

/// Bounds for what has none of its own: fields of types that are Kubernetes' (affinity, tolerations). They
/// are wide enough never to be met, and keep every value of the API finite.
const STRING_LENGTH_MAX: u32 = 1024;
const ITEMS_MAX: u32 = 128;
const PROPERTIES_MAX: u32 = 128;
/// What a quantity may be, which alone is written as a number or a string: what the API server cannot read
/// in a pod it should refuse here.
const QUANTITY_PATTERN: &str =
    r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$";
/// One annotation: load balancers and injectors take lists of networks and templates by them. Kubernetes permits 256 KiB
/// for all of an object.
const ANNOTATION_LENGTH_MAX: u32 = 16 * 1024;
const QUANTITY_LENGTH_MAX: u32 = 64;
/// What `metav1.Condition` permits.
const CONDITION_MESSAGE_LENGTH_MAX: u32 = 32768;

/// Where a definition has its schema, and each schema what a condition is.
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
const MAIL_LASER_CONDITION: &str = "/properties/status/properties/conditions/items";
const ROUTE_CONDITION: &str = "/properties/status/properties/parents/items/properties/conditions/items";

/// The CustomResourceDefinitions of `MailLaser` and `MailRoute`, as they are in `deploy/crd`.
///
/// Three things differ from what the derive macro gives: no field is nullable (absent means default), every
/// string, list and map is bounded, and `status` has a default, so that a resource that no operator has seen is not
/// taken for settled, and rules of GitOps tools may look into it.
///
/// # Errors
/// When the types make a schema that is not one of a CustomResourceDefinition, which a test rules out.
pub fn crds() -> Result<[CustomResourceDefinition; 2], serde_json::Error> {
    let unseen = json!({"observedGeneration": -1});
    let of_no_gateway = json!({"parents": []});
    Ok([
        finish(serde_json::to_value(MailLaser::crd())?, MAIL_LASER_CONDITION, unseen)?,
        finish(serde_json::to_value(MailRoute::crd())?, ROUTE_CONDITION, of_no_gateway)?,
    ])
}

fn finish(
    mut crd: Value,
    condition: &str,
    status: Value,
) -> Result<CustomResourceDefinition, serde_json::Error> {
    if let Some(schema) = crd.pointer_mut(SCHEMA) {
        schema["properties"]["status"]["default"] = status;
        if let Some(message) = schema.pointer_mut(&format!("{condition}/properties/message")) {
            message["maxLength"] = CONDITION_MESSAGE_LENGTH_MAX.into();
        }
        refine(schema);
    }
    serde_json::from_value(crd)
}

/// A definition as the YAML that `deploy/crd` holds.
///
/// # Errors
/// When it cannot be written.
pub fn manifest(crd: &CustomResourceDefinition) -> Result<String, serde_yaml_ng::Error> {
    let yaml = serde_yaml_ng::to_string(crd)?;
    Ok(yaml.lines().map(|line| quoted(line) + "\n").collect())
}

/// A line whose value is a word that YAML 1.1 takes for a boolean, in quotes: the writer of YAML 1.2 sees no
/// need for them, but `kubectl` reads 1.1, and would send `false` for `Off`.
fn quoted(line: &str) -> String {
    let start = line.rfind(' ').map_or(0, |blank| blank + 1);
    let (before, word) = line.split_at(start);
    let is_value = before.trim_end().ends_with(['-', ':']);
    let is_boolean = ["on", "off", "yes", "no", "y", "n"].iter().any(|it| word.eq_ignore_ascii_case(it));
    if is_value && is_boolean { format!("{before}\"{word}\"") } else { line.to_owned() }
}

fn refine(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    bound(schema);
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        if let Some(value) =
            properties.get_mut("annotations").and_then(|it| it.get_mut("additionalProperties"))
        {
            value["maxLength"] = ANNOTATION_LENGTH_MAX.into();
        }
        properties.values_mut().for_each(refine);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            refine(inner);
        }
    }
}

fn bound(schema: &mut Map<String, Value>) {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        schema.entry("maxLength").or_insert_with(|| QUANTITY_LENGTH_MAX.into());
        schema.entry("pattern").or_insert_with(|| QUANTITY_PATTERN.into());
        return;
    }
    let (key, max) = match schema.get("type").and_then(Value::as_str) {
        Some("string") if !schema.contains_key("enum") && !schema.contains_key("format") => {
            ("maxLength", STRING_LENGTH_MAX)
        }
        Some("array") => ("maxItems", ITEMS_MAX),
        Some("object") if schema.contains_key("additionalProperties") => ("maxProperties", PROPERTIES_MAX),
        _ => return,
    };
    schema.entry(key).or_insert_with(|| max.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_older_yaml_takes_for_booleans_are_quoted() {
        for (line, expected) in [
            ("  - Off", "  - \"Off\""),
            ("default: Off", "default: \"Off\""),
            ("description: To be or No", "description: To be or No"),
            ("  - Often", "  - Often"),
            ("  off:", "  off:"),
            ("minimum: 1", "minimum: 1"),
        ] {
            assert_eq!(quoted(line), expected);
        }
        assert!(manifest(&crds().unwrap()[0]).unwrap().contains("- \"Off\"\n"));
    }
}
