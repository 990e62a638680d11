//! End-to-end tests on a real Kubernetes, one file per behaviour. `make e2e` runs them.

mod autoscaling;
mod chaos;
mod circuit;
mod confirm;
mod disruption;
mod documentation;
mod drift;
mod field_set;
mod fields;
mod first_mail;
mod hostile_smtp;
mod leader;
mod monitoring;
mod name_conflict;
mod network_policy;
mod objects;
mod pod_template;
mod printed_columns;
mod proxy;
mod refusals;
mod refused_configuration;
mod repairs;
mod restart;
mod routes;
mod samples;
mod scale;
mod scope;
mod secrets;
mod service;
mod service_links;
mod spool;
mod spool_claims;
mod spool_drains;
mod spool_modes;
mod steady_state;
mod suspend;
mod tls;
mod trouble;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use mail_laser_e2e::receiver::Received;
use mail_laser_e2e::{Env, Letter, Reach, Webhook, mail_laser, wait_for};

/// A webhook and a ready `MailLaser` named `inbox` that forwards to it; `spec` is appended to its spec.
async fn inbox(env: &Env, spec: &str) -> anyhow::Result<(Webhook, Reach)> {
    let webhook = env.deploy_webhook("webhook").await?;
    env.apply(&format!("{}{spec}", mail_laser("inbox", "webhook"))).await?;
    env.wait_ready("inbox").await?;
    let smtp = env.reach_service("inbox", 25).await?;
    Ok((webhook, smtp))
}

/// Sends a letter until one arrives as it should: a Service lets go of the old pods a moment after a rollout.
async fn arrives(
    webhook: &Webhook,
    server: SocketAddr,
    letter: &Letter,
    fits: impl Fn(&Received) -> bool,
) -> anyhow::Result<()> {
    wait_for("a mail from the new pods", Duration::from_secs(30), || async {
        letter.send(server).await?;
        let received = webhook.received().await?;
        ensure!(received.iter().any(&fits), "the last of {}: {:?}", received.len(), received.last());
        Ok(())
    })
    .await
}
