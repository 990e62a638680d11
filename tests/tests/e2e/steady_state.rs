//! At rest the operator writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};
use futures::future::try_join_all;
use mail_laser_e2e::{Env, Metrics, alone_in_namespace, mail_laser, wait_for};

const RESOURCES: usize = 20;
const QUIET: Duration = Duration::from_secs(60);
/// In a cluster something may happen that is nobody's fault: a probe that comes late, a controller that looks after
/// what it missed.
const MINUTES_MAX: usize = 4;

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

        let mut restless = Vec::new();
        for _ in 0..MINUTES_MAX {
            let (asked, others) = a_minute(&env).await?;
            if asked.is_empty() && (env.cluster().is_ours() || others.is_empty()) {
                return Ok(());
            }
            ensure!(!others.is_empty(), "nobody wrote anything, and the operator asked: {asked:#?}");
            restless.push((asked, others));
        }
        bail!("it never came to rest: what the operator asked, and what others wrote: {restless:#?}")
    })
    .await
}

/// What the operator asked within a minute, and what others wrote: an answer to that is no unrest of its own.
async fn a_minute(env: &Env) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let cluster = env.cluster();
    let before = (writes(&cluster.api_server_metrics().await?), cluster.operator_requests().await?.len());
    let own_before = cluster.operator_writes().await?.len();
    // The one duration that is the point of its test.
    tokio::time::sleep(QUIET).await;
    let own = cluster.operator_writes().await?.len() - own_before;
    let after = writes(&cluster.api_server_metrics().await?);
    let asked = cluster.operator_requests().await?.split_off(before.1);

    let more = |(series, count): (&String, &u64)| {
        let more = count.saturating_sub(before.0.get(series).copied().unwrap_or_default());
        (more > 0).then(|| (format!("{more} x {series}"), more))
    };
    let (written, counts): (Vec<String>, Vec<u64>) = after.iter().filter_map(more).unzip();
    let others = if counts.iter().sum::<u64>() > own as u64 { written } else { Vec::new() };
    Ok((asked, others))
}

/// Every write to what the operator may write, but its Lease, whoever wrote.
fn writes(metrics: &Metrics) -> BTreeMap<String, u64> {
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
        .map(|(series, value)| (series, value as u64))
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
