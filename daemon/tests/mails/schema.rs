//! The published schema of the payload: made from the types, and true for whatever is posted.
//!
//! `UPDATE_EXPECT=1` writes it anew, which is `make generate`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use mail_laser::webhook::payload;
use serde_json::{Value, json};

/// The schema as it is published, in which receivers find what they can rely on, but without fields
/// that it does not have: what is posted is all documented.
static STRICT: LazyLock<Validator> = LazyLock::new(|| {
    let mut schema = Value::from(payload::schema());
    close(&mut schema);
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

#[test]
fn the_published_schema_is_up_to_date() {
    let path = published();
    let expected = format!("{:#}\n", Value::from(payload::schema()));
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is stale: run `make generate`", path.display());
}

#[test]
fn receivers_may_be_sent_more_than_they_know() {
    let schema = jsonschema::validator_for(&Value::from(payload::schema())).unwrap();
    let mut payload = smallest();
    payload["of_a_later_version"] = json!(1);
    assert!(schema.is_valid(&payload));
    assert!(violations(&payload).is_err(), "the strict one tells");
}

#[test]
fn no_field_is_null_and_none_of_the_required_ones_is_missing() {
    let payload = smallest();
    assert_eq!(violations(&payload), Ok(()));
    for name in payload.as_object().unwrap().keys() {
        let mut without = payload.clone();
        without.as_object_mut().unwrap().remove(name);
        assert!(violations(&without).is_err(), "{name} is not required");
    }
    for name in Value::from(payload::schema())["properties"].as_object().unwrap().keys() {
        let mut with_null = payload.clone();
        with_null[name] = Value::Null;
        assert!(violations(&with_null).is_err(), "{name} may be null");
    }
}

#[test]
fn what_is_not_of_the_promised_form_is_told() {
    for (pointer, value) in [
        ("/id", json!("01HF7YAT3TE1R70W3G70W3G70W")),
        ("/received_at", json!("yesterday")),
        ("/recipients", json!([])),
        ("/size_bytes", json!(-1)),
    ] {
        let mut payload = smallest();
        *payload.pointer_mut(pointer).unwrap() = value;
        assert!(violations(&payload).is_err(), "{pointer}");
    }
}

/// What a payload has that the schema does not allow or does not know.
pub(crate) fn violations(payload: &Value) -> Result<(), String> {
    let found: Vec<_> =
        STRICT.iter_errors(payload).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

fn smallest() -> Value {
    serde_json::from_slice(&crate::payload(b"")).unwrap()
}

/// Allows the fields of `schema` alone, at every level.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/payload.schema.json")
}
