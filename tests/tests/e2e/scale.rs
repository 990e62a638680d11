//! No mail that was answered `250` is lost, whatever happens to the pods meanwhile.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Env, Letter, in_namespace, wait_for};
use serde_json::json;
use tokio::task::JoinSet;

use crate::inbox;

const SENDERS: usize = 4;

#[tokio::test]
async fn scaling_and_a_new_webhook_lose_no_mail() -> anyhow::Result<()> {
    in_namespace("scale", |env| async move {
        let (first, smtp) = inbox(&env, "").await?;
        let second = env.deploy_webhook("second").await?;
        let traffic = Traffic::start(smtp.address());

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
        let sent = traffic.stop().await;

        ensure!(
            sent.refused.is_empty(),
            "{} of {} were refused: {:?}",
            sent.refused.len(),
            sent.accepted.len(),
            sent.refused
        );
        wait_for("every accepted mail at a webhook", Duration::from_secs(60), || async {
            let mut arrived: BTreeSet<String> = first.accepted_subjects().await?.into_iter().collect();
            arrived.extend(second.accepted_subjects().await?);
            let missing: Vec<&String> = sent.accepted.difference(&arrived).collect();
            ensure!(
                missing.is_empty(),
                "{} of {} are missing: {missing:?}",
                missing.len(),
                sent.accepted.len()
            );
            Ok(())
        })
        .await
    })
    .await
}

async fn replicas_are(env: &Env, count: usize) -> anyhow::Result<()> {
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

/// Senders that go on until they are told to stop, and remember each answer.
struct Traffic {
    stop: Arc<AtomicBool>,
    count: Arc<std::sync::atomic::AtomicUsize>,
    senders: JoinSet<Sent>,
}

#[derive(Default)]
struct Sent {
    accepted: BTreeSet<String>,
    refused: Vec<String>,
}

impl Traffic {
    fn start(server: SocketAddr) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            senders.spawn(send(sender, server, Arc::clone(&stop), Arc::clone(&count)));
        }
        Self { stop, count, senders }
    }

    /// Waits until twenty more were accepted.
    async fn flows(&self) -> anyhow::Result<()> {
        let before = self.count.load(Ordering::Relaxed);
        wait_for("twenty more mails", Duration::from_secs(60), || async {
            let more = self.count.load(Ordering::Relaxed) - before;
            ensure!(more >= 20, "{more}");
            Ok(())
        })
        .await
    }

    async fn stop(mut self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Sent::default();
        while let Some(sent) = self.senders.join_next().await {
            let sent = sent.unwrap_or_default();
            all.accepted.extend(sent.accepted);
            all.refused.extend(sent.refused);
        }
        all
    }
}

async fn send(
    sender: usize,
    server: SocketAddr,
    stop: Arc<AtomicBool>,
    count: Arc<std::sync::atomic::AtomicUsize>,
) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let subject = format!("{sender}-{number}");
        match Letter::to("inbox@example.com").subject(&subject).send(server).await {
            Ok(_) => {
                sent.accepted.insert(subject);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => sent.refused.push(format!("{subject}: {error:#}")),
        }
        // A pace, not a wait: the receiver remembers a bounded number.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    sent
}
