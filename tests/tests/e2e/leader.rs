//! Of several operators one writes. The audit log of the API server says who wrote when.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mail_laser_e2e::{Cluster, Env, alone_in_namespace, mail_laser, wait_for};
use serde_json::json;

/// Enough that a leader is in the middle of it, whenever something happens to it.
const RESOURCES: usize = 24;

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_within_seconds() -> anyhow::Result<()> {
    alone_in_namespace("hand-over", |env| async move {
        let cluster = env.cluster().clone();
        let (first, before) = at_work(&env).await?;
        change(&env, "X-First", 0..RESOURCES / 2).await?;
        let told = Instant::now();
        cluster.delete_operator(&first).await?;
        change(&env, "X-First", RESOURCES / 2..RESOURCES * 3 / 4).await?;
        // One that does not give it up has it for another 12 s at least.
        wait_for("the Lease to be given up", Duration::from_secs(10), || async {
            let holder = cluster.leader().await?;
            ensure!(holder != first.name_any(), "{holder} has it");
            Ok(())
        })
        .await?;
        println!("given up within {:.1} s", told.elapsed().as_secs_f32());
        let second = another_leads(&cluster, &first).await?;
        println!("handed over within {:.1} s", told.elapsed().as_secs_f32());
        change(&env, "X-First", RESOURCES * 3 / 4..RESOURCES).await?;
        done(&env).await?;
        wrote_one_after_the_other(&cluster, before, &first, &second).await
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_paused_writes_no_more() -> anyhow::Result<()> {
    alone_in_namespace("paused-leader", |env| async move {
        let cluster = env.cluster().clone();
        if !cluster.is_ours() {
            println!("not done: signals reach the processes of the test cluster alone");
            return Ok(());
        }
        let (first, before) = at_work(&env).await?;
        let namespace = first.namespace().unwrap_or_default();
        let paused = Instant::now();
        // It stops with a part of the changes seen, some written, and requests under way.
        let (changed, stopped) = tokio::join!(change(&env, "X-First", 0..RESOURCES), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            cluster.signal(&namespace, &first.name_any(), "STOP").await
        });
        stopped?;
        let outcome = async {
            changed?;
            let second = another_leads(&cluster, &first).await?;
            println!("taken over after {:.1} s", paused.elapsed().as_secs_f32());
            done(&env).await?;
            // What it would write again, if it believed in itself.
            change(&env, "X-Second", 0..RESOURCES / 2).await?;
            Ok::<_, anyhow::Error>(second)
        }
        .await;
        cluster.signal(&namespace, &first.name_any(), "CONT").await?;
        let second = outcome?;
        change(&env, "X-Second", RESOURCES / 2..RESOURCES).await?;
        done(&env).await?;
        wait_for("the paused operator to stand by", Duration::from_secs(30), || async {
            let metrics = cluster.operator_metrics(&first).await?;
            ensure!(metrics.sum("mail_laser_operator_leading", &[]) == Some(0.0), "it leads");
            Ok(())
        })
        .await?;
        wrote_one_after_the_other(&cluster, before, &first, &second).await
    })
    .await
}

#[tokio::test]
async fn a_lease_that_somebody_deletes_is_made_anew() -> anyhow::Result<()> {
    alone_in_namespace("deleted-lease", |env| async move {
        let cluster = env.cluster().clone();
        let (first, before) = at_work(&env).await?;
        let deleted = Instant::now();
        cluster.delete_lease().await?;
        change(&env, "X-First", 0..RESOURCES).await?;
        // Whoever makes it does nothing until it is sure that nobody else leads any more.
        let leader = wait_for("a leader", Duration::from_secs(60), || async {
            let pod = cluster.operator_pod().await?;
            let leading = cluster.operator_metrics(&pod).await?.sum("mail_laser_operator_leading", &[]);
            ensure!(leading == Some(1.0), "{} has the Lease, and does not lead yet", pod.name_any());
            Ok(pod)
        })
        .await?;
        println!("there is a leader after {:.1} s", deleted.elapsed().as_secs_f32());
        change(&env, "X-Second", 0..RESOURCES).await?;
        done(&env).await?;
        if leader.metadata.uid == first.metadata.uid {
            return Ok(());
        }
        wrote_one_after_the_other(&cluster, before, &first, &leader).await
    })
    .await
}

/// Resources that are ready, the leader that made them so, and how much was written until then.
async fn at_work(env: &Env) -> anyhow::Result<(Pod, usize)> {
    wait_for("a leader and one who stands by", Duration::from_secs(120), || async {
        let ready = env.cluster().operator_pods().await?.iter().filter(|pod| is_ready(pod)).count();
        ensure!(ready == 2, "{ready} operators are ready");
        env.cluster().operator_pod().await
    })
    .await?;
    env.deploy_webhook("webhook").await?;
    for number in 0..RESOURCES {
        // Their pods are of no interest.
        env.apply(&(mail_laser(&name(number), "webhook") + "  replicas: 0\n")).await?;
    }
    done(env).await?;
    Ok((env.cluster().operator_pod().await?, env.cluster().operator_writes().await?.len()))
}

fn name(number: usize) -> String {
    format!("inbox-{number}")
}

/// Changes resources so that there is something to write for each.
async fn change(env: &Env, header: &str, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let spec = json!({"spec": {"headerPrefixes": [header]}});
    try_join_all(numbers.map(|number| {
        let spec = spec.clone();
        async move { env.patch("MailLaser", &name(number), spec).await }
    }))
    .await?;
    Ok(())
}

/// Until all is as the resources say now.
async fn done(env: &Env) -> anyhow::Result<()> {
    for number in 0..RESOURCES {
        env.wait_condition(&name(number), "Ready", "True", Some("ScaledToZero")).await?;
    }
    Ok(())
}

async fn another_leads(cluster: &Cluster, than: &Pod) -> anyhow::Result<Pod> {
    wait_for("another leader", Duration::from_secs(60), || async {
        let pod = cluster.operator_pod().await?;
        ensure!(pod.metadata.uid != than.metadata.uid, "{} leads", pod.name_any());
        Ok(pod)
    })
    .await
}

/// Every write of the second came after every one of the first, and both wrote.
async fn wrote_one_after_the_other(
    cluster: &Cluster,
    before: usize,
    first: &Pod,
    second: &Pod,
) -> anyhow::Result<()> {
    if !cluster.is_ours() {
        println!("not done: there is no audit log to read");
        return Ok(());
    }
    let writes = cluster.operator_writes().await?.split_off(before);
    let of = |pod: &Pod| {
        let name = pod.name_any();
        writes.iter().filter(move |write| write.pod == name)
    };
    let last =
        of(first).max_by_key(|write| write.at).context("the first wrote nothing: there is nothing to see")?;
    let next = of(second).min_by_key(|write| write.at).context("the second wrote nothing")?;
    println!("{} writes of the first, {} of the second", of(first).count(), of(second).count());
    ensure!(last.at < next.at, "{last:?} came after {next:?}");
    let others: Vec<_> = writes
        .iter()
        .filter(|write| write.pod != first.name_any() && write.pod != second.name_any())
        .collect();
    ensure!(others.is_empty(), "written by another one: {others:?}");
    Ok(())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}
