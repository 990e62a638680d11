//! `Spool`: what was answered `250` is on a disk, and arrives whatever happens to pods, operator and webhook.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Env, Letter, Reach, Webhook, alone_in_namespace, in_namespace, wait_for};
use serde_json::{Value, json};

use crate::inbox;
use crate::scale::replicas_are;
use mail_laser_e2e::traffic::{Sender, Traffic};

const SENDERS: usize = 4;

/// One delivery that fails keeps the others from being tried: only it waits for its next turn, for a minute, and the
/// others until the webhook is back.
pub(crate) const BREAKER: &str = "    circuitBreaker: {threshold: 1, resetSeconds: 1}\n";

/// What failed three times waits for up to 288 s until it is tried again.
pub(crate) const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// Two pods go one after the other, each after its grace.
pub(crate) const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn a_rollout_an_eviction_and_a_killed_pod_lose_no_mail() -> anyhow::Result<()> {
    in_namespace("spool-rollout", |env| async move {
        let (webhook, smtp) = spool(&env, 2, 2).await?;
        let traffic = persistent_traffic(smtp.address());
        traffic.flows().await?;

        let before = uids(&env, "inbox").await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"headerPrefixes": ["X-Ticket"]}})).await?;
        replaced(&env, "inbox", &before, &["inbox-0", "inbox-1"]).await?;
        traffic.flows().await?;

        let before = uids(&env, "inbox").await?;
        // The budget knows of the new pods a moment after they are ready.
        wait_for("the eviction", ROLLOUT_LIMIT, || env.evict("inbox-1")).await?;
        replaced(&env, "inbox", &before, &["inbox-1"]).await?;
        traffic.flows().await?;

        let before = uids(&env, "inbox").await?;
        env.delete("Pod", "inbox-0").await?;
        replaced(&env, "inbox", &before, &["inbox-0"]).await?;
        traffic.flows().await?;
        traffic.stop().await?.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}

#[tokio::test]
async fn a_webhook_that_is_gone_for_longer_than_any_grace_gets_every_mail() -> anyhow::Result<()> {
    in_namespace("spool-no-webhook", |env| async move {
        let (_, smtp) = spool(&env, 1, 1).await?;
        env.patch("Deployment", "webhook", json!({"spec": {"replicas": 0}})).await?;
        // What the pod takes before it has gone, no other remembers.
        names_are(&env, "Pod", &["inbox-0"]).await?;
        let traffic = persistent_traffic(smtp.address());
        traffic.flows().await?;
        let before = uids(&env, "inbox").await?;
        env.delete("Pod", "inbox-0").await?;
        replaced(&env, "inbox", &before, &["inbox-0"]).await?;
        traffic.flows().await?;
        let sent = traffic.stop().await?;
        env.patch("Deployment", "webhook", json!({"spec": {"replicas": 1}})).await?;
        let webhook = env.deploy_webhook("webhook").await?;
        sent.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}

#[tokio::test]
async fn without_an_operator_no_mail_is_lost_and_a_drain_goes_on() -> anyhow::Result<()> {
    alone_in_namespace("spool-no-operator", |env| async move {
        let (webhook, smtp) = spool(&env, 2, 2).await?;
        webhook.behave(failing()).await?;
        let traffic = persistent_traffic(smtp.address());
        each_holds_mail(&env).await?;
        let sent = traffic.stop().await?;
        env.scale("inbox", 0).await?;
        env.cluster().restart_operator().await?;
        drains_are(&env, &["inbox-drain-0", "inbox-drain-1"]).await?;
        env.cluster().restart_operator().await?;
        // A node that is drained takes the drain along, which goes on elsewhere.
        let drains = |names: Vec<String>| names.into_iter().filter(|name| name.starts_with("inbox-drain-0-"));
        let evicted = drains(names(&env, "Pod").await?).next().context("no pod drains")?;
        env.evict(&evicted).await?;
        wait_for("another pod that drains", ROLLOUT_LIMIT, || async {
            ensure!(drains(names(&env, "Pod").await?).any(|name| name != evicted), "there is only {evicted}");
            Ok(())
        })
        .await?;
        webhook.behave(Behaviour::default()).await?;
        claims_are(&env, &[]).await?;
        sent.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}

/// A webhook, and a ready `MailLaser` with so many pods, and disks for so many.
pub(crate) async fn spool(env: &Env, replicas: usize, disks: usize) -> anyhow::Result<(Webhook, Reach)> {
    let delivery = env.spool(disks).await?;
    let (webhook, smtp) = inbox(env, &format!("{BREAKER}{delivery}  replicas: {replicas}\n")).await?;
    replicas_are(env, replicas).await?;
    Ok((webhook, smtp))
}

/// Senders that try each mail again until it is taken, as mail servers do.
pub(crate) fn persistent_traffic(server: SocketAddr) -> Traffic {
    Traffic::start(std::iter::repeat_with(|| Persistent(server)).take(SENDERS))
}

struct Persistent(SocketAddr);

impl Sender for Persistent {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        let letter = Letter::to("inbox@example.com").subject(subject);
        wait_for(&format!("250 for {subject}"), ROLLOUT_LIMIT, || async {
            letter.send(self.0).await?;
            Ok(())
        })
        .await
    }
}

/// Waits until there is mail on the disk of each pod: for a moment the Service leads to those alone that were ready first.
pub(crate) async fn each_holds_mail(env: &Env) -> anyhow::Result<()> {
    wait_for("mail on each disk", ROLLOUT_LIMIT, || async {
        for pod in env.pods("inbox").await? {
            let mails = env.metrics(&pod).await?.sum("mail_laser_spool_messages", &[]);
            ensure!(mails.is_some_and(|mails| mails > 0.0), "{:?} has {mails:?}", pod.metadata.name);
        }
        Ok(())
    })
    .await
}

/// The webhook is there and takes nothing.
pub(crate) fn failing() -> Behaviour {
    Behaviour { status: 503, ..Behaviour::default() }
}

/// The uids of the pods of a resource, by name.
pub(crate) async fn uids(env: &Env, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pods = env.pods(name).await?.into_iter();
    Ok(pods.filter_map(|pod| Some((pod.metadata.name?, pod.metadata.uid?))).collect())
}

/// Waits until these pods of a resource are others than before, and all are ready.
pub(crate) async fn replaced(
    env: &Env,
    name: &str,
    before: &BTreeMap<String, String>,
    pods: &[&str],
) -> anyhow::Result<()> {
    wait_for(&format!("others in place of {pods:?}"), ROLLOUT_LIMIT, || async {
        let now = uids(env, name).await?;
        let same: Vec<_> = pods
            .iter()
            .filter(|pod| now.get(**pod).is_none_or(|uid| before.get(**pod) == Some(uid)))
            .collect();
        ensure!(same.is_empty(), "{same:?} are not replaced");
        let ready = env.condition(name, "Ready").await?;
        ensure!(ready.reason == "Available", "{ready:?}");
        Ok(())
    })
    .await
}

/// Waits until exactly these claims are there.
pub(crate) async fn claims_are(env: &Env, names: &[&str]) -> anyhow::Result<()> {
    names_are(env, "PersistentVolumeClaim", names).await
}

/// Waits until exactly these Jobs are there.
pub(crate) async fn drains_are(env: &Env, names: &[&str]) -> anyhow::Result<()> {
    names_are(env, "Job", names).await
}

async fn names_are(env: &Env, kind: &str, names: &[&str]) -> anyhow::Result<()> {
    wait_for(&format!("{kind} {names:?}"), ROLLOUT_LIMIT, || async {
        let found = self::names(env, kind).await?;
        ensure!(found == names, "{found:?}");
        Ok(())
    })
    .await
}

/// The names of the objects of a kind.
pub(crate) async fn names(env: &Env, kind: &str) -> anyhow::Result<Vec<String>> {
    let list = env.objects(kind)?.list(&kube::api::ListParams::default()).await?;
    let mut names: Vec<_> = list.items.into_iter().filter_map(|object| object.metadata.name).collect();
    names.sort();
    Ok(names)
}

/// Waits for a message in a condition.
pub(crate) async fn says(env: &Env, type_: &str, reason: &str, parts: &[&str]) -> anyhow::Result<()> {
    wait_for(&format!("{type_} {reason} with {parts:?}"), ROLLOUT_LIMIT, || async {
        let condition = env.condition("inbox", type_).await?;
        ensure!(condition.reason == reason, "{condition:?}");
        ensure!(parts.iter().all(|part| condition.message.contains(part)), "{condition:?}");
        Ok(())
    })
    .await
}

/// The Events of a reason, of the API that `kubectl get events` asks.
pub(crate) async fn events(env: &Env, reason: &str) -> anyhow::Result<Vec<Value>> {
    let list = env.objects("Event")?.list(&kube::api::ListParams::default()).await?;
    let all = list.items.into_iter().map(|event| event.data);
    Ok(all.filter(|event| event["reason"] == reason).collect())
}
