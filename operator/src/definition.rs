//! Whether the CustomResourceDefinitions in the cluster know all that this operator does. Pure but for [`check`].
//!
//! The served schema is compared, not a version or a hash in an annotation: everybody may read it, while the
//! definition itself would take a right for the whole cluster; it says which fields are lost, for the API server drops
//! what it does not know; and as the API only grows, what is missing there is what an older one did not have yet.

use std::time::Duration;

use kube::Client;
use mail_laser_crds::GROUP;
use serde_json::Value;

use crate::error::chain;

/// A definition that was applied together with the operator is served a moment later.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// How many fields a sentence names.
const NAMED_MAX: usize = 5;

/// Tells when the definition in the cluster is older than this operator.
pub async fn check(client: Client) {
    let mut found = look(&client).await;
    if found.as_ref().is_ok_and(Option::is_some) {
        tokio::time::sleep(SECOND_LOOK).await;
        found = look(&client).await;
    }
    match found {
        Ok(Some(advice)) => tracing::warn!("{advice}"),
        Ok(None) => {}
        // The watch tells of a definition that is missing.
        Err(error) => tracing::debug!(error = chain(&error), "the served schema could not be read"),
    }
}

async fn look(client: &Client) -> Result<Option<String>, kube::Error> {
    let request = http::Request::get(format!("/openapi/v3/apis/{GROUP}/v1alpha1")).body(Vec::new());
    let served: Value = client.request(request.map_err(kube::Error::HttpError)?).await?;
    let ours = mail_laser_crds::crds().and_then(serde_json::to_value).map_err(kube::Error::SerdeError)?;
    Ok(advice(&ours, &served))
}

/// The sentence for definitions that are older than `ours`, from what the API server serves of their group.
pub fn advice(ours: &Value, served: &Value) -> Option<String> {
    let kinds = served.pointer("/components/schemas")?.as_object()?;
    let mut missing = Vec::new();
    for ours in ours.as_array()? {
        let kind = ours["spec"]["names"]["kind"].as_str()?;
        let is_ours = |schema: &&Value| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|all| all.iter().any(|one| one["kind"] == kind))
        };
        match kinds.values().find(is_ours) {
            Some(served) => {
                compare("", ours.pointer("/spec/versions/0/schema/openAPIV3Schema")?, served, &mut missing);
            }
            None => missing.push(format!("the kind {kind}")),
        }
    }
    let more = missing.len().saturating_sub(NAMED_MAX);
    let named = missing.get(..NAMED_MAX).unwrap_or(&missing).join(", ");
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!missing.is_empty()).then(|| {
        format!(
            "the CustomResourceDefinitions in the cluster are older than this operator and do not know {named}{rest}: \
             the API server drops or refuses them until deploy/crd of version {} is applied",
            env!("CARGO_PKG_VERSION")
        )
    })
}

/// Finds fields and values that are in `ours` alone.
fn compare(path: &str, ours: &Value, served: &Value, missing: &mut Vec<String>) {
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match served["properties"].get(name) {
            Some(known) => compare(&path, field, known, missing),
            None => missing.push(path),
        }
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if ours[key].is_object() && served[key].is_object() {
            compare(&format!("{path}{mark}"), &ours[key], &served[key], missing);
        }
    }
    if let (Some(ours), Some(served)) = (ours["enum"].as_array(), served["enum"].as_array()) {
        let unknown = ours.iter().filter(|value| !served.contains(value)).filter_map(Value::as_str);
        missing.extend(unknown.map(|value| format!("{path}: {value}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours() -> Value {
        serde_json::to_value(mail_laser_crds::crds().unwrap()).unwrap()
    }

    /// As the API server serves it, after a change.
    fn served(change: impl FnOnce(&mut Value)) -> Value {
        let [mut schema, route] = [0, 1].map(|n| {
            let ours = ours()[n].clone();
            let mut schema = ours["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            let kind = &ours["spec"]["names"]["kind"];
            schema["x-kubernetes-group-version-kind"] = json!([{"group": GROUP, "kind": kind}]);
            schema
        });
        change(&mut schema);
        json!({"components": {"schemas": {
            "list": {"x-kubernetes-group-version-kind": [{"kind": "MailLaserList"}]},
            "one": schema,
            "route": route,
        }}})
    }

    #[test]
    fn the_same_and_a_newer_definition_are_nothing_to_tell() {
        assert_eq!(advice(&ours(), &served(|_| {})), None);
        let newer = served(|schema| {
            schema["properties"]["spec"]["properties"]["later"] = json!({"type": "string"});
        });
        assert_eq!(advice(&ours(), &newer), None);
        assert_eq!(advice(&ours(), &json!({})), None);
        let mut older = served(|_| {});
        older["components"]["schemas"].as_object_mut().unwrap().remove("route");
        assert!(advice(&ours(), &older).unwrap().contains("do not know the kind MailRoute:"));
    }

    #[test]
    fn what_an_older_definition_does_not_know_is_named() {
        let older = served(|schema| {
            let spec = schema["properties"]["spec"]["properties"].as_object_mut().unwrap();
            spec.remove("proxyProtocolFrom");
            spec["delivery"]["properties"].as_object_mut().unwrap().remove("spool");
            spec["delivery"]["properties"]["mode"]["enum"] = json!(["Forward", "Confirm"]);
        });
        let advice = advice(&ours(), &older).unwrap();
        let fields = "spec.delivery.mode: Spool, spec.delivery.spool, spec.proxyProtocolFrom:";
        assert!(advice.contains(fields), "{advice}");
        assert!(advice.contains("deploy/crd of version"), "{advice}");
    }

    #[test]
    fn a_sentence_names_few() {
        let older = served(|schema| schema["properties"]["spec"]["properties"] = json!({}));
        assert!(advice(&ours(), &older).unwrap().contains(" more: the API server"));
    }
}
