//! Two teams and an attacker: what one may not take, see or reach of another's.

use std::time::Instant;

use anyhow::{Context, ensure};
use mail_laser_e2e::{Env, SmtpClient, in_another_namespace, in_namespace};
use serde_json::{Value, json};

use super::{answers, becomes, condition, gateway, is_the_oldest_for_good, pods, recipient, route, secret};

const TOKEN: &str = "s3cret-token-of-team-a";

#[tokio::test]
async fn nobody_takes_sees_or_reaches_what_is_anothers() -> anyhow::Result<()> {
    in_namespace("routes-edge", |edge| async move {
        in_another_namespace("routes-team", |team| async move {
            in_another_namespace("routes-evil", |evil| async move { tenants(&edge, &team, &evil).await })
                .await
        })
        .await
    })
    .await
}

fn grants(team: &Env) -> String {
    format!(
        "  allowedRoutes:
  - namespaces: {{from: Selector, selector: {{matchLabels: {{kubernetes.io/metadata.name: {}}}}}}}
    domains: [team.example.com, \"*.team.example.com\"]
  - namespaces: {{from: All}}
    domains: [example.com]
",
        team.namespace()
    )
}

async fn tenants(edge: &Env, team: &Env, evil: &Env) -> anyhow::Result<()> {
    edge.apply(&gateway(&grants(team))).await?;
    edge.wait_condition("edge", "Ready", "True", Some("NoRecipients")).await?;
    let smtp = edge.reach_service("edge", 25).await?;
    let smtp = smtp.address();
    ensure!(recipient(smtp, "a@team.example.com").await? == 550, "nobody has it yet");
    let before = pods(edge).await?;

    let webhook = team.deploy_webhook("hook").await?;
    team.apply(&secret("hook", &[("token", TOKEN), ("sign", "s3cret-key")])).await?;
    let begin = Instant::now();
    let to_hook = "{serviceRef: {name: hook, port: 8080, path: /team}, bearerTokenFrom: {secretKeyRef: {name: hook, \
                   key: token}}, headers: {X-Team: a}, signing: {secretRefs: [{name: hook, key: sign}]}}";
    team.apply(&route("team", edge, &["*@team.example.com", "shared@example.com"], to_hook)).await?;
    answers(smtp, "a@team.example.com", 250).await?;
    println!("a route takes mail {:.2} s after it was applied", begin.elapsed().as_secs_f32());
    becomes(team, "team", "Programmed", "Programmed").await?;
    becomes(team, "team", "Accepted", "Accepted").await?;
    SmtpClient::greeted(smtp)
        .await?
        .mail("A@Team.example.com", "Subject: first\r\n\r\n")
        .await?
        .must_be(250)?;
    let received = webhook.wait_for_mail("first").await?;
    ensure!(received.path == "/team", "{}", received.path);
    ensure!(received.headers["authorization"] == format!("Bearer {TOKEN}"), "no token");
    ensure!(received.headers["x-team"] == "a", "{:?}", received.headers);
    for header in ["x-maillaser-signature-256", "x-maillaser-timestamp", "webhook-signature"] {
        ensure!(received.headers.contains_key(header), "no {header}: {:?}", received.headers);
    }
    edge.wait_condition("edge", "Ready", "True", Some("Available")).await?;
    ensure!(edge.get("MailLaser", "edge").await?["status"]["routes"] == 1, "the gateway counts its routes");

    attacks(edge, team, evil, smtp).await?;
    secrets_stay_secret(edge, evil).await?;
    // What is anothers' was never touched, and nothing of all this restarted a pod.
    ensure!(recipient(smtp, "b@team.example.com").await? == 250, "the team lost a recipient");
    grants_are_withdrawn(edge, team, evil, smtp).await?;
    ensure!(pods(edge).await? == before, "{before:?} became {:?}", pods(edge).await?);
    Ok(())
}

async fn attacks(edge: &Env, team: &Env, evil: &Env, smtp: std::net::SocketAddr) -> anyhow::Result<()> {
    let url = "{url: 'https://evil.example.com/'}";
    // Domains and recipients of others.
    is_the_oldest_for_good(team, "team").await?;
    evil.apply(&route(
        "thief",
        edge,
        &["x@team.example.com", "*@*.team.example.com", "shared@example.com"],
        url,
    ))
    .await?;
    let accepted = becomes(evil, "thief", "Accepted", "NotAllowed").await?;
    ensure!(
        accepted.message.contains("shared@example.com: a route of another namespace has it"),
        "{accepted:?}"
    );
    ensure!(!accepted.message.contains(team.namespace()), "the winner is named: {accepted:?}");
    // Secrets of another namespace, and of another type.
    let with_token = |name: &str| {
        format!(
            "{{url: 'https://evil.example.com/', bearerTokenFrom: {{secretKeyRef: {{name: {name}, key: token}}}}}}"
        )
    };
    evil.apply(&route("foreign-secret", edge, &["e1@example.com"], &with_token("hook"))).await?;
    becomes(evil, "foreign-secret", "ResolvedRefs", "SecretNotFound").await?;
    evil.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: pull}\nstringData: {token: s3cret-pull}\n")
        .await?;
    evil.apply(&route("any-secret", edge, &["e2@example.com"], &with_token("pull"))).await?;
    let resolved = becomes(evil, "any-secret", "ResolvedRefs", "WrongSecretType").await?;
    ensure!(resolved.message.contains("mail-laser.dev/webhook"), "{resolved:?}");
    // Services that lead elsewhere, also when they begin to.
    evil.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: elsewhere}\nspec: {type: ExternalName, externalName: \
         metadata.example.com}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: turns}\nspec: {ports: [{port: \
         80}]}\n",
    )
    .await?;
    let to = |name: &str| format!("{{serviceRef: {{name: {name}, port: 80}}}}");
    evil.apply(&route("external", edge, &["e3@example.com"], &to("elsewhere"))).await?;
    becomes(evil, "external", "ResolvedRefs", "RefNotPermitted").await?;
    becomes(evil, "external", "Programmed", "Deferred").await?;
    answers(smtp, "e3@example.com", 451).await?;
    evil.apply(&route("turning", edge, &["e4@example.com"], &to("turns"))).await?;
    becomes(evil, "turning", "ResolvedRefs", "ResolvedRefs").await?;
    answers(smtp, "e4@example.com", 250).await?;
    let external =
        json!({"spec": {"type": "ExternalName", "externalName": "metadata.example.com", "clusterIP": null}});
    evil.patch("Service", "turns", external).await?;
    becomes(evil, "turning", "ResolvedRefs", "RefNotPermitted").await?;
    answers(smtp, "e4@example.com", 451).await?;
    // Addresses within, by number.
    for (name, url) in [("inner", "https://10.96.0.1/"), ("metadata", "https://169.254.169.254/")] {
        evil.apply(&route(name, edge, &[&format!("{name}@example.com")], &format!("{{url: '{url}'}}")))
            .await?;
        becomes(evil, name, "ResolvedRefs", "InvalidWebhook").await?;
        answers(smtp, &format!("{name}@example.com"), 451).await?;
    }
    // One route's trouble is nobody else's.
    ensure!(condition(team, "team", "Programmed").await?.status == "True", "the team is not served");
    Ok(())
}

/// No credential is in what others can read.
async fn secrets_stay_secret(edge: &Env, evil: &Env) -> anyhow::Result<()> {
    let mut texts = vec![evil.cluster().operator_log(10_000).await];
    for pod in edge.pods("edge").await? {
        texts.push(edge.log(&pod).await?);
        texts.push(format!("{:?}", edge.metrics(&pod).await?));
    }
    let routes = evil.objects("MailRoute")?.list(&kube::api::ListParams::default()).await?;
    texts.push(serde_json::to_string(&routes.items)?);
    for env in [edge, evil] {
        let events = env.objects("Event")?.list(&kube::api::ListParams::default()).await?;
        texts.push(serde_json::to_string(&events.items)?);
        let visible = env.objects("ConfigMap")?.list(&kube::api::ListParams::default()).await?;
        texts.push(serde_json::to_string(&visible.items)?);
    }
    ensure!(!texts.iter().any(|text| text.contains("s3cret")), "the token is shown");
    Ok(())
}

async fn grants_are_withdrawn(
    edge: &Env,
    team: &Env,
    evil: &Env,
    smtp: std::net::SocketAddr,
) -> anyhow::Result<()> {
    let all = json!([{"namespaces": {"from": "All"}, "domains": ["example.com"]}]);
    edge.patch("MailLaser", "edge", json!({"spec": {"allowedRoutes": all}})).await?;
    answers(smtp, "a@team.example.com", 550).await?;
    let accepted = becomes(team, "team", "Accepted", "PartlyAccepted").await?;
    ensure!(accepted.message.contains("*@team.example.com: spec.allowedRoutes"), "{accepted:?}");
    ensure!(recipient(smtp, "shared@example.com").await? == 250, "what is still granted is served");
    // What one gives up another may have, and is told.
    team.delete("MailRoute", "team").await?;
    becomes(evil, "thief", "Accepted", "PartlyAccepted").await?;
    edge.patch("MailLaser", "edge", json!({"spec": {"allowedRoutes": [{"namespaces": {"from": "Same"}}, {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"none": "such"}}}}]}})).await?;
    answers(smtp, "shared@example.com", 550).await?;
    becomes(evil, "thief", "Accepted", "NotAllowed").await?;
    // Labels of a namespace decide, too, and a gateway that goes is missed.
    label(evil, json!("such")).await?;
    becomes(evil, "thief", "Accepted", "Accepted").await?;
    label(evil, Value::Null).await?;
    answers(smtp, "shared@example.com", 550).await?;
    Ok(())
}

async fn label(env: &Env, value: Value) -> anyhow::Result<()> {
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(env.cluster().client());
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {"none": value}}}));
    namespaces
        .patch(env.namespace(), &kube::api::PatchParams::default(), &patch)
        .await
        .context("no label")?;
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_is_missing_is_named_and_one_that_comes_is_found() -> anyhow::Result<()> {
    in_namespace("routes-early", |env| async move {
        let webhook = env.deploy_webhook("hook").await?;
        env.apply(&route("early", &env, &["early@example.com"], "{serviceRef: {name: hook, port: 8080}}"))
            .await?;
        let accepted = becomes(&env, "early", "Accepted", "NoMatchingParent").await?;
        ensure!(accepted.message.contains("no MailLaser edge"), "{accepted:?}");
        env.apply(&gateway("")).await?;
        env.wait_ready("edge").await?;
        becomes(&env, "early", "Programmed", "Programmed").await?;
        let smtp = env.reach_service("edge", 25).await?;
        SmtpClient::greeted(smtp.address())
            .await?
            .mail("early@example.com", "Subject: late\r\n\r\n")
            .await?
            .must_be(250)?;
        webhook.wait_for_mail("late").await?;
        let told = env.get("MailRoute", "early").await?;
        ensure!(
            told["status"]["destination"] == format!("hook.{}.svc", env.namespace()),
            "{}",
            told["status"]
        );
        env.delete("MailLaser", "edge").await?;
        becomes(&env, "early", "Accepted", "NoMatchingParent").await?;
        Ok(())
    })
    .await
}

/// Of ten routes, how soon each takes mail after it was applied; printed, for it is a measurement.
#[tokio::test]
async fn a_route_takes_mail_soon_and_goes_with_its_namespace() -> anyhow::Result<()> {
    in_namespace("routes-soon", |edge| async move {
        edge.apply(&gateway("  allowedRoutes: [{namespaces: {from: All}}]\n")).await?;
        edge.wait_ready("edge").await?;
        let smtp = edge.reach_service("edge", 25).await?;
        let smtp = smtp.address();
        let other = edge.clone();
        in_another_namespace("routes-gone", |env| async move {
            let mut seconds = Vec::new();
            for number in 0..10 {
                let address = format!("soon-{number}@example.com");
                let begin = Instant::now();
                let url = "{url: 'https://api.example.com/'}";
                env.apply(&route(&format!("soon-{number}"), &other, &[&address], url)).await?;
                answers(smtp, &address, 250).await?;
                seconds.push(begin.elapsed().as_secs_f32());
            }
            seconds.sort_by(f32::total_cmp);
            println!("a route takes mail {:.2} s after it was applied (median of {seconds:.2?})", seconds[5]);
            Ok(())
        })
        .await?;
        answers(smtp, "soon-0@example.com", 550).await
    })
    .await
}
