//! The NetworkPolicy comes, is repaired, and goes. The network of the test cluster enforces none: what is seen is the
//! object, and that a policy which everything passes changes nothing.

use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::{Letter, in_namespace, wait_for};
use serde_json::json;

use crate::inbox;

const REPAIR_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_network_policy_comes_is_repaired_and_goes() -> anyhow::Result<()> {
    in_namespace("network-policy", |env| async move {
        let policy = "  networkPolicy: {enabled: true, from: [{ipBlock: {cidr: 0.0.0.0/0}}]}\n";
        let (webhook, smtp) = inbox(&env, policy).await?;
        let before = env.get("NetworkPolicy", "inbox").await?;
        let spec = &before["spec"];
        ensure!(spec["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "inbox", "{spec}");
        ensure!(spec["ingress"][0]["from"][0]["ipBlock"]["cidr"] == "0.0.0.0/0", "{spec}");
        ensure!(
            spec["ingress"][1]["ports"][0]["port"] == 8080 && spec["ingress"][1]["from"].is_null(),
            "{spec}"
        );
        ensure!(spec["egress"][1]["to"][0]["podSelector"] == json!({}), "{spec}");
        ensure!(before["metadata"]["ownerReferences"][0]["kind"] == "MailLaser", "{before}");
        Letter::to("inbox@example.com").subject("guarded").send(smtp.address()).await?;
        webhook.wait_for_mail("guarded").await?;

        let is_as_before = || async {
            wait_for("the policy as it was", REPAIR_LIMIT, || async {
                let now = env.get("NetworkPolicy", "inbox").await?;
                ensure!(now["spec"] == before["spec"], "{}", now["spec"]);
                Ok(())
            })
            .await
        };
        let mut ingress = before["spec"]["ingress"].clone();
        ingress[1]["ports"] = json!([{"port": 8080, "protocol": "TCP"}, {"port": 22, "protocol": "TCP"}]);
        env.patch("NetworkPolicy", "inbox", json!({"spec": {"ingress": ingress}})).await?;
        is_as_before().await?;
        env.delete("NetworkPolicy", "inbox").await?;
        is_as_before().await?;

        // Where routes lead is up to their owners.
        let route = json!({
            "apiVersion": "mail-laser.dev/v1alpha1",
            "kind": "MailRoute",
            "metadata": {"name": "elsewhere"},
            "spec": {
                "parentRefs": [{"name": "inbox"}],
                "recipients": ["elsewhere@example.com"],
                "webhook": {"url": "https://api.example.com:8443/"},
            },
        });
        env.apply(&route.to_string()).await?;
        wait_for("the way to everywhere", REPAIR_LIMIT, || async {
            let egress = &env.get("NetworkPolicy", "inbox").await?["spec"]["egress"][1];
            ensure!(*egress == json!({}), "{egress}");
            Ok(())
        })
        .await?;
        env.delete("MailRoute", "elsewhere").await?;
        is_as_before().await?;

        let narrower = json!({"from": [{"podSelector": {}}], "metricsFrom": [{"namespaceSelector": {}}]});
        env.patch("MailLaser", "inbox", json!({"spec": {"networkPolicy": narrower}})).await?;
        wait_for("the other peers", REPAIR_LIMIT, || async {
            let ingress = &env.get("NetworkPolicy", "inbox").await?["spec"]["ingress"];
            let is_narrower =
                ingress[0]["from"] == narrower["from"] && ingress[2]["from"] == narrower["metricsFrom"];
            ensure!(is_narrower, "{ingress}");
            Ok(())
        })
        .await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"networkPolicy": null}})).await?;
        env.wait_gone("NetworkPolicy", "inbox").await
    })
    .await
}
