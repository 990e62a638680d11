//! What a neighbour at the gateway does to its own webhook, and to mails that others get, too.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Env, SmtpClient, Webhook, in_another_namespace, in_namespace, wait_for};
use serde_json::json;
use tokio::task::JoinSet;

use super::{LIMIT, answers, becomes, gateway, recipient, route};

/// More than a route has delivery slots.
const HANGING: usize = 70;
const HANGS_MS: u64 = 60_000;

#[tokio::test]
async fn a_neighbour_is_neither_heard_nor_felt() -> anyhow::Result<()> {
    in_namespace("routes-shared", |edge| async move {
        in_another_namespace("routes-good", |good| async move {
            in_another_namespace("routes-bad", |bad| async move { neighbours(&edge, &good, &bad).await })
                .await
        })
        .await
    })
    .await
}

async fn neighbours(edge: &Env, good: &Env, bad: &Env) -> anyhow::Result<()> {
    let own = edge.deploy_webhook("own").await?;
    let (theirs, its) = (good.deploy_webhook("hook").await?, bad.deploy_webhook("hook").await?);
    edge.apply(&gateway(&format!(
        "  env: [{{name: MAIL_LASER_MAX_CONCURRENT_PER_IP, value: \"0\"}}]
  targetEmails: [own@example.com]
  webhook: {{serviceRef: {{name: own, port: 8080}}}}
  allowedRoutes:
  - namespaces: {{from: Selector, selector: {{matchLabels: {{kubernetes.io/metadata.name: {}}}}}}}
    domains: [good.example.com]
  - namespaces: {{from: All}}
    domains: [example.com]
",
        good.namespace()
    )))
    .await?;
    edge.wait_ready("edge").await?;
    let smtp = edge.reach_service("edge", 25).await?;
    let smtp = smtp.address();

    // The older claim of what was not granted stands in nobody's way, and the gateway's own recipient is nobody else's.
    let hook = "{serviceRef: {name: hook, port: 8080}}";
    bad.apply(&route("squatter", edge, &["a@good.example.com", "own@example.com"], hook)).await?;
    let told = becomes(bad, "squatter", "Accepted", "NotAllowed").await?;
    ensure!(!told.message.contains(good.namespace()), "{told:?}");
    bad.apply(&route("bad", edge, &["bad@example.com"], hook)).await?;
    good.apply(&route("good", edge, &["*@good.example.com"], hook)).await?;
    becomes(good, "good", "Accepted", "Accepted").await?;
    for address in ["a@good.example.com", "bad@example.com"] {
        answers(smtp, address, 250).await?;
    }
    send(smtp, &["own@example.com"], "for the gateway").await?;
    own.wait_for_mail("for the gateway").await?;

    // One mail for all three is three requests, each with its own recipients alone.
    send(smtp, &["bad@example.com", "a@good.example.com", "own@example.com"], "for all").await?;
    for (webhook, its_own) in
        [(&own, "own@example.com"), (&theirs, "a@good.example.com"), (&its, "bad@example.com")]
    {
        let mail = webhook.wait_for_mail("for all").await?;
        ensure!(mail.body["recipients"] == json!([its_own]), "{}", mail.body["recipients"]);
        ensure!(webhook.received().await?.len() <= 2, "a webhook got what was for another");
    }

    redirects_lead_nowhere(smtp, good, &theirs, &its).await?;
    names_lead_nowhere_within(edge, smtp, good, bad, &theirs).await?;
    nobody_waits_for_it(smtp, &theirs, &its).await?;
    ensure!(recipient(smtp, "b@good.example.com").await? == 250, "a recipient was lost");

    // A gateway that is for its own recipients alone has no table.
    edge.get("Secret", "edge-routes").await?;
    edge.patch("MailLaser", "edge", json!({"spec": {"allowedRoutes": []}})).await?;
    becomes(good, "good", "Accepted", "NotAllowed").await?;
    edge.wait_gone("Secret", "edge-routes").await
}

/// A redirect to another's Service is a failure, as every redirect is.
async fn redirects_lead_nowhere(
    smtp: SocketAddr,
    good: &Env,
    theirs: &Webhook,
    its: &Webhook,
) -> anyhow::Result<()> {
    let elsewhere = format!("http://hook.{}.svc:8080/stolen", good.namespace());
    its.behave(Behaviour { status: 307, location: Some(elsewhere), ..Behaviour::default() }).await?;
    reaches_nobody(smtp, "bad@example.com", theirs).await
}

/// A name is no way to an address within, which is known only when the connection is made.
async fn names_lead_nowhere_within(
    edge: &Env,
    smtp: SocketAddr,
    good: &Env,
    bad: &Env,
    theirs: &Webhook,
) -> anyhow::Result<()> {
    let url = format!("{{url: 'https://hook.{}.svc:8080/', maxRetries: 0}}", good.namespace());
    bad.apply(&route("by-name", edge, &["by-name@example.com"], &url)).await?;
    answers(smtp, "by-name@example.com", 250).await?;
    reaches_nobody(smtp, "by-name@example.com", theirs).await?;
    for pod in edge.pods("edge").await? {
        edge.wait_log(&pod, "no public address").await?;
    }
    Ok(())
}

/// A mail is put off, and what is another's was not asked.
async fn reaches_nobody(smtp: SocketAddr, address: &str, theirs: &Webhook) -> anyhow::Result<()> {
    let before = theirs.counts().await?.received;
    let answer = SmtpClient::greeted(smtp).await?.mail(address, "Subject: elsewhere\r\n\r\n").await?;
    ensure!(answer.code == 451, "{answer}");
    ensure!(theirs.counts().await?.received == before, "it led to another's Service");
    Ok(())
}

/// While more mails than it has slots for wait for its webhook, those of others do not.
async fn nobody_waits_for_it(smtp: SocketAddr, theirs: &Webhook, its: &Webhook) -> anyhow::Result<()> {
    its.behave(Behaviour { delay_ms: HANGS_MS, ..Behaviour::default() }).await?;
    let before = its.counts().await?.received;
    let mut hanging = JoinSet::new();
    for number in 0..HANGING {
        hanging.spawn(async move {
            let mut client = SmtpClient::greeted(smtp).await?;
            client.mail("bad@example.com", &format!("Subject: hangs {number}\r\n\r\n")).await
        });
    }
    wait_for("a webhook that hangs", LIMIT, || async {
        let asked = its.counts().await?.received - before;
        ensure!(asked >= 32, "{asked} requests hang");
        Ok(())
    })
    .await?;
    for number in 0..10 {
        send(smtp, &["a@good.example.com"], &format!("beside it {number}")).await?;
    }
    theirs.wait_for_mail("beside it 9").await?;
    // Those that found no slot may have been told to come again; the others hang, or gave up waiting.
    let mut waiting = hanging.len();
    while let Some(ended) = hanging.try_join_next() {
        if let Ok(answer) = ended.context("a sender panicked")? {
            waiting -= 1;
            ensure!(answer.code == 451, "{answer}");
        }
    }
    ensure!(waiting >= 32, "only {waiting} of {HANGING} still hang: the others had nothing to wait for");
    Ok(())
}

async fn send(smtp: SocketAddr, recipients: &[&str], subject: &str) -> anyhow::Result<()> {
    let mut client = SmtpClient::greeted(smtp).await?;
    client.mail_to(recipients, &format!("Subject: {subject}\r\n\r\n")).await?.must_be(250)?;
    Ok(())
}
