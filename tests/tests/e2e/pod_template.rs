//! Further containers and volumes in the pods. The container is a second daemon, on ports of its own, that is configured
//! by a file from a ConfigMap.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Env, SmtpClient, in_namespace, mail_laser, wait_for};

use crate::spool::{claims_are, drains_are};

const SIDECAR: &str = "
  podTemplate:
    securityContext: {runAsUser: 70001, fsGroup: 70002}
    volumes:
    - {name: second, configMap: {name: second}}
    - {name: scratch, emptyDir: {sizeLimit: 1024Mi}}
    volumeMounts:
    - {name: scratch, mountPath: /tmp}
    containers:
    - name: second
      image: localhost/mail-laser:dev
      volumeMounts:
      - {name: second, mountPath: /.env, subPath: .env, readOnly: true}
      readinessProbe: {httpGet: {path: /health, port: 3080}, periodSeconds: 1}
";

#[tokio::test]
async fn a_sidecar_waits_for_its_volume_and_is_rolled_with_its_content() -> anyhow::Result<()> {
    in_namespace("sidecar", |env| async move {
        env.deploy_webhook("webhook").await?;
        env.apply(&(mail_laser("inbox", "webhook") + SIDECAR)).await?;
        let missing = env.wait_condition("inbox", "Ready", "False", Some("ConfigMapNotFound")).await?;
        ensure!(missing.message.contains("spec.podTemplate.volumes[second]"), "{}", missing.message);

        configure(&env, "one.example.com").await?;
        env.wait_ready("inbox").await?;
        let first = env.pod("inbox").await?;
        greeted_as(&env, "one.example.com").await?;
        let written = env.get("Deployment", "inbox").await?["metadata"]["generation"].take();

        configure(&env, "two.example.com").await?;
        wait_for("a new pod", Duration::from_secs(90), || async {
            let pod = env.pod("inbox").await?;
            ensure!(pod.metadata.uid != first.metadata.uid, "still the old pod");
            Ok(())
        })
        .await?;
        env.wait_ready("inbox").await?;
        greeted_as(&env, "two.example.com").await?;
        let rewritten = env.get("Deployment", "inbox").await?["metadata"]["generation"].take();
        ensure!(rewritten.as_i64() == written.as_i64().map(|it| it + 1), "{written} became {rewritten}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_sidecar_does_not_keep_a_drain_from_its_end() -> anyhow::Result<()> {
    in_namespace("sidecar-drain", |env| async move {
        env.deploy_webhook("webhook").await?;
        configure(&env, "one.example.com").await?;
        let spool = env.spool(1).await?;
        env.apply(&(mail_laser("inbox", "webhook") + &spool + SIDECAR)).await?;
        env.wait_ready("inbox").await?;
        env.scale("inbox", 0).await?;
        env.wait_condition("inbox", "Ready", "True", Some("ScaledToZero")).await?;
        env.wait_condition("inbox", "Reconciling", "False", Some("UpToDate")).await?;
        drains_are(&env, &[]).await?;
        claims_are(&env, &[]).await
    })
    .await
}

async fn configure(env: &Env, hostname: &str) -> anyhow::Result<()> {
    env.apply(&format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: second}}
data:
  .env: |
    MAIL_LASER_TARGET_EMAILS=second@example.com
    MAIL_LASER_WEBHOOK_URL=http://localhost:1/
    MAIL_LASER_HOSTNAME={hostname}
    MAIL_LASER_PORT=3525
    MAIL_LASER_HEALTH_PORT=3080
    MAIL_LASER_METRICS_PORT=3090
"
    ))
    .await
}

async fn greeted_as(env: &Env, hostname: &str) -> anyhow::Result<()> {
    let reach = env.cluster().reach_pod(&env.pod("inbox").await?, 3525).await?;
    let mut session = SmtpClient::connect(reach.address()).await?;
    let greeting = session.expect(220).await?;
    ensure!(format!("{greeting:?}").contains(hostname), "{greeting:?}");
    Ok(())
}
