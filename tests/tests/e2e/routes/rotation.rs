//! What routes refer to changes while mail flows.

use std::net::SocketAddr;

use anyhow::ensure;
use mail_laser_e2e::{SmtpClient, Webhook, in_namespace, wait_for};
use serde_json::json;

use super::{LIMIT, answers, becomes, gateway, pods, route, secret};
use mail_laser_e2e::traffic::{Sender, Traffic};

#[tokio::test]
async fn a_secret_is_rotated_and_a_service_renamed_under_load() -> anyhow::Result<()> {
    in_namespace("routes-rotation", |env| async move {
        let (first, second) = (env.deploy_webhook("first").await?, env.deploy_webhook("second").await?);
        env.apply(&gateway("")).await?;
        env.apply(&secret("hook", &[("token", "before")])).await?;
        let to = |service: &str| {
            format!(
                "{{serviceRef: {{name: {service}, port: 8080}}, bearerTokenFrom: {{secretKeyRef: {{name: hook, key: \
                 token}}}}}}"
            )
        };
        env.apply(&route("orders", &env, &["orders+*@example.com"], &to("first"))).await?;
        env.wait_ready("edge").await?;
        let smtp = env.reach_service("edge", 25).await?;
        answers(smtp.address(), "orders+1@example.com", 250).await?;
        let before = pods(&env).await?;
        let traffic = Traffic::start([Orders(smtp.address()), Orders(smtp.address())]);
        traffic.flows().await?;
        token_is(&first, "Bearer before").await?;
        env.patch("Secret", "hook", json!({"stringData": {"token": "after"}})).await?;
        token_is(&first, "Bearer after").await?;
        traffic.flows().await?;
        env.apply(&route("orders", &env, &["orders+*@example.com"], &to("second"))).await?;
        token_is(&second, "Bearer after").await?;
        traffic.flows().await?;
        traffic.stop().await?.arrived(&[&first, &second]).await?;
        // Without its Secret a route makes senders wait, and goes on when it is there again.
        env.delete("Secret", "hook").await?;
        becomes(&env, "orders", "Programmed", "Deferred").await?;
        answers(smtp.address(), "orders+1@example.com", 451).await?;
        env.apply(&secret("hook", &[("token", "again")])).await?;
        becomes(&env, "orders", "Programmed", "Programmed").await?;
        answers(smtp.address(), "orders+1@example.com", 250).await?;
        ensure!(pods(&env).await? == before, "{before:?} became {:?}", pods(&env).await?);
        Ok(())
    })
    .await
}

struct Orders(SocketAddr);

impl Sender for Orders {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        let mut client = SmtpClient::greeted(self.0).await?;
        client.mail("orders+1@example.com", &format!("Subject: {subject}\r\n\r\n")).await?.must_be(250)?;
        Ok(())
    }
}

async fn token_is(webhook: &Webhook, token: &str) -> anyhow::Result<()> {
    wait_for(&format!("a mail with {token}"), LIMIT, || async {
        let received = webhook.received().await?;
        let last = received.last().map(|mail| mail.headers["authorization"].clone());
        ensure!(last.as_deref() == Some(token), "{last:?}");
        Ok(())
    })
    .await
}
