//! The examples of the documentation, as the real API server takes and refuses them.

use anyhow::ensure;
use mail_laser_e2e::{Env, Example, Expectation, in_namespace, pages};
use serde_json::Value;

/// Of what the test cluster does not have: kinds of other projects, and files of tools.
const ABSENT: &[&str] = &[
    "argoproj.io/",
    "cert-manager.io/",
    "helm.toolkit.fluxcd.io/",
    "kustomize.config.k8s.io/",
    "kustomize.toolkit.fluxcd.io/",
    "monitoring.coreos.com/",
    "security.istio.io/",
    "source.toolkit.fluxcd.io/",
];

#[tokio::test]
async fn examples_are_taken_and_refused_as_they_say() -> anyhow::Result<()> {
    in_namespace("documentation", |env| async move {
        let (mut wrong, mut count) = (Vec::new(), 0);
        for page in pages()? {
            for example in page.examples()? {
                count += 1;
                wrong.extend(complaints(&env, &example).await);
            }
        }
        ensure!(count > 40, "only {count} examples were found");
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await
}

async fn complaints(env: &Env, example: &Example) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in example.documents.iter().filter(|document| is_known(document)) {
        let answer = env.dry_run(document.clone()).await.map_err(|error| format!("{error:#}"));
        let complaint = match (&example.expectation, answer) {
            (Expectation::Taken, Err(message)) => Some(format!("it is refused: {message}")),
            (Expectation::Refused(_), Ok(())) => Some("it is taken".to_owned()),
            (Expectation::Refused(sentence), Err(message)) if !message.contains(sentence) => {
                Some(format!("it is refused, but with: {message}"))
            }
            _ => None,
        };
        complaints.extend(complaint.map(|complaint| format!("{}: {complaint}", example.place)));
    }
    complaints
}

fn is_known(document: &Value) -> bool {
    let group = document["apiVersion"].as_str();
    group.is_some_and(|group| !ABSENT.iter().any(|absent| group.starts_with(absent)))
}
