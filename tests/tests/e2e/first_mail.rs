//! The main job: apply, Ready, a mail in, its JSON at the webhook.

use std::fs;

use anyhow::{Context, ensure};
use mail_laser_e2e::{Letter, in_namespace, repository};
use serde_json::{Value, json};

#[tokio::test]
async fn the_minimal_sample_takes_a_mail_to_its_webhook() -> anyhow::Result<()> {
    in_namespace("first-mail", |env| async move {
        let webhook = env.deploy_webhook("webhook").await?;
        env.apply(&fs::read_to_string(repository().join("deploy/samples/valid/minimal.yaml"))?).await?;
        env.wait_ready("support").await?;

        let pod = serde_json::to_value(env.pod("support").await?)?;
        probes_are_those_of_the_original(&pod)?;
        let smtp = env.reach_service("support", 25).await?;
        let reply = Letter::to("Support@Example.com")
            .subject("Grüße vom Drucker")
            .text("Please send water.")
            .html("<p>Please send <b>water</b>.</p>")
            .attachment("status.txt", "text/plain", b"451\n")
            .send(smtp.address())
            .await?;

        let received = webhook.wait_for_mail("Grüße vom Drucker").await?;
        let body = &received.body;
        ensure!(received.path == "/inbound", "path {}", received.path);
        expect(body, "sender", &json!("ada@example.org"))?;
        expect(body, "sender_name", &json!("Ada"))?;
        expect(body, "html_body", &json!("<p>Please send <b>water</b>.</p>"))?;
        let recipient = body["recipient"].as_str().unwrap_or_default();
        ensure!(recipient.eq_ignore_ascii_case("support@example.com"), "recipient {recipient}");
        expect(body, "recipients", &json!([recipient]))?;
        let text = body["body"].as_str().context("no body")?;
        ensure!(text.trim_end() == "Please send water.", "body {text:?}");
        attachment_is_whole(body)?;

        let id = body["id"].as_str().context("no id")?;
        ensure!(reply.contains(id), "the reply {reply:?} does not name the mail's id {id}");
        ensure!(received.headers["idempotency-key"] == id, "{:?}", received.headers);
        ensure!(received.headers["content-type"] == "application/json", "{:?}", received.headers);
        ensure!(received.headers["user-agent"].starts_with("MailLaser/"), "{:?}", received.headers);
        let fields = body.as_object().context("no object")?;
        ensure!(
            fields.values().all(|value| !value.is_null()),
            "a field without a value must be absent: {body}"
        );
        for field in ["received_at", "message_id"] {
            ensure!(body[field].is_string(), "{field} is {}", body[field]);
        }
        ensure!(
            body["size_bytes"].as_u64().is_some_and(|size| size > 300),
            "size_bytes {}",
            body["size_bytes"]
        );
        Ok(())
    })
    .await
}

fn expect(body: &Value, field: &str, value: &Value) -> anyhow::Result<()> {
    ensure!(body[field] == *value, "{field} is {} instead of {value}", body[field]);
    Ok(())
}

fn attachment_is_whole(body: &Value) -> anyhow::Result<()> {
    let attachment = &body["attachments"][0];
    expect(attachment, "filename", &json!("status.txt"))?;
    expect(attachment, "content_type", &json!("text/plain"))?;
    expect(attachment, "size_bytes", &json!(4))?;
    let digest = "bb4be6de6854f575525fafc394479ae42f5dc81d3c474433f7c25b1a033bfaf2";
    expect(attachment, "sha256", &json!(digest))?;
    expect(attachment, "delivery", &json!("inline"))?;
    expect(attachment, "data_base64", &json!("NDUxCg=="))
}

fn probes_are_those_of_the_original(pod: &Value) -> anyhow::Result<()> {
    let container = &pod["spec"]["containers"][0];
    for (probe, delay, period) in [("livenessProbe", 5, 30), ("readinessProbe", 2, 10)] {
        let probe = &container[probe];
        expect(&probe["httpGet"], "path", &json!("/health"))?;
        expect(&probe["httpGet"], "port", &json!("health"))?;
        expect(probe, "initialDelaySeconds", &json!(delay))?;
        expect(probe, "periodSeconds", &json!(period))?;
    }
    Ok(())
}
