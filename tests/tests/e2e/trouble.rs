//! An API server that answers nobody for a while, and one whose etcd is full: what was asked for meanwhile is done
//! afterwards, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mail_laser_e2e::{Cluster, Env, OPERATOR_NAMESPACE, alone_in_namespace, mail_laser, wait_for};
use serde_json::json;

use crate::inbox;
use crate::objects::at;

/// One that requests outlast, and one that the leader's term does not. After 40 s the cluster would give up its node.
const PAUSES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(14)];
/// For how long etcd is full: the leader's term ends in it.
const FULL: Duration = Duration::from_secs(15);
/// Each of two operators asks for the Lease once a second then, and the one that leads tries to write now and then. A hot
/// loop has hundreds.
const REQUESTS_A_SECOND_MAX: u32 = 10;
/// An operator that cannot write looks again within a minute.
const AGAIN_LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn an_api_server_that_stands_still_costs_nothing_but_time() -> anyhow::Result<()> {
    alone_in_namespace("slow-api-server", |env| async move {
        let cluster = env.cluster().clone();
        if !cluster.is_ours() {
            println!("not done: only the processes of the test cluster may be stopped");
            return Ok(());
        }
        inbox(&env, "").await?;
        env.apply(&mail_laser("calm", "webhook")).await?;
        env.wait_ready("calm").await?;
        let (calm, operators) = (restarts(&env.pods("calm").await?), cluster.operator_pods().await?);
        for (number, pause) in PAUSES.into_iter().enumerate() {
            let header = format!("X-{number}");
            cluster.signal_component("apiserver", "STOP").await?;
            let (changed, live) = tokio::join!(
                env.patch("MailLaser", "inbox", json!({"spec": {"headerPrefixes": [header]}})),
                async {
                    // The time is the point.
                    tokio::time::sleep(pause).await;
                    let live = are_live(&cluster, &operators).await;
                    cluster.signal_component("apiserver", "CONT").await.and(live)
                }
            );
            live?;
            changed?;
            is_in_force(&env, &header, number + 2).await?;
        }
        ensure!(restarts(&env.pods("calm").await?) == calm, "pods that nobody changed are others");
        is_undisturbed(&cluster, &operators).await
    })
    .await
}

#[tokio::test]
async fn an_operator_waits_for_an_etcd_that_is_full() -> anyhow::Result<()> {
    alone_in_namespace("full-etcd", |env| async move {
        let cluster = env.cluster().clone();
        if !cluster.is_ours() {
            println!("not done: it needs the etcd of the test cluster");
            return Ok(());
        }
        inbox(&env, "").await?;
        let (pods, operators) = (restarts(&env.pods("inbox").await?), cluster.operator_pods().await?);
        cluster.script(&["etcd-full", "on"]).await?;
        let outcome = async {
            let before = cluster.requests_from(OPERATOR_NAMESPACE).await?.len();
            // What is full can still be emptied: now there is something to write.
            env.delete("ServiceAccount", "inbox").await?;
            tokio::time::sleep(FULL).await;
            are_live(&cluster, &operators).await?;
            Ok::<_, anyhow::Error>(cluster.requests_from(OPERATOR_NAMESPACE).await?.split_off(before))
        }
        .await;
        cluster.script(&["etcd-full", "off"]).await?;
        let requests = outcome?;
        println!("{} requests within {FULL:?}", requests.len());
        let refused = requests.iter().any(|request| {
            request["verb"] == "create" && request["objectRef"]["resource"] == "serviceaccounts"
        });
        ensure!(refused, "it did not try to write");
        let limit = usize::try_from(FULL.as_secs() * u64::from(REQUESTS_A_SECOND_MAX))?;
        ensure!(requests.len() <= limit, "a hot loop: {requests:#?}");

        wait_for("the ServiceAccount", AGAIN_LIMIT, || env.get("ServiceAccount", "inbox")).await?;
        env.patch("MailLaser", "inbox", json!({"spec": {"headerPrefixes": ["X-After"]}})).await?;
        is_in_force(&env, "X-After", 2).await?;
        ensure!(restarts(&env.pods("inbox").await?) != pods, "the change brought no new pods");
        is_undisturbed(&cluster, &operators).await
    })
    .await
}

/// Until the resource has these headers, by as many templates of its pods as there were wanted.
async fn is_in_force(env: &Env, header: &str, templates: usize) -> anyhow::Result<()> {
    wait_for("the change", AGAIN_LIMIT, || async {
        let deployment = env.get("Deployment", "inbox").await?;
        let variable = "/spec/template/spec/containers/0/env/name=MAIL_LASER_HEADER_PREFIX/value";
        ensure!(at(&deployment, variable) == Some(&json!(header)), "{:?}", at(&deployment, variable));
        Ok(())
    })
    .await?;
    env.wait_ready("inbox").await?;
    let deployment = env.get("Deployment", "inbox").await?;
    let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    let revision: usize = revision.as_str().unwrap_or_default().parse()?;
    ensure!(revision == templates, "{revision} revisions of the pods, not {templates}");
    Ok(())
}

/// Each pod, and how often its containers were started anew.
fn restarts(pods: &[Pod]) -> BTreeMap<String, i32> {
    let count = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|container| container.restart_count).sum()
    };
    pods.iter().map(|pod| (pod.uid().unwrap_or_default(), count(pod))).collect()
}

async fn are_live(cluster: &Cluster, operators: &[Pod]) -> anyhow::Result<()> {
    for pod in operators {
        cluster.operator_is_live(pod).await?;
    }
    Ok(())
}

/// The operators are the same processes as before, and one leads.
async fn is_undisturbed(cluster: &Cluster, operators: &[Pod]) -> anyhow::Result<()> {
    cluster.operator_is_ready().await?;
    let now = restarts(&cluster.operator_pods().await?);
    ensure!(now == restarts(operators), "{:?} became {now:?}", restarts(operators));
    Ok(())
}
