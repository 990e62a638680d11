//! The manifests that tests apply.

use std::env;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// The YAML documents of a text, empty ones left out.
///
/// # Errors
/// When it is no YAML.
pub fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).with_context(|| format!("this is no YAML:\n{yaml}")))
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect()
}

/// A `MailLaser` that takes mail for `<name>@example.com` to the receiver that is a Service of that name.
///
/// More fields of `spec` may be appended, indented by two; of `spec.webhook`, by four. It is looked at every second
/// whether the pods are ready: with the default of ten, most of the tests' time would be that wait.
#[must_use]
pub fn mail_laser(name: &str, webhook: &str) -> String {
    format!(
        "apiVersion: mail-laser.dev/v1alpha1
kind: MailLaser
metadata:
  name: {name}
spec:
  targetEmails: [{name}@example.com]
  probes:
    readiness: {{initialDelaySeconds: 0, periodSeconds: 1}}
  webhook:
    serviceRef: {{name: {webhook}, port: 8080, path: /mail}}
"
    )
}

/// The receiver under this name.
#[must_use]
pub fn receiver_manifest(name: &str) -> String {
    from_registry(include_str!("../webhook-receiver.yaml"))
        .replace("name: webhook\n", &format!("name: {name}\n"))
        .replace("name: webhook}", &format!("name: {name}}}"))
}

/// Local images are in the test cluster itself; any other cluster pulls them from `REGISTRY`.
pub(crate) fn from_registry(manifest: &str) -> String {
    match env::var("REGISTRY") {
        Ok(registry) if !registry.is_empty() => manifest.replace("localhost/", &format!("{registry}/")),
        _ => manifest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_has_its_name_everywhere() {
        let documents = documents(&receiver_manifest("second")).expect("YAML");
        assert_eq!(documents.len(), 2);
        assert!(documents.iter().all(|document| document["metadata"]["name"] == "second"));
        assert_eq!(documents[1]["spec"]["selector"]["app.kubernetes.io/name"], "second");
        assert_eq!(
            documents[0]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
            "second"
        );
    }
}
