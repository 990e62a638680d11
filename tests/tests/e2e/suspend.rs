//! `suspend: true`: the operator looks, and writes nothing but status.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{in_namespace, wait_while};
use serde_json::json;

use crate::inbox;
use crate::spool::{ARRIVAL_LIMIT, claims_are, failing, names, persistent_traffic, spool};

#[tokio::test]
async fn a_suspended_resource_is_not_acted_upon_until_it_is_resumed() -> anyhow::Result<()> {
    in_namespace("suspend", |env| async move {
        inbox(&env, "").await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"suspend": true, "replicas": 2}})).await?;
        env.wait_condition("inbox", "Reconciling", "False", Some("Suspended")).await?;
        ensure!(env.condition("inbox", "Ready").await?.status == "True", "its pod runs, and it is not ready");
        env.delete("Service", "inbox").await?;
        wait_while("a suspended resource is left alone", Duration::from_secs(5), || async {
            ensure!(env.objects("Service")?.get_opt("inbox").await?.is_none(), "the Service came back");
            ensure!(env.get("Deployment", "inbox").await?["spec"]["replicas"] == 1, "it was scaled");
            Ok(())
        })
        .await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"suspend": false}})).await?;
        env.wait_condition("inbox", "Ready", "True", Some("Available")).await?;
        env.reach_service("inbox", 25).await?;
        let pods = env.pods("inbox").await?.len();
        ensure!(pods == 2, "{pods} pods");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_suspended_spool_is_neither_scaled_nor_drained_and_loses_nothing() -> anyhow::Result<()> {
    in_namespace("suspend-spool", |env| async move {
        let (webhook, smtp) = spool(&env, 2, 2).await?;
        webhook.behave(failing()).await?;
        let traffic = persistent_traffic(smtp.address());
        traffic.flows().await?;
        let sent = traffic.stop().await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"suspend": true, "replicas": 1}})).await?;
        env.wait_condition("inbox", "Reconciling", "False", Some("Suspended")).await?;
        wait_while("a suspended spool is left alone", Duration::from_secs(5), || async {
            ensure!(env.get("StatefulSet", "inbox").await?["spec"]["replicas"] == 2, "it was scaled");
            let drains = names(&env, "Job").await?;
            ensure!(drains.is_empty(), "{drains:?}");
            Ok(())
        })
        .await?;
        webhook.behave(Behaviour::default()).await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"suspend": false}})).await?;
        claims_are(&env, &["spool-inbox-0"]).await?;
        sent.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}
