//! Claims: they outlive their resource, grow with it, and tell when they cannot.

use anyhow::ensure;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Env, VOLUME_SIZE, in_namespace, mail_laser, wait_for};
use serde_json::{Value, json};

use crate::scale::replicas_are;
use crate::spool::{
    ARRIVAL_LIMIT, BREAKER, ROLLOUT_LIMIT, claims_are, events, failing, persistent_traffic, replaced, says,
    spool, uids,
};

#[tokio::test]
async fn a_resource_that_is_made_anew_takes_up_what_is_there() -> anyhow::Result<()> {
    in_namespace("spool-anew", |env| async move {
        let delivery = env.spool(2).await?;
        let webhook = env.deploy_webhook("webhook").await?;
        let with = |replicas: u32| {
            format!("{}{BREAKER}{delivery}  replicas: {replicas}\n", mail_laser("inbox", "webhook"))
        };
        env.apply(&with(2)).await?;
        replicas_are(&env, 2).await?;
        let smtp = env.reach_service("inbox", 25).await?;
        webhook.behave(failing()).await?;
        let traffic = persistent_traffic(smtp.address());
        traffic.flows().await?;
        let sent = traffic.stop().await?;
        let before = volumes(&env).await?;

        env.delete("MailLaser", "inbox").await?;
        env.wait_gone("StatefulSet", "inbox").await?;
        wait_for("the end of the pods", ROLLOUT_LIMIT, || async {
            let pods = env.pods("inbox").await?.len();
            ensure!(pods == 0, "{pods} pods");
            Ok(())
        })
        .await?;
        ensure!(volumes(&env).await? == before, "the claims are not what they were");
        let told = events(&env, "ClaimsLeft").await?;
        let note = told.first().map(|event| event["message"].to_string()).unwrap_or_default();
        ensure!(note.contains("spool-inbox-0") && note.contains("spool-inbox-1"), "{told:?}");
        ensure!(told.len() == 1 && told[0]["involvedObject"]["kind"] == "MailLaser", "{told:?}");

        // With one replica less: the other claim is drained.
        webhook.behave(Behaviour::default()).await?;
        env.apply(&with(1)).await?;
        replicas_are(&env, 1).await?;
        claims_are(&env, &["spool-inbox-0"]).await?;
        ensure!(volumes(&env).await?[0] == before[0], "it has another volume");
        sent.arrived_within(ARRIVAL_LIMIT, &[&webhook]).await
    })
    .await
}

/// Nothing in this cluster makes volumes grow: the test says of each claim what a resizer would say, and looks at
/// what the operator makes of it.
#[tokio::test]
async fn claims_grow_before_the_pods_are_told() -> anyhow::Result<()> {
    in_namespace("spool-grows", |env| async move {
        if !env.cluster().is_ours() {
            println!("not done: the test plays the part of the cluster's resizer");
            return Ok(());
        }
        spool(&env, 2, 3).await?;
        let (pods, set) = (uids(&env, "inbox").await?, uid(&env, "StatefulSet", "inbox").await?);
        let told = bytes_max(&env).await?;
        let size = |size: &str| json!({"spec": {"delivery": {"spool": {"size": size}}}});
        env.patch("MailLaser", "inbox", size("512Mi")).await?;
        for claim in ["spool-inbox-0", "spool-inbox-1"] {
            wait_for(&format!("the growth of {claim}"), ROLLOUT_LIMIT, || async {
                let claim = env.get("PersistentVolumeClaim", claim).await?;
                let requested = &claim["spec"]["resources"]["requests"]["storage"];
                ensure!(requested == "512Mi", "{requested} is asked for");
                Ok(())
            })
            .await?;
        }
        says(&env, "Reconciling", "Growing", &["spool-inbox-0", "spool-inbox-1"]).await?;
        env.resize("spool-inbox-0", "512Mi").await?;
        says(&env, "Reconciling", "Growing", &["size: spool-inbox-1;"]).await?;
        ensure!(bytes_max(&env).await? == told, "the pods are told before all claims have grown");
        ensure!(uids(&env, "inbox").await? == pods, "a pod was replaced");

        env.resize("spool-inbox-1", "512Mi").await?;
        replaced(&env, "inbox", &pods, &["inbox-0", "inbox-1"]).await?;
        let (now, expected) = (bytes_max(&env).await?, 2.0 * told);
        ensure!((now - expected).abs() < 1024.0, "the pods are told {now} instead of {expected}");
        ensure!(uid(&env, "StatefulSet", "inbox").await? != set, "new claims would be of the old size");
        claims_are(&env, &["spool-inbox-0", "spool-inbox-1"]).await?;

        for (change, sentence) in [
            (size("256Mi"), "delivery.spool.size only grows"),
            (
                json!({"spec": {"delivery": {"spool": {"storageClassName": "other"}}}}),
                "storageClassName cannot change",
            ),
        ] {
            let refused =
                env.patch("MailLaser", "inbox", change).await.err().map(|error| format!("{error:#}"));
            ensure!(refused.as_ref().is_some_and(|error| error.contains(sentence)), "{refused:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_claim_that_cannot_be_made_or_cannot_grow_says_so() -> anyhow::Result<()> {
    in_namespace("spool-stuck", |env| async move {
        if !env.cluster().is_ours() {
            println!("not done: it takes a storage class that makes no volumes");
            return Ok(());
        }
        let class = env.storage_class("rigid", false).await?;
        env.deploy_webhook("webhook").await?;
        let delivery = |class: &str| {
            format!(
                "  delivery: {{mode: Spool, spool: {{size: {VOLUME_SIZE}, storageClassName: {class}}}}}\n"
            )
        };
        env.apply(&(mail_laser("inbox", "webhook") + &delivery(&class))).await?;
        says(&env, "Reconciling", "ClaimPending", &["spool-inbox-0", "kubectl describe pvc"]).await?;
        ensure!(env.condition("inbox", "Ready").await?.status == "False", "no pod runs, and it is ready");
        env.volume(&class, 0).await?;
        replicas_are(&env, 1).await?;

        let pods = uids(&env, "inbox").await?;
        let change = json!({"spec": {"delivery": {"spool": {"size": "1Gi"}}}});
        env.patch("MailLaser", "inbox", change).await?;
        says(&env, "Stalled", "ClaimCannotGrow", &["spool-inbox-0", "allowVolumeExpansion", "Confirm"])
            .await?;
        ensure!(uids(&env, "inbox").await? == pods, "a pod was replaced");
        claims_are(&env, &["spool-inbox-0"]).await
    })
    .await
}

/// The volumes of the claims, by name of the claim.
async fn volumes(env: &Env) -> anyhow::Result<Vec<(String, Value)>> {
    let list = env.objects("PersistentVolumeClaim")?.list(&kube::api::ListParams::default()).await?;
    let mut volumes: Vec<_> = list
        .items
        .into_iter()
        .filter_map(|claim| Some((claim.metadata.name?, claim.data["spec"]["volumeName"].clone())))
        .collect();
    volumes.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(volumes)
}

async fn uid(env: &Env, kind: &str, name: &str) -> anyhow::Result<String> {
    Ok(env.get(kind, name).await?["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

/// How much mail the pods are told to keep, in bytes.
async fn bytes_max(env: &Env) -> anyhow::Result<f64> {
    let set = env.get("StatefulSet", "inbox").await?;
    let variables = set.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let variable = variables
        .into_iter()
        .flatten()
        .find(|variable| variable["name"] == "MAIL_LASER_SPOOL_MAX_BYTES")
        .and_then(|variable| variable["value"].as_str());
    Ok(variable.unwrap_or_default().parse()?)
}
