//! What somebody changes by hand comes back; what belongs to a deleted resource goes.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Letter, in_namespace, wait_for};
use serde_json::{Value, json};

use crate::inbox;

const REPAIR_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_deleted_service_and_edited_probes_come_back() -> anyhow::Result<()> {
    in_namespace("drift", |env| async move {
        let (webhook, _) = inbox(&env, "").await?;
        let old = env.get("Service", "inbox").await?;
        env.delete("Service", "inbox").await?;
        wait_for("a new Service", REPAIR_LIMIT, || async {
            let new = env.get("Service", "inbox").await?;
            ensure!(new["metadata"]["uid"] != old["metadata"]["uid"], "still the old one");
            ensure!(new["spec"]["ports"] == old["spec"]["ports"], "{}", new["spec"]["ports"]);
            Ok(())
        })
        .await?;

        let before = env.get("Deployment", "inbox").await?;
        let probe = "/spec/template/spec/containers/0/livenessProbe";
        let mut containers = before["spec"]["template"]["spec"]["containers"].clone();
        containers[0]["livenessProbe"]["periodSeconds"] = json!(7);
        env.patch("Deployment", "inbox", json!({"spec": {"template": {"spec": {"containers": containers}}}}))
            .await?;
        wait_for("the probe as it was", REPAIR_LIMIT, || async {
            let now = env.get("Deployment", "inbox").await?;
            ensure!(now.pointer(probe) == before.pointer(probe), "{:?}", now.pointer(probe));
            Ok(())
        })
        .await?;

        let before = env.get("Service", "inbox").await?;
        env.patch("Service", "inbox", json!({"spec": {"selector": {"version": "2"}}})).await?;
        wait_for("the selector as it was", REPAIR_LIMIT, || async {
            let now = env.get("Service", "inbox").await?;
            ensure!(now["spec"]["selector"] == before["spec"]["selector"], "{}", now["spec"]["selector"]);
            Ok(())
        })
        .await?;

        // A label of somebody else is nobody's business.
        env.patch("Deployment", "inbox", json!({"metadata": {"labels": {"team": "support"}}})).await?;
        env.wait_ready("inbox").await?;
        let smtp = env.reach_service("inbox", 25).await?;
        Letter::to("inbox@example.com").subject("after the repair").send(smtp.address()).await?;
        webhook.wait_for_mail("after the repair").await?;
        ensure!(
            env.get("Deployment", "inbox").await?["metadata"]["labels"]["team"] == "support",
            "the label is gone"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deleting_the_resource_deletes_everything_owned() -> anyhow::Result<()> {
    in_namespace("deletion", |env| async move {
        inbox(&env, "  replicas: 2\n").await?;
        let owned = ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"];
        for kind in owned {
            let object = env.get(kind, "inbox").await?;
            is_ours(kind, &object)?;
        }
        env.delete("MailLaser", "inbox").await?;
        for kind in owned {
            env.wait_gone(kind, "inbox").await?;
        }
        wait_for("the end of the pods", Duration::from_secs(60), || async {
            let pods = env.pods("inbox").await?.len();
            ensure!(pods == 0, "{pods} pods");
            Ok(())
        })
        .await
    })
    .await
}

fn is_ours(kind: &str, object: &Value) -> anyhow::Result<()> {
    let metadata = &object["metadata"];
    let owner = &metadata["ownerReferences"][0];
    ensure!(
        owner["kind"] == "MailLaser" && owner["name"] == "inbox" && owner["controller"] == true,
        "{kind}: {owner}"
    );
    for (label, value) in [
        ("app.kubernetes.io/name", "mail-laser"),
        ("app.kubernetes.io/instance", "inbox"),
        ("app.kubernetes.io/managed-by", "mail-laser-operator"),
    ] {
        ensure!(metadata["labels"][label] == value, "{kind}: {label} is {}", metadata["labels"][label]);
    }
    ensure!(metadata["finalizers"].is_null(), "{kind} has finalizers: {}", metadata["finalizers"]);
    Ok(())
}
