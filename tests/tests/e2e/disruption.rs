//! The operator and the API server go down at a bad moment; everything converges, and no pod restarts for it.

use std::collections::BTreeMap;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use mail_laser_e2e::{Env, Letter, alone_in_namespace, mail_laser};
use serde_json::json;

use crate::{arrives, inbox};

#[tokio::test]
async fn an_operator_killed_in_the_middle_of_a_rollout_finishes_it() -> anyhow::Result<()> {
    alone_in_namespace("operator-killed", |env| async move {
        let (webhook, smtp) = inbox(&env, "  replicas: 3\n").await?;
        let change = json!({"spec": {"headerPrefixes": ["X-Ticket"]}});
        env.patch("MailLaser", "inbox", change).await?;
        env.wait_condition("inbox", "Reconciling", "True", None).await?;
        env.cluster().restart_operator().await?;
        env.wait_ready("inbox").await?;
        let deployment = env.get("Deployment", "inbox").await?;
        let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        ensure!(revision == "2", "one change made revision {revision}");
        ensure!(restarts(&env, "inbox").await?.values().all(|count| *count == 0), "a container restarted");
        let letter = Letter::to("inbox@example.com").subject("after the rollout").header("X-Ticket", "1");
        arrives(&webhook, smtp.address(), &letter, |mail| mail.body["headers"]["X-Ticket"] == "1").await
    })
    .await
}

#[tokio::test]
async fn a_restarted_operator_changes_nothing_that_is_right() -> anyhow::Result<()> {
    alone_in_namespace("operator-restarted", |env| async move {
        inbox(&env, "").await?;
        let pods = restarts(&env, "inbox").await?;
        let before = env.get("Deployment", "inbox").await?;
        env.cluster().restart_operator().await?;
        // A later resource is ready only after the operator has gone through the earlier ones.
        env.apply(&mail_laser("later", "webhook")).await?;
        env.wait_ready("later").await?;
        let after = env.get("Deployment", "inbox").await?;
        ensure!(
            before["metadata"]["generation"] == after["metadata"]["generation"],
            "the Deployment was changed"
        );
        ensure!(restarts(&env, "inbox").await? == pods, "the pods changed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_api_server_restart_is_survived_without_a_pod_restart() -> anyhow::Result<()> {
    alone_in_namespace("api-server", |env| async move {
        if !env.cluster().is_ours() {
            println!("not done: only the test cluster's API server may be restarted");
            return Ok(());
        }
        let (webhook, smtp) = inbox(&env, "").await?;
        let pods = restarts(&env, "inbox").await?;
        let operators = operator_restarts(&env).await?;
        env.cluster().script(&["stop-component", "apiserver"]).await?;
        Letter::to("inbox@example.com").subject("without an API server").send(smtp.address()).await?;
        webhook.wait_for_mail("without an API server").await?;
        env.cluster().script(&["start-component", "apiserver"]).await?;

        env.cluster().operator_is_ready().await?;
        // Whoever leads now: none of the operators is another pod, or was started again.
        let now = operator_restarts(&env).await?;
        ensure!(now == operators, "of the operators, {operators:?} became {now:?}");
        env.scale("inbox", 2).await?;
        env.wait_condition("inbox", "Ready", "True", Some("Available")).await?;
        let after = restarts(&env, "inbox").await?;
        ensure!(pods.iter().all(|pod| after.get(pod.0) == Some(pod.1)), "{pods:?} became {after:?}");
        ensure!(after.len() == 2, "{after:?}");
        Ok(())
    })
    .await
}

/// How often the containers of each pod restarted.
async fn restarts(env: &Env, name: &str) -> anyhow::Result<BTreeMap<String, i32>> {
    Ok(restarts_of(&env.pods(name).await?))
}

async fn operator_restarts(env: &Env) -> anyhow::Result<BTreeMap<String, i32>> {
    Ok(restarts_of(&env.cluster().operator_pods().await?))
}

fn restarts_of(pods: &[Pod]) -> BTreeMap<String, i32> {
    pods.iter().map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), container_restarts(pod))).collect()
}

fn container_restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|container| container.restart_count).sum()
}
