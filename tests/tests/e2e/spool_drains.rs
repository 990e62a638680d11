//! Fewer replicas: what the removed ones hold is delivered, and then their claims go.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Letter, in_namespace, wait_for, wait_while};
use serde_json::json;

use crate::scale::replicas_are;
use crate::spool::{
    ARRIVAL_LIMIT, claims_are, drains_are, each_holds_mail, events, failing, names, persistent_traffic, says,
    spool,
};

#[tokio::test]
async fn three_to_one_and_back_loses_no_mail() -> anyhow::Result<()> {
    in_namespace("spool-scale", |env| async move {
        // A volume whose claim is gone is not used again.
        let (webhook, smtp) = spool(&env, 3, 5).await?;
        webhook.behave(failing()).await?;
        let traffic = persistent_traffic(smtp.address());
        each_holds_mail(&env).await?;
        env.scale("inbox", 1).await?;
        drains_are(&env, &["inbox-drain-1", "inbox-drain-2"]).await?;
        says(&env, "Reconciling", "Draining", &["spool-inbox-1", "spool-inbox-2"]).await?;
        ensure!(env.condition("inbox", "Ready").await?.status == "True", "one pod takes mail");
        ensure!(names(&env, "Pod").await?.contains(&"inbox-0".to_owned()), "the first pod is gone");
        traffic.flows().await?;

        env.scale("inbox", 3).await?;
        says(&env, "Reconciling", "Draining", &["more replicas come after it"]).await?;
        wait_while("the StatefulSet waits for the drain", Duration::from_secs(5), || async {
            let replicas = &env.get("StatefulSet", "inbox").await?["spec"]["replicas"];
            ensure!(replicas == 1, "{replicas} replicas");
            Ok(())
        })
        .await?;
        webhook.behave(Behaviour::default()).await?;
        replicas_are(&env, 3).await?;
        env.wait_condition("inbox", "Reconciling", "False", Some("UpToDate")).await?;
        drains_are(&env, &[]).await?;
        claims_are(&env, &["spool-inbox-0", "spool-inbox-1", "spool-inbox-2"]).await?;
        traffic.flows().await?;
        traffic.stop().await?.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_kept_and_named() -> anyhow::Result<()> {
    in_namespace("spool-dead-letters", |env| async move {
        let (webhook, smtp) = spool(&env, 1, 2).await?;
        webhook.behave(Behaviour { status: 422, times: Some(1), ..Behaviour::default() }).await?;
        Letter::to("inbox@example.com").subject("never").send(smtp.address()).await?;
        wait_for("the refusal", Duration::from_secs(60), || async {
            ensure!(webhook.counts().await?.received == 1, "not asked yet");
            Ok(())
        })
        .await?;
        env.scale("inbox", 0).await?;
        says(&env, "Reconciling", "DeadLetters", &["spool-inbox-0", "spec.replicas to 1"]).await?;
        claims_are(&env, &["spool-inbox-0"]).await?;
        wait_for("the Event", Duration::from_secs(60), || async {
            let told = events(&env, "DeadLetters").await?;
            ensure!(told.len() == 1 && told[0]["message"].to_string().contains("spool-inbox-0"), "{told:?}");
            Ok(())
        })
        .await?;

        env.scale("inbox", 1).await?;
        replicas_are(&env, 1).await?;
        drains_are(&env, &[]).await?;
        if !env.cluster().is_ours() {
            println!(
                "not done: a look at the dead letters, for which the script of the test cluster is needed"
            );
            return Ok(());
        }
        let listed = env.exec("inbox-0", &["/mail-laser", "spool", "list"]).await?;
        ensure!(listed.lines().count() > 0, "nothing is listed");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_drain_goes_to_the_webhook_of_now() -> anyhow::Result<()> {
    in_namespace("spool-drain-elsewhere", |env| async move {
        let (first, smtp) = spool(&env, 1, 1).await?;
        let second = env.deploy_webhook("second").await?;
        first.behave(failing()).await?;
        Letter::to("inbox@example.com").subject("rerouted").send(smtp.address()).await?;
        env.scale("inbox", 0).await?;
        drains_are(&env, &["inbox-drain-0"]).await?;
        let change = json!({"spec": {"webhook": {"serviceRef": {"name": "second"}}}});
        env.patch("MailLaser", "inbox", change).await?;
        // What has failed once is tried again after a minute, at the earliest.
        claims_are(&env, &[]).await?;
        drains_are(&env, &[]).await?;
        second.wait_for_mail("rerouted").await?;
        env.wait_condition("inbox", "Ready", "True", Some("ScaledToZero")).await?;
        Ok(())
    })
    .await
}

/// It holds up the end of a claim, and is not taken for the Job that empties it.
#[tokio::test]
async fn a_job_of_somebody_else_is_left_alone_until_it_goes() -> anyhow::Result<()> {
    in_namespace("spool-foreign-job", |env| async move {
        let (webhook, smtp) = spool(&env, 1, 1).await?;
        webhook.behave(failing()).await?;
        Letter::to("inbox@example.com").subject("behind a job").send(smtp.address()).await?;
        env.apply(
            "apiVersion: batch/v1
kind: Job
metadata: {name: inbox-drain-0}
spec:
  suspend: true
  template:
    spec:
      restartPolicy: Never
      containers: [{name: theirs, image: \"localhost/theirs:1\"}]
",
        )
        .await?;
        env.scale("inbox", 0).await?;
        let stalled = env.wait_condition("inbox", "Stalled", "True", Some("NameConflict")).await?;
        ensure!(stalled.message.contains("Job inbox-drain-0"), "{}", stalled.message);
        let job = env.get("Job", "inbox-drain-0").await?;
        ensure!(job["metadata"]["ownerReferences"].is_null(), "it was taken over: {}", job["metadata"]);
        claims_are(&env, &["spool-inbox-0"]).await?;

        webhook.behave(Behaviour::default()).await?;
        env.delete("Job", "inbox-drain-0").await?;
        claims_are(&env, &[]).await?;
        webhook.wait_for_mail("behind a job").await?;
        Ok(())
    })
    .await
}
