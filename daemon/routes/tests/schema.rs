//! `docs/routes.schema.json` is what the types say: `make generate` writes it.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mail_laser_routes::files::{Index, Part};
use schemars::JsonSchema;

/// A file of a generation is an index or a part.
#[derive(JsonSchema)]
#[schemars(untagged, title = "Routes of MailLaser")]
#[allow(dead_code, reason = "only its schema is wanted")]
enum File {
    Index(Index),
    Part(Part),
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/routes.schema.json");
    let mut schema = serde_json::to_string_pretty(&schemars::schema_for!(File)).unwrap();
    schema.push('\n');
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == schema, "docs/routes.schema.json is not current: run make generate");
}
