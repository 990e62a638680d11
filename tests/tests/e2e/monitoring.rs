//! Objects of kinds that the cluster gets and loses while the operator runs. What they do is the Prometheus Operator's, which
//! does not run here: what is seen is the objects.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use mail_laser_e2e::fields::rows_of_prometheus;
use mail_laser_e2e::{Env, alone_in_namespace, wait_for, wait_while};
use serde_json::{Value, json};

use crate::fields::go_through_all;
use crate::inbox;

const KINDS: [(&str, &str); 2] = [("PodMonitor", "podmonitors"), ("PrometheusRule", "prometheusrules")];

/// The operator looks once a minute, and the API server needs some seconds to serve a new kind.
const NOTICED_LIMIT: Duration = Duration::from_secs(120);
const REPAIR_LIMIT: Duration = Duration::from_secs(30);

const MONITORING: &str = "  monitoring:
    podMonitor: {enabled: true, labels: {release: prometheus}}
    prometheusRule: {enabled: true}
    dashboard: {enabled: true}
";

#[tokio::test]
async fn a_kind_that_comes_later_is_noticed_and_one_that_goes_is_no_harm() -> anyhow::Result<()> {
    alone_in_namespace("monitoring", |env| async move {
        if !env.cluster().is_ours() {
            println!("skipped: it installs and removes definitions, which only the test cluster is for");
            return Ok(());
        }
        undefine(&env).await?;
        let result = comes_and_goes(&env).await;
        undefine(&env).await?;
        result
    })
    .await
}

async fn comes_and_goes(env: &Env) -> anyhow::Result<()> {
    inbox(env, MONITORING).await?;
    let dashboard = env.get("ConfigMap", "inbox-dashboard").await?;
    ensure!(dashboard["metadata"]["labels"]["grafana_dashboard"] == "1", "{}", dashboard["metadata"]);
    let files = dashboard["data"].as_object().context("a dashboard without a file")?;
    let file: Value =
        serde_json::from_str(files.values().next().and_then(Value::as_str).unwrap_or_default())?;
    ensure!(file["title"] == format!("MailLaser {}/inbox", env.namespace()), "{}", file["title"]);

    define(env).await?;
    let monitor = made(env, "PodMonitor").await?;
    ensure!(monitor["metadata"]["labels"]["release"] == "prometheus", "{}", monitor["metadata"]);
    ensure!(
        monitor["spec"]["selector"]["matchLabels"]["mail-laser.dev/name"] == "inbox",
        "{}",
        monitor["spec"]
    );
    let rule = made(env, "PrometheusRule").await?;
    let rules = rule["spec"]["groups"][0]["rules"].as_array().context("no rules")?;
    ensure!(rules.iter().any(|rule| rule["alert"] == "MailLaserDown"), "{rules:?}");

    env.patch("PodMonitor", "inbox", json!({"spec": {"podMetricsEndpoints": [{"port": "other"}]}})).await?;
    wait_for("the port as it was", REPAIR_LIMIT, || async {
        let spec = &env.get("PodMonitor", "inbox").await?["spec"];
        ensure!(*spec == monitor["spec"], "{spec}");
        Ok(())
    })
    .await?;
    env.delete("PrometheusRule", "inbox").await?;
    made(env, "PrometheusRule").await?;
    env.patch("MailLaser", "inbox", json!({"spec": {"monitoring": {"prometheusRule": {"enabled": false}}}}))
        .await?;
    env.wait_gone("PrometheusRule", "inbox").await?;

    for (kind, field) in [("PodMonitor", "podMonitor"), ("PrometheusRule", "prometheusRule")] {
        of_somebody_else(env, kind, field).await?;
    }
    go_through_all(env, rows_of_prometheus()).await?;

    undefine(env).await?;
    env.patch("MailLaser", "inbox", json!({"spec": {"monitoring": {"dashboard": null}}})).await?;
    env.wait_gone("ConfigMap", "inbox-dashboard").await?;
    env.wait_ready("inbox").await?;
    wait_while("a resource whose kinds are gone is ready", Duration::from_secs(5), || async {
        let ready = env.condition("inbox", "Ready").await?;
        ensure!(ready.status == "True", "{ready:?}");
        Ok(())
    })
    .await
}

/// One of that name which is somebody else's stays as it is, and the resource says so.
async fn of_somebody_else(env: &Env, kind: &str, field: &str) -> anyhow::Result<()> {
    let wanted = |enabled: bool| json!({"spec": {"monitoring": {field: {"enabled": enabled}}}});
    env.patch("MailLaser", "inbox", wanted(false)).await?;
    env.wait_gone(kind, "inbox").await?;
    let theirs = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "inbox"}, "spec": {"of": "others"},
    });
    env.apply(&theirs.to_string()).await?;
    env.patch("MailLaser", "inbox", wanted(true)).await?;
    let stalled = env.wait_condition("inbox", "Stalled", "True", Some("NameConflict")).await?;
    ensure!(stalled.message.contains(kind), "{}", stalled.message);
    ensure!(env.get(kind, "inbox").await?["spec"] == theirs["spec"], "it was written");
    env.delete(kind, "inbox").await?;
    env.wait_ready("inbox").await?;
    made(env, kind).await?;
    Ok(())
}

async fn made(env: &Env, kind: &str) -> anyhow::Result<Value> {
    wait_for(&format!("the {kind}"), NOTICED_LIMIT, || async { env.get(kind, "inbox").await }).await
}

fn definitions(env: &Env) -> Api<CustomResourceDefinition> {
    Api::all(env.cluster().client())
}

async fn define(env: &Env) -> anyhow::Result<()> {
    for (kind, plural) in KINDS {
        let name = format!("{plural}.monitoring.coreos.com");
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}],
            },
        });
        definitions(env)
            .patch(&name, &PatchParams::apply("mail-laser-e2e"), &Patch::Apply(definition))
            .await?;
    }
    Ok(())
}

async fn undefine(env: &Env) -> anyhow::Result<()> {
    for (_, plural) in KINDS {
        let name = format!("{plural}.monitoring.coreos.com");
        match definitions(env).delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => drop(other?),
        }
        wait_for(&format!("the end of {name}"), REPAIR_LIMIT, || async {
            ensure!(definitions(env).get_opt(&name).await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
