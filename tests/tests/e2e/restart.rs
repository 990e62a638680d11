//! A daemon that dies or hangs is started again by the kubelet, in the same pod.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use mail_laser_e2e::{Env, Letter, Webhook, in_namespace, wait_for};
use serde_json::json;

use crate::inbox;

#[tokio::test]
async fn a_killed_daemon_is_started_again() -> anyhow::Result<()> {
    in_namespace("killed", |env| async move {
        let (webhook, smtp) = inbox(&env, "").await?;
        restarted_by(&env, "KILL", Duration::from_secs(60)).await?;
        takes_mail(&webhook, smtp.address()).await
    })
    .await
}

#[tokio::test]
async fn a_hanging_health_port_gets_the_container_restarted() -> anyhow::Result<()> {
    in_namespace("hanging", |env| async move {
        let (webhook, smtp) = inbox(&env, "").await?;
        // Probes that fail sooner save two minutes.
        let liveness = json!({"initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 2});
        env.patch("MailLaser", "inbox", json!({"spec": {"probes": {"liveness": liveness}}})).await?;
        env.wait_condition("inbox", "Ready", "True", Some("Available")).await?;
        // A stopped process keeps its ports open and answers nobody; it has to be killed after its grace.
        restarted_by(&env, "STOP", Duration::from_secs(150)).await?;
        takes_mail(&webhook, smtp.address()).await
    })
    .await
}

async fn restarted_by(env: &Env, signal: &str, limit: Duration) -> anyhow::Result<()> {
    if !env.cluster().is_ours() {
        println!("not done: signals reach the processes of the test cluster alone");
        return Ok(());
    }
    let before = env.pod("inbox").await?;
    env.cluster()
        .signal(env.namespace(), before.metadata.name.as_deref().context("no name")?, signal)
        .await?;
    wait_for("a restart of the container", limit, || async {
        let now = env.pod("inbox").await?;
        ensure!(now.metadata.uid == before.metadata.uid, "it is another pod");
        ensure!(restarts(&now) == 1, "{} restarts", restarts(&now));
        Ok(())
    })
    .await?;
    env.wait_ready("inbox").await
}

async fn takes_mail(webhook: &Webhook, server: SocketAddr) -> anyhow::Result<()> {
    // The Service follows the pod's readiness a moment later.
    wait_for("an answer at the Service", Duration::from_secs(60), || async {
        Letter::to("inbox@example.com").subject("after the restart").send(server).await
    })
    .await?;
    webhook.wait_for_mail("after the restart").await?;
    Ok(())
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|container| container.restart_count).sum()
}
