//! The operator has the rights that it uses, and no other: what the end-to-end tests had it ask for, by the audit log of
//! the test cluster, against what `deploy/` grants. `tests/end-to-end` runs it after all of them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use anyhow::{Context, ensure};
use k8s_openapi::jiff::Timestamp;
use mail_laser_e2e::{Cluster, OPERATOR_NAMESPACE, documents, repository};
use serde_json::Value;

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)
    }
}

#[tokio::test]
async fn each_right_was_used_and_none_was_missed() -> anyhow::Result<()> {
    let since: Timestamp = std::env::var("SINCE").context("SINCE is when the tests began")?.parse()?;
    let requests = Cluster::connect().await?.requests_from(OPERATOR_NAMESPACE).await?;
    let requests: Vec<_> = requests.into_iter().filter(|request| received(request) >= Some(since)).collect();
    let granted = granted()?;
    let used: BTreeSet<_> = requests.iter().filter(|request| is_allowed(request)).filter_map(right).collect();
    println!("{} requests used {} of {} rights", requests.len(), used.len(), granted.len());

    let unused: Vec<_> = granted.difference(&used).map(ToString::to_string).collect();
    ensure!(
        unused.is_empty(),
        "no test uses these rights; test what they are for, or take them out of deploy/: {}",
        unused.join(", ")
    );
    // What is granted is refused by tests that take it away, and by an API server that has just begun and knows no rules yet.
    let missed: BTreeSet<_> = requests
        .iter()
        .filter(|request| !is_allowed(request))
        .filter(|request| right(request).is_none_or(|right| !granted.contains(&right)))
        .map(|request| format!("{} {}", request["verb"], request["requestURI"]))
        .collect();
    ensure!(missed.is_empty(), "refused to the operator: {missed:#?}");
    Ok(())
}

/// What the rules of `deploy/` say, one by one.
fn granted() -> anyhow::Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for file in ["rbac.yaml", "lease.yaml"] {
        let yaml = fs::read_to_string(repository().join("deploy").join(file))?;
        for document in documents(&yaml)? {
            for rule in document["rules"].as_array().into_iter().flatten() {
                let all = |field: &str| -> Vec<String> {
                    let texts = rule[field].as_array().into_iter().flatten();
                    texts.filter_map(Value::as_str).map(str::to_owned).collect()
                };
                for group in all("apiGroups") {
                    for resource in all("resources") {
                        rights.extend(all("verbs").into_iter().map(|verb| Right {
                            group: group.clone(),
                            resource: resource.clone(),
                            verb,
                        }));
                    }
                }
            }
        }
    }
    ensure!(!rights.is_empty(), "there are no rules in deploy/");
    Ok(rights)
}

/// What a request needs; nothing for those that are about no resource.
fn right(request: &Value) -> Option<Right> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = request.get("objectRef")?;
    let resource = text(&object["resource"]);
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource,
    };
    Some(Right { group: text(&object["apiGroup"]), resource, verb: text(&request["verb"]) })
}

fn received(request: &Value) -> Option<Timestamp> {
    request["requestReceivedTimestamp"].as_str()?.parse().ok()
}

fn is_allowed(request: &Value) -> bool {
    request["annotations"]["authorization.k8s.io/decision"] == "allow"
}
