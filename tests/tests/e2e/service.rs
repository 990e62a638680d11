//! The Service in the cluster: what changes in place, and what does not.

use anyhow::ensure;
use mail_laser_e2e::{Env, in_namespace};
use serde_json::{Value, json};

use crate::inbox;

const LINKERD: &str = "config.linkerd.io/opaque-ports";

#[tokio::test]
async fn a_load_balancer_comes_changes_and_goes_in_place() -> anyhow::Result<()> {
    in_namespace("service", |env| async move {
        inbox(&env, "").await?;
        let before = env.get("Service", "inbox").await?;
        ensure!(before["metadata"]["annotations"][LINKERD] == "25", "{}", before["metadata"]);
        ensure!(before["spec"]["ports"][0]["appProtocol"] == "tcp", "{}", before["spec"]);

        let ranges = json!(["192.0.2.0/24", "198.51.100.0/24"]);
        let load_balancer = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges});
        let spec = changed(&env, load_balancer).await?;
        ensure!(spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local", "{spec}");
        ensure!(spec["healthCheckNodePort"].is_u64() && spec["loadBalancerSourceRanges"] == ranges, "{spec}");

        let policy = json!({"externalTrafficPolicy": "Cluster", "loadBalancerSourceRanges": null});
        let spec = changed(&env, policy).await?;
        ensure!(spec["externalTrafficPolicy"] == "Cluster", "{spec}");
        ensure!(
            spec["healthCheckNodePort"].is_null() && spec["loadBalancerSourceRanges"].is_null(),
            "{spec}"
        );

        let spec = changed(&env, json!({"type": "ClusterIP", "externalTrafficPolicy": null})).await?;
        ensure!(spec["type"] == "ClusterIP" && spec["externalTrafficPolicy"].is_null(), "{spec}");
        let after = env.get("Service", "inbox").await?;
        ensure!(address(&after) == address(&before), "{} became {}", address(&before), address(&after));
        Ok(())
    })
    .await
}

/// A class cannot change, and a cluster of one family has no second. Neither costs the Service its address.
#[tokio::test]
async fn what_the_cluster_does_not_permit_is_stalled_and_the_service_stays() -> anyhow::Result<()> {
    in_namespace("service-stays", |env| async move {
        inbox(&env, "  service: {type: LoadBalancer, loadBalancerClass: example.com/a}\n").await?;
        let before = env.get("Service", "inbox").await?;
        let families = before["spec"]["ipFamilies"].as_array().map_or(0, Vec::len);
        ensure!(families == 1, "a Service without a policy has {families} families");

        refused(&env, json!({"loadBalancerClass": "example.com/b"}), "loadBalancerClass").await?;
        changed(&env, json!({"loadBalancerClass": "example.com/a"})).await?;
        if env.cluster().is_ours() {
            refused(&env, json!({"ipFamilyPolicy": "RequireDualStack"}), "ipFamilyPolicy").await?;
            // As well as it can: of one family.
            let spec = changed(&env, json!({"ipFamilyPolicy": "PreferDualStack"})).await?;
            ensure!(spec["ipFamilyPolicy"] == "PreferDualStack", "{spec}");
            let other = if before["spec"]["ipFamilies"][0] == "IPv4" { "IPv6" } else { "IPv4" };
            refused(&env, json!({"ipFamilies": [other]}), "ipFamil").await?;
        }
        let spec = changed(&env, json!({"ipFamilyPolicy": null, "ipFamilies": null})).await?;
        ensure!(spec["ipFamilyPolicy"] == "SingleStack", "{spec}");
        let after = env.get("Service", "inbox").await?;
        ensure!(address(&after) == address(&before), "{} became {}", address(&before), address(&after));
        Ok(())
    })
    .await
}

/// Changes `spec.service`, waits until that is in force, and returns the Service's.
async fn changed(env: &Env, service: Value) -> anyhow::Result<Value> {
    env.patch("MailLaser", "inbox", json!({"spec": {"service": service}})).await?;
    env.wait_ready("inbox").await?;
    Ok(env.get("Service", "inbox").await?["spec"].take())
}

async fn refused(env: &Env, service: Value, field: &str) -> anyhow::Result<()> {
    env.patch("MailLaser", "inbox", json!({"spec": {"service": service}})).await?;
    let stalled = env.wait_condition("inbox", "Stalled", "True", Some("Refused")).await?;
    let names_it = stalled.message.contains(field) && stalled.message.contains("Service inbox");
    ensure!(names_it && stalled.message.contains("Correct the field"), "{}", stalled.message);
    Ok(())
}

/// What an MX record would stand on.
fn address(service: &Value) -> String {
    format!("{} {}", service["metadata"]["uid"], service["spec"]["clusterIPs"])
}
