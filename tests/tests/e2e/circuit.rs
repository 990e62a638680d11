//! The circuit breaker, as log, metrics and webhook show it.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Env, Letter, Metrics, in_namespace, wait_for};

use crate::inbox;

/// One attempt for each mail, and a reset that the test can wait for.
const SPEC: &str = "    maxRetries: 0\n    circuitBreaker: {threshold: 5, resetSeconds: 10}\n";

/// For what takes a moment.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn five_failed_mails_open_the_circuit_and_one_probe_closes_it() -> anyhow::Result<()> {
    in_namespace("circuit", |env| async move {
        let (webhook, smtp) = inbox(&env, SPEC).await?;
        let pod = env.pod("inbox").await?;
        webhook.behave(Behaviour { status: 500, times: Some(5), ..Behaviour::default() }).await?;
        for number in 1..=5 {
            Letter::to("inbox@example.com").subject(&format!("fails {number}")).send(smtp.address()).await?;
            metric_is(&env, &pod, &[("outcome", "failed")], f64::from(number)).await?;
        }
        state_is(&env, &pod, 2.0).await?;

        for number in 1..=3 {
            Letter::to("inbox@example.com")
                .subject(&format!("dropped {number}"))
                .send(smtp.address())
                .await?;
        }
        metric_is(&env, &pod, &[("outcome", "dropped")], 3.0).await?;
        ensure!(webhook.counts().await?.received == 5, "the open circuit let a request through");
        wait_for("three warnings and an error", LIMIT, || async {
            let log = env.log(&pod).await?;
            let lines = |level: &str, what: &str| {
                log.lines().filter(|line| line.contains(level) && line.contains(what)).count()
            };
            let (warnings, opened) = (lines("WARN", "drop"), lines("ERROR", "circuit opened"));
            ensure!((warnings, opened) == (3, 1), "{warnings} warnings and {opened} errors:\n{log}");
            Ok(())
        })
        .await?;

        // The webhook is well again; the first mail after the reset finds out.
        wait_for("the probe", Duration::from_secs(40), || async {
            let mails = async || Ok(env.metrics(&pod).await?.count("mail_laser_messages_total", &[]));
            let before = mails().await?;
            Letter::to("inbox@example.com").subject("probe").send(smtp.address()).await?;
            wait_for("the end of the mail", LIMIT, || async {
                let now: anyhow::Result<f64> = mails().await;
                ensure!(now? > before, "it is under way");
                Ok(())
            })
            .await?;
            let accepted = webhook.counts().await?.accepted;
            ensure!(accepted == 1, "{accepted} accepted");
            Ok(())
        })
        .await?;
        state_is(&env, &pod, 0.0).await?;
        Letter::to("inbox@example.com").subject("closed again").send(smtp.address()).await?;
        webhook.wait_for_mail("closed again").await?;
        metric_is(&env, &pod, &[("outcome", "forwarded")], 2.0).await
    })
    .await
}

async fn metric_is(env: &Env, pod: &Pod, labels: &[(&str, &str)], value: f64) -> anyhow::Result<()> {
    reads(
        env,
        pod,
        &format!("{labels:?} at {value}"),
        |metrics| metrics.count("mail_laser_messages_total", labels),
        value,
    )
    .await
}

async fn state_is(env: &Env, pod: &Pod, value: f64) -> anyhow::Result<()> {
    let state = |metrics: &Metrics| {
        metrics.sum("mail_laser_circuit_breaker_state", &[("route", "default")]).unwrap_or(f64::NAN)
    };
    reads(env, pod, &format!("the breaker's state {value}"), state, value).await
}

async fn reads(
    env: &Env,
    pod: &Pod,
    what: &str,
    read: impl Fn(&Metrics) -> f64,
    value: f64,
) -> anyhow::Result<()> {
    wait_for(what, LIMIT, || async {
        let found = read(&env.metrics(pod).await?);
        ensure!((found - value).abs() < f64::EPSILON, "it is {found}");
        Ok(())
    })
    .await
}
