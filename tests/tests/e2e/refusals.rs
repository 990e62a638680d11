//! What the API server does not let the operator write: the resource says so, the operator asks less and less often, and
//! goes on by itself when it may.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams};
use mail_laser_e2e::{
    Cluster, Condition, Env, OPERATOR_NAMESPACE, alone_in_namespace, in_namespace, mail_laser, wait_for,
};
use serde_json::{Value, json};

use crate::objects::at;

/// How long requests are counted: after waits of 1, 2, 4 and 8 s, each up to a half shorter, the next one is longer.
const LOOK: Duration = Duration::from_secs(15);
/// How often the operator may have tried in it: after 0, 0.5, 1.5, 3.5, 7.5 and 15.5 s at the most.
const TRIES_MAX: usize = 6;
/// For how long a right is waited for.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// A resource that was refused is looked at again within a minute.
const AGAIN_LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_policy_that_takes_an_object_for_invalid_stalls_the_resource() -> anyhow::Result<()> {
    refused_by_policy("invalid-by-policy", "Invalid", "Stalled", "Refused").await
}

#[tokio::test]
async fn a_policy_that_forbids_a_write_is_waited_for() -> anyhow::Result<()> {
    refused_by_policy("forbidden-by-policy", "Forbidden", "Reconciling", "Forbidden").await
}

async fn refused_by_policy(
    test: &str,
    how: &'static str,
    condition: &'static str,
    reason: &'static str,
) -> anyhow::Result<()> {
    in_namespace(test, move |env| async move {
        apply(&env).await?;
        let policy = policy(env.namespace(), how);
        env.cluster().apply(&policy).await?;
        let outcome = async {
            wait_for("the policy to be in force", Duration::from_secs(60), || async {
                let change = json!({"metadata": {"annotations": {"tried": "yes"}}});
                ensure!(env.patch("Deployment", "inbox", change).await.is_err(), "it is not");
                Ok(())
            })
            .await?;
            refused(&env, condition, reason, "nothing of mine").await?;
            if reason == "Forbidden" { stalls_in_the_end(&env, "policy or quota").await } else { Ok(()) }
        }
        .await;
        env.cluster().delete(&policy).await?;
        outcome?;
        goes_on(&env).await
    })
    .await
}

#[tokio::test]
async fn a_right_that_is_missing_is_waited_for() -> anyhow::Result<()> {
    alone_in_namespace("refused-rights", |env| async move {
        apply(&env).await?;
        let roles: Api<ClusterRole> = Api::all(env.cluster().client());
        let before = roles.get(OPERATOR).await?.rules.context("a role without rules")?;
        let mut fewer = before.clone();
        fewer
            .iter_mut()
            .filter(|rule| rule.api_groups.iter().flatten().any(|group| group == "apps"))
            .for_each(|rule| rule.verbs.retain(|verb| verb != "patch"));
        let set = async |rules: Value| {
            roles.patch(OPERATOR, &PatchParams::default(), &Patch::Merge(json!({"rules": rules}))).await
        };
        set(json!(fewer)).await?;
        let outcome = async {
            refused(&env, "Reconciling", "Forbidden", "cannot patch resource \"deployments\"").await?;
            stalls_in_the_end(&env, "deploy/rbac.yaml").await
        }
        .await;
        set(json!(before)).await?;
        outcome?;
        goes_on(&env).await
    })
    .await
}

const OPERATOR: &str = "mail-laser-operator";

async fn apply(env: &Env) -> anyhow::Result<()> {
    env.apply("apiVersion: v1\nkind: Service\nmetadata: {name: webhook}\nspec: {ports: [{port: 8080}]}\n")
        .await?;
    env.apply(&(mail_laser("inbox", "webhook") + "  replicas: 0\n")).await?;
    env.wait_ready("inbox").await
}

/// Changes the resource, and looks at what the operator makes of not being allowed to follow.
async fn refused(env: &Env, condition: &str, reason: &str, message: &str) -> anyhow::Result<()> {
    env.patch("MailLaser", "inbox", json!({"spec": {"headerPrefixes": ["X-Refused"]}})).await?;
    let Condition { message: said, .. } =
        env.wait_condition("inbox", condition, "True", Some(reason)).await?;
    ensure!(said.contains(message) && said.contains("Deployment"), "it does not say why: {said}");
    ensure!(env.condition("inbox", "Ready").await?.status == "False", "it is ready without being in force");

    let before = writes(env.cluster(), env.namespace()).await?.len();
    // The time is the point: that little happens in it.
    tokio::time::sleep(LOOK).await;
    let writes = writes(env.cluster(), env.namespace()).await?.split_off(before);
    let tries = writes.iter().filter(|write| write.starts_with("patch")).count();
    println!("{reason}: {tries} tries within {LOOK:?}");
    ensure!(tries <= TRIES_MAX, "a hot loop: {writes:#?}");
    // For each try, one as it would be if only the operator had ever written it.
    ensure!(writes.len() <= 2 * TRIES_MAX, "a hot loop: {writes:#?}");
    Ok(())
}

/// Has the time pass after which nobody waits any more, and looks for what a person is told to do.
async fn stalls_in_the_end(env: &Env, way_out: &str) -> anyhow::Result<()> {
    let mut conditions = env.get("MailLaser", "inbox").await?["status"]["conditions"].take();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = json!((Timestamp::now() - DEADLINE).strftime("%FT%TZ").to_string());
    }
    let status = json!({"status": {"conditions": conditions}});
    let resource = env.objects("MailLaser")?;
    resource.patch_status("inbox", &PatchParams::default(), &Patch::Merge(status)).await?;
    let Condition { message, .. } = env.wait_condition("inbox", "Stalled", "True", Some("Forbidden")).await?;
    ensure!(message.contains(way_out), "it does not say what to do: {message}");
    Ok(())
}

/// The operator's writes in a namespace.
async fn writes(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<String>> {
    let requests = cluster.requests_from(OPERATOR_NAMESPACE).await?.into_iter();
    let here = requests.filter(|request| request["objectRef"]["namespace"] == namespace);
    let writes = here.filter(|request| !["get", "list", "watch"].iter().any(|verb| request["verb"] == *verb));
    Ok(writes
        .map(|write| {
            let verb = write["verb"].as_str().unwrap_or_default();
            format!("{verb} {} {}", write["requestURI"], write["responseStatus"]["code"])
        })
        .collect())
}

async fn goes_on(env: &Env) -> anyhow::Result<()> {
    wait_for("the operator to go on", AGAIN_LIMIT, || async {
        let ready = env.condition("inbox", "Ready").await?;
        ensure!(ready.status == "True", "{ready:?}");
        Ok(())
    })
    .await?;
    let deployment = env.get("Deployment", "inbox").await?;
    let variable = "/spec/template/spec/containers/0/env/name=MAIL_LASER_HEADER_PREFIX/value";
    ensure!(at(&deployment, variable) == Some(&json!("X-Refused")), "{deployment}");
    Ok(())
}

/// A policy that lets nobody change a Deployment of a namespace.
fn policy(namespace: &str, how: &str) -> [Value; 2] {
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": namespace, "labels": {"mail-laser.dev/e2e": "true"}},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["UPDATE"],
                }]},
                "validations": [{"expression": "false", "message": "nothing of mine is changed", "reason": how}],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace, "labels": {"mail-laser.dev/e2e": "true"}},
            "spec": {
                "policyName": namespace,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
            },
        }),
    ]
}
