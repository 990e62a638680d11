//! `Confirm`: a sender hears what the webhook says of its mail, and a rollout loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use mail_laser_e2e::receiver::{Behaviour, Received};
use mail_laser_e2e::{Env, Reply, SmtpClient, Webhook, in_namespace, wait_for};
use serde_json::json;
use tokio::sync::Mutex;

use crate::inbox;
use crate::scale::replicas_are;
use mail_laser_e2e::traffic::{Sender, Traffic};

const SENDERS: usize = 4;

/// With one delivery at a time, long enough that mails wait in a pod that ends: what it had answered before
/// their delivery would be lost with it.
const WEBHOOK_TAKES_MS: u64 = 250;

#[tokio::test]
async fn the_reply_is_what_the_webhook_says() -> anyhow::Result<()> {
    in_namespace("confirm-reply", |env| async move {
        let (webhook, smtp) = inbox(&env, "  delivery: {mode: Confirm}\n").await?;

        // Had it been answered before, fewer attempts would be there now.
        webhook.behave(Behaviour { status: 503, times: Some(2), ..Behaviour::default() }).await?;
        let reply = send(smtp.address(), "late").await?.must_be(250)?;
        let received = webhook.received().await?;
        let statuses: Vec<u16> = received.iter().map(|received| received.status).collect();
        ensure!(statuses == [503, 503, 200], "at {reply} the webhook had answered {statuses:?}");
        ensure!(id(&reply)? == received[2].body["id"], "{reply} is not for {}", received[2].body);

        webhook.behave(Behaviour { status: 503, ..Behaviour::default() }).await?;
        says(&send(smtp.address(), "later").await?, 451, "the webhook answered 503")?;
        webhook.behave(Behaviour { status: 422, ..Behaviour::default() }).await?;
        says(&send(smtp.address(), "never").await?, 554, "the webhook answered 422")
    })
    .await
}

#[tokio::test]
async fn rollouts_and_a_killed_pod_lose_no_mail() -> anyhow::Result<()> {
    in_namespace("confirm-rollout", |env| async move {
        let spec = format!("  delivery: {{mode: Confirm}}\n  replicas: 2\n  env: {}\n", one_at_a_time(45));
        let (first, smtp) = inbox(&env, &spec).await?;
        let second = env.deploy_webhook("second").await?;
        for webhook in [&first, &second] {
            let behaviour = Behaviour { delay_ms: WEBHOOK_TAKES_MS, ..Behaviour::default() };
            webhook.behave(behaviour).await?;
        }
        replicas_are(&env, 2).await?;
        let ledger = Ledger::default();
        let sender = || Persistent { server: smtp.address(), ledger: Arc::clone(&ledger) };
        let traffic = Traffic::start(std::iter::repeat_with(sender).take(SENDERS));
        traffic.flows().await?;

        rolls(&env, json!({"spec": {"env": one_at_a_time(44)}})).await?;
        traffic.flows().await?;
        rolls(&env, json!({"spec": {"webhook": {"serviceRef": {"name": "second"}}}})).await?;
        second.wait_for_any_mail().await?;
        traffic.flows().await?;
        kill_one(&env).await?;
        traffic.flows().await?;

        let sent = traffic.stop().await?;
        let received = [first.received().await?, second.received().await?].concat();
        balances(&*ledger.lock().await, &received)?;
        sent.arrived(&[&first, &second] as &[&Webhook]).await
    })
    .await
}

/// What was answered `250`: subjects and ids.
type Ledger = Arc<Mutex<BTreeMap<String, String>>>;

/// Sends a mail again until it is answered `250`, as a mail server does, over a connection of its own each time.
struct Persistent {
    server: SocketAddr,
    ledger: Ledger,
}

impl Sender for Persistent {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        let reply = wait_for(&format!("250 for {subject}"), Duration::from_secs(60), || async {
            send(self.server, subject).await?.must_be(250)
        })
        .await?;
        let id = id(&reply)?;
        self.ledger.lock().await.insert(subject.to_owned(), id);
        Ok(())
    }
}

/// The same content each time: a mail that is sent again is the same mail.
async fn send(server: SocketAddr, subject: &str) -> anyhow::Result<Reply> {
    let data = format!("Subject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\nHello.");
    SmtpClient::greeted(server).await?.mail("inbox@example.com", &data).await
}

fn id(reply: &Reply) -> anyhow::Result<String> {
    let id = reply.lines.last().and_then(|line| line.rsplit(' ').next());
    Ok(id.with_context(|| format!("no id in {reply}"))?.to_owned())
}

fn says(reply: &Reply, code: u16, reason: &str) -> anyhow::Result<()> {
    ensure!(reply.code == code && reply.to_string().contains(reason), "not {code}, {reason:?}: {reply}");
    Ok(())
}

fn one_at_a_time(timeout_seconds: u32) -> serde_json::Value {
    json!([
        {"name": "MAIL_LASER_WEBHOOK_CONCURRENCY", "value": "1"},
        {"name": "MAIL_LASER_CONFIRM_TIMEOUT", "value": timeout_seconds.to_string()},
    ])
}

/// Changes the resource, and waits until none of the pods of before is left.
async fn rolls(env: &Env, change: serde_json::Value) -> anyhow::Result<()> {
    let before = pods(env).await?;
    env.patch("MailLaser", "inbox", change).await?;
    replicas_are(env, 2).await?;
    let left: Vec<_> = pods(env).await?.intersection(&before).cloned().collect();
    ensure!(left.is_empty(), "{left:?} were not replaced");
    Ok(())
}

async fn pods(env: &Env) -> anyhow::Result<BTreeSet<String>> {
    Ok(env.pods("inbox").await?.into_iter().filter_map(|pod| pod.metadata.name).collect())
}

/// Ends a daemon at once: whom it holds sees a broken connection, and sends again to whatever pod answers.
async fn kill_one(env: &Env) -> anyhow::Result<()> {
    if !env.cluster().is_ours() {
        println!("not done: signals reach the processes of the test cluster alone");
        return Ok(());
    }
    let pod = pods(env).await?.into_iter().next().context("no pod")?;
    env.cluster().signal(env.namespace(), &pod, "KILL").await?;
    wait_for("a restart of the container", Duration::from_secs(60), || async {
        let pods = env.pods("inbox").await?;
        let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        let restarts: i32 = statuses.flatten().map(|container| container.restart_count).sum();
        ensure!(restarts == 1, "{restarts} restarts");
        Ok(())
    })
    .await?;
    replicas_are(env, 2).await
}

/// Whatever was answered `250` is there already, under that id; and whatever came twice has one id.
fn balances(ledger: &BTreeMap<String, String>, received: &[Received]) -> anyhow::Result<()> {
    let mut ids = BTreeMap::<&str, BTreeSet<&str>>::new();
    for request in received {
        let subject = request.body["subject"].as_str().context("no subject")?;
        let id = request.body["id"].as_str().context("no id")?;
        let key = request.headers.get("idempotency-key");
        ensure!(key.is_some_and(|key| key == id), "{subject}: the key {key:?} is not the id {id}");
        ids.entry(subject).or_default().insert(id);
    }
    let wrong: Vec<_> = ledger
        .iter()
        .map(|(subject, id)| (subject, id, ids.get(subject.as_str())))
        .filter(|(_, id, ids)| ids.is_none_or(|ids| !ids.iter().eq([id.as_str()].iter())))
        .collect();
    ensure!(wrong.is_empty(), "{} of {} do not balance: {wrong:?}", wrong.len(), ledger.len());
    println!("{} mails were answered 250, the webhooks got {} requests", ledger.len(), received.len());
    Ok(())
}
