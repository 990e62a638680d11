//! Routes that fill the gateway's table.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use mail_laser_e2e::{Authority, Env, in_namespace, wait_for};
use serde_json::json;

use super::{LIMIT, answers, becomes, condition, gateway, is_the_oldest_for_good, route};

/// Three of them fit into the one part of a gateway for its own namespace, and a fourth does not.
const BUNDLE_BYTES: usize = 240 * 1024;

/// The annotation by which a pod is told.
const GENERATION: &str = "mail-laser.dev/routes-generation";

#[tokio::test]
async fn a_table_that_is_full_stays_in_force_and_takes_changes() -> anyhow::Result<()> {
    in_namespace("routes-greedy", |env| async move {
        env.apply(&gateway("")).await?;
        let pem = Authority::new()?.issue()?.pem();
        let roots = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "roots"},
            "data": {"ca.crt": pem.repeat(BUNDLE_BYTES / pem.len()), "odd": "-----BEGIN CERTIFICATE-----"},
        });
        env.apply(&roots.to_string()).await?;
        let webhook = |key: &str| {
            format!(
                "{{url: 'https://hook.example.com/', caBundleFrom: {{configMapKeyRef: {{name: roots, key: {key}}}}}}}"
            )
        };
        for name in ["one", "two", "three"] {
            let recipient = format!("{name}@example.com");
            env.apply(&route(name, &env, &[&recipient], &webhook("ca.crt"))).await?;
            becomes(&env, name, "Programmed", "Programmed").await?;
        }
        is_the_oldest_for_good(&env, "three").await?;
        env.apply(&route("four", &env, &["four@example.com"], &webhook("ca.crt"))).await?;
        let told = becomes(&env, "four", "Programmed", "TooManyRoutes").await?;
        ensure!(told.message.contains("a bundle of certificates"), "{told:?}");
        for name in ["one", "two", "three"] {
            let told = condition(&env, name, "Programmed").await?;
            ensure!(told.status == "True", "{name}: {told:?}");
        }
        // What is no root of trust is not told to be in force.
        env.apply(&route("odd", &env, &["odd@example.com"], &webhook("odd"))).await?;
        becomes(&env, "odd", "ResolvedRefs", "InvalidWebhook").await?;

        env.wait_ready("edge").await?;
        let smtp = env.reach_service("edge", 25).await?;
        let changed = ["two@example.com", "more@example.com"];
        env.apply(&route("two", &env, &changed, &webhook("ca.crt"))).await?;
        for (address, code) in [("more@example.com", 250), ("four@example.com", 451), ("odd@example.com", 451)] {
            answers(smtp.address(), address, code).await?;
        }
        // A kubelet that heard of the pod first has looked too early.
        is_told(&env, "/again").await?;
        // What is told is seen from the pods, whatever became of the annotation.
        let name = env.pod("edge").await?.name_any();
        env.patch("Pod", &name, json!({"metadata": {"annotations": {GENERATION: null}}})).await?;
        is_told(&env, "").await?;
        env.delete("MailRoute", "one").await?;
        becomes(&env, "four", "Programmed", "Programmed").await?;
        answers(smtp.address(), "four@example.com", 250).await?;
        answers(smtp.address(), "one@example.com", 550).await
    })
    .await
}

/// Waits until the pod was told of a generation, by an annotation that ends like this.
async fn is_told(env: &Env, end: &str) -> anyhow::Result<()> {
    wait_for("the pod is told of its routes", LIMIT, || async {
        let annotations = env.pod("edge").await?.metadata.annotations.unwrap_or_default();
        let told = annotations.get(GENERATION).context("it was told nothing")?;
        ensure!(told.ends_with(end), "{told}");
        Ok(())
    })
    .await
}
