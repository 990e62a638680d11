//! The README's table of fields is the resource, and its table of conditions is what the operator reports.

#![allow(clippy::unwrap_used)]

use mail_laser_crds::crd;
use serde_json::Value;

const README: &str = include_str!("../../README.md");

fn section(title: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// The first cells of a section's tables.
fn documented(section: &str) -> impl Iterator<Item = &str> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next())
}

#[test]
fn every_field_of_the_spec_and_of_its_webhook_is_documented() {
    let schema = serde_json::to_value(crd().unwrap()).unwrap();
    let spec =
        &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    let names = |fields: &Value, prefix: &str| -> Vec<String> {
        fields.as_object().unwrap().keys().map(|name| format!("{prefix}{name}")).collect()
    };
    let is_documented = |field: &String| {
        documented(section("The resource")).any(|cell| {
            let mut fields = cell.split(',').map(|field| field.trim_matches([' ', '`']));
            fields.any(|documented| documented == field || documented.starts_with(&format!("{field}.")))
        })
    };
    let all = names(spec, "").into_iter().chain(names(&spec["webhook"]["properties"], "webhook."));
    let missing: Vec<String> = all.filter(|field| !is_documented(field)).collect();
    assert_eq!(missing, [""; 0], "add them to the table in README.md");
}

#[test]
fn every_reason_of_a_condition_is_in_the_troubleshooting() {
    let source = include_str!("../src/conditions.rs");
    let reasons: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\","))
        .collect();
    assert!(reasons.contains(&"NameConflict"), "{reasons:?}");
    let table = section("Troubleshooting");
    // These two are only ever said of what is well.
    let well = ["UpToDate", "NotStalled", "Ready", "Reconciling", "Stalled"];
    let missing: Vec<&&str> = reasons
        .iter()
        .filter(|reason| !well.contains(reason) && !table.contains(&format!("`{reason}`")))
        .collect();
    assert!(missing.is_empty(), "add {missing:?} to the table in README.md");
}
