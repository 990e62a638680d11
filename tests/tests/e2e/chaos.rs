//! The operator is killed again and again while resources come, change and go. Afterwards all is as the resources say:
//! nothing is missing, nothing is left over, and no pod was touched that nobody wanted changed.
//!
//! `CHAOS_SECONDS` says for how long; `make soak` takes ten minutes.

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use mail_laser_e2e::{Cluster, Env, alone_for_longer, mail_laser, wait_for};
use serde_json::{Value, json};

use crate::objects::at;

const RESOURCES: u64 = 12;
/// What nobody changes.
const CALM: [&str; 2] = ["calm-0", "calm-1"];
/// Between two kills: from right after a leader has begun to some time later.
const KILL_PAUSE_MILLISECONDS: u64 = 3_000;
const CONVERGED_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn an_operator_that_is_killed_again_and_again_gets_everything_done() -> anyhow::Result<()> {
    let seconds = env::var("CHAOS_SECONDS").map_or(Ok(60), |text| text.parse())?;
    let lasts = Duration::from_secs(seconds);
    alone_for_longer("chaos", lasts, move |env| async move {
        if !env.cluster().is_ours() {
            println!("not done: only the processes of the test cluster may be killed");
            return Ok(());
        }
        env.deploy_webhook("webhook").await?;
        for name in CALM {
            env.apply(&mail_laser(name, "webhook")).await?;
        }
        for name in CALM {
            env.wait_ready(name).await?;
        }
        let calm = calm(&env).await?;
        let until = Instant::now() + lasts;
        let (wanted, kills) = tokio::try_join!(change(&env, until), kill(env.cluster(), until))?;
        let changes: u64 = wanted.values().map(|resource| resource.changes).sum();
        println!("{kills} kills, and {changes} changes of templates, within {seconds} s");
        ensure!(kills > 1, "the operator was hardly killed");

        env.cluster().operator_is_ready().await?;
        wait_for("all to be as it should", CONVERGED_LIMIT, || is_as_wanted(&env, &wanted)).await?;
        ensure!(self::calm(&env).await? == calm, "pods of a resource that nobody changed are others");
        Ok(())
    })
    .await
}

/// What a resource was last told.
#[derive(Clone, Debug, Default)]
struct Wanted {
    exists: bool,
    header: u64,
    confirms: bool,
    replicas: u64,
    /// How often the template of its pods was changed since it was made.
    changes: u64,
}

impl Wanted {
    fn spec(&self) -> Value {
        json!({
            "targetEmails": ["inbox@example.com"],
            "webhook": {"serviceRef": {"name": "webhook", "port": 8080}},
            "headerPrefixes": [format!("X-{}", self.header)],
            "delivery": {"mode": if self.confirms { "Confirm" } else { "Forward" }},
            "replicas": self.replicas,
            // The pods are of no interest, and take no memory.
            "podTemplate": {"nodeSelector": {"no": "node"}},
        })
    }
}

/// A number from 0 to one less than this.
fn random(below: u64) -> u64 {
    RandomState::new().build_hasher().finish() % below
}

/// Makes, changes, damages and deletes resources until it is time.
async fn change(env: &Env, until: Instant) -> anyhow::Result<BTreeMap<String, Wanted>> {
    let mut all = BTreeMap::new();
    while Instant::now() < until {
        let name = format!("inbox-{}", random(RESOURCES));
        let resource: &mut Wanted = all.entry(name.clone()).or_default();
        match random(8) {
            0 if resource.exists => {
                env.delete("MailLaser", &name).await?;
                *resource = Wanted::default();
                continue;
            }
            1 if resource.exists => {
                // By hand. It may not be there yet.
                let kind = ["Service", "Deployment", "ServiceAccount"][usize::try_from(random(3))?];
                let _ = env.delete(kind, &name).await;
                continue;
            }
            2 => resource.confirms = !resource.confirms,
            3 => resource.replicas = 2 - resource.replicas,
            _ => resource.header += 1,
        }
        resource.exists = true;
        resource.changes += 1;
        env.apply(
            &json!({
                "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailLaser", "metadata": {"name": name},
                "spec": resource.spec(),
            })
            .to_string(),
        )
        .await?;
        tokio::time::sleep(Duration::from_millis(random(200))).await;
    }
    Ok(all)
}

/// Kills whoever leads until it is time; how often.
async fn kill(cluster: &Cluster, until: Instant) -> anyhow::Result<u64> {
    let mut kills = 0;
    while Instant::now() < until {
        cluster.operator_is_ready().await?;
        tokio::time::sleep(Duration::from_millis(random(KILL_PAUSE_MILLISECONDS))).await;
        // Now and then, one dies without anybody to tell the others.
        cluster.kill_operator(random(4) > 0).await?;
        kills += 1;
    }
    Ok(kills)
}

async fn is_as_wanted(env: &Env, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<()> {
    for (name, resource) in wanted {
        if resource.exists {
            env.condition(name, "Ready").await?;
            is_in_force(env, name, resource).await.with_context(|| format!("{name}: {resource:?}"))?;
        }
    }
    nothing_is_left_over(env).await
}

async fn is_in_force(env: &Env, name: &str, resource: &Wanted) -> anyhow::Result<()> {
    let deployment = env.get("Deployment", name).await?;
    let variable =
        |name: &str| at(&deployment, &format!("/spec/template/spec/containers/0/env/name={name}/value"));
    ensure!(variable("MAIL_LASER_HEADER_PREFIX") == Some(&json!(format!("X-{}", resource.header))), "header");
    let mode = if resource.confirms { "confirm" } else { "forward" };
    ensure!(variable("MAIL_LASER_DELIVERY") == Some(&json!(mode)), "mode");
    ensure!(deployment["spec"]["replicas"] == resource.replicas, "replicas");
    for kind in ["Service", "ServiceAccount"] {
        env.get(kind, name).await?;
    }
    let budget = env.objects("PodDisruptionBudget")?.get_opt(name).await?;
    ensure!(budget.is_some() == (resource.replicas > 1), "the budget");
    // Who was killed half-way must not have taken a way round.
    let revision = &deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    let revision: u64 = revision.as_str().unwrap_or_default().parse()?;
    ensure!(
        revision <= resource.changes,
        "{revision} revisions of the pods for {} changes",
        resource.changes
    );
    Ok(())
}

/// Every object of the operator belongs to a resource that is there.
async fn nothing_is_left_over(env: &Env) -> anyhow::Result<()> {
    let resources = env.objects("MailLaser")?.list(&ListParams::default()).await?;
    let uids: Vec<_> = resources.items.iter().filter_map(|resource| resource.metadata.uid.clone()).collect();
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=mail-laser-operator");
    for kind in ["Deployment", "StatefulSet", "Service", "ServiceAccount", "PodDisruptionBudget", "Job"] {
        for object in env.objects(kind)?.list(&ours).await?.items {
            let owner = object.owner_references().first().map(|owner| owner.uid.clone());
            ensure!(owner.is_some_and(|owner| uids.contains(&owner)), "{kind} {} is left", object.name_any());
        }
    }
    Ok(())
}

/// The pods that nobody wanted changed, and how often their containers started.
async fn calm(env: &Env) -> anyhow::Result<BTreeMap<String, i32>> {
    let mut all = BTreeMap::new();
    for name in CALM {
        for pod in env.pods(name).await? {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            let restarts = statuses.into_iter().flatten().map(|container| container.restart_count).sum();
            all.insert(pod.uid().unwrap_or_default(), restarts);
        }
    }
    Ok(all)
}
