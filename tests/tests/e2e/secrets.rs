//! Secrets that a resource names: rotated, missing.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Env, Letter, in_namespace, mail_laser, wait_for};

use crate::{arrives, inbox};

#[tokio::test]
async fn a_rotated_secret_rolls_the_pods_once() -> anyhow::Result<()> {
    in_namespace("rotation", |env| async move {
        let webhook = env.deploy_webhook("webhook").await?;
        url_secret(&env, "first").await?;
        env.apply(
            "apiVersion: mail-laser.dev/v1alpha1
kind: MailLaser
metadata: {name: inbox}
spec:
  targetEmails: [inbox@example.com]
  webhook:
    urlFrom: {secretKeyRef: {name: hook, key: url}}
    allowHTTP: true
",
        )
        .await?;
        env.wait_ready("inbox").await?;
        let before = env.pod("inbox").await?;
        let smtp = env.reach_service("inbox", 25).await?;
        Letter::to("inbox@example.com").subject("to the first").send(smtp.address()).await?;
        ensure!(webhook.wait_for_mail("to the first").await?.path == "/first", "the wrong path");

        url_secret(&env, "second").await?;
        wait_for("a new pod", Duration::from_secs(90), || async {
            let pod = env.pod("inbox").await?;
            ensure!(pod.metadata.uid != before.metadata.uid, "still the old pod");
            Ok(())
        })
        .await?;
        env.wait_ready("inbox").await?;
        let letter = Letter::to("inbox@example.com").subject("to the second");
        arrives(&webhook, smtp.address(), &letter, |mail| mail.path == "/second").await?;
        let revision = &env.get("Deployment", "inbox").await?["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        ensure!(revision == "2", "the pods rolled to revision {revision}");
        let status = &env.get("MailLaser", "inbox").await?["status"];
        let host = format!("webhook.{}.svc", env.namespace());
        ensure!(status["webhookHost"].as_str().is_some_and(|shown| shown.starts_with(&host)), "{status}");
        ensure!(!status.to_string().contains("/second"), "the path of a secret URL shows in the status: {status}");
        Ok(())
    })
    .await
}

async fn url_secret(env: &Env, path: &str) -> anyhow::Result<()> {
    env.apply(&format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: hook}}
stringData: {{url: \"http://webhook.{}.svc:8080/{path}\"}}
",
        env.namespace()
    ))
    .await
}

#[tokio::test]
async fn a_missing_secret_is_named_and_waited_for() -> anyhow::Result<()> {
    in_namespace("missing-secret", |env| async move {
        let webhook = env.deploy_webhook("webhook").await?;
        let spec = "  env:
  - name: MAIL_LASER_HEADER_PREFIX
    valueFrom: {secretKeyRef: {name: absent, key: prefixes}}
";
        env.apply(&format!("{}{spec}", mail_laser("inbox", "webhook"))).await?;
        let ready = env.wait_condition("inbox", "Ready", "False", Some("SecretNotFound")).await?;
        ensure!(ready.message.contains("absent"), "the message does not name the Secret: {}", ready.message);
        let reconciling = env.condition("inbox", "Reconciling").await?;
        ensure!(reconciling.status == "True", "{reconciling:?}");
        env.apply(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: absent}\nstringData: {prefixes: X-Ticket}\n",
        )
        .await?;
        env.wait_ready("inbox").await?;
        let smtp = env.reach_service("inbox", 25).await?;
        Letter::to("inbox@example.com")
            .subject("found")
            .header("X-Ticket-Id", "7")
            .send(smtp.address())
            .await?;
        let received = webhook.wait_for_mail("found").await?;
        ensure!(received.body["headers"]["X-Ticket-Id"] == "7", "{}", received.body);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bearer_token_reaches_the_webhook_and_no_log() -> anyhow::Result<()> {
    in_namespace("bearer", |env| async move {
        env.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: hook}\nstringData: {token: open-sesame}\n")
            .await?;
        let token = "    bearerTokenFrom: {secretKeyRef: {name: hook, key: token}}\n";
        let (webhook, smtp) = inbox(&env, token).await?;
        Letter::to("inbox@example.com").subject("with a token").send(smtp.address()).await?;
        let received = webhook.wait_for_mail("with a token").await?;
        ensure!(received.headers["authorization"] == "Bearer open-sesame", "{:?}", received.headers);
        let log = env.log(&env.pod("inbox").await?).await?;
        ensure!(!log.contains("open-sesame"), "the log shows the token:\n{log}");
        Ok(())
    })
    .await
}
