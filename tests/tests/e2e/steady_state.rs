//! At rest the operator writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use futures::future::try_join_all;
use mail_laser_e2e::{Env, Metrics, alone_in_namespace, mail_laser, wait_for};

const RESOURCES: usize = 20;
const QUIET: Duration = Duration::from_secs(60);

#[tokio::test]
async fn for_a_minute_with_twenty_resources_nothing_is_written() -> anyhow::Result<()> {
    alone_in_namespace("steady-state", |env| async move {
        env.deploy_webhook("webhook").await?;
        let spool = env.spool(1).await?;
        for number in 0..RESOURCES {
            let delivery = if number == 0 { spool.as_str() } else { "" };
            env.apply(&(mail_laser(&format!("inbox-{number}"), "webhook") + delivery)).await?;
        }
        try_join_all((0..RESOURCES).map(|number| {
            let env = env.clone();
            async move { env.wait_ready(&format!("inbox-{number}")).await }
        }))
        .await?;
        others_are_gone(&env).await?;
        settled(&env).await?;

        let writes_before = writes(&env.cluster().api_server_metrics().await?);
        let requests_before = env.cluster().operator_requests().await?.len();
        // The one duration that is the point of its test.
        tokio::time::sleep(QUIET).await;
        let writes_after = writes(&env.cluster().api_server_metrics().await?);
        let requests = env.cluster().operator_requests().await?;
        let requests: Vec<_> = requests.iter().skip(requests_before).collect();

        let more: Vec<_> =
            writes_after.iter().filter(|(series, value)| writes_before.get(*series) != Some(value)).collect();
        ensure!(more.is_empty(), "written within {QUIET:?}: {more:?}; the operator's requests: {requests:?}");
        ensure!(requests.is_empty(), "the operator asked: {requests:?}");
        Ok(())
    })
    .await
}

/// Every write to what the operator may write, but its Lease, whoever wrote.
fn writes(metrics: &Metrics) -> BTreeMap<String, String> {
    const RESOURCES: &[&str] = &[
        "maillasers",
        "deployments",
        "statefulsets",
        "persistentvolumeclaims",
        "jobs",
        "services",
        "serviceaccounts",
        "poddisruptionbudgets",
        "networkpolicies",
        "horizontalpodautoscalers",
        "secrets",
        "configmaps",
        "events",
    ];
    let is_write = |labels: &BTreeMap<String, String>| {
        let label = |name: &str| labels.get(name).map(String::as_str).unwrap_or_default();
        // serviceaccounts/token is the kubelet's, for the pods of others.
        RESOURCES.contains(&label("resource"))
            && label("subresource") != "token"
            && ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"].contains(&label("verb"))
    };
    metrics
        .where_labels("apiserver_request_total", is_write)
        .map(|(series, value)| (series, value.to_string()))
        .collect()
}

/// What earlier tests left is written to while it is deleted.
async fn others_are_gone(env: &Env) -> anyhow::Result<()> {
    wait_for("the end of the other tests' namespaces", Duration::from_secs(300), || async {
        let others = env.cluster().test_namespaces().await?;
        ensure!(others.len() == 1, "{others:?}");
        Ok(())
    })
    .await
}

/// Ready is not yet at rest: the last status, the last event are still to come.
async fn settled(env: &Env) -> anyhow::Result<()> {
    let mut before = BTreeMap::new();
    for _ in 0..20 {
        let now = writes(&env.cluster().api_server_metrics().await?);
        if now == before {
            return Ok(());
        }
        before = now;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    // It never comes to rest: the minute that follows shows what is written.
    Ok(())
}
