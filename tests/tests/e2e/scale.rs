//! No mail that was answered `250` is lost, whatever happens to the pods meanwhile.

use std::iter::from_fn;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Env, Letter, in_namespace, wait_for};
use serde_json::json;

use crate::inbox;
use mail_laser_e2e::traffic::{Sender, Traffic};

const SENDERS: usize = 4;

#[tokio::test]
async fn scaling_and_a_new_webhook_lose_no_mail() -> anyhow::Result<()> {
    in_namespace("scale", |env| async move {
        let (first, smtp) = inbox(&env, "").await?;
        let second = env.deploy_webhook("second").await?;
        let traffic = Traffic::start(from_fn(|| Some(Letters(smtp.address()))).take(SENDERS));

        traffic.flows().await?;
        env.scale("inbox", 3).await?;
        replicas_are(&env, 3).await?;
        disruption_budget_exists(&env).await?;
        traffic.flows().await?;
        let change = json!({"spec": {"webhook": {"serviceRef": {"name": "second"}}}});
        env.patch("MailLaser", "inbox", change).await?;
        replicas_are(&env, 3).await?;
        second.wait_for_any_mail().await?;
        traffic.flows().await?;
        env.scale("inbox", 1).await?;
        replicas_are(&env, 1).await?;
        env.wait_gone("PodDisruptionBudget", "inbox").await?;
        traffic.flows().await?;
        let sent = traffic.stop().await?;
        sent.arrived(&[&first, &second]).await
    })
    .await
}

pub(crate) async fn replicas_are(env: &Env, count: usize) -> anyhow::Result<()> {
    env.wait_condition("inbox", "Ready", "True", Some("Available")).await?;
    wait_for(&format!("{count} replicas"), Duration::from_secs(60), || async {
        let status = &env.get("MailLaser", "inbox").await?["status"];
        ensure!(status["replicas"] == count && status["readyReplicas"] == count, "{status}");
        ensure!(status["selector"] == "mail-laser.dev/name=inbox", "{status}");
        let pods = env.pods("inbox").await?.len();
        ensure!(pods == count, "{pods} pods");
        Ok(())
    })
    .await
}

async fn disruption_budget_exists(env: &Env) -> anyhow::Result<()> {
    let spec = &env.get("PodDisruptionBudget", "inbox").await?["spec"];
    ensure!(spec["maxUnavailable"] == 1 && spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "{spec}");
    Ok(())
}

/// Sends each mail over a connection of its own.
struct Letters(SocketAddr);

impl Sender for Letters {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        Letter::to("inbox@example.com").subject(subject).send(self.0).await?;
        Ok(())
    }
}
