//! The PROXY protocol: who is behind a load balancer.

use anyhow::ensure;
use mail_laser_e2e::{SmtpClient, in_namespace, mail_laser};

use crate::inbox;

/// Whatever address the pods see the test under.
const FROM_EVERYBODY: &str = "  headerPrefixes: [received]\n  proxyProtocolFrom: [0.0.0.0/0, \"::/0\"]\n";

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 40001 25\r\n";
/// For 192.0.2.2, port 40002.
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x02\x0a\0\0\x01\x9c\x42\0\x19";

#[tokio::test]
async fn the_client_behind_a_load_balancer_is_known() -> anyhow::Result<()> {
    in_namespace("proxy", |env| async move {
        let (webhook, smtp) = inbox(&env, FROM_EVERYBODY).await?;
        let pod = env.pod("inbox").await?;
        for (header, client, port) in [(VERSION_1, "192.0.2.1", 40001), (VERSION_2, "192.0.2.2", 40002)] {
            let mut session = SmtpClient::connect(smtp.address()).await?;
            session.send(header).await?;
            session.expect(220).await?;
            session.command("EHLO client.example.org").await?.must_be(250)?;
            session.mail("inbox@example.com", &format!("Subject: {client}\r\n\r\n")).await?.must_be(250)?;
            let received = webhook.wait_for_mail(client).await?.body["headers"]["Received"].take();
            ensure!(received.to_string().contains(&format!("([{client}])")), "{received}");
            env.wait_log(&pod, &format!("peer={client}:{port}")).await?;
        }

        let mut session = SmtpClient::connect(smtp.address()).await?;
        session.send(b"EHLO client.example.org\r\n").await?;
        session.closed().await?;
        env.wait_log(&pod, "MAIL_LASER_PROXY_PROTOCOL_FROM names its address").await
    })
    .await
}

#[tokio::test]
async fn nobody_else_may_say_who_he_is() -> anyhow::Result<()> {
    in_namespace("proxy-others", |env| async move {
        let (_webhook, smtp) = inbox(&env, "  proxyProtocolFrom: [192.0.2.0/24]\n").await?;
        let mut session = SmtpClient::connect(smtp.address()).await?;
        session.expect(220).await?;
        let header = std::str::from_utf8(VERSION_1)?.trim_end();
        session.command(header).await?.must_be(500)?;
        Ok(())
    })
    .await
}

/// The limit of connections from one address is off where all come from a few nodes, and on again where a load
/// balancer tells the clients apart.
#[tokio::test]
async fn clients_behind_a_load_balancer_are_limited_one_by_one() -> anyhow::Result<()> {
    in_namespace("proxy-limit", |env| async move {
        env.deploy_webhook("webhook").await?;
        let spec = format!("{FROM_EVERYBODY}  service: {{type: NodePort}}\n");
        env.apply(&format!("{}{spec}", mail_laser("inbox", "webhook"))).await?;
        env.wait_ready("inbox").await?;
        let smtp = env.reach_service("inbox", 25).await?;
        let mut sessions = Vec::new();
        for _ in 0..10 {
            let mut session = SmtpClient::connect(smtp.address()).await?;
            session.send(VERSION_1).await?;
            session.expect(220).await?;
            sessions.push(session);
        }
        let mut session = SmtpClient::connect(smtp.address()).await?;
        session.send(VERSION_1).await?;
        session.expect(421).await?;
        let mut session = SmtpClient::connect(smtp.address()).await?;
        session.send(VERSION_2).await?;
        session.expect(220).await?;
        Ok(())
    })
    .await
}
