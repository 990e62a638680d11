//! The autoscaler changes the number of replicas in the resource, and spools drain. The cluster serves no metrics: what
//! shows here are its bounds.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Env, in_namespace, wait_for};
use serde_json::{Value, json};

use crate::inbox;
use crate::scale::replicas_are;
use crate::spool::{claims_are, drains_are};

/// The controller looks every 15 s, and a pod with a spool is gone after half a minute.
const SCALING_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_autoscaler_changes_the_resource_and_spools_drain() -> anyhow::Result<()> {
    in_namespace("autoscaling", |env| async move {
        let spool = env.spool(2).await?;
        let metrics = "[{name: mail_laser_smtp_sessions, targetAverageValue: 1000m}]";
        let autoscaling = format!("  autoscaling: {{minReplicas: 2, maxReplicas: 2, metrics: {metrics}}}\n");
        inbox(&env, &format!("{spool}{autoscaling}")).await?;
        scaled_to(&env, 2).await?;
        replicas_are(&env, 2).await?;
        claims_are(&env, &["spool-inbox-0", "spool-inbox-1"]).await?;
        let before = env.get("HorizontalPodAutoscaler", "inbox").await?;
        ensure!(before["spec"]["scaleTargetRef"]["kind"] == "MailLaser", "{}", before["spec"]);

        bounds(&env, 1).await?;
        scaled_to(&env, 1).await?;
        replicas_are(&env, 1).await?;
        drains_are(&env, &[]).await?;
        claims_are(&env, &["spool-inbox-0"]).await?;
        let after = env.get("HorizontalPodAutoscaler", "inbox").await?;
        let written = |object: &Value| object["metadata"]["generation"].as_i64().unwrap_or(1);
        ensure!(after["metadata"]["uid"] == before["metadata"]["uid"], "it was made anew");
        ensure!(written(&after) <= written(&before) + 1, "it was written more than once: {after}");

        env.patch("HorizontalPodAutoscaler", "inbox", json!({"spec": {"maxReplicas": 7}})).await?;
        wait_for("the bounds as they were", Duration::from_secs(30), || async {
            let spec = &env.get("HorizontalPodAutoscaler", "inbox").await?["spec"];
            ensure!(spec["maxReplicas"] == 1, "{spec}");
            Ok(())
        })
        .await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"autoscaling": null}})).await?;
        env.wait_gone("HorizontalPodAutoscaler", "inbox").await?;
        ensure!(env.get("MailLaser", "inbox").await?["spec"]["replicas"] == 1, "replicas changed");
        Ok(())
    })
    .await
}

async fn bounds(env: &Env, replicas: u32) -> anyhow::Result<()> {
    let autoscaling = json!({"minReplicas": replicas, "maxReplicas": replicas});
    env.patch("MailLaser", "inbox", json!({"spec": {"autoscaling": autoscaling}})).await
}

/// Waits until so many replicas are what the resource has and the autoscaler wants.
async fn scaled_to(env: &Env, replicas: u32) -> anyhow::Result<()> {
    wait_for(&format!("{replicas} replicas in the resource"), SCALING_LIMIT, || async {
        let found = &env.get("MailLaser", "inbox").await?["spec"]["replicas"];
        let wanted = &env.get("HorizontalPodAutoscaler", "inbox").await?["status"]["desiredReplicas"];
        ensure!(*found == replicas && *wanted == replicas, "{found}, and the autoscaler wants {wanted}");
        Ok(())
    })
    .await
}
