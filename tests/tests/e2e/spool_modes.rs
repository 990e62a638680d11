//! Another mode of delivery: the new pods are ready before the old ones go, and a spool is drained.

use anyhow::ensure;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{in_namespace, wait_for};
use serde_json::json;

use crate::inbox;
use crate::scale::replicas_are;
use crate::spool::{
    ARRIVAL_LIMIT, BREAKER, ROLLOUT_LIMIT, claims_are, drains_are, failing, persistent_traffic, says,
};

#[tokio::test]
async fn to_a_spool_and_back_loses_no_mail_and_is_always_served() -> anyhow::Result<()> {
    in_namespace("spool-modes", |env| async move {
        let spool = env.spool(2).await?;
        let (webhook, smtp) =
            inbox(&env, &format!("{BREAKER}  delivery: {{mode: Confirm}}\n  replicas: 2\n")).await?;
        replicas_are(&env, 2).await?;
        let address = env.get("Service", "inbox").await?["spec"]["clusterIP"].clone();
        let traffic = persistent_traffic(smtp.address());
        traffic.flows().await?;

        let mut delivery: serde_json::Value = mail_laser_e2e::documents(&spool)?.remove(0);
        delivery["delivery"]["spool"]["lifetimeSeconds"] = 86_400.into();
        env.patch("MailLaser", "inbox", json!({"spec": delivery})).await?;
        env.wait_gone("Deployment", "inbox").await?;
        let set = env.get("StatefulSet", "inbox").await?;
        ensure!(set["status"]["readyReplicas"] == 2, "the Deployment went before: {}", set["status"]);
        replicas_are(&env, 2).await?;
        traffic.flows().await?;

        webhook.behave(failing()).await?;
        traffic.flows().await?;
        let back = json!({"spec": {"delivery": {"mode": "Confirm", "spool": null}}});
        env.patch("MailLaser", "inbox", back).await?;
        wait_for("the end of the StatefulSet's pods", ROLLOUT_LIMIT, || async {
            let set = env.get("StatefulSet", "inbox").await?;
            ensure!(set["spec"]["replicas"] == 0 && set["status"]["replicas"] == 0, "{}", set["status"]);
            Ok(())
        })
        .await?;
        let deployment = env.get("Deployment", "inbox").await?;
        ensure!(deployment["status"]["readyReplicas"] == 2, "it went before: {}", deployment["status"]);
        says(&env, "Reconciling", "Draining", &["spool-inbox-0", "spool-inbox-1"]).await?;
        drains_are(&env, &["inbox-drain-0", "inbox-drain-1"]).await?;
        // The resource does not say any more how long its mails are tried, which holds for them all the same.
        let job = env.get("Job", "inbox-drain-0").await?;
        let variables = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
        let lifetime = json!({"name": "MAIL_LASER_SPOOL_LIFETIME", "value": "86400"});
        ensure!(variables.is_some_and(|variables| variables.contains(&lifetime)), "{variables:?}");
        webhook.behave(Behaviour::default()).await?;
        claims_are(&env, &[]).await?;
        env.wait_gone("StatefulSet", "inbox").await?;
        replicas_are(&env, 2).await?;
        env.wait_condition("inbox", "Reconciling", "False", Some("UpToDate")).await?;
        traffic.flows().await?;
        ensure!(env.get("Service", "inbox").await?["spec"]["clusterIP"] == address, "another address");
        traffic.stop().await?.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}
