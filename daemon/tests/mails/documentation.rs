//! `docs/payload.md` and the README against the schema and against what is really posted.
//!
//! `UPDATE_EXPECT=1` writes the payload of `docs/payload.md` anew.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use mail_laser::webhook::payload;
use serde_json::{Value, json};

use crate::schema::violations;
use crate::{Envelope, beside, payload_of};

#[test]
fn the_example_is_what_its_mail_gives() {
    let path = document("docs/payload.md");
    let page = fs::read_to_string(&path).unwrap();
    let mail = block(&page, "text").replace('\n', "\r\n");
    assert_eq!(mail, fs::read_to_string(beside("corpus/example_of_the_documentation.eml")).unwrap());

    let envelope = Envelope {
        sender: "jurgen@example.org",
        recipients: &["support@example.com", "sales@example.com"],
        received_at: UNIX_EPOCH + Duration::from_secs(1_795_168_800),
    };
    let given: Value = serde_json::from_slice(&payload_of(mail.as_bytes(), &envelope)).unwrap();
    let shown = block(&page, "json");
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, page.replace(shown, &format!("{given:#}\n"))).unwrap();
        return;
    }
    assert_eq!(serde_json::from_str::<Value>(shown).unwrap(), given);
    assert_eq!(violations(&given), Ok(()));
}

#[test]
fn every_field_has_its_row_with_its_type_and_the_value_of_the_example() {
    let page = fs::read_to_string(document("docs/payload.md")).unwrap();
    let example: Value = serde_json::from_str(block(&page, "json")).unwrap();
    let schema = Value::from(payload::schema());
    let (_, tables) = page.split_once("## Fields").unwrap();
    let (fields, of_attachments) = tables.split_once("Each of `attachments`").unwrap();
    check_table(fields, &schema, &example);
    check_table(of_attachments, &schema["$defs"]["Attachment"], &example["attachments"][0]);
}

#[test]
fn the_readme_shows_a_payload_with_every_field() {
    let readme = fs::read_to_string(document("README.md")).unwrap();
    let example: Value = serde_json::from_str(block(&readme, "json")).unwrap();
    assert_eq!(violations(&example), Ok(()));
    let schema = Value::from(payload::schema());
    assert_eq!(names(&example), names(&schema["properties"]));
    assert_eq!(names(&example["attachments"][0]), names(&schema["$defs"]["Attachment"]["properties"]));
}

fn check_table(section: &str, schema: &Value, example: &Value) {
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut documented: Vec<_> =
        rows.iter().map(|row| row[0].split('`').nth(1).unwrap().to_owned()).collect();
    documented.sort();
    assert_eq!(documented, names(&schema["properties"]));
    for row in rows {
        let name = row[0].split('`').nth(1).unwrap();
        let required = schema["required"].as_array().unwrap().contains(&json!(name));
        assert_eq!(row[0].contains('\u{2022}'), required, "{name}: always there");
        let types = schema["properties"][name]["type"].as_str().unwrap();
        assert_eq!(row[1].split(' ').next(), Some(types), "{name}: its type");
        if let Some(value) = row[3].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) {
            assert_eq!(serde_json::from_str::<Value>(value).ok().as_ref(), Some(&example[name]), "{name}");
        } else {
            assert!(example[name].is_array(), "{name}: an example");
        }
    }
}

/// Names of an object's fields, sorted.
fn names(object: &Value) -> Vec<String> {
    let mut names: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
    names.sort();
    names
}

/// The first block of code of that language.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}
