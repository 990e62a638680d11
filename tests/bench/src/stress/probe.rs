//! SMTP clients that measure: each message on a connection of its own, and whatever became of the ones before.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Bound on the time of one message: a reply that takes longer is none.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Twenty messages a second: as many as a busy gateway has, and no load.
pub(super) const PERIOD: Duration = Duration::from_millis(50);

/// Messages on their way at the same time. At 20 a second, all of [`PATIENCE`] fits.
const UNDER_WAY_MAX: usize = 1_000;

/// A connection whose replies are read one by one.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    /// Connects, from an address of the loopback network where one is given.
    pub(super) async fn open(server: SocketAddr, source: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let stream = match source {
            Some(source) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind((source, 0).into())?;
                socket.connect(server).await?
            }
            None => TcpStream::connect(server).await?,
        };
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::new() })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads one reply, which has to have this code.
    pub(super) async fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server closed the connection");
                continue;
            };
            let line = String::from_utf8_lossy(&self.input[..end]).trim().to_owned();
            self.input.drain(..=end);
            ensure!(line.starts_with(code), "expected {code}, got {line:?}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }

    /// Goes from the greeting to where the content begins. Returns when the greeting came.
    pub(super) async fn begin_content(&mut self, recipient: &str) -> anyhow::Result<Instant> {
        self.expect("220").await?;
        let greeted = Instant::now();
        self.send(b"EHLO client.example.org\r\n").await?;
        self.expect("250").await?;
        let envelope = format!("MAIL FROM:<ann@example.org>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n");
        self.send(envelope.as_bytes()).await?;
        for code in ["250", "250", "354"] {
            self.expect(code).await?;
        }
        Ok(greeted)
    }
}

/// A client that sends the same message again and again.
pub(super) struct Sender {
    pub(super) server: SocketAddr,
    /// The address that it sends from.
    pub(super) source: Option<Ipv4Addr>,
    /// The recipients, in turn.
    pub(super) recipients: Vec<String>,
    /// The message as it follows DATA, its end included.
    pub(super) content: Arc<[u8]>,
    /// Bound on the time of one message.
    pub(super) patience: Duration,
}

/// A message that was sent, or not.
pub(super) struct Sent {
    pub(super) began: Instant,
    /// From the connection to the greeting.
    pub(super) greeted: Option<Duration>,
    /// From the end of the content to `250`.
    pub(super) accepted: Option<Duration>,
    /// From the connection to `250`.
    pub(super) whole: Option<Duration>,
    /// Why there was no `250`.
    pub(super) problem: Option<String>,
}

impl Sender {
    /// A client on the loopback address with messages of 1 KiB.
    pub(super) fn new(server: SocketAddr, recipients: Vec<String>) -> Self {
        Self { server, source: None, recipients, content: crate::mail::text(1024), patience: PATIENCE }
    }

    /// Sends the message of this number on a connection of its own.
    pub(super) async fn send(&self, number: usize) -> Sent {
        let mut sent =
            Sent { began: Instant::now(), greeted: None, accepted: None, whole: None, problem: None };
        let problem = match timeout(self.patience, self.try_send(number, &mut sent)).await {
            Ok(result) => result.err().map(|error| format!("{error:#}")),
            Err(_) => Some(format!("no 250 within {:?}", self.patience)),
        };
        sent.problem = problem;
        sent
    }

    async fn try_send(&self, number: usize, sent: &mut Sent) -> anyhow::Result<()> {
        let recipient = self.recipients.get(number % self.recipients.len().max(1)).context("no recipient")?;
        let mut connection = Connection::open(self.server, self.source).await?;
        sent.greeted = Some(connection.begin_content(recipient).await? - sent.began);
        connection.send(&self.content).await?;
        let ended = Instant::now();
        connection.expect("250").await?;
        sent.accepted = Some(ended.elapsed());
        sent.whole = Some(sent.began.elapsed());
        connection.send(b"QUIT\r\n").await
    }

    /// Sends a message every `period`, whatever became of the ones before, until `over`, and waits for all replies.
    pub(super) async fn at_a_pace(self, period: Duration, over: impl Future<Output = ()>) -> Vec<Sent> {
        let sender = Arc::new(self);
        let mut over = pin!(over);
        let mut ticks = interval(period);
        // What a delay of this process costs should not come as a burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut under_way, mut all) = (JoinSet::new(), Vec::new());
        for number in 0.. {
            tokio::select! {
                () = &mut over => break,
                _ = ticks.tick() => {}
            }
            while let Some(sent) = under_way.try_join_next() {
                all.extend(sent.ok());
            }
            if under_way.len() < UNDER_WAY_MAX {
                let sender = Arc::clone(&sender);
                under_way.spawn(async move { sender.send(number).await });
            } else {
                let problem = Some(format!("{UNDER_WAY_MAX} messages are under way"));
                let began = Instant::now();
                all.push(Sent { began, greeted: None, accepted: None, whole: None, problem });
            }
        }
        all.extend(under_way.join_all().await);
        all
    }
}

/// Sends one message to each of `recipients`, over some connections that stay. All have to be accepted.
pub(super) async fn send_to_all(server: SocketAddr, recipients: &[String]) -> anyhow::Result<()> {
    const CONNECTIONS: usize = 50;
    let content = crate::mail::text(1024);
    let mut connections = JoinSet::new();
    for part in recipients.chunks(recipients.len().div_ceil(CONNECTIONS).max(1)) {
        let (part, content) = (part.to_vec(), Arc::clone(&content));
        connections.spawn(async move {
            let mut client = crate::load::Client::greeted(server).await?;
            for recipient in &part {
                ensure!(client.offer(recipient, &content).await?, "a message to {recipient} was put off");
            }
            anyhow::Ok(())
        });
    }
    while let Some(connection) = connections.join_next().await {
        connection??;
    }
    Ok(())
}

/// An address of `host` where no program listens.
pub(super) fn refusing(host: IpAddr) -> anyhow::Result<SocketAddr> {
    Ok((host, crate::process::free_port()?.port()).into())
}
