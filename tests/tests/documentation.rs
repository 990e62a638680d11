//! The documentation against what it is about: examples, fields, reasons, metrics, options, records and links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use mail_laser_e2e::{Example, Expectation, Page, documents, pages, repository};
use serde_json::{Value, json};

const CONFIGURE: &str = "docs/configure.md";
const ROUTES: &str = "docs/routes.md";

/// Fields of types that are Kubernetes' own, which are explained there.
const OF_KUBERNETES: &[&str] = &[
    "allowedRoutes.namespaces.selector",
    "networkPolicy.from",
    "networkPolicy.metricsFrom",
    "networkPolicy.to",
    "podTemplate.affinity",
    "podTemplate.tolerations",
    "podTemplate.topologySpreadConstraints",
];

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(repository().join(path)).with_context(|| format!("cannot read {path}"))
}

fn nothing(violations: &[String]) -> anyhow::Result<()> {
    ensure!(violations.is_empty(), "{}", violations.join("\n"));
    Ok(())
}

/// The schema of a kind, by its plural.
fn schema(plural: &str) -> anyhow::Result<Value> {
    let mut definitions = documents(&read(&format!("deploy/crd/mail-laser.dev_{plural}.yaml"))?)?;
    Ok(definitions[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take())
}

fn examples() -> anyhow::Result<Vec<Example>> {
    let mut all = Vec::new();
    for page in pages()? {
        all.extend(page.examples()?);
    }
    Ok(all)
}

/// As the API server is strict about them: what a schema does not know is an error.
fn strict(schema: &mut Value) {
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            strict(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(strict);
        schema["additionalProperties"] = false.into();
    }
}

#[test]
fn every_example_of_a_resource_fits_the_schema() -> anyhow::Result<()> {
    for (kind, plural, count_min) in [("MailLaser", "maillasers", 20), ("MailRoute", "mailroutes", 1)] {
        fits(kind, schema(plural)?, count_min)?;
    }
    Ok(())
}

fn fits(kind: &str, mut schema: Value, count_min: usize) -> anyhow::Result<()> {
    for name in ["apiVersion", "kind"] {
        schema["properties"][name] = json!({"type": "string"});
    }
    strict(&mut schema);
    schema["properties"]["metadata"] = json!({"type": "object"});
    let validator = jsonschema::validator_for(&schema)?;
    let (mut violations, mut count) = (Vec::new(), 0);
    for example in examples()?.iter().filter(|example| example.expectation == Expectation::Taken) {
        for document in example.documents.iter().filter(|document| document["kind"] == kind) {
            count += 1;
            let place = &example.place;
            violations.extend(
                validator
                    .iter_errors(document)
                    .map(|error| format!("{place}: {}: {error}", error.instance_path())),
            );
        }
    }
    ensure!(count >= count_min, "only {count} examples of {kind} were found");
    nothing(&violations)
}

#[test]
fn values_of_charts_fit_their_schemas() -> anyhow::Result<()> {
    let (mut violations, mut count) = (Vec::new(), 0);
    for example in examples()? {
        for document in &example.documents {
            let of = match &example.expectation {
                Expectation::Values(chart) => Some((format!("deploy/helm/{chart}"), document)),
                _ => values_within(document),
            };
            let Some((chart, values)) = of else { continue };
            count += 1;
            let schema = serde_json::from_str(&read(&format!("{chart}/values.schema.json"))?)?;
            // A release may say nothing.
            let values = if values.is_null() { json!({}) } else { values.clone() };
            let place = &example.place;
            violations.extend(
                jsonschema::validator_for(&schema)?
                    .iter_errors(&values)
                    .map(|error| format!("{place}: {}: {error}", error.instance_path())),
            );
        }
    }
    ensure!(count >= 5, "only {count} were found");
    nothing(&violations)
}

/// The chart of a release, and its values.
fn values_within(document: &Value) -> Option<(String, &Value)> {
    let spec = &document["spec"];
    let (chart, values) = match document["kind"].as_str()? {
        "Application" => (&spec["source"]["path"], &spec["source"]["helm"]["valuesObject"]),
        "HelmRelease" => (&spec["chart"]["spec"]["chart"], &spec["values"]),
        _ => return None,
    };
    Some((chart.as_str()?.to_owned(), values))
}

#[test]
fn every_field_has_an_example() -> anyhow::Result<()> {
    let schema = schema("maillasers")?;
    let mut fields = BTreeSet::new();
    paths("", &schema["properties"]["spec"], &mut fields);
    let mut shown = BTreeSet::new();
    for example in Page::read(CONFIGURE)?.examples()? {
        if example.expectation == Expectation::Taken {
            for document in &example.documents {
                used("", &document["spec"], &mut shown);
            }
        }
    }
    let missing: Vec<_> =
        fields.difference(&shown).map(|field| format!("{CONFIGURE} shows no {field}")).collect();
    ensure!(fields.len() > 50, "only {fields:?} were found");
    nothing(&missing)
}

/// The paths of all fields, lists left out.
fn paths(path: &str, schema: &Value, all: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !OF_KUBERNETES.contains(&path.as_str()) {
            paths(&path, field, all);
        }
        all.insert(path);
    }
    if schema["items"].is_object() {
        paths(path, &schema["items"], all);
    }
}

/// The paths of the fields that a value has.
fn used(path: &str, value: &Value, all: &mut BTreeSet<String>) {
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        used(&path, field, all);
        all.insert(path);
    }
    for item in value.as_array().into_iter().flatten() {
        used(path, item, all);
    }
}

#[test]
fn every_field_is_in_the_table() -> anyhow::Result<()> {
    let schema = schema("maillasers")?;
    let spec = &schema["properties"]["spec"]["properties"];
    let names = |fields: &Value, prefix: &str| -> Vec<String> {
        fields.as_object().into_iter().flatten().map(|(name, _)| format!("{prefix}{name}")).collect()
    };
    let page = Page::read(CONFIGURE)?;
    let documented: BTreeSet<&str> = page.rows("field").flat_map(|cells| names_in(cells[0])).collect();
    let is_documented = |field: &String| {
        documented.iter().any(|name| name == field || name.starts_with(&format!("{field}.")))
    };
    let all = names(spec, "").into_iter().chain(names(&spec["webhook"]["properties"], "webhook."));
    let missing: Vec<_> = all
        .filter(|field| !is_documented(field))
        .map(|field| format!("the table of {CONFIGURE} has no {field}"))
        .collect();
    nothing(&missing)
}

/// What stands between backticks.
fn names_in(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_reason_is_explained_and_no_other() -> anyhow::Result<()> {
    let source = read("crds/src/conditions.rs")?;
    let mut reasons = reasons(&source, "impl Reason")?;
    // Events say the reason of a condition, or one of their own.
    let events = read("operator/src/events.rs")?;
    let (events, _) = events.split_once("#[cfg(test)]").context("there are no tests")?;
    reasons.extend(
        events
            .lines()
            .filter_map(|line| line.trim().strip_prefix("reason: \"")?.strip_suffix("\".to_owned(),")),
    );
    ensure!(
        reasons.contains("NameConflict") && reasons.contains("ClaimsLeft"),
        "only {reasons:?} were found"
    );

    let page = Page::read("docs/troubleshoot.md")?;
    let explained: BTreeSet<&str> =
        page.headings().filter_map(|heading| heading.strip_prefix('`')?.strip_suffix('`')).collect();
    let unexplained = reasons.difference(&explained).map(|reason| format!("it does not explain {reason}"));
    let unknown = explained.difference(&reasons).map(|reason| format!("the operator never says {reason}"));
    nothing(&unexplained.chain(unknown).map(|it| format!("docs/troubleshoot.md: {it}")).collect::<Vec<_>>())
}

/// The reasons in a file, which begin with this line.
fn reasons<'s>(source: &'s str, begin: &str) -> anyhow::Result<BTreeSet<&'s str>> {
    let (_, reasons) = source.split_once(begin).context("there are no reasons")?;
    let lines = reasons.lines();
    Ok(lines
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\","))
        .collect())
}

#[test]
fn routes_have_their_fields_and_reasons_explained_and_no_others() -> anyhow::Result<()> {
    let source = read("crds/src/route_conditions.rs")?;
    let reasons = reasons(&source, "impl RouteReason")?;
    let page = Page::read(ROUTES)?;
    let of_tables = |title| page.rows(title).flat_map(|cells| names_in(cells[0])).collect::<BTreeSet<&str>>();
    let explained = of_tables("reason");
    let mut wrong: Vec<_> =
        reasons.symmetric_difference(&explained).map(|it| format!("the reason {it}")).collect();
    let schema = schema("mailroutes")?;
    let webhook = &schema["properties"]["spec"]["properties"]["webhook"]["properties"];
    let fields: BTreeSet<&str> =
        webhook.as_object().context("no webhook")?.keys().map(String::as_str).collect();
    let explained = of_tables("field of `webhook`");
    wrong.extend(fields.symmetric_difference(&explained).map(|it| format!("the field {it}")));
    ensure!(reasons.len() > 10 && fields.len() > 10, "only {reasons:?} and {fields:?} were found");
    nothing(&wrong.iter().map(|it| format!("{ROUTES} and the sources differ in {it}")).collect::<Vec<_>>())
}

/// Each line of the threat model names the tests that hold it.
#[test]
fn every_line_of_the_threat_model_names_tests_that_exist() -> anyhow::Result<()> {
    let page = Page::read(ROUTES)?;
    let (mut missing, mut count) = (Vec::new(), 0);
    let mut sources = String::new();
    for folder in ["daemon/src", "daemon/routes/src", "daemon/tests/daemon", "operator/src", "tests/tests"] {
        collect(&repository().join(folder), &mut sources)?;
    }
    for cells in page.rows("a tenant tries to") {
        let tests: Vec<_> = names_in(cells[2]).collect();
        count += 1;
        ensure!(!tests.is_empty(), "no test holds: {}", cells[0]);
        for test in tests {
            let name = test.rsplit("::").next().unwrap_or(test);
            if !sources.contains(&format!("fn {name}(")) {
                missing.push(format!("{ROUTES}: there is no test {test}"));
            }
        }
    }
    ensure!(count > 10, "only {count} lines were found");
    nothing(&missing)
}

#[test]
fn every_metric_is_listed_and_no_other() -> anyhow::Result<()> {
    let page = Page::read("docs/observe.md")?;
    let listed: BTreeSet<&str> = page.rows("metric").flat_map(|cells| names_in(cells[0])).collect();
    let mut registered = BTreeSet::new();
    for (path, prefix) in [
        ("daemon/src/metrics.rs", "mail_laser_"),
        ("daemon/src/metrics/spool.rs", "mail_laser_"),
        ("operator/src/metrics.rs", "mail_laser_operator_"),
    ] {
        registered.extend(metrics(&read(path)?).map(|name| format!("{prefix}{name}")));
    }
    ensure!(registered.len() > 15, "only {registered:?} were found");
    // A counter, a time and what is only information have another ending where they are shown.
    let is = |registered: &String, listed: &&str| {
        listed
            .strip_prefix(registered.as_str())
            .is_some_and(|rest| ["", "_total", "_seconds", "_info"].contains(&rest))
    };
    let mut violations: Vec<String> = registered
        .iter()
        .filter(|name| !listed.iter().any(|it| is(name, it)))
        .map(|name| format!("{name} is not listed"))
        .collect();
    violations.extend(
        listed
            .iter()
            .filter(|it| !registered.iter().any(|name| is(name, it)))
            .map(|it| format!("there is no {it}")),
    );
    let words = page.text().split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let used = words.filter(|word| word.starts_with("mail_laser_") && *word != "mail_laser_dev_name");
    violations.extend(
        used.filter(|word| !listed.contains(word) && !listed.contains(word.trim_end_matches("_bucket")))
            .map(|word| format!("{word} is used, and not listed")),
    );
    nothing(&violations)
}

/// The names in calls that register a metric, or that describe one whose value is collected.
fn metrics(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.split(".register").skip(1).chain(source.split(".encode_descriptor").skip(1));
    calls.filter_map(|call| {
        let arguments = call.strip_prefix("_with_unit").unwrap_or(call).strip_prefix('(')?;
        arguments.trim_start().strip_prefix('"')?.split('"').next()
    })
}

#[test]
fn every_option_of_the_operator_is_listed_and_no_other() -> anyhow::Result<()> {
    let source = read("operator/src/main.rs")?;
    let variables: BTreeSet<&str> =
        source.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ensure!(variables.contains("MAIL_LASER_IMAGE"), "only {variables:?} were found");
    let page = Page::read("docs/install.md")?;
    let listed: BTreeSet<&str> =
        page.rows("option").flat_map(|cells| names_in(cells[1]).collect::<Vec<_>>()).collect();
    ensure!(listed == variables, "docs/install.md lists {listed:?}, and there are {variables:?}");
    Ok(())
}

#[test]
fn every_record_that_is_explained_is_written() -> anyhow::Result<()> {
    let mut sources = String::new();
    for folder in ["daemon/src", "daemon/logging/src", "operator/src"] {
        collect(&repository().join(folder), &mut sources)?;
    }
    // A long text goes on in the next line.
    let sources = sources.split('\\').map(str::trim_start).collect::<String>();
    let page = Page::read("docs/observe.md")?;
    let records: Vec<&str> = page.rows("record").flat_map(|cells| names_in(cells[0])).collect();
    ensure!(records.len() > 20, "only {records:?} were found");
    let unknown = records.iter().filter(|record| !sources.contains(**record));
    nothing(&unknown.map(|record| format!("docs/observe.md: nothing writes {record:?}")).collect::<Vec<_>>())
}

fn collect(folder: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, text)?;
        } else {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn every_link_leads_somewhere() -> anyhow::Result<()> {
    let mut violations = Vec::new();
    for page in pages()? {
        for (target, heading) in page.links() {
            let from = page.path.display();
            if !repository().join(&target).exists() {
                violations.push(format!("{from}: there is no {}", target.display()));
                continue;
            }
            let Some(heading) = heading else { continue };
            let there = Page::read(&target)?;
            if !there.headings().any(|it| anchor(it) == heading) {
                violations.push(format!("{from}: {} has no heading #{heading}", target.display()));
            }
        }
    }
    nothing(&violations)
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase().replace(' ', "-");
    lower.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
}

#[test]
fn the_readme_leads_to_every_page() -> anyhow::Result<()> {
    let linked: BTreeSet<PathBuf> = Page::read("README.md")?.links().map(|(path, _)| path).collect();
    let unlinked = pages()?
        .into_iter()
        .filter(|page| page.path.starts_with("docs") && !linked.contains(&page.path))
        .map(|page| format!("README.md does not link {}", page.path.display()));
    nothing(&unlinked.collect::<Vec<_>>())
}
