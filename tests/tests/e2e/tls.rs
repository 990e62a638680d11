//! TLS for senders: certificates from a Secret, renewed, missing and deleted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use mail_laser_e2e::{Authority, Env, Pair, SmtpClient, in_namespace, mail_laser, wait_for};
use serde_json::{Value, json};

use crate::inbox;
use mail_laser_e2e::traffic::{Sender, Traffic};

/// The kubelet brings a renewed Secret into a pod when it next looks at the pod, and the daemon looks every
/// ten seconds.
const RENEWAL_LIMIT: Duration = Duration::from_secs(110);

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_no_mail_is_lost() -> anyhow::Result<()> {
    in_namespace("tls-renewal", |env| async move {
        let authority = Arc::new(Authority::new()?);
        let (first, second) = (authority.issue()?, authority.issue()?);
        env.apply(&first.secret("pair")).await?;
        let (webhook, smtp) = inbox(&env, "  tls: {secretName: pair, smtpsPort: 465}\n").await?;
        let smtps = env.reach_service("inbox", 465).await?;
        let session = SmtpClient::smtps(smtps.address(), &authority).await?;
        ensure!(session.certificate()? == first.certificate(), "not the certificate of the Secret");
        let before = (identity(&env.pod("inbox").await?), generation(&env).await?);
        let traffic = Traffic::start([
            Secured::Session(session),
            Secured::Anew(smtp.address(), Arc::clone(&authority)),
            Secured::Anew(smtp.address(), Arc::clone(&authority)),
        ]);
        traffic.flows().await?;

        env.apply(&second.secret("pair")).await?;
        look_at(&env, &env.pod("inbox").await?).await?;
        shows(smtp.address(), &authority, &second).await?;
        let renewed = SmtpClient::smtps(smtps.address(), &authority).await?;
        ensure!(renewed.certificate()? == second.certificate(), "the two ports show different certificates");
        traffic.flows().await?;

        traffic.stop().await?.arrived(&[&webhook]).await?;
        env.wait_ready("inbox").await?;
        let after = (identity(&env.pod("inbox").await?), generation(&env).await?);
        ensure!(after == before, "{before:?} became {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mail_is_refused_before_tls_where_it_is_required() -> anyhow::Result<()> {
    in_namespace("tls-required", |env| async move {
        let authority = Authority::new()?;
        env.apply(&authority.issue()?.secret("pair")).await?;
        let (webhook, smtp) = inbox(&env, "  tls: {mode: Require, secretName: pair}\n").await?;
        let mut client = SmtpClient::greeted(smtp.address()).await?;
        client.command("MAIL FROM:<ada@example.org>").await?.must_be(530)?;
        let mut client = SmtpClient::starttls(smtp.address(), &authority).await?;
        client.mail("inbox@example.com", "Subject: secured\r\n\r\n").await?.must_be(250)?;
        webhook.wait_for_mail("secured").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_secret_without_a_certificate_is_named_and_waited_for() -> anyhow::Result<()> {
    in_namespace("tls-missing", |env| async move {
        let authority = Authority::new()?;
        let pair = authority.issue()?;
        env.deploy_webhook("webhook").await?;
        env.apply(&format!("{}  tls: {{secretName: pair}}\n", mail_laser("inbox", "webhook"))).await?;
        let ready = env.wait_condition("inbox", "Ready", "False", Some("SecretNotFound")).await?;
        for part in ["Secret pair", "kubernetes.io/tls", "spec.tls.secretName"] {
            ensure!(ready.message.contains(part), "{part} is not in {:?}", ready.message);
        }
        ensure!(env.condition("inbox", "Reconciling").await?.status == "True", "it can still come");

        let of_another_type = pair.secret("pair").replace("kubernetes.io/tls", "Opaque");
        env.apply(&of_another_type).await?;
        let stalled = env.wait_condition("inbox", "Stalled", "True", Some("WrongSecretType")).await?;
        ensure!(stalled.message.contains("is of type Opaque"), "{}", stalled.message);

        env.delete("Secret", "pair").await?;
        env.apply(&pair.secret("pair")).await?;
        env.wait_ready("inbox").await?;
        let smtp = env.reach_service("inbox", 25).await?;
        let client = SmtpClient::starttls(smtp.address(), &authority).await?;
        ensure!(client.certificate()? == pair.certificate(), "not the certificate of the Secret");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deleted_certificate_breaks_no_pod_that_runs() -> anyhow::Result<()> {
    in_namespace("tls-deleted", |env| async move {
        let authority = Authority::new()?;
        let pair = authority.issue()?;
        env.apply(&pair.secret("pair")).await?;
        let (_webhook, smtp) = inbox(&env, "  tls: {secretName: pair}\n").await?;
        let before = env.pod("inbox").await?;
        env.delete("Secret", "pair").await?;
        env.wait_condition("inbox", "Ready", "False", Some("SecretNotFound")).await?;
        look_at(&env, &before).await?;
        if env.cluster().is_ours() {
            // A container that starts again reads the files again.
            let name = before.metadata.name.as_deref().context("a pod without name")?;
            env.cluster().signal(env.namespace(), name, "KILL").await?;
            wait_for("a restart of the container", Duration::from_secs(60), || async {
                let restarts = identity(&env.pod("inbox").await?).1;
                ensure!(restarts == 1, "{restarts} restarts");
                Ok(())
            })
            .await?;
        }
        shows(smtp.address(), &authority, &pair).await?;
        let after = env.pod("inbox").await?;
        ensure!(after.metadata.uid == before.metadata.uid, "it is another pod");

        env.apply(&pair.secret("pair")).await?;
        env.wait_ready("inbox").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_port_with_tls_from_the_first_byte_comes_and_goes() -> anyhow::Result<()> {
    in_namespace("smtps-port", |env| async move {
        inbox(&env, "  service: {type: NodePort}\n").await?;
        let smtp = ports(&env).await?;
        ensure!(smtp.len() == 1, "{smtp:?}");
        env.patch("MailLaser", "inbox", json!({"spec": {"tls": {"smtpsPort": 465}}})).await?;
        env.wait_ready("inbox").await?;
        let both = ports(&env).await?;
        ensure!(both.first() == smtp.first(), "{smtp:?} became {both:?}");
        let smtps = both.get(1).context("there is no second port")?;
        ensure!(smtps["name"] == "smtps" && smtps["port"] == 465, "{smtps}");
        env.reach_service("inbox", 465).await?;

        env.patch("MailLaser", "inbox", json!({"spec": {"tls": {"smtpsPort": null}}})).await?;
        env.wait_ready("inbox").await?;
        let after = ports(&env).await?;
        ensure!(after == smtp, "{smtp:?} became {after:?}");
        Ok(())
    })
    .await
}

/// Sends mails over TLS.
enum Secured {
    /// All in one session, which must not end.
    Session(SmtpClient),
    /// Each in a session of its own.
    Anew(SocketAddr, Arc<Authority>),
}

impl Sender for Secured {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        let mail = format!("Subject: {subject}\r\n\r\n");
        match self {
            Self::Session(session) => session.mail("inbox@example.com", &mail).await?.must_be(250)?,
            Self::Anew(server, authority) => {
                let mut session = SmtpClient::starttls(*server, authority).await?;
                session.mail("inbox@example.com", &mail).await?.must_be(250)?;
                session.command("QUIT").await?.must_be(221)?
            }
        };
        Ok(())
    }
}

/// Waits until new sessions are shown this certificate.
async fn shows(server: SocketAddr, authority: &Authority, pair: &Pair) -> anyhow::Result<()> {
    wait_for("the certificate of the Secret", RENEWAL_LIMIT, || async {
        let client = SmtpClient::starttls(server, authority).await?;
        ensure!(client.certificate()? == pair.certificate(), "it is another certificate");
        Ok(())
    })
    .await
}

/// Makes the kubelet look at a pod, and at what it mounts, sooner than within a minute.
async fn look_at(env: &Env, pod: &Pod) -> anyhow::Result<()> {
    let name = pod.metadata.name.as_deref().context("a pod without name")?;
    env.patch("Pod", name, json!({"metadata": {"annotations": {"mail-laser.dev/e2e": "look"}}})).await
}

/// The pod, and how often its containers restarted.
fn identity(pod: &Pod) -> (Option<String>, i32) {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let restarts = statuses.into_iter().flatten().map(|container| container.restart_count).sum();
    (pod.metadata.uid.clone(), restarts)
}

/// How often the Deployment was changed.
async fn generation(env: &Env) -> anyhow::Result<Value> {
    Ok(env.get("Deployment", "inbox").await?["metadata"]["generation"].take())
}

async fn ports(env: &Env) -> anyhow::Result<Vec<Value>> {
    let ports = env.get("Service", "inbox").await?["spec"]["ports"].take();
    Ok(serde_json::from_value(ports)?)
}
