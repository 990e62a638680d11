//! SMTP clients, which send as fast as they are answered: with PIPELINING, as a mail server does, or command by command,
//! as most programs do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::mail::Numbered;
use crate::sink::Sink;

/// Who gets all the mail.
pub(crate) const RECIPIENT: &str = "support@example.com";

const ENVELOPE: &[u8] = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n";

/// The commands of [`ENVELOPE`], with the reply to each.
const COMMANDS: [(&[u8], &str); 3] = [
    (b"MAIL FROM:<ann@example.org>\r\n", "250"),
    (b"RCPT TO:<support@example.com>\r\n", "250"),
    (b"DATA\r\n", "354"),
];

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection waits while too many mails are on their way.
const PAUSE: Duration = Duration::from_millis(1);

/// Mails over many connections.
#[derive(Clone)]
pub(crate) struct Load {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Whether a connection stays for further mails, or a new one is made for each.
    pub(crate) stay: bool,
    /// Whether the envelope goes in one piece (RFC 2920), or each command waits for the reply to the one before.
    pub(crate) pipelining: bool,
    /// Mails in all.
    pub(crate) mails: u64,
    /// Mails that may have been sent and not yet arrived at the webhook: below every queue's bound,
    /// so that the load is as fast as the deliveries and no mail is refused.
    pub(crate) under_way_max: u64,
    /// The mail, as it follows DATA, its end included.
    pub(crate) content: Arc<[u8]>,
}

impl Load {
    /// Sends all mails, and returns when the first was begun; connections that stay are made
    /// before. All mails have to be accepted.
    pub(crate) async fn run(&self, server: SocketAddr, sink: &Arc<Sink>) -> anyhow::Result<Instant> {
        let sending = Arc::new(Sending {
            load: self.clone(),
            server,
            sink: Arc::clone(sink),
            arrived_before: sink.arrived(),
            sent: AtomicU64::new(0),
        });
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(if self.stay { Some(Client::greeted(server).await?) } else { None });
        }
        let started = Instant::now();
        let mut connections = JoinSet::new();
        for client in clients {
            let sending = Arc::clone(&sending);
            connections.spawn(async move {
                match client {
                    Some(client) => sending.over_one(client).await,
                    None => sending.over_many().await,
                }
            });
        }
        while let Some(connection) = connections.join_next().await {
            connection??;
        }
        Ok(started)
    }
}

/// A load under way.
struct Sending {
    load: Load,
    server: SocketAddr,
    sink: Arc<Sink>,
    arrived_before: u64,
    sent: AtomicU64,
}

impl Sending {
    /// Waits until another mail may be sent, and gives it its number; `None` when there is none left.
    async fn next(&self) -> Option<u64> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let arrived = || self.sink.arrived() - self.arrived_before;
        while number < self.load.mails && number >= arrived() + self.load.under_way_max {
            tokio::time::sleep(PAUSE).await;
        }
        (number < self.load.mails).then_some(number)
    }

    async fn over_one(&self, mut client: Client) -> anyhow::Result<()> {
        let mut mail = Numbered::new(&self.load.content)?;
        while let Some(number) = self.next().await {
            self.send(&mut client, mail.with(number)).await?;
        }
        client.quit().await
    }

    async fn over_many(&self) -> anyhow::Result<()> {
        let mut mail = Numbered::new(&self.load.content)?;
        while let Some(number) = self.next().await {
            let mut client = Client::greeted(self.server).await?;
            self.send(&mut client, mail.with(number)).await?;
            client.quit().await?;
        }
        Ok(())
    }

    async fn send(&self, client: &mut Client, content: &[u8]) -> anyhow::Result<()> {
        if self.load.pipelining { client.mail(content).await } else { client.mail_by_commands(content).await }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects, and says EHLO.
    pub(crate) async fn greeted(server: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(server).await.with_context(|| format!("no connection to {server}"))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, input: Vec::new() };
        client.replies(&["220"]).await.context("the greeting")?;
        client.stream.write_all(b"EHLO client.example.org\r\n").await?;
        client.replies(&["250"]).await.context("the answer to EHLO")?;
        Ok(client)
    }

    /// Sends one mail as a mail server with PIPELINING does: the envelope in one piece, then the content.
    pub(crate) async fn mail(&mut self, content: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(ENVELOPE).await?;
        self.replies(&["250", "250", "354"]).await.context("the answers to the envelope")?;
        self.stream.write_all(content).await?;
        self.replies(&["250"]).await.context("the answer to the mail")
    }

    /// Sends one message without PIPELINING: each command waits for the reply to the one before.
    pub(crate) async fn mail_by_commands(&mut self, content: &[u8]) -> anyhow::Result<()> {
        for (command, code) in COMMANDS {
            self.stream.write_all(command).await?;
            self.replies(&[code]).await.context("the answer to a command")?;
        }
        self.stream.write_all(content).await?;
        self.replies(&["250"]).await.context("the answer to the mail")
    }

    /// Sends one mail to this recipient. Whether it was taken, and not put off.
    pub(crate) async fn offer(&mut self, recipient: &str, content: &[u8]) -> anyhow::Result<bool> {
        let envelope = format!("MAIL FROM:<ann@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n");
        self.stream.write_all(envelope.as_bytes()).await?;
        self.replies(&["250", "250", "354"]).await.context("the answers to the envelope")?;
        self.stream.write_all(content).await?;
        Ok(self.reply(&["250", "451"]).await.context("the answer to the mail")? == 0)
    }

    /// Whether mail for this recipient is taken; none is sent.
    pub(crate) async fn is_known(&mut self, recipient: &str) -> anyhow::Result<bool> {
        let envelope = format!("MAIL FROM:<ann@example.org>\r\nRCPT TO:<{recipient}>\r\nRSET\r\n");
        self.stream.write_all(envelope.as_bytes()).await?;
        self.replies(&["250"]).await?;
        let is_known = self.reply(&["250", "550"]).await? == 0;
        self.replies(&["250"]).await?;
        Ok(is_known)
    }

    async fn quit(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(b"QUIT\r\n").await?;
        self.replies(&["221"]).await.context("the answer to QUIT")
    }

    /// Reads one reply for each of `codes`.
    async fn replies(&mut self, codes: &[&str]) -> anyhow::Result<()> {
        for wanted in codes {
            self.reply(&[wanted]).await?;
        }
        Ok(())
    }

    /// Reads one reply, which has to be one of `codes`; returns which.
    async fn reply(&mut self, codes: &[&str]) -> anyhow::Result<usize> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                let read =
                    timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.context("no answer")??;
                ensure!(read > 0, "the server closed the connection");
                continue;
            };
            let line = &self.input[..end];
            let code = codes.iter().position(|code| line.starts_with(code.as_bytes()));
            let code =
                code.with_context(|| format!("expected {codes:?}, got {:?}", String::from_utf8_lossy(line)))?;
            let is_last = line.get(3) != Some(&b'-');
            self.input.drain(..=end);
            if is_last {
                return Ok(code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_envelope() {
        assert_eq!(COMMANDS.map(|(command, _)| command).concat(), ENVELOPE);
    }
}
