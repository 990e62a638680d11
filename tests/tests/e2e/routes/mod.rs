//! Routes: many teams at one gateway.

mod greedy;
mod neighbours;
mod rotation;
mod scale;
mod spool;
mod tenants;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::jiff::Timestamp;
use mail_laser_e2e::{Condition, Env, SmtpClient, wait_for};
use serde_json::{Value, json};

/// A status, a table and a look of the kubelet are a matter of a second or two; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A gateway named `edge`, with fields of its `spec` indented by two.
fn gateway(spec: &str) -> String {
    gateway_with("  delivery: {mode: Confirm}\n", spec)
}

/// The same, with another `delivery`.
fn gateway_with(delivery: &str, spec: &str) -> String {
    format!(
        "apiVersion: mail-laser.dev/v1alpha1
kind: MailLaser
metadata: {{name: edge}}
spec:
  probes:
    readiness: {{initialDelaySeconds: 0, periodSeconds: 1}}
{delivery}{spec}"
    )
}

/// A route to the gateway of a namespace, with fields of its `webhook` in the flow style.
fn route(name: &str, gateway: &Env, recipients: &[&str], webhook: &str) -> String {
    let recipients = json!(recipients);
    let namespace = gateway.namespace();
    format!(
        "apiVersion: mail-laser.dev/v1alpha1
kind: MailRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: edge, namespace: {namespace}}}]
  recipients: {recipients}
  webhook: {webhook}
"
    )
}

/// A Secret that routes may refer to.
fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let values: serde_json::Map<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: mail-laser.dev/webhook\nstringData: {}\n",
        Value::Object(values)
    )
}

/// The condition of a route at its only gateway.
async fn condition(env: &Env, name: &str, type_: &str) -> anyhow::Result<Condition> {
    let route = env.get("MailRoute", name).await?;
    let conditions = route["status"]["parents"][0]["conditions"].as_array().context("no conditions")?;
    let condition = conditions.iter().find(|it| it["type"] == type_).context("no such condition")?;
    ensure!(condition["observedGeneration"] == route["metadata"]["generation"], "of an earlier generation");
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Ok(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}

/// Waits until a condition has this reason.
async fn becomes(env: &Env, name: &str, type_: &str, reason: &str) -> anyhow::Result<Condition> {
    wait_for(&format!("{type_} of {name} is {reason}"), LIMIT, || async {
        let found = condition(env, name, type_).await?;
        ensure!(found.reason == reason, "{found:?}");
        Ok(found)
    })
    .await
}

/// Waits until every route that is still to be made is younger than this one: of two of the same second it is not their
/// age that decides.
async fn is_the_oldest_for_good(env: &Env, name: &str) -> anyhow::Result<()> {
    let route = env.get("MailRoute", name).await?;
    let made: Timestamp =
        route["metadata"]["creationTimestamp"].as_str().context("it was not made")?.parse()?;
    wait_for(&format!("the second after {name} was made"), LIMIT, || async {
        ensure!(Timestamp::now().as_second() > made.as_second(), "{made}");
        Ok(())
    })
    .await
}

/// What the gateway says of a recipient.
async fn recipient(smtp: SocketAddr, address: &str) -> anyhow::Result<u16> {
    let mut client = SmtpClient::greeted(smtp).await?;
    client.command("MAIL FROM:<ada@example.org>").await?.must_be(250)?;
    Ok(client.command(&format!("RCPT TO:<{address}>")).await?.code)
}

/// Waits until the gateway says this of a recipient.
async fn answers(smtp: SocketAddr, address: &str, code: u16) -> anyhow::Result<()> {
    wait_for(&format!("{code} for {address}"), LIMIT, || async {
        let found = recipient(smtp, address).await?;
        ensure!(found == code, "{found}");
        Ok(())
    })
    .await
}

/// The pods of the gateway, with how often each was started.
async fn pods(env: &Env) -> anyhow::Result<Vec<(String, i32)>> {
    let restarts = |pod: &k8s_openapi::api::core::v1::Pod| {
        let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        containers.map(|container| container.restart_count).sum()
    };
    let pods = env.pods("edge").await?;
    let mut pods: Vec<_> =
        pods.iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), restarts(pod))).collect();
    pods.sort();
    Ok(pods)
}
