//! A Service named `mail-laser` would give every pod `MAIL_LASER_PORT=tcp://...`.

use anyhow::ensure;
use mail_laser_e2e::{Letter, in_namespace};

use crate::inbox;

#[tokio::test]
async fn a_service_named_mail_laser_breaks_no_pod() -> anyhow::Result<()> {
    in_namespace("service-links", |env| async move {
        env.apply(
            "apiVersion: v1
kind: Service
metadata: {name: mail-laser}
spec:
  ports: [{port: 2525}]
",
        )
        .await?;
        let (webhook, smtp) = inbox(&env, "").await?;
        Letter::to("inbox@example.com").subject("unharmed").send(smtp.address()).await?;
        webhook.wait_for_mail("unharmed").await?;
        let pod = serde_json::to_value(env.pod("inbox").await?)?;
        ensure!(pod["spec"]["enableServiceLinks"] == false, "{}", pod["spec"]["enableServiceLinks"]);
        ensure!(pod["spec"]["automountServiceAccountToken"] == false, "the pod mounts a token");
        Ok(())
    })
    .await
}
