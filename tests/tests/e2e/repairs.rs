//! What somebody changes by hand: each field that the operator sets comes back, and what it does not set stays.
//!
//! Which fields it sets is in the objects themselves: the field sets that the API server keeps.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use kube::api::PostParams;
use mail_laser_e2e::fields::{Effect, base, rows};
use mail_laser_e2e::{Env, in_namespace, wait_for};
use serde_json::{Value, json};

use crate::field_set::{Path, in_force, owned_paths};
use crate::objects::{at, contains};

const REPAIR_LIMIT: Duration = Duration::from_secs(30);

/// Rows whose first values go together, and make a resource that sets most of what can be set.
const SET: [&str; 19] = [
    "webhook.bearerTokenFrom",
    "webhook.caBundleFrom",
    "headerPrefixes",
    "tls.secretName",
    "tls.smtpsPort",
    "env",
    "imagePullSecrets",
    "resources.limits",
    "resources.requests",
    "podTemplate.labels",
    "podTemplate.annotations",
    "podTemplate.tolerations",
    "podTemplate.affinity",
    "podTemplate.topologySpreadConstraints",
    "podTemplate.priorityClassName",
    "service.annotations",
    "networkPolicy",
    "autoscaling",
    "monitoring.dashboard",
];

#[tokio::test]
async fn each_field_that_is_set_comes_back() -> anyhow::Result<()> {
    in_namespace("repairs", |env| async move {
        env.apply(crate::fields::REFERRED_TO).await?;
        // A part of the fields of each object, so that all are done soon.
        let mut parts = Vec::new();
        for (kind, resource, spec, of) in [
            ("Deployment", "memory", json!({}), 6),
            ("StatefulSet", "disk", spool(), 6),
            ("Service", "front", json!({}), 1),
            ("ServiceAccount", "identity", json!({}), 1),
            ("PodDisruptionBudget", "budget", json!({"replicas": 2}), 1),
            ("NetworkPolicy", "policy", json!({}), 1),
            ("HorizontalPodAutoscaler", "load", json!({}), 1),
            ("ConfigMap", "panels", json!({}), 1),
            ("Secret", "table", json!({}), 1),
        ] {
            for number in 0..of {
                parts.push((kind, format!("{resource}-{number}"), spec.clone(), number, of));
            }
        }
        try_join_all(parts.into_iter().map(|(kind, name, spec, number, of)| {
            let env = env.clone();
            async move {
                apply(&env, &name, &spec).await?;
                let name = object(kind, &name);
                let paths = settled(&env, kind, &name).await?;
                let mine: Vec<_> = paths.into_iter().skip(number).step_by(of).collect();
                let (mut changed, mut fixed) = (0, Vec::new());
                for path in &mine {
                    let done = change_and_remove(&env, kind, &name, path).await;
                    let done = done.with_context(|| format!("{kind} {name} {path}"))?;
                    match done {
                        Some(number) => changed += number,
                        None => fixed.push(path.to_string()),
                    }
                }
                let all = mine.len();
                println!(
                    "{kind} {name}: {changed} changes of {all} fields were repaired, none possible: {fixed:?}"
                );
                // The selector of pods, for instance.
                ensure!(changed > 0 && fixed.len() * 4 <= all, "hardly anything was changed");
                Ok(())
            }
        }))
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_deleted_comes_back_and_what_others_set_stays() -> anyhow::Result<()> {
    in_namespace("others", |env| async move {
        env.apply(crate::fields::REFERRED_TO).await?;
        apply(&env, "memory", &json!({"replicas": 2})).await?;
        apply(&env, "disk", &spool()).await?;
        let kinds = [
            ("Deployment", "memory"),
            ("Service", "memory"),
            ("ServiceAccount", "memory"),
            ("PodDisruptionBudget", "memory"),
            ("NetworkPolicy", "memory"),
            ("HorizontalPodAutoscaler", "memory"),
            ("ConfigMap", "memory-dashboard"),
            ("Secret", "memory-routes"),
            ("StatefulSet", "disk"),
        ];
        for (kind, name) in kinds {
            let before = env.get(kind, name).await?;
            env.delete(kind, name).await?;
            wait_for(&format!("a new {kind}"), REPAIR_LIMIT, || async {
                let now = env.get(kind, name).await?;
                ensure!(now["metadata"]["uid"] != before["metadata"]["uid"], "still the old one");
                Ok(())
            })
            .await?;
        }

        for (kind, name) in kinds {
            settled(&env, kind, name).await?;
            write(&env, kind, name, |object| {
                foreign(kind).into_iter().for_each(|(pointer, value)| put(object, pointer, value));
            })
            .await?;
        }
        // Something that changes each of them but the identity and the budget.
        let change = json!({"spec": {
            "headerPrefixes": ["X-Later"], "service": {"annotations": {"later": "1"}, "port": 26},
        }});
        for name in ["memory", "disk"] {
            env.patch("MailLaser", name, change.clone()).await?;
            env.wait_observed(name).await?;
        }
        let service = env.get("Service", "memory").await?;
        ensure!(at(&service, "/spec/ports/name=smtp/port") == Some(&json!(26)), "{service}");
        for (kind, name) in kinds {
            let object = env.get(kind, name).await?;
            for (pointer, value) in foreign(kind) {
                let found = at(&object, pointer);
                let is_there = match found {
                    Some(Value::Array(items)) => items.iter().any(|item| contains(item, &value)),
                    found => found == Some(&value),
                };
                ensure!(is_there, "{kind} {pointer}: {value} became {found:?}");
            }
        }
        Ok(())
    })
    .await
}

/// What somebody puts in the place of a field of ours, so that ours cannot be put beside it.
#[tokio::test]
async fn what_cannot_be_beside_ours_goes() -> anyhow::Result<()> {
    in_namespace("excluded", |env| async move {
        env.apply(crate::fields::REFERRED_TO).await?;
        apply(&env, "memory", &json!({"replicas": 2})).await?;
        apply(&env, "disk", &spool()).await?;
        let probe = |object: &mut Value| {
            let template = &mut object["spec"]["template"]["spec"];
            template["containers"][0]["livenessProbe"] =
                json!({"exec": {"command": ["/mail-laser", "--help"]}});
        };
        type Edit = fn(&mut Value);
        let edits: [(&str, &str, Edit); 4] = [
            ("Deployment", "memory", probe),
            ("StatefulSet", "disk", probe),
            ("Service", "memory", |object| object["spec"]["ports"][0]["port"] = json!(2626)),
            ("PodDisruptionBudget", "memory", |object| {
                remove(object, "/spec/maxUnavailable");
                object["spec"]["minAvailable"] = json!(2);
            }),
        ];
        for (kind, name, edit) in edits {
            let paths = settled(&env, kind, name).await?;
            let before = env.get(kind, name).await?;
            let written = write(&env, kind, name, edit).await?;
            let written = written.with_context(|| format!("the API server refuses the edit of {kind}"))?;
            ensure!(written["spec"] != before["spec"], "{kind} is as it was");
            wait_for(&format!("{kind} as it was"), REPAIR_LIMIT, || async {
                let now = env.get(kind, name).await?;
                for path in &paths {
                    let (was, is) = (path.find(&before), path.find(&now));
                    let is_as_it_was = was.zip(is).is_some_and(|(was, is)| in_force(is, was));
                    ensure!(is_as_it_was, "{path} was {was:?} and is {is:?}");
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

/// What others put into objects: a pointer, and a value for it, or an item for the list that is there.
fn foreign(kind: &str) -> Vec<(&'static str, Value)> {
    let template = [
        ("/spec/minReadySeconds", json!(3)),
        ("/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt", json!("now")),
        ("/spec/template/metadata/labels/mesh", json!("in")),
        ("/spec/template/spec/hostAliases", json!({"ip": "192.0.2.1", "hostnames": ["a"]})),
        ("/spec/template/spec/volumes", json!({"name": "scratch", "emptyDir": {}})),
        ("/spec/template/spec/containers", json!({"name": "sidecar", "image": "localhost/sidecar:1"})),
        ("/spec/template/spec/containers/0/env", json!({"name": "OTHER", "value": "1"})),
    ];
    let mut all = vec![
        ("/metadata/labels/team", json!("support")),
        ("/metadata/annotations/example.com~1note", json!("mine")),
    ];
    match kind {
        "Deployment" | "StatefulSet" => all.extend(template),
        "Service" => all.extend([
            ("/spec/publishNotReadyAddresses", json!(true)),
            ("/spec/ports", json!({"name": "other", "port": 8025, "targetPort": 2525, "protocol": "TCP"})),
        ]),
        "ServiceAccount" => all.push(("/imagePullSecrets", json!({"name": "other"}))),
        _ => {}
    }
    all
}

/// Sets a field, or adds an item to a list.
fn put(object: &mut Value, pointer: &str, value: Value) {
    const LISTS: [&str; 6] = ["hostAliases", "volumes", "containers", "env", "ports", "imagePullSecrets"];
    let mut place = object;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/");
        place = match step.parse::<usize>() {
            Ok(number) if place.is_array() => &mut place[number],
            _ => &mut place[step],
        };
    }
    if LISTS.iter().any(|list| pointer.ends_with(list)) {
        match place.as_array_mut() {
            Some(items) => items.push(value),
            None => *place = json!([value]),
        }
    } else {
        *place = value;
    }
}

/// The name of the object of a resource.
fn object(kind: &'static str, resource: &str) -> String {
    Effect { kind, pointer: String::new(), value: None }.object(resource)
}

fn spool() -> Value {
    json!({"delivery": {"mode": "Spool", "spool": {"size": "1Gi", "storageClassName": "none"}}})
}

/// A resource with most fields set.
async fn apply(env: &Env, name: &str, spec: &Value) -> anyhow::Result<()> {
    let resource = json!({
        "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailLaser", "metadata": {"name": name}, "spec": base(),
    });
    env.apply(&resource.to_string()).await?;
    // Pods, if there are any, have no node to run on.
    let mut changes = vec![json!({"podTemplate": {"nodeSelector": {"no": "node"}}})];
    changes
        .extend(rows().iter().filter(|row| SET.contains(&row.name)).map(|row| row.steps[0].change.clone()));
    changes.push(spec.clone());
    for change in changes {
        env.patch("MailLaser", name, json!({"spec": change})).await?;
    }
    env.wait_observed(name).await
}

/// What the operator sets of an object, when it has done with it.
async fn settled(env: &Env, kind: &str, name: &str) -> anyhow::Result<Vec<Path>> {
    wait_for(&format!("{kind} {name}"), REPAIR_LIMIT, || async {
        let object = env.get(kind, name).await?;
        let paths = owned_paths(&object);
        ensure!(!paths.is_empty(), "the operator has no field in it");
        Ok(paths)
    })
    .await
}

/// Changes a field in the ways that the API server lets one, and removes it; how often something became another, or
/// nothing when the API server lets nobody change it.
async fn change_and_remove(env: &Env, kind: &str, name: &str, path: &Path) -> anyhow::Result<Option<usize>> {
    let before = env.get(kind, name).await?;
    let Some(pointer) = path.pointer(&before) else { return Ok(Some(0)) };
    let values = owned_paths(&before);
    let wanted: Vec<_> = values.iter().filter_map(|path| Some((path, path.find(&before)?))).collect();
    let mut taken = 0;
    let mut changed = 0;
    let was = before.pointer(&pointer).cloned().unwrap_or_default();
    let others = if path.is_key() { Vec::new() } else { candidates(path, &was) };
    for other in others.into_iter().map(Some).chain([None]) {
        if other.is_some() && taken > 0 {
            continue;
        }
        let written = write(env, kind, name, |object| match (&other, path.pointer(object)) {
            (Some(value), Some(pointer)) => {
                object.pointer_mut(&pointer).into_iter().for_each(|place| *place = value.clone());
            }
            (None, Some(pointer)) => remove(object, &pointer),
            (_, None) => {}
        })
        .await?;
        let Some(written) = written else { continue };
        taken += 1;
        changed += usize::from(path.find(&written) != Some(&was));
        wait_for(&format!("{path} after {other:?}"), REPAIR_LIMIT, || async {
            let now = env.get(kind, name).await?;
            for (path, value) in &wanted {
                let found = path.find(&now);
                ensure!(
                    found.is_some_and(|found| in_force(found, value)),
                    "{path} is {found:?}, not {value}"
                );
            }
            Ok(())
        })
        .await?;
    }
    Ok((taken > 0 || path.is_key()).then_some(changed))
}

/// Values beside the one that is there. The API server may refuse some.
fn candidates(path: &Path, was: &Value) -> Vec<Value> {
    /// Where only some words are possible.
    const WORDS: [&str; 13] = [
        "Always",
        "Never",
        "Unconfined",
        "Recreate",
        "OnDelete",
        "Delete",
        "HTTPS",
        "UDP",
        "File",
        "Default",
        "ClientIP",
        "Local",
        "IfHealthyBudget",
    ];
    match was {
        Value::String(text) if path.to_string().contains("/resources/") => {
            vec![json!(if text == "65Mi" { "66Mi" } else { "65Mi" })]
        }
        Value::String(text) => {
            let words = WORDS.iter().filter(|word| *word != text).map(|word| json!(word));
            [json!(format!("{text}x"))].into_iter().chain(words).collect()
        }
        Value::Number(number) => vec![json!(number.as_i64().unwrap_or_default() + 1)],
        Value::Bool(value) => vec![json!(!value)],
        _ => Vec::new(),
    }
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return };
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.remove(&last.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            last.parse().ok().filter(|index| *index < items.len()).map(|index: usize| items.remove(index));
        }
        _ => {}
    }
}

/// Writes an object as `kubectl edit` does; `None` when the API server refuses what it would be.
async fn write(
    env: &Env,
    kind: &str,
    name: &str,
    change: impl Fn(&mut Value),
) -> anyhow::Result<Option<Value>> {
    let api = env.objects(kind)?;
    let parameters = PostParams { field_manager: Some("kubectl-edit".to_owned()), ..PostParams::default() };
    loop {
        let mut object = env.get(kind, name).await?;
        change(&mut object);
        match api.replace(name, &parameters, &serde_json::from_value(object)?).await {
            Ok(written) => return Ok(Some(serde_json::to_value(written)?)),
            // The cluster's own controllers write to it, too.
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_invalid() || status.code == 400 => return Ok(None),
            Err(error) => return Err(error).context("it could not be written"),
        }
    }
}
