//! An operator for some namespaces and labels, installed as docs/install.md shows it: it has no right for the cluster, misses
//! none, and leaves alone what is out of its scope.

use std::time::Duration;

use anyhow::{Context, ensure};
use mail_laser_e2e::{
    Cluster, Env, OPERATOR_NAMESPACE, SECOND_OPERATOR_NAMESPACE, alone_in_namespace, documents,
    in_another_namespace, mail_laser, repository, wait_for,
};
use serde_json::{Value, json};

const LABEL: &str = "mail-laser.dev/e2e-scope";

#[tokio::test]
async fn what_is_out_of_scope_is_left_alone_and_what_is_in_it_needs_no_right_elsewhere() -> anyhow::Result<()>
{
    alone_in_namespace("scope-first", |first| async move {
        in_another_namespace("scope-second", |second| async move {
            in_another_namespace("scope-third", |third| async move {
                let cluster = first.cluster().clone();
                if !cluster.is_ours() {
                    println!("not done: only the test cluster's operator may be sent away");
                    return Ok(());
                }
                // What an earlier run left.
                cluster.wait_without_namespace(SECOND_OPERATOR_NAMESPACE).await?;
                let earlier = cluster.requests_from(SECOND_OPERATOR_NAMESPACE).await?.len();
                let manifests = installation(&cluster, &first, &second).await?;
                cluster
                    .without_operator(async {
                        cluster.apply(&manifests).await?;
                        let outcome = scoped(&first, &second, &third, earlier).await;
                        cluster.delete(&manifests).await?;
                        outcome
                    })
                    .await
            })
            .await
        })
        .await
    })
    .await
}

async fn scoped(first: &Env, second: &Env, third: &Env, earlier: usize) -> anyhow::Result<()> {
    let cluster = first.cluster();
    first.deploy_webhook("webhook").await?;
    let spool = first.spool(1).await?;
    for env in [second, third] {
        env.apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: webhook}\nspec: {ports: [{port: 8080}]}\n",
        )
        .await?;
    }
    // Out of scope: by its labels, and by its namespace.
    first.apply(&resource("unlabelled", "", "")).await?;
    third.apply(&resource("elsewhere", "in", "")).await?;
    // In scope. What they refer to is watched, whatever its labels are.
    first.apply(&(mail_laser("inbox", "webhook") + &spool)).await?;
    label(first, "inbox", Some("in")).await?;
    let missing = "  env:\n  - {name: RUST_LOG, valueFrom: {secretKeyRef: {name: absent, key: level}}}\n";
    second.apply(&resource("inside", "in", missing)).await?;

    first.wait_ready("inbox").await?;
    second.wait_condition("inside", "Ready", "False", Some("SecretNotFound")).await?;
    second
        .apply("apiVersion: v1\nkind: Secret\nmetadata: {name: absent}\nstringData: {level: debug}\n")
        .await?;
    second.wait_condition("inside", "Ready", "True", Some("ScaledToZero")).await?;
    second.delete("Service", "inside").await?;
    wait_for("a new Service", Duration::from_secs(30), || second.get("Service", "inside")).await?;
    is_untouched(first, "unlabelled").await?;
    is_untouched(third, "elsewhere").await?;

    // A resource may come and go. One that goes is not taken for deleted.
    label(first, "unlabelled", Some("in")).await?;
    first.wait_condition("unlabelled", "Ready", "True", Some("ScaledToZero")).await?;
    let before = first.get("StatefulSet", "inbox").await?;
    label(first, "inbox", None).await?;
    first.patch("MailLaser", "inbox", json!({"spec": {"headerPrefixes": ["X-Late"]}})).await?;
    second.patch("MailLaser", "inside", json!({"spec": {"headerPrefixes": ["X-Late"]}})).await?;
    second.wait_condition("inside", "Ready", "True", Some("ScaledToZero")).await?;
    let after = first.get("StatefulSet", "inbox").await?;
    ensure!(before["metadata"]["generation"] == after["metadata"]["generation"], "it was written: {after}");
    let events = first.objects("Event")?.list(&kube::api::ListParams::default()).await?;
    let left: Vec<_> = events.items.iter().filter(|event| event.data["reason"] == "ClaimsLeft").collect();
    ensure!(left.is_empty(), "a resource that is there was taken for deleted: {left:?}");
    nothing_was_refused(cluster, earlier).await
}

/// A resource without pods.
fn resource(name: &str, scope: &str, spec: &str) -> String {
    let labels = format!("metadata:\n  labels: {{{LABEL}: \"{scope}\"}}\n");
    mail_laser(name, "webhook").replace("metadata:\n", &labels) + "  replicas: 0\n" + spec
}

async fn label(env: &Env, name: &str, value: Option<&str>) -> anyhow::Result<()> {
    env.patch("MailLaser", name, json!({"metadata": {"labels": {LABEL: value}}})).await
}

async fn is_untouched(env: &Env, name: &str) -> anyhow::Result<()> {
    let status = &env.get("MailLaser", name).await?["status"];
    ensure!(*status == json!({"observedGeneration": -1}), "{name} has a status: {status}");
    for kind in ["Deployment", "Service", "ServiceAccount"] {
        ensure!(env.objects(kind)?.get_opt(name).await?.is_none(), "{name} has a {kind}");
    }
    Ok(())
}

/// The objects of `tests/namespaced`, for the namespaces of this test, and for resources with its label.
async fn installation(cluster: &Cluster, first: &Env, second: &Env) -> anyhow::Result<Vec<Value>> {
    let folder = repository().join("tests/namespaced");
    let yaml = cluster.script(&["kubectl", "kustomize", folder.to_str().context("a path in UTF-8")?]).await?;
    let yaml = yaml
        .replace(OPERATOR_NAMESPACE, SECOND_OPERATOR_NAMESPACE)
        .replace("helpdesk", first.namespace())
        .replace("sales", second.namespace());
    let mut objects = documents(&yaml)?;
    objects.retain(|object| object["kind"] != "CustomResourceDefinition");
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        ensure!(!kind.starts_with("Cluster"), "the operator gets rights for the cluster: {object}");
    }
    let selector = json!({"name": "MAIL_LASER_OPERATOR_SELECTOR", "value": format!("{LABEL}=in")});
    let deployment = objects.iter_mut().find(|object| object["kind"] == "Deployment");
    deployment
        .and_then(|object| object.pointer_mut("/spec/template/spec/containers/0/env")?.as_array_mut())
        .context("no Deployment with an environment")?
        .push(selector);
    Ok(objects)
}

/// Of the requests since so many: an operator of an earlier run may have outlived its rights.
async fn nothing_was_refused(cluster: &Cluster, earlier: usize) -> anyhow::Result<()> {
    let all = cluster.requests_from(SECOND_OPERATOR_NAMESPACE).await?;
    let requests: Vec<_> = all.into_iter().skip(earlier).collect();
    ensure!(!requests.is_empty(), "the operator made no request that was logged");
    let refused: Vec<_> = requests
        .iter()
        .filter(|request| request["annotations"]["authorization.k8s.io/decision"] != "allow")
        .map(|request| format!("{} {}", request["verb"], request["requestURI"]))
        .collect();
    ensure!(refused.is_empty(), "refused: {refused:?}");
    Ok(())
}
