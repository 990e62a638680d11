//! Bad input through the Service: an answer or a closed connection, and the daemon lives on.

use anyhow::{Context, ensure};
use mail_laser_e2e::{Letter, SmtpClient, in_namespace};

use crate::inbox;

#[tokio::test]
async fn hostile_input_is_refused_and_harms_nobody() -> anyhow::Result<()> {
    in_namespace("hostile", |env| async move {
        let (webhook, smtp) = inbox(&env, "").await?;
        let server = smtp.address();

        let mut client = SmtpClient::greeted(server).await?;
        client.command("MAIL FROM:<ada@example.org>").await?.must_be(250)?;
        client.command("RCPT TO:<nobody@example.com>").await?.must_be(550)?;
        client.command("RCPT TO:<noone@example.com>").await?.must_be(550)?;
        client.command("RCPT TO:<another@example.com>").await?.must_be(421)?;
        client.closed().await.context("after three unknown recipients")?;

        // A mail that smuggles a second one past a server that takes a bare LF for the end of a line.
        let mut client = SmtpClient::greeted(server).await?;
        let smuggled = "Subject: one\r\n\r\nbody\n.\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<inbox@example.com>\r\nDATA\r\nSubject: two\r\n\r\ntwo";
        let reply = client.mail("inbox@example.com", smuggled).await?;
        ensure!(reply.code >= 500 || reply.code == 250, "{reply}");

        let mut client = SmtpClient::greeted(server).await?;
        client.send(&vec![b'A'; 100_000]).await?;
        client.send(b"\r\n").await.or_else(|_| Ok::<(), anyhow::Error>(()))?;
        if let Ok(reply) = client.reply().await {
            ensure!(reply.code >= 500 || reply.code == 421, "an endless line was answered {reply}");
        }

        let mut client = SmtpClient::greeted(server).await?;
        let pipelined = "MAIL FROM:<ada@example.org>\r\nRCPT TO:<inbox@example.com>\r\nDATA\r\nSubject: pipelined\r\n\r\nHi\r\n.\r\nQUIT\r\n";
        let (envelope, data) = pipelined.split_at(pipelined.find("Subject").unwrap_or(0));
        client.send(envelope.as_bytes()).await?;
        for code in [250, 250, 354] {
            client.expect(code).await?;
        }
        client.send(data.as_bytes()).await?;
        client.expect(250).await?;
        client.expect(221).await?;
        webhook.wait_for_mail("pipelined").await?;

        Letter::to("inbox@example.com").subject("still here").send(server).await?;
        webhook.wait_for_mail("still here").await?;
        let subjects = webhook.accepted_subjects().await?;
        ensure!(!subjects.iter().any(|subject| subject == "two"), "the smuggled mail arrived: {subjects:?}");
        let pod = env.pod("inbox").await?;
        let restarts: i32 = pod.status.into_iter().flat_map(|status| status.container_statuses.unwrap_or_default())
            .map(|container| container.restart_count).sum();
        ensure!(restarts == 0, "{restarts} restarts");
        Ok(())
    })
    .await
}
