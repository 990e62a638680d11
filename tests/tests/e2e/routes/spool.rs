//! A gateway that keeps mail on disk.

use std::net::SocketAddr;

use anyhow::ensure;
use mail_laser_e2e::receiver::Behaviour;
use mail_laser_e2e::{Env, SmtpClient, in_namespace, wait_for};

use super::{LIMIT, answers, gateway_with, route};
use crate::spool::{ARRIVAL_LIMIT, failing, replaced, uids};

#[tokio::test]
async fn mails_outlive_pods_and_wait_for_nobody_else() -> anyhow::Result<()> {
    in_namespace("routes-spool", |env| async move {
        let (up, down) = (env.deploy_webhook("up").await?, env.deploy_webhook("down").await?);
        down.behave(failing()).await?;
        env.apply(&gateway_with(&env.spool(1).await?, "")).await?;
        let to = |service: &str| {
            format!(
                "{{serviceRef: {{name: {service}, port: 8080}}, maxRetries: 0, circuitBreaker: {{threshold: 1, \
                 resetSeconds: 1}}}}"
            )
        };
        env.apply(&route("billing", &env, &["*@example.com"], &to("up"))).await?;
        env.apply(&route("orders", &env, &["orders+*@example.com"], &to("down"))).await?;
        env.apply(&route("closed", &env, &["closed@example.com"], &to("down"))).await?;
        env.wait_ready("edge").await?;
        let smtp = env.reach_service("edge", 25).await?;
        for address in ["a@example.com", "orders+1@example.com", "closed@example.com"] {
            answers(smtp.address(), address, 250).await?;
        }
        is_explained(&env).await?;

        for subject in ["first", "second"] {
            send(smtp.address(), "orders+1@example.com", subject).await?;
            send(smtp.address(), "a@example.com", &format!("beside {subject}")).await?;
            up.wait_for_mail(&format!("beside {subject}")).await?;
        }
        send(smtp.address(), "closed@example.com", "given up").await?;
        let before = uids(&env, "edge").await?;
        env.delete("Pod", "edge-0").await?;
        replaced(&env, "edge", &before, &["edge-0"]).await?;
        // The Service may learn of the pod a moment later.
        answers(smtp.address(), "a@example.com", 250).await?;
        send(smtp.address(), "a@example.com", "after the pod").await?;
        up.wait_for_mail("after the pod").await?;

        env.delete("MailRoute", "closed").await?;
        answers(smtp.address(), "orders+1@example.com", 250).await?;
        dead_letter(&env, "closed").await?;
        down.behave(Behaviour::default()).await?;
        wait_for("what was on disk", ARRIVAL_LIMIT, || async {
            let mut arrived: Vec<_> = down.accepted_subjects().await?;
            arrived.sort();
            ensure!(arrived == ["first", "second"], "{arrived:?}");
            Ok(())
        })
        .await
    })
    .await
}

/// In the pod, as docs/routes.md says.
async fn is_explained(env: &Env) -> anyhow::Result<()> {
    if !env.cluster().is_ours() {
        println!("not done: commands in pods, for which the script of the test cluster is needed");
        return Ok(());
    }
    let told =
        env.exec("edge-0", &["/mail-laser", "route", "explain", "--json", "Orders+May@Example.com"]).await?;
    println!("{told}");
    let told: serde_json::Value = serde_json::from_str(&told)?;
    let route = |name: &str| format!("{}/{name}", env.namespace());
    let taken = &told["taken"];
    ensure!(taken["route"] == route("orders") && taken["pattern"] == "orders+*@example.com", "{told}");
    let other = &told["others"][0];
    ensure!(other["route"] == route("billing") && other["pattern"] == "*@example.com", "{told}");
    Ok(())
}

/// Waits until the mail to a route that is gone is kept as one, with the reason.
async fn dead_letter(env: &Env, route: &str) -> anyhow::Result<()> {
    if !env.cluster().is_ours() {
        return Ok(());
    }
    wait_for("a dead letter", LIMIT, || async {
        let listed = env.exec("edge-0", &["/mail-laser", "spool", "list", "--dead", "--json"]).await?;
        ensure!(listed.lines().count() == 1, "{listed}");
        ensure!(listed.contains(&format!("{}/{route}", env.namespace())), "{listed}");
        println!("{listed}");
        Ok(())
    })
    .await
}

async fn send(smtp: SocketAddr, recipient: &str, subject: &str) -> anyhow::Result<()> {
    let mut client = SmtpClient::greeted(smtp).await?;
    client.mail(recipient, &format!("Subject: {subject}\r\n\r\n")).await?.must_be(250)?;
    Ok(())
}
