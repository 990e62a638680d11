//! The version before with running resources, then this one in its place: pods, Services and claims do not notice, and no
//! mail is refused or lost. `make upgrade` runs it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use mail_laser_e2e::traffic::{Sender, Traffic};
use mail_laser_e2e::{Cluster, Env, Letter, in_namespace, mail_laser, repository};
use serde_json::Value;
use tokio::process::Command;

/// Resources with all kinds of objects.
const RESOURCES: [&str; 3] = ["memory", "disk", "gateway"];

const OBJECTS: [(&str, &str); 12] = [
    ("Deployment", "memory"),
    ("Deployment", "gateway"),
    ("StatefulSet", "disk"),
    ("PersistentVolumeClaim", "spool-disk-0"),
    ("Service", "memory"),
    ("Service", "disk"),
    ("Service", "gateway"),
    ("ServiceAccount", "memory"),
    ("PodDisruptionBudget", "memory"),
    ("NetworkPolicy", "memory"),
    ("HorizontalPodAutoscaler", "gateway"),
    ("ConfigMap", "memory-dashboard"),
];

const ROUTE: &str = "apiVersion: mail-laser.dev/v1alpha1
kind: MailRoute
metadata: {name: team}
spec:
  parentRefs: [{name: gateway}]
  recipients: [team@example.com]
  webhook: {serviceRef: {name: webhook, port: 8080, path: /mail}}
";

#[tokio::test]
async fn pods_services_and_mails_do_not_notice_a_new_operator() -> anyhow::Result<()> {
    let previous = std::env::var_os("PREVIOUS_TREE").context("PREVIOUS_TREE is the version before, built")?;
    install(Path::new(&previous)).await?;
    in_namespace("upgrade", |env| async move {
        let webhook = env.deploy_webhook("webhook").await?;
        let spool = env.spool(1).await?;
        let wide = "  replicas: 2\n  networkPolicy: {enabled: true}\n  monitoring: {dashboard: {enabled: true}}\n";
        let shared = "  allowedRoutes: [{namespaces: {from: Same}}]\n  resources: {requests: {cpu: 10m}}\n  autoscaling: {minReplicas: 1, maxReplicas: 2, targetCPUUtilizationPercentage: 80}\n";
        for (name, spec) in RESOURCES.into_iter().zip([wide, spool.as_str(), shared]) {
            env.apply(&(mail_laser(name, "webhook") + spec)).await?;
        }
        env.apply(ROUTE).await?;
        for name in RESOURCES {
            env.wait_ready(name).await?;
        }
        let before = seen(&env).await?;
        let smtp = env.reach_service("memory", 25).await?;
        let traffic = Traffic::start([One(smtp.address()), One(smtp.address())]);
        traffic.flows().await?;

        install(repository()).await?;
        // A later resource is ready only after the operator has gone through the earlier ones.
        env.apply(&(mail_laser("later", "webhook") + "  replicas: 0\n")).await?;
        env.wait_ready("later").await?;
        traffic.flows().await?;
        traffic.stop().await?.arrived(&[&webhook]).await?;
        let after = seen(&env).await?;
        println!("looked at {} pods and objects: {:?}", before.len(), before.keys());
        ensure!(before == after, "{before:#?} became {after:#?}");
        for name in RESOURCES {
            env.wait_observed(name).await?;
            env.wait_ready(name).await?;
        }
        Ok(())
    })
    .await
}

/// Installs what a tree has built, by the tree's own script.
async fn install(tree: &Path) -> anyhow::Result<()> {
    let script = "set -euo pipefail; source tests/lib.sh; install_operator";
    let status = Command::new("bash").args(["-c", script]).current_dir(tree).status().await?;
    ensure!(status.success(), "the operator of {} was not installed", tree.display());
    Cluster::connect().await?.operator_is_ready().await
}

/// What must not change: which pod it is and how often it restarted; which object, and what was asked of it.
async fn seen(env: &Env) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut seen = BTreeMap::new();
    for name in RESOURCES {
        for pod in env.pods(name).await? {
            let pod = serde_json::to_value(pod)?;
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            seen.insert(format!("Pod {}", pod["metadata"]["uid"]), restarts.clone());
        }
    }
    for (kind, name) in OBJECTS {
        let object = env.get(kind, name).await.with_context(|| format!("no {kind} {name}"))?;
        let (uid, generation) = (&object["metadata"]["uid"], &object["metadata"]["generation"]);
        seen.insert(format!("{kind} {name}"), serde_json::json!([uid, generation]));
    }
    Ok(seen)
}

/// Sends each mail once.
struct One(SocketAddr);

impl Sender for One {
    async fn send(&mut self, subject: &str) -> anyhow::Result<()> {
        Letter::to("memory@example.com").subject(subject).send(self.0).await?;
        Ok(())
    }
}
