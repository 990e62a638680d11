//! Each field of `spec` is set, changed and removed: its effect shows in the objects of the resource, and is gone with it.
//! The table is in `tests/src/fields`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::stream::{StreamExt, TryStreamExt};
use kube::api::ListParams;
use mail_laser_e2e::fields::{Effect, Row, rows};
use mail_laser_e2e::{Env, in_namespace, wait_for};
use serde_json::{Map, Value, json};

use crate::objects::{at, contains};

/// How many rows are gone through at the same time; each waits most of the time.
const AT_ONCE: usize = 12;
/// A change is applied within a fraction of a second, but all at once may have to wait for each other.
const APPLIED_LIMIT: Duration = Duration::from_secs(60);

/// What a resource may own. What runs the pods goes when the other one has come.
const OWNED: [&str; 8] = [
    "Deployment",
    "StatefulSet",
    "Service",
    "ServiceAccount",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "HorizontalPodAutoscaler",
    "ConfigMap",
];

#[tokio::test]
async fn each_field_is_set_changed_and_removed() -> anyhow::Result<()> {
    in_namespace("fields", |env| async move {
        env.apply(REFERRED_TO).await?;
        go_through_all(&env, rows()).await
    })
    .await
}

/// Goes through rows, several at a time. What they refer to is there.
pub(crate) async fn go_through_all(env: &Env, rows: Vec<Row>) -> anyhow::Result<()> {
    println!("{} rows", rows.len());
    futures::stream::iter(rows)
        .map(|row| async move { go_through(env, &row).await.with_context(|| format!("row {}", row.name)) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn go_through(env: &Env, row: &Row) -> anyhow::Result<()> {
    let name = row.resource();
    let resource = json!({
        "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailLaser", "metadata": {"name": name}, "spec": row.spec(),
    });
    env.apply(&resource.to_string()).await?;
    env.wait_observed(&name).await?;
    let before = owned(env, row).await?;
    for effect in row.steps.iter().flat_map(|step| &step.effects).filter(|effect| effect.value.is_some()) {
        ensure!(shows(env, &name, effect).await.is_err(), "it shows before it is set: {effect:?}");
    }
    for (number, step) in row.steps.iter().enumerate() {
        env.patch("MailLaser", &name, json!({"spec": step.change})).await?;
        env.wait_observed(&name).await?;
        for effect in &step.effects {
            wait_for(&format!("what step {number} brings about"), APPLIED_LIMIT, || {
                shows(env, &name, effect)
            })
            .await?;
        }
        if row.is_immutable {
            take_back(env, row, number, &before).await?;
        }
    }
    take_back(env, row, row.steps.len() - 1, &before).await
}

/// Removes the field, and waits until nothing is left of it.
async fn take_back(env: &Env, row: &Row, number: usize, before: &Value) -> anyhow::Result<()> {
    let name = row.resource();
    env.patch("MailLaser", &name, json!({"spec": row.undo(&row.steps[..=number])})).await?;
    env.wait_observed(&name).await?;
    wait_for(&format!("what was before step {number}"), APPLIED_LIMIT, || async {
        let now = owned(env, row).await?;
        ensure!(now == *before, "before it was\n{before:#}\nand now it is\n{now:#}");
        Ok(())
    })
    .await
}

async fn shows(env: &Env, name: &str, effect: &Effect) -> anyhow::Result<()> {
    let object = env.get(effect.kind, &effect.object(name)).await?;
    let found = at(&object, &effect.pointer);
    let wanted = effect.value.as_ref().map(|value| in_namespace_of(env, value)).transpose()?;
    let fits = match (&wanted, found) {
        (Some(wanted), Some(found)) => contains(found, wanted),
        (wanted, found) => wanted.is_none() && found.is_none(),
    };
    ensure!(fits, "{} {} is {found:?}, not {wanted:?}", effect.kind, effect.pointer);
    Ok(())
}

fn in_namespace_of(env: &Env, value: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&value.to_string().replace("NAMESPACE", env.namespace()))?)
}

/// All objects of a resource, without what the cluster says of them. Of the Service also which one it is: it is never
/// made anew.
async fn owned(env: &Env, row: &Row) -> anyhow::Result<Value> {
    let mut all = Map::new();
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", row.resource()));
    let shown = row.steps.iter().flat_map(|step| &step.effects).map(|effect| effect.kind);
    let kinds: BTreeSet<_> = OWNED.into_iter().chain(shown.filter(|kind| *kind != "MailLaser")).collect();
    for kind in kinds {
        for object in env.objects(kind)?.list(&labelled).await?.items {
            let uid = object.metadata.uid.clone();
            let mut object = serde_json::to_value(object)?;
            let metadata = object["metadata"].as_object_mut().context("an object without metadata")?;
            metadata.retain(|field, _| {
                ["name", "labels", "annotations", "ownerReferences"].contains(&field.as_str())
            });
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("deployment.kubernetes.io/revision");
                if annotations.is_empty() {
                    metadata.remove("annotations");
                }
            }
            let spec = object["spec"].take();
            let metadata = object["metadata"].take();
            let uid = uid.filter(|_| kind == "Service");
            all.insert(kind.to_owned(), json!({"metadata": metadata, "spec": spec, "uid": uid}));
        }
    }
    Ok(all.into())
}

/// What rows refer to.
pub(crate) const REFERRED_TO: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: webhook}
spec: {ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {ports: [{port: 8081}]}
---
apiVersion: v1
kind: Secret
metadata: {name: hook}
stringData: {url: "https://secret.example.com", token: a, ca.crt: b, level: debug}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
stringData: {address: "https://other.example.com", second: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots}
data: {ca.crt: a, level: debug}
---
apiVersion: v1
kind: Secret
metadata: {name: pair}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
---
apiVersion: v1
kind: Secret
metadata: {name: second-pair}
type: kubernetes.io/tls
stringData: {tls.crt: c, tls.key: d}
"#;
